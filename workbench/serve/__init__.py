"""A server for one preset: POST /generate?prompt=...&seed=42.

In: a `Preset` and requests. Out: pictures equal to those of `workbench generate --preset` with the same prompt and seed.
Knows no notebook and no run.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
