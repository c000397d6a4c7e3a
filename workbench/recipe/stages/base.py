"""The base: SDXL makes a picture from noise and a prompt (Podell et al. 2023)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel

from workbench.models import SCHEDULE_ALIASES, Dtype, Sampler, Schedule, sampler_steps
from workbench.settings import MAX_SEED, register, setting, stages

from ..prompt_syntax import PromptSyntax
from ..rows import Denoising
from .stage import BASE_PASS, CFGS, DECODE, SIDES, STEPS, Cfg, DenoisingStage, Size, tflop

if TYPE_CHECKING:
    from workbench.models import SamplerSteps
    from workbench.settings import Settings
    from workbench.store import Artefact

    from ..denoising import Diffusion

NEGATIVE_PROMPT = (
    "blurry, deformed, bad eyes, low quality, bad anatomy, extra limbs, disfigured, lowres, jpeg artifacts"
)

PREVIEW_STEPS = 10


SIZES = {  # of a megapixel, in the proportions that SDXL was trained on
    f"{width}x{height} {shape}": {"width": width, "height": height}
    for width, height, shape in (
        (1024, 1024, "square"), (896, 1152, "portrait"), (832, 1216, "portrait"), (768, 1344, "tall"),
        (1152, 896, "landscape"), (1216, 832, "landscape"), (1344, 768, "wide"),
    )
}  # fmt: skip


class BaseSettings(BaseModel):
    """The settings that the base declares; later stages read some of them, too."""

    prompt: str = setting(
        "portrait photo of a woman, looking at the camera, natural light, sharp focus",
        "Prompt", "What the picture shows; base and refiner both read it.",
    )  # fmt: skip
    negative_prompt: str = setting(
        NEGATIVE_PROMPT, "Negative prompt", "What guidance moves away from; without effect at CFG 1."
    )
    prompt_syntax: PromptSyntax = setting(
        "webui", "Prompt syntax",
        "webui: (word:1.2), [word], BREAK, <lora:name:0.8> and any length, as in A1111; plain: every character is text, and "
        "75 tokens are read.", before="plain",
    )  # fmt: skip
    clip_skip: int = setting(
        0, "CLIP skip", "Layers of the text encoders left out behind the one that SDXL reads (0 is A1111's 2, 1 its 3).",
        unit="layers", step=1, ge=0, le=11, before=0,
    )  # fmt: skip
    loras: str = setting(
        "", "LoRAs", "Files of models/loras (or paths) with weights: detail:0.8, skin:0.4. Empty: none.",
        before="", items="lora", empty="none",
    )  # fmt: skip
    seed: int = setting(
        0, "Seed", "Start of the random generator that is carried through base and refiner; -1 draws one.",
        step=1, ge=-1, le=MAX_SEED, why="larger ones are not exact in JSON and JavaScript",
    )  # fmt: skip
    width: int = setting(
        1024, "Width", "Base picture width.", unit="px", step=64, soft=SIDES, ge=64, le=4096, multiple_of=8
    )
    height: int = setting(
        1024, "Height", "Base picture height.", unit="px", step=64, soft=SIDES, ge=64, le=4096, multiple_of=8
    )
    steps: int = setting(
        35, "Base steps", "Denoising steps of the base.", unit="steps", step=1, soft=STEPS, ge=1, le=150
    )
    sampler: Sampler = setting(
        "DPM++ 2M Karras", "Sampler", "Of the base, and of the hires fix where that has none of its own."
    )
    schedule: Schedule = setting(
        "auto", "Schedule",
        "Noise levels of the steps; auto: what the sampler's name says, else the model's own. Trailing is SGM Uniform.",
        before="auto", aliases=SCHEDULE_ALIASES,
    )  # fmt: skip
    base_cfg: Cfg = setting(
        7.0, "Base CFG", "Guidance scale of the base; 1 switches guidance off.", step=0.5, soft=CFGS, short="cfg"
    )
    model: str = setting(
        "sdxl", "Model",
        "A .safetensors file or diffusers folder: its name under WORKBENCH_HOME/models, a path, a hub id; or 'embedded'.",
        min_length=1,
    )  # fmt: skip
    vae: str = setting(
        "", "VAE", "File or folder of another SDXL VAE; empty: the model's own.", empty="the model's own"
    )
    dtype: Dtype = setting(
        "auto", "Precision", "Of the SDXL networks; auto: float16 on a GPU, else float32.", before="auto"
    )
    vae_tiling: bool = setting(
        False, "Tiled VAE",
        "Take pictures larger than 1024 px through the VAE in tiles: less memory, but other pixels, with steps of tone.",
        before=False,
    )  # fmt: skip


class Base(DenoisingStage):
    name, title, label, order = "base", "Base", "Base", 100
    settings = BaseSettings
    part = "base"
    named_when_off = True
    together: ClassVar = {"Size": SIZES}
    calls = ("prompt_encodes", "vae_decodes")

    def effective_settings(self, s: Settings) -> dict[str, object]:
        size = {"width": s.width, "height": s.height, "steps": s.steps, "seed": s.seed}
        return self.worded(s) | size

    def guidance(self, s: Settings) -> float:
        return s.base_cfg

    def sampler_steps(self, s: Settings) -> SamplerSteps:
        return sampler_steps(s.sampler, s.schedule, s.steps)

    def idle(self, s: Settings) -> dict[str, str]:
        written = s.negative_prompt not in ("", NEGATIVE_PROMPT)
        denoising = [stage for name in s.stages if isinstance(stage := stages()[name], DenoisingStage)]
        unread = written and all(stage.guidance(s) <= 1 for stage in denoising)
        return {"negative_prompt": "CFG is 1"} if unread else {}

    def quicker(self, s: Settings) -> dict[str, object]:
        return {"steps": min(s.steps, PREVIEW_STEPS)}

    def smaller(self, s: Settings) -> list[dict[str, object]]:
        shares = (7 / 8, 3 / 4, 5 / 8, 1 / 2)
        sides = ("width", "height")
        return [{}, *({side: max(64, round(getattr(s, side) * share / 64) * 64) for side in sides} for share in shares)]

    def size(self, s: Settings, taken: Size) -> Size:
        return (s.width, s.height)

    def works_at(self, s: Settings, taken: Size) -> Size:
        return (s.width, s.height)

    def work(self, s: Settings, megapixels: float) -> float:
        passes = self.unet_evaluations(s) * (2 if s.base_cfg > 1 else 1)
        return passes * tflop(BASE_PASS, megapixels) + tflop(DECODE, megapixels)

    def minimum(self, s: Settings, key: str, taken: Sequence[str]) -> dict[str, Hashable]:
        return {"prompt_encodes": self.encoded(s), "vae_decodes": key}

    def infotext(self, s: Settings) -> dict[str, object]:
        sampler, schedule, *_ = self.sampler_steps(s)
        fields: dict[str, object] = {
            "Steps": s.steps,
            "Sampler": sampler,
            "Schedule type": "Automatic" if schedule == "auto" else schedule,
            "CFG scale": f"{s.base_cfg:g}",
            "Seed": s.seed,
            "Size": f"{s.width}x{s.height}",
            "Model": s.model,
        }
        fields |= {"VAE": s.vae} if s.vae else {}
        return fields | ({"Clip skip": s.clip_skip + 2} if s.clip_skip else {})

    def start(self, diffusion: Diffusion, s: Settings, taken: Sequence[Artefact], keys: Sequence[str]) -> Denoising:
        """From noise: one CPU generator of this seed draws it."""
        import torch

        pipe, generator = diffusion.base, torch.Generator("cpu").manual_seed(s.seed)
        wording = self.wording(s)
        text = diffusion.text("base", wording)
        diffusion.sampler("base", self.sampler_steps(s), s.seed)
        latents = pipe.prepare_latents(
            1, pipe.unet.config.in_channels, s.height, s.width, text.positive.dtype, diffusion.device, generator
        )
        size = (s.height, s.width)
        ids = pipe._get_add_time_ids(
            size,
            (0, 0),
            size,
            dtype=text.positive.dtype,
            text_encoder_projection_dim=diffusion.projection("base", text),
        ).to(diffusion.device)
        if set_begin_index := getattr(pipe.scheduler, "set_begin_index", None):  # DDIM keeps no index
            set_begin_index(0)
        row = diffusion.row(
            self,
            s.base_cfg,
            latents,
            pipe.scheduler.timesteps,
            generator,
            text,
            time_ids=ids,
            negative_time_ids=ids,
            loras=wording.loras,
        )
        return Denoising(self.name, [row], itemgetter(0))


register(Base())
