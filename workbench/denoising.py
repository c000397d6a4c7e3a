"""SDXL base and refiner: text to picture, and the hires fix."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from . import weights
from .images import resize
from .settings import Settings
from .store import Artefact
from .weights import Report, out_of_memory


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
        with out_of_memory(f"denoising {size}"):
            yield
    finally:
        pipe.maybe_free_model_hooks()  # diffusers skips it when a callback raises to cancel


def _state(generator: Any) -> bytes:
    return generator.get_state().numpy().tobytes()
