"""Find, align and paste back faces, as facexlib and CodeFormer do, without their FaceRestoreHelper.

That helper downloads a parsing network whenever it is built, changes its own matrices while it pastes, cuts decimals off
instead of rounding, and shifts the face by half a pixel when it enlarges. So the three steps are written out here.
Coordinates are pixels of the picture given, x to the right and y down, with (0, 0) at the centre of the first pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from PIL import Image

from workbench.errors import DegenerateFace, UsageError
from workbench.files import to_rgb

if TYPE_CHECKING:
    from facexlib.detection.retinaface import RetinaFace

TEMPLATE_512 = np.array(
    [
        [192.98138, 239.94708],
        [318.90277, 240.1936],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ]
)
"""FFHQ's mean left eye, right eye, nose, left and right mouth corner in a 512x512 crop (facexlib, CodeFormer)."""

BORDER = (132, 133, 135)
"""RGB of what lies outside the picture in a crop; facexlib's (135, 133, 132) is BGR."""

DETECTION_SIDES = (320, 1024)
"""Before detection a picture is resized so that its longer side is between these, in pixels. The detector's anchors go from
16 to 512 px: a thumbnail's face would be too small for them, a large picture's face too large."""

LARGE_FACE, GOOD_FACE = 400.0, 280.0
"""A face longer than the first, in pixels of the resized picture, is looked for again where it has the second. The mobile0.25
weights miss landmarks of three AI portraits by 3-4 % of the eye distance at 280 px, and by 6-8 % at 450-590 px."""

GUESS = 0.5
"""The score from which a large face, or the only one, is looked for again at GOOD_FACE, where it needs the whole THRESHOLD. A
portrait under scan lines scores below .97 at 430 px and .9998 at 280 px."""

PASTE_BLUR = 0.2
"""Blur before a crop is pasted smaller than it is, as a share of sqrt(zoom^2 - 1). 0.25 doubles the loss of an identity
restore at zoom 3 (mean difference 2.0 against 1.0 of 255); 0 leaves grain."""

THRESHOLD = 0.97
"""Lowest score of a face: facexlib's value; CodeFormer takes 0.8. With the mobile0.25 weights real faces score 0.98 and more,
the small SDXL's too, while textures and blurred shapes reach 0.5 to 0.95. A false face costs more here than a missed one:
the restorer would paint a face on it."""


@dataclass(frozen=True)
class Face:
    """One detected face, in pixels of the picture.

    Attributes:
        box: x0, y0, x1, y1; may reach over the picture's edge.
        score: the detector's confidence, 0..1.
        landmarks: (5, 2) float64: left eye, right eye, nose, left mouth corner, right mouth corner, where left is the
            picture's left.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: np.ndarray

    @property
    def eye_distance(self) -> float:
        """Distance between the eyes in pixels."""
        return float(np.hypot(*(self.landmarks[1] - self.landmarks[0])))

    @property
    def size(self) -> float:
        """The longer side of the box in pixels."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])


def pixels_of(image: Image.Image | np.ndarray) -> np.ndarray:
    """A picture as an (H, W, 3) uint8 RGB array, which the caller must not change. Raises `UsageError` for other arrays."""
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
            return image
        if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3, 4))):
            raise UsageError(
                f"a picture is (H, W), (H, W, 3) or (H, W, 4) of uint8, not {image.shape} of {image.dtype}."
            )
        image = Image.fromarray(image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image)
    return np.asarray(to_rgb(image))


def find_faces(image: Image.Image | np.ndarray, detector: RetinaFace, threshold: float = THRESHOLD) -> list[Face]:
    """Find the faces of a picture with RetinaFace (Deng et al. 2020).

    Args:
        image: a PIL picture of any mode, or a uint8 array (H, W), (H, W, 3) RGB or (H, W, 4) RGBA, of any size.
        detector: from `workbench.models.load_retinaface`.
        threshold: lowest score, 0..1.

    Returns:
        The faces, largest first; an empty list when there is none. The same picture gives the same list.
    """
    pixels = pixels_of(image)
    longer = max(pixels.shape[:2])
    if min(pixels.shape[:2]) < 2:
        return []
    zoom = min(max(longer, DETECTION_SIDES[0]), DETECTION_SIDES[1]) / longer
    seen = _detect(pixels, detector, min(threshold, GUESS), zoom)
    found = [face for face in seen if face.score >= threshold]
    largest = max((face.size for face in seen), default=0.0)
    if largest * zoom > LARGE_FACE or (not found and largest * zoom > GOOD_FACE / 2):
        again = _detect(pixels, detector, threshold, GOOD_FACE / largest)
        kept = [face for face in found if all(_overlap(face, other) < 0.4 for other in again)]
        if again:
            found = again + [face for face in kept if face.size * zoom <= LARGE_FACE]
    return sorted(found, key=lambda face: (-face.size, -face.score, face.box))


def _detect(pixels: np.ndarray, detector: RetinaFace, threshold: float, zoom: float) -> list[Face]:
    """The faces of an RGB picture that is resized by `zoom` for the detector, in pixels of the picture itself."""
    height, width = pixels.shape[:2]
    seen = pixels
    if zoom != 1:
        size = (max(round(width * zoom), 1), max(round(height * zoom), 1))
        seen = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
    rows = _rows(seen, detector, threshold)
    # cv2.resize puts pixel centres at halves: x of the view is (x + 0.5) * ratio - 0.5 of the picture
    ratio = np.array([width / seen.shape[1], height / seen.shape[0]])
    found = []
    for row in rows:
        points = (row[[0, 1, 2, 3, *range(5, 15)]].reshape(7, 2) + 0.5) * ratio - 0.5
        x0, y0, x1, y1 = points[:2].flatten().tolist()
        found.append(Face((x0, y0, x1, y1), float(row[4]), points[2:]))
    return found


def _rows(seen: np.ndarray, detector: RetinaFace, threshold: float) -> np.ndarray:
    """(n, 15) float64: x0, y0, x1, y1, score and five landmarks, in pixels of an RGB picture, best first.

    Bit for bit what facexlib's `detect_faces` returns, without its two faults. It keeps the picture's size in the network's
    attributes, so that two threads with one detector put each other's faces into wrong places. And it makes its anchors in a
    Python loop: 0.18 s for 1024x1024 px, a third of scoring a picture, in which no other thread can run.
    """
    from facexlib.detection.retinaface_utils import decode, decode_landm, py_cpu_nms

    height, width = seen.shape[:2]
    variance, device = detector.cfg["variance"], detector.mean_tensor.device
    # BGR 0..255 minus (104, 117, 123); the layout in memory is facexlib's too, since it decides the last bits
    pixels = np.ascontiguousarray(seen[..., ::-1]).astype(np.float32).transpose(2, 0, 1)
    with torch.inference_mode():
        shifts, likely, points = detector(torch.from_numpy(pixels).unsqueeze(0).to(device) - detector.mean_tensor)
        anchors = _anchors(height, width, detector.cfg["min_sizes"], detector.cfg["steps"]).to(device)
        size = torch.tensor([width, height] * 5, dtype=torch.float32, device=device)
        boxes = (decode(shifts[0], anchors, variance) * size[:4]).cpu().numpy()
        landmarks = (decode_landm(points[0], anchors, variance) * size).cpu().numpy()
        scores = likely[0].cpu().numpy()[:, 1]
    chosen = np.where(scores > threshold)[0]
    chosen = chosen[scores[chosen].argsort()[::-1]]
    rows = np.hstack([boxes[chosen], scores[chosen, None], landmarks[chosen]])
    return rows[py_cpu_nms(rows[:, :5], 0.4)].astype(np.float64)


def _anchors(height: int, width: int, sizes: list[list[int]], steps: list[int]) -> torch.Tensor:
    """facexlib's `PriorBox`: (n, 4) float32 with middle x, middle y, width and height as shares of the picture's size."""
    levels = []
    for step, sides in zip(steps, sizes, strict=True):
        grid = np.empty((math.ceil(height / step), math.ceil(width / step), len(sides), 4))
        grid[..., 0] = ((np.arange(grid.shape[1]) + 0.5) * step / width)[:, None]
        grid[..., 1] = ((np.arange(grid.shape[0]) + 0.5) * step / height)[:, None, None]
        grid[..., 2], grid[..., 3] = np.array(sides) / width, np.array(sides) / height
        levels.append(grid.reshape(-1, 4))
    return torch.from_numpy(np.concatenate(levels).astype(np.float32))


def _overlap(one: Face, other: Face) -> float:
    """Area that two boxes have in common, as a share of the smaller one's: 0..1."""
    x0, y0 = np.maximum(one.box[:2], other.box[:2])
    x1, y1 = np.minimum(one.box[2:], other.box[2:])
    areas = [(face.box[2] - face.box[0]) * (face.box[3] - face.box[1]) for face in (one, other)]
    return float(max(x1 - x0, 0) * max(y1 - y0, 0) / max(min(areas), 1e-6))


def estimate_matrix(landmarks: np.ndarray, size: int = 512) -> np.ndarray:
    """The (2, 3) matrix of the turn, zoom and shift that best lay five landmarks (5, 2) onto FFHQ's template of that size.

    Raises:
        DegenerateFace: the landmarks coincide or are not finite.
    """
    matrix = None
    points = np.asarray(landmarks, dtype=np.float64)
    if points.shape == (5, 2) and np.isfinite(points).all():
        # least median of squares, deterministic, as facexlib; None when the points coincide
        matrix = cv2.estimateAffinePartial2D(points, TEMPLATE_512 * (size / 512), method=cv2.LMEDS)[0]
    if matrix is None or not np.isfinite(matrix).all() or math.hypot(*matrix[0, :2]) < 1e-6:
        raise DegenerateFace("the face's five landmarks coincide, so it cannot be aligned; leave this face out.")
    return matrix


def align(image: Image.Image | np.ndarray, face: Face, size: int = 512) -> tuple[np.ndarray, np.ndarray]:
    """Cut a face out, upright and in FFHQ's pose, as CodeFormer was trained on.

    Sampled as facexlib does, by `cv2.warpAffine` with linear interpolation alone, so that a restorer sees the same here as
    there. So a face larger than the template (eyes more than 126 px apart at size 512) gets some aliasing; to measure
    sharpness use `measure_crop`.

    Args:
        image: as for `find_faces`.
        face: from `find_faces` on the same picture.
        size: side of the crop in pixels.

    Returns:
        (crop (size, size, 3) uint8 RGB, (2, 3) float64 matrix from picture to crop coordinates).

    Raises:
        DegenerateFace.
    """
    matrix = estimate_matrix(face.landmarks, size)
    crop = cv2.warpAffine(
        pixels_of(image),
        matrix,
        (size, size),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=BORDER,
    )
    return crop, matrix


def enlarged(matrix: np.ndarray, zoom: float) -> np.ndarray:
    """`align`'s matrix for the same picture made `zoom` times as large: it says where the crop belongs in there.

    Pixel centres are at halves: x + .5 = (x' + .5) / zoom. facexlib shifts by zoom / 2 instead of (zoom - 1) / 2, which is
    half a pixel of the larger picture: a face pasted back at zoom 2 was off by 4.2 of 255, where it is 2.1 here.
    """
    linear = matrix[:, :2] / zoom
    return np.column_stack([linear, matrix[:, 2] + matrix[:, :2] @ np.full(2, 0.5 / zoom - 0.5)])


def measure_crop(image: Image.Image | np.ndarray, face: Face, size: int = 512) -> tuple[np.ndarray, float]:
    """Cut a face out for measuring, as `align` does but with less harm to it.

    A face larger than the template is shrunk by Lanczos first, so that it cannot alias; a smaller one is enlarged by cubic
    interpolation, which blurs less than linear. Only the face's surroundings are looked at, so that the time does not grow
    with the picture.

    Args:
        image: as for `find_faces`.
        face: from `find_faces` on the same picture.
        size: side of the crop in pixels.

    Returns:
        (crop (size, size, 3) uint8 RGB, crop pixels per picture pixel: above 1 the face was enlarged).

    Raises:
        DegenerateFace.
    """
    pixels = pixels_of(image)
    landmarks = np.asarray(face.landmarks, dtype=np.float64)
    matrix = estimate_matrix(landmarks, size)
    zoom = math.hypot(*matrix[0, :2])
    corners = cv2.transform(
        np.array([[[0, 0], [size, 0], [0, size], [size, size]]], np.float64), cv2.invertAffineTransform(matrix)
    )[0]
    margin = 4 / min(zoom, 1.0) + 2  # Lanczos reaches three pixels of the smaller picture
    left, top = np.clip(np.floor(corners.min(axis=0) - margin), 0, (pixels.shape[1], pixels.shape[0])).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(axis=0) + margin), 0, (pixels.shape[1], pixels.shape[0])).astype(int)
    piece = pixels[top:bottom, left:right]
    if not piece.size:
        raise DegenerateFace("the face's crop lies outside the picture; leave this face out.")
    landmarks = landmarks - (left, top)
    if zoom < 1:
        height, width = piece.shape[:2]
        small = (max(1, round(width * zoom)), max(1, round(height * zoom)))
        piece = np.asarray(Image.fromarray(piece).resize(small, Image.Resampling.LANCZOS))
        # pixel centres: x' + .5 = (x + .5) * ratio
        landmarks = (landmarks + 0.5) * (small[0] / width, small[1] / height) - 0.5
    crop = cv2.warpAffine(
        piece, estimate_matrix(landmarks, size), (size, size), flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_CONSTANT, borderValue=BORDER,
    )  # fmt: skip
    return crop, zoom


def _soft_square(size: int) -> np.ndarray:
    """(size, size) float32 0..1: one inside, falling to zero at the edge.

    As facexlib's mask without a parsing network (`use_parse=False`): a square without a margin of a twentieth of its side,
    blurred as far. It is made in the crop, so that its soft edge keeps its proportion to the face, however large that is.
    """
    edge = size // 20
    mask = np.zeros((size, size), np.float32)
    mask[edge : size - edge, edge : size - edge] = 1.0
    mask = cv2.GaussianBlur(mask, (2 * edge + 1, 2 * edge + 1), 0, borderType=cv2.BORDER_CONSTANT)
    mask[0], mask[-1], mask[:, 0], mask[:, -1] = 0, 0, 0, 0
    return mask


def paste(
    image: Image.Image | np.ndarray, restored_crop: np.ndarray, matrix: np.ndarray, visibility: float = 1.0
) -> Image.Image:
    """Put a restored face back where `align` took it from, at the picture's own size.

    Args:
        image: as for `find_faces`; not changed.
        restored_crop: (size, size, 3) uint8 RGB.
        matrix: what `align` returned with the crop; not changed.
        visibility: how much of the restored face is seen over the picture's own, 0..1.

    Returns:
        A new RGB picture. Outside the mask every pixel is the input's own.

    Raises:
        DegenerateFace: the matrix cannot be inverted.
    """
    result = pixels_of(image).copy()
    height, width = result.shape[:2]
    size = restored_crop.shape[0]
    zoom = math.hypot(*matrix[0, :2])
    if not np.isfinite(matrix).all() or zoom < 1e-6:
        raise DegenerateFace("the face's alignment matrix cannot be inverted; leave this face out.")
    inverse = cv2.invertAffineTransform(np.asarray(matrix, dtype=np.float64))
    corners = cv2.transform(np.array([[[0, 0], [size, 0], [0, size], [size, size]]], np.float64), inverse)[0]
    left, top = np.maximum(np.floor(corners.min(axis=0)).astype(int), 0).tolist()
    right, bottom = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 1, (width, height)).tolist()
    if left >= right or top >= bottom:
        return Image.fromarray(result)
    inverse[:, 2] -= (left, top)
    box = (right - left, bottom - top)
    source = restored_crop.astype(np.float32)
    if zoom > 1:
        # the crop has more pixels than the place it goes to: without this its finest lines turn to grain
        sigma = max(PASTE_BLUR * math.sqrt(zoom**2 - 1), 1e-3)
        source = cv2.GaussianBlur(source, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    face = cv2.warpAffine(source, inverse, box, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.warpAffine(_soft_square(size), inverse, box, flags=cv2.INTER_LINEAR, borderValue=0)[..., None]
    mask = mask if visibility == 1 else mask * visibility
    place = result[top:bottom, left:right]
    blended = np.clip(np.rint(mask * face + (1 - mask) * place), 0, 255).astype(np.uint8)
    result[top:bottom, left:right] = np.where(mask > 0, blended, place)
    return Image.fromarray(result)
