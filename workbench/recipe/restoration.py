"""The stages after diffusion: faces restored by CodeFormer and pasted back, and the picture enlarged."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from workbench.errors import UsageError
from workbench.files import pixels_sha256, resize
from workbench.models import Report, codeformer, hardware, out_of_memory, realesrgan, retinaface, weights
from workbench.settings import Settings
from workbench.store import Artefact

from . import faces
from .stages.faces import Faces

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
    features: dict[int, codeformer.Features] = field(default_factory=dict)


class RestoreFaces:
    """Find every face, restore it at 512x512 with CodeFormer (Zhou et al. 2022), paste it back.

    A picture without a face comes back unchanged, with `info["faces"] == []`: a result, not an error.

    Attributes:
        counts: what has run: {"detections": pictures looked at, "prefixes": faces through the part of CodeFormer that all
            weights share, "weights": restored faces, one for each weight}.
    """

    def __init__(self, settings: Settings) -> None:
        where = hardware.device()
        self.net = codeformer.load_codeformer(weights.restorer_path(weights.model_path(settings.model)), where)
        self.detector = retinaface.load_retinaface(weights.detector_path(settings.detector), where)
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
        """Restore one picture at several weights; what does not depend on the weight runs once.

        Args:
            before: the picture in which faces are found and from which they are cut.
            settings: may differ in `weight`, and in settings that do not act here (like an upscaler that comes later).
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
        found = self._find(before.image, kept)
        images = [background.image] * len(settings)
        total = len(found) * len(settings)
        report("faces", 0, total)
        with out_of_memory("restoring faces"):
            for n, face in enumerate(found):
                crop, matrix = faces.align(pixels, face)
                features = self._features(crop, n, kept)
                restored = self._restore(features, [s.weight for s in settings], report, n * len(settings), total)
                del features
                place = faces.enlarged(matrix, zoom)
                images = [faces.paste(image, one, place) for image, one in zip(images, restored, strict=True)]
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

    def _features(self, crop: np.ndarray, number: int, kept: FaceCache | None) -> codeformer.Features:
        """What CodeFormer makes of one face before a weight acts."""
        if kept is not None and number in kept.features:
            return kept.features[number]
        features = codeformer.prefix(self.net, crop)
        self.counts["prefixes"] += 1
        if kept is not None and number < MOST_KEPT:
            kept.features[number] = features
        return features

    def _restore(
        self, features: codeformer.Features, chosen: list[float], report: Report, before: int, total: int
    ) -> list[np.ndarray]:
        """(512, 512, 3) uint8 RGB of one face at each of the weights."""

        def progress(done: int, _: int) -> None:
            self.counts["weights"] += 1
            report("faces", before + done, total)

        return codeformer.suffix(self.net, features, chosen, progress)


def _zoom(picture: Image.Image, larger: Image.Image) -> float:
    """How many times as large a picture is as the one it was made from. Raises `UsageError` if its sides are not alike."""
    across, down = larger.width / picture.width, larger.height / picture.height
    if across != down:
        raise UsageError(
            f"a picture of {larger.width}x{larger.height} is not one of {picture.width}x{picture.height} enlarged; "
            "enlarge both sides alike."
        )
    return across


class Enlarge:
    """Real-ESRGAN (Wang et al. 2021) on a whole picture, in tiles; factor 2 is its x4 halved by Lanczos.

    Attributes:
        counts: {"tiles": tiles that have run}.
    """

    def __init__(self, settings: Settings) -> None:
        self.net, self.scale = realesrgan.load_realesrgan(settings.upscaler, hardware.device())
        self.counts = {"tiles": 0}

    def __call__(self, before: Artefact, settings: Settings, report: Report) -> Artefact:
        started = time.perf_counter()
        report("upscale", 0, 1)

        def progress(done: int, total: int) -> None:
            self.counts["tiles"] += 1
            report("upscale", done, total)

        with out_of_memory(f"upscaling {before.image.width}x{before.image.height}"):
            enlarged = realesrgan.upscale(self.net, self.scale, np.asarray(before.image), progress=progress)
        size = (before.image.width * settings.upscale_factor, before.image.height * settings.upscale_factor)
        return Artefact(resize(Image.fromarray(enlarged), size), seconds=time.perf_counter() - started)
