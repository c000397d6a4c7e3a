"""How symmetric a face is, whatever its pose, and how far the head is turned.

The face is compared with its own mirror image. That is first moved onto the face by the landmarks (an affine map of eyes and
mouth, which takes out turn, tilt and place, and a bump for the nose, which stands out of their plane), so that of a symmetric
face everything lies where its mirror image has it. What is left is measured patch by patch: how far each piece of the face
lies from where the mirrored other side has it. Patches are needed since the detector keeps its landmarks symmetric: it puts
them where a face should have them.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

SIDE = 128  # px: a quarter of the template, in which everything here is
HALF, REACH = 8, 9  # px: half the side of a patch, and how far it is looked for
FAR = 0.1  # of correlation: what a match at REACH has to be better by; without it a brow is taken for an eye
FLAT, LIKE = 3.0, 0.45  # 8-bit levels of deviation that a patch must have, and the correlation of a match
WANTED = 12  # patches: fewer say nothing
SIDEWAYS = (
    0.2  # weight of sideways distances, which a turned head has too (parallax); up and down nothing but asymmetry has
)
KEPT = 0.9  # share of the patches that count, the nearest: of the rest most are wrong matches, hair on one side of the face
HALF_WAY = 10.0  # px of the template at which symmetry is 37; natural portraits have 2.7, 4.6 and 7.9 (5, 50 and 95 %)
NOSE_DEPTH = 0.37  # of the nose tip before the plane of eyes and mouth, in eye distances (generic 3-D head models)
CENTRES = [(x, y) for y in range(40, 111, 6) for x in (*range(42, 64, 6), *range(67, 89, 6))
           if math.hypot((x - 63.5) / 24, (y - 74) / 36) < 1]  # fmt: skip


def symmetry(crop: np.ndarray, landmarks: np.ndarray) -> float | None:
    """Symmetry 0..100 of an aligned face, 100 where each half is the other's mirror image; None where too little is seen.

    Args:
        crop: (512, 512, 3) uint8 RGB, aligned on the template.
        landmarks: (5, 2) x, y in pixels of the crop.
    """
    apart = mismatch(crop, landmarks)
    return None if apart is None else 100 * math.exp(-((apart / HALF_WAY) ** 2))


def mismatch(crop: np.ndarray, landmarks: np.ndarray) -> float | None:
    """How far, root mean square in px of the template, the face's pieces lie from their mirror images. See `symmetry`."""
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32)
    small = cv2.GaussianBlur(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA), (0, 0), 1.0)
    mirror = _laid_on(small, (np.asarray(landmarks, np.float64) + 0.5) * SIDE / 512 - 0.5)
    dy, dx = np.mgrid[-REACH : REACH + 1, -REACH : REACH + 1]
    penalty = FAR * ((dx / REACH) ** 2 + (dy / REACH) ** 2)
    found = []
    for x, y in CENTRES:
        patch = small[y - HALF : y + HALF + 1, x - HALF : x + HALF + 1]
        if patch.std() < FLAT:
            continue
        place = mirror[y - HALF - REACH : y + HALF + REACH + 1, x - HALF - REACH : x + HALF + REACH + 1]
        match = cv2.matchTemplate(place, patch, cv2.TM_CCOEFF_NORMED) - penalty
        row, column = np.unravel_index(int(match.argmax()), match.shape)
        if match[row, column] >= LIKE:
            found.append((SIDEWAYS * (column - REACH), row - REACH, match[row, column] - LIKE + 0.05))
    if len(found) < WANTED:
        return None
    sideways, upright, weight = np.array(found).T
    squares = sideways**2 + upright**2
    kept = np.argsort(squares, kind="stable")[: int(KEPT * len(squares))]
    return float(512 / SIDE * np.sqrt((weight * squares)[kept].sum() / weight[kept].sum()))


def _laid_on(small: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The mirror image of a (SIDE, SIDE) face, moved so that its landmarks lie where the face has its own."""
    flipped = np.stack([SIDE - 1 - landmarks[:, 0], landmarks[:, 1]], axis=1)[[1, 0, 2, 4, 3]]
    corners = [0, 1, 3, 4]  # eyes and mouth
    known = np.hstack([landmarks[corners], np.ones((4, 1))])
    affine = np.linalg.lstsq(known, flipped[corners], rcond=None)[0]
    nose = flipped[2] - np.append(landmarks[2], 1.0) @ affine
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float64)
    bump = np.exp(-((x - landmarks[2, 0]) ** 2 + (y - landmarks[2, 1]) ** 2) / (2 * 14.0**2))
    at_x, at_y = (
        (x * affine[0, i] + y * affine[1, i] + affine[2, i] + nose[i] * bump).astype(np.float32) for i in (0, 1)
    )
    turned = np.ascontiguousarray(small[:, ::-1])
    return cv2.remap(turned, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def yaw(landmarks: np.ndarray) -> float:
    """Turn of the head in degrees by five landmarks and a mean nose, positive towards the picture's right."""
    left, right, nose, mouth_left, mouth_right = np.asarray(landmarks, np.float64)
    # the nose in the oblique frame of the eye line and the middle line: sideways offset = depth * sin(yaw)
    frame = np.stack([right - left, (mouth_left + mouth_right - left - right) / 2], axis=1)
    sideways = np.linalg.lstsq(frame, nose - (left + right) / 2, rcond=None)[0][0]  # in (foreshortened) eye distances
    return math.degrees(math.atan2(sideways, NOSE_DEPTH))
