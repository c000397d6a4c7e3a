"""A bench for tuning SDXL faces: sweep the hires fix and CodeFormer, score the face, promote the winner.

    import workbench as wb
    settings = wb.load_preset("embedded").settings.replace(seed=3, strength=0.3)
    wb.generate(settings).image

Importing it is instant: everything that needs torch is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import scores as scores
    from .challenges import challenge as challenge
    from .detached import Attached as Attached, attach as attach, start as start
    from .notebooks import check_parameters as check_parameters, find_spec as find_spec, headless as headless
    from .pipeline import Result as Result, generate as generate
    from .plans import plan as plan
    from .presets import Preset as Preset, load_preset as load_preset, roll_back as roll_back
    from .promotion import promote as promote
    from .runs import Run as Run, find_run as find_run
    from .scores import FaceScores as FaceScores, score as score, score_many as score_many
    from .settings import Settings as Settings, WorkbenchError as WorkbenchError
    from .sweeps import sweep as sweep
    from .verdicts import verdict as verdict
    from .weights import model_path as model_path

_HOME = {
    "Attached": "detached", "FaceScores": "scores", "Preset": "presets", "Result": "pipeline", "Run": "runs",
    "Settings": "settings", "WorkbenchError": "settings", "attach": "detached", "challenge": "challenges",
    "check_parameters": "notebooks", "find_run": "runs", "find_spec": "notebooks", "generate": "pipeline",
    "headless": "notebooks", "load_preset": "presets", "model_path": "weights", "plan": "plans",
    "promote": "promotion", "roll_back": "presets", "score": "scores", "score_many": "scores", "start": "detached",
    "sweep": "sweeps", "verdict": "verdicts",
}  # fmt: skip

__all__ = ["scores", *_HOME]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name == "scores":
        return import_module(".scores", __name__)
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module 'workbench' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
