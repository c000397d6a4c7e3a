"""The hires fix: the base's picture enlarged and refined, img2img in SDEdit's way (Meng et al. 2021)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel

from workbench.files import resize
from workbench.models import (
    REALESRGAN_NAMES,
    SCHEDULE_ALIASES,
    Sampler,
    Schedule,
    sampler_steps,
    upscaler_digest,
    upscaler_identity,
    upscaler_licence,
    upscaler_work,
)
from workbench.settings import register, setting, short_name

from ..rows import Denoising
from ..wording import Prompts, own_prompts
from .stage import (
    CFGS,
    SPANDREL,
    STEPS,
    STRENGTHS,
    Cfg,
    DenoisingStage,
    Models,
    Size,
    preview_steps,
    scheduled_steps,
    versions,
)

if TYPE_CHECKING:
    from PIL.Image import Image

    from workbench.models import SamplerSteps
    from workbench.settings import Settings
    from workbench.store import Artefact

    from ..denoising import Diffusion

RESAMPLERS = ("lanczos", "bicubic", "bilinear", "nearest")
StrengthSteps = Literal["scaled", "fixed"]
HiresSampler = Literal["same", Sampler]
HiresSchedule = Literal["same", Schedule]

OWN = ("hires_prompt", "hires_negative_prompt", "hires_sampler", "hires_schedule")


class RefineSettings(BaseModel):
    """The settings that the hires fix declares."""

    hires: bool = setting(True, "Hires fix", "Enlarge the base picture and refine it (SDEdit img2img).")
    refiner: str = setting(
        "auto", "Refiner",
        "What refines. auto: the model's own refiner where it has one, else the base; base: the same checkpoint; or another "
        "model.", min_length=1, before="auto",
    )  # fmt: skip
    hires_scale: float = setting(
        1.5, "Hires scale", "How much the base picture is enlarged; sides round to a multiple of 8.",
        unit="x", step=0.25, ge=1, le=4, allow_inf_nan=False,
    )  # fmt: skip
    resampler: str = setting(
        "lanczos", "Resampler",
        "How the base picture is enlarged: by a filter, by Real-ESRGAN, or by a file of models/upscalers, whose picture is "
        "then brought to the size by Lanczos.", named=(*RESAMPLERS, *REALESRGAN_NAMES), files="upscaler", min_length=1,
    )  # fmt: skip
    strength: float = setting(
        0.35, "Strength", "Denoising strength: how far back into noise the picture is taken; higher changes more.",
        step=0.05, soft=STRENGTHS, gt=0, le=1, allow_inf_nan=False,
    )  # fmt: skip
    refine_steps: int = setting(
        25, "Refine steps", "Steps of the hires fix; how many of them run says Strength steps.",
        unit="steps", step=1, soft=STEPS, ge=1, le=150,
    )  # fmt: skip
    strength_steps: StrengthSteps = setting(
        "scaled", "Strength steps",
        "scaled: int(refine steps x strength) run, as in diffusers; fixed: all run at any strength, as in A1111 and ComfyUI.",
        before="scaled",
    )  # fmt: skip
    hires_sampler: HiresSampler = setting("same", "Hires sampler", "Of the hires fix; same: the base's.", before="same")
    hires_schedule: HiresSchedule = setting(
        "same", "Hires schedule", "Of the hires fix; same: what Schedule says, for the hires sampler.", before="same",
        aliases=SCHEDULE_ALIASES,
    )  # fmt: skip
    hires_prompt: str = setting(
        "",
        "Hires prompt",
        "What the hires fix reads; empty: the picture's prompt.",
        before="",
        empty="the picture's prompt",
    )
    hires_negative_prompt: str = setting(
        "", "Hires negative", "What the hires fix moves away from; empty: the picture's.", before="",
        empty="the picture's negative prompt",
    )  # fmt: skip
    refine_cfg: Cfg = setting(
        7.0, "Refine CFG", "Guidance scale of the refiner; 1 switches guidance off.", step=0.5, soft=CFGS, short="cfg"
    )

    @property
    def refine_evaluations(self) -> int:
        """Denoising steps that the refiner really runs: diffusers' own int(steps * strength), 9 of 25 at 0.36 and 0.37.

        All of them where `strength_steps` is fixed.
        """
        return scheduled_steps(self.refine_steps, self.strength, self.strength_steps)[1]

    @property
    def refine_schedule_steps(self) -> int:
        """Steps of the whole schedule, of which the last `refine_evaluations` run.

        Where `strength_steps` is fixed, int(steps / strength), as in A1111 and ComfyUI.
        """
        return scheduled_steps(self.refine_steps, self.strength, self.strength_steps)[0]

    @property
    def hires_size(self: Settings) -> Size:  # type: ignore[misc]
        """(width, height) after the hires fix, each a multiple of 8 as the VAE needs."""
        return (round(self.width * self.hires_scale / 8) * 8, round(self.height * self.hires_scale / 8) * 8)


class Refine(DenoisingStage):
    name, title, label, order = "refine", "Hires fix and refiner", "Refiner", 200
    settings = RefineSettings
    part = "refiner"
    named_when_off = True
    calls = ("prompt_encodes", "vae_encodes", "vae_decodes")
    open = True
    beside = ("resampler",)
    counters = (*DenoisingStage.counters, "tiles")

    def active(self, s: Settings) -> bool:
        return s.hires

    def check(self, s: Settings) -> None:
        if s.refiner.strip().lower() == "none":
            raise ValueError(
                "refiner = 'none' is no refiner; use hires = false to leave the hires fix out, or refiner = base to refine "
                "with the same checkpoint"
            )
        if s.hires and s.refine_evaluations < 1:
            raise ValueError(
                f"strength {s.strength:g} of {s.refine_steps} refine_steps is 0 denoising steps; "
                f"use strength {1 / s.refine_steps:.3g} or more, hires = false, or strength_steps = fixed"
            )
        super().check(s)

    def idle(self, s: Settings) -> dict[str, str]:
        if not s.hires:
            return {name: "the hires fix is off" for name in OWN if getattr(s, name) not in ("", "same")}
        unread = s.hires_negative_prompt.strip() and s.refine_cfg <= 1
        return {"hires_negative_prompt": "refine_cfg is 1"} if unread else {}

    def prompts_of(self, s: Settings) -> Prompts:
        return own_prompts(s, "hires_prompt", "hires_negative_prompt")

    def sampler_steps(self, s: Settings) -> SamplerSteps:
        sampler = s.sampler if s.hires_sampler == "same" else s.hires_sampler
        schedule = s.schedule if s.hires_schedule == "same" else s.hires_schedule
        try:
            return sampler_steps(sampler, schedule, s.refine_schedule_steps, s.refine_evaluations)
        except ValueError as error:
            of = f" ({s.refine_steps} steps at strength {s.strength:g} are the last of {s.refine_schedule_steps})"
            fixed = of if s.strength_steps == "fixed" else ""
            raise ValueError(
                f"the hires fix{fixed}, by hires_sampler, hires_schedule and refine_steps: {error}"
            ) from None

    def effective_settings(self, s: Settings) -> dict[str, object]:
        """Of the strength only the number of steps is left."""
        steps = {"of_steps": s.refine_schedule_steps, "steps": s.refine_evaluations}
        own = s.resampler in (*RESAMPLERS, *REALESRGAN_NAMES)
        size: dict[str, object] = {"size": list(s.hires_size), "resampler": s.resampler if own else "file"}
        found = self.worded(s)
        if s.resampler not in RESAMPLERS:
            network = ("basicsr", "realesrgan") if own else ("basicsr", "realesrgan", *SPANDREL)
            size |= {"resampler_libraries": versions(*network)}
        return found | steps | size

    def why_equal(self, name: str, value: object, s: Settings) -> str:
        if name != "strength" or not s.hires:
            return ""
        at = s.replace(strength=value)
        return f" (each runs {at.refine_evaluations} of {at.refine_schedule_steps} refine steps)"

    def guidance(self, s: Settings) -> float:
        return s.refine_cfg

    def quicker(self, s: Settings) -> dict[str, object]:
        return {"refine_steps": preview_steps(s.refine_steps, s.strength, s.strength_steps)}

    def smaller(self, s: Settings) -> list[dict[str, object]]:
        return [{"hires_scale": s.hires_scale - 0.25 * i} for i in range(int((s.hires_scale - 1) * 4) + 1)]

    def weights(self, s: Settings) -> list[str]:
        network = [] if s.resampler in RESAMPLERS else [upscaler_identity(s.resampler)]
        return [*super().weights(s), *network]

    def models(self, s: Settings) -> Models:
        network = (
            {} if s.resampler in RESAMPLERS else {"resampler": (s.resampler, partial(upscaler_digest, s.resampler))}
        )
        return {**super().models(s), **network}

    def licences(self, s: Settings) -> list[str]:
        network = [] if s.resampler in RESAMPLERS else [upscaler_licence(s.resampler)]
        return [*super().licences(s), *network]

    def size(self, s: Settings, taken: Size) -> Size:
        return s.hires_size

    def works_at(self, s: Settings, taken: Size) -> Size:
        return s.hires_size

    def work(self, s: Settings, megapixels: float) -> float:
        denoising = self.denoising_work(s, megapixels)
        network = 0 if s.resampler in RESAMPLERS else upscaler_work(s.resampler)
        return denoising + s.width * s.height / 1024**2 * network

    def minimum(self, s: Settings, key: str, taken: Sequence[str]) -> dict[str, Hashable]:
        encoded = (*taken, s.hires_size, s.resampler, self.checkpoint(s))
        return {"prompt_encodes": self.encoded(s), "vae_encodes": encoded, "vae_decodes": key}

    def infotext(self, s: Settings) -> dict[str, object]:
        other: dict[str, object] = {} if s.refiner in ("auto", "base") else {"Hires checkpoint": s.refiner}
        sampler, schedule, *_ = self.sampler_steps(s)
        if s.hires_sampler != "same" or s.hires_schedule != "same":
            other |= {"Hires sampler": sampler, "Hires schedule type": "Automatic" if schedule == "auto" else schedule}
        other |= {"Hires prompt": s.hires_prompt} if s.hires_prompt else {}
        other |= {"Hires negative prompt": s.hires_negative_prompt} if s.hires_negative_prompt else {}
        return other | {
            "Denoising strength": f"{s.strength:g}",
            "Hires upscale": f"{s.hires_scale:g}",
            "Hires resize": "{}x{}".format(*s.hires_size),
            "Hires steps": s.refine_steps,
            "Hires upscaler": s.resampler.capitalize() if s.resampler in RESAMPLERS else short_name(s.resampler),
            "Hires CFG Scale": f"{s.refine_cfg:g}",
        }

    def start(self, diffusion: Diffusion, s: Settings, taken: Sequence[Artefact], keys: Sequence[str]) -> Denoising:
        """The generator goes on where the base left it, so the result equals that of one script that calls both pipelines."""
        before = taken[-1]
        assert before.generator_state is not None
        network = None if s.resampler in RESAMPLERS else upscaler_identity(s.resampler)  # its file may change meanwhile
        key = (keys[-1], s.hires_size, s.resampler, network)
        row = diffusion.img2img(
            self, s, key, lambda: self._enlarged(diffusion, before.image, s), before.generator_state
        )
        return Denoising(self.name, [row], itemgetter(0))

    def _enlarged(self, diffusion: Diffusion, image: Image, s: Settings) -> Image:
        if s.resampler in RESAMPLERS:
            return resize(image, s.hires_size, s.resampler)
        from ..restoration import enlarge, upscaler_on_device

        network = diffusion.beside(
            ("upscaler", s.resampler, upscaler_identity(s.resampler)), lambda: upscaler_on_device(s.resampler)
        )
        return enlarge(network, image, s.hires_size, lambda done, total: diffusion.counts.update(["tiles"]))


register(Refine())
