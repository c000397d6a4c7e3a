"""The loop that a careful diffusers user writes, which sweeps are measured against, and a meter for what networks take."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from PIL import Image

from workbench.files import resize
from workbench.models import sampler_steps
from workbench.models.face_restorers import WithFidelity
from workbench.recipe import Bench, Diffusion, RestoreFaces, faces, stage_named
from workbench.settings import Settings

NETWORKS = ("base", "refine", "encode", "decode", "restorer")  # what cannot be saved; all else is overhead


def restorer_of(on: Bench, s: Settings) -> RestoreFaces:
    """A bench's face restorer, loaded."""
    return cast(RestoreFaces, on.networks(stage_named("faces"), s))


class Meter:
    """Counts the calls of networks, by hooks on them, and the CPU seconds that the calling thread spends in them.

    Attributes:
        side: who is at work now; what is counted is kept apart by it.
        calls: {(side, network): calls}. Networks are `NETWORKS` and "text".
        seconds: {(side, network): CPU s of the calling thread}.
        busy: whether a network is at work now.
    """

    def __init__(self) -> None:
        self.side = "ours"
        self.calls: Counter[tuple[str, str]] = Counter()
        self.seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._begun: list[float] = []

    @property
    def busy(self) -> bool:
        return bool(self._begun)

    def clear(self) -> None:
        self.calls.clear()
        self.seconds.clear()

    def watch(self, on: Bench, s: Settings) -> None:
        """Load the networks that `s` needs on a bench, and count them from now on."""
        diffusion = on.diffusion(s)
        self._hook("base", diffusion.base.unet)
        if s.hires:
            self._hook("refine", diffusion.refiner(s).unet)
        self._hook("encode", diffusion.base.vae.encoder)
        self._hook("decode", diffusion.base.vae.decoder)
        for encoder in (diffusion.base.text_encoder, diffusion.base.text_encoder_2):
            self._hook("text", encoder)
        if s.restorer != "none":
            restorer = restorer_of(on, s)
            many = restorer.many

            def metered(*arguments: Any) -> Any:
                with self.timing("restorer"):
                    return many(*arguments)

            setattr(restorer, "many", metered)  # noqa: B010 (a method of this object alone)

    @contextmanager
    def timing(self, network: str) -> Iterator[None]:
        self._start()
        try:
            yield
        finally:
            self._stop(network)

    @contextmanager
    def of(self, side: str) -> Iterator[None]:
        """What runs within it is counted for `side`."""
        before, self.side = self.side, side
        try:
            yield
        finally:
            self.side = before

    def networks(self, side: str) -> dict[str, float]:
        """{network: CPU s} of one side."""
        return {network: self.seconds[side, network] for network in (*NETWORKS, "text")}

    def _hook(self, network: str, module: Any) -> None:
        module.register_forward_pre_hook(lambda *_: self._start())
        module.register_forward_hook(lambda *_: self._stop(network))

    def _start(self) -> None:
        self._begun.append(time.thread_time())

    def _stop(self, network: str) -> None:
        self.calls[self.side, network] += 1
        self.seconds[self.side, network] += time.thread_time() - self._begun.pop()


class Naive:
    """One picture after the other by the two pipelines' own `__call__`, and CodeFormer's whole `forward` for every face.

    The models are those of a bench, loaded once; every picture starts from nothing, and nothing is scored or saved.
    """

    def __init__(self, diffusion: Diffusion, restorer: RestoreFaces | None, meter: Meter) -> None:
        self.diffusion, self.restorer, self.meter = diffusion, restorer, meter

    def __call__(self, s: Settings) -> Image.Image:
        """8-bit RGB: base, Lanczos, refiner, faces. Raises what the pipelines raise."""
        base: Any = self.diffusion.base
        generator = torch.Generator("cpu").manual_seed(s.seed)
        words = {"prompt": s.prompt, "negative_prompt": s.negative_prompt, "generator": generator}
        self.diffusion.sampler("base", sampler_steps(s.sampler, s.schedule, s.steps), s.seed)
        picture = base(
            **words, width=s.width, height=s.height, num_inference_steps=s.steps, guidance_scale=s.base_cfg
        ).images[0]
        if s.hires:
            refiner: Any = self.diffusion.refiner(s)
            self.diffusion.sampler("refiner", sampler_steps(s.sampler, s.schedule, s.refine_steps), s.seed)
            enlarged = resize(picture, s.hires_size, s.resampler)
            picture = refiner(
                **words, image=enlarged, strength=s.strength, num_inference_steps=s.refine_steps,
                guidance_scale=s.refine_cfg,
            ).images[0]  # fmt: skip
        if self.restorer and s.restorer != "none":
            with self.meter.timing("restorer"):
                picture = self._restored(self.restorer, picture, s.weight)
        return picture

    def _restored(self, restorer: RestoreFaces, picture: Image.Image, weight: float) -> Image.Image:
        pixels, result, net = np.asarray(picture), picture, cast(WithFidelity, restorer.restorer).net
        for face in faces.find_faces(picture, restorer.detector):
            crop, matrix = faces.align(pixels, face)
            x = torch.from_numpy(np.array(crop)).permute(2, 0, 1)[None].to(next(net.parameters()).device)
            with torch.inference_mode():
                made = net((x / 255.0 - 0.5) / 0.5, weight=weight)[0][0]
            made = ((made.clamp(-1, 1) + 1) / 2 * 255.0).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
            result = faces.paste(result, made, matrix)
        return result
