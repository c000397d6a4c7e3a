"""A1111's and Forge's text beside a picture, as settings and back; pictures from Civitai carry it, too."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from workbench.errors import NotUnderstood, WorkbenchError
from workbench.files import PARAMETERS, infotext
from workbench.models import RESTORERS, list_models, restorer_kind
from workbench.settings import Settings

from .adetailer import read_adetailer
from .exchange import ExchangeFormat, Exported, Imported
from .fields import Fields
from .foreign_prompts import clean, take_prompts
from .gathering import Gathering
from .infotext import NEGATIVE, Infotext, parse_infotext
from .losses import lost
from .naming import known_file
from .samplers import UPSCALERS
from .sampling import SamplerRead, read_sampler, sampler_beside

OWN = ("Face restorer file", "Postprocess upscale mode")  # fields that only the workbench writes and reads
INFORMATION = (
    "version", "adetailer version", "lora hashes", "ti hashes", "created date", "civitai metadata", "process", "workflow",
    "draft", "quantity", "basemodel", "experimental", "fluxmode", "aspectratio", "disablepoi", "user",
)  # fmt: skip
"""Fields, in lower case, that say nothing of how a picture is made."""
WHY = {
    "variation seed": "there are no variation seeds",
    "refiner": "the base hands over to a refiner in the middle of its steps there; here the finished picture is refined",
    "denoising strength": "it is of img2img, and pictures are made from text here",
    "ensd": "samplers draw no other noise than the seed's here",
    "template": "the prompt is what was drawn from it",
    "rng": "noise is drawn by the processor here",
}  # fmt: skip
"""{how a field begins, in lower case: why it has no counterpart}."""
SEED = "The seed gives another picture there: {0} draws its noise on the graphics card, unless its option RNG is CPU."
SEED_BACK = "The same seed gives another picture here: {0} drew its noise on the graphics card."
TITLE = re.compile(r"(.*?)\s*\[([0-9a-fA-F]{6,64})\]")
HIRES_NAMES = ("hires upscale", "hires resize", "hires upscaler", "hires steps")
UNSAID = {
    "negative_prompt": "", "hires": False, "detail": False, "restorer": "none", "upscaler": "none", "refiner": "base",
    "strength_steps": "fixed",
}  # fmt: skip
"""What A1111 does where the text says nothing."""


class A1111(ExchangeFormat):
    name, title, suffix = "a1111", "A1111 and Forge infotext", ".txt"

    def write(self, s: Settings, name: str = "workbench") -> Exported:
        text = infotext(s)
        there = _parsed(text)
        known = {field: value for field, value in there.fields.items() if field not in OWN}
        missing = lost(s, _read(replace(there, fields=known)).settings, _reasons(s))
        return Exported(text, {**missing, **_unknown_there(s)}, _notes(s))

    def find(self, texts: Mapping[str, str]) -> str | None:
        text = texts.get(PARAMETERS, "")
        return text if self.recognises(text) else None

    def recognises(self, text: str) -> bool:
        found = None if text.lstrip().startswith("{") else parse_infotext(text)
        return found is not None and any(name.lower() == "steps" for name in found.fields)

    def read(self, text: str) -> Imported:
        return _read(_parsed(text))


def _parsed(text: str) -> Infotext:
    found = parse_infotext(clean(text))
    if found is None:
        raise NotUnderstood(
            "the text is no infotext: its last line must say the settings, as in 'Steps: 30, Sampler: Euler a, CFG scale: 5, "
            "Seed: 1, Size: 832x1216'; copy all of it."
        )
    return found


def _read(found: Infotext) -> Imported:
    fields, gathering = Fields(found.fields), Gathering(UNSAID)
    tool = _tool(fields)
    hashes = _hashes(fields)
    _take_base(gathering, fields, hashes)
    base = _take_sampler(gathering, fields)
    texts = {"prompt": (found.prompt, "the prompt"), "negative_prompt": (found.negative_prompt, NEGATIVE)}
    texts |= _take_hires(gathering, fields, base) if _has_hires(fields) else {}
    if not gathering.values["hires"]:
        gathering.values["strength_steps"] = "scaled"  # ADetailer's steps are
    texts |= read_adetailer(gathering, fields, base, found.prompt)
    _take_faces(gathering, fields)
    _take_upscaler(gathering, fields)
    take_prompts(gathering, texts, {name.partition(":")[2]: digest for name, digest in hashes.items()})
    _take_resources(gathering, fields)
    if (fields.take("RNG") or "GPU").upper() != "CPU":
        gathering.notes.append(SEED_BACK.format(tool))
    for name, value in fields.left():
        if name.lower() not in INFORMATION:
            why = next((why for begin, why in WHY.items() if name.lower().startswith(begin)), None)
            gathering.cannot(f"{name}: {value}", *([why] if why else []))
    return gathering.finish(tool)


def _tool(fields: Fields) -> str:
    if any(name.lower().startswith("civitai") for name, _ in fields.left()):
        return "Civitai"
    version = fields.peek("Version")
    return "the workbench" if version.startswith("workbench") else "Forge" if re.match(r"f\d|neo", version) else "A1111"


def _hashes(fields: Fields) -> dict[str, str]:
    """Civitai's {"model": digits of its sha256, "lora:name": ...}."""
    try:
        found = json.loads(fields.take("Hashes") or "{}")
    except (ValueError, RecursionError):
        return {}
    return {str(name): str(digest) for name, digest in found.items()} if isinstance(found, dict) else {}


def _take_base(gathering: Gathering, fields: Fields, hashes: Mapping[str, str]) -> None:
    fields.into(gathering, "Steps", "steps")
    fields.into(gathering, "Seed", "seed")
    if cfg := fields.into(gathering, "CFG scale", "base_cfg"):
        gathering.take("refine_cfg", cfg, f"CFG scale: {cfg}")
    _take_size(gathering, fields)
    for what, name, kind in (("Model", "model", "base"), ("VAE", "vae", "vae")):
        digest = fields.take(f"{what} hash") or hashes.get(what.lower(), "")
        value = fields.take(what)
        if (value and value not in ("None", "Automatic")) or (digest and what == "Model"):
            found, guess = known_file(value or digest, kind, digest)
            gathering.take(name, found, f"{what}: {value or digest}", guess)
    skip = fields.take("Clip skip")
    if skip is not None:
        number = int(skip) if skip.isascii() and skip.isdecimal() and len(skip) < 5 else None
        if number is None:
            gathering.cannot(f"Clip skip: {skip}", "it is no whole number")
        else:  # counted from the last layer; SDXL reads the one before it, by 1 as by 2
            gathering.take("clip_skip", max(0, number - 2), f"Clip skip: {skip}")


def _take_size(gathering: Gathering, fields: Fields) -> None:
    """Before A1111 1.0, `First pass size` was the base's size, and `Size` that behind the hires fix."""
    sides = [fields.take(name) for name in ("width", "height")]  # Civitai's own pictures say them beside it, or alone
    if all(sides) and not fields.peek("Size"):
        fields.put("Size", "x".join(map(str, sides)))
    size, first = fields.size("Size"), fields.size("First pass size")
    words = fields.words("Size")
    if first:
        if size:
            fields.put("Hires resize", f"{size[0]}x{size[1]}")
        size, words = (first, fields.words("First pass size")) if all(first) else (None, "")
    if size:
        for name, side in zip(("width", "height"), size, strict=True):
            if not gathering.take(name, side, words) and side % 8 and gathering.take(name, round(side / 8) * 8, words):
                del gathering.unmapped[words]
                gathering.guessed[name] = (
                    f"{side} px is no multiple of 8, which it must be; {gathering.values[name]} is near."
                )


def _take_sampler(gathering: Gathering, fields: Fields) -> SamplerRead:
    name, schedule = fields.take("Sampler") or "", fields.take("Schedule type") or ""
    found = read_sampler(name or "DPM++ 2M", schedule)
    guess = found.guess if name else "the text names no sampler; this is the usual one."
    words = ", ".join(f"{what}: {value}" for what, value in (("Sampler", name), ("Schedule type", schedule)) if value)
    gathering.take("sampler", found.sampler, words, guess)
    gathering.take("schedule", found.schedule, words, guess)
    return found


def _has_hires(fields: Fields) -> bool:
    return any(fields.peek(name) for name in HIRES_NAMES)


def _take_hires(gathering: Gathering, fields: Fields, base: SamplerRead) -> dict[str, tuple[str, str]]:
    """The hires fix; gives its own prompts."""
    gathering.take("hires", True, "Hires upscale")
    _take_scale(gathering, fields)
    _take_hires_steps(gathering, fields)
    upscaler = fields.take("Hires upscaler") or "Latent"
    resampler, guess = _upscaler(upscaler)
    gathering.take("resampler", resampler, f"Hires upscaler: {upscaler}", guess)
    fields.into(gathering, "Hires CFG Scale", "refine_cfg")
    _take_checkpoint(gathering, fields)
    name, schedule = (fields.take(f"Hires {what}") for what in ("sampler", "schedule type"))
    if found := sampler_beside(base, name, schedule):
        words = f"Hires sampler: {name or 'same'}, Hires schedule type: {schedule or 'same'}"
        gathering.take("hires_sampler", found.sampler, words, found.guess)
        gathering.take("hires_schedule", found.schedule, words, found.guess)
    texts = {"hires_prompt": fields.take("Hires prompt"), "hires_negative_prompt": fields.take("Hires negative prompt")}
    return {name: (text, name.replace("_", " ").capitalize()) for name, text in texts.items() if text}


def _take_scale(gathering: Gathering, fields: Fields) -> None:
    resize, words = fields.size("Hires resize"), fields.words("Hires resize")
    scale = fields.take("Hires upscale")
    width, height = (int(str(gathering.values.get(name, 1024))) for name in ("width", "height"))
    if not resize or not any(resize):
        if scale is None or not gathering.take("hires_scale", scale, f"Hires upscale: {scale}"):
            return
        exact = float(scale)
        resize, words = (int(width * exact) // 8 * 8, int(height * exact) // 8 * 8), f"Hires upscale: {scale}"
        if _fits((width, height), resize, exact):  # A1111 rounds down
            return
    wanted = _scale_to((width, height), resize)
    if not gathering.take("hires_scale", wanted, words):
        return
    if not _fits((width, height), resize, wanted):
        reached = [round(side * wanted / 8) * 8 for side in (width, height)]
        gathering.guessed["hires_scale"] = (
            f"A1111 cuts the picture to {resize[0]}x{resize[1]}; here it keeps its proportions, {reached[0]}x{reached[1]}."
        )


def _scale_to(size: tuple[int, int], wanted: tuple[int, int]) -> float:
    """The scale of fewest digits by which sides that are rounded to 8 px are as wanted (0: any), else that of the first."""
    exact = next(there / here for here, there in zip(size, wanted, strict=True) if there)
    low = max(max(0.0, there - 4) / here for here, there in zip(size, wanted, strict=True))
    high = min((there + 4) / here for here, there in zip(size, wanted, strict=True) if there)
    between = (round(each, digits) for digits in range(17) for each in (exact, (low + high) / 2))
    return next((scale for scale in between if low <= scale <= high and _fits(size, wanted, scale)), exact)


def _fits(size: tuple[int, int], wanted: tuple[int, int], scale: float) -> bool:
    """Whether sides (rounded to 8 px) become those that are wanted; 0: any."""
    return all(there in (0, round(here * scale / 8) * 8) for here, there in zip(size, wanted, strict=True))


def _take_hires_steps(gathering: Gathering, fields: Fields) -> None:
    if fields.into(gathering, "Denoising strength", "strength") is None:
        gathering.guessed["strength"] = "the text does not say it."
    steps = fields.take("Hires steps")
    if steps in (None, "", "0"):
        steps = str(gathering.values.get("steps", 20))
        gathering.take("refine_steps", steps, "Hires steps: as many as Steps")
    else:
        gathering.take("refine_steps", steps, f"Hires steps: {steps}")


def _take_checkpoint(gathering: Gathering, fields: Fields) -> None:
    title = fields.take("Hires checkpoint")
    if not title or title.lower().startswith("use same"):
        return
    found = TITLE.fullmatch(title)
    name, digest = (found[1], found[2]) if found else (title, "")
    if name == f"{gathering.values.get('model')}/refiner":  # the one that comes with the model
        gathering.take("refiner", "auto", f"Hires checkpoint: {title}")
        return
    ours, guess = known_file(name, "refiner", digest)
    gathering.take("refiner", ours, f"Hires checkpoint: {title}", guess)


def _upscaler(name: str) -> tuple[str, str]:
    """(our resampler for A1111's upscaler, what of it is guessed or "")."""
    ours = {theirs.lower(): each for theirs, each in UPSCALERS.items()} | {"bicubic": "bicubic", "bilinear": "bilinear"}
    if found := ours.get(name.lower()):
        return found, ""
    if name.lower().startswith("latent") or name == "None":
        return "lanczos", f"'{name}' enlarges latents or nothing; here the picture is enlarged, by Lanczos."
    if "/" in name or "\\" in name:
        name = name.replace("\\", "/").rpartition("/")[2]
    return known_file(name, "upscaler")


def _take_faces(gathering: Gathering, fields: Fields) -> None:
    name, file = fields.take("Face restoration") or "", fields.take("Face restorer file")
    shown = {kind: fields.take(f"{kind} visibility") for kind in RESTORERS}
    kind = name or next((kind for kind, value in shown.items() if value), "")
    weight = fields.take("CodeFormer weight")
    if not kind or kind.lower() == "none":
        if weight:
            gathering.cannot(f"CodeFormer weight: {weight}", "the text has no face restoration")
        return
    words = f"Face restoration: {name}" if name else f"{kind} visibility: {shown[kind]}"
    if file:
        gathering.take("restorer", *_pair(known_file(file, "restorer"), words))
    elif kind.lower() == "codeformer":
        gathering.take("restorer", "codeformer", words)
    else:
        gathering.take("restorer", *_pair(_restorer(kind), words))
    if weight:
        gathering.take("weight", weight, f"CodeFormer weight: {weight}")
    for each, visible in shown.items():
        if visible and each.lower() == kind.lower():
            gathering.take("restore_visibility", visible, f"{each} visibility: {visible}")
        elif visible:
            gathering.cannot(f"{each} visibility: {visible}", f"one restorer runs here, {kind}")


def _pair(found: tuple[str, str], words: str) -> tuple[str, str, str]:
    return found[0], words, found[1]


def _restorer(kind: str) -> tuple[str, str]:
    """(the file of a restorer of that kind, what was guessed)."""
    for info in list_models():
        if info.kind == "restorer" and info.usable and kind.lower() in info.path.name.lower():
            return info.path.stem, f"{info.path.stem} was taken for {kind}: A1111 does not say which file it is."
    return known_file(kind, "restorer")


def _take_upscaler(gathering: Gathering, fields: Fields) -> None:
    name, factor = fields.take("Postprocess upscaler"), fields.take("Postprocess upscale by")
    mode = fields.take("Postprocess upscale mode")
    if not name or name == "None":
        return
    ours, guess = _upscaler(name)
    if ours in ("lanczos", "nearest", "bicubic", "bilinear"):
        gathering.cannot(f"Postprocess upscaler: {name}", "a finished picture is enlarged by networks alone")
        return
    gathering.take("upscaler", ours, f"Postprocess upscaler: {name}", guess)
    if factor:
        gathering.take(
            "upscale_factor", float(factor) if _number(factor) else factor, f"Postprocess upscale by: {factor}"
        )
    if mode:
        gathering.take("upscale_mode", mode, f"Postprocess upscale mode: {mode}")


def _number(text: str) -> bool:
    try:
        return abs(float(text)) < 1e9
    except ValueError:
        return False


def _take_resources(gathering: Gathering, fields: Fields) -> None:
    """Civitai's list of what made the picture: models by their version's number, sometimes by name."""
    text = fields.take("Civitai resources")
    if not text:
        return
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError):
        listed = None
    for each in listed if isinstance(listed, list) else [text]:
        _take_resource(gathering, each)


def _take_resource(gathering: Gathering, each: Any) -> None:
    if not isinstance(each, dict):
        gathering.cannot(f"Civitai resources: {str(each)[:80]}", "it is no list of resources")
        return
    kind, name, version = (str(each.get(key) or "") for key in ("type", "modelName", "modelVersionId"))
    words = f"Civitai resources: {kind or 'resource'} {name or version}"
    if kind.lower() in ("checkpoint", "model") and name and "model" not in gathering.read:
        found, guess = known_file(name, "base")
        gathering.take("model", found, words, guess or "Civitai's name of a model is not that of its file.")
    elif kind.lower() not in ("checkpoint", "model") or "model" not in gathering.read:
        weight = f" with weight {each['weight']}" if isinstance(each.get("weight"), int | float) else ""
        gathering.cannot(words, f"fetch version {version or '(no number)'} from Civitai and name its file{weight}")


# --- what A1111 does not take ----------------------------------------------------------------------------------------


def _reasons(s: Settings) -> dict[str, str]:
    of, run = s.refine_schedule_steps, s.refine_evaluations
    steps = (
        f"A1111 runs the last {run} of {int(run / s.strength)} steps; here the last {run} of {of} run (with strength_steps = "
        "fixed both do the same)"
    )
    names = "A1111 knows files by their names, not by their paths; put it into the models folder there"
    return {
        "prompt": "A1111 reads tags and words like BREAK in it",
        **dict.fromkeys(("model", "vae", "restorer", "resampler", "upscaler"), names),
        "refiner": "the model is not here, so that it is not known whether it has a refiner"
        if s.refiner == "auto"
        else names,
        "strength_steps": steps,
        "refine_steps": steps,
        "detail_mask": "ADetailer's mask is the box of its detector",
        "detail_confidence": "ADetailer finds faces by another detector, with scores of its own",
        "detector": "A1111 finds faces by a detector of its own",
        "dtype": "precision is an option of A1111's command line",
        "vae_tiling": "A1111 has it as an extension, Tiled VAE",
        "upscale_mode": "A1111 enlarges the finished picture",
        **dict.fromkeys(("schedule", "hires_schedule"), "A1111 has no name for the model's own with this sampler"),
        **dict.fromkeys(
            ("weight", "restore_visibility"), "the restorer's file is not here, so that it is not known what it has"
        ),
        "detail_steps": "the detailer's steps are scaled there while the hires fix's are not; the nearest are read back",
        "prompt_syntax": "A1111 reads its own syntax, and all of a prompt",
    }


def _unknown_there(s: Settings) -> dict[str, str]:
    """What is written in our words, since A1111 has none for it."""
    found: dict[str, str] = {}
    samplers = {"sampler": True, "hires_sampler": s.hires, "detail_sampler": s.detail}
    if s.hires and s.resampler in ("bicubic", "bilinear"):
        found["resampler"] = "A1111 has no such upscaler; choose Lanczos there"
    if s.hires and s.refine_cfg != s.base_cfg:
        found["refine_cfg"] = "Forge has it (Hires CFG Scale); A1111 refines with CFG scale"
    found |= {
        name: "Forge has it; A1111 has no TCD" for name, acts in samplers.items() if acts and getattr(s, name) == "TCD"
    }
    if "faces" in s.stages:
        try:
            kind = restorer_kind(s.restorer).name
        except WorkbenchError:  # its file is not here
            kind = "CodeFormer"
        if kind not in ("CodeFormer", "GFPGAN"):
            found["restorer"] = f"A1111 has no {kind}"
    return found


def _notes(s: Settings) -> tuple[str, ...]:
    notes = [SEED.format("A1111")]
    if "faces" in s.stages:
        notes.append(f"Set CodeFormer's weight to {s.weight:g} in A1111's settings: it does not take it from the text.")
    return tuple(notes)
