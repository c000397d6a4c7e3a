"""What several tests share: runs with known numbers, small models, servers, what a widget is asked."""
