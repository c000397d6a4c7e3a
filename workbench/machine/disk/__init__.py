"""What fills the disk, and how room is made on it: caches of known shape, the Hugging Face cache, our own store.

In: nothing, or how many bytes are wanted. Out: a `DiskLook`; the smallest set of safe `DiskItem`s that frees so much.
Only files that were looked at, in folders of a shape known here, are ever removed; no link is followed.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
