"""Guards: numbers beside the sharpness of a face that say how it may have been fooled, or what else is wrong.

Each guard is measured where its damage is made: noise, impulses, JPEG blocks, mosaic and halo on the picture's own pixels
(enlarging a face would smear them), the rest on the aligned 512x512 crop.

Each limit was set between two groups of numbers: those of two natural portraits (at half to three times their size, blurred
by up to 4 px of the template) and of 108 pictures of the embedded model; and those of attacks on the portraits. Seven AI
portraits were then a check, though not a blind one: one of them, blurred, moved smooth_skin's limit from .55 to .60.
"""

from __future__ import annotations

import itertools
import math

import cv2
import numpy as np
from scipy.ndimage import uniform_filter1d

from workbench.recipe import faces

from .measures import GUARDS
from .symmetry import symmetry, yaw

SMALLEST = 24.0  # px between the eyes: below it a face has too few pixels for any statistic of pixels
TEXTURED = 75.0  # px between the eyes: below it (63 px) wrinkles pass for noise and skin for plastic
# px between the eyes: below it lids and irises are narrower than a halo, and read .11 without one (at 43 px). Only the inner
# face is looked at: with its background, a face before a thicket of fine lines read .16 to .41
EDGED = 60.0
WINDOW = 640  # px: most that is looked at of a very large face, so that time does not grow with the picture


def measure(picture: np.ndarray, face: faces.Face, crop: np.ndarray) -> dict[str, float | None]:
    """Every guard's number for one face.

    Args:
        picture: (H, W, 3) uint8 RGB, the whole picture as it came.
        face: from `faces.find_faces` on that picture.
        crop: (512, 512, 3) uint8 RGB, that face aligned on `faces.TEMPLATE_512`.

    Returns:
        A number for each name of `GUARDS`, None where it could not be measured: the face is too small or too flat.

    Raises:
        DegenerateFace: the landmarks coincide.
    """
    matrix = faces.estimate_matrix(face.landmarks)
    zoom = math.hypot(*matrix[0, :2])  # crop pixels per picture pixel
    eyes = face.eye_distance
    numbers: dict[str, float | None] = dict.fromkeys(GUARDS)
    skin, inside = _inner_face(picture, matrix)
    if eyes >= SMALLEST and min(skin.shape[:2]) >= 32 and inside.sum() >= 600:
        numbers |= _noise(skin, inside, eyes)
        numbers["impulses"] = _impulses(skin, inside)
        numbers |= _blocks(_cut(picture, *face.box)[0])
    # the edges of a mosaic's squares overshoot, too: nearest-neighbour x2 read .13
    if eyes >= EDGED and inside.sum() >= 600 and not GUARDS["mosaic"].fires(numbers["mosaic"]):
        x0, y0, x1, y1 = FACE
        head = crop[y0:y1, x0:x1] if zoom < 1 else _cut(picture, *_mapped(matrix, *FACE))[0]
        numbers["halo"] = _halo(_luma(head), min(eyes, eyes * zoom))
    if eyes >= TEXTURED:
        numbers["smooth_skin"] = _smooth_skin(crop, zoom)
    numbers |= _clipping(crop)
    numbers["symmetry"] = symmetry(crop, cv2.transform(face.landmarks[None].astype(np.float64), matrix)[0])
    numbers["yaw"] = yaw(face.landmarks)
    return {name: float(v) if v is not None and math.isfinite(v) else None for name, v in numbers.items()}


def _filled(*ellipses: tuple[int, int, int, int]) -> np.ndarray:
    """(512, 512) bool: the ellipses (x, y, half width, half height) of the template."""
    y, x = np.mgrid[:512, :512]
    return np.any([((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 < 1 for cx, cy, a, b in ellipses], axis=0)


INNER = _filled((256, 300, 112, 145))  # brows to chin, cheek to cheek
EYES = _filled((193, 240, 42, 24), (319, 240, 42, 24))
SKIN = _filled((178, 305, 32, 32), (334, 305, 32, 32), (256, 185, 60, 28), (256, 440, 35, 18))  # cheeks, forehead, chin
FACE = (120, 140, 392, 448)  # x0, y0, x1, y1: brows to chin, where edges are the face's own


def _cut(picture: np.ndarray, x0: float, y0: float, x1: float, y1: float) -> tuple[np.ndarray, tuple[int, int]]:
    """A box of the picture, at most WINDOW px wide and high around its middle, and its offset (x, y)."""
    height, width = picture.shape[:2]
    (left, right), (top, bottom) = (
        (max(math.floor((a + b) / 2 - half), 0), min(math.ceil((a + b) / 2 + half) + 1, side))
        for a, b, side in ((x0, x1, width), (y0, y1, height))
        for half in (min((b - a) / 2, WINDOW / 2),)
    )
    return picture[top:bottom, left:right], (left, top)


def _mapped(matrix: np.ndarray, x0: float, y0: float, x1: float, y1: float) -> list[float]:
    """The box in the picture around a box of the template."""
    corners = np.array([[[x0, y0], [x1, y0], [x1, y1], [x0, y1]]], np.float64)
    points = cv2.transform(corners, cv2.invertAffineTransform(matrix))[0]
    return [*points.min(axis=0), *points.max(axis=0)]


def _inner_face(picture: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The picture's own pixels around the inner face, and which of them belong to it."""
    pixels, (left, top) = _cut(picture, *_mapped(matrix, 144, 155, 368, 445))
    moved = matrix.copy()
    moved[:, 2] += matrix[:, :2] @ (left, top)
    size = (max(pixels.shape[1], 1), max(pixels.shape[0], 1))
    inside = cv2.warpAffine(INNER.astype(np.uint8), moved, size, flags=cv2.WARP_INVERSE_MAP | cv2.INTER_NEAREST)
    return pixels, inside.astype(bool)


def _luma(pixels: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)


# --- noise and blocks ------------------------------------------------------------------------------------------------

# Immerkaer 1996: the outer product of two of these is blind to locally quadratic structure; unit noise gives 1
NOISE_MASK = np.array([1, -2, 1], np.float32) / math.sqrt(6)
STRUCTURE = 0.25  # share of the energy at half size that is taken for structure (texture falls off, noise does not)


def _halved(pixels: np.ndarray) -> np.ndarray:
    height, width = (side // 2 * 2 for side in pixels.shape[:2])
    return cv2.resize(pixels[:height, :width], (width // 2, height // 2), interpolation=cv2.INTER_AREA)


def _flat_energy(pixels: np.ndarray, inside: np.ndarray, block: int, percentile: float) -> np.ndarray | None:
    """Energy per channel that the noise mask finds in the flatter blocks of the face."""
    energy = np.square(cv2.sepFilter2D(pixels, -1, NOISE_MASK, NOISE_MASK))
    rows, columns = inside.shape[0] // block, inside.shape[1] // block
    energy, full = (
        cv2.resize(plane[: rows * block, : columns * block], (columns, rows), interpolation=cv2.INTER_AREA)
        for plane in (energy, inside.astype(np.float32))
    )
    chosen = energy.reshape(rows, columns, -1)[full > 0.9]
    return np.percentile(chosen, percentile, axis=0) if len(chosen) >= 6 else None


def _noise(pixels: np.ndarray, inside: np.ndarray, eyes: float) -> dict[str, float | None]:
    """noise, chroma_noise and grain.

    Fine skin texture passes the noise mask too. But texture has more energy at half size than at full size, where white noise
    has a quarter. So a part of the energy at half size is taken off: without this a sharp face of 42 px between the eyes
    read 4.4.
    """
    rgb = pixels.astype(np.float32)
    ycc = cv2.cvtColor(rgb / 255, cv2.COLOR_RGB2YCrCb)[..., 1:] * 255
    found: dict[str, float | None] = {}
    half_inside = cv2.resize(inside.astype(np.uint8), (inside.shape[1] // 2, inside.shape[0] // 2)).astype(bool)
    # 0.90 and 0.79: what those percentiles of unit white noise read; 0.64: Cb and Cr of unit noise in R, G and B
    for name, channels, unit in (("noise", rgb, 1.0), ("chroma_noise", ycc, 0.64)):
        one = _flat_energy(channels, inside, 8, 30)
        two = _flat_energy(_halved(channels), half_inside, 4, 30)
        if one is not None and two is not None:
            white = np.maximum(one / 0.90**2 - STRUCTURE * two / 0.79**2, 0) / (1 - STRUCTURE / 4)
            found[name] = math.sqrt(float(white.mean())) / unit
    if eyes >= TEXTURED and (grain := _flat_energy(_halved(_luma(pixels)), half_inside, 8, 10)) is not None:
        found["grain"] = math.sqrt(float(grain[0])) / 0.79
    return found


def _impulses(pixels: np.ndarray, inside: np.ndarray) -> float:
    """Share of the face's pixels that stand out from all their eight neighbours by more than 32 levels."""
    # such a pixel is as far from the median of the nine, too: so only few pixels are left to be looked at closely
    y, x, channel = np.nonzero((cv2.absdiff(pixels, cv2.medianBlur(pixels, 3)) > 32) & inside[..., None])
    padded = cv2.copyMakeBorder(pixels, 1, 1, 1, 1, cv2.BORDER_REFLECT_101)
    ring = np.stack([padded[y + dy, x + dx, channel] for dy in (0, 1, 2) for dx in (0, 1, 2) if (dy, dx) != (1, 1)])
    centre = pixels[y, x, channel].astype(np.int16)
    alone = (centre > ring.max(axis=0) + np.int16(32)) | (centre < ring.min(axis=0) - np.int16(32))
    return len(np.unique(y[alone] * pixels.shape[1] + x[alone])) / int(inside.sum())


def _blocks(pixels: np.ndarray) -> dict[str, float | None]:
    """mosaic and jpeg_blocks of the face's box.

    Both look at the mean absolute step from each column (or row) to the next. In a mosaic all steps fall on a comb, of some
    period and phase: its line in the spectrum, relative to the mean, is 1, where a photograph has about 0. JPEG adds a
    little to every eighth step.
    """
    if min(pixels.shape[:2]) < 32:
        return {}
    grey = _luma(pixels)
    spectra, profiles = [], []
    for steps in (np.abs(np.diff(grey, axis=1)), np.abs(np.diff(grey, axis=0)).T):
        profile = steps.mean(axis=0)
        profiles.append(profile)
        # relative to its neighbourhood, since otherwise a hat's edge would count more than the whole face
        relative = profile / (uniform_filter1d(profile, 33, mode="reflect") + 0.02)
        window = np.hanning(len(relative) + 2)[1:-1]
        spectra.append(np.abs(np.fft.rfft((relative - relative.mean()) * window, 2048)) / window.sum())
    mosaic = min(float(np.minimum(*spectra)[2048 // 24 + 1 :].max()), 1.0)  # periods of 2 to 24 px
    # the steps of a mosaic fall on JPEG's grid too, and are much larger
    return {"mosaic": mosaic, "jpeg_blocks": None if GUARDS["mosaic"].fires(mosaic) else _jpeg(profiles)}


def _jpeg(profiles: list[np.ndarray]) -> float:
    """Mean over both directions of the largest extra step of the eight phases, relative to the mean step."""
    found = []
    for step in profiles:
        extra = step[1:-1] - (step[:-2] + step[2:]) / 2
        extra = extra[: len(extra) // 8 * 8].reshape(-1, 8).mean(axis=0)
        phase = int(extra.argmax())
        found.append((extra[phase] - np.delete(extra, phase).mean()) / (step.mean() + 0.5))
    return max(float(np.mean(found)), 0.0)


# --- sharpening ----------------------------------------------------------------------------------------------------

REACH = 6  # px to either side of an edge: an unsharp mask of radius 2 has its overshoot within


def _halo(grey: np.ndarray, eyes: float) -> float | None:
    """The larger of the overshoots at the view's own scale and at half of it, where unsharp masks of a large radius show."""
    views = [grey, _halved(grey)] if eyes >= 80 else [grey]
    return max((value for view in views if (value := _overshoot(view)) is not None), default=None)


def _overshoot(grey: np.ndarray) -> float | None:
    """Overshoot as a share of the edge's contrast, on the side of the edge where it is smaller: median over strong edges.

    The smaller side, because beside a thin dark line (lashes, a wrinkle) there is an apparent overshoot on one side. Edges
    whose ends are clipped are left out, because clipping cuts the overshoot off.
    """
    smooth = cv2.GaussianBlur(grey, (0, 0), 0.7)
    gx, gy = cv2.Sobel(smooth, -1, 1, 0) / 8, cv2.Sobel(smooth, -1, 0, 1) / 8
    size = cv2.magnitude(gx, gy)
    border = REACH + 1
    inner = size[border:-border, border:-border]
    y, x = np.nonzero(inner > (max(float(np.percentile(inner, 90)), 4.0) if inner.size else 0.0))
    every = len(y) // 3000 + 1
    y, x = y[::every] + border, x[::every] + border
    if len(y) < 30:
        return None
    nx, ny = gx[y, x] / size[y, x], gy[y, x] / size[y, x]
    t = np.arange(-REACH, REACH + 1)
    at_x, at_y = ((p[:, None] + t * n[:, None]).astype(np.float32) for p, n in ((x, nx), (y, ny)))
    across = cv2.remap(size, at_x, at_y, cv2.INTER_LINEAR)[:, REACH - 1 : REACH + 2]
    crest = across.argmax(axis=1) == 1  # the edge itself, not its slopes
    profile = cv2.remap(smooth, at_x[crest], at_y[crest], cv2.INTER_LINEAR)
    steps = np.diff(profile, axis=1)
    (rise_up, over_up), (rise_down, over_down) = _side(steps[:, REACH:]), _side(steps[:, :REACH][:, ::-1])
    centre, contrast = profile[:, REACH], rise_up + rise_down
    usable = (contrast > 15) & (centre + rise_up < 250) & (centre - rise_down > 5)
    smaller = np.minimum(over_up, over_down)[usable] / contrast[usable]
    return float(np.median(smaller)) if len(smaller) >= 30 else None


def _side(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Going away from an edge: how far it climbs, and how far it falls back from there."""
    climbing = np.logical_and.accumulate(steps > 0, axis=1)
    fall = np.minimum.accumulate(np.cumsum(np.where(climbing, 0, steps), axis=1), axis=1)[:, -1]
    return (steps * climbing).sum(axis=1), np.maximum(-fall, 0)


def _smooth_skin(crop: np.ndarray, zoom: float) -> float | None:
    """By how many octaves more the skin falls off than the eyes do, from the middle band to the fine one.

    A blur multiplies a narrow band of the eyes and of the skin by the same factor, so their ratio stays; airbrushing lowers
    the skin's fine band alone. Two bands are compared so that it does not count how textured a skin is: in the fine band
    alone the eyes have 2 octaves more than a wrinkled skin, and 3.7 more than a young one. The bands of an enlarged face lie
    at the scale of its own pixels. For soft eyes the number is scaled down: without that the embedded model's soft faces
    read .57, and airbrushed ones .60.
    """
    grey = _luma(crop)
    scale = 0.8 * max(1.0, zoom)
    blurred = [cv2.GaussianBlur(grey, (0, 0), scale * 2**i) for i in range(3)]
    skin_pixels = SKIN & (blurred[-1] < 240)  # burnt-out skin is flat for another reason
    if skin_pixels.sum() < SKIN.sum() / 4:
        return None
    eyes, skin = [], []
    for fine, coarse in itertools.pairwise(blurred):
        energy = cv2.boxFilter(np.square(fine - coarse), -1, (17, 17))
        eyes.append(max(float(np.percentile(energy[EYES], 70)), 1e-6))
        skin.append(max(float(np.median(energy[skin_pixels])), 1e-6))
    if eyes[1] < 1.0:  # a band of one level: nothing but rounding
        return None
    eyes_fall, skin_fall = (0.5 * math.log2(middle / fine) for fine, middle in (eyes, skin))
    sharp = float(np.clip((1.4 - eyes_fall) / 0.4, 0, 1))
    return (skin_fall - eyes_fall) * sharp


def _clipping(crop: np.ndarray) -> dict[str, float | None]:
    red, green, blue = cv2.split(crop)
    high = cv2.max(red, green)
    second = cv2.max(cv2.min(red, green), cv2.min(high, blue))  # the middle one of the three
    burnt, drowned = (second >= 250)[INNER].mean(), (cv2.max(high, blue) <= 8)[INNER].mean()
    return {"clipped_highlights": float(burnt), "clipped_shadows": float(drowned)}
