"""Files and pictures: written whole or not at all, read with errors a person can act on.

In: bytes, JSON values, PIL pictures. Out: files that no crash leaves half written; locks that a killed process lets go of;
hashes (a *digest* is a sha256 in hex); PNGs that carry the settings which made them, and are read back.
Knows nothing of models, runs or stages.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
