"""How blurred an aligned face is: the equivalent Gaussian sigma of its eyes, mouth, nose and skin, in aligned pixels.

Of each region it takes the energies of nine half-octave bands relative to the region's own coarse bands (so that contrast
and light cancel), on edges and on flat parts; how fine gradients compare with coarse ones; kurtosis; and how the bands agree
with each other. For all regions alike it takes what the face's noise looks like. One small network, the same for the four
regions, turns these numbers into log2 of sigma and its uncertainty. It needs only numpy and OpenCV; it is trained by
experiments/sharpness/train.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

REGIONS = ("eyes", "mouth", "nose", "skin")
WEIGHTS_FILE = Path(__file__).parent / "sharpness.npz"

# The part of the 512 template that is measured: brows to chin, without hair, collar and background
TOP, LEFT, SIDE, MARGIN, CELL = 144, 112, 288, 16, 8
SCALES = (0.6, 0.85, 1.2, 1.7, 2.4, 3.4, 4.8, 6.8, 9.6)  # sigma in aligned pixels
COARSE = slice(5, 9)  # bands between 3.4 and 9.6 px, which a region's energies are compared with
FLOOR = 0.02  # squared 8-bit levels that are added to every energy: rounding to 8 bits gives 1/12 to all bands together
# Soft ellipses in the template: (x, y, half width, half height)
ELLIPSES = {
    "eyes": ((193, 238, 42, 26), (319, 238, 42, 26)),
    "mouth": ((257, 373, 70, 34),),
    "nose": ((257, 298, 34, 42),),
    "skin": ((180, 312, 34, 36), (334, 312, 34, 36), (257, 180, 62, 24)),
}


@cache
def region_masks() -> np.ndarray:
    """(4, 36, 36) float32 0..1: how much each 8 px cell of the measured window belongs to each region."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    masks = []
    for name in REGIONS:
        mask = np.zeros((SIDE, SIDE), np.float32)
        for cx, cy, rx, ry in ELLIPSES[name]:
            far = np.hypot((x + LEFT - cx) / rx, (y + TOP - cy) / ry)
            mask = np.maximum(mask, np.clip((1.15 - far) / 0.3, 0, 1))
        masks.append(cv2.resize(mask, (SIDE // CELL, SIDE // CELL), interpolation=cv2.INTER_AREA))
    return np.stack(masks)


@cache
def inner_face() -> np.ndarray:
    """(36, 36) bool: the cells between brows and chin, cheek and cheek, so that hair and background do not count."""
    x, y = region_points().T
    return (np.hypot((x - 257) / 118, (y - 296) / 128) < 1).reshape(SIDE // CELL, SIDE // CELL)


@cache
def region_points() -> np.ndarray:
    """(1296, 2) x, y in the 512 template of the cells' middles, in the order of `region_masks`."""
    y, x = np.mgrid[: SIDE // CELL, : SIDE // CELL]
    return np.stack([LEFT + (x + 0.5) * CELL - 0.5, TOP + (y + 0.5) * CELL - 0.5], axis=-1).reshape(-1, 2)


def _cells(pixels: np.ndarray) -> np.ndarray:
    """Mean over 8x8 px cells of (288, 288) float32 -> (36, 36)."""
    return cv2.resize(pixels, (SIDE // CELL, SIDE // CELL), interpolation=cv2.INTER_AREA)


def _window(plane: np.ndarray) -> np.ndarray:
    return plane[MARGIN : MARGIN + SIDE, MARGIN : MARGIN + SIDE]


def _scale_space(plane: np.ndarray) -> list[np.ndarray]:
    """The plane and its Gaussian blurs at SCALES, each made from the one before."""
    planes, before = [plane], 0.0
    for sigma in SCALES:
        planes.append(cv2.GaussianBlur(planes[-1], (0, 0), float(np.sqrt(sigma**2 - before**2))))
        before = sigma
    return planes


def _gradient(plane: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    gx = _window(cv2.Sobel(plane, cv2.CV_32F, 1, 0, ksize=1))
    gy = _window(cv2.Sobel(plane, cv2.CV_32F, 0, 1, ksize=1))
    return gx, gy


def _fourfold(gx: np.ndarray, gy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Real and imaginary part of |g|^2 exp(4i angle), and |g|^2, over cells: the parts are large where all edges are upright
    or level, as in a mosaic."""
    a, b, power = gx * gx - gy * gy, 2 * gx * gy, gx * gx + gy * gy + 1e-6
    return _cells((a * a - b * b) / power), _cells(2 * a * b / power), _cells(power)


def _percentiles(values: np.ndarray, weights: np.ndarray, shares: tuple[float, ...]) -> list[float]:
    """Weighted percentiles of a 1-D array; 0 where nothing weighs."""
    total = weights.sum()
    if total <= 0:
        return [0.0] * len(shares)
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) / total
    return [float(values[order[min(np.searchsorted(reached, share), len(order) - 1)]]) for share in shares]


def features(crop: np.ndarray, masks: np.ndarray | None = None, kinds: np.ndarray | None = None) -> np.ndarray:
    """What the network sees of an aligned (512, 512, 3) uint8 RGB face.

    Args:
        crop: from `faces.measure_crop`.
        masks: (n, 36, 36) weights 0..1 of the window's cells, a row of features for each; the four regions by default.
        kinds: (n, 4) how much of each of REGIONS a mask is.

    Returns:
        (n, 68) float32.
    """
    if masks is None or kinds is None:
        masks, kinds = region_masks(), np.eye(len(REGIONS), dtype=np.float32)
    piece = crop[TOP - MARGIN : TOP + SIDE + MARGIN, LEFT - MARGIN : LEFT + SIDE + MARGIN].astype(np.float32)
    luma = piece @ np.array((0.299, 0.587, 0.114), np.float32)
    space = _scale_space(luma)
    bands = [_window(fine - coarse) for fine, coarse in pairwise(space)]
    squares = [band * band for band in bands]
    energy = np.stack([_cells(square) for square in squares]) + FLOOR  # (9, 36, 36)
    fourth = np.stack([_cells(square * square) for square in squares[:6]])
    product = np.stack([_cells(bands[k] * bands[k + 1]) for k in range(7)])
    local = energy[4:7].sum(axis=0)  # bands 1.7..4.8 px: where the cell's edges are
    log_energy, log_local = np.log10(energy), np.log10(local)

    fine_x, fine_y = _gradient(space[1])
    coarse_x, coarse_y = _gradient(space[6])
    mid_x, mid_y = _gradient(space[3])
    wide_x, wide_y = _gradient(space[5])
    fine, coarse = cv2.magnitude(fine_x, fine_y), cv2.magnitude(coarse_x, coarse_y)
    mid, wide = cv2.magnitude(mid_x, mid_y), cv2.magnitude(wide_x, wide_y)
    fourfold = [_fourfold(fine_x, fine_y), _fourfold(wide_x, wide_y)]

    # across a blurred edge the gradient has one sign; a sharpened edge overshoots, so that it falls back on both sides
    climbs = [
        (gx * coarse_x + gy * coarse_y) / (coarse + 0.1)
        for gx, gy in ((fine_x, fine_y), (mid_x, mid_y), (wide_x, wide_y))
    ]
    falls = [(_cells(np.square(np.minimum(climb, 0))), _cells(climb * climb)) for climb in climbs]
    grey = np.clip(np.rint(luma), 0, 255).astype(np.uint8)
    ridges = np.stack([_cells(np.square(_window(luma - cv2.medianBlur(grey, side)))) for side in (5, 9)]) + FLOOR

    median = cv2.medianBlur(grey, 3).astype(np.float32)
    calm = _scale_space_short(median)
    calm_energy = np.stack([_cells(band * band) for band in calm]) + FLOOR

    shared = _noise_cues(luma, median, log_energy, energy)
    rows = []
    for mask, kind in zip(masks, kinds, strict=True):
        total = mask.sum()
        mean = (energy * mask).sum(axis=(1, 2)) / total
        base = np.log10(mean[COARSE].mean())
        row = list(np.log10(mean[:8]) - base)

        inside = mask > 0.25
        w, where = mask[inside], log_local[inside]
        low, high = _percentiles(where, w, (0.35, 0.7))
        edge, flat = w * (where >= high), w * (where <= low)
        ratio = log_energy[:5, inside] - where
        for k in range(5):
            row += _percentiles(ratio[k], edge, (0.5, 0.8))
        edge_mean = (energy[:4, inside] * edge).sum(axis=1) / max(edge.sum(), 1e-6)
        flat_mean = (energy[:4, inside] * flat).sum(axis=1) / max(flat.sum(), 1e-6)
        row += list(np.log10(np.maximum(flat_mean, FLOOR)) - np.log10(np.maximum(edge_mean, FLOOR)))
        row += [_correlation(log_energy[k, inside], where, w) for k in range(3)]
        row += list(np.log10(((fourth * mask).sum(axis=(1, 2)) / total + FLOOR**2) / mean[:6] ** 2))
        agreed = (product * mask).sum(axis=(1, 2)) / total
        row += list(agreed / np.sqrt(mean[:7] * mean[1:8]))
        row += [float((back * mask).sum() / ((all_ * mask).sum() + 1e-6)) for back, all_ in falls]
        row += list(np.log10((ridges * mask).sum(axis=(1, 2)) / total) - base)
        for real, imaginary, power in fourfold:
            row.append(np.hypot((real * mask).sum(), (imaginary * mask).sum()) / (power * mask).sum())
        row += list(np.log10((calm_energy * mask).sum(axis=(1, 2)) / total) - np.log10(mean[:2]))
        row += _gradient_ratios(fine, coarse, mid, wide, mask)
        rows.append([*row, *shared, *kind])
    return np.asarray(rows, np.float32)


def _scale_space_short(plane: np.ndarray) -> list[np.ndarray]:
    first = cv2.GaussianBlur(plane, (0, 0), SCALES[0])
    second = cv2.GaussianBlur(first, (0, 0), float(np.sqrt(SCALES[1] ** 2 - SCALES[0] ** 2)))
    return [_window(plane - first), _window(first - second)]


def _correlation(a: np.ndarray, b: np.ndarray, w: np.ndarray) -> float:
    w = w / w.sum()
    a, b = a - (a * w).sum(), b - (b * w).sum()
    return float((a * b * w).sum() / np.sqrt(((a * a * w).sum() + 1e-4) * ((b * b * w).sum() + 1e-4)))


def _gradient_ratios(
    fine: np.ndarray, coarse: np.ndarray, mid: np.ndarray, wide: np.ndarray, mask: np.ndarray
) -> list[float]:
    """How steep a region's edges are at 0.6 against 4.8 px and at 1.2 against 2.4 px (Zhuo & Sim 2011's ratio)."""
    rows, columns = np.flatnonzero(mask.max(axis=1) > 0.25), np.flatnonzero(mask.max(axis=0) > 0.25)
    box = np.s_[rows[0] * CELL : (rows[-1] + 1) * CELL, columns[0] * CELL : (columns[-1] + 1) * CELL]
    inside = np.repeat(np.repeat(mask > 0.25, CELL, 0), CELL, 1)[box]
    strength = coarse[box][inside]
    edges = strength >= np.partition(strength, int(0.75 * len(strength)))[int(0.75 * len(strength))]
    steep = np.log10((fine[box][inside][edges] + 0.1) / (strength[edges] + 0.1))
    steeper = np.log10((mid[box][inside][edges] + 0.1) / (wide[box][inside][edges] + 0.1))
    return [*np.percentile(steep, (25, 50, 75, 95)), *np.percentile(steeper, (50, 80))]


def _noise_cues(luma: np.ndarray, median: np.ndarray, log_energy: np.ndarray, energy: np.ndarray) -> list[float]:
    """What the noise of the whole inner face looks like, on its flattest parts and in single pixels.

    Not in the colours: with four cues of the chroma a grey copy lost 12 to 16 points (blur-1).
    """
    inner = inner_face()
    base = np.log10(energy[COARSE][:, inner].mean())
    cues = [value for k in range(3) for value in np.percentile(log_energy[k][inner], (5, 20, 50)) - base]
    jump = _window(cv2.absdiff(luma, median))
    for odd, least in ((jump > 12, 1e-3), (jump < 0.5, 1e-2)):
        cues.append(float(np.log10(_cells(odd.astype(np.float32))[inner].mean() + least)))
    return cues


# --- the network ----------------------------------------------------------------------------------------------------

SHARE = np.array([0.45, 0.2, 0.1, 0.25])  # of each of REGIONS in the score: one looks at the eyes first
LEAST = 0.5  # of its share a region keeps, however unsure: without it a face gained where its worst region was blurred
HALF, SLOPE = 1.4, 1.6  # the blur in aligned pixels at which sharpness is 50, and how fast it falls there
PIXEL = 0.25  # square of the blur in pixels that is too small to be told from none; the same number as in training


@dataclass(frozen=True)
class Blur:
    """Equivalent Gaussian blur of a face.

    Attributes:
        sigma: in pixels of the 512 template, for each of REGIONS.
        spread: the mean absolute error that the network expects of log2 of `sigma`, for each of REGIONS; 0.1 is 7 %.
        overall: sigma of the face, regions weighted by SHARE and by how certain they are.
        sharpness: 0..100.
    """

    sigma: dict[str, float]
    spread: dict[str, float]
    overall: float
    sharpness: float


def sharpness_at(sigma: float) -> float:
    """Sharpness 0..100 of an equivalent blur in aligned pixels: 100 at 0, 84 at 0.5, 63 at 1, 36 at 2, 16 at 4."""
    return float(100 / (1 + (sigma / HALF) ** SLOPE))


def blur(crop: np.ndarray) -> Blur:
    """Measure an aligned (512, 512, 3) uint8 RGB face; about 20 ms."""
    level, spread = _predict(features(crop))
    weight = SHARE * np.clip(0.15 / spread, LEAST, 1)
    overall = _sigma(np.array(float((weight * level).sum() / weight.sum())))
    return Blur(
        dict(zip(REGIONS, _sigma(level).tolist(), strict=True)),
        dict(zip(REGIONS, spread.tolist(), strict=True)),
        float(overall),
        sharpness_at(float(overall)),
    )


def blur_map(crop: np.ndarray, step: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """How sharp a face is from place to place: the network looks through a round hole of 60 px that moves over the face.

    Returns:
        (sigma (n, n) in aligned pixels, centres (n, n, 2) x, y in the 512 template).
    """
    n = SIDE // CELL
    middles = np.arange(3, n - 3, step)
    y, x = np.mgrid[:n, :n]
    holes = [np.clip(1.3 - np.hypot(y - cy, x - cx) / 3.2, 0, 1) for cy in middles for cx in middles]
    masks = np.asarray(holes, np.float32)
    kinds = np.einsum("nij,rij->nr", masks, region_masks()) + 1e-3
    level, _ = _predict(features(crop, masks, kinds / kinds.sum(axis=1, keepdims=True)))
    centres = (np.stack(np.meshgrid(middles, middles), axis=-1) + 0.5) * CELL + (LEFT, TOP)
    return _sigma(level).reshape(len(middles), -1), centres


def _sigma(level: np.ndarray) -> np.ndarray:
    """Blur in pixels from log2 of sqrt(sigma^2 + PIXEL).

    It bends towards zero instead of stopping there, so that of two crisp faces one is still the crisper.
    """
    rest = 4.0**level - PIXEL
    return np.sqrt((rest + np.sqrt(rest**2 + 0.01)) / 2)


@cache
def _network() -> dict[str, np.ndarray]:
    with np.load(WEIGHTS_FILE) as file:
        return {name: file[name] for name in file.files}


def _predict(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) log2 of sqrt(sigma^2 + PIXEL), (n,) its expected error: three networks' mean, and how far they disagree."""
    w = _network()
    x = np.clip((rows - w["mean"][:, None]) / w["scale"][:, None], -4, 4)  # (networks, n, 68)
    for layer in (0, 1):
        x = x @ w[f"w{layer}"] + w[f"b{layer}"][:, None]
        x = x / (1 + np.exp(-x))
    out = x @ w["w2"] + w["b2"][:, None]
    level, spread = out[..., 0], np.logaddexp(0, out[..., 1]) + 0.03
    return level.mean(axis=0), np.hypot(spread.mean(axis=0), level.std(axis=0))
