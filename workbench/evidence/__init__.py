"""Pure numbers: how sure a difference is, and what follows from it. Knows no run and no picture.

In: arrays of numbers. Out: 95 % intervals, the word that an interval allows (`decide`), what is dominated by what, and a
mixed model of settings in *blocks* (a block is one prompt with one seed, in which all settings are compared).
Every method names its source.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
