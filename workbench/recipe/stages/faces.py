"""The face restorer: every face cut out, restored at 512 px by CodeFormer (Zhou et al. 2022) or another, and pasted back."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel

from workbench.errors import WorkbenchError
from workbench.files import file_sha256
from workbench.models import (
    CODEFORMER,
    RESTORER_FILES,
    UNKNOWN,
    DeviceUse,
    detector_digest,
    detector_identity,
    licence_of,
    model_path,
    restorer_file,
    restorer_kind,
)
from workbench.settings import register, setting, short_name

from .stage import Models, PictureStage

if TYPE_CHECKING:
    from workbench.models import Report, RestorerKind
    from workbench.settings import Settings
    from workbench.store import Artefact

    from ..restoration import RestoreFaces

Detector = Literal["retinaface_mobile0.25", "retinaface_resnet50"]

OFF = "none"
FIND, RESTORE = 0.17, 0.81  # TFLOP: finding faces in a megapixel, CodeFormer on one face; by torch's flop counter
ALIVE = 0.55 * 2**30  # bytes of CodeFormer on one face in float32


class FacesSettings(BaseModel):
    """The settings that the face restorer declares."""

    restorer: str = setting(
        CODEFORMER, "Face restorer",
        "codeformer (for non-commercial use only), none, or a file of models/restorers: CodeFormer, GFPGAN, RestoreFormer.",
        named=(CODEFORMER, OFF), files="restorer", min_length=1,
    )  # fmt: skip
    weight: float = setting(
        0.6, "CodeFormer weight",
        "0 = quality (the restorer's own face), 1 = fidelity (the face it was given); GFPGAN and RestoreFormer have none.",
        step=0.05, ge=0, le=1, allow_inf_nan=False,
    )  # fmt: skip
    restore_visibility: float = setting(
        1.0, "Restore visibility", "How much of the restored face is pasted over the one before; 0: nothing, 1: all.",
        step=0.05, ge=0, le=1, allow_inf_nan=False, before=1.0,
    )  # fmt: skip
    detector: Detector = setting("retinaface_mobile0.25", "Face detector", "Finds and aligns the faces.")


class Faces(PictureStage):
    name, title, label, order = "faces", "Face restorer", "Faces", 400
    settings = FacesSettings
    networks = ("restorer", "detector", "model")
    shares = ("weight", "restore_visibility")
    version = 2  # 2: grey stays grey
    libraries = ("torch", "facexlib", "spandrel", "spandrel-extra-arches", "opencv-python-headless", "numpy")
    calls = counters = ("detections", "prefixes", "weights")
    open = True
    named_when_off = True
    kept = 3

    def active(self, s: Settings) -> bool:
        return s.restorer != OFF

    def kind(self, s: Settings) -> RestorerKind:
        """What the restorer is. Raises `MissingWeights`, `CorruptWeights`, `WrongModel`."""
        return restorer_kind(s.restorer)

    def effective_settings(self, s: Settings) -> dict[str, object]:
        kind = self.kind(s)
        found: dict[str, object] = {"restorer": kind.name.lower(), "detector": s.detector}
        found |= {"weight": s.weight} if kind.fidelity else {}
        return found | ({"restore_visibility": s.restore_visibility} if s.restore_visibility != 1 else {})

    def why_equal(self, name: str, value: object, s: Settings) -> str:
        if name != "weight" or not self.active(s) or (kind := self.kind(s)).fidelity:
            return ""
        return f" ({kind.name} has no weight)"

    def idle(self, s: Settings) -> dict[str, str]:
        if not self.active(s):
            return {}
        kind, usual = self.kind(s), FacesSettings.model_fields["weight"].default
        return {} if kind.fidelity or s.weight == usual else {"weight": f"{kind.name} has none"}

    def weights(self, s: Settings) -> list[str]:
        return [file_sha256(restorer_file(s.restorer, model_path(s.model))), detector_identity(s.detector)]

    def models(self, s: Settings) -> Models:
        return {
            "restorer": (s.restorer, lambda: file_sha256(restorer_file(s.restorer, model_path(s.model)))),
            "detector": (s.detector, partial(detector_digest, s.detector)),
        }

    def licences(self, s: Settings) -> list[str]:
        """Of the network; where its file is not on this machine, of none."""
        try:
            found = [self.kind(s).licence]
        except WorkbenchError:
            return [f"face restorer {s.restorer}: {UNKNOWN}"]
        own = "" if s.restorer == CODEFORMER else licence_of(short_name(s.restorer), RESTORER_FILES.find(s.restorer))
        return found if not own or own.endswith(UNKNOWN) else [*found, f"face restorer {own}"]

    def work(self, s: Settings, megapixels: float) -> float:
        return megapixels * FIND + RESTORE

    def memory(self, s: Settings, megapixels: float, batch: int) -> list[DeviceUse]:
        file = restorer_file(s.restorer, model_path(s.model))
        return [DeviceUse((self.name, "other"), {str(file): file.stat().st_size}, ALIVE)]

    def minimum(self, s: Settings, key: str, taken: Sequence[str]) -> dict[str, Hashable]:
        found = (taken[0], s.detector)
        restored = (*found, s.restorer)
        weight = s.weight if self.kind(s).fidelity else None
        return {"detections": found, "prefixes": restored, "weights": (*restored, weight)}

    def infotext(self, s: Settings) -> dict[str, object]:
        name = "CodeFormer" if s.restorer == CODEFORMER else s.restorer
        try:
            kind = self.kind(s)
        except WorkbenchError:  # its file is on another machine
            return {"Face restoration": name}
        fields: dict[str, object] = {"Face restoration": kind.name}
        fields |= {"Face restorer file": short_name(s.restorer)} if s.restorer != CODEFORMER else {}
        fields |= {"CodeFormer weight": f"{s.weight:g}"} if kind.fidelity else {}
        visible = {f"{kind.name} visibility": f"{s.restore_visibility:g}"}
        return fields | (visible if s.restore_visibility != 1 else {})

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
