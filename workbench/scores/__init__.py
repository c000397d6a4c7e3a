"""How good a face is: its sharpness, the guards against being fooled, and how faithful the restorer was.

In: a picture. Out: `FaceScores` with the sharpness (0 to 100), the blur of each region in px of the 512 px face, guards that
fired, and what was not measured and why. Every measure has a direction, a range, a unit and a version (`MEASURES`).
A *guard* is a check on what looks sharp to a number and is not: noise, halos, blocks.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
