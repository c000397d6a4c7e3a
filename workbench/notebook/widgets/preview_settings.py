"""Settings of a preview: the same picture in so few steps that it is there at once."""

from __future__ import annotations

from workbench.recipe import Bench, stage_keys
from workbench.settings import Settings

REFINE_STEPS = 4  # that are really run: refine_steps x strength
BASE_STEPS = 10


def preview_of(settings: Settings, on: Bench) -> Settings | None:
    """Settings of the same picture in few steps, without upscaling; None where that would not be quicker.

    A base picture that is in the store of `on` is used as it is, with all its steps. Raises `MissingWeights`.
    """
    keys = stage_keys(settings)
    changes: dict[str, int] = {}
    if keys["base"] not in on.store:
        changes["steps"] = min(settings.steps, BASE_STEPS)
    if settings.hires and ("steps" in changes or keys["refine"] not in on.store):
        changes["refine_steps"] = min(settings.refine_steps, max(1, -int(-REFINE_STEPS // settings.strength)))
    preview = settings.replace(**changes, **({"upscaler": "none"} if changes else {}))
    fewer = preview.steps < settings.steps or preview.refine_steps < settings.refine_steps
    return preview if fewer else None
