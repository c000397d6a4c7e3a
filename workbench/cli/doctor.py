"""The command `doctor`: what this machine has and lacks, in sentences."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass

from workbench.errors import CannotWrite, DiskFull, WorkbenchError

from .terminal import Json, say


def doctor(as_json: Json = False) -> None:
    """Say what this machine has: device, weights, detectors, LPIPS, licences. Exit 1 if nothing can be made here.

    Example: workbench doctor
    """
    findings = examine()
    say(
        [finding.to_json() for finding in findings],
        as_json,
        lambda: "\n".join(f"{'ok ' if f.ok else 'no '} {f.what}: {f.said}" for f in findings),
    )
    if bad := [finding.what for finding in findings if finding.needed and not finding.ok]:
        raise WorkbenchError(f"without {' and '.join(bad)} nothing can be made here; what to do is said above.")


@dataclass(frozen=True)
class Finding:
    """What was found of one thing on this machine.

    Attributes:
        what: the thing.
        said: where or what it is; what is wrong with it where it is not `ok`.
        needed: whether nothing can be made without it, by the embedded model either.
    """

    what: str
    said: str
    ok: bool = True
    needed: bool = False

    def to_json(self) -> dict[str, str | bool]:
        return {"what": self.what, "said": self.said, "ok": self.ok, "needed": self.needed}


def examine() -> list[Finding]:
    """Look for everything that the workbench uses."""
    from workbench.files import check_writable, home
    from workbench.models import (
        BASES,
        LICENCES,
        Sdxl,
        codeformer,
        hardware,
        list_models,
        load_dlib_resnet,
        models_folder,
        pipelines,
        retinaface,
        weights,
    )
    from workbench.scores import NotMeasured, fidelity
    from workbench.store import Store, size_words, stats

    def place() -> str:
        try:
            check_writable(home() / "doctor")
        except (CannotWrite, DiskFull) as error:
            why = getattr(error.__cause__, "strerror", error)
            raise WorkbenchError(
                f"{home()} cannot be written, and what is made is kept there ({why}); name another folder in WORKBENCH_HOME"
            ) from None
        return f"{home()}"

    def embedded() -> str:
        folder = weights.model_path("embedded")
        codeformer.load_codeformer(weights.restorer_path(folder))
        retinaface.load_retinaface()
        sdxl = Sdxl("embedded", "", "auto", "auto")
        pipelines.load_refiner(sdxl, pipelines.load_base(sdxl))
        return "base, refiner, restorer and face detector load"

    def real() -> str:
        found = [info.path.name for info in list_models() if info.usable and info.kind in BASES]
        if not found:
            raise WorkbenchError(
                f"there is no SDXL checkpoint in {models_folder()}; put one there (README, 'Real weights')"
            )
        return f"{', '.join(found)} in {models_folder()}"

    def real_restorer() -> str:
        folder = models_folder() / "sdxl"
        return f"{weights.restorer_path(folder if folder.is_dir() else models_folder())}"

    def lpips() -> str:
        backbone = fidelity.lpips_backbone()
        if isinstance(backbone, NotMeasured):
            raise WorkbenchError(f"not measured: {backbone.reason}")
        return f"backbone at {backbone.name}"

    def identity() -> str:
        load_dlib_resnet()
        return "dlib's recognition network loads"

    def store() -> str:
        found = stats(Store.at_home())
        free = f", {size_words(found.free)} are free" if found.free is not None else ""
        return f"{found.store} holds {size_words(found.together.bytes)} of finished stages{free}"

    return [
        _finding("python", lambda: platform.python_version(), needed=True),
        _finding("device", hardware.backend, needed=True),
        _finding("home", place, needed=True),
        _finding("embedded model", embedded, needed=True),
        _finding("real SDXL", real),
        _finding("CodeFormer", real_restorer),
        _finding("LPIPS", lpips),
        _finding("identity drift", identity),
        _finding("disk", store, needed=True),
        *(Finding("licence", text) for text in LICENCES.values()),
    ]


def _finding(what: str, look: Callable[[], str], *, needed: bool = False) -> Finding:
    try:
        return Finding(what, look(), needed=needed)
    except (WorkbenchError, OSError) as error:
        return Finding(what, str(error), ok=False, needed=needed)
