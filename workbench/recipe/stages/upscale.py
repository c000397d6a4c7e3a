"""The upscaler: Real-ESRGAN (Wang et al. 2021) on the finished picture, or on the background that faces are pasted into."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel

from workbench.models import LICENCES
from workbench.settings import register, setting, stages

from .stage import PictureStage, Size

if TYPE_CHECKING:
    from workbench.models import Report
    from workbench.settings import Settings
    from workbench.store import Artefact

    from ..restoration import Enlarge

Upscaler = Literal["none", "realesrgan-x4plus", "realesr-animevideov3"]
UpscaleMode = Literal["picture", "background"]

WORK = {"realesrgan-x4plus": 37.6, "realesr-animevideov3": 1.3}  # TFLOP a megapixel, by torch's flop counter
ALIVE = 1.4 * 2**30  # bytes of x4plus on one tile
BACKGROUND = 300  # its place where faces are restored afterwards: before every stage that mends the picture


class UpscaleSettings(BaseModel):
    """The settings that the upscaler declares."""

    upscaler: Upscaler = setting("none", "Upscaler", "Real-ESRGAN network that enlarges the picture.")
    upscale_factor: int = setting(
        2, "Upscale factor", "Final enlargement; 2 is the x4 network's result halved.",
        unit="x", step=2, ge=2, le=4, multiple_of=2,
    )  # fmt: skip
    upscale_mode: UpscaleMode = setting(
        "picture", "Upscale mode",
        "picture: enlarge the finished picture; background: enlarge before faces are restored and paste them in there, so "
        "that all weights share it.",
    )  # fmt: skip


class Upscale(PictureStage):
    name, title, label, order = "upscale", "Upscaler", "Upscaler", 500
    settings = UpscaleSettings
    networks = ("upscaler",)
    libraries = ("torch", "basicsr", "realesrgan", "pillow")
    counters = ("tiles",)
    named_when_off = True

    def active(self, s: Settings) -> bool:
        return s.upscaler != "none"

    def place(self, s: Settings) -> int:
        return BACKGROUND if self.background(s) else self.order

    def background(self, s: Settings) -> bool:
        return s.upscale_mode == "background"

    def effective_settings(self, s: Settings) -> dict[str, object]:
        return {"upscaler": s.upscaler, "factor": s.upscale_factor}

    def quicker(self, s: Settings) -> dict[str, object]:
        return {"upscaler": "none"}

    def weights(self, s: Settings) -> str:
        from workbench.models import realesrgan_identity

        return realesrgan_identity()

    def licences(self, s: Settings) -> list[str]:
        return [LICENCES["realesrgan"]]

    def size(self, s: Settings, taken: Size) -> Size:
        return (taken[0] * s.upscale_factor, taken[1] * s.upscale_factor)

    def work(self, s: Settings, megapixels: float) -> float:
        return megapixels * WORK.get(s.upscaler, WORK["realesrgan-x4plus"])

    def memory(self, s: Settings, megapixels: float, batch: int) -> tuple[dict[str, int], float]:
        return {}, ALIVE

    def infotext(self, s: Settings) -> dict[str, object]:
        fields: dict[str, object] = {"Postprocess upscaler": s.upscaler, "Postprocess upscale by": s.upscale_factor}
        mends = any(not stages()[name].makes for name in s.stages if name != self.name)
        return fields | ({"Postprocess upscale mode": s.upscale_mode} if mends else {})

    def load(self, s: Settings) -> Enlarge:
        from ..restoration import Enlarge

        return Enlarge(s)

    def run(
        self, networks: Enlarge, taken: Sequence[Artefact], jobs: Sequence[Settings], report: Report, *, alone: bool
    ) -> list[Artefact]:
        return [networks(taken[-1], jobs[0], report)]


register(Upscale())
