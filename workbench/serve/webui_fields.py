"""What a request in A1111's words asks for: each documented field of its txt2img, and what it is among our settings.

The fields are those of `StableDiffusionProcessingTxt2Img` in its v1.10, and five of Forge and SD.Next, some of which
SillyTavern sends to A1111, too. Clients send most fields whether they matter or not, so that one without effect is no
error, but is listed.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from workbench.errors import BadRequest
from workbench.models import SAMPLERS, sampler_steps
from workbench.presets import Preset
from workbench.presets.formats import AUTOMATIC, SCHEDULERS, UPSCALERS
from workbench.settings import Settings, knobs, stages

from .asking import MOST, PictureRequest, asked
from .in_force import public_settings

ACTS: dict[str, Any] = {
    "prompt": str, "negative_prompt": str, "seed": int, "n_iter": int, "batch_size": int, "send_images": bool,
}  # fmt: skip
"""Fields that act with every preset, or (the negative prompt) with most."""


@dataclass(frozen=True)
class Idle:
    """A field that has no counterpart here.

    Attributes:
        kind: its type.
        why: it has none.
        harmless: values that ask for what is done anyway; `None` is one, too.
    """

    kind: Any
    why: str
    harmless: tuple[object, ...] = ()


NO_VARIATION, NO_CHURN = "there are no variation seeds", "samplers have no such dials"
NOT_DISTILLED = "SDXL has no distilled guidance"
NOTHING_SAVED, ONE_SIZE = "the server saves no pictures", "size and scale of the picture are the preset's"
IDLE = {
    "styles": Idle(list[str], "there are no styles", ([],)),
    "subseed": Idle(int, NO_VARIATION, (-1,)),
    "subseed_strength": Idle(float, NO_VARIATION, (0,)),
    "seed_resize_from_h": Idle(int, NO_VARIATION, (-1, 0)),
    "seed_resize_from_w": Idle(int, NO_VARIATION, (-1, 0)),
    "tiling": Idle(bool, "pictures that tile are not made", (False,)),
    "do_not_save_samples": Idle(bool, NOTHING_SAVED, (False, True)),
    "do_not_save_grid": Idle(bool, NOTHING_SAVED, (False, True)),
    "save_images": Idle(bool, NOTHING_SAVED, (False,)),
    "eta": Idle(float, NO_CHURN, (1,)),
    "s_min_uncond": Idle(float, NO_CHURN, (0,)),
    "s_churn": Idle(float, NO_CHURN, (0,)),
    "s_tmax": Idle(float, NO_CHURN, (0,)),
    "s_tmin": Idle(float, NO_CHURN, (0,)),
    "s_noise": Idle(float, NO_CHURN, (1,)),
    "override_settings_restore_afterwards": Idle(bool, "no option is changed", (False, True)),
    "refiner_checkpoint": Idle(str, "the preset says what refines", ("", "None")),
    "refiner_switch_at": Idle(float, "the preset says what refines", (0, 1)),
    "disable_extra_networks": Idle(bool, "the preset says which LoRAs there are", (False,)),
    "firstpass_image": Idle(str, "pictures are made from text alone", ("",)),
    "comments": Idle(dict[str, Any], "comments are not kept", ({},)),
    "firstphase_width": Idle(int, ONE_SIZE, (0,)),
    "firstphase_height": Idle(int, ONE_SIZE, (0,)),
    "hr_resize_x": Idle(int, ONE_SIZE, (0,)),
    "hr_resize_y": Idle(int, ONE_SIZE, (0,)),
    "hr_checkpoint_name": Idle(str, "the preset says what refines", ("", "Use same checkpoint")),
    "hr_additional_modules": Idle(list[Any], "the preset says what refines", ([], ["Use same choices"])),  # Forge
    "distilled_cfg_scale": Idle(float, NOT_DISTILLED, (3.5,)),  # Forge
    "hr_distilled_cfg": Idle(float, NOT_DISTILLED, (3.5,)),  # Forge
    "force_task_id": Idle(str, "progress is told without a task's name", ("",)),
    "script_name": Idle(str, "there are no scripts", ("", "None")),
    "script_args": Idle(list[Any], "there are no scripts", ([],)),
    "alwayson_scripts": Idle(dict[str, Any], "there are no scripts and no extensions", ({},)),
    "infotext": Idle(str, "settings are not read out of texts", ("",)),
}

Changes = dict[str, object]
"""{setting: value} that a field asks for; {} where it asks for nothing."""
Reading = Callable[[Any, Settings], Changes]


def _as(name: str, value: object, s: Settings) -> Changes:
    return {name: value}


def _text(name: str, value: str, s: Settings) -> Changes:
    """An empty text is what clients send who mean none of their own."""
    return {name: value} if value.strip() else {}


def _cfg(value: float, s: Settings) -> Changes:
    return {"base_cfg": value, "refine_cfg": value}


def _clip_skip(value: int, s: Settings) -> Changes:
    """Counted from the last layer: 1 and 2 both mean the one that SDXL reads."""
    return {"clip_skip": max(0, value - 2)}


def _restore(value: bool, s: Settings) -> Changes:
    return {"restorer": (s.restorer if s.restorer != "none" else "codeformer") if value else "none"}


def _hires_steps(value: int, s: Settings) -> Changes:
    """A1111 runs them all; 0 means as many as of the base."""
    run = value or s.steps
    if run == s.refine_evaluations:
        return {"refine_steps": s.refine_steps}
    most = round(run / s.strength)  # where none below the limit runs as many, one above it, so that the limit is said
    scaled = next((n for n in range(1, 151) if int(n * s.strength) == run), most)
    return {"refine_steps": scaled if s.strength_steps == "scaled" else run}


def _hires_sampler(value: str, s: Settings) -> Changes:
    same = value in ("", "Use same sampler") or (s.hires_sampler == "same" and value == s.sampler)
    return {} if same else {"hires_sampler": value}


def _hires_schedule(value: str, s: Settings) -> Changes:
    return {} if value in ("", "Use same scheduler") else {"hires_schedule": schedule_of(value)}


def _resampler(value: str, s: Settings) -> Changes:
    return {"resampler": UPSCALERS.get(value, value)}


@dataclass(frozen=True)
class Counterpart:
    """A field that acts where the preset opens the settings that it is.

    Attributes:
        kind: its type.
        reading: what it asks for.
        hires: whether it acts in the hires fix alone.
    """

    kind: Any
    reading: Reading
    hires: bool = False


COUNTERPARTS = {
    "steps": Counterpart(int, partial(_as, "steps")),
    "cfg_scale": Counterpart(float, _cfg),
    "hr_cfg": Counterpart(
        float, partial(_as, "refine_cfg"), hires=True
    ),  # Forge; after cfg_scale, which it is more exact than
    "clip_skip": Counterpart(int, _clip_skip),  # SD.Next
    "width": Counterpart(int, partial(_as, "width")),
    "height": Counterpart(int, partial(_as, "height")),
    "restore_faces": Counterpart(bool, _restore),
    "enable_hr": Counterpart(bool, partial(_as, "hires")),
    "denoising_strength": Counterpart(float, partial(_as, "strength"), hires=True),
    "hr_scale": Counterpart(float, partial(_as, "hires_scale"), hires=True),
    "hr_upscaler": Counterpart(str, _resampler, hires=True),
    "hr_second_pass_steps": Counterpart(int, _hires_steps, hires=True),
    "hr_sampler_name": Counterpart(str, _hires_sampler, hires=True),
    "hr_scheduler": Counterpart(str, _hires_schedule, hires=True),
    "hr_prompt": Counterpart(str, partial(_text, "hires_prompt"), hires=True),
    "hr_negative_prompt": Counterpart(str, partial(_text, "hires_negative_prompt"), hires=True),
}
TOGETHER = {"sampler_name": str, "sampler_index": str, "scheduler": str, "override_settings": dict[str, Any]}
KINDS: dict[str, Any] = {
    **ACTS, **TOGETHER, **{name: each.kind for name, each in (*IDLE.items(), *COUNTERPARTS.items())},
}  # fmt: skip
WHOLE: Any = Annotated[int, Field(ge=-(2**53), le=2**53)]  # 10**400 is a whole number, too, and no float
_nullable: dict[str, Any] = {name: ((WHOLE if kind is int else kind) | None, None) for name, kind in KINDS.items()}
Txt2Img: type[BaseModel] = create_model(
    "Txt2Img", __config__=ConfigDict(extra="forbid", allow_inf_nan=False), **_nullable
)
"""A request with all documented fields, each of which may be left out or null."""


@dataclass(frozen=True)
class Understood:
    """A request in our words.

    Attributes:
        request: its pictures.
        ignored: {field: {"used": what is done instead, "why"}} of fields that ask for something else than what is done.
        given: the request as it came, in JSON values.
    """

    request: PictureRequest
    given: dict[str, Any]
    ignored: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_object(body: bytes, content_type: str) -> dict[str, Any]:
    """A body of JSON that can be written again as it was read. Raises `BadRequest`."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in ("", "application/json"):
        raise BadRequest(f"a body of type '{kind[:40]}' is not read; send JSON (application/json).")
    try:
        found = json.loads(body, parse_constant=_no_number)
        json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair, and 900 lists in each other, cannot be
    except (ValueError, RecursionError):
        raise BadRequest('the body is no JSON; send an object like {"prompt": "a face", "seed": 42}.') from None
    if not isinstance(found, dict):
        raise BadRequest('the body is no JSON object; send one like {"prompt": "a face", "seed": 42}.')
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


def read_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that were given and are not null, in the types that they are documented with. Raises `BadRequest`."""
    for name in given:
        if name not in KINDS:
            near = difflib.get_close_matches(name, KINDS, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(KINDS)}."
            raise BadRequest(f"A1111's txt2img has no field {name[:40]!r}; {hint}")
    try:
        found = Txt2Img.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        said = first["msg"][0].lower() + first["msg"][1:]
        raise BadRequest(f"{first['loc'][0]} = {str(first['input'])[:40]!r} is not allowed ({said}).") from None
    return {name: value for name in given if (value := getattr(found, name)) is not None}


def understood(given: dict[str, Any], preset: Preset, option: Callable[[str, object], object]) -> Understood:
    """What a request asks for, as the preset lets it.

    Args:
        given: JSON values of A1111's fields.
        option: (name, value) -> None where an option of A1111 is that already, else what it is.

    Raises:
        BadRequest: a field is not documented, of the wrong type, or asks for too many pictures.
        SettingsError: a value that acts is out of range.
    """
    fields, s = read_fields(given), preset.settings
    opened = [name for name in preset.allow if name not in ("prompt", "seed")]
    values, ignored = _with_effect(fields, s, opened)
    ignored |= {name: {"used": None, "why": IDLE[name].why} for name in _idle(fields)}
    for name, value in fields.get("override_settings", {}).items():
        if (used := option(name, value)) is not None:
            ignored[f"override_settings.{name}"] = {"used": used, "why": "the preset wins"}
    own = {"prompt": fields.get("prompt", ""), "seed": fields.get("seed", -1), "n": _number(fields)}
    request = asked({**own, **values}, ("prompt", "seed", *opened))
    return Understood(request, given, {name: ignored[name] for name in sorted(ignored)})


def _number(fields: Mapping[str, Any]) -> int:
    n, size = fields.get("n_iter", 1), fields.get("batch_size", 1)
    if n < 1 or size < 1:
        raise BadRequest("n_iter and batch_size are numbers of pictures, from 1.")
    if n * size > MOST:
        raise BadRequest(f"n_iter x batch_size is more than {MOST}, the most pictures of one request; send several.")
    return n * size


def _idle(fields: Mapping[str, Any]) -> Iterator[str]:
    return (name for name, value in fields.items() if name in IDLE and value not in IDLE[name].harmless)


def _with_effect(
    fields: Mapping[str, Any], s: Settings, opened: list[str]
) -> tuple[Changes, dict[str, dict[str, Any]]]:
    """(the settings that fields change, the fields that change none though they ask for it)."""
    values, ignored, used = Changes(), dict[str, dict[str, Any]](), public_settings(s)

    def take(name: str, changes: Changes) -> None:
        wrong = {setting: value for setting, value in changes.items() if value != getattr(s, setting)}
        values.update({setting: value for setting, value in changes.items() if setting in opened})
        if shut := [setting for setting in wrong if setting not in opened]:
            ignored[name] = {"used": used[shut[0]], "why": f"the preset does not open {shut[0]}"}

    negative = fields.get("negative_prompt")
    if negative is not None:
        take("negative_prompt", _text("negative_prompt", negative, s))
        if not negative.strip() and s.negative_prompt.strip():
            ignored["negative_prompt"] = {"used": s.negative_prompt, "why": "an empty one stands for the preset's"}
    for name, changes in _sampling(fields, s, opened).items():
        take(name, changes)
    for name, each in COUNTERPARTS.items():
        if name not in fields or (each.hires and not values.get("hires", s.hires) and not fields.get("enable_hr")):
            continue
        if name == "hr_upscaler" and fields[name].startswith(("Latent", "None")):
            ignored[name] = {"used": used["resampler"], "why": "the picture is enlarged, not its latents"}
        else:
            acting = s.replace(strength=values["strength"]) if "strength" in values else s
            take(name, each.reading(fields[name], acting))
    return values, ignored


def schedule_of(name: str) -> str:
    """Our name of a schedule that A1111 calls "sgm_uniform" or "SGM Uniform"; any other text as it is."""
    return SCHEDULERS.get(name.strip().lower().replace(" ", "_"), name)


def _sampling(fields: Mapping[str, Any], s: Settings, opened: list[str]) -> dict[str, Changes]:
    """{field: what it asks for}: A1111's sampler and scheduler together are our sampler and schedule."""
    of = "sampler_name" if fields.get("sampler_name") else "sampler_index"
    name, scheduler = fields.get(of) or "", fields.get("scheduler") or ""
    if not name and not scheduler:
        return {}
    now = sampler_steps(s.sampler, s.schedule, s.steps)
    sampler, schedule = name.removesuffix(" Karras") or now.sampler, schedule_of(scheduler or "automatic")
    if schedule == "auto":
        schedule = "Karras" if name.endswith(" Karras") else AUTOMATIC.get(sampler, "auto") if name else now.schedule
    if (sampler, schedule) == (now.sampler, now.schedule):
        return {}
    both = f"{sampler} Karras"
    if schedule == "Karras" != s.schedule and both in knobs()["sampler"].choices:
        sampler, schedule = both, "auto"
    said_by = of if name else "scheduler"
    if schedule != s.schedule and "sampler" not in opened and s.sampler not in SAMPLERS:
        return {said_by: {"sampler": sampler}}  # its name says its schedule, which cannot be changed beside it
    found: dict[str, Changes] = {said_by: {"sampler": sampler}}
    found["scheduler"] = {**found.get("scheduler", {}), "schedule": schedule}
    return found


def acting_sampler(s: Settings) -> tuple[str, str]:
    """(sampler, A1111's name of its schedule) of the first stage."""
    steps = sampler_steps(s.sampler, s.schedule, s.steps)
    return steps.sampler, next(name for name, ours in SCHEDULERS.items() if ours == steps.schedule)


def title_of(stage: str) -> str:
    """Of a stage, for people."""
    return stages()[stage].title
