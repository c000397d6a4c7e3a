"""The one list of settings, from which sliders, sweep axes, papermill parameters, preset files and the server's schema come.

In: what the stages declare (`setting`, `register`), and values as people type or write them. Out: `Settings` of one picture,
checked, and `knobs`: name, range and meaning of each. `values` reads numbers and lists of names with weights.
Nothing here knows torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
