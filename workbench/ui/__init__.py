"""What one sits at in JupyterLab: the tuner, the sweep panel with its wall, and the ballot. Widgets live here only."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .ballot import Ballot as Ballot
    from .promote import Promotion as Promotion
    from .sweep_panel import SweepPanel as SweepPanel
    from .tuner import Tuner as Tuner
    from .wall import Wall as Wall

_HOME = {"Ballot": "ballot", "Promotion": "promote", "SweepPanel": "sweep_panel", "Tuner": "tuner", "Wall": "wall"}

__all__ = [*_HOME]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module 'workbench.ui' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
