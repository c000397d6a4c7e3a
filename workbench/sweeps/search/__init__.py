"""Which cells to make when not all: a grid of settings x blocks, races, random draws, Pareto search. Runs nothing.

In: the grid of a plan, and what came out of its cells so far. Out: the cells to make next, and why, in words.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
