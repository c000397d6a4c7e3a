"""SDXL base and refiner, with one UNet call for many pictures. What the stages begin with is in their own files.

A `Row` is one picture on its way through the sampler, with its own scheduler, generator and CFG. `Diffusion.evaluate` runs
the UNet once for several rows, whatever their prompts and strengths, and however far each has come. Everything else is the
pipelines' own code (text encoding, time ids, latents, VAE) in the pipelines' order, so that a row evaluated alone equals
`StableDiffusionXLPipeline` and `StableDiffusionXLImg2ImgPipeline` bit for bit.

A batch has a fixed size and is filled up with copies of a row. For another batch size changes the last bits of every row
(1.4e-6 after one call in float32); which other rows are in the batch does not.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar, cast
from weakref import WeakKeyDictionary

from tqdm.auto import tqdm

from workbench.errors import OutOfMemory, WorkbenchError
from workbench.models import (
    Adapters,
    LoraFile,
    PeakMemory,
    Placement,
    Report,
    Residency,
    Role,
    SamplerSteps,
    Sdxl,
    hardware,
    out_of_memory,
    pipelines,
)
from workbench.settings import Settings
from workbench.store import Artefact

from .latent_preview import LatentPreviews, Preview, fit_colours
from .newest import Newest
from .rows import Answer, Denoising, Row, generator_at
from .text_encoding import Text, encode
from .vae_numbers import check_vae_gave, unscaled, wide
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

Made = TypeVar("Made")

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
        used: when a network last worked, by `time.time`.
    """

    def __init__(self, sdxl: Sdxl) -> None:
        self._sdxl = sdxl
        self.dtype = hardware.dtype(sdxl.dtype)
        self._base: StableDiffusionXLPipeline | None = None
        self._refiner: LoadedRefiner | None = None
        self._sampler_configs: dict[str, FrozenDict] = {}
        self._texts: Newest[Text] = Newest(TEXTS)
        self._adapters = Adapters()
        self._placement = Placement()
        self.used = time.time()
        self._turn = threading.RLock()  # who unloads idle networks does so between two uses
        self._least = Residency.ALL  # what running out of memory has taught
        self._encoded: Newest[Encoded] = Newest(ENCODED)
        self.beside: Newest[Any] = Newest(BESIDE)
        self.seen: Newest[Any] = Newest(SEEN)
        self._colours: WeakKeyDictionary[Any, torch.Tensor] = WeakKeyDictionary()  # of each VAE; see `fit_colours`
        self.counts: Counter[str] = Counter()

    @property
    def base(self) -> StableDiffusionXLPipeline:
        """The base's pipeline. Raises `MissingWeights`, `CorruptWeights`, `WrongModel`, `WrongVAE`, `OutOfMemory`."""
        if self._base is None:
            self._base = self._load("base", lambda: pipelines.load_base(self._sdxl, self._placement))
            self._sampler_configs["base"] = self._base.scheduler.config
        return self._base

    @cached_property
    def device(self) -> torch.device:
        """Where networks work. Asked once: a network's own `device` looks through all its modules each time."""
        return hardware.device()

    # --- where the networks are ------------------------------------------------------------------------------------

    @property
    def residency(self) -> Residency:
        """Which networks stay on the device beside the one at work; never a matter of pixels."""
        return self._placement.residency

    def settle(self, planned: Residency) -> None:
        """Let no more stay than was planned. What running out of memory has taught stays."""
        self._placement.residency = max(planned, self._least)

    def make_way(self, stage: str) -> None:
        """Move off the device what need not stay while another stage works."""
        with self._turn:
            self._placement.make_way((stage, "other"))

    def unload(self) -> bool:
        """Move all networks off the device until they are used again; whether there were any. From any thread; not while one
        of them is at work."""
        if not self._turn.acquire(blocking=False):
            return False
        try:
            return self._placement.clear()
        finally:
            self._turn.release()

    def climb(self) -> bool:
        """Let fewer networks stay, after the memory ran out; False where one at a time is there already."""
        if (further := self.residency.further) is None:
            return False
        self._least = self._placement.residency = further
        tqdm.write(f"workbench: the device's memory ran out; from now on {further.words}.", file=sys.stderr)
        return True

    def _at_work(self, role: Role, what: str, work: Callable[[], Made]) -> Made:
        """What `work` returns, with the networks of that role on the device. Where the memory runs out, it is done again with
        fewer other networks there. Raises `OutOfMemory`: there were none left. `what`: is being done, in words."""
        while True:
            try:
                with self._turn, out_of_memory(what, alone=self.residency.further is None):
                    self._placement.bring(role)
                    return work()
            except OutOfMemory:
                if not self.climb():
                    raise
            finally:
                self.used = time.time()

    def _load(self, part: str, load: Callable[[], Made]) -> Made:
        while True:
            try:
                with self._turn:
                    return load()
            except OutOfMemory:
                self._placement.forget(part)
                if not self.climb():
                    raise

    # --- what refines ----------------------------------------------------------------------------------------------

    def refiner(self, s: Settings) -> StableDiffusionXLImg2ImgPipeline:
        """The pipeline that refines with these settings; the one before it is dropped if it is another. Raises as `base`."""
        sdxl, wanted = sdxl_of(s), _refiner_of(s)
        if self._refiner is None or self._refiner.which != wanted:
            self._drop_refiner()  # before the next is loaded: three SDXL UNets do not fit on one card
            self._texts.drop(lambda key: key[0] != "base")
            self._encoded.drop(lambda key: True)
            files, base = sdxl.identity("refiner"), self.base
            pipe = self._load("refiner", lambda: pipelines.load_refiner(sdxl, base, self._placement))
            self._refiner = LoadedRefiner(wanted, sdxl, files, pipe)
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
            self._drop_refiner()

    def _drop_refiner(self) -> None:
        self._refiner = None
        self._placement.forget("refiner")

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

        def step() -> tuple[torch.Tensor, PeakMemory]:
            self._adapters.use(pipe, rows[0].loras)
            with torch.no_grad(), PeakMemory() as memory:
                answer = pipe.unet(
                    torch.cat(samples), torch.stack(times), encoder_hidden_states=torch.cat(prompts),
                    added_cond_kwargs={"text_embeds": torch.cat(pooled), "time_ids": torch.cat(ids)}, return_dict=False,
                )[0]  # fmt: skip
            return answer, memory

        answer, memory = self._at_work((rows[0].part, "unet"), f"denoising {_size(rows[0])}", step)
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

        def decode() -> tuple[Image, PeakMemory]:
            with torch.no_grad(), PeakMemory() as memory, wide(vae, self.dtype) as kind:
                image = vae.decode(unscaled(vae, row.latents.to(kind)), return_dict=False)[0]
                check_vae_gave(image, f"{row.stage}, decoding")
                (picture,) = cast("list[Image]", pipe.image_processor.postprocess(image, output_type="pil"))
            return picture, memory

        picture, memory = self._at_work((row.part, "vae"), f"decoding {_size(row)}", decode)
        row.used(memory)
        self.counts["vae_decodes"] += 1
        state = row.generator.get_state().numpy().tobytes()
        return Artefact(picture, state, seconds=row.seconds + time.perf_counter() - started)

    def denoise(self, denoising: Denoising, report: Report, preview: Preview | None = None) -> Artefact:
        """Take the rows of a job through all their steps, one after the other, and decode them.

        Raises `OutOfMemory`, or what `report` and `preview` raise.
        """
        report(denoising.stage, 0, denoising.steps)
        previews = self._previews(preview, denoising.rows[0].part) if preview and denoising.rows else None
        decoded = []
        for row in denoising.rows:
            started = time.perf_counter()
            while not row.finished:
                (answer,) = self.evaluate([row])
                if previews:
                    previews.look(denoising, row, answer)
                row.advance(*answer)
                report(denoising.stage, denoising.done, denoising.steps)
            row.seconds += time.perf_counter() - started
            decoded.append(self.finish(row))
        return denoising.finish(decoded)

    def _previews(self, tell: Preview, part: str) -> LatentPreviews:
        vae: Any = self.pipe(part).vae
        if vae not in self._colours:
            work = partial(fit_colours, vae, self.dtype)
            self._colours[vae] = self._at_work((part, "vae"), "decoding a preview", work)
        return LatentPreviews(tell, self._colours[vae])

    def text(self, part: str, wording: Wording) -> Text:
        """The prompts as the UNet of `part` reads them; each wording is encoded once."""
        part = self._network(part)

        def read() -> Text:
            pipe = self.pipe(part)
            self._adapters.use(pipe, wording.loras)
            return encode(pipe, wording.prompt, wording.negative, wording.clip_skip)

        def counted() -> Text:
            text = self._at_work((part, "text encoders"), "reading the prompts", read)
            self.counts["prompt_encodes"] += 1
            return text

        return self._texts((part, wording), counted)

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

        pipe = cast("StableDiffusionXLImg2ImgPipeline", self.pipe("refiner"))

        def encode_it(image: Image) -> Encoded:
            generator = generator_at(state)
            with torch.no_grad(), wide(pipe.vae, self.dtype):
                clean = pipe.prepare_latents(
                    pipe.image_processor.preprocess(image), None, 1, 1, self.dtype, self.device, generator, False
                )
                check_vae_gave(clean, f"{stage}, encoding")
                noise = randn_tensor(clean.shape, generator=generator, device=self.device, dtype=self.dtype)
            return (clean, noise, generator.get_state().numpy().tobytes())

        def counted() -> Encoded:
            image = picture()
            what = f"encoding {image.width}x{image.height}"
            found = self._at_work(("refiner", "vae"), what, lambda: encode_it(image))
            self.counts["vae_encodes"] += 1
            return found

        return self._encoded(key, counted)

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


def _refiner_of(s: Settings) -> Hashable:
    """Which checkpoint refines with which VAE and precision; whether its files have changed it does not see."""
    sdxl = sdxl_of(s)
    return (sdxl.refiner_path(), sdxl.vae, sdxl.dtype)


def _size(row: Row) -> str:
    return f"{row.latents.shape[-1] * 8}x{row.latents.shape[-2] * 8}"
