"""The score of a picture: how sharp its faces are, what guards say about it, and how far restoration moved it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
from PIL import Image, ImageOps

from workbench.errors import DegenerateFace, UnreadablePicture, UsageError
from workbench.files import open_picture, to_rgb
from workbench.models import alone, hardware, keep_memory, pinned_threads
from workbench.recipe import Face, faces, measure_crop

from . import deformation, fidelity, guards
from .blur_network import REGIONS, blur, region_masks, region_points, sharpness_at
from .measures import EYE_DISTANCE, FIDELITY, MEASURES, SHARPNESS, NotMeasured

if TYPE_CHECKING:
    from facexlib.detection.retinaface import RetinaFace

Picture = Image.Image | np.ndarray | str | Path
FaceState = Literal["ok", "several_faces", "no_face", "face_too_small", "not_measured"]
SCORED = ("ok", "several_faces")  # states in which there is a sharpness

SMALLEST_EYES = 12.0  # px between the eyes: below, a face is a dozen pixels wide in the detector's own training data
LEAST_SEEN = 0.85  # share of the measured regions that must lie inside the picture
SIDEWAYS = 62.0  # degrees of the line between the eyes; the detector's landmarks hold up to 60 and not at 90
SURE = 0.998  # upright faces score .999 in all of 14 pictures; upside-down ones, where they are found, .985 to .995
DEFORMED = "deformed"
NO_REFERENCE = NotMeasured(
    "whether the face was torn is told from the picture before it was refined: give it as the reference"
)
GRID_BLUR = 0.35  # blur in pixels that any picture has at least: 0.29 of a square pixel, and that of enlarging it


@dataclass(frozen=True)
class FaceScore:
    """One face of a picture.

    Attributes:
        box: x0, y0, x1, y1 in pixels of the picture.
        eye_distance: in pixels of the picture, which says how large the face is there; in the 512 template it is 126.
        confidence: of the detector, 0..1.
        landmarks: x, y of left eye, right eye, nose, left and right mouth corner, in pixels of the picture.
        state: ok, face_too_small or not_measured; `reason` says why it is not ok.
        sharpness: 0..100, None where not measured.
        sigma, region_sigma: equivalent Gaussian blur of the face, and of each region, in pixels of the 512 template.
        uncertainty: expected error of log2 of each region's `sigma`; 0.1 is 7 %.
        guards: the numbers of `measures.GUARDS`, None where one cannot be told.
        flags: the guards that fired, in words.
        not_measured: {guard: why}, of those that need more than the picture and do not have it.
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
    not_measured: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FaceScores:
    """The faces of a picture and its score, which is that of the largest face.

    Attributes:
        status: ok, several_faces (the largest one gives the score), no_face, face_too_small, or not_measured.
        sharpness: 0..100; None, never 0, where there is none.
        faces: largest first.
        reason: why a face is too small or not measured.
        version: of the sharpness; numbers of different versions do not compare.
    """

    status: FaceState
    sharpness: float | None
    faces: list[FaceScore] = field(default_factory=list)
    reason: str | None = None
    version: str = SHARPNESS.version

    @property
    def flags(self) -> tuple[str, ...]:
        """The guards that fired on the largest face, in words."""
        return self.faces[0].flags if self.faces else ()

    def to_json(self) -> dict[str, object]:
        return {**asdict(self), "flags": list(self.flags)}


@cache
def _load_detector(device: str) -> RetinaFace:
    from workbench.models import load_retinaface

    keep_memory()
    return load_retinaface(device=hardware.device(device))


def _detector(device: str = "cpu") -> RetinaFace:
    """The same detector for all threads, which may use it at once: `faces.find_faces` changes nothing in it.

    Scores need no diffusers, whose import takes 6 s: no `begin` here.
    """
    with alone():
        return _load_detector(device)


def preload() -> None:
    """Load what `cell_scores` needs before threads call it: two that import a module at once may see half of it."""
    _detector()
    fidelity.preload()


def crop_of(image: Picture, face: FaceScore) -> np.ndarray:
    """A face that `score` found in this picture, as it was measured: (512, 512, 3) uint8 RGB. Raises `DegenerateFace`."""
    return measure_crop(_pixels(image), Face(face.box, face.confidence, np.array(face.landmarks)))[0]


def sharpness(image: Picture) -> float | None:
    """Sharpness 0..100 of the largest face of a picture, None when there is none to measure. Raises as `score`."""
    return score(image).sharpness


def score(image: Picture, reference: Picture | None = None) -> FaceScores:
    """Find and score every face of a picture.

    Args:
        image: a path, a PIL picture of any mode, or a uint8 array (H, W), (H, W, 3) RGB or (H, W, 4) RGBA. EXIF rotation
            is applied, transparency laid on white, 16 bit scaled down.
        reference: the same picture before it was refined, of any size, so that `deformed` can be measured of the largest
            face; without it that guard is not measured.

    Returns:
        What was found; every face has its own numbers, and says under `not_measured` what needs a reference.

    Raises:
        UnreadablePicture: a file is missing, damaged or no picture.
        UsageError: an array of another shape or type.
    """
    pixels = _pixels(image)
    found, reason = _find(pixels)
    result = _scores(pixels, found, reason)
    return result if reference is None else _compared(pixels, _pixels(reference), found, result)


def score_many(
    images: Iterable[Picture], *, device: str = "cpu", workers: int | None = None
) -> Iterator[FaceScores | UnreadablePicture]:
    """Score many pictures, in order: faces are found in the calling thread, and measured on threads beside it.

    Args:
        images: as for `score`; only about two per worker are in memory at a time.
        device: where faces are found: "cpu", "cuda", "cuda:1".
        workers: threads that measure; by default as many as there are cores.

    Yields:
        What `score` returns; for a file that cannot be read the error itself, after which the rest goes on. On a GPU the
        landmarks have other last digits than on the CPU, and so have the scores.
    """
    workers = workers or os.cpu_count() or 1
    waiting: deque[Future[FaceScores] | UnreadablePicture] = deque()
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


def _result(waiting: Future[FaceScores] | UnreadablePicture) -> FaceScores | UnreadablePicture:
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
    """The faces of a picture, and, where they are upside down or lie on their side, the sentence that says so.

    The detector was made for upright faces: it misses most that are not, and in others takes an eye for a mouth corner.
    """
    turned = "the face is upside down or lies on its side; turn the picture"
    with pinned_threads():
        found = faces.find_faces(pixels, _detector(device))
        if not found:
            others = (np.ascontiguousarray(np.rot90(pixels, k)) for k in (2, 1, 3))
            return [], turned if any(faces.find_faces(other, _detector(device)) for other in others) else None
        return found, turned if _turned(pixels, found[0], device) else None


def _turned(pixels: np.ndarray, face: Face, device: str) -> bool:
    """Whether a face lies on its side, or looks more like a face when it is turned upside down."""
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
        {DEFORMED: NO_REFERENCE.reason},
    )  # fmt: skip


def _compared(pixels: np.ndarray, first: np.ndarray, found: list[Face], result: FaceScores) -> FaceScores:
    """The same scores, with `deformed` of the largest face, if that was scored."""
    if result.status not in SCORED:
        return result
    value = deformation.deformed(
        *(measure_crop(p, _resized(found[0], pixels.shape, p.shape))[0] for p in (pixels, first))
    )
    face = result.faces[0]
    if isinstance(value, NotMeasured):
        face = replace(face, not_measured={**face.not_measured, DEFORMED: value.reason})
    else:
        guard = MEASURES[DEFORMED]
        fired = (guard.flag,) if guard.flag and guard.fires(value) else ()
        left = {name: why for name, why in face.not_measured.items() if name != DEFORMED}
        face = replace(face, guards={**face.guards, DEFORMED: value}, flags=(*face.flags, *fired), not_measured=left)
    return replace(result, faces=[face, *result.faces[1:]])


def _with_grid(sigma: float, zoom: float) -> float:
    """A blur together with that of the picture's own pixels, where these were enlarged by `zoom` to the 512 face.

    So a small face is never sharp, whatever was drawn into its pixels.
    """
    grid = GRID_BLUR * np.sqrt(max(zoom**2 - 1, 0))
    return float((sigma**4 + grid**4) ** 0.25)  # the larger of the two, and still strictly growing with sigma


def _share_seen(pixels: np.ndarray, face: Face) -> float:
    """Share of the measured regions that lies inside the picture."""
    matrix = cv2.invertAffineTransform(faces.estimate_matrix(face.landmarks))
    x, y = cv2.transform(region_points()[None], matrix)[0].T
    inside = (x >= -0.5) & (y >= -0.5) & (x <= pixels.shape[1] - 0.5) & (y <= pixels.shape[0] - 0.5)
    masks = region_masks().reshape(len(REGIONS), -1)
    return float(((masks * inside).sum(axis=1) / masks.sum(axis=1)).min())


NO_NIQE = NotMeasured(
    "NIQE ranks restored faces backwards; it is measured where asked for: scores.fidelity_of(..., niqe=True)"
)


def fidelity_of(image: Picture, reference: Picture, *, niqe: bool = False) -> dict[str, float | NotMeasured]:
    """How far the largest face of a picture moved from the same place in its reference.

    The reference may have another size (as before an upscaler), but must show the same.

    Returns:
        lpips, ssim and identity_drift between the two faces, and, where `niqe` asks for it, the niqe of the picture's: it
        takes longer than all the others.

    Raises as `score`.
    """
    pixels = _pixels(image)
    found, reason = _find(pixels)
    return _fidelity(pixels, _pixels(reference), found, _scores(pixels, found, reason), niqe=niqe)


def _fidelity(
    pixels: np.ndarray, before: np.ndarray, found: list[Face], result: FaceScores, *, niqe: bool = False
) -> dict[str, float | NotMeasured]:
    if result.status not in SCORED:
        return dict.fromkeys(FIDELITY, NotMeasured(_why(result)))
    crop, reference = (measure_crop(p, _resized(found[0], pixels.shape, p.shape))[0] for p in (pixels, before))
    return {
        "lpips": fidelity.lpips_distance(crop, reference),
        "ssim": fidelity.ssim(crop, reference),
        "identity_drift": fidelity.identity_drift(crop, reference),
        "niqe": fidelity.niqe(crop) if niqe else NO_NIQE,
    }


def _why(result: FaceScores) -> str:
    """Why a picture has no score, in words."""
    return result.reason or result.status.replace("_", " ")


def _resized(face: Face, of: tuple[int, ...], to: tuple[int, ...]) -> Face:
    """A face of a picture of shape `of`, in pixels of a picture of shape `to` that shows the same."""
    ratio = np.array([to[1] / of[1], to[0] / of[0]])
    x0, y0, x1, y1 = ((np.asarray(face.box).reshape(2, 2) + 0.5) * ratio - 0.5).flatten().tolist()
    return Face((x0, y0, x1, y1), face.score, (np.asarray(face.landmarks) + 0.5) * ratio - 0.5)


def versions() -> dict[str, str]:
    """The version of every measure; numbers of different versions do not compare."""
    return {name: measure.version for name, measure in MEASURES.items()}


def cell_scores(image: Picture, unrestored: Picture, first: Picture | None = None) -> tuple[str, dict[str, Any]]:
    """The scores of a picture for a sweep's record. Several threads may call it at once, without effect on the numbers.

    Args:
        image: the finished picture.
        unrestored: the same before faces were restored, from which fidelity is measured.
        first: the same before it was refined, from which `deformed` is measured; None: it is not.

    Returns:
        (status, JSON values): a number for each of MEASURES, None where it was not measured; `not_measured` ({measure: why}),
        `faces` (how many), `box` (x0, y0, x1, y1 of the largest in px of the picture, None without one), `flags`, `versions`.

    Raises as `score`.
    """
    pixels = _pixels(image)
    found, reason = _find(pixels)
    result = _scores(pixels, found, reason)
    if first is not None:
        result = _compared(pixels, _pixels(first), found, result)
    values: dict[str, float | None] = dict.fromkeys(MEASURES)
    if result.faces:
        largest = result.faces[0]
        values |= {"sharpness": largest.sharpness, "sigma": largest.sigma, "eye_distance": largest.eye_distance}
        values |= {f"sigma_{name}": value for name, value in largest.region_sigma.items()} | largest.guards
    # where a face was scored, a guard has no number if the face has too few or too flat pixels, or a mosaic hides it
    why = "the face is too small, too flat or a mosaic" if result.status in SCORED else _why(result)
    own = result.faces[0].not_measured if result.faces else {}
    missing = {name: own.get(name, why) for name, value in values.items() if value is None}
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
