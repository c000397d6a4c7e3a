"""Face portraits, and what can be done to them to fool a sharpness score: blurs, nuisances, unusual attacks.

Every operation takes an (H, W, 3) uint8 RGB picture, the `Portrait` whose landmarks say where the face is in it, and a
random generator, and returns a new picture of the same size. Lengths are pixels of the 512 FFHQ frame, which
`Portrait.px` turns into the picture's own; what belongs to the pixel grid (noise, JPEG, dither, median) stays on it.
`workbench.trust` puts scores to the test with these.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageFilter
from scipy import fft, special

from workbench.files import open_picture
from workbench.scores.distortions import (
    LUMA,
    Attack,
    Pixels,
    Portrait,
    Rng,
    _byte,
    blur,
    coded,
    mosaic,
    noise,
    tone,
    usm,
)


def evaluation_portraits(folder: Path | str, leave_out: Iterable[str] = ()) -> list[Portrait]:
    """A folder of pictures with `faces.json`: [{"file": name, "lm5": five x, y in px}, ...]."""
    folder = Path(folder)
    return [
        Portrait(Path(row["file"]).stem, open_picture(folder / row["file"]), np.array(row["lm5"], dtype=np.float64))
        for row in json.loads((folder / "faces.json").read_text())
        if Path(row["file"]).stem not in set(leave_out)
    ]


# --- blurs


def _filtered(picture: Pixels, gain: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Pixels:
    """Multiply the spectrum by a function of the x and y frequency in cycles per px: exact below a pixel too."""
    padded = np.pad(picture.astype(np.float32), ((64, 64), (64, 64), (0, 0)), mode="reflect")
    spectrum: Any = fft.rfft2(padded, axes=(0, 1))
    spectrum *= gain(fft.rfftfreq(padded.shape[1])[None, :, None], fft.fftfreq(padded.shape[0])[:, None, None])
    return _byte(np.asarray(fft.irfft2(spectrum, padded.shape[:2], axes=(0, 1)))[64:-64, 64:-64])


def disk(picture: Pixels, face: Portrait, rng: Rng, sigma: float) -> Pixels:
    """Out of focus: an even disk of standard deviation `sigma` per axis (radius 2 sigma)."""

    def gain(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        z = 4 * np.pi * sigma * face.px * np.hypot(x, y) + 1e-9
        return 2 * special.j1(z) / z

    return _filtered(picture, gain)


def motion(picture: Pixels, face: Portrait, rng: Rng, sigma: float, angle: float = 0.6) -> Pixels:
    """Shaken: a line of standard deviation `sigma` along it (length sqrt(12) sigma)."""
    along = math.sqrt(12) * sigma * face.px * np.array([math.cos(angle), math.sin(angle)])
    return _filtered(picture, lambda x, y: np.sinc(along[0] * x + along[1] * y))


def down_up(picture: Pixels, face: Portrait, rng: Rng, factor: float, up: int = Image.Resampling.BICUBIC) -> Pixels:
    """Shrunk to `factor` px of the 512 frame per pixel (or per own pixel where these are larger), and enlarged again."""
    image, factor = Image.fromarray(picture), factor * max(face.px, 1)
    size = (max(round(image.width / factor), 1), max(round(image.height / factor), 1))
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC).resize(image.size, up))


def smooth_skin(picture: Pixels, face: Portrait, rng: Rng, amount: float) -> Pixels:
    """Skin as after a beauty filter: mixed with its bilateral filtering (whose full strength makes edges steeper)."""
    return _byte(
        picture + amount * (cv2.bilateralFilter(picture, 0, 40, max(4 * face.px, 1.0)) - picture.astype(np.float32))
    )


def median(picture: Pixels, face: Portrait, rng: Rng, side: int) -> Pixels:
    return cv2.medianBlur(picture, side)


def region_blur(picture: Pixels, face: Portrait, rng: Rng, region: str, sigma: float, outside: bool = False) -> Pixels:
    """Blur only a region of the face, or only what is outside it."""
    mask = 1 - face.mask(region) if outside else face.mask(region)
    return _byte(picture + mask * (blur(picture, sigma * face.px) - picture))


# --- nuisances that every score meets


def background(picture: Pixels, face: Portrait, rng: Rng, texture: str) -> Pixels:
    """Everything outside the face's hull replaced: by coarse noise, or by a thicket of fine lines."""
    mask = face.mask("hull")
    if texture == "noise":
        field = rng.normal(size=picture.shape).astype(np.float32)
        other = 128 + 55 * blur(field, 0.5) / 0.6
    else:
        other = np.full_like(picture, 128)
        ends = rng.uniform(0, [picture.shape[1], picture.shape[0]], size=(600, 2, 2)).astype(np.int32)
        for (one, two), colour in zip(ends.tolist(), rng.integers(0, 255, (600, 3)).tolist(), strict=True):
            cv2.line(other, one, two, colour, 1, cv2.LINE_AA)
    return _byte(other + mask * (picture - other.astype(np.float32)))


def chain(picture: Pixels, face: Portrait, rng: Rng, steps: list[Attack]) -> Pixels:
    for step in steps:
        picture = step(picture, face, rng)
    return picture


# --- attacks that a score has hardly met before


def film(picture: Pixels, face: Portrait, rng: Rng, sd: float) -> Pixels:
    """Film grain: grey, two sizes of grain, strongest in the mid-tones."""
    fine, coarse = (blur(rng.normal(size=picture.shape[:2]), size) for size in (0.7, 1.6))
    field = fine / fine.std() + 0.6 * coarse / coarse.std()
    tones = (picture @ LUMA)[..., None] / 255
    return _byte(picture + sd * field[..., None] * 2 * np.sqrt(tones * (1 - tones)))


def checker(picture: Pixels, face: Portrait, rng: Rng, side: float, amplitude: float) -> Pixels:
    """A checkerboard laid over, squares of `side` px of the 512 frame."""
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]] // max(round(side * face.px), 1)
    return _byte(picture + amplitude * (1 - 2.0 * ((x + y) % 2))[..., None])


def local_contrast(picture: Pixels, face: Portrait, rng: Rng, limit: float) -> Pixels:
    """CLAHE on the lightness."""
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(limit, (8, 8)).apply(lab[..., 0])
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def deconvolve(picture: Pixels, face: Portrait, rng: Rng, sigma: float, steps: int) -> Pixels:
    """Richardson-Lucy for a Gaussian of `sigma` px of the 512 frame."""
    seen = picture.astype(np.float32) + 1
    guess = seen
    for _ in range(steps):
        guess = guess * blur(seen / np.maximum(blur(guess, sigma * face.px), 1), sigma * face.px)
    return _byte(guess - 1)


def posterise(picture: Pixels, face: Portrait, rng: Rng, levels: int) -> Pixels:
    return _byte(np.rint(picture / 255 * (levels - 1)) * 255 / (levels - 1))


def salt_pepper(picture: Pixels, face: Portrait, rng: Rng, share: float) -> Pixels:
    draw = rng.uniform(size=(*picture.shape[:2], 1))
    return np.where(draw < share / 2, 0, np.where(draw < share, 255, picture)).astype(np.uint8)


def strokes(picture: Pixels, face: Portrait, rng: Rng, count: int, light: bool, width: float = 1.0) -> Pixels:
    """Thin bent hairs over the face, dark or light, anti-aliased, at least one pixel wide."""
    start = rng.uniform((130, 110), (382, 440), (count, 1, 2))
    reach, bend = rng.normal(size=(count, 1, 2)) * 70, rng.normal(size=(count, 1, 2)) * 18
    t = np.linspace(0, 1, 12)[None, :, None]
    curves = np.rint(face.to_picture(start + reach * t + bend * 4 * t * (1 - t)) * 16).astype(np.int32)
    colours = rng.integers(190, 255, (count, 3)) if light else rng.integers(10, 70, (count, 3))
    drawn = picture.copy()
    for curve, colour in zip(curves, colours.tolist(), strict=True):
        cv2.polylines(drawn, [curve], False, colour, max(round(width * face.px), 1), cv2.LINE_AA, shift=4)
    return _byte(picture + 0.85 * (drawn - picture.astype(np.float32)))


def text(picture: Pixels, face: Portrait, rng: Rng, word: str = "SAMPLE 2024") -> Pixels:
    """A watermark in three lines across the face."""
    drawn = picture.copy()
    for y in (215, 305, 400):
        at = face.to_picture(np.array([[120.0, y]]))[0]
        cv2.putText(drawn, word, (round(at[0]), round(at[1])), cv2.FONT_HERSHEY_SIMPLEX, 1.35 * face.px, (255, 255, 255),
                    max(round(2 * face.px), 1), cv2.LINE_AA)  # fmt: skip
    return _byte(picture + 0.6 * (drawn - picture.astype(np.float32)))


def screen(picture: Pixels, face: Portrait, rng: Rng, period: float, amplitude: float) -> Pixels:
    """A halftone: waves crossing at 45 degrees, period in px of the picture."""
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]] * (2 * np.pi / period / math.sqrt(2))
    return _byte(picture + amplitude * (np.cos(x + y) * np.cos(x - y))[..., None])


def scan_lines(picture: Pixels, face: Portrait, rng: Rng, step: int, dark: float) -> Pixels:
    result = picture.astype(np.float32)
    result[::step] *= dark
    return _byte(result)


def dots(picture: Pixels, face: Portrait, rng: Rng, count: int, light: bool) -> Pixels:
    """Glitter (white) or freckles (brown) of .7 to 1.6 px of the 512 frame, all over the face."""
    drawn = picture.copy()
    for x, y in face.to_picture(rng.uniform((130, 110), (382, 440), (count, 2))):
        radius = max(rng.uniform(0.7, 1.6) * face.px, 0.5)
        colour = (255, 255, 250) if light else (105, 62, 45)
        cv2.circle(drawn, (round(x * 16), round(y * 16)), round(radius * 16), colour, -1, cv2.LINE_AA, shift=4)
    return drawn if light else _byte(0.4 * picture + 0.6 * drawn)


def high_pass(picture: Pixels, face: Portrait, rng: Rng, radius: float) -> Pixels:
    """The retoucher's recipe: the high-pass of the picture laid over it in blend mode "overlay"."""
    base, top = picture / 255, (picture - blur(picture, radius * face.px)) / 255 + 0.5
    return _byte(255 * np.where(base < 0.5, 2 * base * top, 1 - 2 * (1 - base) * (1 - top)))


def detail(picture: Pixels, face: Portrait, rng: Rng, edge_aware: bool) -> Pixels:
    """A "more detail" filter: PIL's 3x3 kernel, or OpenCV's edge-aware one."""
    if edge_aware:
        return cv2.detailEnhance(picture, sigma_s=10, sigma_r=0.15)
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.DETAIL))


def ringing(picture: Pixels, face: Portrait, rng: Rng, boost: float, cut: float) -> Pixels:
    """Sharpening with a brick wall: cut / 2 to cut cycles/px (512 frame) are raised, what is above is lost."""

    def gain(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        frequency = np.hypot(x, y) * face.px
        return np.where(frequency > cut, 0, 1 + boost * np.clip(2 * frequency / cut - 1, 0, 1))

    return _filtered(picture, gain)


def hue_noise(picture: Pixels, face: Portrait, rng: Rng, sd: float) -> Pixels:
    """Noise of colour that leaves the luma alone."""
    field = rng.normal(size=picture.shape).astype(np.float32)
    return _byte(picture + sd * (field - (field @ LUMA)[..., None]))


def dither(picture: Pixels, face: Portrait, rng: Rng, colours: int) -> Pixels:
    """Floyd-Steinberg onto the picture's own palette."""
    image = Image.fromarray(picture)
    palette = image.quantize(colours)
    return np.asarray(image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).convert("RGB"))


SOFTENERS: dict[str, list[Attack]] = {
    "disk": [partial(disk, sigma=s) for s in (0.8, 1.4, 2.4, 4.0)],
    "motion": [partial(motion, sigma=s) for s in (1.2, 2.0, 3.4, 5.5)],
    "resampling": [partial(down_up, factor=f) for f in (1.6, 2.4, 3.6, 5.4)],
    "skin": [partial(smooth_skin, amount=a) for a in (0.25, 0.5, 0.75, 1.0)],
    "median": [partial(median, side=k) for k in (3, 5, 9, 13)],
}
"""Ladders of other blurs, each step softer than the one before; the untouched picture is the step before the first."""

NUISANCES: dict[str, dict[str, Attack]] = {
    "noise": {
        **{f"rgb {sd}": partial(noise, sd=sd) for sd in (4, 10, 20)},
        **{f"grey {sd}": partial(noise, sd=sd, grey=True) for sd in (4, 10, 20)},
        **{f"coarse {sd}": partial(noise, sd=sd, grey=grey, grain=1.0) for sd, grey in ((6, False), (12, True))},
    },
    "jpeg": {str(q): partial(coded, kind="JPEG", quality=q) for q in (30, 50, 70, 90)},
    "contrast": {
        "1.3": partial(tone, contrast=1.3), "1.7": partial(tone, contrast=1.7), "gamma 1.5": partial(tone, gamma=1.5),
        "gamma .65": partial(tone, gamma=0.65),
    },
    "usm": {
        "mild": partial(usm, radius=1.2, amount=0.5), "usual": partial(usm, radius=1.8, amount=1.0),
        "strong": partial(usm, radius=2.5, amount=1.6), "wide": partial(usm, radius=10, amount=0.5),
    },
    "background": {"noise": partial(background, texture="noise"), "lines": partial(background, texture="lines")},
    "colour": {
        "warm": partial(tone, gain=(1.12, 1, 0.8)), "cold": partial(tone, gain=(0.82, 1, 1.12)),
        "grey": partial(tone, grey=1.0),
    },
    "brightness": {"dark": partial(tone, gain=(0.6, 0.6, 0.6)), "light": partial(tone, lift=35)},
    "mixed": {
        "noise, jpeg": partial(chain, steps=[partial(noise, sd=8), partial(coded, kind="JPEG", quality=60)]),
        "usm, noise": partial(chain, steps=[partial(usm, radius=1.5, amount=0.8), partial(noise, sd=5)]),
        "contrast, jpeg": partial(chain, steps=[partial(tone, contrast=1.4), partial(coded, kind="JPEG", quality=40)]),
    },
}  # fmt: skip
"""Group ATK, by kind and name; `trust` adds the kind "size", which changes the picture's shape."""

HARD: dict[str, dict[str, Attack]] = {
    "film": {"8": partial(film, sd=8), "16": partial(film, sd=16)},
    "checker": {str(k): partial(checker, side=k, amplitude=9) for k in (2, 4, 8)},
    "local contrast": {"2": partial(local_contrast, limit=2), "4": partial(local_contrast, limit=4)},
    "deconvolution": {"6": partial(deconvolve, sigma=1.0, steps=6), "20": partial(deconvolve, sigma=1.0, steps=20)},
    "webp": {"15": partial(coded, kind="WEBP", quality=15), "50": partial(coded, kind="WEBP", quality=50)},
    "posterise": {"8": partial(posterise, levels=8), "16": partial(posterise, levels=16)},
    "median": {"3": partial(median, side=3), "5": partial(median, side=5)},
    "salt, pepper": {f"{100 * p:.1f} %": partial(salt_pepper, share=p) for p in (0.005, 0.015, 0.03)},
    "mosaic": {"4": partial(mosaic, side=4), "8": partial(mosaic, side=8)},
    "nearest": {f"x{k}": partial(down_up, factor=k, up=Image.Resampling.NEAREST) for k in (3, 5)},
    "strokes": {
        "dark": partial(strokes, count=30, light=False), "light": partial(strokes, count=30, light=True),
        "few": partial(strokes, count=6, light=False, width=2),
    },
    "text": {"white": text},
    "screen": {"4": partial(screen, period=4, amplitude=14), "7": partial(screen, period=7, amplitude=14)},
    "scan lines": {"2": partial(scan_lines, step=2, dark=0.88), "4": partial(scan_lines, step=4, dark=0.8)},
    "dots": {"glitter": partial(dots, count=120, light=True), "freckles": partial(dots, count=250, light=False)},
    "high-pass": {"2": partial(high_pass, radius=2), "4": partial(high_pass, radius=4)},
    "detail": {"kernel": partial(detail, edge_aware=False), "edges": partial(detail, edge_aware=True)},
    "ringing": {"wide": partial(ringing, boost=1.5, cut=0.25), "narrow": partial(ringing, boost=2.0, cut=0.15)},
    "hue noise": {"12": partial(hue_noise, sd=12), "25": partial(hue_noise, sd=25)},
    "dither": {"16": partial(dither, colours=16), "48": partial(dither, colours=48)},
}  # fmt: skip
"""Group HARD, by kind and name: what few scores have been trained against."""
