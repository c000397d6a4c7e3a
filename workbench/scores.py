"""How sharp a face is, and how far restoration moved it. Each score knows its direction, range, unit and version."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from . import faces
from .images import open_picture, to_rgb
from .weights import pinned_threads

FACE_SIZE = 512  # side of the aligned crop all faces are measured in, so that a bigger face is not a sharper one
INNER = slice(112, 432)  # eyes to chin of the 512 template, without hair, collar and background
# log10 of fine to coarse energy that maps to 0 and to 100. On nine portraits Gaussian blur of 0, 1, 2, 3 px of the
# aligned frame gave -1.2, -1.8, -3.0, -4.9 (sd between faces 0.35)
SCALE = (-4.2, -0.7)


@dataclass(frozen=True)
class Score:
    """What a number means."""

    name: str
    version: str
    higher_is_better: bool
    low: float
    high: float
    about: str


SHARPNESS = Score(
    "sharpness", "bands-1", True, 0.0, 100.0,
    "Fine against coarse detail of the aligned inner face, noise floor taken off; 0 = no detail, 100 = crisp at 512 px.",
)  # fmt: skip
LPIPS = Score(
    "lpips", "alex-0.1", False, 0.0, 1.0, "Perceptual distance of the restored from the unrestored face (0 = equal)."
)
SCORES = {score.name: score for score in (SHARPNESS, LPIPS)}


@dataclass(frozen=True)
class FaceScore:
    """One face: box (x0, y0, x1, y1) and eye distance in pixels of the picture, sharpness 0..100."""

    box: tuple[float, float, float, float]
    eye_distance: float
    confidence: float
    sharpness: float


@dataclass(frozen=True)
class FaceScores:
    """The faces of a picture, largest first. `sharpness` is the largest one's, None (never 0) when there is none."""

    status: Literal["ok", "no_face"]
    sharpness: float | None
    faces: list[FaceScore] = field(default_factory=list)
    version: str = SHARPNESS.version


@dataclass(frozen=True)
class NotMeasured:
    """Stands where a number would, with the reason why there is none."""

    reason: str


@cache
def _detector() -> Any:
    from .networks import load_retinaface

    return load_retinaface()


def score(image: Image.Image | str | Path) -> FaceScores:
    """Find and score every face of a picture (PIL image of any mode, or a path). Raises `UnreadablePicture`."""
    picture = open_picture(image) if isinstance(image, (str, Path)) else to_rgb(image)
    found = []
    with pinned_threads():
        detected = faces.find_faces(picture, _detector())
    for face in detected:
        try:
            crop = aligned_face(picture, face)
        except faces.DegenerateFace:  # landmarks on one spot: a false detection, there is nothing to align
            continue
        x0, y0, x1, y1 = (float(v) for v in face.box)
        found.append(FaceScore((x0, y0, x1, y1), float(face.eye_distance), float(face.score), sharpness_of(crop)))
    return FaceScores("ok", found[0].sharpness, found) if found else FaceScores("no_face", None)


def aligned_face(picture: Image.Image, face: faces.Face) -> np.ndarray:
    """(512, 512, 3) uint8 RGB crop on the FFHQ template; a larger face is shrunk by Lanczos first, so it cannot alias."""
    _, matrix = faces.align(np.asarray(picture), face)
    shrink = float(np.hypot(matrix[0, 0], matrix[0, 1]))  # crop pixels per picture pixel
    if shrink < 1:
        size = (max(1, round(picture.width * shrink)), max(1, round(picture.height * shrink)))
        ratio = np.array([size[0] / picture.width, size[1] / picture.height])
        picture = picture.resize(size, Image.Resampling.LANCZOS)
        # pixel centres: x' + .5 = (x + .5) * ratio
        landmarks = (np.asarray(face.landmarks) + 0.5) * ratio - 0.5
        face = faces.Face(box=tuple(np.asarray(face.box) * np.tile(ratio, 2)), score=face.score, landmarks=landmarks)
    crop, _ = faces.align(np.asarray(picture), face)
    return crop


def sharpness_of(crop: np.ndarray) -> float:
    """Sharpness 0..100 of an aligned (512, 512, 3) uint8 RGB face crop.

    The ratio of fine (0.15-0.35 cycles/px) to coarse (0.03-0.15) spectral energy of the inner face's luma; a ratio, so
    contrast and brightness cancel. The mean power above 0.42 cycles/px is taken for the noise floor and subtracted from
    both bands. Its known weakness: noise coarser than a pixel, and unsharp masking, still raise it.
    """
    grey = crop[INNER, INNER].astype(np.float64) @ (0.299, 0.587, 0.114)
    grey -= grey.mean()
    window = np.hanning(grey.shape[0])
    power = np.abs(np.fft.fft2(grey * np.outer(window, window))) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(grey.shape[0]), np.fft.fftfreq(grey.shape[1])))
    floor = power[frequency > 0.42].mean()

    def band(low: float, high: float) -> float:
        inside = (frequency >= low) & (frequency < high)
        return max(float((power[inside] - floor).sum()), 1e-7 * float(power.sum()) + 1e-9)

    ratio = np.log10(band(0.15, 0.35) / band(0.03, 0.15))
    low, high = SCALE
    return float(np.clip(100 * (ratio - low) / (high - low), 0, 100))


def fidelity(image: Image.Image, reference: Image.Image) -> float | NotMeasured:
    """LPIPS (Zhang et al. 2018, AlexNet) between the largest face in `image` and the same place in `reference`.

    `NotMeasured` without a face, or when the AlexNet backbone is not on this machine: a random one gives numbers that
    mean nothing.
    """
    backbone = lpips_backbone()
    if isinstance(backbone, NotMeasured):
        return backbone
    found = faces.find_faces(image, _detector())
    if not found:
        return NotMeasured("no face")
    import torch

    crops = [aligned_face(picture, found[0]) for picture in (image, reference)]
    tensors = [torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 127.5 - 1 for crop in crops]
    with torch.inference_mode():
        return float(_lpips_net()(*tensors))


def lpips_backbone() -> Path | NotMeasured:
    """The AlexNet file that torchvision would download, if it is already there."""
    import torch
    from torchvision.models import AlexNet_Weights

    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(AlexNet_Weights.IMAGENET1K_V1.url).name
    return (
        path
        if path.exists()
        else NotMeasured(f"LPIPS needs torchvision's AlexNet, which is not at {path.name} in torch's hub folder")
    )


@cache
def _lpips_net() -> Any:
    import lpips

    return lpips.LPIPS(net="alex", verbose=False).eval()


def cell_scores(image: Image.Image, unrestored: Image.Image) -> tuple[str, dict[str, Any]]:
    """(status, JSON values) for a sweep's record: numbers, None where not measured, and why under `not_measured`."""
    result = score(image)
    moved = fidelity(image, unrestored)
    missing = {"lpips": moved.reason} if isinstance(moved, NotMeasured) else {}
    if result.sharpness is None:
        missing["sharpness"] = "no face"
    return result.status, {
        "sharpness": None if result.sharpness is None else round(result.sharpness, 3),
        "lpips": None if isinstance(moved, NotMeasured) else round(moved, 5),
        "faces": len(result.faces),
        "eye_distance": round(result.faces[0].eye_distance, 1) if result.faces else None,
        "versions": {name: s.version for name, s in SCORES.items()},
        "not_measured": missing,
    }
