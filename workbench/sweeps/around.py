"""The next sweep, proposed from a finished one: finer around its winner, on seeds that did not choose it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workbench.analysis import Best, best_setting
from workbench.errors import BadPreset, NothingToPromote, PresetNotFound
from workbench.files import write_atomic
from workbench.presets import load_preset
from workbench.runs import JOIN, AxisValue, Run, SettingValues, label, listed, plain, swept, told
from workbench.settings import MAX_SEED, Knob, Settings, knob_of

from .spec import Spec, make_spec


@dataclass(frozen=True)
class FinerSweep:
    """A proposal. `around`: the winner in words. `axes`: (label, its values in words) of what is swept. `fixed`: the axes of
    the run that are not swept any more, at their values in words."""

    spec: Spec
    around: str
    axes: tuple[tuple[str, str], ...]
    fixed: str

    def toml(self) -> str:
        """As a spec file."""
        spec = self.spec
        lines = [
            f"# finer around {self.around}",
            f"name = {toml_value(spec.name)}",
            f"preset = {toml_value(spec.preset)}",
            f"prompts = {toml_value(spec.prompts)}",
            f"seeds = {toml_value(spec.seeds)}",
            "\n[axes]",
            *_lines(spec.axes),
            *(line for group in spec.zipped for line in ("\n[[zipped]]", *_lines(group))),
            "\n[fixed]",
            *_lines(spec.fixed),
        ]
        return "\n".join(lines) + "\n"

    def write(self, path: Path) -> Path:
        """Write the spec file. Raises `DiskFull`, `CannotWrite`."""
        write_atomic(path, self.toml().encode())
        return path


def finer(run: Run) -> FinerSweep:
    """The next, finer sweep around the winner of a run.

    A number keeps the winner's value and gets those half way to its neighbours in the run, beyond an end of the axis half a
    step outwards; rounded to the setting's own step and within its range. Of a choice, and of settings that vary together,
    those values stay that were not told apart from the winner's, all others being equal. What is left with one value is
    fixed. Prompts are the same, seeds are new ones, as many as there were.

    Raises `NothingToPromote` where the run has no winner, or nothing is left to refine, `MixedScores`.
    """
    best = best_setting(run)
    if isinstance(best, str):
        raise NothingToPromote(
            f"{run.id} has no winner to refine around: {best}; finish the sweep, or sweep other values."
        )
    axes = {axis: _values(axis, values, best) for axis, values in run.axes.items()}
    if all(len(values) < 2 for values in axes.values()):
        raise NothingToPromote(
            f"{run.id} is as fine as its settings go around {told(best.setting) or 'its only one'}; sweep another setting."
        )
    spec, seeds = run.about["spec"], run.about["spec"]["seeds"]
    free = (seed for seed in itertools.chain(range(max(seeds) + 1, MAX_SEED), range(MAX_SEED)) if seed not in seeds)
    swept_now = {axis: values for axis, values in axes.items() if len(values) > 1}
    preset, fixed = _fixed(run, best.setting, swept_now)
    zipped = [_apart(axis, values) for axis, values in swept_now.items() if JOIN in axis]
    made = make_spec(
        {
            "name": f"{str(run.about['name']).removesuffix(' finer')} finer",
            "preset": preset,
            "prompts": spec["prompts"],
            "seeds": list(itertools.islice(free, len(seeds))),
            "axes": {axis: values for axis, values in swept_now.items() if JOIN not in axis},
            "zipped": zipped,
            "fixed": fixed,
        }
    )
    left = {name: best.setting[name] for name in swept([axis for axis in axes if axis not in swept_now])}
    shown = tuple((label(axis), ", ".join(map(plain, values))) for axis, values in swept_now.items())
    return FinerSweep(made, told(best.setting), shown, told(left))


def _values(axis: str, values: list[AxisValue], best: Best) -> list[AxisValue]:
    """The values of an axis in the next sweep."""
    names = swept([axis])
    own = [best.setting[name] for name in names]
    if JOIN not in axis and knob_of(axis).kind in ("int", "float"):
        numbers = sorted(float(value) for value in values if isinstance(value, int | float))
        return _between(numbers, float(str(own[0])), knob_of(axis))
    others = {name: value for name, value in best.setting.items() if name not in names}
    near = [setting for setting, apart in best.apart if not apart and _has(setting, others)]
    kept = [own, *([setting[name] for name in names] for setting in near)]
    return [value for value in values if (value if JOIN in axis else [value]) in kept]


def _has(setting: SettingValues, others: SettingValues) -> bool:
    return all(setting[name] == value for name, value in others.items())


def _between(numbers: list[float], own: float, knob: Knob) -> list[AxisValue]:
    """The winner's number and those half a step to its sides, in order. One value was no axis: it stays."""
    if len(numbers) < 2:
        return [_typed(own, knob)]
    place = numbers.index(own)
    below = numbers[place - 1] if place else own - (numbers[1] - own)
    above = numbers[place + 1] if place + 1 < len(numbers) else own + (own - numbers[-2])
    found = [_rounded((own + below) / 2, knob), own, _rounded((own + above) / 2, knob)]
    taken = {number for number in numbers if number != own}  # they were measured already
    return [_typed(number, knob) for number in sorted({*found} - taken)]


def _rounded(number: float, knob: Knob) -> float:
    """A number on the setting's own grid, within its range."""
    low = knob.minimum if knob.minimum is not None else 0.0
    step = knob.step or 0.0
    number = low + round((number - low) / step) * step if step else number
    number = max(number, low) if knob.minimum is not None else number
    return round(float(min(number, knob.maximum) if knob.maximum is not None else number), 10)


def _typed(number: float, knob: Knob) -> AxisValue:
    return int(number) if knob.kind == "int" else number


def _apart(axis: str, values: list[AxisValue]) -> dict[str, list[object]]:
    """Settings that vary together, each with its own list."""
    rows = [value for value in values if isinstance(value, list)]
    return {name: list(column) for name, column in zip(axis.split(JOIN), zip(*rows, strict=True), strict=True)}


def _fixed(run: Run, best: SettingValues, axes: dict[str, list[AxisValue]]) -> tuple[str, SettingValues]:
    """(preset, what the next sweep fixes of its settings): all in which the winner is not that preset."""
    record = next(r for r in run.records() if all(r["settings"][name] == value for name, value in best.items()))
    settings, preset = Settings.written(record["settings"]), str(run.about["spec"]["preset"])
    try:
        base = load_preset(preset).settings
    except (PresetNotFound, BadPreset):  # it is gone or damaged: the shipped one stands in, with all that differs
        preset, base = "recommended", load_preset("recommended").settings
    varied = {"prompt", "seed", *swept(axes)}
    return preset, {name: value for name, (value, _) in settings.diff(base).items() if name not in varied}


def _lines(table: Mapping[str, object]) -> list[str]:
    return [f"{toml_value(name)} = {toml_value(value)}" for name, value in table.items()]


def toml_value(value: object) -> str:
    """A value as TOML, which is written like JSON for text, numbers, true and false, and lists of these."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def finer_words(found: FinerSweep) -> list[str]:
    """A proposal in lines: what it is around, what is swept, what is fixed, on which seeds."""
    seeds = found.spec.seeds
    return [
        f"around {found.around}",
        *(f"{name}: {values}" for name, values in found.axes),
        *([f"fixed: {found.fixed}"] if found.fixed else []),
        f"new seeds: {listed(seeds) if isinstance(seeds, list) else seeds}",
    ]
