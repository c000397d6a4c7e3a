"""Runs the stages in order and re-uses every one that has been run before."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from PIL import Image
from tqdm.auto import tqdm

from workbench.errors import OutOfMemory
from workbench.files import save_picture
from workbench.models import Report, alone, begin, pinned_threads
from workbench.settings import Settings, stages
from workbench.store import Artefact, Store

from .bar import stage_bar
from .jobs import Job, jobs_of
from .keys import stage_keys
from .latent_preview import Preview
from .memory_plan import residency_of, tell_plan
from .stages.stage import DenoisingStage, Networks, PictureStage, Show, Stage

if TYPE_CHECKING:
    from .denoising import Diffusion


Made = TypeVar("Made")


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
        notes: sentences on what of the settings was cut, or had no effect, and on what stages did not find.
    """

    image: Image.Image
    stages: OrderedDict[str, Image.Image]
    settings: Settings
    counters: dict[str, dict[str, int]]
    keys: dict[str, str]
    info: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

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
        # {(slot, which weights): the networks}
        self._loaded: OrderedDict[tuple[str, Hashable], Networks] = OrderedDict()
        self._turn = threading.RLock()

    def generate(
        self,
        settings: Settings,
        report: Report = silent,
        show: Show = unseen,
        *,
        keep: bool = True,
        preview: Preview | None = None,
    ) -> Result:
        """Make one picture.

        Args:
            keep: whether its stages are results, which are stored. Those of a preview are remembered in memory alone.
            report: called within every denoising step, face and tile.
            show: called with (stage, its artefact) after each stage, made now or re-used.
            preview: called while a stage is denoised, a few times a second, with what it will be; see `Preview`. It changes
                no pixel, and costs nothing where it is None.

        Raises:
            MissingWeights, CorruptWeights, OutOfMemory, or what `report`, `show` and `preview` raise.
        """
        with self._turn:
            started = time.perf_counter()
            settings = settings.resolved()
            before = self.counters()
            keys = stage_keys(settings)
            done: dict[str, Artefact] = {}
            for job in jobs_of(settings, keys):
                done[job.key] = self.make(job, done, report, keep=keep, preview=preview)
                show(job.stage, done[job.key])
            made = {name: done[key] for name, key in keys.items()}
            counters = {
                group: {n: v - before[group][n] for n, v in now.items()} for group, now in self.counters().items()
            }
            # copies: the stored ones must not change under the caller's hands
            pictures = OrderedDict((name, artefact.image.copy()) for name, artefact in made.items())
            info = {name: artefact.info for name, artefact in made.items()}
            image = pictures[next(reversed(pictures))]
            seconds = time.perf_counter() - started
            said = tuple(dict.fromkeys([*notes(settings), *made[next(reversed(made))].notes]))
            return Result(image, pictures, settings, counters, keys, info, seconds, said)

    def make(
        self,
        job: Job,
        done: Mapping[str, Artefact],
        report: Report = silent,
        *,
        keep: bool = True,
        preview: Preview | None = None,
    ) -> Artefact:
        """The result of a job: from the store, or made now from the results it takes, which are in `done`, and stored.

        `keep`, `preview`: as for `generate`.
        """
        with self._turn:
            artefact = self.store.get(job.key)
            known = artefact is not None
            if artefact is None:
                with pinned_threads():
                    taken = [done[key] for key in job.taken]
                    artefact = carrying_notes(self._run(job, taken, report, preview), taken)
                self.ran[job.stage] += 1
            if not keep and not known:
                self.store.pass_by(job.key, artefact)
            elif keep and (not known or self.store.passing(job.key)):
                about = {"stage": job.stage, "settings": job.kind.effective_settings(job.settings)}
                self.store.put(job.key, artefact, about)
            return artefact

    def _run(self, job: Job, taken: list[Artefact], report: Report, preview: Preview | None) -> Artefact:
        stage = job.kind
        networks = self.networks(stage, job.settings)
        if isinstance(stage, DenoisingStage):
            diffusion = cast("Diffusion", networks)
            diffusion.settle(residency_of(job.settings))
            return diffusion.denoise(stage.start(diffusion, job.settings, taken, job.taken), report, preview)
        assert isinstance(stage, PictureStage)
        return self.with_room(stage, lambda: stage.run(networks, taken, [job.settings], report, alone=True)[0])

    def counters(self) -> dict[str, dict[str, int]]:
        """What was really run since this bench was made.

        Returns:
            {"stages": {name: runs}, "unet_evaluations": {denoising stage: UNet sample-forwards}, "calls": {each of the
            stages' `counters`: how many}}.
        """
        counts = sum((Counter(held.counts) for held in self._loaded.values()), Counter(self._counts))
        kinds = stages()
        denoising = [name for name, stage in kinds.items() if isinstance(stage, DenoisingStage)]
        return {
            "stages": {name: self.ran[name] for name in kinds},
            "unet_evaluations": {name: counts[name] for name in denoising},
            "calls": {name: counts[name] for stage in kinds.values() for name in stage.counters},
        }

    @property
    def loaded(self) -> tuple[str, ...]:
        """Which models are in memory."""
        return tuple(dict.fromkeys(slot for slot, _ in self._loaded))

    def networks(self, stage: Stage, s: Settings) -> Networks:
        """The loaded networks of a stage. Of each slot the newest `Stage.kept` are kept; those whose file has changed are
        loaded anew.

        Raises `MissingWeights`, `CorruptWeights`, `OutOfMemory`.
        """
        wanted = (stage.slot(), stage.identity(s))
        if wanted not in self._loaded:
            same = [key for key in self._loaded if key[0] == wanted[0]]
            for key in same[: len(same) + 1 - stage.kept]:
                # before the new weights are loaded: two SDXLs do not fit on one card
                self._counts.update(self._loaded.pop(key).counts)
            # room is made before this thread is alone: whoever computes may want to be, with networks that have to make way
            self._loaded[wanted] = self.with_room(stage, lambda: _load(stage, s))
        self._loaded.move_to_end(wanted)
        networks = self._loaded[wanted]
        stage.renew(networks)
        return networks

    def load(self, s: Settings, wanted: Callable[[], bool] = lambda: True) -> None:
        """Load the networks that these settings run, so that the first picture need not wait for them.

        `wanted`: asked before each; False ends it. Raises `MissingWeights`, `CorruptWeights`, `OutOfMemory`.
        """
        for name in s.stages:
            with self._turn:  # or a picture that is asked for meanwhile loads them, too
                if wanted():
                    self.networks(stages()[name], s)

    def with_room(self, stage: Stage, work: Callable[[], Made]) -> Made:
        """What `work` of a stage returns. SDXL's networks that need not stay make way for a stage that does not use them, and
        where the memory runs out nonetheless, more of them do, and it is done again. Raises `OutOfMemory`: all had left."""
        if isinstance(stage, DenoisingStage):  # SDXL's pipelines see to themselves
            return work()
        while True:
            held = self._diffusions()
            for diffusion in held:
                diffusion.make_way(stage.name)
            try:
                return work()
            except OutOfMemory:
                if not any([diffusion.climb() for diffusion in held]):
                    raise

    def _diffusions(self) -> list[Diffusion]:
        slots = {stage.slot() for stage in stages().values() if isinstance(stage, DenoisingStage)}
        return [cast("Diffusion", networks) for (slot, _), networks in self._loaded.items() if slot in slots]

    def diffusion(self, s: Settings) -> Diffusion:
        """The SDXL pipelines of these settings; see `networks`."""
        first = next(stage for stage in stages().values() if isinstance(stage, DenoisingStage))
        return cast("Diffusion", self.networks(first, s))


def _load(stage: Stage, s: Settings) -> Networks:
    with alone():
        begin()
        return stage.load(s)


_bench: Bench | None = None
_opening = threading.Lock()


def bench() -> Bench:
    """The bench of this process, with the store at home; all its threads have the same one."""
    global _bench
    with _opening:
        folder = Store.at_home().folder
        if _bench is None or _bench.store.folder != folder:  # WORKBENCH_HOME was changed
            _bench = Bench()
        return _bench


def carrying_notes(made: Artefact, taken: Iterable[Artefact]) -> Artefact:
    """A stage's result with the notes of what it was made from, so that the finished picture has them all."""
    found = list(dict.fromkeys([*(note for before in taken for note in before.notes), *made.notes]))
    return replace(made, info={**made.info, "notes": found}) if found else made


def notes(settings: Settings, idle: Mapping[str, str] | None = None) -> list[str]:
    """Sentences on what of the settings is cut, or has no effect, like words behind the 75th token of a plain prompt.

    `idle`: those of `idle_settings` that are to be named; all of them if it is left out. Raises `MissingWeights`,
    `CorruptWeights`.
    """
    by_why: dict[str, list[str]] = {}
    for name, why in (idle_settings(settings) if idle is None else idle).items():
        by_why.setdefault(why, []).append(name)
    said = [f"{', '.join(n)} {'has' if len(n) == 1 else 'have'} no effect: {why}" for why, n in by_why.items()]
    return list(dict.fromkeys([*(note for stage in stages().values() for note in stage.notes(settings)), *said]))


def idle_settings(settings: Settings) -> dict[str, str]:
    """{a setting that somebody wrote and that has no effect: why}. Raises `MissingWeights`."""
    return {name: why for stage in stages().values() for name, why in stage.idle(settings).items()}


def generate(settings: Settings, report: Report | None = None, *, quiet: bool = False) -> Result:
    """Make one picture with the process's bench: `wb.generate(settings).image`. See `Bench.generate`.

    A bar shows the stage at work, unless `quiet`, or `report` is there to show it; first it is said what is cut.
    """
    if report is not None:
        return bench().generate(settings, report)
    (result,) = generate_many(settings, 1, quiet=quiet)
    return result


def generate_many(settings: Settings, n: int, *, quiet: bool = False) -> Iterator[Result]:
    """`n` pictures of seeds in a row, as `Settings.in_a_row` has them, each as soon as it is finished.

    The picture of a seed is bit for bit that of `generate`, so they are made one after another, with networks that are loaded
    once: in a UNet batch of four, each of four pictures of the embedded model had other pixels than alone (CPU, float32).
    Raises as `Bench.generate`; what was yielded before is whole.
    """
    each = settings.in_a_row(n)
    for note in () if quiet else notes(settings):
        tqdm.write(f"workbench: {note}.", file=sys.stderr)
    if not quiet:
        tell_plan(settings)
    with stage_bar(quiet) as bar:
        for number, one in enumerate(each, start=1):
            yield bench().generate(one, bar if n == 1 else _numbered(bar, f"{number}/{n}"))


def _numbered(bar: Report, number: str) -> Report:
    return lambda stage, done, total: bar(f"{number} {stage}", done, total)
