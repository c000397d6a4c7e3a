"""The recipe: base, hires fix, face restoration, upscaling, and the bench that makes one picture of them.

In: `Settings`. Out: a `Result` with the picture after every stage. `stages/` has a file for each stage: what it declares,
and how it runs. Each stage of a picture has a *content key*, the hash of the settings that act in it, its inputs, its
weights, the device and the libraries: equal keys are equal pixels. A *job* is one stage of one key.
A *row* is one picture on its way through the sampler; rows of many pictures share a UNet call.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
