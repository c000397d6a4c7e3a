"""The fields of A1111's extension ADetailer (its args.py, 25.3.0), as our face detailer."""

from __future__ import annotations

import re
from typing import Any

from .fields import Fields
from .gathering import Gathering
from .sampling import SamplerRead, sampler_beside

SECOND = re.compile(r"adetailer .* (2nd|3rd|\d+th)")
MORE = "one detailer runs here: the first"
DEFAULTS = {
    "denoising strength": "0.4", "dilate erode": "4", "mask blur": "4", "inpaint padding": "32", "mask min ratio": "0.0",
    "mask only top k": "0",
}  # fmt: skip
"""Of the fields that ADetailer leaves out where they are as in these."""
SETTINGS = {
    "denoising strength": "detail_strength", "dilate erode": "detail_dilate", "mask blur": "detail_blur",
    "inpaint padding": "detail_padding", "mask min ratio": "detail_min_ratio",
}  # fmt: skip
HARMLESS = {
    "inpaint only masked": "True", "use inpaint width height": "*", "use separate steps": "*", "use separate cfg scale": "*",
    "use separate sampler": "*", "mask merge invert": "None", "mask max ratio": "1", "x offset": "0", "y offset": "0",
    "restore face": "False", "use separate checkpoint": "False", "use separate vae": "False",
    "use separate clip skip": "False", "use noise multiplier": "False", "method": "Confidence",
}  # fmt: skip
"""{field: the value by which it asks for what is done here}; "*": read with the field that it switches on."""
MOST_FACES = 32
PROMPT = "[PROMPT]"  # in a prompt of its own, it stands for the picture's


def read_adetailer(gathering: Gathering, fields: Fields, base: SamplerRead, prompt: str) -> dict[str, tuple[str, str]]:
    """The face detailer; gives its own prompts, {setting: (text, its name)}. `prompt`: the picture's."""
    for name, value in fields.left():
        if SECOND.fullmatch(name.lower()):
            fields.take(name)
            gathering.cannot(f"{name}: {value}", MORE)
    model = fields.take("ADetailer model")
    if not model or model == "None":
        return {}
    words = f"ADetailer model: {model}"
    if "face" not in model.lower():
        gathering.cannot(words, "the detailer here mends faces")
        return {}
    gathering.take("detail", True, words)
    gathering.take("detail_mask", "box", words)
    gathering.guessed["detail"] = "Faces are found by RetinaFace here: perhaps others than by ADetailer's detector."
    _take_numbers(gathering, fields)
    _take_sizes_and_steps(gathering, fields, base)
    for name, wanted in HARMLESS.items():
        if wanted == "*" or fields.peek(f"ADetailer {name}") in (wanted, f"{wanted}.0"):
            fields.take(f"ADetailer {name}")
    return _prompts(gathering, fields, prompt)


def _take_numbers(gathering: Gathering, fields: Fields) -> None:
    for name, setting in SETTINGS.items():
        value = fields.take(f"ADetailer {name}") or DEFAULTS[name]
        gathering.take(setting, value, f"ADetailer {name}: {value}")
    confidence = fields.take("ADetailer confidence")
    if confidence:
        gathering.cannot(f"ADetailer confidence: {confidence}", "scores of another detector mean something else here")
    most = fields.take("ADetailer mask only top k") or "0"
    faces = str(MOST_FACES) if most == "0" else most
    gathering.take("detail_faces", faces, f"ADetailer mask only top k: {most}")


def _take_sizes_and_steps(gathering: Gathering, fields: Fields, base: SamplerRead) -> None:
    def own(switch: str, name: str) -> str | None:
        """The value of a field that counts only where its switch is on."""
        value = fields.take(f"ADetailer {name}")
        return value if fields.peek(f"ADetailer use {switch}").lower() == "true" else None

    sides = [own("inpaint width height", side) for side in ("inpaint width", "inpaint height")]
    numbers = [int(side) for side in sides if side and side.isascii() and side.isdecimal() and len(side) < 6]
    size: Any = max(numbers or [gathering.values.get(side, 1024) for side in ("width", "height")])  # type: ignore[type-var]
    gathering.take("detail_size", size, f"ADetailer inpaint width: {size}")
    steps = own("separate steps", "steps") or str(gathering.values.get("steps", 20))
    _take_steps(gathering, steps)
    cfg = own("separate CFG scale", "CFG scale")
    if cfg is None:
        cfg = str(gathering.values.get("base_cfg", 7.0))
    gathering.take("detail_cfg", cfg, f"ADetailer CFG scale: {cfg}")
    if gathering.values.get("detail_cfg") == gathering.values.get("refine_cfg", 7.0):
        gathering.values["detail_cfg"] = 0.0  # the hires fix's
    _take_sampler(gathering, own("separate sampler", "sampler"), own("separate sampler", "scheduler"), base)


def _take_steps(gathering: Gathering, steps: str) -> None:
    """ADetailer runs a share of its steps; here all of `detail_steps` run where the hires fix's do."""
    words, strength = f"ADetailer steps: {steps}", gathering.values.get("detail_strength")
    if not (steps.isascii() and steps.isdecimal() and int(steps[:6]) > 0 and isinstance(strength, float)):
        gathering.cannot(words, "it is no number of steps")
        return
    if gathering.values["strength_steps"] == "scaled":
        gathering.take("detail_steps", steps, words)
        return
    share = int(int(steps) * strength)
    exact = [run for run in (share + 1, share) if run and int(run / strength) == int(steps)]
    run = exact[-1] if exact else max(1, share)
    gathering.take("detail_steps", run, words, f"{run} of about {steps} steps run, as there.")


def _take_sampler(gathering: Gathering, sampler: str | None, schedule: str | None, base: SamplerRead) -> None:
    found = sampler_beside(base, sampler, schedule)
    if found is None:
        return
    words, guess = f"ADetailer sampler: {sampler or 'same'}, ADetailer scheduler: {schedule or 'same'}", found.guess
    if found.schedule != "auto":
        guess = (
            f"the detailer has no schedule of its own here; {found.sampler} is taken with the model's. {guess}".strip()
        )
    gathering.take("detail_sampler", found.sampler, words, guess)


def _prompts(gathering: Gathering, fields: Fields, prompt: str) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for setting, name in (("detail_prompt", "prompt"), ("detail_negative_prompt", "negative prompt")):
        text = fields.take(f"ADetailer {name}")
        if not text:
            continue
        if (first := re.split(r"\[SEP\]|\[SKIP\]", text)[0]) != text:
            gathering.cannot(f"ADetailer {name}: {text[:80]}", "all faces read one prompt here: the first of these")
        if first.strip() and first.strip() != PROMPT:
            found[setting] = (first.replace(PROMPT, prompt), f"ADetailer {name}")
    return found
