"""The score of a picture: how sharp its faces are, what guards say about it, and how far restoration moved it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from PIL import Image, ImageOps

from workbench.errors import DegenerateFace, UnreadablePicture, UsageError
from workbench.files import open_picture, to_rgb
from workbench.models import hardware, pinned_threads
from workbench.recipe import Face, faces, measure_crop

from . import fidelity, guards
from .blur_network import REGIONS, blur, region_masks, region_points, sharpness_at
from .measures import EYE_DISTANCE, FIDELITY, MEASURES, SHARPNESS, NotMeasured

Picture = Image.Image | np.ndarray | str | Path
FaceState = Literal["ok", "several_faces", "no_face", "face_too_small", "not_measured"]
SCORED = ("ok", "several_faces")  # states in which there is a sharpness

SMALLEST_EYES = 12.0  # px between the eyes: below, a face is a dozen pixels wide in the detector's own training data
LEAST_SEEN = 0.85  # share of the measured regions that must lie inside the picture
SIDEWAYS = 62.0  # degrees of the line between the eyes; the detector's landmarks hold up to 60 and not at 90
SURE = 0.998  # upright faces score .999 on 14 pictures of 14, upside-down ones that are found .985 to .995
GRID_BLUR = 0.35  # blur in pixels that one picture pixel has at least: a square pixel's 0.29, and the enlarging


@dataclass(frozen=True)
class FaceScore:
    """One face of a picture.

    Attributes:
        box: x0, y0, x1, y1 in pixels of the picture.
        eye_distance: in pixels of the picture, which says how large the face is there: the 512 template has 126.
        confidence: of the detector, 0..1.
        landmarks: x, y of left eye, right eye, nose, left and right mouth corner, in pixels of the picture.
        state: ok, face_too_small or not_measured; `reason` says why it is not ok.
        sharpness: 0..100, None where not measured.
        sigma: equivalent Gaussian blur in pixels of the 512 template; of the face, and of each region.
        uncertainty: expected error of log2 of `sigma`, for each region; 0.1 is 7 %.
        guards: the numbers of `measures.GUARDS`, None where one cannot be told.
        flags: the guards that fired, in words.
    """

    box: tuple[float, float, float, float]
    eye_distance: float
    confidence: float
    landmarks: tuple[tuple[float, float], ...]
    state: Literal["ok", "face_too_small", "not_measured"] = "ok"
    reason: str | None = None
    sharpness: float | None = None
    sigma: float | None = None
    region_sigma: dict[str, float] = field(default_factory=dict)
    uncertainty: dict[str, float] = field(default_factory=dict)
    guards: dict[str, float | None] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class FaceScores:
    """The faces of a picture, largest first. The score is the largest one's; None, never 0, when there is none.

    `status` is ok, several_faces (the largest is scored, all are listed), no_face, face_too_small, or not_measured with
    its `reason`.
    """

    status: FaceState
    sharpness: float | None
    faces: list[FaceScore] = field(default_factory=list)
    reason: str | None = None
    version: str = SHARPNESS.version

    @property
    def flags(self) -> tuple[str, ...]:
        return self.faces[0].flags if self.faces else ()

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "flags": list(self.flags)}


@cache
def _load_detector(device: str) -> Any:
    from workbench.models import load_retinaface

    return load_retinaface(device=hardware.device(device))


def _detector(device: str = "cpu") -> Any:
    """One for all threads: `faces.find_faces` keeps nothing in it."""
    with fidelity.LOADING:
        return _load_detector(device)


def preload() -> None:
    """Load what `cell_scores` needs, for threads to come: two that import at once may see half a module."""
    _detector()
    fidelity.preload()


def crop_of(image: Picture, face: FaceScore) -> np.ndarray:
    """(512, 512, 3) uint8 RGB: a face that `score` found in this picture, as it was measured. Raises `DegenerateFace`."""
    return measure_crop(_pixels(image), Face(face.box, face.confidence, np.array(face.landmarks)))[0]


def sharpness(image: Picture) -> float | None:
    """Sharpness 0..100 of the largest face of a picture, None when there is none to measure. Raises as `score`."""
    return score(image).sharpness


def score(image: Picture) -> FaceScores:
    """Find and score every face of a picture.

    Args:
        image: a path, a PIL picture of any mode, or a uint8 array (H, W), (H, W, 3) RGB or (H, W, 4) RGBA. EXIF rotation
            is applied, transparency laid on white, 16 bit scaled down.

    Raises:
        UnreadablePicture: the file is missing, damaged or no picture.
        UsageError: an array of another shape or type.
    """
    pixels = _pixels(image)
    return _scores(pixels, *_find(pixels))


def score_many(
    images: Iterable[Picture], *, device: str = "cpu", workers: int | None = None
) -> Iterator[FaceScores | UnreadablePicture]:
    """Score many pictures, in order, the detector on a device and everything else on threads beside it.

    Args:
        images: as for `score`; only about two per worker are in memory at a time.
        device: where faces are found: "cpu", "cuda", "cuda:1".
        workers: threads that measure; by default as many as there are cores.

    Yields:
        What `score` returns; for a file that cannot be read the error itself, and the rest goes on. On another device
        than the CPU landmarks differ in their last digits, and so do the scores.
    """
    workers = workers or os.cpu_count() or 1
    waiting: deque[Any] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for image in images:
            try:
                pixels = _pixels(image)
            except UnreadablePicture as error:
                waiting.append(error)
            else:
                waiting.append(pool.submit(_scores, pixels, *_find(pixels, device)))
            while len(waiting) > 2 * workers:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())


def _result(waiting: Any) -> FaceScores | UnreadablePicture:
    return waiting if isinstance(waiting, UnreadablePicture) else waiting.result()


def _pixels(image: Picture) -> np.ndarray:
    """(H, W, 3) uint8 RGB, upright."""
    if isinstance(image, (str, Path)):
        image = open_picture(image)
    elif isinstance(image, Image.Image):
        try:
            image = to_rgb(ImageOps.exif_transpose(image))
        except (OSError, ValueError, SyntaxError) as error:  # PIL reads the pixels only now
            raise UnreadablePicture(f"the picture cannot be read ({error}); give a whole one.") from error
    elif not isinstance(image, np.ndarray):
        raise UsageError(f"a picture is a path, a PIL image or a uint8 array, not a {type(image).__name__}.")
    return faces.pixels_of(image)


def _find(pixels: np.ndarray, device: str = "cpu") -> tuple[list[Face], str | None]:
    """The faces of a picture, and why they cannot be measured: they are upside down or lie on their side.

    The detector was made for upright faces. It misses most that are not, and finds others with an eye for a mouth corner.
    """
    turned = "the face is upside down or lies on its side; turn the picture"
    with pinned_threads():
        found = faces.find_faces(pixels, _detector(device))
        if not found:
            others = (np.ascontiguousarray(np.rot90(pixels, k)) for k in (2, 1, 3))
            return [], turned if any(faces.find_faces(other, _detector(device)) for other in others) else None
        return found, turned if _turned(pixels, found[0], device) else None


def _turned(pixels: np.ndarray, face: Face, device: str) -> bool:
    (x, y) = face.landmarks[1] - face.landmarks[0]
    if SIDEWAYS < abs(np.degrees(np.arctan2(y, x))) < 180 - SIDEWAYS:
        return True
    if face.score > SURE:
        return False
    try:
        crop = cv2.resize(measure_crop(pixels, face)[0], (128, 128), interpolation=cv2.INTER_AREA)
    except DegenerateFace:
        return False
    views = (crop, np.ascontiguousarray(crop[::-1, ::-1]))
    upright, turned = (
        max((found.score for found in faces.find_faces(view, _detector(device), threshold=0.5)), default=0.0)
        for view in views
    )
    return turned > upright


def _scores(pixels: np.ndarray, found: list[Face], reason: str | None) -> FaceScores:
    """The scores of the faces that were found; the largest one's state is the picture's."""
    if reason:
        return FaceScores("not_measured", None, [], reason)
    scored = [_face_score(pixels, face) for face in found]
    if not scored:
        return FaceScores("no_face", None)
    first = scored[0]
    status: FaceState = "several_faces" if first.state == "ok" and len(scored) > 1 else first.state
    return FaceScores(status, first.sharpness, scored, first.reason)


def _face_score(pixels: np.ndarray, face: Face) -> FaceScore:
    x0, y0, x1, y1 = (float(v) for v in face.box)
    landmarks = tuple((float(x), float(y)) for x, y in face.landmarks)
    about = ((x0, y0, x1, y1), face.eye_distance, face.score, landmarks)
    if not face.eye_distance >= SMALLEST_EYES:
        reason = f"the eyes are {face.eye_distance:.0f} px apart; at least {SMALLEST_EYES:.0f} are needed"
        return FaceScore(*about, "face_too_small", reason)
    try:
        crop, zoom = measure_crop(pixels, face)
        seen = _share_seen(pixels, face)
    except DegenerateFace:
        return FaceScore(*about, "not_measured", "the landmarks of this face cannot be right")
    if seen < LEAST_SEEN:
        return FaceScore(*about, "not_measured", f"{100 * (1 - seen):.0f} % of the face lies outside the picture")
    measured = blur(crop)
    sigma = _with_grid(measured.overall, zoom)
    values = guards.measure(pixels, face, crop)
    checked = {EYE_DISTANCE.name: face.eye_distance, **values}
    return FaceScore(
        *about, "ok", None, sharpness_at(sigma), sigma,
        {name: _with_grid(value, zoom) for name, value in measured.sigma.items()}, measured.spread,
        values, tuple(m.flag for name, value in checked.items() if (m := MEASURES[name]).fires(value) and m.flag),
    )  # fmt: skip


def _with_grid(sigma: float, zoom: float) -> float:
    """A blur with that of the picture's own pixels, enlarged: whatever was drawn into them, a small face is not sharp."""
    grid = GRID_BLUR * np.sqrt(max(zoom**2 - 1, 0))
    return float((sigma**4 + grid**4) ** 0.25)  # the larger of the two, and still strictly growing with sigma


def _share_seen(pixels: np.ndarray, face: Face) -> float:
    """Share of the measured regions that lies inside the picture."""
    matrix = cv2.invertAffineTransform(faces.estimate_matrix(face.landmarks))
    x, y = cv2.transform(region_points()[None], matrix)[0].T
    inside = (x >= -0.5) & (y >= -0.5) & (x <= pixels.shape[1] - 0.5) & (y <= pixels.shape[0] - 0.5)
    masks = region_masks().reshape(len(REGIONS), -1)
    return float(((masks * inside).sum(axis=1) / masks.sum(axis=1)).min())


def fidelity_of(image: Picture, reference: Picture) -> dict[str, float | NotMeasured]:
    """How far the largest face of a picture moved from the same place in its reference: lpips, ssim, identity_drift; and
    the picture's niqe.

    The reference may have another size (before an upscaler), but must show the same. Raises as `score`.
    """
    pixels = _pixels(image)
    found, reason = _find(pixels)
    return _fidelity(pixels, _pixels(reference), found, _scores(pixels, found, reason))


def _fidelity(
    pixels: np.ndarray, before: np.ndarray, found: list[Face], result: FaceScores
) -> dict[str, float | NotMeasured]:
    if result.status not in SCORED:
        return dict.fromkeys(FIDELITY, NotMeasured(_why(result)))
    crop, reference = (measure_crop(p, _resized(found[0], pixels.shape, p.shape))[0] for p in (pixels, before))
    return {
        "lpips": fidelity.lpips_distance(crop, reference),
        "ssim": fidelity.ssim(crop, reference),
        "identity_drift": fidelity.identity_drift(crop, reference),
        "niqe": fidelity.niqe(crop),
    }


def _why(result: FaceScores) -> str:
    """Why a picture has no score, in words."""
    return result.reason or result.status.replace("_", " ")


def _resized(face: Face, of: tuple[int, ...], to: tuple[int, ...]) -> Face:
    """A face of a picture of shape `of` in one of shape `to` that shows the same."""
    ratio = np.array([to[1] / of[1], to[0] / of[0]])
    x0, y0, x1, y1 = ((np.asarray(face.box).reshape(2, 2) + 0.5) * ratio - 0.5).flatten().tolist()
    return Face((x0, y0, x1, y1), face.score, (np.asarray(face.landmarks) + 0.5) * ratio - 0.5)


def versions() -> dict[str, str]:
    """The version of every measure; numbers of different versions do not compare."""
    return {name: measure.version for name, measure in MEASURES.items()}


def cell_scores(image: Picture, unrestored: Picture) -> tuple[str, dict[str, Any]]:
    """(status, JSON values) for a sweep's record: numbers, None where not measured, and why under `not_measured`.

    Beside the measures: `faces` (how many), `box` (x0, y0, x1, y1 of the largest in px of the picture, None without one),
    `flags`, `versions`.

    May be called from several threads at once; the numbers are those of one thread.
    """
    pixels = _pixels(image)
    found, reason = _find(pixels)
    result = _scores(pixels, found, reason)
    values: dict[str, Any] = dict.fromkeys(MEASURES)
    if result.faces:
        first = result.faces[0]
        values |= {"sharpness": first.sharpness, "sigma": first.sigma, "eye_distance": first.eye_distance}
        values |= {f"sigma_{name}": value for name, value in first.region_sigma.items()} | first.guards
    # a guard that says nothing of a face that was scored: too few or too flat pixels, or the mosaic that hides it
    why = "the face is too small, too flat or a mosaic" if result.status in SCORED else _why(result)
    missing = {name: why for name, value in values.items() if value is None}
    for name, value in _fidelity(pixels, _pixels(unrestored), found, result).items():
        if isinstance(value, NotMeasured):
            missing[name] = value.reason
        else:
            values[name] = value
            missing.pop(name)
    rounded = {name: round(v, 5) if isinstance(v, float) else v for name, v in values.items()}
    return result.status, {
        **rounded,
        "faces": len(result.faces),
        "box": [round(v, 1) for v in found[0].box] if found else None,
        "flags": list(result.flags),
        "versions": versions(),
        "not_measured": missing,
    }
