"""Sweeps: a spec becomes cells, cells become stage jobs with equal work shared, jobs become durable records.

Cells are ordered with the earliest stage outermost; every job has a content key, so a sweep that was interrupted, or
one that overlaps an older one, only does what is not in the store.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import sys
import time
import tomllib
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from tqdm.auto import tqdm

from . import report, runs, scores
from .files import DiskFull, hash_json, home, write_atomic, write_json, writing
from .images import pixels_sha256, png_bytes, save_picture
from .pipeline import Bench, bench
from .presets import load_preset
from .runs import Run
from .settings import (
    STAGES,
    Cancelled,
    CorruptWeights,
    MissingWeights,
    Settings,
    SettingsError,
    UsageError,
    WorkbenchError,
    check_name,
    expand_cfg,
    knobs,
)
from .stages import stage_keys, unet_evaluations
from .store import Artefact

ABORTS = (DiskFull, MissingWeights, CorruptWeights, Cancelled, UsageError)  # not one cell's fault: the sweep stops


class SpecError(UsageError):
    """A sweep spec that cannot be run as it is."""


class RunBusy(WorkbenchError):
    """Another process is working on this run."""


class Spec(BaseModel):
    """A sweep: a base preset, and what varies.

    TOML: `preset = "embedded"`, `prompts = [...]`, `seeds = [...]`, `[axes]` setting = [values], `[fixed]` setting =
    value. Prompts and seeds default to the preset's own. `cfg` may be an axis and sets base_cfg and refine_cfg.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str = "sweep"
    preset: str = "recommended"
    prompts: list[str] | None = None
    seeds: list[int] | None = None
    axes: dict[str, list[Any]] = {}
    fixed: dict[str, Any] = {}

    def with_values(self, changes: dict[str, Any]) -> Spec:
        """This spec with settings fixed (a value), swept (a list), or with other `preset`, `prompts`, `seeds`, `name`."""
        own, axes, fixed = self.model_dump(), dict(self.axes), dict(self.fixed)
        for name, value in changes.items():
            if name in ("preset", "prompts", "seeds", "name"):
                own[name] = value
                continue
            check_name(name)
            axes.pop(name, None), fixed.pop(name, None)
            (axes if isinstance(value, list) else fixed)[name] = value
        return make_spec({**own, "axes": axes, "fixed": fixed})


def make_spec(spec: Spec | dict[str, Any] | str | Path) -> Spec:
    """A spec from a TOML file's path or a dict. Raises `SpecError` in one sentence."""
    if isinstance(spec, Spec):
        return spec
    where = "the spec"
    if not isinstance(spec, dict):
        where, path = str(spec), Path(spec)
        try:
            spec = {"name": path.stem, **tomllib.loads(path.read_text(encoding="utf-8"))}
        except FileNotFoundError:
            raise SpecError(f"there is no spec {path}; experiments/demo.toml is one to start from.") from None
        except (OSError, ValueError) as error:
            raise SpecError(f"{path} is not a TOML spec ({error}).") from None
    try:
        return Spec(**spec)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            allowed = ", ".join(Spec.model_fields)
            raise SpecError(
                f"{where}: unknown entry '{name}'; allowed are {allowed}; settings go under [axes] or [fixed]."
            ) from None
        raise SpecError(f"{where}: {name}: {first['msg'][0].lower() + first['msg'][1:]}.") from None


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
    """What a sweep will do, known before anything runs."""

    spec: Spec
    resolved: dict[str, Any]  # the spec with preset, prompts and seeds written out: its hash names the run
    cells: list[Cell]
    warnings: list[str]
    done: dict[str, int]
    jobs: dict[str, dict[str, Cell]] = field(default_factory=dict)  # {stage: {key: a cell that needs it}}

    def to_json(self) -> dict[str, Any]:
        return {
            "cells": len(self.cells),
            "stages": {s: {"jobs": len(self.jobs[s]), "done": self.done[s]} for s in STAGES},
            "unet_evaluations": {
                s: sum(unet_evaluations(s, cell.settings) for cell in self.jobs[s].values()) for s in ("base", "refine")
            },
            "warnings": self.warnings,
        }


def plan(spec: Spec | dict[str, Any] | str | Path, store: Any = None) -> Plan:
    """Expand and check a spec, count the jobs of each stage, name dead and aliased axis values. Runs nothing.

    Raises `SpecError`, `SettingsError`, `PresetNotFound`, `MissingWeights`.
    """
    spec = make_spec(spec)
    preset = load_preset(spec.preset)
    try:
        base = preset.settings.replace(**spec.fixed)
    except SettingsError as error:
        raise SpecError(f"[fixed]: {error}") from None
    prompts = spec.prompts if spec.prompts is not None else [base.prompt]
    seeds = spec.seeds if spec.seeds is not None else [base.seed]
    axes = _ordered(_checked(spec, prompts, seeds, base))
    seeds = [base.replace(seed=seed).resolved().seed for seed in seeds]  # a drawn seed is shared by all cells
    cells = []
    for prompt, seed, *values in itertools.product(prompts, seeds, *axes.values()):
        # an axis may be `cfg` where the preset has its own two: what the axis says replaces them
        settings = base.replace(**{"prompt": prompt, "seed": seed, **expand_cfg(dict(zip(axes, values, strict=True)))})
        cells.append(Cell(len(cells), settings, stage_keys(settings)))
    jobs: dict[str, dict[str, Cell]] = {stage: {} for stage in STAGES}
    for cell in cells:
        for stage, key in cell.keys.items():
            jobs[stage].setdefault(key, cell)
    store = store if store is not None else bench().store
    done = {stage: sum(key in store for key in keys) for stage, keys in jobs.items()}
    resolved = {"base": base.model_dump(), "prompts": prompts, "seeds": seeds, "axes": axes, "preset": preset.name}
    return Plan(spec, resolved, cells, _aliases(cells, axes, len(prompts) * len(seeds)), done, jobs)


def _checked(spec: Spec, prompts: list[str], seeds: list[int], base: Settings) -> dict[str, list[Any]]:
    """The axes, every value validated on its own so that the message names it."""
    for what, values in (("prompts", prompts), ("seeds", seeds), *((f"axes.{n}", v) for n, v in spec.axes.items())):
        if not values:
            raise SpecError(f"{what} is empty; give at least one value, or leave it out.")
        if len({json.dumps(v) for v in values}) < len(values):
            raise SpecError(f"{what} = {values} names a value twice; name each once.")
    if any(not prompt.strip() for prompt in prompts):
        raise SpecError("prompts has an empty prompt; say what the picture shows, or leave prompts out.")
    for name, values in spec.axes.items():
        check_name(name)
        if name in ("prompt", "seed"):
            raise SpecError(f"{name} is not an axis; list its values under {name}s = [...].")
        if name in spec.fixed:
            raise SpecError(f"{name} is both an axis and fixed; keep one.")
        for value in values:
            base.replace(**{name: value})
    if "cfg" in spec.axes and {"base_cfg", "refine_cfg"} & set(spec.axes):
        raise SpecError("cfg sets base_cfg and refine_cfg together, so neither can be an axis beside it.")
    for seed in seeds:
        base.replace(seed=seed)
    return {
        n: [getattr(base.replace(**{n: v}), "base_cfg" if n == "cfg" else n) for v in values]
        for n, values in spec.axes.items()
    }


def _ordered(axes: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Axes with the earliest stage first, so that neighbouring cells share the most work."""
    known = knobs()
    return dict(
        sorted(axes.items(), key=lambda axis: STAGES.index(known["base_cfg" if axis[0] == "cfg" else axis[0]].stage))
    )


def _aliases(cells: list[Cell], axes: dict[str, list[Any]], trunks: int) -> list[str]:
    """Sentences on axis values that give the very same picture as another value, whatever the other axes say."""
    sizes = [trunks, *(len(values) for values in axes.values())]
    found = []
    for position, (name, values) in enumerate(axes.items(), start=1):
        inner = 1
        for size in sizes[position + 1 :]:
            inner *= size
        columns: dict[tuple[str, ...], list[Any]] = {}
        for i, value in enumerate(values):
            column = tuple(c.key for c in cells if c.index // inner % len(values) == i)
            columns.setdefault(column, []).append(value)
        if len(columns) == 1 and len(values) > 1:
            found.append(
                f"axis {name} is dead: all its values ({_listed(values)}) give the same picture{_why(name, cells[0])}."
            )
            continue
        found += [
            f"{name} {_listed(same)} give the same picture{_why(name, cells[0], same)}; only one is computed."
            for same in columns.values()
            if len(same) > 1
        ]
    return found


def _listed(values: list[Any]) -> str:
    texts = [f"{v:g}" if isinstance(v, float) else str(v) for v in values]
    return f"{', '.join(texts[:-1])} and {texts[-1]}" if len(texts) > 1 else texts[0]


def _why(name: str, cell: Cell, same: list[Any] | None = None) -> str:
    s = cell.settings
    if name == "strength" and same:
        return f" (each runs {s.replace(strength=same[0]).refine_evaluations} of {s.refine_steps} refine steps)"
    stage = knobs()["refine_cfg" if name == "cfg" else name].stage
    return "" if stage in s.stages else f" (the {stage} stage does not run)"


class Progress:
    """One bar for a whole sweep, with an ETA from the measured seconds of each stage, this run's or earlier ones'."""

    def __init__(self, jobs: dict[str, float], total: int, rates_file: Path, *, quiet: bool = False) -> None:
        """`jobs`: {stage: work left in `work_units`}; `total`: number of jobs; rates are kept in `rates_file`."""
        self._left = dict(jobs)
        self._file = rates_file
        self._rates: dict[str, float] = json.loads(rates_file.read_text()) if rates_file.exists() else {}
        self._spent: dict[str, tuple[float, float]] = {}
        # a log file keeps every redrawn bar as a line, so it gets fewer
        self._every = 0.1 if sys.stderr.isatty() else 1.0
        self._drawn = 0.0
        layout = "{desc} {percentage:3.0f}%|{bar:24}| {n_fmt}/{total_fmt} jobs [{elapsed}{postfix}]"
        self.bar = tqdm(total=total, disable=quiet, bar_format=layout, mininterval=self._every)

    def step(self, stage: str, done: int, total: int) -> None:
        if time.monotonic() - self._drawn >= self._every:
            self._drawn = time.monotonic()
            self.bar.set_description_str(f"{stage:<7}", refresh=False)
            self.bar.set_postfix_str(f"step {done}/{total}, ETA {self.eta()}")

    def finish(self, stage: str, units: float, seconds: float | None) -> None:
        """A job has ended; `seconds` is None where nothing was measured (it failed, or was made before)."""
        if seconds:
            used, took = self._spent.get(stage, (0.0, 0.0))
            self._spent[stage] = (used + units, took + seconds)
            self._rates[stage] = (took + seconds) / (used + units)
        self._left[stage] = max(0.0, self._left[stage] - units)
        self.bar.update(1)

    def eta(self) -> str:
        """Time left in words; a stage that was never timed on this machine makes it a lower bound."""
        known = sum(units * self._rates[s] for s, units in self._left.items() if s in self._rates)
        unknown = any(units and s not in self._rates for s, units in self._left.items())
        return f"{'at least ' if unknown else ''}{tqdm.format_interval(known)}"

    def close(self) -> None:
        self.bar.close()
        if self._spent:
            write_json(self._file, self._rates)


def work_units(stage: str, s: Settings) -> float:
    """Size of a job in the unit its time grows with."""
    width, height = (s.width, s.height) if stage == "base" or not s.hires else s.hires_size
    return width * height / 1e6 * max(1, unet_evaluations(stage, s))


def sweep(
    spec: Spec | dict[str, Any] | str | Path,
    *,
    on: Bench | None = None,
    retry_failed: bool = False,
    quiet: bool = False,
    check: Callable[[], None] = lambda: None,
) -> Run:
    """Run a sweep to its end, or go on with the one of the same spec that was interrupted.

    `check` is called within every denoising step; raising from it (say `Cancelled`) stops there and keeps all that is
    finished. Raises what `plan` raises, `DiskFull`, `RunBusy`; a cell that fails is a record, not an error.
    """
    on = on or bench()
    planned = plan(spec, on.store)
    run = runs.open_run(
        planned.spec.name,
        {**planned.resolved, "name": planned.spec.name},
        hash_json(planned.resolved),
        len(planned.cells),
    )
    with _holding(run):
        begun = on.counters()
        try:
            _execute(run, planned, on, retry_failed, quiet, check)
        finally:
            ran = on.counters()
            executed = {group: {n: v - begun[group][n] for n, v in now.items()} for group, now in ran.items()}
            write_json(
                run.path / "last_session.json", {**planned.to_json(), "executed": executed, "run": str(run.path)}
            )
        table = run.table()
        write_atomic(run.path / "table.csv", table.to_csv(index=False).encode())
        write_atomic(run.path / "contact_sheet.png", png_bytes(report.sheet(run)))
        if table["sharpness"].notna().any():
            report.heat_map(run, run.path / "heat_map.png")
    return run


def last_session(run: Run) -> dict[str, Any]:
    """The plan of the last call of `sweep` on this run, with what it really executed."""
    return json.loads((run.path / "last_session.json").read_text())


@contextmanager
def _holding(run: Run) -> Iterator[None]:
    with writing(run.path), open(run.path / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunBusy(
                f"another process is working on {run.id}; wait for it, or look on with workbench runs show {run.id}."
            ) from None
        yield


def _execute(run: Run, planned: Plan, on: Bench, retry_failed: bool, quiet: bool, check: Callable[[], None]) -> None:
    records = {record["cell"]: record for record in run.records()}
    todo = [cell for cell in planned.cells if not _finished(run, cell, records.get(cell.index), retry_failed)]
    wanted = _missing_jobs(todo, on)
    left = {stage: sum(work_units(stage, cell.settings) for cell in jobs.values()) for stage, jobs in wanted.items()}
    left["scores"] = len(todo)
    total = sum(map(len, wanted.values())) + len(todo)
    progress = Progress(left, total, home() / "store" / "seconds_per_unit.json", quiet=quiet)
    failed: dict[str, tuple[str, str]] = {}  # key -> (reason, traceback)

    def step(stage: str, done: int, total: int) -> None:
        check()
        progress.step(stage, done, total)

    def ensure(cell: Cell, stage: str) -> Artefact:
        """The artefact of a cell's stage, its inputs made again where the store has lost them."""
        names = list(cell.keys)
        before = names[names.index(stage) - 1] if stage != names[0] else None
        found = on.store.get(cell.keys[stage])
        return found or on.run_stage(
            stage, cell.keys[stage], cell.settings, ensure(cell, before) if before else None, step
        )

    try:
        for stage, jobs in wanted.items():
            for key, cell in jobs.items():
                inputs = [k for s, k in cell.keys.items() if STAGES.index(s) < STAGES.index(stage)]
                bad = next((failed[k] for k in inputs if k in failed), None)
                seconds = None
                if bad is None:
                    try:
                        seconds = ensure(cell, stage).seconds
                    except ABORTS:
                        raise
                    except Exception as error:  # this cell's record says why; the others go on
                        bad = (f"{stage}: {error or type(error).__name__}", traceback.format_exc())
                if bad is not None:
                    failed[key] = bad
                progress.finish(stage, work_units(stage, cell.settings), seconds)
        for done, cell in enumerate(todo, start=1):
            check()
            progress.step("scores", done, len(todo))
            started = time.perf_counter()
            run.append(_record(run, cell, failed, ensure))
            progress.finish("scores", 1, time.perf_counter() - started)
    finally:
        progress.close()


def _missing_jobs(cells: list[Cell], on: Bench) -> dict[str, dict[str, Cell]]:
    """{stage: {key: cell}} of what is not in the store; inputs of what is there are not needed."""
    wanted: dict[str, dict[str, Cell]] = {stage: {} for stage in STAGES}
    for cell in cells:
        for stage, key in reversed(cell.keys.items()):
            if key in on.store:
                break
            wanted[stage].setdefault(key, cell)
    return wanted


def _finished(run: Run, cell: Cell, record: dict[str, Any] | None, retry_failed: bool) -> bool:
    """Whether a cell's record still holds: same content key (a changed model file changes it), picture in place."""
    if record is None or record["key"] != cell.key:
        return False
    if record["status"] == "failed":
        return not retry_failed
    return run.picture(record).exists()


def _record(
    run: Run, cell: Cell, failed: dict[str, tuple[str, str]], ensure: Callable[[Cell, str], Artefact]
) -> dict[str, Any]:
    about = {"cell": cell.index, "key": cell.key, "keys": cell.keys, "settings": cell.settings.model_dump()}
    bad = next((failed[key] for key in cell.keys.values() if key in failed), None)
    if bad:
        return {**about, "status": "failed", "reason": bad[0], "traceback": bad[1]}
    names = list(cell.keys)
    final = ensure(cell, names[-1])
    image = final.image
    restored = cell.settings.restorer != "none"
    unrestored = ensure(cell, names[names.index("faces") - 1]).image if restored else image
    status, measured = scores.cell_scores(image, unrestored)
    picture = f"pictures/{cell.index:04d}.png"
    save_picture(run.path / picture, image, cell.settings, keys=cell.keys)
    status = "done" if status == "ok" else status
    return {
        **about, "status": status, "reason": None, "scores": measured, "picture": picture,
        "pixels_sha256": pixels_sha256(image), "seconds": round(final.seconds, 3),
    }  # fmt: skip
