"""SDXL base and refiner, with one UNet call for many pictures. What the stages begin with is in their own files.

A `Row` is one picture on its way through the sampler, with its own scheduler, generator and CFG. `Diffusion.evaluate` runs
the UNet once for several rows, whatever their prompts and strengths, and however far each has come. Everything else is the
pipelines' own code (text encoding, time ids, latents, VAE) in the pipelines' order, so that a row evaluated alone equals
`StableDiffusionXLPipeline` and `StableDiffusionXLImg2ImgPipeline` bit for bit.

A batch has a fixed size and is filled up with copies of a row. For another batch size changes the last bits of every row
(1.4e-6 after one call in float32); which other rows are in the batch does not.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from workbench.errors import NotFinite, WorkbenchError
from workbench.models import (
    Adapters,
    LoraFile,
    PeakMemory,
    Report,
    SamplerSteps,
    Sdxl,
    hardware,
    out_of_memory,
    pipelines,
)
from workbench.settings import Settings
from workbench.store import Artefact

from .rows import Answer, Denoising, Row
from .text_encoding import Text, encode
from .wording import Wording, sdxl_of

if TYPE_CHECKING:
    import torch
    from diffusers import StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline
    from diffusers.configuration_utils import FrozenDict
    from PIL.Image import Image

    from .stages.stage import DenoisingStage

    Pipeline = StableDiffusionXLPipeline | StableDiffusionXLImg2ImgPipeline

Encoded = tuple["torch.Tensor", "torch.Tensor", bytes]
"""Clean latents and noise, (1, 4, h, w) each, and the generator's state after both were drawn."""

Kept = TypeVar("Kept")

TEXTS = 64  # how many encoded prompts are kept: 1.2 MB each in float32
ENCODED = 16  # how many encoded pictures are kept: latents and noise, 1.2 MB at 1536 px in float32
BESIDE = 3  # how many further networks are kept
SEEN = 64  # of how many pictures is kept what was found in them
AESTHETIC_SCORE, NEGATIVE_AESTHETIC_SCORE = 6.0, 2.5  # diffusers' defaults


@dataclass(frozen=True)
class LoadedRefiner:
    """What refines now.

    Attributes:
        which: see `_refiner_of`.
        sdxl, files: what it was loaded by, and the hashes of what was read.
    """

    which: Hashable
    sdxl: Sdxl
    files: list[str]
    pipe: StableDiffusionXLImg2ImgPipeline


class Diffusion:
    """The SDXL pipelines of one model, loaded when first asked for: the base, and one of what refines its pictures.

    What refines is another checkpoint, or the base's own networks in another pipeline.

    Attributes:
        counts: what has run: "base" and "refine" (UNet sample-forwards; a CFG pair is one, a copy that fills a batch is
            none), "unet_calls", "padding" (those copies), "prompt_encodes", "vae_encodes", "vae_decodes", and what stages
            count themselves.
        beside: networks that a stage needs beside SDXL's, like a detector.
        seen: what stages found in pictures, like faces.
    """

    def __init__(self, sdxl: Sdxl) -> None:
        self._sdxl = sdxl
        self.dtype = hardware.dtype(sdxl.dtype)
        self._base: StableDiffusionXLPipeline | None = None
        self._refiner: LoadedRefiner | None = None
        self._sampler_configs: dict[str, FrozenDict] = {}
        self._texts: Newest[Text] = Newest(TEXTS)
        self._adapters = Adapters()
        self._encoded: Newest[Encoded] = Newest(ENCODED)
        self.beside: Newest[Any] = Newest(BESIDE)
        self.seen: Newest[Any] = Newest(SEEN)
        self.counts: Counter[str] = Counter()

    @property
    def base(self) -> StableDiffusionXLPipeline:
        """The base's pipeline. Raises `MissingWeights`, `CorruptWeights`, `WrongModel`, `WrongVAE`, `OutOfMemory`."""
        if self._base is None:
            self._base = pipelines.load_base(self._sdxl)
            self._sampler_configs["base"] = self._base.scheduler.config
        return self._base

    @cached_property
    def device(self) -> torch.device:
        """Where the networks are. Asked once: a network's own `device` looks through all its modules each time."""
        return self.base.unet.device

    def refiner(self, s: Settings) -> StableDiffusionXLImg2ImgPipeline:
        """The pipeline that refines with these settings; the one before it is dropped if it is another. Raises as `base`."""
        sdxl, wanted = sdxl_of(s), _refiner_of(s)
        if self._refiner is None or self._refiner.which != wanted:
            self._refiner = None  # before the next is loaded: three SDXL UNets do not fit on one card
            self._texts.drop(lambda key: key[0] != "base")
            self._encoded.drop(lambda key: True)
            files = sdxl.identity("refiner")
            self._refiner = LoadedRefiner(wanted, sdxl, files, pipelines.load_refiner(sdxl, self.base))
            self._sampler_configs["refiner"] = self._refiner.pipe.scheduler.config
        return self._refiner.pipe

    def renew(self) -> None:
        """Drop what refines if a file of it has changed, or is gone, since it was loaded."""
        if self._refiner is None:
            return
        try:
            files = self._refiner.sdxl.identity("refiner")
        except WorkbenchError:
            files = []  # whoever needs it is told why when it is loaded
        if files != self._refiner.files:
            self._refiner = None

    def pipe(self, part: str) -> Pipeline:
        """The pipeline of a part of the model: "base", or "refiner", which `refiner` has loaded before."""
        if part == "base":
            return self.base
        assert self._refiner is not None
        return self._refiner.pipe

    def _network(self, part: str) -> str:
        """The part whose networks `part` has: "base", where that is what refines."""
        return "base" if part == "base" or self.pipe(part).unet is self.base.unet else part

    def sampler(self, part: str, steps: SamplerSteps, seed: int) -> None:
        """Give the part's pipeline a fresh scheduler, divided into these steps.

        It is made from the part's own scheduler config, not from the sampler used last.
        """
        pipe: Any = self.pipe(part)  # loaded, its config is known
        pipe.scheduler = pipelines.make_scheduler(steps.sampler, steps.schedule, self._sampler_configs[part], seed)
        pipelines.set_steps(pipe.scheduler, steps.schedule, steps.steps, self.device)

    def row(
        self,
        stage: DenoisingStage,
        cfg: float,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        generator: torch.Generator,
        text: Text,
        *,
        time_ids: torch.Tensor,
        negative_time_ids: torch.Tensor,
        loras: tuple[LoraFile, ...],
    ) -> Row:
        """A row at its first step, with the scheduler that the pipeline of its stage has now."""
        pipe = self.pipe(stage.part)
        return Row(
            stage=stage.name,
            part=self._network(stage.part),
            cfg=cfg,
            latents=latents,
            timesteps=timesteps,
            scheduler=pipe.scheduler,
            generator=generator,
            step_arguments=pipe.prepare_extra_step_kwargs(generator, 0.0),
            text=text,
            time_ids=time_ids,
            negative_time_ids=negative_time_ids,
            loras=loras,
        )

    def evaluate(self, rows: list[Row], batch: int = 1) -> list[Answer]:
        """Run the UNet once for up to `batch` rows of equal `shape`; its answer for each of them, for `Row.advance`.

        Raises:
            OutOfMemory: with fewer rows it may fit.
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
        pipe = self.pipe(rows[0].part)
        self._adapters.use(pipe, rows[0].loras)
        with torch.no_grad(), out_of_memory(f"denoising {_size(rows[0])}"), PeakMemory() as memory:
            answer = pipe.unet(
                torch.cat(samples), torch.stack(times), encoder_hidden_states=torch.cat(prompts),
                added_cond_kwargs={"text_embeds": torch.cat(pooled), "time_ids": torch.cat(ids)}, return_dict=False,
            )[0]  # fmt: skip
        self.counts.update(row.stage for row in rows)
        self.counts.update({"unet_calls": 1, "padding": batch - len(rows)})
        for row in rows:
            row.used(memory)
        each = answer.split(1)
        return [(each[i] if guided else None, each[i + batch * guided]) for i in range(len(rows))]

    def finish(self, row: Row) -> Artefact:
        """Decode a finished row into 8-bit RGB, beside which the artefact has the state of the row's generator.

        Pictures are decoded one at a time, since in a batch the VAE gives other pixels (2.7e-2 in bfloat16).
        """
        import torch

        started = time.perf_counter()
        row.check()
        pipe = self.pipe(row.part)
        vae: Any = pipe.vae
        with torch.no_grad(), out_of_memory(f"decoding {_size(row)}"), PeakMemory() as memory, self._wide(vae) as kind:
            image = vae.decode(_unscaled(vae, row.latents.to(kind)), return_dict=False)[0]
            _check_vae_gave(image, f"{row.stage}, decoding")
            (picture,) = cast("list[Image]", pipe.image_processor.postprocess(image, output_type="pil"))
        row.used(memory)
        self.counts["vae_decodes"] += 1
        state = row.generator.get_state().numpy().tobytes()
        return Artefact(picture, state, seconds=row.seconds + time.perf_counter() - started)

    @contextmanager
    def _wide(self, vae: Any) -> Iterator[torch.dtype]:
        """Inside, a VAE whose config says so has float32 weights: SDXL's own overflows in float16. Yields what it takes.

        However this ends, the VAE is as it was: one that an out-of-memory error left in float32 failed all later pictures.
        In bfloat16 only the pipelines' encoding goes to float32 and back, by itself.
        """
        import torch

        if not vae.config.force_upcast:
            yield self.dtype
            return
        log = logging.getLogger("diffusers.models.modeling_utils")
        level = log.level
        log.setLevel(logging.ERROR)  # each `to` warns that no module was to be kept in float32: []
        try:
            if self.dtype == torch.float16:
                vae.to(dtype=torch.float32)
            yield vae.dtype
        finally:
            if vae.dtype != self.dtype:
                vae.to(dtype=self.dtype)
            log.setLevel(level)

    def denoise(self, denoising: Denoising, report: Report) -> Artefact:
        """Take the rows of a job through all their steps, one after the other, and decode them.

        Raises `OutOfMemory`, or what `report` raises.
        """
        report(denoising.stage, 0, denoising.steps)
        decoded = []
        for row in denoising.rows:
            started = time.perf_counter()
            while not row.finished:
                row.advance(*self.evaluate([row])[0])
                report(denoising.stage, denoising.done, denoising.steps)
            row.seconds += time.perf_counter() - started
            decoded.append(self.finish(row))
        return denoising.finish(decoded)

    def text(self, part: str, wording: Wording) -> Text:
        """The prompts as the UNet of `part` reads them; each wording is encoded once."""
        part = self._network(part)

        def read() -> Text:
            pipe = self.pipe(part)
            self._adapters.use(pipe, wording.loras)
            self.counts["prompt_encodes"] += 1
            return encode(pipe, wording.prompt, wording.negative, wording.clip_skip)

        return self._texts((part, wording), read)

    def projection(self, part: str, text: Text) -> int:
        """How wide the pooled text is, from which diffusers checks the number of time ids."""
        pipe = self.pipe(part)
        return pipe.text_encoder_2.config.projection_dim if pipe.text_encoder_2 else int(text.pooled.shape[-1])

    def encoded(self, key: Hashable, picture: Callable[[], Image], state: bytes, stage: str) -> Encoded:
        """A picture as latents of what refines, and noise for it, drawn in the pipeline's order: first the encoder's sample,
        then the noise.

        Args:
            key: names picture and state: each is encoded once.
            state: of the generator that draws both.
            stage: its name, for errors.
        """
        import torch
        from diffusers.utils.torch_utils import randn_tensor

        def encode_it() -> Encoded:
            pipe = cast("StableDiffusionXLImg2ImgPipeline", self.pipe("refiner"))
            generator, image = generator_at(state), picture()
            with torch.no_grad(), out_of_memory(f"encoding {image.width}x{image.height}"), self._wide(pipe.vae):
                clean = pipe.prepare_latents(
                    pipe.image_processor.preprocess(image), None, 1, 1, self.dtype, self.device, generator, False
                )
                _check_vae_gave(clean, f"{stage}, encoding")
                noise = randn_tensor(clean.shape, generator=generator, device=self.device, dtype=self.dtype)
            self.counts["vae_encodes"] += 1
            return (clean, noise, generator.get_state().numpy().tobytes())

        return self._encoded(key, encode_it)

    def img2img(
        self, stage: DenoisingStage, s: Settings, key: Hashable, picture: Callable[[], Image], state: bytes
    ) -> Row:
        """A row of a stage that takes a picture back into noise: img2img in SDEdit's way (Meng et al. 2021).

        It is never given `denoising_start`, with which diffusers ignores `strength`. Rows of equal `key` share the VAE's
        encoding and the noise, which do not depend on strength or CFG.

        Args:
            key, picture, state: see `encoded`.
        """
        pipe = self.refiner(s)
        wording, steps = stage.wording(s), stage.sampler_steps(s)
        text = self.text("refiner", wording)
        clean, noise, after = self.encoded(key, picture, state, stage.name)
        self.sampler("refiner", steps, s.seed)
        # of which int(steps * share) run; half a step more, since 23 * (13 / 23) is below 13
        timesteps, _ = pipe.get_timesteps(steps.steps, (steps.run + 0.5) / steps.steps, self.device)
        latents = pipe.scheduler.add_noise(clean, noise, timesteps[:1])
        size = (latents.shape[-2] * pipe.vae_scale_factor, latents.shape[-1] * pipe.vae_scale_factor)
        ids, negative_ids = pipe._get_add_time_ids(
            size, (0, 0), size, AESTHETIC_SCORE, NEGATIVE_AESTHETIC_SCORE, size, (0, 0), size, dtype=text.positive.dtype,
            text_encoder_projection_dim=self.projection("refiner", text),
        )  # fmt: skip
        return self.row(
            stage, stage.guidance(s), latents, timesteps, generator_at(after), text,
            time_ids=ids.to(self.device), negative_time_ids=negative_ids.to(self.device), loras=wording.loras,
        )  # fmt: skip


class Newest(Generic[Kept]):
    """Keeps the newest `limit` of what it was asked for."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: OrderedDict[Hashable, Kept] = OrderedDict()

    def __call__(self, key: Hashable, make: Callable[[], Kept]) -> Kept:
        """What is kept under `key`, which `make` makes if it is not there."""
        if key not in self._kept:
            self._kept[key] = make()
        self._kept.move_to_end(key)
        while len(self._kept) > self.limit:
            self._kept.popitem(last=False)
        return self._kept[key]

    def drop(self, which: Callable[[Any], bool]) -> None:
        """Keep no longer what has such keys."""
        self._kept = OrderedDict((key, kept) for key, kept in self._kept.items() if not which(key))


def generator_at(state: bytes) -> torch.Generator:
    """A CPU generator that goes on from a state."""
    import torch

    generator = torch.Generator("cpu")
    generator.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))
    return generator


def _refiner_of(s: Settings) -> Hashable:
    """Which checkpoint refines with which VAE and precision; whether its files have changed it does not see."""
    sdxl = sdxl_of(s)
    return (sdxl.refiner_path(), sdxl.vae, sdxl.dtype)


def _unscaled(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Latents in the VAE's own units: divided by its scaling factor, then spread and moved if its config says so."""
    import torch

    config = vae.config
    mean, spread = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is None or spread is None:
        return latents / config.scaling_factor
    mean, spread = (torch.tensor(v).view(1, 4, 1, 1).to(latents.device, latents.dtype) for v in (mean, spread))
    return latents * spread / config.scaling_factor + mean


def _check_vae_gave(tensor: torch.Tensor, where: str) -> None:
    """Raise `NotFinite` where the VAE's answer has other than numbers; `where`: the stage and its part."""
    if not tensor.isfinite().all():
        raise NotFinite(
            f"{where}: the VAE gave numbers that are none or infinite (NaN, inf), so there is no picture; the usual cause is "
            "a VAE that overflows in float16: name one that does not (vae = sdxl-vae-fp16-fix), or use another model file."
        )


def _size(row: Row) -> str:
    return f"{row.latents.shape[-1] * 8}x{row.latents.shape[-2] * 8}"
