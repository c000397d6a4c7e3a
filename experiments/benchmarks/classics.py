"""The sharpness scores that people use, to compare ours with: on whole pictures, or on aligned faces.

| name | source |
|---|---|
| laplacian | variance of the Laplacian (Pech-Pacheco et al. 2000) |
| tenengrad | Krotkov 1988, over the variance |
| fft | share of high frequencies |
| crete | Crete et al. 2007, scikit-image's `blur_effect` |
| cpbd | Narvekar and Karam 2011 |
| niqe | Mittal et al. 2013, basicsr's code |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import product

import cv2
import numpy as np
from PIL import Image
from skimage.feature import canny
from skimage.measure import blur_effect

from .attacks import LUMA

Metric = Callable[[Image.Image], float | None]  # a whole picture in, higher = sharper out; None when it finds no face
CropMetric = Callable[[np.ndarray], float | None]  # the same for an aligned crop (512, 512, 3) uint8 RGB


def _on_picture(metric: Callable[[np.ndarray], float], image: Image.Image) -> float:
    return metric(np.asarray(image.convert("RGB"), np.float32) @ LUMA)


def _on_crop(metric: Callable[[np.ndarray], float], crop: np.ndarray) -> float:
    """On the inner face of a 512 crop: eyes to chin, without hair and most of the background."""
    return metric(crop[112:432, 112:432].astype(np.float32) @ LUMA)


def _laplacian(grey: np.ndarray) -> float:
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())


def _tenengrad(grey: np.ndarray) -> float:
    """Mean squared Sobel gradient, over the variance, without which it is a measure of contrast."""
    x, y = (cv2.Sobel(grey, cv2.CV_32F, dx, 1 - dx) for dx in (1, 0))
    return float((x * x + y * y).mean() / (grey.var() + 1e-6))


def _fft_ratio(grey: np.ndarray) -> float:
    """log10 of the share of the (Hann-windowed) spectral energy above .125 cycles/px."""
    grey = (grey - grey.mean()) * np.outer(np.hanning(grey.shape[0]), np.hanning(grey.shape[1]))
    power = np.abs(np.fft.fft2(grey)) ** 2
    high = np.hypot(np.fft.fftfreq(grey.shape[0])[:, None], np.fft.fftfreq(grey.shape[1])) > 0.125
    return float(np.log10((power[high].sum() + 1e-9) / (power.sum() + 1e-9)))


def _cpbd(grey: np.ndarray) -> float:
    """Cumulative probability of blur detection (Narvekar and Karam, TIP 20(9) 2011): share of the vertical edges whose
    blur is seen with a probability of at most .63. Blocks of 64 px; an edge of width w in a block of contrast c is seen
    as blurred with 1 - exp(-(w / w_jnb)^3.6), w_jnb = 5 px for c <= 50, else 3."""
    grey = np.rint(grey)  # an edge ends where 8-bit grey stops rising, or the slopes of skin would prolong it
    # Octave's edge(), as in the authors' code: squared slope above twice its root mean, thinned; within 22.5 degrees
    strength = cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=1 / 8, borderType=cv2.BORDER_REFLECT) ** 2
    peaks = [(strength > np.roll(strength, 1, i)) & (strength > np.roll(strength, -1, i)) for i in (0, 1)]
    down, slope = np.gradient(grey)
    edge = (strength > 2 * np.sqrt(strength.mean())) & (peaks[0] | peaks[1]) & (np.abs(down) <= 0.4142 * np.abs(slope))
    edge[:, [0, -1]] = edge[[0, -1]] = False
    blocks, step, width = canny(grey), np.diff(grey, axis=1), np.zeros_like(grey)
    for sign in (1, -1):  # how far the grey goes on rising (falling) to the left and to the right of each pixel
        rising = sign * step > 0
        left, right = np.zeros_like(grey), np.zeros_like(grey)
        for x in range(1, grey.shape[1]):
            left[:, x] = (left[:, x - 1] + 1) * rising[:, x - 1]
            right[:, -1 - x] = (right[:, -x] + 1) * rising[:, -x]
        # counted from the pixels beside the edge's own, as the authors do
        width = np.where(sign * slope > 0, np.roll(left, 1, 1) + np.roll(right, -1, 1) + 2, width)
    seen = []
    for y, x in product(range(0, grey.shape[0] - 63, 64), range(0, grey.shape[1] - 63, 64)):
        block = np.s_[y : y + 64, x : x + 64]
        if blocks[block].mean() > 0.002:
            visible = 5 if np.ptp(grey[block]) <= 50 else 3
            seen += (1 - np.exp(-((width[block][edge[block]] / visible) ** 3.6))).tolist()
    return float(np.mean(np.array(seen) <= 0.635)) if seen else 0.0


def baselines() -> tuple[Mapping[str, Metric], Mapping[str, CropMetric]]:
    """The metrics that people use, all turned so that higher is sharper: on whole pictures, and (`_F`) on aligned faces."""
    from workbench.scores import niqe

    greys = {"laplacian": _laplacian, "tenengrad": _tenengrad, "fft": _fft_ratio}
    whole = {name: partial(_on_picture, metric) for name, metric in greys.items()}
    greys |= {"crete": lambda grey: -float(np.mean(blur_effect(grey))), "cpbd": _cpbd}
    crops: dict[str, CropMetric] = {f"{name}_F": partial(_on_crop, metric) for name, metric in greys.items()}
    crops["niqe_F"] = lambda crop: -value if isinstance(value := niqe(crop), float) else None  # lower is better
    return whole, crops
