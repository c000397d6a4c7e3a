"""Runs the stages in order and re-uses every one that has been run before."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from .images import save_picture
from .settings import Settings
from .stages import acts, stage_keys, weights_identity
from .store import Artefact, Store
from .weights import Report, pinned_threads


def silent(name: str, done: int, total: int) -> None:
    """A `Report` that shows nothing."""


@dataclass(frozen=True)
class Result:
    """One picture and how it came about.

    Attributes:
        image: the finished picture, 8-bit RGB.
        stages: {stage: picture after it}, in order, only the stages these settings run.
        settings: what made it, with the seed that was used.
        counters: {"stages": {name: how often it was run}, "unet_evaluations": {"base": n, "refine": n}} for this call;
            a stage that was re-used counts 0.
        keys: {stage: content key}.
        info: {stage: JSON values}, e.g. the faces that were found.
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
    """Loaded models and a store of finished stages. One picture at a time; other threads wait their turn."""

    def __init__(self, store: Store | None = None) -> None:
        self.store = store if store is not None else Store.at_home()
        self.ran: Counter[str] = Counter()
        self._evaluations = {"base": 0, "refine": 0}
        self._loaded: dict[str, tuple[Any, Any]] = {}
        self._turn = threading.RLock()

    def generate(self, settings: Settings, report: Report = silent) -> Result:
        """Make one picture. Raises `MissingWeights`, `CorruptWeights`, `OutOfMemory`, or what `report` raises."""
        with self._turn:
            started = time.perf_counter()
            settings = settings.resolved()
            before = self.counters()
            keys = stage_keys(settings)
            pictures: OrderedDict[str, Image.Image] = OrderedDict()
            info = {}
            artefact: Artefact | None = None
            for name, key in keys.items():
                artefact = self.run_stage(name, key, settings, artefact, report)
                pictures[name] = artefact.image.copy()  # the stored one must not change under the caller's hands
                info[name] = artefact.info
            counters = {
                group: {n: v - before[group][n] for n, v in now.items()} for group, now in self.counters().items()
            }
            image = pictures[next(reversed(pictures))]
            return Result(image, pictures, settings, counters, keys, info, time.perf_counter() - started)

    def run_stage(
        self, name: str, key: str, settings: Settings, before: Artefact | None, report: Report = silent
    ) -> Artefact:
        """The artefact under `key`: from the store, or made now and stored."""
        with self._turn:
            artefact = self.store.get(key)
            if artefact is None:
                with pinned_threads():
                    artefact = self._stage(name, settings)(before, settings, report)
                self.ran[name] += 1
                self.store.put(key, artefact, {"stage": name, "settings": acts(name, settings)})
            return artefact

    def counters(self) -> dict[str, dict[str, int]]:
        """What was really run since this bench was made."""
        diffusion = self._loaded.get("diffusion")
        now = diffusion[1].unet_evaluations if diffusion else {}
        return {
            "stages": {name: self.ran[name] for name in ("base", "refine", "faces", "upscale")},
            "unet_evaluations": {n: v + now.get(n, 0) for n, v in self._evaluations.items()},
        }

    def _stage(self, name: str, s: Settings) -> Any:
        """The loaded stage. Weights of one model at a time are kept; a changed file counts as another model."""
        from .denoising import Base, Diffusion, Refine
        from .restoration import RestoreFaces, Upscale

        if name in ("base", "refine"):
            diffusion = self._load("diffusion", (s.model, s.vae, weights_identity("refine", s)), lambda: Diffusion(s))
            return Base(diffusion) if name == "base" else Refine(diffusion)
        which = (weights_identity("faces", s), s.detector) if name == "faces" else s.upscaler
        return self._load(name, which, lambda: RestoreFaces(s) if name == "faces" else Upscale(s))

    def _load(self, slot: str, which: Any, make: Any) -> Any:
        if slot not in self._loaded or self._loaded[slot][0] != which:
            old = self._loaded.pop(slot, None)
            if slot == "diffusion" and old:
                for name, count in old[1].unet_evaluations.items():
                    self._evaluations[name] += count
            del old  # before the new weights are loaded: two SDXLs do not fit on one card
            self._loaded[slot] = (which, make())
        return self._loaded[slot][1]


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
