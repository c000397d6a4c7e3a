"""The stages after diffusion: faces restored and pasted back, and the picture enlarged."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from PIL import Image

from workbench.errors import UsageError
from workbench.files import pixels_sha256, resize
from workbench.models import (
    LoadedUpscaler,
    Report,
    detector_path,
    hardware,
    load_face_restorer,
    load_retinaface,
    load_upscaler,
    model_path,
    out_of_memory,
    restorer_file,
)
from workbench.settings import Settings
from workbench.store import Artefact

from . import faces
from .stages.faces import Faces

COLOURED = 3.0
"""Spread of a and b (CIELAB) beside one tint, from which on a face has colours. Of 48 faces in colour the least has 4.5 (as
greys 0.0 to 0.3, as sepia 0.3 to 0.7, 2.2 after JPEG at quality 75)."""
MOST_KEPT = 4  # faces whose features are kept: 47 MB each


@dataclass
class FaceCache:
    """What of one picture does not depend on the weight.

    Attributes:
        picture: hash of its pixels.
        faces: those in it; None where they were not looked for yet.
        features: {number of the face: its features}, of the first MOST_KEPT faces.
    """

    picture: str
    faces: list[faces.Face] | None = None
    features: dict[int, Any] = field(default_factory=dict)


class RestoreFaces:
    """Find every face, restore it at 512x512, paste it back.

    A picture without a face comes back unchanged, with `info["faces"] == []`: a result, not an error.

    Attributes:
        counts: what has run: {"detections": pictures looked at, "prefixes": faces through the part of the restorer that all
            weights share, "weights": restored faces, one for each weight}.
    """

    def __init__(self, settings: Settings) -> None:
        where = hardware.device()
        self.restorer = load_face_restorer(restorer_file(settings.restorer, model_path(settings.model)), where)
        self.detector = load_retinaface(detector_path(settings.detector), where)
        self.counts = {"detections": 0, "prefixes": 0, "weights": 0}
        self._kept: FaceCache | None = None

    def __call__(self, before: Artefact, settings: Settings, report: Report, onto: Artefact | None = None) -> Artefact:
        """As `many`, for one weight.

        The features of the newest picture are kept: with them a live picture follows a moved weight in 0.8 s, without in 1.3
        (embedded model).
        """
        digest = pixels_sha256(before.image)
        if self._kept is None or self._kept.picture != digest:
            self._kept = FaceCache(digest)
        return self.many(before, [settings], report, onto, kept=self._kept)[0]

    def many(
        self,
        before: Artefact,
        settings: Sequence[Settings],
        report: Report,
        onto: Artefact | None = None,
        *,
        kept: FaceCache | None = None,
    ) -> list[Artefact]:
        """Restore one picture at several weights and visibilities; what does not depend on the weight runs once.

        Args:
            before: the picture in which faces are found and from which they are cut.
            settings: may differ in `weight` and `restore_visibility`, and in settings that do not act here (like an upscaler
                that comes later).
            report: called as ("faces", restored, faces x weights) before the first and after each.
            onto: the same picture enlarged, into which the faces are pasted (CodeFormer's background upsampler); None pastes
                them into `before`.
            kept: what an earlier call found in this very picture; this call adds to it.

        Returns:
            For each of the settings the picture, and in `info["faces"]` the `box` (x0, y0, x1, y1 in its pixels) and `score`
            of each face. `seconds` is an equal share of the whole call's.

        Raises:
            UsageError: the settings differ in what chooses the networks, or `onto` is not `before` enlarged.
            RestorationFailed, OutOfMemory, or what `report` raises.
        """
        if not settings:
            return []
        others = sorted({name for other in settings for name in settings[0].diff(other)} & set(Faces.networks))
        if others:
            raise UsageError(
                f"faces are restored together only by the same {' and '.join(Faces.networks)}, these settings differ in "
                f"{' and '.join(others)}; restore them apart."
            )
        started = time.perf_counter()
        background = onto or before
        zoom = _zoom(before.image, background.image)
        pixels = np.asarray(before.image)
        grey = bool((pixels == pixels[..., :1]).all())
        found = self._find(before.image, kept)
        images = [background.image] * len(settings)
        weights = list(dict.fromkeys(s.weight for s in settings))  # each once, whatever the visibilities
        total = len(found) * len(weights)
        report("faces", 0, total)
        with out_of_memory("restoring faces"):
            for n, face in enumerate(found):
                crop, matrix = faces.align(pixels, face)
                features = self._features(crop, n, kept)
                restored = self._restore(features, weights, report, n * len(weights), total)
                del features
                at_weight = {w: keep_grey(crop, one, grey=grey) for w, one in zip(weights, restored, strict=True)}
                place = faces.enlarged(matrix, zoom)
                images = [
                    faces.paste(image, at_weight[s.weight], place, s.restore_visibility)
                    for image, s in zip(images, settings, strict=True)
                ]
        boxes = [(np.reshape(face.box, (2, 2)) + 0.5) * zoom - 0.5 for face in found]
        about = [
            {"box": [round(float(v), 2) for v in box.flat], "score": round(float(face.score), 4)}
            for box, face in zip(boxes, found, strict=True)
        ]
        seconds = (time.perf_counter() - started) / len(settings)
        return [Artefact(image, info={"faces": about}, seconds=seconds) for image in images]

    def _find(self, image: Image.Image, kept: FaceCache | None) -> list[faces.Face]:
        if kept is not None and kept.faces is not None:
            return kept.faces
        found = faces.find_faces(image, self.detector)
        self.counts["detections"] += 1
        if kept is not None:
            kept.faces = found
        return found

    def _features(self, crop: np.ndarray, number: int, kept: FaceCache | None) -> Any:
        """What the restorer makes of one face before a weight acts."""
        if kept is not None and number in kept.features:
            return kept.features[number]
        features = self.restorer.prefix(crop)
        self.counts["prefixes"] += 1
        if kept is not None and number < MOST_KEPT:
            kept.features[number] = features
        return features

    def _restore(self, features: Any, chosen: list[float], report: Report, before: int, total: int) -> list[np.ndarray]:
        """(512, 512, 3) uint8 RGB of one face at each of the weights."""

        def progress(done: int, _: int) -> None:
            self.counts["weights"] += 1
            report("faces", before + done, total)

        return self.restorer.suffix(features, chosen, progress)


def keep_grey(crop: np.ndarray, restored: np.ndarray, *, grey: bool) -> np.ndarray:
    """The restored face without colours that a black-and-white one did not have.

    Restorers were trained on colour photographs, and paint skin and lips into others. Where the crop has no colour but one
    tint (grey, sepia), the restored face keeps its lightness and takes that tint of the crop's.

    Args:
        crop, restored: (H, W, 3) uint8 RGB.
        grey: whether the picture has no colour at all. The crop does not tell, since what lies outside the picture has some.

    Returns:
        (H, W, 3) uint8 RGB; of a grey picture with three equal channels.
    """
    if grey:
        return np.repeat(cv2.cvtColor(restored, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    before = cv2.cvtColor(crop.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    tint, spread = _tint_of(before)
    if spread >= COLOURED:
        return restored
    after = cv2.cvtColor(restored.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    after[..., 1:] = _powers(after[..., 0]) @ tint
    return np.clip(np.rint(cv2.cvtColor(after, cv2.COLOR_LAB2RGB) * 255), 0, 255).astype(np.uint8)


def _tint_of(lab: np.ndarray) -> tuple[np.ndarray, float]:
    """(how a and b follow from the lightness, (3, 2); how far they are from that, root mean square), in the face's middle."""
    height, width = lab.shape[:2]
    # the crop's corners may be hair, wall, or BORDER
    middle = lab[height // 5 : -height // 16, width // 5 : -width // 5].reshape(-1, 3)
    powers = _powers(middle[:, 0])
    tint = np.linalg.lstsq(powers, middle[:, 1:], rcond=None)[0]
    return tint, float(np.sqrt(((middle[:, 1:] - powers @ tint) ** 2).sum(axis=-1).mean()))


def _powers(lightness: np.ndarray) -> np.ndarray:
    """(..., 3): 1, L and L squared, with L from 0 to 1."""
    share = lightness / 100
    return np.stack([np.ones_like(share), share, share * share], axis=-1)


def _zoom(picture: Image.Image, larger: Image.Image) -> float:
    """How many times as large a picture is as the one it was made from. Raises `UsageError` if its sides are not alike."""
    across = larger.width / picture.width
    if abs(across * picture.height - larger.height) > 1:  # sides are rounded to whole px
        raise UsageError(
            f"a picture of {larger.width}x{larger.height} is not one of {picture.width}x{picture.height} enlarged; "
            "enlarge both sides alike."
        )
    return across


def upscaler_on_device(name: str) -> LoadedUpscaler:
    """See `load_upscaler`."""
    return load_upscaler(name, hardware.device())


def enlarge(
    upscaler: LoadedUpscaler, image: Image.Image, size: tuple[int, int], progress: Callable[[int, int], None]
) -> Image.Image:
    """A picture enlarged by a network, and brought to a size by Lanczos. `progress`: (tiles done, all) after each."""
    with out_of_memory(f"upscaling {image.width}x{image.height}"):
        enlarged = upscaler(np.asarray(image), progress)
    return resize(Image.fromarray(enlarged), size)


class Enlarge:
    """An upscaler (Real-ESRGAN, Wang et al. 2021, or another) on a whole picture, in tiles.

    Attributes:
        counts: {"tiles": tiles that have run}.
    """

    def __init__(self, settings: Settings) -> None:
        self.upscaler = upscaler_on_device(settings.upscaler)
        self.counts = {"tiles": 0}

    def __call__(self, before: Artefact, settings: Settings, report: Report) -> Artefact:
        started = time.perf_counter()
        report("upscale", 0, 1)

        def progress(done: int, total: int) -> None:
            self.counts["tiles"] += 1
            report("upscale", done, total)

        size = (
            round(before.image.width * settings.upscale_factor),
            round(before.image.height * settings.upscale_factor),
        )
        image = enlarge(self.upscaler, before.image, size, progress)
        return Artefact(image, seconds=time.perf_counter() - started)
