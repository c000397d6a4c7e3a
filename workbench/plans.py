"""What a sweep will do: a spec becomes cells, cells become stage jobs with equal work counted once. Runs nothing."""

from __future__ import annotations

import itertools
import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from .pipeline import bench
from .presets import load_preset
from .settings import STAGES, Settings, SettingsError, UsageError, check_name, expand_cfg, knobs
from .stages import stage_keys, unet_evaluations
from .store import Store


class SpecError(UsageError):
    """A sweep spec that cannot be run as it is."""


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
            axes.pop(name, None)
            fixed.pop(name, None)
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


def plan(spec: Spec | dict[str, Any] | str | Path, store: Store | None = None) -> Plan:
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
