"""Whether a preset still meets on this machine what it was made with: its winner's pixels, its weights."""

from __future__ import annotations

from workbench.recipe import batch_of, stage_keys, used_models

from .preset import Preset


def promise_withdrawn(preset: Preset) -> str:
    """Why the preset's own prompt and seed no longer give the winner's very pixels, in a sentence; "" where they do, or where
    nothing was promised (a preset written by hand).

    The evidence has the content keys of the winner's stages, which are compared with those of this machine's weights,
    libraries and arithmetic. Raises `MissingWeights`, `CorruptWeights`.
    """
    kept, batch = preset.evidence.get("keys"), preset.evidence.get("batch")
    if not isinstance(kept, dict) or not kept:
        return ""
    known = batch_of()
    sizes = known | ({name: size for name, size in batch.items() if name in known} if isinstance(batch, dict) else {})
    now = stage_keys(preset.settings, sizes)
    other = [stage for stage in now if kept.get(stage) != now[stage]]
    if other:
        return (
            f"preset {preset.name} no longer gives exactly its winner's pixels here: weights, libraries or the machine are "
            f"others than those it was promoted with (from stage '{other[0]}' on), so what its evidence says was measured on "
            "other pictures; workbench challenge measures it again."
        )
    if sizes != known:
        most = max(sizes.values())
        said = f"preset {preset.name} was measured on pictures made {most} at a time"
        return f"{said}; one at a time they differ in the last bits."
    return ""


def other_models(preset: Preset) -> list[str]:
    """A sentence for each of the weights of a preset's file that is another one here, by the same name. Weights that are not
    here are none of them: to miss them is an error of its own."""
    if not preset.models:
        return []
    here = used_models(preset.settings)
    return [
        f"{component} '{model.name}' is another one here than the one that preset {preset.name} was made with (sha256 "
        f"{here[component].digest[:12]}, not {model.digest[:12]}); put that one there, or measure anew (workbench challenge)."
        for component, model in preset.models.items()
        if component in here and here[component].name == model.name and here[component].digest != model.digest
    ]
