"""Blur a crisp picture in many ways, then spoil it in many ways that are no change of sharpness.

The truth is "equivalent Gaussian blur": the sigma of the Gaussian whose blur of the crisp picture is nearest to the
softened one (least squares, a region at a time). It is taken before the nuisances, which by definition do not change it.
"""

from __future__ import annotations

from io import BytesIO

import cv2
import numpy as np
from PIL import Image
from sources import power_noise, smooth_noise

from workbench.recipe.faces import TEMPLATE_512, Face, measure_crop
from workbench.scores.blur_network import CELL, ELLIPSES, LEFT, REGIONS, SIDE, TOP, region_masks

LADDER = np.array([0, 0.3, 0.45, 0.6, 0.75, 0.9, 1.1, 1.3, 1.55, 1.85, 2.2, 2.6, 3.1, 3.7, 4.4, 5.3, 6.4, 7.8])
WINDOW = np.s_[TOP : TOP + SIDE, LEFT : LEFT + SIDE]
PAD = 24
EYES = 126  # px between the eyes of the template
PIECE = np.s_[TOP - PAD : TOP + SIDE + PAD, LEFT - PAD : LEFT + SIDE + PAD]


def luma(picture: np.ndarray) -> np.ndarray:
    return picture.astype(np.float32) @ np.array((0.299, 0.587, 0.114), np.float32)


def clipped(picture: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def gaussian(picture: np.ndarray, sigma: float) -> np.ndarray:
    return picture if sigma < 0.05 else cv2.GaussianBlur(picture, (0, 0), sigma)


def equivalent_sigma(crisp: np.ndarray, soft: np.ndarray) -> np.ndarray:
    """(4,) sigma in pixels for each region: the blur of `crisp` that is nearest to `soft`."""
    a, b = luma(crisp[PIECE]), luma(soft[PIECE])
    inner = np.s_[PAD : PAD + SIDE, PAD : PAD + SIDE]
    n = SIDE // CELL
    errors = []
    for sigma in LADDER:
        difference = (gaussian(a, sigma) - b)[inner]
        cells = (difference**2).reshape(n, CELL, n, CELL).mean(axis=(1, 3))
        errors.append([(cells * mask).sum() for mask in region_masks()])
    error = np.array(errors)
    found = []
    for r in range(len(REGIONS)):
        e, k = error[:, r], int(error[:, r].argmin())
        if 0 < k < len(LADDER) - 1:  # the bottom of the parabola through three points of the ladder
            parabola = np.polyfit(LADDER[k - 1 : k + 2], e[k - 1 : k + 2], 2)
            at = -parabola[1] / (2 * parabola[0]) if parabola[0] > 0 else LADDER[k]
            found.append(float(np.clip(at, LADDER[k - 1], LADDER[k + 1])))
        else:
            found.append(float(LADDER[k]))
    return np.array(found)


def flattened_sigma(crisp: np.ndarray, soft: np.ndarray) -> np.ndarray:
    """(4,) the blur of `crisp` that has as little fine detail as `soft`: for smoothing that spares edges, whose nearest
    blur is hardly any although all texture is gone."""
    n = SIDE // CELL

    def fine(picture: np.ndarray) -> np.ndarray:
        plane = np.square(picture - gaussian(picture, 1.7))[PAD : PAD + SIDE, PAD : PAD + SIDE]
        cells = np.log(plane.reshape(n, CELL, n, CELL).mean(axis=(1, 3)) + 0.05)
        return np.array([(cells * mask).sum() / mask.sum() for mask in region_masks()])

    ladder = np.array([fine(gaussian(luma(crisp[PIECE]), sigma)) for sigma in LADDER])
    here = fine(luma(soft[PIECE]))
    return np.array([np.interp(-here[r], -np.minimum.accumulate(ladder[:, r]), LADDER) for r in range(len(REGIONS))])


def region_pixels(rng: np.random.Generator, names: tuple[str, ...]) -> np.ndarray:
    """(512, 512, 1) soft mask of some regions, larger than the score's own."""
    y, x = np.mgrid[:512, :512].astype(np.float32)
    mask = np.zeros((512, 512), np.float32)
    grow = rng.uniform(1.0, 1.5)
    for name in names:
        for cx, cy, rx, ry in ELLIPSES[name]:
            far = np.hypot((x - cx) / (rx * grow), (y - cy) / (ry * grow))
            mask = np.maximum(mask, np.clip((1.25 - far) / 0.25, 0, 1))
    return mask[..., None]


# --- softening: the truth changes ------------------------------------------------------------------------------------


def disk(picture: np.ndarray, radius: float) -> np.ndarray:
    n = int(np.ceil(radius)) + 1
    y, x = np.mgrid[-n : n + 1, -n : n + 1]
    kernel = np.clip(radius + 0.5 - np.hypot(y, x), 0, 1)
    return cv2.filter2D(picture, -1, kernel / kernel.sum())


def motion(picture: np.ndarray, length: float, angle: float) -> np.ndarray:
    n = int(np.ceil(length)) // 2 + 2
    kernel = np.zeros((2 * n + 1, 2 * n + 1), np.float32)
    end = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    a, b = ((n - end) * 256).astype(int), ((n + end) * 256).astype(int)
    cv2.line(kernel, tuple(a.tolist()), tuple(b.tolist()), 1, 1, cv2.LINE_AA, 8)
    kernel = cv2.GaussianBlur(kernel, (0, 0), 0.5)
    return cv2.filter2D(picture, -1, kernel / kernel.sum())


def resampled(rng: np.random.Generator, picture: np.ndarray, factor: float) -> np.ndarray:
    small = max(24, round(512 / factor))
    down = Image.fromarray(picture).resize((small, small), Image.Resampling(int(rng.choice((1, 2, 3, 4, 5)))))
    return np.asarray(down.resize((512, 512), Image.Resampling(int(rng.choice((1, 2, 3, 5))))))


def mosaic(picture: np.ndarray, cells: int, phase: tuple[int, int] = (0, 0)) -> np.ndarray:
    rolled = np.roll(picture, phase, (0, 1))
    tiny = cv2.resize(rolled, (cells, cells), interpolation=cv2.INTER_AREA)
    return np.roll(cv2.resize(tiny, (512, 512), interpolation=cv2.INTER_NEAREST), (-phase[0], -phase[1]), (0, 1))


def soften(rng: np.random.Generator, picture: np.ndarray) -> tuple[np.ndarray, str]:
    """(a softened copy, uint8 RGB; how)."""
    kind = rng.choice(
        ("none", "gaussian", "disk", "motion", "resampled", "smoothing", "median", "mosaic", "nearest", "mixed"),
        p=(0.2, 0.34, 0.07, 0.05, 0.08, 0.1, 0.03, 0.04, 0.03, 0.06),
    )
    sigma = float(np.exp(rng.uniform(np.log(0.25), np.log(7))))
    match kind:
        case "none":
            return picture, kind
        case "gaussian":
            return clipped(gaussian(picture.astype(np.float32), sigma)), kind
        case "disk":
            return clipped(disk(picture.astype(np.float32), 2 * sigma)), kind
        case "motion":
            return clipped(motion(picture.astype(np.float32), 3 * sigma, rng.uniform(0, np.pi))), kind
        case "resampled":
            return resampled(rng, picture, float(np.exp(rng.uniform(np.log(1.1), np.log(8))))), kind
        case "smoothing":  # skin smoothing and what restorers do: flat parts lose texture, edges stay
            return smoothed(rng, picture), kind
        case "median":
            return cv2.medianBlur(picture, int(rng.choice((3, 5, 7)))), kind
        case "mosaic":
            before = clipped(gaussian(picture.astype(np.float32), rng.choice((0.0, sigma))))
            return mosaic(before, int(512 / rng.uniform(2, 18)), tuple(rng.integers(0, 9, 2).tolist())), kind
        case "nearest":
            before = clipped(gaussian(picture.astype(np.float32), rng.choice((0.0, sigma))))
            factor = int(rng.integers(2, 9))
            kept = np.clip(np.arange(512) // factor * factor + int(rng.integers(0, factor)), 0, 511)
            return before[kept][:, kept], kind
        case _:
            first, how = soften(rng, picture)
            second, also = soften(rng, first)
            return second, f"{how} {also}"


def smoothed(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    way = rng.integers(3)
    if way == 0:
        out = cv2.bilateralFilter(picture, -1, rng.uniform(10, 70), rng.uniform(1.5, 7))
    elif way == 1:
        out = cv2.fastNlMeansDenoisingColored(picture[PIECE], None, rng.uniform(3, 14), 6, 3, 9)
        whole = picture.copy()
        whole[PIECE] = out
        out = whole
    else:  # a guided filter
        p = picture.astype(np.float32)
        radius, limit = int(rng.integers(2, 12)), rng.uniform(20, 1500)
        size = (2 * radius + 1,) * 2
        mean = cv2.blur(p, size)
        variance = cv2.blur(p * p, size) - mean**2
        gain = variance / (variance + limit)
        out = clipped(cv2.blur(gain, size) * p + cv2.blur(mean * (1 - gain), size))
    if rng.random() < 0.4:
        skin = region_pixels(rng, ("skin", "nose"))
        out = clipped(out * skin + picture * (1 - skin))
    return out


# --- nuisances: the truth stays ---------------------------------------------------------------------------------------


def noise(rng: np.random.Generator, p: np.ndarray) -> np.ndarray:
    height, width = p.shape[:2]
    size = max(height, width)
    amount = float(np.exp(rng.uniform(np.log(1), np.log(30))))
    channels = int(rng.choice((1, 3)))
    match rng.integers(6):
        case 0 | 1:
            n = rng.normal(size=(height, width, channels))
        case 2:  # grain of some size
            n = smooth_noise(rng, size, rng.uniform(0.4, 2.5), channels).reshape(size, size, channels)[:height, :width]
        case 3:
            n = power_noise(rng, size + size % 2, rng.uniform(0.2, 1.0))[:height, :width, None]
        case 4:  # photon noise
            n = rng.normal(size=(height, width, channels)) * np.sqrt(np.maximum(p, 1) / 128)
        case _:  # speckle
            n = rng.normal(size=(height, width, channels)) * p / 128
    if rng.random() < 0.15:  # hue noise: hardly any in the luma
        n = n - luma(np.broadcast_to(n, p.shape))[..., None]
    return p + amount * n


def impulses(rng: np.random.Generator, p: np.ndarray) -> np.ndarray:
    share = float(np.exp(rng.uniform(np.log(0.001), np.log(0.08))))
    hit = rng.random(p.shape[:2]) < share
    values = rng.choice((0.0, 255.0), p.shape[:2]) if rng.random() < 0.7 else rng.uniform(0, 255, p.shape[:2])
    out = p.copy()
    out[hit] = values[hit][:, None]
    return out


def compressed(rng: np.random.Generator, p: np.ndarray) -> np.ndarray:
    file = BytesIO()
    options = {"quality": int(rng.integers(12, 98)), "subsampling": int(rng.choice((0, 2)))}
    Image.fromarray(clipped(p)).save(file, "JPEG", **options)
    return np.asarray(Image.open(file)).astype(np.float32)


def unsharp(rng: np.random.Generator, p: np.ndarray) -> np.ndarray:
    sigma = float(np.exp(rng.uniform(np.log(0.4), np.log(5))))
    amount = float(np.exp(rng.uniform(np.log(0.2), np.log(4))))
    detail = p - gaussian(p, sigma)
    if rng.random() < 0.3:
        detail = np.where(np.abs(detail) > rng.uniform(0, 5), detail, 0)
    if rng.random() < 0.3:  # on the luma only
        detail = luma(detail)[..., None]
    out = p + amount * detail
    if rng.random() < 0.25:  # kept within what stood around: no halo
        grown, waned = cv2.dilate(p, np.ones((5, 5), np.uint8)), cv2.erode(p, np.ones((5, 5), np.uint8))
        out = np.clip(out, waned, grown)
    return out


def local_contrast(rng: np.random.Generator, p: np.ndarray) -> np.ndarray:
    if rng.random() < 0.4:
        lab = cv2.cvtColor(clipped(p), cv2.COLOR_RGB2LAB)
        tiles = int(rng.integers(2, 12))
        lab[..., 0] = cv2.createCLAHE(rng.uniform(1, 6), (tiles, tiles)).apply(np.ascontiguousarray(lab[..., 0]))
        return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB).astype(np.float32)
    return p + rng.uniform(0.2, 1.2) * (p - gaussian(p, rng.uniform(6, 30)))


def deconvolved(rng: np.random.Generator, p: np.ndarray) -> np.ndarray:
    """Richardson-Lucy with a guess of the blur."""
    sigma, out = rng.uniform(0.6, 3), np.maximum(p, 1)
    for _ in range(int(rng.integers(2, 12))):
        out = out * gaussian(np.maximum(p, 1) / np.maximum(gaussian(out, sigma), 1), sigma)
    return out


def toned(rng: np.random.Generator, p: np.ndarray) -> np.ndarray:
    match rng.integers(6):
        case 0:
            return (p - 128) * rng.uniform(0.35, 1.8) + 128 + rng.uniform(-30, 30)
        case 1:
            return 255 * (np.clip(p, 0, 255) / 255) ** np.exp(rng.uniform(-0.8, 0.8))
        case 2:
            return p * rng.uniform(0.6, 1.35, 3)
        case 3:
            return p + rng.uniform(-60, 60)
        case 4:
            grey = luma(p)[..., None]
            return grey + (p - grey) * rng.choice((0.0, rng.uniform(0, 2.2)))
        case _:  # light from one side
            y, x = np.mgrid[: p.shape[0], : p.shape[1]] / max(p.shape[:2]) - 0.5
            angle = rng.uniform(0, 2 * np.pi)
            return p * (1 + rng.uniform(0.2, 0.9) * (x * np.cos(angle) + y * np.sin(angle)))[..., None]


def pattern(rng: np.random.Generator, p: np.ndarray) -> np.ndarray:
    """Checkers, lines, grids, dots laid over the picture."""
    y, x = np.mgrid[: p.shape[0], : p.shape[1]]
    period = int(rng.integers(1, 12))
    if rng.random() < 0.3:
        angle = rng.uniform(0, np.pi)
        x, y = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    match rng.integers(4):
        case 0:
            wave = ((x // period + y // period) % 2) * 2.0 - 1
        case 1:
            wave = (x // period % 2) * 2.0 - 1
        case 2:
            wave = np.sin(2 * np.pi * y / (period + 1))
        case _:
            wave = ((x % (period + 2) < 1) | (y % (period + 2) < 1)) * 2.0 - 1
    return p + float(np.exp(rng.uniform(np.log(2), np.log(45)))) * wave[..., None]


def drawn_over(rng: np.random.Generator, p: np.ndarray) -> np.ndarray:
    """Lines, hairs, dots and letters."""
    out = np.ascontiguousarray(clipped(p))
    height, width = p.shape[:2]
    tone = rng.uniform(0, 255, 3) if rng.random() < 0.4 else np.full(3, rng.choice((0, 255, 30, 220)))
    what = rng.integers(4)
    for _ in range(int(np.exp(rng.uniform(np.log(3), np.log(160))))):
        colour = tuple(np.clip(tone + rng.normal(0, 12), 0, 255).tolist())
        thick = int(rng.choice((1, 1, 1, 2, 3)))
        kind = cv2.LINE_AA if rng.random() < 0.6 else cv2.LINE_8
        a = rng.uniform(0.15, 0.85, 2) * (width, height)
        if what == 0:
            b = a + rng.normal(0, 0.15, 2) * (width, height)
            cv2.line(out, tuple(a.astype(int).tolist()), tuple(b.astype(int).tolist()), colour, thick, kind)
        elif what == 1:
            b, bow = a + rng.normal(0, 0.12, 2) * width, rng.normal(0, 0.05, 2) * width
            t = np.linspace(0, 1, 9)[:, None]
            points = a * (1 - t) + b * t + bow * 4 * t * (1 - t)
            cv2.polylines(out, [(points * 16).astype(np.int32)], False, colour, thick, kind, 4)
        elif what == 2:
            cv2.circle(out, tuple(a.astype(int).tolist()), int(rng.integers(0, 4)), colour, -1, kind)
        else:
            letters = "".join(chr(c) for c in rng.integers(48, 123, int(rng.integers(1, 9))))
            cv2.putText(
                out,
                letters,
                tuple(a.astype(int).tolist()),
                int(rng.integers(0, 4)),
                rng.uniform(0.2, 1.5),
                colour,
                thick,
                kind,
            )
    cover = rng.choice((1.0, rng.uniform(0.3, 1)))
    return p + cover * (out.astype(np.float32) - p)


def posterised(rng: np.random.Generator, p: np.ndarray) -> np.ndarray:
    step = 255 / int(rng.integers(5, 40))
    if rng.random() < 0.4:  # dithered
        p = p + rng.uniform(-0.5, 0.5, p.shape[:2])[..., None] * step
    return np.rint(p / step) * step


def background(rng: np.random.Generator, p: np.ndarray) -> np.ndarray:
    """Sharp noise or pattern round the face."""
    y, x = np.mgrid[: p.shape[0], : p.shape[1]]
    cy, cx = np.array(p.shape[:2]) * (0.54, 0.5)
    far = np.hypot((x - cx) / (0.28 * p.shape[1]), (y - cy) / (0.36 * p.shape[0]))
    mask = np.clip((far - rng.uniform(1.0, 1.3)) * 30, 0, 1)[..., None]
    return p * (1 - mask) + rng.choice((0.0, 255.0), p.shape[:2])[..., None] * mask


NUISANCES = {
    noise: 0.34, impulses: 0.04, compressed: 0.1, unsharp: 0.24, local_contrast: 0.04, deconvolved: 0.03,
    toned: 0.08, pattern: 0.03, drawn_over: 0.06, posterised: 0.02, background: 0.02,
}  # fmt: skip


def spoil(rng: np.random.Generator, picture: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """(spoilt uint8 RGB, names of what was done)."""
    count = int(rng.choice((1, 2, 3), p=(0.68, 0.26, 0.06)))
    chosen = rng.choice(len(NUISANCES), count, replace=False, p=np.array(list(NUISANCES.values())))
    kinds = [list(NUISANCES)[i] for i in chosen]
    p = picture.astype(np.float32)
    for kind in kinds:
        p = np.clip(kind(rng, p), 0, 255).astype(np.float32)
    return clipped(p), [kind.__name__ for kind in kinds]


# --- one example ------------------------------------------------------------------------------------------------------


def photograph(rng: np.random.Generator, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The aligned picture as it would stand in a photograph, larger or smaller and turned: (picture, landmarks)."""
    scale = float(rng.choice((1.0, np.exp(rng.uniform(np.log(0.3), np.log(2.2))))))
    size = max(96, round(512 * scale))
    scale = size / 512
    way = Image.Resampling(int(rng.choice((1, 3, 4, 5)))) if scale < 1 else Image.Resampling(int(rng.choice((1, 3))))
    out = picture if size == 512 else np.asarray(Image.fromarray(picture).resize((size, size), way))
    landmarks = (TEMPLATE_512 + 0.5) * scale - 0.5
    if rng.random() < 0.5:
        turn = cv2.getRotationMatrix2D((size / 2, size / 2), rng.uniform(-15, 15), 1.0)
        turn[:, 2] += rng.uniform(-0.5, 0.5, 2)
        out = cv2.warpAffine(out, turn, (size, size), flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT_101)
        landmarks = cv2.transform(landmarks[None], turn)[0]
    return out, landmarks


def face_at(landmarks: np.ndarray) -> Face:
    return Face((0, 0, 1, 1), 1.0, landmarks)


def example(
    rng: np.random.Generator, crisp: np.ndarray, own_sigma: float, spoilt: int
) -> tuple[list[np.ndarray], np.ndarray, float, list[list[str]]]:
    """One crisp picture softened: as it is, a little softer, and spoilt in some ways.

    Returns:
        (2 + spoilt aligned crops as the score sees them, (4,) true sigma of the regions, by how much the second crop is
        softer, nuisances of each crop).
    """
    if rng.random() < 0.5:
        crisp = np.ascontiguousarray(crisp[:, ::-1])
    crisp = clipped((crisp.astype(np.float32) - 128) * rng.uniform(0.5, 1.1) + 128 + rng.uniform(-30, 30))
    soft, how = soften(rng, crisp)
    if rng.random() < 0.2:  # only somewhere
        names = tuple(name for name in REGIONS if rng.random() < 0.5)
        mask = region_pixels(rng, names)
        soft = clipped(soft * mask + crisp * (1 - mask))
    seen, landmarks = photograph(rng, soft)
    aligned, _ = measure_crop(seen, face_at(landmarks))
    truth = equivalent_sigma(crisp, aligned)
    if "smoothing" in how or "median" in how:
        truth = np.maximum(truth, 0.8 * flattened_sigma(crisp, aligned))
    eyes = float(np.hypot(*(landmarks[1] - landmarks[0])))
    extra = float(np.exp(rng.uniform(np.log(0.4), np.log(2.0))))
    softer = clipped(gaussian(seen.astype(np.float32), extra * eyes / EYES))
    pictures = [(seen, []), (softer, []), *(spoil(rng, seen) for _ in range(spoilt))]
    crops = []
    for picture, _ in pictures:
        found = landmarks + rng.normal(0, rng.choice((0.004, 0.015)) * eyes, (5, 2))
        crops.append(measure_crop(picture, face_at(found))[0])
    return crops, np.hypot(truth, own_sigma), extra, [names for _, names in pictures]
