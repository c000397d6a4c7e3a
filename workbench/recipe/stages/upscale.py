"""The upscaler: Real-ESRGAN (Wang et al. 2021) or another on the picture, or on the background that faces are pasted into."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel

from workbench.models import (
    REALESRGAN_NAMES,
    DeviceUse,
    upscaler_digest,
    upscaler_identity,
    upscaler_licence,
    upscaler_work,
)
from workbench.settings import register, setting, short_name, stages

from .stage import SPANDREL, Models, PictureStage, Size, versions

if TYPE_CHECKING:
    from workbench.models import Report
    from workbench.settings import Settings
    from workbench.store import Artefact

    from ..restoration import Enlarge

UpscaleMode = Literal["picture", "background"]

OFF = "none"
ALIVE = 1.4 * 2**30  # bytes of x4plus on one tile
BACKGROUND = 300  # its place where faces are restored afterwards: before every stage that mends the picture


class UpscaleSettings(BaseModel):
    """The settings that the upscaler declares."""

    upscaler: str = setting(
        OFF, "Upscaler",
        "Network that enlarges the picture: Real-ESRGAN, none, or a file of models/upscalers (4x-UltraSharp, DAT, SPAN ...).",
        named=(OFF, *REALESRGAN_NAMES), files="upscaler", min_length=1,
    )  # fmt: skip
    upscale_factor: int | float = setting(
        2, "Upscale factor", "Final enlargement: the network's result is brought to it by Lanczos.",
        unit="x", step=0.5, soft=(1, 4), ge=1, le=8, allow_inf_nan=False,
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
    kept = 2
    counters = ("tiles",)
    named_when_off = True

    def active(self, s: Settings) -> bool:
        return s.upscaler != OFF

    def place(self, s: Settings) -> int:
        return BACKGROUND if self.background(s) else self.order

    def background(self, s: Settings) -> bool:
        return s.upscale_mode == "background"

    def effective_settings(self, s: Settings) -> dict[str, object]:
        if s.upscaler in REALESRGAN_NAMES:
            return {"upscaler": s.upscaler, "factor": s.upscale_factor}
        return {"upscaler": "file", "factor": s.upscale_factor, "libraries": versions(*SPANDREL)}

    def quicker(self, s: Settings) -> dict[str, object]:
        return {"upscaler": OFF}

    def weights(self, s: Settings) -> str:
        return upscaler_identity(s.upscaler)

    def models(self, s: Settings) -> Models:
        return {"upscaler": (s.upscaler, partial(upscaler_digest, s.upscaler))}

    def licences(self, s: Settings) -> list[str]:
        return [upscaler_licence(s.upscaler)]

    def size(self, s: Settings, taken: Size) -> Size:
        return (round(taken[0] * s.upscale_factor), round(taken[1] * s.upscale_factor))

    def work(self, s: Settings, megapixels: float) -> float:
        return megapixels * upscaler_work(s.upscaler)

    def memory(self, s: Settings, megapixels: float, batch: int) -> list[DeviceUse]:
        return [DeviceUse((self.name, "other"), {}, ALIVE)]

    def infotext(self, s: Settings) -> dict[str, object]:
        fields: dict[str, object] = {
            "Postprocess upscaler": short_name(s.upscaler),
            "Postprocess upscale by": s.upscale_factor,
        }
        mends = any(
            not stages()[name].makes for name in s.stages if stages()[name].place(s) > BACKGROUND and name != self.name
        )
        return fields | ({"Postprocess upscale mode": s.upscale_mode} if mends else {})

    def load(self, s: Settings) -> Enlarge:
        from ..restoration import Enlarge

        return Enlarge(s)

    def run(
        self, networks: Enlarge, taken: Sequence[Artefact], jobs: Sequence[Settings], report: Report, *, alone: bool
    ) -> list[Artefact]:
        return [networks(taken[-1], jobs[0], report)]


register(Upscale())
