"""A bench for tuning SDXL faces: sweep the hires fix and CodeFormer, score the face, promote the winner.

    import workbench as wb
    settings = wb.load_preset("embedded").settings.replace(seed=3, strength=0.3)
    wb.generate(settings).image

Importing it is instant: everything that needs torch is loaded when it is first used.
"""

import lazy_loader

from . import former

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

former.install()
