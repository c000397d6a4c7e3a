"""The stages after diffusion: faces restored by CodeFormer and pasted back, and the finished picture enlarged."""

from __future__ import annotations

import time

import numpy as np
from PIL import Image

from . import faces, networks, upscalers, weights
from .images import resize
from .settings import Settings
from .store import Artefact
from .weights import Report, out_of_memory


class RestoreFaces:
    """Find every face, restore it at 512x512 with CodeFormer (Zhou et al. 2022), paste it back.

    A picture without a face comes back unchanged, with `info["faces"] == []`: a result, not an error.
    """

    def __init__(self, settings: Settings) -> None:
        where = weights.device()
        self.net = networks.load_codeformer(weights.restorer_path(weights.model_path(settings.model)), where)
        self.detector = networks.load_retinaface(weights.detector_path(settings.detector), where)

    def __call__(self, before: Artefact | None, settings: Settings, report: Report) -> Artefact:
        assert before is not None
        started = time.perf_counter()
        found = faces.find_faces(before.image, self.detector)
        image = before.image
        pixels = np.asarray(before.image)
        report("faces", 0, len(found))
        with out_of_memory("restoring faces"):
            for done, face in enumerate(found, start=1):
                crop, matrix = faces.align(pixels, face)
                image = faces.paste(image, networks.restore(self.net, crop, settings.weight), matrix)
                report("faces", done, len(found))
        about = [{"box": [round(float(v), 2) for v in f.box], "score": round(float(f.score), 4)} for f in found]
        return Artefact(image, info={"faces": about}, seconds=time.perf_counter() - started)


class Upscale:
    """Real-ESRGAN (Wang et al. 2021) on the finished picture, in tiles; factor 2 is its x4 halved by Lanczos."""

    def __init__(self, settings: Settings) -> None:
        self.net, self.scale = upscalers.load_realesrgan(settings.upscaler, weights.device())

    def __call__(self, before: Artefact | None, settings: Settings, report: Report) -> Artefact:
        assert before is not None
        started = time.perf_counter()
        report("upscale", 0, 1)
        with out_of_memory(f"upscaling {before.image.width}x{before.image.height}"):
            enlarged = upscalers.upscale(
                self.net, self.scale, np.asarray(before.image), progress=lambda n, m: report("upscale", n, m)
            )
        size = (before.image.width * settings.upscale_factor, before.image.height * settings.upscale_factor)
        return Artefact(resize(Image.fromarray(enlarged), size), seconds=time.perf_counter() - started)
