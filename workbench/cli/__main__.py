"""`python -m workbench.cli`, which works without the script that pip installs."""

from . import main

main()
