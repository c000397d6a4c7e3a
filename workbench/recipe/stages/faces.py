"""The face restorer: every face cut out, restored at 512 px by CodeFormer (Zhou et al. 2022) and pasted back."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel

from workbench.models import LICENCES
from workbench.settings import register, setting

from .stage import PictureStage

if TYPE_CHECKING:
    from workbench.models import Report
    from workbench.settings import Settings
    from workbench.store import Artefact

    from ..restoration import RestoreFaces

Restorer = Literal["codeformer", "none"]
Detector = Literal["retinaface_mobile0.25", "retinaface_resnet50"]

FIND, RESTORE = 0.17, 0.81  # TFLOP: finding faces in a megapixel, CodeFormer on one face; by torch's flop counter
ALIVE = 0.55 * 2**30  # bytes of CodeFormer on one face in float32


class FacesSettings(BaseModel):
    """The settings that the face restorer declares."""

    restorer: Restorer = setting("codeformer", "Face restorer", "CodeFormer is for non-commercial use only.")
    weight: float = setting(
        0.6, "CodeFormer weight", "0 = quality (the restorer's own face), 1 = fidelity (the face it was given).",
        step=0.05, ge=0, le=1, allow_inf_nan=False,
    )  # fmt: skip
    detector: Detector = setting("retinaface_mobile0.25", "Face detector", "Finds and aligns the faces.")


class Faces(PictureStage):
    name, title, label, order = "faces", "Face restorer", "Faces", 400
    settings = FacesSettings
    networks = ("restorer", "detector", "model")
    shares = ("weight",)
    libraries = ("torch", "facexlib", "spandrel", "spandrel-extra-arches", "opencv-python-headless", "numpy")
    calls = counters = ("detections", "prefixes", "weights")
    open = True
    named_when_off = True

    def active(self, s: Settings) -> bool:
        return s.restorer != "none"

    def effective_settings(self, s: Settings) -> dict[str, object]:
        return {"restorer": s.restorer, "weight": s.weight, "detector": s.detector}

    def weights(self, s: Settings) -> list[str]:
        from workbench.models import restoring_identity

        return restoring_identity(s.model, s.detector)

    def licences(self, s: Settings) -> list[str]:
        return [LICENCES[s.restorer]]

    def work(self, s: Settings, megapixels: float) -> float:
        return megapixels * FIND + RESTORE

    def memory(self, s: Settings, megapixels: float, batch: int) -> tuple[dict[str, int], float]:
        from workbench.models import model_path, restorer_path

        file = restorer_path(model_path(s.model))
        return {str(file): file.stat().st_size}, ALIVE

    def minimum(self, s: Settings, key: str, taken: Sequence[str]) -> dict[str, Hashable]:
        found = (taken[0], s.detector)
        return {"detections": found, "prefixes": found, "weights": key}

    def infotext(self, s: Settings) -> dict[str, object]:
        return {"Face restoration": "CodeFormer", "CodeFormer weight": f"{s.weight:g}"}

    def load(self, s: Settings) -> RestoreFaces:
        from ..restoration import RestoreFaces

        return RestoreFaces(s)

    def run(
        self,
        networks: RestoreFaces,
        taken: Sequence[Artefact],
        jobs: Sequence[Settings],
        report: Report,
        *,
        alone: bool,
    ) -> list[Artefact]:
        before, onto = taken[0], taken[1] if len(taken) > 1 else None
        return [networks(before, jobs[0], report, onto)] if alone else networks.many(before, jobs, report, onto)


register(Faces())
