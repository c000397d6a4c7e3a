"""A stage from outside the workbench: fewer shades of each colour. Importing this registers it; nothing else knows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import ImageOps
from pydantic import BaseModel

from workbench.recipe import PictureStage
from workbench.settings import register, setting
from workbench.store import Artefact


class PosteriseSettings(BaseModel):
    shades: int = setting(0, "Shades", "Bits of each colour that are kept; 0 keeps all.", step=1, ge=0, le=8)


class Posterise(PictureStage):
    name, title, label, order = "posterise", "Fewer shades", "Shades", 450
    settings = PosteriseSettings

    def active(self, s: Any) -> bool:
        return s.shades > 0

    def effective_settings(self, s: Any) -> dict[str, object]:
        return {"shades": s.shades}

    def infotext(self, s: Any) -> dict[str, object]:
        return {"Shades": s.shades}

    def run(
        self, networks: Any, taken: Sequence[Artefact], jobs: Sequence[Any], report: Any, *, alone: bool
    ) -> list[Artefact]:
        report(self.name, 0, 1)
        made = ImageOps.posterize(taken[-1].image, jobs[0].shades)
        report(self.name, 1, 1)
        return [Artefact(made, info={"shades": jobs[0].shades})]


register(Posterise())
