"""What can be done to a face portrait: blur, noise, sharpening, JPEG, contrast, mosaic.

Every operation takes an (H, W, 3) uint8 RGB picture, the `Portrait` whose landmarks say where the face is in it, and a
random generator, and returns a new picture of the same size. Lengths are pixels of the 512 FFHQ frame, which
`Portrait.px` turns into the picture's own; what belongs to the pixel grid (noise, JPEG) stays on it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image
from scipy import special

from workbench.recipe import faces

FRAME_EYES = 126.0
"""Distance between the eyes in the 512 frame, px (TEMPLATE_512: 125.9)."""

LARGEST = 1.3  # faces larger than this, in eye distances of the 512 frame, are shrunk before anything is done to them

LUMA = np.array([0.299, 0.587, 0.114], np.float32)

REGIONS = {
    "eyes": [(193, 240, 46, 30), (319, 240, 46, 30)],
    "mouth": [(257, 373, 76, 42)],
    "face": [(256, 288, 132, 172)],
    "hull": [(256, 272, 158, 204)],
}
"""Ellipses (x, y, half width, half height) in the 512 frame. `hull` holds forehead, cheeks and chin of the portraits
looked at, with a margin; what is outside it is background to us, hair and ears included."""


@dataclass(frozen=True)
class Portrait:
    """A picture with a face: RGB, and landmarks (5, 2) in its pixels, ordered as in `faces.Face`."""

    name: str
    image: Image.Image
    landmarks: np.ndarray

    @property
    def eye_distance(self) -> float:
        """Distance between the eyes, px of the picture."""
        return float(np.hypot(*(self.landmarks[1] - self.landmarks[0])))

    @property
    def px(self) -> float:
        """Length of one pixel of the 512 frame, in pixels of the picture."""
        return self.eye_distance / FRAME_EYES

    def prepared(self) -> Portrait:
        """Cut to 5.5 eye distances around the nose and shrunk (Lanczos) to an eye distance of at most 164 px."""
        reach, nose, image = 2.75 * self.eye_distance, self.landmarks[2], self.image.convert("RGB")
        left, top = np.floor(np.maximum(nose - reach, 0)).astype(int).tolist()
        right, bottom = np.ceil(np.minimum(nose + reach, image.size)).astype(int).tolist()
        cut = Portrait(self.name, image.crop((left, top, right, bottom)), self.landmarks - (left, top))
        return cut.scaled(min(1.0, LARGEST / self.px))

    def scaled(self, factor: float) -> Portrait:
        """In another size: Lanczos (which averages) down, bicubic up. Pixel centres: x' + .5 = (x + .5) ratio."""
        if factor == 1:
            return self
        size = (max(round(self.image.width * factor), 1), max(round(self.image.height * factor), 1))
        image = self.image.resize(size, Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC)
        return Portrait(self.name, image, (self.landmarks + 0.5) * (np.array(size) / self.image.size) - 0.5)

    def mask(self, region: str) -> np.ndarray:
        """(H, W, 1) float32, 1 inside the region, falling to 0 over an outer tenth."""
        (a, b, c), (d, e, f) = faces.estimate_matrix(self.landmarks)
        y, x = np.mgrid[: self.image.height, : self.image.width].astype(np.float32)
        x, y = a * x + b * y + c, d * x + e * y + f
        radius = np.min([np.hypot((x - cx) / rx, (y - cy) / ry) for cx, cy, rx, ry in REGIONS[region]], axis=0)
        return np.clip((1.1 - radius) / 0.1, 0, 1).astype(np.float32)[..., None]

    def to_picture(self, points: np.ndarray) -> np.ndarray:
        """(..., 2) points of the 512 frame in pixels of the picture."""
        matrix = cv2.invertAffineTransform(faces.estimate_matrix(self.landmarks))
        return points @ matrix[:, :2].T + matrix[:, 2]


def portrait_of(name: str, image: Image.Image) -> Portrait | None:
    """The largest face that RetinaFace finds."""
    from workbench.models import load_retinaface

    found = faces.find_faces(image, load_retinaface())
    return Portrait(name, image, found[0].landmarks) if found else None


Pixels = np.ndarray  # (H, W, 3) uint8 RGB

Rng = np.random.Generator

Attack = Callable[[Pixels, Portrait, Rng], Pixels]


def _byte(picture: Pixels) -> Pixels:
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def blur(picture: Pixels, sigma: float) -> Pixels:
    """Gaussian blur of `sigma` px of the picture, as float32.

    The kernel is Lindeberg's discrete Gaussian e^-t I_n(t), t = sigma^2 (PAMI 1990): its variance is exactly t and blurs
    add up exactly, while a sampled Gaussian of .3 px (a small face) has a seventh of the variance it should have.
    """
    if sigma <= 0:
        return picture.astype(np.float32)
    reach = math.ceil(4 * sigma + 2)
    kernel = special.ive(np.abs(np.arange(-reach, reach + 1)), sigma**2)
    kernel /= kernel.sum()
    return cv2.sepFilter2D(picture.astype(np.float32), -1, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)


def noise(picture: Pixels, face: Portrait, rng: Rng, sd: float, grey: bool = False, grain: float = 0.0) -> Pixels:
    """Gaussian noise of `sd` of 255; the same in all channels if grey; `grain` is its own blur in px of the picture."""
    field = rng.normal(size=(*picture.shape[:2], 1 if grey else 3)).astype(np.float32)
    if grain:
        field = blur(field, grain).reshape(field.shape)
        field /= field.std()
    return _byte(picture + sd * field)


def coded(picture: Pixels, face: Portrait, rng: Rng, kind: str, quality: int) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def tone(
    picture: Pixels, face: Portrait, rng: Rng, *,
    contrast: float = 1.0, gamma: float = 1.0, gain: Sequence[float] = (1, 1, 1), grey: float = 0.0, lift: float = 0.0,
) -> Pixels:  # fmt: skip
    """Contrast about the mean, gamma, gain per channel, a share of grey, an offset of 255."""
    value = (picture.astype(np.float32) / 255) ** gamma
    value = value.mean() + contrast * (value - value.mean())
    value = value + grey * ((value @ LUMA)[..., None] - value)
    return _byte(255 * value * np.array(gain, np.float32) + lift)


def usm(picture: Pixels, face: Portrait, rng: Rng, radius: float, amount: float) -> Pixels:
    """Unsharp mask, radius in px of the 512 frame."""
    return _byte(picture + amount * (picture - blur(picture, radius * face.px)))


def mosaic(picture: Pixels, face: Portrait, rng: Rng, side: float) -> Pixels:
    """Blocks of `side` px of the 512 frame (at least 2 of the picture), each its own mean."""
    height, width = picture.shape[:2]
    side = max(round(side * face.px), 2)
    rows, columns = -(-height // side), -(-width // side)
    padded = np.pad(picture, ((0, rows * side - height), (0, columns * side - width), (0, 0)), mode="edge")
    small = padded.reshape(rows, side, columns, side, 3).mean((1, 3))
    return _byte(small.repeat(side, 0).repeat(side, 1)[:height, :width])
