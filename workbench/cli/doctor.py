"""What this machine has and lacks, in sentences."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

from workbench.errors import WorkbenchError
from workbench.store import Store, size_words, stats


def examine() -> list[dict[str, Any]]:
    """Findings: {"what", "said", "ok", "needed"}; `needed` marks what the embedded model cannot do without."""
    from workbench.models import weights
    from workbench.scores import NotMeasured, fidelity

    def embedded() -> str:
        from workbench.models import networks

        folder = weights.model_path("embedded")
        networks.load_codeformer(weights.restorer_path(folder))
        networks.load_retinaface()
        weights.load_refiner(folder, weights.load_base(folder))
        return "base, refiner, restorer and face detector load"

    def real() -> str:
        return (
            f"found at {weights.model_path('sdxl')}, restorer {weights.restorer_path(weights.model_path('sdxl')).name}"
        )

    def lpips() -> str:
        backbone = fidelity.lpips_backbone()
        if isinstance(backbone, NotMeasured):
            raise WorkbenchError(f"not measured: {backbone.reason}")
        return f"backbone at {backbone.name}"

    def identity() -> str:
        found = fidelity.arcface_weights()
        if isinstance(found, NotMeasured):
            raise WorkbenchError(f"not measured: {found.reason}")
        return f"recognition weights at {found.name}"

    def store() -> str:
        found = stats(Store.at_home())
        free = f", {size_words(found['free'])} are free" if found["free"] is not None else ""
        return f"{found['store']} holds {size_words(found['bytes'])} of finished stages{free}"

    return [
        _finding("python", lambda: platform.python_version(), needed=True),
        _finding("device", weights.backend, needed=True),
        _finding("embedded model", embedded, needed=True),
        _finding("real SDXL", real),
        _finding("LPIPS", lpips),
        _finding("identity drift", identity),
        _finding("disk", store, needed=True),
        *({"what": "licence", "said": text, "ok": True, "needed": False} for text in weights.LICENCES.values()),
    ]


def _finding(what: str, look: Callable[[], str], *, needed: bool = False) -> dict[str, Any]:
    try:
        return {"what": what, "said": look(), "ok": True, "needed": needed}
    except (WorkbenchError, OSError) as error:
        return {"what": what, "said": str(error), "ok": False, "needed": needed}
