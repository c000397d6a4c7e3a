"""Whether a face was torn since its first picture: how little of its coarse shape is left where eyes, nose and mouth were.

Refining adds detail to a face and leaves its shape; what tears one draws edges where there were none. So both pictures are
looked at in one band (`FINE` to `COARSE`), which has brows, lids, nostrils and lips and neither pores nor light, and piece
by piece the final one is looked for in the first one, at its own place and `REACH` around it (normalised cross-correlation,
Lewis 1995). The limit is from experiments/deformed.
"""

from __future__ import annotations

import cv2
import numpy as np

from .measures import NotMeasured

SIDE = 128  # px: a quarter of the template, in which everything here is
FINE, COARSE = 1.0, 4.0  # px: the sigmas between which the band lies, 4 and 16 px of the template
HALF = 7  # px: half the side of a piece,
REACH = 2  # and how far from its place it is looked for: a whole mouth may move by 8 px of the face
FLAT = 0.5  # 8-bit levels of deviation in the band: a face that has less in the mean piece shows nothing that could be torn
# middles of the pieces (x, y): eyes and brows; nose to chin
EYES = [(x, y) for y in range(52, 71, 6) for x in range(40, 89, 6)]
MOUTH = [(x, y) for y in range(76, 107, 6) for x in range(44, 85, 6)]


def deformed(crop: np.ndarray, reference_crop: np.ndarray) -> float | NotMeasured:
    """How much of a face's coarse shape is new: 0 = all is where it was, 1 = nothing is; the worse of eyes and mouth.

    Args:
        crop: (512, 512, 3) uint8 RGB, aligned on the template.
        reference_crop: the same place of the first picture, which may be softer.
    """
    band, before = _band(crop), _band(reference_crop)
    worst = None
    for pieces in (EYES, MOUTH):
        apart, weight = np.array([_apart(band, before, x, y) for x, y in pieces]).T
        if weight.mean() >= FLAT:
            worst = max(worst or 0.0, float((apart * weight).sum() / weight.sum()))
    return NotMeasured("the face is too flat to tell whether it was torn") if worst is None else worst


def _band(crop: np.ndarray) -> np.ndarray:
    grey = cv2.resize(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    grey = grey.astype(np.float32)
    return cv2.GaussianBlur(grey, (0, 0), FINE) - cv2.GaussianBlur(grey, (0, 0), COARSE)


def _apart(band: np.ndarray, before: np.ndarray, x: int, y: int) -> tuple[float, float]:
    """(1 - the best correlation of a piece with what was near it before, 0..1; deviation of what is or was there, in levels)

    What was there counts as much as what is, so that a mouth that has gone is not passed over.
    """
    piece = band[y - HALF : y + HALF + 1, x - HALF : x + HALF + 1]
    place = before[y - HALF - REACH : y + HALF + REACH + 1, x - HALF - REACH : x + HALF + REACH + 1]
    own, was = float(piece.std()), float(place.std())
    if min(own, was) < 1e-3:  # OpenCV calls a flat piece equal to anything
        return 1.0, max(own, was)
    return 1 - float(np.clip(cv2.matchTemplate(place, piece, cv2.TM_CCOEFF_NORMED).max(), 0, 1)), max(own, was)
