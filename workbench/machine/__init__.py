"""The machine that one works on, rented or not: the weights on it and where they are fetched, its disk, its card.

In: settings, the name of a weight or a card. Out: files under the models folder, what fills the disk, what a card can do.
Computes nothing and imports no torch; what loads a network is in `models`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
