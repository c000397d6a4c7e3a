"""What a sweep will do: a spec becomes cells, and cells become jobs, each counted once for all that need it. Runs nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from workbench.errors import SpecError as SpecError
from workbench.files import hash_json
from workbench.recipe import (
    ContentKeys,
    DenoisingStage,
    batch_of,
    bench,
    idle_settings,
    inputs,
    notes,
    one_moment,
    sizes,
    stage_keys,
    stage_named,
)
from workbench.runs import JOIN, AxisValue, JsonObject, ResolvedSpec, listed, same_prompts, same_values, swept
from workbench.settings import Settings, knob_of, stages
from workbench.store import Store

from .costs import Costs
from .memory import largest, residency_name
from .spec import AnySpec, Spec, WrittenSpec, make_spec as make_spec, told, write_out

Jobs = dict[str, dict[str, "Cell"]]
"""{stage: {content key: a cell that needs it}}"""


@dataclass(frozen=True)
class Cell:
    """One picture of a sweep: its place, its settings, and the content key of every stage it runs."""

    index: int
    settings: Settings
    keys: dict[str, str]

    @property
    def key(self) -> str:
        return next(reversed(self.keys.values()))


@dataclass(frozen=True)
class Plan:
    """What a sweep will do, known before anything runs.

    `jobs`: all jobs of its cells, each once. `left`: those whose result is not in the store and is needed.
    """

    spec: Spec
    resolved: ResolvedSpec
    cells: list[Cell]
    warnings: list[str]
    done: dict[str, int]
    jobs: Jobs = field(default_factory=dict)
    left: Jobs = field(default_factory=dict)
    upscaler: str = "none"  # what `spec.upscale_winners` settings are enlarged by afterwards; the cells run without it
    costs: Costs | None = None
    batch: Mapping[str, int] = field(default_factory=batch_of)  # {stage: pictures in a UNet batch}

    @cached_property
    def hash(self) -> str:
        """Names the run. The axes' order counts: it numbers the cells."""
        base = told(Settings(**self.resolved["base"]))
        if self._reads_plainly:  # as before there was a syntax: a run of then goes on
            base.pop("prompt_syntax", None)
        return hash_json({**self.resolved, "base": base, "axes": list(self.resolved["axes"].items())})

    @cached_property
    def _reads_plainly(self) -> bool:
        """Whether no prompt has anything that `prompt_syntax` is about."""
        found: dict[Hashable, bool] = {}
        for cell in self.cells:
            for stage in (stages()[name] for name in cell.keys):
                if isinstance(stage, DenoisingStage):
                    s = cell.settings
                    which = (
                        stage.name,
                        stage.prompts_of(s),
                        stage.checkpoint(s),
                        s.prompt_syntax,
                        stage.guidance(s) > 1,
                    )
                    found[which] = found[which] if which in found else stage.reads_plainly(s)
        return all(found.values())

    def minimum(self) -> JsonObject:
        """The fewest calls that the jobs left need, where everything is shared that leaves the pixels as they are.

        {"unet_evaluations": {denoising stage: sample-forwards; a guided pair is one}, and each of the stages' `calls`}.
        """
        calls: dict[str, set[Hashable]] = {name: set() for stage in stages().values() for name in stage.calls}
        for name, jobs in self.left.items():
            for key, cell in jobs.items():
                for call, which in stages()[name].minimum(cell.settings, key, _taken(name, cell)).items():
                    calls[call].add(which)
        steps = {name: evaluations(name, self.left[name]) for name in batch_of()}
        return {"unet_evaluations": steps, **{call: len(which) for call, which in calls.items()}}

    @cached_property
    def naive(self) -> dict[str, int]:
        """{stage: how often it would run if every cell were made on its own}."""
        return {stage: sum(stage in cell.keys for cell in self.cells) for stage in stages()}

    def seconds(self) -> dict[str, float | None]:
        """{stage (also "scores"): predicted seconds of what is left}; None where this stage was never measured here."""
        found: dict[str, float | None] = {}
        for stage, jobs in self.left.items():
            size = self.batch.get(stage, 1)
            found[stage] = _total(
                self.costs.seconds(stage, c.settings, size) if self.costs else None for c in jobs.values()
            )
            counted = sum(stages()[stage].unet_evaluations(cell.settings) for cell in jobs.values())
            alone = found[stage]
            if alone is not None and counted:  # a job's time is measured with all its steps
                found[stage] = alone * evaluations(stage, jobs) / counted
        finals = {cell.key: cell for cell in self._unfinished()}
        found["scores"] = _total(
            self.costs.seconds("scores", c.settings) if self.costs else None for c in finals.values()
        )
        return found

    def to_json(self, price_per_hour: float | None = None) -> JsonObject:
        """The plan as JSON values. Times are of what is left, in seconds, None where not measured; sizes are in bytes.

        Scores run on threads beside the rest, so they only count where they take longer than all of it.
        """
        with one_moment():
            return self._to_json(price_per_hour)

    def _to_json(self, price_per_hour: float | None) -> JsonObject:
        seconds, disk = self.seconds(), self._disk()
        device = {stage: seconds[stage] for stage in stages()}
        total = _total(device.values())
        if total is not None:
            total = max(total, seconds["scores"] or 0.0)
        memory, how, residency = self._peak_memory()
        return {
            "cells": len(self.cells),
            "stages": {
                stage: {
                    "jobs": len(self.jobs[stage]),
                    "shared": self.naive[stage] - len(self.jobs[stage]),
                    "done": self.done[stage],
                    "seconds": _rounded(seconds[stage]),
                    "bytes": disk[stage],
                }
                for stage in stages()
            },
            "unet_evaluations": {stage: evaluations(stage, self.jobs[stage]) for stage in batch_of()},
            "naive_unet_evaluations": {
                stage: sum(stages()[stage].unet_evaluations(cell.settings) for cell in self.cells if stage in cell.keys)
                for stage in batch_of()
            },
            "minimum": self.minimum(),
            "seconds": _rounded(total),
            "seconds_known": _rounded(sum(value for value in device.values() if value is not None)),
            "not_measured": [stage for stage, value in device.items() if value is None],
            "scores": {"seconds": _rounded(seconds["scores"]), "bytes": disk["scores"]},
            "bytes": sum(disk.values()),
            "peak_memory": {"bytes": memory, "how": how, "residency": residency},
            "price_per_hour": price_per_hour,
            "price": None if price_per_hour is None or total is None else round(total / 3600 * price_per_hour, 4),
            "strategy": self.spec.strategy,
            "budget": self.spec.budget,
            "warnings": self.warnings,
        }

    def _disk(self) -> dict[str, int]:
        """{stage (also "scores": the run's own copies of the finished pictures): bytes that will be written}."""
        if self.costs is None:
            return dict.fromkeys([*stages(), "scores"], 0)
        costs = self.costs
        disk = {s: int(sum(costs.bytes(s, cell.settings) for cell in jobs.values())) for s, jobs in self.left.items()}
        return disk | {"scores": int(sum(costs.bytes("scores", c.settings) for c in self._unfinished()))}

    def _unfinished(self) -> list[Cell]:
        """The cells whose picture is not in the store."""
        missing = {key for jobs in self.left.values() for key in jobs}
        return [cell for cell in self.cells if cell.key in missing]

    def _peak_memory(self) -> tuple[int | None, str, str | None]:
        """(bytes, how known, which networks stay on the device) of the job that needs most memory; "estimated" where one of
        them is."""
        batch = max(self.batch.values())
        sizes = {_room(c.settings): c.settings for jobs in self.left.values() for c in jobs.values()}
        found = [self.costs.peak_memory(settings, batch) for settings in sizes.values()] if self.costs else []
        known = [size for size, _ in found if size is not None]
        if len(known) < len(found) or not found:
            return None, "estimated" if found else "nothing is left to run", None
        how = "estimated" if any(how == "estimated" for _, how in found) else "measured"
        return max(known), how, residency_name(largest(sizes.values()), batch)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _total(parts: Iterable[float | None]) -> float | None:
    """The sum, None if one of them is."""
    values = list(parts)
    known = [value for value in values if value is not None]
    return float(sum(known)) if len(known) == len(values) else None


def evaluations(name: str, jobs: Mapping[str, Cell]) -> int:
    """UNet evaluations of jobs, where those that differ in guidance alone share their first one."""
    stage = stage_named(name, DenoisingStage)
    steps = [stage.unet_evaluations(cell.settings) for cell in jobs.values()]
    first_steps = [stage.first_step_key(cell.settings, _taken(name, cell)) for cell in jobs.values()]
    guided = [first for first in first_steps if first is not None]
    return sum(steps) - (len(guided) - len(set(guided)))


def _taken(stage: str, cell: Cell) -> tuple[str, ...]:
    """The keys of the results that a stage of a cell takes."""
    return tuple(cell.keys[name] for name in inputs(cell.settings)[stage])


def _room(s: Settings) -> tuple[object, ...]:
    """What the memory depends on."""
    return tuple(
        (name, at, *(getattr(s, each) for each in stages()[name].networks)) for name, (at, _) in sizes(s).items()
    )


def plan(
    spec: AnySpec,
    store: Store | None = None,
    *,
    batch: Mapping[str, int] | None = None,
    costs: Costs | None = None,
) -> Plan:
    """Expand and check a spec, count the jobs of each stage, name dead and aliased axis values. Runs nothing.

    Args:
        batch: pictures in a UNet batch of base and refine; what the spec says if it is left out, 1 each for "auto".
        costs: what jobs cost; as measured in $WORKBENCH_HOME if it is left out.

    Raises `SpecError`, `SettingsError`, `PresetNotFound` before any weights file is read, then `MissingWeights`.
    """
    with one_moment():
        return _plan(spec, store, batch, costs)


def _plan(spec: AnySpec, store: Store | None, batch: Mapping[str, int] | None, costs: Costs | None) -> Plan:
    spec = make_spec(spec)
    grid = write_out(spec)
    settings = grid.cells()
    if batch is None and isinstance(spec.batch_size, int):
        batch = batch_of(spec.batch_size)
    keys_of = ContentKeys()
    cells = [Cell(i, s, keys_of(s, batch)) for i, s in enumerate(settings)]
    jobs = jobs_of_cells(cells)
    store = store if store is not None else bench().store
    there = {key for keys in jobs.values() for key in keys if key in store}
    done = {stage: len(keys.keys() & there) for stage, keys in jobs.items()}
    resolved: ResolvedSpec = {
        "base": grid.base.model_dump(), "prompts": grid.prompts, "seeds": grid.seeds, "axes": grid.axes,
        "preset": grid.preset, "strategy": spec.strategy, "budget": spec.budget,
    }  # fmt: skip
    if isinstance(spec.batch_size, int):
        resolved["batch_size"] = spec.batch_size
    left = _left(cells, there)
    if grid.upscaler != "none":  # it runs behind the cells, on winners
        stage_keys(grid.base.replace(upscaler=grid.upscaler), batch)
    return Plan(
        spec=spec,
        resolved=resolved,
        cells=cells,
        warnings=[*_aliases(cells, grid), *_notes(cells, grid)],
        done=done,
        jobs=jobs,
        left=left,
        upscaler=grid.upscaler,
        costs=costs or Costs.at_home(),
        batch=batch or batch_of(),
    )


def jobs_of_cells(cells: list[Cell]) -> Jobs:
    """All jobs of cells, each once."""
    jobs: Jobs = {stage: {} for stage in stages()}
    for cell in cells:
        for stage, key in cell.keys.items():
            jobs[stage].setdefault(key, cell)
    return jobs


def _left(cells: list[Cell], there: set[str]) -> Jobs:
    """The jobs whose result a cell needs and the store does not have. A result in the store needs no inputs."""
    left: Jobs = {stage: {} for stage in stages()}
    for cell in cells:
        taken, needed = inputs(cell.settings), {next(reversed(cell.keys))}
        for stage in reversed(cell.keys):
            if stage in needed and cell.keys[stage] not in there:
                left[stage].setdefault(cell.keys[stage], cell)
                needed.update(taken[stage])
    return left


def _aliases(cells: list[Cell], grid: WrittenSpec) -> list[str]:
    """Sentences on values of an axis that give the very same picture, whatever the other axes say."""
    found = []
    keys = {cell.index: cell.key for cell in cells}
    for axis, values, _ in same_values(keys, len(grid.prompts) * len(grid.seeds), grid.axes):
        said, why = listed(values), _why(axis, cells[0], None if "refine_steps" in grid.axes else values)
        if len(values) == len(grid.axes[axis]):
            found.append(f"axis {axis} is dead: all its values ({said}) give the same picture{why}.")
        else:
            found.append(f"{axis} {said} give the same picture{why}; only one is computed.")
    for group in same_prompts(keys, len(grid.prompts), len(grid.seeds), grid.axes):
        said = listed([n + 1 for n in group])
        found.append(f"prompts {said} give the same pictures, since they read alike: computed once, they count once.")
    return found


def _notes(cells: list[Cell], grid: WrittenSpec) -> list[str]:
    """Sentences on what of the settings is cut or ignored, each once.

    A setting that has no effect in some cells only, like those of a stage that is an axis itself, is named if it is swept,
    with their number. One that is swept and acts in none is a dead axis, which `_aliases` names.
    """
    found: dict[str, None] = {}
    idle = [idle_settings(cell.settings) for cell in cells]
    cells_idle = Counter(name for each in idle for name in each)
    varied = set(swept(grid.axes))
    named = {name for name, count in cells_idle.items() if count == len(cells) and name not in varied}
    for name in (name for name, count in cells_idle.items() if count < len(cells) and name in varied):
        why = next(each[name] for each in idle if name in each)
        found[f"{name} has no effect in {cells_idle[name]} of {len(cells)} cells: {why}."] = None
    for cell, each in zip(cells, idle, strict=True):
        number = f"prompt {grid.prompts.index(cell.settings.prompt) + 1}: " if len(grid.prompts) > 1 else ""
        told = notes(cell.settings, {name: why for name, why in each.items() if name in named})
        found |= dict.fromkeys(f"{number}{note}." for note in told)
    return list(found)


def _why(name: str, cell: Cell, same: list[AxisValue] | None = None) -> str:
    s = cell.settings
    acts_in = {knob_of(each).stage for each in name.split(JOIN)}
    owners = [stage for stage in stages() if stage in acts_in]
    if same and (said := stages()[owners[0]].why_equal(name, same[0], s)):
        return said
    idle = [stage for stage in owners if stage not in s.stages]
    return f" (the {idle[0]} stage does not run)" if len(idle) == len(owners) else ""
