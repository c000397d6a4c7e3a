"""A bench for tuning SDXL faces: sweep the hires fix and CodeFormer, score the face, promote the winner.

    import workbench as wb
    settings = wb.load_preset("embedded").settings.replace(seed=3, strength=0.3)
    wb.generate(settings).image

Importing it is instant: everything that needs torch is loaded when it is first used.
"""

import sys

import lazy_loader

from . import former
from .errors import NotLinux

if sys.platform != "linux":
    system = {"darwin": "macOS, whose GPUs (MPS) are untried", "win32": "Windows"}.get(sys.platform, sys.platform)
    raise NotLinux(
        f"the workbench runs on Linux only, whose file locks keep its processes apart, and this is {system}; "
        "use a Linux machine, or WSL2 on Windows."
    )

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

former.install()
