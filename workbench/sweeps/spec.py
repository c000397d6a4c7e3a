"""What a sweep may ask for: a spec from TOML or Python, written out and checked in milliseconds. Loads no model."""

from __future__ import annotations

import itertools
import json
import math
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workbench.errors import SettingsError, SpecError
from workbench.files import hash_json, read_text
from workbench.presets import load_preset
from workbench.runs import JOIN, AxisValue, SettingValues
from workbench.settings import (
    NUMBER,
    Settings,
    Value,
    check_name,
    check_text,
    check_value,
    expand_cfg,
    item_of,
    knob_of,
    knobs,
    short_name,
    shorthands,
    stages,
)

MAX_CELLS = 100_000


Values = list[Any] | str
"""Of an axis as they are asked for: a list, whose items are checked as the setting's own, or a range "0.2:0.5:0.05"."""


class Spec(BaseModel):
    """A sweep: a base preset, what varies, and how it is run.

    TOML: `preset = "embedded"` (or `base`), `prompts = [...]` (or `prompts_file = "prompts.txt"`), `seeds = [...]` (or how
    many: the preset's own, the one after it, ...), `[axes]` setting = [values], `[[zipped]]` settings that vary together,
    `[fixed]` setting = value. Prompts and seeds default to the preset's own. The values of a number may be a range
    `"0.2:0.5:0.05"` (both ends count), also inside a list. `cfg` may be an axis and sets base_cfg and refine_cfg.

    Attributes:
        strategy: "grid" makes every cell; "random", "race" and "pareto" choose which.
        budget: the most pictures a search may make; None: no limit. Not for a grid.
        batch_size: pictures in one UNet batch, 1 to 64, or "auto". It changes the last bits of a picture.
        executor: "local" is this process, "ray" every GPU of a Ray cluster; the pictures are the same.
        upscale_winners: the upscaler runs after the sweep, on that many of the best settings only; 0: in every cell.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str = "sweep"
    preset: str = "recommended"
    prompts: list[str] | None = None
    seeds: list[int] | int | None = None
    axes: dict[str, Values] = {}
    zipped: list[dict[str, Values]] = []
    fixed: SettingValues = {}
    strategy: Literal["grid", "random", "race", "pareto"] = "grid"
    budget: Annotated[int, Field(ge=1)] | None = None
    batch_size: Annotated[int, Field(ge=1, le=64)] | Literal["auto"] = "auto"
    executor: Literal["local", "ray"] = "local"
    upscale_winners: Annotated[int, Field(ge=0)] = 0

    def with_values(self, changes: SettingValues) -> Spec:
        """This spec with settings fixed (a value), swept (a list or a range), or with other `preset`, `prompts`, `seeds`,
        `budget` and so on."""
        own, axes, fixed = self.model_dump(), dict(self.axes), dict(self.fixed)
        for name, value in changes.items():
            if name in NAMED:
                own[name] = value
                continue
            if name == "base":
                own["preset"] = value
                continue
            check_name(name)
            axes.pop(name, None)
            fixed.pop(name, None)
            (axes if isinstance(value, list) or is_range(name, value) else fixed)[name] = value
        return make_spec({**own, "axes": axes, "fixed": fixed})


NAMED = tuple(name for name in Spec.model_fields if name not in ("axes", "zipped", "fixed"))
ALLOWED = {
    "name": "a text",
    "preset": "a preset's name or file",
    "prompts": "a list of texts",
    "seeds": "a list of whole numbers, or how many",
    "axes": "a table of lists, or of ranges such as '0.2:0.5:0.05'",
    "zipped": "tables of equally long lists, such as [[zipped]] width = [768, 1024], height = [768, 1024]",
    "fixed": "a table of settings",
    "strategy": "grid, random, race or pareto",
    "budget": "a whole number from 1",
    "batch_size": "a whole number from 1 to 64, or 'auto'",
    "executor": "local or ray",
    "upscale_winners": "a whole number from 0",
}


AnySpec = Spec | dict[str, Any] | str | Path
"""What `make_spec` takes."""


def make_spec(spec: AnySpec) -> Spec:
    """A spec from the path of a TOML file (or a .json one), or a dict. Raises `SpecError` in one sentence."""
    if isinstance(spec, Spec):
        return spec
    where, folder = "the spec", Path()
    if not isinstance(spec, dict):
        where, path = str(spec), Path(spec)
        folder = path.parent
        try:
            text = read_text(path)
            spec = {"name": path.stem, **(json.loads(text) if path.suffix == ".json" else tomllib.loads(text))}
        except FileNotFoundError:
            raise SpecError(f"there is no spec {path}; experiments/demo.toml is one to start from.") from None
        except (OSError, ValueError, TypeError, RecursionError) as error:  # TypeError: JSON, but no object
            raise SpecError(f"{path} is not a {'JSON' if path.suffix == '.json' else 'TOML'} spec ({error}).") from None
    spec = dict(spec)
    if "base" in spec:
        base = spec.pop("base")
        if spec.setdefault("preset", base) != base:
            raise SpecError(f"{where}: base = {base!r} and preset = {spec['preset']!r} name two presets; keep one.")
    if "prompts_file" in spec:
        if spec.get("prompts") is not None:
            raise SpecError(f"{where}: prompts and prompts_file both list the prompts; keep one.")
        spec["prompts"] = _read_prompts(folder, spec.pop("prompts_file"))
    try:
        return Spec(**spec)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            allowed = ", ".join([*Spec.model_fields, "base", "prompts_file"])
            raise SpecError(
                f"{where}: unknown entry '{name}'; allowed are {allowed}; settings go under [axes] or [fixed]."
            ) from None
        value = spec[name]
        if name == "axes" and isinstance(value, dict):
            bad, value = next((n, v) for n, v in value.items() if not isinstance(v, list | str))
            raise SpecError(
                f"{where}: axes.{bad} = {value!r} is no list; write [{value!r}], or put it under [fixed]."
            ) from None
        raise SpecError(f"{where}: {name} = {value!r} is not allowed; it must be {ALLOWED[name]}.") from None


def _read_prompts(folder: Path, name: object) -> list[str]:
    """The prompts of a text file, one a line; blank lines and those that begin with # are left out."""
    if not isinstance(name, str):
        raise SpecError(f"prompts_file = {name!r} is no path; name a text file with one prompt a line.")
    path = folder / name
    try:
        lines = [line.strip() for line in read_text(path).splitlines()]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecError(
            f"prompts_file {path} cannot be read ({reason}); give a text file, one prompt a line."
        ) from None
    prompts = [line for line in lines if line and not line.startswith("#")]
    if not prompts:
        raise SpecError(f"prompts_file {path} holds no prompt; write one a line.")
    return prompts


def is_range(name: str, value: object) -> TypeGuard[str]:
    """Whether a value is a range, `start:stop:step`, of a setting that is a number."""
    return isinstance(value, str) and ":" in value and knob_of(name).kind in ("int", "float")


def parse_range(name: str, text: str) -> tuple[Decimal, Decimal, int]:
    """(start, step, count) of "0.2:0.5:0.05", both ends included. Decimal: 0.2 + 2 x 0.05 is 0.3, not 0.30000000000000004.

    Raises `SpecError` where it is no range, runs backwards, or does not meet its end.
    """
    knob, parts = knob_of(name), text.split(":")
    if knob.kind == "int" and len(parts) == 2:
        parts.append("1")
    try:
        if not all(NUMBER.fullmatch(part.strip()) for part in parts):
            raise ValueError("Decimal reads 0_.1 and digits of other scripts, too")
        start, stop, step = (Decimal(part.strip()) for part in parts)
        # within Decimal's 28 digits everything below is exact; 1E+999999 would take minutes as an int
        sane = all(n.is_finite() and abs(n) < 10**12 for n in (start, stop)) and Decimal("1e-12") <= step < 10**12
    except (InvalidOperation, ValueError):
        sane, start, stop, step = False, Decimal(0), Decimal(0), Decimal(0)
    if not sane or stop < start:
        short = "; the step may be left out" if knob.kind == "int" else ""
        raise SpecError(
            f"{name} = '{text}' is no range; write start:stop:step with start below stop and step above 0{short}."
        )
    steps, rest = divmod(stop - start, step)
    count = int(steps) + 1
    if rest:
        last = start + step * (count - 1)
        raise SpecError(
            f"{name} = '{text}' does not meet its end: it goes to {last}; write {start}:{last}:{step}, or another step."
        )
    if knob.kind == "int" and any(number != int(number) for number in (start, step)):
        raise SpecError(f"{name} = '{text}' is no range of whole numbers, and {name} is one.")
    return start, step, count


def _count(name: str, values: Values) -> int:
    """How many values an axis has, counted without writing them out."""
    parts = values if isinstance(values, list) else [values]
    return sum(parse_range(name, part)[2] if is_range(name, part) else 1 for part in parts)


def _written_out(name: str, values: Values) -> Iterator[Value]:
    number = int if knob_of(name).kind == "int" else float
    for part in values if isinstance(values, list) else [values]:
        if is_range(name, part):
            start, step, count = parse_range(name, part)
            yield from (number(start + step * i) for i in range(count))
        else:
            yield part


@dataclass(frozen=True)
class WrittenSpec:
    """A spec written out: every value of every axis, checked."""

    preset: str
    base: Settings
    prompts: list[str]
    seeds: list[int]
    axes: dict[str, list[AxisValue]]  # "width+height": [[768, 768], ...] for settings that vary together
    upscaler: str = "none"  # what the winners are enlarged by after the sweep

    def cells(self) -> list[Settings]:
        """The settings of every cell, in order. Raises `SettingsError` for a combination that cannot run."""
        found = []
        for prompt, seed, *values in itertools.product(self.prompts, self.seeds, *self.axes.values()):
            changes: SettingValues = {"prompt": prompt, "seed": seed}
            for name, value in zip(self.axes, values, strict=True):
                changes |= _changes(name, value)
            # an axis may be `cfg` where the preset has its own two: what the axis says replaces them
            found.append(self.base.replace(**expand_cfg(changes)))
        return found


def _changes(name: str, value: AxisValue) -> SettingValues:
    return dict(zip(name.split(JOIN), value, strict=True)) if isinstance(value, list) else {name: value}


def write_out(spec: Spec) -> WrittenSpec:
    """Every value of a spec, after every check that needs no weights.

    Sizes are counted before anything is written out: 10^9 cells are refused in milliseconds. Raises `SpecError`,
    `SettingsError` and `PresetNotFound` in one sentence.
    """
    _check_names(spec)
    preset = load_preset(spec.preset)
    try:
        base = preset.settings.replace(**spec.fixed)
    except SettingsError as error:
        raise SpecError(f"[fixed]: {error}") from None
    if spec.budget is not None and spec.strategy == "grid":
        raise SpecError(
            f"budget = {spec.budget} does not go with strategy 'grid', which makes every cell; leave it out, or choose "
            "random, race or pareto."
        )
    if spec.upscale_winners and base.upscaler == "none":
        raise SpecError("upscale_winners has no upscaler; name one under [fixed], upscaler = 'realesrgan-x4plus'.")
    if spec.upscale_winners and "upscaler" in {name for group in (spec.axes, *spec.zipped) for name in group}:
        raise SpecError("upscaler is an axis, so it runs in every cell; leave upscale_winners out.")
    prompts = spec.prompts if spec.prompts is not None else [base.prompt]
    seeds = spec.seeds if spec.seeds is not None else [base.seed]
    for name, text in [("name", spec.name), *(("prompts", prompt) for prompt in prompts)]:
        check_text(name, text)
    drawn = _drawn(spec.name, base, prompts)
    groups = _groups(spec)
    _check_sizes({"prompts": len(prompts), "seeds": seeds if isinstance(seeds, int) else len(seeds)}, groups)
    if isinstance(seeds, int):
        first = next(drawn) if base.seed == -1 else base.seed
        seeds = list(range(first, first + seeds))
    seeds = [next(drawn) if seed == -1 else base.replace(seed=seed).seed for seed in seeds]
    _check_twice("prompts", prompts)
    _check_twice("seeds", seeds)
    if any(not prompt.strip() for prompt in prompts):
        raise SpecError("prompts has an empty prompt; say what the picture shows, or leave prompts out.")
    winners = base.upscaler if spec.upscale_winners else "none"
    base = base.replace(upscaler="none") if spec.upscale_winners else base
    axes = {JOIN.join(group): _values(group) for group in groups}
    return WrittenSpec(preset.name, base, prompts, seeds, _ordered(axes), winners)


def _drawn(name: str, base: Settings, prompts: list[str]) -> Iterator[int]:
    """The seeds that stand for -1, one after the other; each cell of one prompt has the same.

    They are drawn from the spec itself, so that the same spec is the same run, and goes on. Axes and their values do not
    count, so that a wider sweep has the narrower one's seeds; another name, other prompts or other settings draw others.
    """
    known = {
        setting: value for setting, value in told(base).items() if setting != "prompt_syntax"
    }  # as before there was one
    drawn_from = {"name": name, "base": known, "prompts": prompts}
    return (int(hash_json({**drawn_from, "which": n})[:8], 16) for n in itertools.count())


def told(base: Settings) -> SettingValues:
    """The settings that are part of a run's name: those of a later stage only where it is on, and later settings of the
    others only where they are not what they were before.

    A run from before that stage or setting was there has the name that it had.
    """
    off = {name for name, stage in stages().items() if not stage.named_when_off and not stage.active(base)}
    known = knobs()
    return {
        name: value
        for name, value in base.model_dump().items()
        if known[name].stage not in off and (known[name].before is None or value != known[name].before)
    }


def _check_names(spec: Spec) -> None:
    """Refuse unknown settings, and one that is given in two places."""
    told: dict[str, str] = {}
    places = [
        *((name, "an axis") for name in spec.axes),
        *((name, "zipped") for group in spec.zipped for name in group),
        *((name, "fixed") for name in spec.fixed),
    ]
    for name, where in places:
        check_name(name)
        if item_of(name) and JOIN in name:
            raise SpecError(f"'{name}' cannot be swept: '{JOIN}' joins settings that vary together; rename the file.")
        if name in ("prompt", "seed"):
            if where != "fixed":
                raise SpecError(f"{name} is not an axis; list its values under {name}s = [...].")
            if isinstance(getattr(spec, f"{name}s"), list):
                raise SpecError(f"{name} is fixed, and {name}s lists others; keep one.")
        if name in told:
            places_said = f"both {told[name]} and {where}" if told[name] != where else f"{where} twice"
            raise SpecError(f"{name} is {places_said}; keep one.")
        told[name] = where
    for short, names in shorthands().items():
        beside = [name for name in names if name in told]
        if short in told and beside:
            raise SpecError(
                f"{short} sets {' and '.join(names)} together, so {beside[0]} cannot stand beside it; keep one."
            )


def _groups(spec: Spec) -> list[dict[str, Values]]:
    """The axes, one a group; settings that vary together are one group, with equally many values each."""
    for group in spec.zipped:
        counts = {name: _count(name, values) for name, values in group.items()}
        if len(set(counts.values())) > 1:
            said = ", ".join(f"{name} has {count}" for name, count in counts.items())
            raise SpecError(f"[[zipped]] settings vary together, so each needs equally many values, but {said}.")
    return [*({name: values} for name, values in spec.axes.items()), *(dict(group) for group in spec.zipped if group)]


def _check_sizes(sizes: dict[str, int], groups: list[dict[str, Values]]) -> None:
    for group in groups:
        name, values = next(iter(group.items()))
        sizes[JOIN.join(group) if len(group) > 1 else f"axes.{name}"] = _count(name, values)
    for name, size in sizes.items():
        if size < 1:
            raise SpecError(f"{name} is empty; give at least one value, or leave it out.")
    cells = math.prod(sizes.values())
    if cells > MAX_CELLS:
        longest = sorted(((size, name.removeprefix("axes.")) for name, size in sizes.items() if size > 1), reverse=True)
        said = " x ".join([*(f"{size:,} {name}" for size, name in longest[:3]), *["..."] * (len(longest) > 3)])
        raise SpecError(
            f"this sweep has {cells:,} cells ({said}), and at most {MAX_CELLS:,} can be planned; give those fewer "
            "values, or sweep them one after the other."
        )


def _check_twice(name: str, values: Sequence[object]) -> None:
    if len({json.dumps(value) for value in values}) < len(values):
        raise SpecError(f"{name} = {_short(values)} names a value twice; name each once.")


def _short(values: Sequence[object]) -> str:
    return str(values) if len(values) <= 12 else f"{str(values[:12])[:-1]}, ...]"


def _values(group: dict[str, Values]) -> list[AxisValue]:
    """The values of one axis in the settings' own types (5 for a CFG is 5.0); a list of lists where several vary."""
    for name, values in group.items():
        if isinstance(values, str) and not is_range(name, values):
            raise SpecError(f"axes.{name} = {values!r} is not a list of values; write [{values!r}].")
    rows = []
    for row in zip(*(_written_out(name, values) for name, values in group.items()), strict=True):
        # alone, every value must be allowed; whether it goes with the other axes' is seen cell by cell
        rows.append([check_value(name, value) for name, value in zip(group, row, strict=True)])
    values = rows if len(group) > 1 else [row[0] for row in rows]
    _check_twice(f"axes.{JOIN.join(group)}", values)
    for name, column in zip(group, zip(*rows, strict=True), strict=True):
        if not knob_of(name).files:
            continue
        _check_short_names(name, [value for value in column if isinstance(value, str)])
    return values


def _check_short_names(name: str, values: Sequence[str]) -> None:
    """Refuse two files of one name: walls, tables and plots show that alone."""
    by_name: dict[str, str] = {}
    for value in values:
        other = by_name.setdefault(short_name(value), value)
        if other != value:
            raise SpecError(
                f"axes.{name} has two files called '{short_name(value)}', {other} and {value}, which nobody could tell apart "
                "in tables; rename one of them."
            )


def _ordered(axes: dict[str, list[AxisValue]]) -> dict[str, list[AxisValue]]:
    """Axes with the earliest stage first, so that neighbouring cells share the most work."""
    place = {stage: n for n, stage in enumerate(stages())}
    return dict(sorted(axes.items(), key=lambda axis: min(place[knob_of(n).stage] for n in axis[0].split(JOIN))))
