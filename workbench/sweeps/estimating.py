"""What a sweep will take on a card that nobody has rented yet: without weights, network or torch.

Jobs are counted as a plan counts them. Their work in TFLOP, by counts on the real architectures, is divided by what SDXL gets
out of a card (`workbench.machine.CARDS`), so every figure of time is an estimate with a spread; where jobs were timed on such
a card and their times are in `store/costs.json`, those are taken.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.files import home
from workbench.machine import REGISTRY, CardModel, Weight, check_known, needed, same_card, there
from workbench.models import FILL, checkpoint_in, full_size_alive, model_path
from workbench.recipe import batch_of, keys_without_weights, sizes, without_weights
from workbench.runs import JsonObject
from workbench.settings import Settings, stages

from .costs import Costs, work_units
from .memory import LARGEST_BATCH
from .planning import Cell, Jobs, evaluations, jobs_of_cells
from .spec import AnySpec, Spec, make_spec, write_out

GIB = 2**30
FULL_UNET = 2_567_463_684  # parameters of SDXL's
NO_COSTS = Costs(Path(), "")  # knows only how many bytes a PNG usually has

DOWNLOAD = (20e6, 200e6)  # bytes a second that a rented machine gets, from public reports; not measured
READING = (0.4e9, 2e9)  # bytes a second from its disk onto the card, not measured
SCORING = (1.0, 2.5)  # CPU seconds of scores and PNG a picture of 1536 px, measured on one machine: 1.5 to 1.9
TIMED = (0.9, 1.2)  # share of a time that was measured on such a card: another day, another host


@dataclass(frozen=True)
class Estimate:
    """What a sweep takes on a card.

    Attributes:
        download_bytes: weights that are not on this machine yet.
        disk_bytes: those, and what the run writes.
        peak_bytes: of the card's memory, everything resident.
        hours: (low, high), with fetching and loading the weights.
        measured: whether all times come from measurements on such a card.
        notes: sentences.
    """

    card: CardModel
    cells: int
    jobs: Mapping[str, int]
    unet_evaluations: Mapping[str, int]
    download_bytes: int
    disk_bytes: int
    peak_bytes: int
    hours: tuple[float, float]
    measured: bool
    price_per_hour: float | None
    notes: tuple[str, ...]

    @property
    def cost(self) -> tuple[float, float] | None:
        """(low, high), of what an hour costs; None where that is not said."""
        if self.price_per_hour is None:
            return None
        return self.hours[0] * self.price_per_hour, self.hours[1] * self.price_per_hour

    def to_json(self) -> JsonObject:
        """JSON values."""
        cost = self.cost
        return {
            "card": self.card.name,
            "cells": self.cells,
            "jobs": dict(self.jobs),
            "unet_evaluations": dict(self.unet_evaluations),
            "download_bytes": self.download_bytes,
            "disk_bytes": self.disk_bytes,
            "peak_bytes": self.peak_bytes,
            "hours": {"low": round(self.hours[0], 4), "high": round(self.hours[1], 4)},
            "cost": None if cost is None else {"low": round(cost[0], 4), "high": round(cost[1], 4)},
            "price_per_hour": self.price_per_hour,
            "measured": self.measured,
            "notes": list(self.notes),
        }


def estimate(spec: AnySpec, card: CardModel, price_per_hour: float | None = None) -> Estimate:
    """What a sweep would take on `card`, from nothing: no result of this machine's store counts.

    Raises `SpecError`, `SettingsError`, `PresetNotFound`; `MissingWeights` for a model that is neither here nor in the
    registry.
    """
    with without_weights():
        spec = make_spec(spec)
        grid = write_out(spec)
        cells = [Cell(i, s, keys_without_weights(s)) for i, s in enumerate(grid.cells())]
        jobs = jobs_of_cells(cells)
        settings = [cell.settings for cell in cells]
        models = {_networks(s): model_size(s) for s in {_networks(s): s for s in settings}.values()}
        winners = grid.base.replace(upscaler=grid.upscaler)
        used = [*{_files(s): s for s in settings}.values(), winners]
        for s in used:
            check_known(s)
        fetched = {w.name: w for s in used for w in needed(s) if there(w) is None}
        download = sum(weight.bytes or 0 for weight in fetched.values())
        batch, peak = _memory(settings, models, card)
        seconds, measured = _seconds(jobs, models, card, batch)
        written = sum(
            NO_COSTS.bytes(stage, cell.settings) for stage, each in jobs.items() for cell in each.values()
        ) + sum(NO_COSTS.bytes("scores", s) for s in settings)
        counted = {stage: evaluations(stage, jobs[stage]) for stage in batch_of() if jobs[stage]}
    held = max(model.bytes for model in models.values())
    low, high = (
        (taken + download / fetch + held / read) / 3600
        for taken, fetch, read in zip(seconds, DOWNLOAD[::-1], READING[::-1], strict=True)
    )
    return Estimate(
        card=card,
        cells=len(cells),
        jobs={stage: len(each) for stage, each in jobs.items() if each},
        unet_evaluations=counted,
        download_bytes=download,
        disk_bytes=download + int(written),
        peak_bytes=peak,
        hours=(low, high),
        measured=measured,
        price_per_hour=price_per_hour,
        notes=tuple([*_notes(card, peak, batch, fetched.values()), *_notes_on_spec(spec, grid.upscaler, settings)]),
    )


def _networks(s: Settings) -> tuple[object, ...]:
    """What the size of SDXL on the card depends on."""
    return (
        s.model,
        s.refiner,
        s.vae,
        s.dtype,
        s.vae_tiling,
        *(name for name in s.stages if getattr(stages()[name], "part", "")),
    )


def _files(s: Settings) -> tuple[object, ...]:
    """What the files that are loaded depend on."""
    return (*_networks(s), *((n, getattr(s, each)) for n in s.stages for each in stages()[n].networks), s.resampler)


@dataclass(frozen=True)
class ModelSize:
    """Attributes: bytes: of its networks on the card; share: of the full-size UNet's parameters."""

    bytes: int
    share: float


Models = Mapping[tuple[object, ...], ModelSize]


def model_size(s: Settings) -> ModelSize:
    """How large the model of these settings is: by its files' headers where it is here, else by the registry.

    Raises `MissingWeights` where it is neither.
    """
    check_known(s)
    weights, wide = needed(s), 2 if s.dtype == "float32" else 1
    name = s.model.removesuffix(".safetensors")
    base = next((weight for weight in weights if ("model", name) in weight.used_as), None)
    if base:  # of the refiner only the UNet is another one than the base's
        own = [file for weight in weights if weight is REGISTRY["sdxl-refiner"] for file in weight.files]
        refiner = sum(file.bytes or 0 for file in own if file.name.startswith("unet/"))
        return ModelSize(((base.bytes or 0) + refiner) * wide, 1.0)
    checkpoint = checkpoint_in(model_path(s.model))
    parameters = {part: checkpoint.parameters(part) for part in checkpoint.networks}
    return ModelSize(2 * sum(parameters.values()) * wide, parameters["unet"] / FULL_UNET)


def _memory(settings: Sequence[Settings], models: Models, card: CardModel) -> tuple[int, int]:
    """(pictures in a UNet batch, bytes of the card's memory) of what needs most, everything resident."""

    def peak(batch: int) -> int:
        return max(int(models[_networks(s)].bytes + _alive(s, batch)) for s in settings)

    batch = 1
    while batch < LARGEST_BATCH and peak(2 * batch) < FILL * card.memory * GIB:
        batch *= 2
    return batch, peak(batch)


def _alive(s: Settings, batch: int) -> float:
    """Bytes beside the weights, in the stage that needs most."""
    areas = {name: math.prod(at) / 1024**2 for name, (at, _) in sizes(s).items()}
    parts = {name: getattr(stages()[name], "part", "") for name in areas}
    wide = 2 if s.dtype == "float32" else 1
    return wide * max(
        full_size_alive(refines=parts[name] == "refiner", batch=batch, megapixels=area, tiled=s.vae_tiling)
        for name, area in areas.items()
        if parts[name]
    )


def _seconds(jobs: Jobs, models: Models, card: CardModel, batch: int) -> tuple[tuple[float, float], bool]:
    """((low, high) seconds of all jobs, whether all are measured). Scores run beside the rest, on the CPU."""
    timed = _timed(card)
    low = high = 0.0
    measured = timed is not None
    for stage, each in jobs.items():
        evaluated = sum(stages()[stage].unet_evaluations(cell.settings) for cell in each.values())
        # jobs that differ in CFG alone share a step
        shared = evaluations(stage, each) / evaluated if evaluated else 1.0
        for cell in each.values():
            taken = timed.seconds(stage, cell.settings, batch) if timed else None
            measured = measured and taken is not None
            work = work_units(stage, cell.settings) * models[_networks(cell.settings)].share
            fast, slow = (taken * TIMED[0], taken * TIMED[1]) if taken else (work / card.speed[1], work / card.speed[0])
            low, high = low + fast * shared, high + slow * shared
    cells = {cell.key: cell for each in jobs.values() for cell in each.values()}.values()
    area = sum(math.prod(sizes(cell.settings)[cell.settings.stages[-1]][1]) for cell in cells) / 1536**2
    return (max(low, area * SCORING[0]), max(high, area * SCORING[1])), measured


def _notes_on_spec(spec: Spec, upscaler: str, settings: Sequence[Settings]) -> Iterator[str]:
    if spec.strategy != "grid":
        most = f"at most {spec.budget} of the cells" if spec.budget else "which cells are made"
        yield f"the strategy {spec.strategy} chooses {most}; all of them are counted"
    if upscaler != "none":
        yield "enlarging the winners is not counted in the time"
    if any(s.dtype == "float32" for s in settings):
        yield "the times are those of float16; float32 takes two to four times as long"


def _timed(card: CardModel) -> Costs | None:
    """What was timed on such a card, if this machine has its `costs.json`; the newest device of that name."""
    path = home() / "store" / "costs.json"
    devices = [name for name in Costs.devices(path) if same_card(name, card)]
    return Costs(path, devices[-1]) if devices else None


def _notes(card: CardModel, peak: int, batch: int, fetched: Iterable[Weight]) -> Iterator[str]:
    if peak > card.memory * GIB:
        yield f"{card.name} has {card.memory} GiB, and this needs {peak / GIB:.1f}; take a larger card, or a smaller picture"
    if batch > 1:
        yield f"{batch} pictures in a UNet batch fit"
    unknown = [weight.name for weight in fetched if not weight.bytes]
    if unknown:
        yield f"the size of {', '.join(unknown)} is not known and is left out"
