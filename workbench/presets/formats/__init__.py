"""Settings in the words of other tools: what A1111, ComfyUI, InvokeAI and SwarmUI write beside their pictures, and a script.

In: `Settings`, or a text or a picture of another tool. Out: an `Exported` text with what it cannot say, or `Imported`
settings with what was read, guessed and not understood. Nothing is dropped silently.
One file a tool, each an `ExchangeFormat` in `FORMATS`. `samplers` has the names of samplers, `naming` those of models.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
