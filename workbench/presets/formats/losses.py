"""What is lost where settings go into a format and come back: found by comparing, so that it cannot go out of date."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.models import RESTORER_FILES, UPSCALER_FILES, lora_path, model_path, refiner_path, vae_path
from workbench.recipe import DenoisingStage, keys_without_weights, parse_prompt
from workbench.settings import Settings, knobs, parse_weighted, short_name, stages

PROMPTS = (("prompt", "negative_prompt"), ("hires_prompt", "hires_negative_prompt"),
           ("detail_prompt", "detail_negative_prompt"))  # fmt: skip

TOGETHER = (
    ("prompt_syntax", "loras", *(name for names in PROMPTS for name in names)),
    ("sampler", "schedule", "hires_sampler", "hires_schedule", "detail_sampler"),
    ("strength_steps", "strength", "refine_steps", "detail_strength", "detail_steps"),
)
"""Settings that say one thing together: a LoRA's tag in the prompt is an item of `loras`."""


def lost(s: Settings, read_back: Settings, why: Mapping[str, str] | None = None) -> dict[str, str]:
    """{setting: why} of what a format could not carry: the fewest settings of `s` that, set in `read_back`, make it act
    as `s` does. Settings that differ and do nothing there are not among them.

    Args:
        read_back: what the format's own reading made of the text that was written for `s`.
        why: {setting: a sentence}, where there is more to say than that there is no place for it.
    """
    places: Places = {}
    wanted, differing = effect(s, places), list(s.diff(read_back))

    def suffice(names: list[str]) -> bool:
        try:
            return effect(read_back.replace(**{name: getattr(s, name) for name in names}), places) == wanted
        except WorkbenchError:  # the two do not go together
            return False

    of_stages = [stage.settings.model_fields for stage in stages().values()]
    needed, before = differing, None
    while needed != before:
        before = needed
        for names in (*of_stages, *TOGETHER, *([name] for name in before)):
            fewer = [name for name in needed if name not in names]
            if fewer != needed and suffice(fewer):
                needed = fewer
    reasons = why or {}
    return {name: reasons.get(name, "the format has no place for it") for name in needed}


Places = dict[tuple[object, ...], str]
"""{what was looked for: where it is}, for one moment."""


def effect(s: Settings, places: Places | None = None) -> dict[str, str]:
    """{stage: a key} by which settings that do the same are equal, as far as that is known without the weights.

    Files are the same by whatever name they are found, LoRAs whether they are listed or tags, and prompts whose brackets are
    letters in either syntax. `places`: of files that were looked up already; new ones are added.
    """
    found, places = dict[str, object](), {} if places is None else places
    for name, find in _FILES.items():
        value = getattr(s, name)
        found[name] = value if value in knobs()[name].named else _place(places, value, find, name)
    found["refiner"] = "base"
    if any(isinstance(stage := stages()[name], DenoisingStage) and stage.part == "refiner" for name in s.stages):
        found["refiner"] = _place(
            places, s.refiner, lambda name: refiner_path(s.model, name) or Path("base"), "refiner", s.model
        )
    for names in PROMPTS:
        found |= {name: _as_read(s, name, places, bare=name != names[0]) for name in names}
    return keys_without_weights(s.replace(**found, loras="", prompt_syntax="plain"))


_FILES: dict[str, Callable[[str], Any]] = {
    "model": model_path, "vae": vae_path, "resampler": UPSCALER_FILES.find, "upscaler": UPSCALER_FILES.find,
    "restorer": RESTORER_FILES.find,
}  # fmt: skip


def _place(places: Places, name: str, find: Callable[[str], Any], *of: str) -> str:
    """Where a file is; its name, where it is not here. `of`: what else than its name the place depends on."""
    key = (name, *of)
    if key not in places:
        try:
            places[key] = str(find(name) or name)
        except (WorkbenchError, OSError):
            places[key] = short_name(name)
    return places[key]


def _as_read(s: Settings, name: str, places: Places, *, bare: bool) -> str:
    """A prompt as it is read, with the LoRAs that act beside it, unless it is `bare`; "" where the picture's is read."""
    text = getattr(s, name)
    if not text.strip() and name not in PROMPTS[0]:
        return ""
    read = parse_prompt(text.strip(), s.prompt_syntax, name)
    loras = [] if bare else [*parse_weighted("loras", s.loras), *read.loras]
    acting = sorted((_place(places, item.file, lora_path, "lora"), item.weight) for item in loras if item.weight)
    sections = [[(part.text.strip(), part.weight) for part in parts if part.text.strip()] for parts in read.sections]
    return repr((sections, acting))
