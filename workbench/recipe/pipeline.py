"""Runs the stages in order and re-uses every one that has been run before."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from PIL import Image

from workbench.files import save_picture
from workbench.models import Report, pinned_threads
from workbench.settings import STAGES, Settings
from workbench.store import Artefact, Store

from .stages import effective_settings, inputs, stage_keys, weights_identity

if TYPE_CHECKING:
    from .denoising import Diffusion
    from .restoration import RestoreFaces, Upscale

# What a run is counted by, beside stages and UNet sample-forwards
CALLS = (
    "unet_calls", "padding", "prompt_encodes", "vae_encodes", "vae_decodes", "detections", "prefixes", "weights",
    "tiles",
)  # fmt: skip


class Counting(Protocol):
    """Loaded models that count what they run: `Diffusion`, `RestoreFaces` or `Upscale`."""

    @property
    def counts(self) -> Mapping[str, int]: ...


Loaded = TypeVar("Loaded", bound=Counting)


def silent(name: str, done: int, total: int) -> None:
    """A `Report` that shows nothing."""


def unseen(name: str, artefact: Artefact) -> None:
    """A `show` of `Bench.generate` that does nothing with a finished stage."""


@dataclass(frozen=True)
class Result:
    """One picture and how it came about.

    Attributes:
        image: the finished picture, 8-bit RGB.
        stages: {stage: picture after it}, in order, only the stages these settings run.
        settings: what made it, with the seed that was used.
        counters: what was run for this picture, as `Bench.counters` has it; a stage that was re-used counts 0.
        keys: {stage: content key}.
        info: {stage: JSON values}, like the faces that were found.
        seconds: from the call to the picture.
    """

    image: Image.Image
    stages: OrderedDict[str, Image.Image]
    settings: Settings
    counters: dict[str, dict[str, int]]
    keys: dict[str, str]
    info: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0

    def save(self, path: Path | str) -> Path:
        """Write the picture as a PNG that carries its settings."""
        save_picture(path, self.image, self.settings, keys=self.keys)
        return Path(path)


class Bench:
    """Loaded models and a store of finished stages. It makes one picture at a time; other threads wait their turn.

    Attributes:
        store: where finished stages are looked for and kept.
        ran: {stage: how often it was really run}.
    """

    def __init__(self, store: Store | None = None) -> None:
        self.store = store if store is not None else Store.at_home()
        self.ran: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._loaded: dict[str, tuple[object, Counting]] = {}  # {slot: (which weights, the models)}
        self._turn = threading.RLock()

    def generate(
        self, settings: Settings, report: Report = silent, show: Callable[[str, Artefact], None] = unseen
    ) -> Result:
        """Make one picture.

        Args:
            report: called within every denoising step, face and tile.
            show: called with (stage, its artefact) after each stage, made now or re-used.

        Raises:
            MissingWeights, CorruptWeights, OutOfMemory, or what `report` and `show` raise.
        """
        with self._turn:
            started = time.perf_counter()
            settings = settings.resolved()
            before = self.counters()
            keys = stage_keys(settings)
            made: dict[str, Artefact] = {}
            for name in keys:
                made[name] = self.run_stage(name, keys, settings, made, report)
                show(name, made[name])
            counters = {
                group: {n: v - before[group][n] for n, v in now.items()} for group, now in self.counters().items()
            }
            # copies: the stored ones must not change under the caller's hands
            pictures = OrderedDict((name, artefact.image.copy()) for name, artefact in made.items())
            info = {name: artefact.info for name, artefact in made.items()}
            image = pictures[next(reversed(pictures))]
            return Result(image, pictures, settings, counters, keys, info, time.perf_counter() - started)

    def run_stage(
        self, name: str, keys: dict[str, str], s: Settings, made: dict[str, Artefact], report: Report = silent
    ) -> Artefact:
        """The artefact of one stage: from the store, or else made now from the artefacts `made` before it, and stored."""
        with self._turn:
            artefact = self.store.get(keys[name])
            if artefact is None:
                with pinned_threads():
                    artefact = self._make(name, keys, s, made, report)
                self.ran[name] += 1
                self.store.put(keys[name], artefact, {"stage": name, "settings": effective_settings(name, s)})
            return artefact

    def _make(
        self, name: str, keys: dict[str, str], s: Settings, made: dict[str, Artefact], report: Report
    ) -> Artefact:
        taken = inputs(s)[name]
        if name == "base":
            return self.diffusion(s).denoise(self.diffusion(s).start_base(s), report)
        if name == "refine":
            row = self.diffusion(s).start_refine(s, made[taken[0]], keys[taken[0]])
            return self.diffusion(s).denoise(row, report)
        if name == "upscale":
            return self.upscaler(s)(made[taken[0]], s, report)
        return self.restorer(s)(made[taken[0]], s, report, *(made[stage] for stage in taken[1:]))

    def counters(self) -> dict[str, dict[str, int]]:
        """What was really run since this bench was made.

        Returns:
            {"stages": {name: runs}, "unet_evaluations": {"base" and "refine": UNet sample-forwards}, "calls": {each of
            CALLS: how many}}.
        """
        counts = sum((Counter(held.counts) for _, held in self._loaded.values()), Counter(self._counts))
        return {
            "stages": {name: self.ran[name] for name in STAGES},
            "unet_evaluations": {name: counts[name] for name in ("base", "refine")},
            "calls": {name: counts[name] for name in CALLS},
        }

    @property
    def loaded(self) -> tuple[str, ...]:
        """Which models are in memory."""
        return tuple(self._loaded)

    def diffusion(self, s: Settings) -> Diffusion:
        """The SDXL pipelines of these settings. One model at a time is kept; one whose file has changed is loaded anew."""
        from .denoising import Diffusion

        return self._load("diffusion", (s.model, s.vae, weights_identity("refine", s)), lambda: Diffusion(s))

    def restorer(self, s: Settings) -> RestoreFaces:
        """The face restorer and the detector of these settings, kept likewise."""
        from .restoration import RestoreFaces

        return self._load("faces", (weights_identity("faces", s), s.detector), lambda: RestoreFaces(s))

    def upscaler(self, s: Settings) -> Upscale:
        """The upscaler of these settings, kept likewise."""
        from .restoration import Upscale

        return self._load("upscale", s.upscaler, lambda: Upscale(s))

    def _load(self, slot: str, which: object, make: Callable[[], Loaded]) -> Loaded:
        """What the slot holds, if it is of the weights `which`, else what `make` loads."""
        if slot not in self._loaded or self._loaded[slot][0] != which:
            old = self._loaded.pop(slot, None)
            if old:
                self._counts.update(old[1].counts)
            del old  # before the new weights are loaded: two SDXLs do not fit on one card
            self._loaded[slot] = (which, make())
        return cast(Loaded, self._loaded[slot][1])


_bench: Bench | None = None


def bench() -> Bench:
    """The bench of this process, with the store at home."""
    global _bench
    folder = Store.at_home().folder
    if _bench is None or _bench.store.folder != folder:  # WORKBENCH_HOME was changed
        _bench = Bench()
    return _bench


def generate(settings: Settings, report: Report = silent) -> Result:
    """Make one picture with the process's bench: `wb.generate(settings).image`. See `Bench.generate`."""
    return bench().generate(settings, report)
