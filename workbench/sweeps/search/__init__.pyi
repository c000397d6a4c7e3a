from .grid import Grid as Grid, outcome as outcome
from .strategies import choose as choose
