"""A stage from outside the workbench: fewer shades of each colour. Importing this registers it; nothing else knows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import ImageOps
from pydantic import BaseModel

from workbench.recipe import PictureStage
from workbench.settings import Settings, register, setting
from workbench.store import Artefact


class PosteriseSettings(BaseModel):
    shades: int = setting(0, "Shades", "Bits of each colour that are kept; 0 keeps all.", step=1, ge=0, le=8)


class Posterise(PictureStage):
    name, title, label, order = "posterise", "Fewer shades", "Shades", 450
    settings = PosteriseSettings

    def active(self, s: Settings) -> bool:
        return getattr(s, "shades") > 0  # noqa: B009 (a type checker knows the workbench's own settings only)

    def effective_settings(self, s: Settings) -> dict[str, object]:
        return {"shades": getattr(s, "shades")}  # noqa: B009

    def infotext(self, s: Settings) -> dict[str, object]:
        return {"Shades": getattr(s, "shades")}  # noqa: B009

    def run(
        self, networks: Any, taken: Sequence[Artefact], jobs: Sequence[Settings], report: Any, *, alone: bool
    ) -> list[Artefact]:
        report(self.name, 0, 1)
        made = ImageOps.posterize(taken[-1].image, getattr(jobs[0], "shades"))  # noqa: B009
        report(self.name, 1, 1)
        return [Artefact(made, info={"shades": getattr(jobs[0], "shades")})]  # noqa: B009


register(Posterise())
