"""The one list of settings, from which sliders, sweep axes, papermill parameters, preset files and the server's schema come.

Knows nothing of torch: importing it is instant.
"""

from __future__ import annotations

import difflib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from workbench.errors import SettingsError

STAGES = ("base", "refine", "faces", "upscale")
Stage = Literal["base", "refine", "faces", "upscale"]

NEGATIVE_PROMPT = (
    "blurry, deformed, bad eyes, low quality, bad anatomy, extra limbs, disfigured, lowres, jpeg artifacts"
)

# {the name that people know: (diffusers' scheduler class, what it changes in the model's own scheduler config)}.
# Only samplers with one UNet evaluation a step, so that a plan can count evaluations without loading anything.
SAMPLERS: dict[str, tuple[str, dict[str, str | bool]]] = {
    "DPM++ 2M Karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "DPM++ 2M": ("DPMSolverMultistepScheduler", {}),
    "DPM++ 2M SDE Karras": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True},
    ),
    "Euler": ("EulerDiscreteScheduler", {}),
    "Euler a": ("EulerAncestralDiscreteScheduler", {}),
    "UniPC": ("UniPCMultistepScheduler", {}),
    "DDIM": ("DDIMScheduler", {}),
}
Sampler = Literal["DPM++ 2M Karras", "DPM++ 2M", "DPM++ 2M SDE Karras", "Euler", "Euler a", "UniPC", "DDIM"]
Resampler = Literal["lanczos", "bicubic", "bilinear", "nearest"]
Restorer = Literal["codeformer", "none"]
Detector = Literal["retinaface_mobile0.25", "retinaface_resnet50"]
Upscaler = Literal["none", "realesrgan-x4plus", "realesr-animevideov3"]
UpscaleMode = Literal["picture", "background"]
MAX_SEED = 2**32 - 1
Value = str | int | float | bool
"""What a setting may be."""
Given = TypeVar("Given")


@dataclass(frozen=True)
class Knob:
    """What a slider, a sweep axis or a parameter check needs to know about one setting.

    Attributes:
        stage: the first one in which the setting acts.
        label, help: its name and what it does, for people.
        minimum, maximum: the allowed range; None where there is no limit.
        step: of a slider.
        choices: the allowed values of a choice, else ().
    """

    name: str
    kind: Literal["text", "int", "float", "bool", "choice"]
    default: Value
    stage: Stage
    label: str
    help: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """The allowed values in words, for error messages and tooltips."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.minimum is not None and self.maximum is not None:
            return f"{self.kind} from {self.minimum:.10g} to {self.maximum:.10g}"
        return {"bool": "true or false"}.get(self.kind, self.kind)


def _knob(default: Value, stage: Stage, label: str, about: str, *, unit: str = "", step: float | None = None, **limits):
    extra = {"stage": stage, "unit": unit, "step": step}
    return Field(default, title=label, description=about, json_schema_extra=extra, **limits)


Cfg = Annotated[float, Field(ge=1, le=30, allow_inf_nan=False)]


class Settings(BaseModel):
    """Every setting of one picture. Immutable; equal settings on one machine give equal pixels.

    `cfg` may be given in place of `base_cfg` and `refine_cfg` and sets both. Raises `SettingsError` for an unknown
    name, a value out of range, or a combination that cannot run. The defaults are the `recommended` preset.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    prompt: str = _knob(
        "portrait photo of a woman, looking at the camera, natural light, sharp focus",
        "base", "Prompt", "What the picture shows; base and refiner both read it.",
    )  # fmt: skip
    negative_prompt: str = _knob(
        NEGATIVE_PROMPT, "base", "Negative prompt", "What guidance moves away from; without effect at CFG 1."
    )
    seed: int = _knob(
        0, "base", "Seed", "Start of the random generator that is carried through base and refiner; -1 draws one.",
        step=1, ge=-1, le=MAX_SEED,
    )  # fmt: skip
    width: int = _knob(1024, "base", "Width", "Base picture width.", unit="px", step=64, ge=64, le=4096, multiple_of=8)
    height: int = _knob(
        1024, "base", "Height", "Base picture height.", unit="px", step=64, ge=64, le=4096, multiple_of=8
    )
    steps: int = _knob(35, "base", "Base steps", "Denoising steps of the base.", unit="steps", step=1, ge=1, le=150)
    sampler: Sampler = _knob("DPM++ 2M Karras", "base", "Sampler", "Scheduler of base and refiner.")
    base_cfg: Cfg = _knob(7.0, "base", "Base CFG", "Guidance scale of the base; 1 switches guidance off.", step=0.5)
    hires: bool = _knob(True, "refine", "Hires fix", "Enlarge the base picture and refine it (SDEdit img2img).")
    hires_scale: float = _knob(
        1.5, "refine", "Hires scale", "How much the base picture is enlarged; sides round to a multiple of 8.",
        unit="x", step=0.25, ge=1, le=4, allow_inf_nan=False,
    )  # fmt: skip
    resampler: Resampler = _knob("lanczos", "refine", "Resampler", "How the base picture is enlarged.")
    strength: float = _knob(
        0.35, "refine", "Strength", "Denoising strength: share of the refine steps that run; higher changes more.",
        step=0.05, gt=0, le=1, allow_inf_nan=False,
    )  # fmt: skip
    refine_steps: int = _knob(
        25, "refine", "Refine steps", "Steps of the whole schedule; int(steps x strength) of them run.",
        unit="steps", step=1, ge=1, le=150,
    )  # fmt: skip
    refine_cfg: Cfg = _knob(
        7.0, "refine", "Refine CFG", "Guidance scale of the refiner; 1 switches guidance off.", step=0.5
    )
    restorer: Restorer = _knob("codeformer", "faces", "Face restorer", "CodeFormer is for non-commercial use only.")
    weight: float = _knob(
        0.6, "faces", "CodeFormer weight", "0 = quality (the restorer's own face), 1 = fidelity (the face it was given).",
        step=0.05, ge=0, le=1, allow_inf_nan=False,
    )  # fmt: skip
    detector: Detector = _knob("retinaface_mobile0.25", "faces", "Face detector", "Finds and aligns the faces.")
    upscaler: Upscaler = _knob("none", "upscale", "Upscaler", "Real-ESRGAN network that enlarges the picture.")
    upscale_factor: int = _knob(
        2, "upscale", "Upscale factor", "Final enlargement; 2 is the x4 network's result halved.",
        unit="x", step=2, ge=2, le=4, multiple_of=2,
    )  # fmt: skip
    upscale_mode: UpscaleMode = _knob(
        "picture", "upscale", "Upscale mode",
        "picture: enlarge the finished picture; background: enlarge before faces are restored and paste them in there, so "
        "that all weights share it.",
    )  # fmt: skip
    model: str = _knob(
        "sdxl", "base", "Model", "'embedded', a folder name under WORKBENCH_HOME/models, or a path.", min_length=1
    )
    vae: str = _knob("", "base", "VAE", "Folder of another SDXL VAE; empty: the model's own.")

    def __init__(self, **values: object) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError("; ".join(_sentence(e) for e in error.errors()) + ".") from None

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, values: dict[str, object]) -> dict[str, object]:
        return expand_cfg({name: _plain(value) for name, value in values.items()})

    @field_validator("sampler", "resampler", "restorer", "detector", "upscaler", "upscale_mode", mode="before")
    @classmethod
    def _ignore_case(cls, value: object, info: ValidationInfo) -> object:
        names = get_args(cls.model_fields[info.field_name or ""].annotation)
        return next((n for n in names if isinstance(value, str) and n.lower() == value.strip().lower()), value)

    @model_validator(mode="after")
    def _runnable(self) -> Self:
        if self.hires and self.refine_evaluations < 1:
            raise ValueError(
                f"strength {self.strength:g} of {self.refine_steps} refine_steps is 0 denoising steps; "
                f"use strength {1 / self.refine_steps:.3g} or more, or hires = false"
            )
        return self

    @property
    def refine_evaluations(self) -> int:
        """Denoising steps that the refiner really runs: diffusers' own int(steps * strength), 9 of 25 at 0.36 and 0.37."""
        return min(int(self.refine_steps * self.strength), self.refine_steps)

    @property
    def hires_size(self) -> tuple[int, int]:
        """(width, height) after the hires fix, each a multiple of 8 as the VAE needs."""
        return (round(self.width * self.hires_scale / 8) * 8, round(self.height * self.hires_scale / 8) * 8)

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages that these settings run, in order. `upscale_mode` acts only where faces are restored, too."""
        on = {
            "base": True,
            "refine": self.hires,
            "faces": self.restorer != "none",
            "upscale": self.upscaler != "none",
        }
        order = STAGES if self.upscale_mode == "picture" else ("base", "refine", "upscale", "faces")
        return tuple(name for name in order if on[name])

    def replace(self, **changes: object) -> Settings:
        """A copy with `changes`, of which `cfg` may be one. Raises `SettingsError`."""
        return Settings(**{**self.model_dump(), **expand_cfg(changes)})

    def model_copy(self, *, update: Mapping[str, object] | None = None, deep: bool = False) -> Settings:
        """As `replace`, since pydantic's own `model_copy` checks nothing and would let an unknown setting through."""
        return self.replace(**(update or {}))

    def resolved(self) -> Settings:
        """The same settings with a seed drawn where it is -1, so that the picture can be made again."""
        return self.replace(seed=secrets.randbelow(MAX_SEED + 1)) if self.seed == -1 else self

    def diff(self, other: Settings) -> dict[str, tuple[Value, Value]]:
        """{name: (here, in other)} for every setting that differs."""
        theirs = other.model_dump()
        return {n: (v, theirs[n]) for n, v in self.model_dump().items() if v != theirs[n]}


def knobs() -> dict[str, Knob]:
    """Every setting as a `Knob`, in the order of `Settings`."""
    return {name: _to_knob(name, field) for name, field in Settings.model_fields.items()}


def _to_knob(name: str, field: Any) -> Knob:
    choices = get_args(field.annotation) if get_args(field.annotation) else ()
    kind: Any = "choice" if choices else {str: "text", int: "int", float: "float", bool: "bool"}[field.annotation]
    limits = {key: getattr(m, key) for m in field.metadata for key in ("ge", "gt", "le") if hasattr(m, key)}
    minimum = limits.get("ge", limits.get("gt"))
    extra = field.json_schema_extra
    return Knob(
        name, kind, field.default, extra["stage"], field.title, field.description, extra["unit"], minimum,
        limits.get("le"), extra["step"], choices,
    )  # fmt: skip


def expand_cfg(values: Mapping[str, Given]) -> dict[str, Given]:
    """The values with `cfg` written out as `base_cfg` and `refine_cfg`.

    Raises `SettingsError` if one of the two stands beside `cfg` with another value.
    """
    if "cfg" not in values:
        return dict(values)
    rest = {n: v for n, v in values.items() if n != "cfg"}
    both = [n for n in ("base_cfg", "refine_cfg") if n in rest and rest[n] != values["cfg"]]
    if both:
        raise SettingsError(
            f"cfg sets base_cfg and refine_cfg together, so it cannot stand beside {both[0]}; give one."
        )
    return {**rest, "base_cfg": values["cfg"], "refine_cfg": values["cfg"]}


def check_name(name: str) -> str:
    """`name` if it is a setting (or `cfg`), else `SettingsError` with the nearest name."""
    if name in Settings.model_fields or name == "cfg":
        return name
    raise SettingsError(f"unknown setting '{name}'{_nearest(name)}.")


def parse_value(name: str, text: str) -> Value:
    """The value of a setting that was typed as text (command line, papermill), in its own type: `0.3`, `true`, `DPM++ 2M`.

    Raises `SettingsError` if the text is not of that type; ranges are checked when `Settings` is built.
    """
    kind = "float" if check_name(name) == "cfg" else knobs()[name].kind
    if kind in ("text", "choice"):
        return text
    try:
        value = json.loads(text.strip().lower())
    except json.JSONDecodeError:
        value = text
    if kind == "float" and type(value) is int:
        value = float(value)
    if type(value) is not {"int": int, "float": float, "bool": bool}[kind]:
        raise SettingsError(f"{name} = {text!r} is not {'a number' if kind != 'bool' else 'true or false'}.")
    return value


def _plain(value: object) -> object:
    """A value in Python's own type: a DataFrame's row has numpy's scalars, which strict pydantic refuses."""
    item = getattr(value, "item", None)
    return item() if type(value).__module__ == "numpy" and callable(item) else value


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name, [*Settings.model_fields, "cfg"], n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; the settings are {', '.join(Settings.model_fields)}"


def _sentence(error: ErrorDetails) -> str:
    if not error["loc"]:
        return error["msg"].removeprefix("Value error, ").rstrip(".")
    name = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        return f"unknown setting '{name}'{_nearest(name)}"
    said = error["msg"][0].lower() + error["msg"][1:]
    return f"{name} = {error['input']!r} is not allowed ({said}); it must be {knobs()[name].allowed}"
