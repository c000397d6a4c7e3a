"""SDXL base and refiner, one UNet call for many pictures: text to picture, and the hires fix.

A `Row` is one picture on its way through the sampler, with its own scheduler, generator and CFG; `Diffusion.evaluate` runs
the UNet once for several rows, whatever their prompts, strengths and positions. Everything else is the pipelines' own code
(text encoding, time ids, latents, VAE), in their order, so that a row evaluated alone equals `StableDiffusionXLPipeline` and
`StableDiffusionXLImg2ImgPipeline` bit for bit.

The batch has a fixed size, filled up with copies: another batch size changes the last bits of every row (1.4e-6 after one
call in float32), mates do not.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Any

from workbench.errors import GuidanceEmbedded
from workbench.files import resize
from workbench.models import Report, out_of_memory, weights
from workbench.store import Artefact

from ..settings import Settings

AESTHETIC_SCORE, NEGATIVE_AESTHETIC_SCORE = 6.0, 2.5  # diffusers' defaults
TEXTS = 64  # prompts kept encoded: 1.2 MB each in float32
ENLARGED = 16  # encoded pictures kept: latents and noise, 1.2 MB at 1536 px in float32


@dataclass
class Text:
    """A prompt pair as the UNet reads it; `negative` and `negative_pooled` are None without guidance."""

    positive: Any
    negative: Any
    pooled: Any
    negative_pooled: Any


@dataclass
class Row:
    """One picture in the making.

    Attributes:
        stage: base or refine.
        cfg: guidance scale; 1 or less evaluates the conditional half only.
        latents: (1, 4, height / 8, width / 8).
        timesteps: those that are left to do when the row starts.
        done: steps taken; `evaluated` of them by a UNet call of its own, in `seconds`.
    """

    stage: str
    cfg: float
    latents: Any
    timesteps: Any
    scheduler: Any
    generator: Any
    step_arguments: dict[str, Any]
    text: Text
    time_ids: Any
    negative_time_ids: Any
    done: int = 0
    evaluated: int = 0
    seconds: float = 0.0

    @property
    def guided(self) -> bool:
        return self.cfg > 1

    @property
    def steps(self) -> int:
        return len(self.timesteps)

    @property
    def finished(self) -> bool:
        return self.done >= self.steps

    @property
    def shape(self) -> tuple[Any, ...]:
        """What rows must have in common to share a batch of fixed shape."""
        return (self.stage, tuple(self.latents.shape), self.guided)

    def scaled(self) -> Any:
        """The latents as the UNet takes them at this step."""
        return self.scheduler.scale_model_input(self.latents, self.timesteps[self.done])

    def advance(self, negative: Any, positive: Any) -> None:
        """One sampler step with the UNet's answer, (1, 4, h, w) each; `negative` is None without guidance."""
        noise = positive if negative is None else negative + self.cfg * (positive - negative)
        self.latents = self.scheduler.step(
            noise, self.timesteps[self.done], self.latents, **self.step_arguments, return_dict=False
        )[0]
        self.done += 1


class Diffusion:
    """Both SDXL pipelines of one model, loaded when first asked for; the refiner shares text encoder and VAE.

    `counts` says what ran: UNet sample-forwards (a CFG pair is one, padding is none) as `base` and `refine`, `unet_calls`,
    `padding`, `prompt_encodes`, `vae_encodes` and `vae_decodes`.
    """

    def __init__(self, settings: Settings) -> None:
        self._model = weights.model_path(settings.model)
        self._vae = weights.vae_path(settings.vae)
        self._base: Any = None
        self._refiner: Any = None
        self._texts: OrderedDict[Any, Text] = OrderedDict()
        self._enlarged: OrderedDict[Any, tuple[Any, Any, bytes]] = OrderedDict()
        self.counts: Counter[str] = Counter()

    @property
    def base(self) -> Any:
        if self._base is None:
            self._base = _ready(weights.load_base(self._model, self._vae))
        return self._base

    @property
    def refiner(self) -> Any:
        if self._refiner is None:
            self._refiner = _ready(weights.load_refiner(self._model, self.base))
        return self._refiner

    def pipe(self, stage: str) -> Any:
        return self.base if stage == "base" else self.refiner

    def start_base(self, s: Settings) -> Row:
        """A row of the base: noise from one CPU generator of this seed (Podell et al. 2023)."""
        import torch

        pipe, generator = self.base, torch.Generator("cpu").manual_seed(s.seed)
        text = self._text("base", s, s.base_cfg)
        pipe.scheduler = weights.make_scheduler(s.sampler, pipe.own_scheduler_config)
        pipe.scheduler.set_timesteps(s.steps, device=pipe.unet.device)
        latents = pipe.prepare_latents(
            1, pipe.unet.config.in_channels, s.height, s.width, text.positive.dtype, pipe.unet.device, generator
        )
        size = (s.height, s.width)
        ids = pipe._get_add_time_ids(
            size, (0, 0), size, dtype=text.positive.dtype, text_encoder_projection_dim=_projection(pipe, text)
        ).to(pipe.unet.device)
        if hasattr(pipe.scheduler, "set_begin_index"):  # DDIM keeps no index
            pipe.scheduler.set_begin_index(0)
        arguments = pipe.prepare_extra_step_kwargs(generator, 0.0)
        return Row(
            "base", s.base_cfg, latents, pipe.scheduler.timesteps, pipe.scheduler, generator, arguments, text, ids, ids
        )

    def start_refine(self, s: Settings, before: Artefact, origin: str) -> Row:
        """A row of the refiner as img2img in SDEdit mode (Meng et al. 2021) on the enlarged picture.

        Never `denoising_start`: diffusers then ignores `strength`. The generator goes on where the base left it, so the
        result equals that of one script that calls both pipelines. `origin` is the content key of `before`: rows of
        equal origin and size share the VAE's encoding and the noise, which do not depend on strength or CFG.
        """
        import torch

        pipe = self.refiner
        text = self._text("refine", s, s.refine_cfg)
        dtype = text.positive.dtype
        clean, noise, state = self._enlarge(s, before, origin, dtype)
        generator = torch.Generator("cpu")
        generator.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))
        pipe.scheduler = weights.make_scheduler(s.sampler, pipe.own_scheduler_config)
        pipe.scheduler.set_timesteps(s.refine_steps, device=pipe.unet.device)
        timesteps, _ = pipe.get_timesteps(s.refine_steps, s.strength, pipe.unet.device)
        latents = pipe.scheduler.add_noise(clean, noise, timesteps[:1])
        size = (latents.shape[-2] * pipe.vae_scale_factor, latents.shape[-1] * pipe.vae_scale_factor)
        ids, negative_ids = pipe._get_add_time_ids(
            size, (0, 0), size, AESTHETIC_SCORE, NEGATIVE_AESTHETIC_SCORE, size, (0, 0), size, dtype=dtype,
            text_encoder_projection_dim=_projection(pipe, text),
        )  # fmt: skip
        arguments = pipe.prepare_extra_step_kwargs(generator, 0.0)
        return Row(
            "refine", s.refine_cfg, latents, timesteps, pipe.scheduler, generator, arguments, text, ids.to(pipe.unet.device),
            negative_ids.to(pipe.unet.device),
        )  # fmt: skip

    def evaluate(self, rows: list[Row], batch: int = 1) -> list[tuple[Any, Any]]:
        """Run the UNet once for up to `batch` rows of equal `shape`; (negative or None, positive) for each of them.

        Raises `OutOfMemory`: with fewer rows it may fit.
        """
        import torch

        full = [*rows, *[rows[-1]] * (batch - len(rows))]
        guided = rows[0].guided
        halves = [("negative", "negative_pooled", "negative_time_ids")] * guided + [("positive", "pooled", "time_ids")]
        samples = [row.scaled() for row in full] * len(halves)
        times = [row.timesteps[row.done] for row in full] * len(halves)
        prompts = [getattr(row.text, words) for words, _, _ in halves for row in full]
        pooled = [getattr(row.text, vector) for _, vector, _ in halves for row in full]
        ids = [getattr(row, name) for _, _, name in halves for row in full]
        pipe = self.pipe(rows[0].stage)
        with torch.no_grad(), out_of_memory(f"denoising {_size(rows[0])}"):
            answer = pipe.unet(
                torch.cat(samples), torch.stack(times), encoder_hidden_states=torch.cat(prompts),
                added_cond_kwargs={"text_embeds": torch.cat(pooled), "time_ids": torch.cat(ids)}, return_dict=False,
            )[0]  # fmt: skip
        self.counts.update({rows[0].stage: len(rows), "unet_calls": 1, "padding": batch - len(rows)})
        each = answer.split(1)
        return [(each[i] if guided else None, each[i + batch * guided]) for i in range(len(rows))]

    def finish(self, row: Row) -> Artefact:
        """Decode a finished row: 8-bit RGB, and the state its generator is left in. One picture at a time, since the VAE
        in a batch gives other pixels (2.7e-2 in bfloat16)."""
        import torch

        started = time.perf_counter()
        pipe, vae, latents = self.pipe(row.stage), self.base.vae, row.latents
        with torch.no_grad(), out_of_memory(f"decoding {_size(row)}"):
            upcast = vae.dtype == torch.float16 and vae.config.force_upcast  # SDXL's own VAE overflows in float16
            if upcast:
                vae.to(dtype=torch.float32)
                latents = latents.to(next(iter(vae.post_quant_conv.parameters())).dtype)
            image = vae.decode(self._unscaled(latents), return_dict=False)[0]
            if upcast:
                vae.to(dtype=torch.float16)
            picture = pipe.image_processor.postprocess(image, output_type="pil")[0]
        self.counts["vae_decodes"] += 1
        state = row.generator.get_state().numpy().tobytes()
        return Artefact(picture, state, seconds=row.seconds + time.perf_counter() - started)

    def denoise(self, row: Row, report: Report) -> Artefact:
        """Take a row to its end, alone."""
        started = time.perf_counter()
        report(row.stage, 0, row.steps)
        while not row.finished:
            row.advance(*self.evaluate([row])[0])
            report(row.stage, row.done, row.steps)
        row.seconds += time.perf_counter() - started
        return self.finish(row)

    def _text(self, stage: str, s: Settings, cfg: float) -> Text:
        """The encoded prompts, once for every pair of them."""
        import torch

        pipe, negative = self.pipe(stage), s.negative_prompt if cfg > 1 else None
        key = (stage, s.prompt, negative)
        if key not in self._texts:
            with torch.no_grad():
                positive, unwanted, pooled, unwanted_pooled = pipe.encode_prompt(
                    prompt=s.prompt,
                    device=pipe.unet.device,
                    do_classifier_free_guidance=cfg > 1,
                    negative_prompt=negative,
                )
            self._texts[key] = Text(positive, unwanted, pooled, unwanted_pooled)
            self.counts["prompt_encodes"] += 1
        return _newest(self._texts, key, TEXTS)

    def _enlarge(self, s: Settings, before: Artefact, origin: str, dtype: Any) -> tuple[Any, Any, bytes]:
        """(clean latents, noise, generator state after both) of the enlarged picture, in the pipeline's order: the
        encoder's sample is drawn first, then the noise."""
        import torch
        from diffusers.utils.torch_utils import randn_tensor

        assert before.generator_state is not None
        key = (origin, s.hires_size, s.resampler)
        if key not in self._enlarged:
            pipe, generator = self.refiner, torch.Generator("cpu")
            generator.set_state(torch.frombuffer(bytearray(before.generator_state), dtype=torch.uint8))
            enlarged = resize(before.image, s.hires_size, s.resampler)
            with torch.no_grad(), out_of_memory("encoding {}x{}".format(*s.hires_size)):
                clean = pipe.prepare_latents(
                    pipe.image_processor.preprocess(enlarged), None, 1, 1, dtype, pipe.unet.device, generator, False
                )
                noise = randn_tensor(clean.shape, generator=generator, device=pipe.unet.device, dtype=dtype)
            self._enlarged[key] = (clean, noise, generator.get_state().numpy().tobytes())
            self.counts["vae_encodes"] += 1
        return _newest(self._enlarged, key, ENLARGED)

    def _unscaled(self, latents: Any) -> Any:
        """Latents in the VAE's own units; a VAE may name mean and spread beside the scaling factor."""
        import torch

        config = self.base.vae.config
        mean, spread = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
        if mean is None or spread is None:
            return latents / config.scaling_factor
        mean, spread = (torch.tensor(v).view(1, 4, 1, 1).to(latents.device, latents.dtype) for v in (mean, spread))
        return latents * spread / config.scaling_factor + mean


def _ready(pipe: Any) -> Any:
    """A loaded pipeline that remembers its own scheduler config: samplers start from that, not from each other's."""
    if pipe.unet.config.time_cond_proj_dim is not None:
        raise GuidanceEmbedded(
            "this model's UNet takes the guidance scale as an input (an LCM or another distilled model), which the "
            "workbench does not do; use SDXL 1.0 or a model fine-tuned from it."
        )
    pipe.own_scheduler_config = pipe.scheduler.config
    return pipe


def _size(row: Row) -> str:
    return f"{row.latents.shape[-1] * 8}x{row.latents.shape[-2] * 8}"


def _projection(pipe: Any, text: Text) -> int:
    return pipe.text_encoder_2.config.projection_dim if pipe.text_encoder_2 else int(text.pooled.shape[-1])


def _newest(cache: OrderedDict[Any, Any], key: Any, limit: int) -> Any:
    cache.move_to_end(key)
    while len(cache) > limit:
        cache.popitem(last=False)
    return cache[key]
