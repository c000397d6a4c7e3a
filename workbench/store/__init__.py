"""Finished stage results, each kept under the content key of everything that made it, so that nothing is made twice.

In: an *artefact* (a picture, the random generator's state after it, what was found in it) and its key. Out: the same
artefact, its bytes checked against their hashes; what does not match counts as absent.
A store is a folder that processes and machines may share, or an fsspec URL; a folder is kept below a limit of bytes.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
