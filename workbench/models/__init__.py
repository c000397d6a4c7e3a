"""Every weights file: where it is, what it is (by its hash), how it is loaded, its licence, and the device it runs on.

In: a model's name or path. Out: diffusers pipelines, face networks and upscalers, strictly loaded: a missing or misshapen
tensor is a named error. `embedded/` is the small SDXL and CodeFormer that the workbench trained itself.
Nothing here reaches the network.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
