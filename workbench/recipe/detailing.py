"""The face detailer at work: where each face is cut out, how large it is worked on, and how it is pasted back."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from PIL import Image

from workbench.files import resize
from workbench.models import detector_identity, detector_path, hardware, load_retinaface, out_of_memory
from workbench.store import Artefact

from .faces import Face, find_faces, pixels_of
from .rows import Denoising
from .stages.detail import REACH, Detail

if TYPE_CHECKING:
    from workbench.settings import Settings

    from .denoising import Diffusion

GRID = 8  # the VAE's: px of the picture that are one of the latents
LEAST_MASK = 0.02  # of which no more than this would be seen, is not worth a row


@dataclass(frozen=True)
class Crop:
    """A piece of a picture around a face.

    Attributes:
        box: left, top, right, bottom in px of the picture.
        size: (width, height) at which it is worked on, multiples of 8.
    """

    face: Face
    box: tuple[int, int, int, int]
    size: tuple[int, int]

    @property
    def own_size(self) -> tuple[int, int]:
        """(width, height) in px of the picture."""
        return (self.box[2] - self.box[0], self.box[3] - self.box[1])


def chosen(faces: Sequence[Face], size: tuple[int, int], most: int, least_share: float) -> list[Face]:
    """The faces that are detailed: the largest, at most `most`, with boxes above `least_share` of the picture's area."""
    area = size[0] * size[1]
    boxes = [_inside(face.box, size) for face in faces]
    large = [
        face
        for face, (x0, y0, x1, y1) in zip(faces, boxes, strict=True)
        if (x1 - x0) * (y1 - y0) > max(least_share * area, 0)
    ]
    return large[:most]


def crop_around(face: Face, size: tuple[int, int], padding: int, side: int) -> Crop:
    """The piece of a picture of `size` in which a face is worked on: a square where the picture has room for one.

    A face and its padding that are shorter than `side` are enlarged to it; larger ones keep their size, since shrinking them
    would blur them. The piece is moved into the picture, not cut off at its edge.
    """
    x0, y0, x1, y1 = _inside(face.box, size)
    left, top = max(np.floor(x0) - padding, 0), max(np.floor(y0) - padding, 0)
    right, bottom = min(np.ceil(x1) + 1 + padding, size[0]), min(np.ceil(y1) + 1 + padding, size[1])
    longer = int(max(right - left, bottom - top))
    if longer >= side:  # whole steps of the VAE's grid, so that nothing is resampled
        wanted = -(-longer // GRID) * GRID
        width, height = (max(min(wanted, each // GRID * GRID), GRID) for each in size)
        work = (width, height)
    else:
        width, height = (min(longer, each) for each in size)
        zoom = side / max(width, height)
        work = (max(round(width * zoom / GRID), 1) * GRID, max(round(height * zoom / GRID), 1) * GRID)
    start = [
        int(min(max(round((low + high - extent) / 2), 0), max(whole - extent, 0)))
        for low, high, extent, whole in ((left, right, width, size[0]), (top, bottom, height, size[1]))
    ]
    return Crop(face, (start[0], start[1], start[0] + width, start[1] + height), work)


def mask_of(crop: Crop, size: tuple[int, int], shape: str, dilate: int, blur: float) -> np.ndarray:
    """(height, width) float32 0..1 of the crop in the picture's px: how much of the detailed face is pasted.

    The face's box, or the ellipse in it, made larger by `dilate` px on each side, then softened by a Gaussian of `blur` px.
    It falls to 0 at the crop's edges, but not at those that are the picture's own.
    """
    left, top, right, bottom = crop.box
    margin = int(np.ceil(REACH * blur)) + 1
    x = np.arange(left - margin, right + margin) + 0.5
    y = np.arange(top - margin, bottom + margin)[:, None] + 0.5
    x0, y0, x1, y1 = crop.face.box
    across, down = (x1 - x0) / 2 + dilate, (y1 - y0) / 2 + dilate
    if min(across, down) <= 0:
        return np.zeros((bottom - top, right - left), np.float32)
    u, v = np.abs(x - (x0 + x1) / 2 - 0.5) / across, np.abs(y - (y0 + y1) / 2 - 0.5) / down
    inside = np.hypot(u, v) <= 1 if shape == "ellipse" else np.maximum(u, v) <= 1
    mask = inside.astype(np.float32)
    if blur > 0:
        kernel = 2 * int(np.ceil(REACH * blur)) + 1
        mask = cv2.GaussianBlur(mask, (kernel, kernel), blur, borderType=cv2.BORDER_REPLICATE)
    mask = mask[margin:-margin, margin:-margin]
    # no step where the crop ends inside the picture
    soft = max(REACH * blur, 1.0)
    for axis, (low, high, whole) in enumerate(((top, bottom, size[1]), (left, right, size[0]))):
        steps = np.arange(high - low, dtype=np.float32)
        ramp = np.ones_like(steps)
        if low > 0:
            ramp = np.minimum(ramp, steps / soft)
        if high < whole:
            ramp = np.minimum(ramp, steps[::-1] / soft)
        mask = mask * (ramp[:, None] if axis == 0 else ramp)
    return np.where(mask < 1 / 512, 0, mask).astype(np.float32)  # below half a level of 255 nothing changes


def paste_all(
    picture: Image.Image, crops: Sequence[Crop], detailed: Sequence[Image.Image], masks: Sequence[np.ndarray]
) -> Image.Image:
    """The picture with all detailed pieces pasted in, the first (the largest face) over the others.

    Where no mask is, every pixel is the picture's own.
    """
    result = pixels_of(picture).astype(np.float32)
    for crop, piece, mask in reversed(list(zip(crops, detailed, masks, strict=True))):
        left, top, right, bottom = crop.box
        place = result[top:bottom, left:right]
        new = np.asarray(resize(piece, crop.own_size), np.float32)
        place += mask[..., None] * (new - place)
    return Image.fromarray(np.clip(np.rint(result), 0, 255).astype(np.uint8))


def start(stage: Detail, diffusion: Diffusion, s: Settings, before: Artefact, origin: str) -> Denoising:
    """A row for each face that is detailed. `origin`: content key of `before`."""
    started = time.perf_counter()
    found = _find(diffusion, s, before, origin)
    picture = before.image
    faces = chosen(found, picture.size, s.detail_faces, s.detail_min_ratio)
    around = [crop_around(face, picture.size, stage.padding(s), s.detail_size) for face in faces]
    masks = [mask_of(crop, picture.size, s.detail_mask, s.detail_dilate, s.detail_blur) for crop in around]
    seen = [(crop, mask) for crop, mask in zip(around, masks, strict=True) if mask.max() > LEAST_MASK]
    crops, masks = [crop for crop, _ in seen], [mask for _, mask in seen]

    def cut(crop: Crop) -> Image.Image:
        return resize(picture.crop(crop.box), crop.size)

    rows = []
    for n, crop in enumerate(crops):
        state = torch.Generator("cpu").manual_seed(s.seed + n).get_state().numpy().tobytes()
        key = (origin, crop.box, crop.size, s.seed + n)
        rows.append(diffusion.img2img(stage, s, key, partial(cut, crop), state))
    seconds = time.perf_counter() - started

    def finish(decoded: list[Artefact]) -> Artefact:
        pasting = time.perf_counter()
        image = paste_all(picture, crops, [each.image for each in decoded], masks) if crops else picture
        took = seconds + time.perf_counter() - pasting + sum(each.seconds for each in decoded)
        return Artefact(image, before.generator_state, info=_about(found, len(faces), crops), seconds=took)

    return Denoising(stage.name, rows, finish)


def _find(diffusion: Diffusion, s: Settings, before: Artefact, origin: str) -> list[Face]:
    which = (s.detector, detector_identity(s.detector))  # its file may change meanwhile

    def load() -> object:
        return load_retinaface(detector_path(s.detector), hardware.device())

    def look() -> list[Face]:
        detector = diffusion.beside(("detector", which), load)
        diffusion.counts["detections"] += 1
        with out_of_memory("finding faces"):
            return find_faces(before.image, detector, s.detail_confidence)

    return diffusion.seen(("faces", origin, which, s.detail_confidence), look)


def _about(found: Sequence[Face], large: int, crops: Sequence[Crop]) -> dict[str, object]:
    faces = [
        {
            "box": [round(v, 2) for v in crop.face.box],
            "score": round(crop.face.score, 4),
            "crop": list(crop.box),
            "size": list(crop.size),
        }
        for crop in crops
    ]
    about: dict[str, object] = {"faces": faces, "found": len(found)}
    note = ""
    if not found:
        note = "the detailer found no face, so it changed nothing"
    elif not large:
        note = f"the detailer changed nothing: all {len(found)} faces are smaller than detail_min_ratio"
    elif len(crops) < large:
        note = f"detail_dilate leaves nothing of {large - len(crops)} of {large} faces, which are as before"
    return about | ({"notes": [note]} if note else {})


def _inside(box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """A box, without what reaches over the picture's edge."""
    x0, x1 = (float(min(max(v, 0), size[0])) for v in (box[0], box[2]))
    y0, y1 = (float(min(max(v, 0), size[1])) for v in (box[1], box[3]))
    return x0, y0, x1, y1
