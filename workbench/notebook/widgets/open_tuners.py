"""The tuner that is open in this kernel, so that settings found elsewhere can be loaded into it."""

from __future__ import annotations

from collections.abc import Callable

from workbench.settings import Settings

_newest: Callable[[Settings], object] | None = None


def tuner_opened(load: Callable[[Settings], object]) -> None:
    """A tuner was displayed; `load` sets its controls. Of several the one displayed last is loaded into."""
    global _newest
    _newest = load


def load_in_tuner(settings: Settings) -> bool:
    """Load settings into the tuner that was displayed last; False where none was."""
    if _newest is None:
        return False
    _newest(settings)
    return True


def line_to_run(wall: object) -> str:
    """The code that opens a tuner with the settings of the wall's opened cell, by the name that the notebook has for it."""
    return f"from workbench.notebook.widgets import Tuner\nTuner({_name_of(wall)}.selected)"


def _name_of(wall: object) -> str:
    """A variable that is the wall, or has it as its `wall`, as a sweep panel has; "wall" where there is none."""
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    for name, value in ({} if shell is None else dict(shell.user_ns)).items():
        if name.startswith("_"):
            continue
        if value is wall:
            return name
        if getattr(value, "wall", None) is wall:
            return f"{name}.wall"
    return "wall"
