"""Every weights file: where it is, what it is (by its hash), how it is loaded, its licence, and the device it runs on.

In: a model's name, path or hub id. Out: what it is, told from its header; diffusers pipelines, face networks and upscalers,
strictly loaded: a missing or misshapen tensor is a named error. `embedded/` is the small SDXL and CodeFormer that the
workbench trained itself, `configs/` are SDXL's, for single files.
Nothing here reaches the network.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
