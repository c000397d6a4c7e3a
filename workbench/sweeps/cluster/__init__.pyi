from .cluster import Workers as Workers
