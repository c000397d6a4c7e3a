"""What a preset's picture costs on this machine: seconds and memory of each stage, and how much of the machine they use."""

from __future__ import annotations

import re
import resource
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from workbench.files import home, write_json
from workbench.models import (
    PeakMemory,
    counting_flops,
    hardware,
    matmul_rate,
    settle,
    timed,
    unet_gains,
    write_random_sdxl,
)
from workbench.recipe import Bench, jobs_of, stage_keys
from workbench.store import Store

if TYPE_CHECKING:
    from workbench.settings import Settings
    from workbench.store import Artefact

NO_CARD = "not measured: no card"
NO_FACE = "not measured: no face was found in the picture"


@dataclass(frozen=True)
class StageSpeed:
    """One stage of the picture.

    Attributes:
        seconds: of each picture that was timed.
        tflop: 10^12 products and sums, as torch counted them in the first picture, the encoding of its prompt among them.
        share: of the machine's matmul rate in the preset's precision; 1 would be a stage that only multiplies matrices.
        peak_bytes: the most of the card's memory in use at once; None on the CPU.
        note: why it is not measured; then it teaches the plans nothing.
    """

    seconds: tuple[float, ...]
    tflop: float
    share: float
    peak_bytes: int | None
    note: str = ""


@dataclass(frozen=True)
class Benchmark:
    """What was measured.

    Attributes:
        device: the card, or the CPU and its threads.
        begun: date and time with its zone, ISO 8601.
        random_weights: whether the weights were random: then the pictures are noise, and nothing else is different.
        pictures: how many were timed, after one that loads the weights.
        seconds: of a picture; the median.
        matmul_tflops: 10^12 products and sums a second of a product of two large matrices.
        peak_bytes: the most memory in use at once: of the card; on the CPU of this process.
        gains: {a change: how many times as fast it makes a UNet call, or why that is not measured}.
    """

    device: str
    begun: str
    preset: str
    settings: Mapping[str, object]
    precision: str
    random_weights: bool
    pictures: int
    seconds: float
    matmul_tflops: float
    peak_bytes: int
    stages: Mapping[str, StageSpeed]
    gains: Mapping[str, float | str]

    @property
    def pictures_per_hour(self) -> float:
        return 3600 / self.seconds

    def pictures_per_dollar(self, price: float) -> float:
        """`price`: of the machine, in dollars an hour."""
        return self.pictures_per_hour / price

    def save(self, price: float | None = None) -> Path:
        """Write it under $WORKBENCH_HOME/benchmarks, named by card and date."""
        card = re.sub(r"[^a-z0-9]+", "-", self.device.lower()).strip("-")
        at = datetime.fromisoformat(self.begun)
        path = home() / "benchmarks" / f"{card}-{at:%Y-%m-%d-%H%M%S}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, self.to_json(price))
        return path

    def to_json(self, price: float | None = None) -> dict[str, object]:
        found: dict[str, object] = {
            **asdict(self),
            "pictures_per_hour": self.pictures_per_hour,
            "price_per_hour": price,
        }
        return found | {"pictures_per_dollar": self.pictures_per_dollar(price) if price else None}


def benchmark(
    s: Settings, pictures: int, *, preset: str = "", random_weights: bool = False, quiet: bool = False
) -> Benchmark:
    """Make the picture of these settings `pictures` times, after once to load the weights and to count.

    Every one is made anew, into a store that is deleted afterwards. `random_weights`: with SDXL at its full size and random
    weights, without the face restorer, for which noise has no faces.

    Raises `MissingWeights`, `CorruptWeights`, `OutOfMemory`, `DiskFull`, `CardUnusable`.
    """
    begun = datetime.now().astimezone().isoformat(timespec="seconds")
    place = home() / "benchmarks"
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".running-", dir=place) as folder:  # on the disk of the real store
        made = _with_random_weights(s, Path(folder), quiet) if random_weights else s
        rate = matmul_rate(made.dtype)
        bench = Bench(Store(Path(folder) / "store"))
        with tqdm(total=(pictures + 1) * len(made.stages), unit="stage", disable=quiet) as bar:
            first, tflop = _counted(bench, made.replace(seed=0), bar)
            runs = [_timed(bench, made.replace(seed=seed), bar) for seed in range(1, pictures + 1)]
        on_card = hardware.device().type == "cuda"
        gains = unet_gains(bench.diffusion(made).base.unet, s.width, s.height) if on_card else {}
    stages = {name: _speed([run[name] for run in runs], tflop[name], rate, first[name]) for name in made.stages}
    return Benchmark(
        device=hardware.device_words(),
        begun=begun,
        preset=preset,
        settings=s.model_dump(),
        precision=hardware.dtype_name(made.dtype),
        random_weights=random_weights,
        pictures=pictures,
        seconds=median(sum(seconds for seconds, _ in run.values()) for run in runs),
        matmul_tflops=rate / 1e12,
        peak_bytes=max(speed.peak_bytes or 0 for speed in stages.values()) if on_card else _peak_of_process(),
        stages=stages,
        gains=gains or {"UNet": NO_CARD},
    )


def _with_random_weights(s: Settings, folder: Path, quiet: bool) -> Settings:
    refiner = s.refiner if s.refiner in ("auto", "base") else "base"
    which = ("base", "refiner") if refiner == "auto" and s.hires else ("base",)
    path = write_random_sdxl(folder / "sdxl", which, quiet=quiet)
    return s.replace(model=str(path), refiner=refiner, vae="", loras="", restorer="none")


def _counted(bench: Bench, s: Settings, bar: tqdm) -> tuple[dict[str, Artefact], dict[str, float]]:
    """({stage: its result}, {stage: 10^12 products and sums}) of the first picture, which also loads the weights."""
    done: dict[str, Artefact] = {}
    tflop: dict[str, float] = {}
    named: dict[str, Artefact] = {}
    for job in jobs_of(s, stage_keys(s)):
        bar.set_description_str(f"{job.stage}, loading", refresh=True)
        with counting_flops() as counted:
            named[job.stage] = done[job.key] = bench.make(job, done)
            tflop[job.stage] = counted() / 1e12
        bar.update()
    return named, tflop


def _timed(bench: Bench, s: Settings, bar: tqdm) -> dict[str, tuple[float, int | None]]:
    """{stage: (seconds, peak memory)} of one picture."""
    done: dict[str, Artefact] = {}
    found = {}
    for job in jobs_of(s, stage_keys(s)):
        bar.set_description_str(job.stage, refresh=True)
        with PeakMemory() as memory:
            seconds = timed(lambda job=job: done.update({job.key: bench.make(job, done)}))
            settle()
        found[job.stage] = (seconds, memory.bytes)
        bar.update()
    return found


def _speed(runs: list[tuple[float, int | None]], tflop: float, rate: float, first: Artefact) -> StageSpeed:
    seconds = tuple(run[0] for run in runs)
    peaks = [peak for _, peak in runs if peak is not None]
    note = NO_FACE if first.info.get("faces") == [] else ""
    return StageSpeed(seconds, tflop, tflop * 1e12 / median(seconds) / rate, max(peaks, default=None), note)


def _peak_of_process() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
