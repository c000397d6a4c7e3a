"""The face detailer: every face cut out, enlarged, refined by img2img and pasted back, as ADetailer and FaceDetailer do.

It is plain img2img with a soft mask at the end: SDXL's inpainting pipeline leaves hard seams.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel

from workbench.models import Sampler, detector_digest, detector_identity, sampler_steps
from workbench.settings import register, setting

from ..wording import Prompts, own_prompts
from .faces import FIND
from .stage import SIDES, STEPS, STRENGTHS, DenoisingStage, Models, Size, preview_steps, scheduled_steps

if TYPE_CHECKING:
    from workbench.models import SamplerSteps
    from workbench.settings import Settings
    from workbench.store import Artefact

    from ..denoising import Diffusion
    from ..rows import Denoising

DetailSampler = Literal["same", Sampler]
DetailMask = Literal["ellipse", "box"]

REACH = 2.5  # of a Gaussian's standard deviations: what lies beyond is below a level of 255


class DetailSettings(BaseModel):
    """The settings that the face detailer declares."""

    detail: bool = setting(
        False,
        "Face detailer",
        "Cut each face out, enlarge it, refine it by img2img and paste it back, as ADetailer does.",
    )
    detail_strength: float = setting(
        0.4, "Detail strength", "Denoising strength on the face; higher changes more of it.",
        step=0.05, soft=STRENGTHS, gt=0, le=1, allow_inf_nan=False,
    )  # fmt: skip
    detail_steps: int = setting(
        25, "Detail steps", "Steps of the detailer; how many of them run says Strength steps.",
        unit="steps", step=1, soft=STEPS, ge=1, le=150,
    )  # fmt: skip
    detail_cfg: float = setting(
        0.0, "Detail CFG", "Guidance scale of the detailer; 0: the hires fix's, 1 switches guidance off.",
        step=0.5, soft=(0, 15), ge=0, le=30, allow_inf_nan=False,
    )  # fmt: skip
    detail_size: int = setting(
        1024, "Detail size", "Longer side of the face's crop while it is refined; larger crops keep their size.",
        unit="px", step=64, soft=SIDES, ge=64, le=2048, multiple_of=8,
    )  # fmt: skip
    detail_sampler: DetailSampler = setting(
        "same", "Detail sampler", "Of the detailer, with the schedule in its name; same: the base's, with its schedule."
    )
    detail_prompt: str = setting(
        "", "Detail prompt", "What the detailer reads; empty: the picture's prompt.", empty="the picture's prompt"
    )
    detail_negative_prompt: str = setting(
        "", "Detail negative prompt", "What the detailer moves away from; empty: the picture's.",
        empty="the picture's negative prompt",
    )  # fmt: skip
    detail_faces: int = setting(5, "Faces to detail", "At most as many, the largest first.", step=1, ge=1, le=32)
    detail_confidence: float = setting(
        0.97, "Detail confidence", "The detector's score from which on it is a face.",
        step=0.01, ge=0.1, le=1, allow_inf_nan=False,
    )  # fmt: skip
    detail_min_ratio: float = setting(
        0.0, "Smallest face", "Share of the picture's area that a face's box must be larger than.",
        step=0.005, soft=(0, 0.2), ge=0, le=1, allow_inf_nan=False,
    )  # fmt: skip
    detail_padding: int = setting(
        48,
        "Detail padding",
        "Surroundings of the face in its crop; at least what its mask needs.",
        unit="px",
        step=8,
        soft=(0, 256),
        ge=0,
        le=512,
    )
    detail_mask: DetailMask = setting(
        "ellipse", "Detail mask", "What is pasted back: the ellipse in the face's box, or the box."
    )
    detail_dilate: int = setting(
        4,
        "Mask dilation",
        "How much larger than the face the mask is on each side.",
        unit="px",
        step=1,
        soft=(-32, 32),
        ge=-128,
        le=128,
    )
    detail_blur: int = setting(
        8, "Mask blur", "Standard deviation of the mask's soft edge.", unit="px", step=1, ge=0, le=64
    )


class Detail(DenoisingStage):
    name, title, label, order = "detail", "Face detailer", "Detailer", 250
    settings = DetailSettings
    part = "refiner"
    makes = False
    beside = ("detector",)
    libraries = (*DenoisingStage.libraries, "facexlib", "opencv-python-headless", "numpy")
    calls = ("prompt_encodes", "vae_encodes", "vae_decodes", "detections")
    counters = (*DenoisingStage.counters, "detections")

    def active(self, s: Settings) -> bool:
        return s.detail

    def check(self, s: Settings) -> None:
        if s.detail and self._steps(s)[1] < 1:
            raise ValueError(
                f"detail_strength {s.detail_strength:g} of {s.detail_steps} detail_steps is 0 denoising steps; use "
                f"detail_strength {1 / s.detail_steps:.3g} or more, detail = false, or strength_steps = fixed"
            )
        super().check(s)

    def idle(self, s: Settings) -> dict[str, str]:
        fields = DetailSettings.model_fields
        if not s.detail:
            written = [name for name, field in fields.items() if getattr(s, name) != field.default]
            return dict.fromkeys(written, "detail is off")
        unread = s.detail_negative_prompt.strip() and self.guidance(s) <= 1
        return {"detail_negative_prompt": "the detailer's CFG is 1"} if unread else {}

    def prompts_of(self, s: Settings) -> Prompts:
        return own_prompts(s, "detail_prompt", "detail_negative_prompt")

    def guidance(self, s: Settings) -> float:
        return s.detail_cfg or s.refine_cfg

    def padding(self, s: Settings) -> int:
        """Surroundings of a face in its crop, px: what is asked for, or as much as the mask's soft edge needs."""
        return max(s.detail_padding, s.detail_dilate + math.ceil(REACH * s.detail_blur) + 2)

    def _steps(self, s: Settings) -> tuple[int, int]:
        return scheduled_steps(s.detail_steps, s.detail_strength, s.strength_steps)

    def sampler_steps(self, s: Settings) -> SamplerSteps:
        same = s.detail_sampler == "same"
        sampler, schedule = (s.sampler, s.schedule) if same else (s.detail_sampler, "auto")
        try:
            return sampler_steps(sampler, schedule, *self._steps(s))
        except ValueError as error:
            raise ValueError(f"the detailer, by detail_sampler and detail_steps: {error}") from None

    def effective_settings(self, s: Settings) -> dict[str, object]:
        of_steps, steps = self._steps(s)
        return self.worded(s) | {
            "of_steps": of_steps,
            "steps": steps,
            "seed": s.seed,
            "detector": s.detector,
            "size": s.detail_size,
            "faces": s.detail_faces,
            "confidence": s.detail_confidence,
            "min_ratio": s.detail_min_ratio,
            "padding": self.padding(s),
            "mask": [s.detail_mask, s.detail_dilate, s.detail_blur],
        }

    def why_equal(self, name: str, value: object, s: Settings) -> str:
        if name != "detail_strength" or not s.detail:
            return ""
        of_steps, steps = self._steps(s.replace(detail_strength=value))
        return f" (each runs {steps} of {of_steps} detail steps)"

    def quicker(self, s: Settings) -> dict[str, object]:
        return {"detail_steps": preview_steps(s.detail_steps, s.detail_strength, s.strength_steps)} if s.detail else {}

    def smaller(self, s: Settings) -> list[dict[str, object]]:
        return [{}, *({"detail_size": size} for size in (768, 512) if size < s.detail_size)]

    def weights(self, s: Settings) -> list[str]:
        return [*super().weights(s), detector_identity(s.detector)]

    def models(self, s: Settings) -> Models:
        return {**super().models(s), "detector": (s.detector, partial(detector_digest, s.detector))}

    def works_at(self, s: Settings, taken: Size) -> Size:
        return (s.detail_size, s.detail_size)

    def work(self, s: Settings, megapixels: float) -> float:
        """Of one face: how many there are is not known before."""
        return self.denoising_work(s, megapixels) + FIND

    def minimum(self, s: Settings, key: str, taken: Sequence[str]) -> dict[str, Hashable]:
        found = (*taken, s.detector, s.detail_confidence)
        crops = (
            *found,
            s.detail_faces,
            s.detail_min_ratio,
            self.padding(s),
            s.detail_size,
            s.seed,
            self.checkpoint(s),
        )
        return {"prompt_encodes": self.encoded(s), "vae_encodes": crops, "vae_decodes": key, "detections": found}

    def infotext(self, s: Settings) -> dict[str, object]:
        """ADetailer's own names (its args.py, 25.3.0), so that other tools read them.

        Without its confidence, which is of another detector: at 0.97 its YOLO finds few faces.
        """
        sampler, schedule, *_ = self.sampler_steps(s)
        fields: dict[str, object] = {"ADetailer model": "face_yolov8n.pt"}
        fields |= {"ADetailer prompt": s.detail_prompt} if s.detail_prompt.strip() else {}
        fields |= {"ADetailer negative prompt": s.detail_negative_prompt} if s.detail_negative_prompt.strip() else {}
        fields |= {"ADetailer mask only top k": s.detail_faces}
        fields |= {"ADetailer mask min ratio": f"{s.detail_min_ratio:g}"} if s.detail_min_ratio else {}
        return fields | {
            "ADetailer dilate erode": s.detail_dilate,
            "ADetailer mask blur": s.detail_blur,
            "ADetailer denoising strength": f"{s.detail_strength:g}",
            "ADetailer inpaint only masked": True,
            "ADetailer inpaint padding": s.detail_padding,
            "ADetailer use inpaint width height": True,
            "ADetailer inpaint width": s.detail_size,
            "ADetailer inpaint height": s.detail_size,
            "ADetailer use separate steps": True,
            "ADetailer steps": self._steps(s)[0],
            "ADetailer use separate CFG scale": True,
            "ADetailer CFG scale": f"{self.guidance(s):g}",
            "ADetailer use separate sampler": True,
            "ADetailer sampler": sampler,
            "ADetailer scheduler": "Automatic" if schedule == "auto" else schedule,
        }

    def start(self, diffusion: Diffusion, s: Settings, taken: Sequence[Artefact], keys: Sequence[str]) -> Denoising:
        """The generator of face n starts at the picture's seed + n."""
        from ..detailing import start

        return start(self, diffusion, s, taken[-1], keys[-1])


register(Detail())
