"""Settings of a preview: the same picture in so few steps that it is there at once."""

from __future__ import annotations

from workbench.recipe import Bench, DenoisingStage, stage_keys
from workbench.settings import Settings, stages


def preview_of(settings: Settings, on: Bench) -> Settings | None:
    """Settings of the same picture in few steps, without upscaling; None where that would not be quicker.

    A base picture that is in the store of `on` is used as it is, with all its steps. Raises `MissingWeights`.
    """
    keys = stage_keys(settings)
    changes: dict[str, object] = {}
    for name, stage in stages().items():
        denoises = isinstance(stage, DenoisingStage)
        makes_anew = denoises and name in keys and (changes or keys[name] not in on.store)
        if makes_anew or (changes and not denoises):
            changes |= stage.quicker(settings)
    preview = settings.replace(**changes)
    fewer = any(stages()[name].unet_evaluations(preview) < stages()[name].unet_evaluations(settings) for name in keys)
    return preview if fewer else None
