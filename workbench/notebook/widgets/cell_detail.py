"""What the wall's large view says of a cell: its settings, its score in parts, how it differs from production."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from workbench.analysis import layout as walls
from workbench.errors import BadPreset, PresetNotFound
from workbench.presets import load_preset
from workbench.runs import Record, Run, label, plain
from workbench.scores import FIDELITY, GUARDS, MEASURES, REGION_SIGMA, SHARPNESS, SIGMA, Measure
from workbench.settings import Settings, knobs


class CellDetail(TypedDict):
    """What the large view says of a cell; of one that was not run only the first four, and nothing of the rest.

    `title`: its settings, as far as the run varies them; `number`: which cell it is, and its score. `size`: of its picture
    in px, `face`: x0, y0, x1, y1 as shares of its sides, [] without one. `file`: its picture, as run/path. `parts`: group
    of measures, and name, number and meaning of each. `settings`: label and value. `against`, `diff`: how it differs from
    production; setting, production's value, this one's.
    """

    cell: int
    title: str
    number: str
    words: str
    flags: list[str]
    promotable: bool
    size: list[int]
    face: list[float]
    file: str
    parts: list[tuple[str, list[list[str]]]]
    settings: list[list[str]]
    against: str
    diff: list[list[str]]


def describe(run: Run, cell: int, record: Record | None, size: tuple[int, int] = (0, 0)) -> CellDetail:
    """All there is to say of a cell; `record` is None for one that was not run. `size`: of its picture in px."""
    title = cell_title(run, cell)
    if record is None:
        return CellDetail(
            cell=cell,
            title=title,
            number=f"cell {cell}",
            words="not run yet; it has no picture and no score.",
            flags=[],
            promotable=False,
            size=[],
            face=[],
            file="",
            parts=[],
            settings=[],
            against="",
            diff=[],
        )
    scores, settings = record.get("scores", {}), Settings.written(record["settings"])
    value = scores.get(SHARPNESS.name)
    against, diff = _against_production(settings)
    return CellDetail(
        cell=cell,
        title=title,
        number=f"cell {cell}" + (f", sharpness {value:.1f}" if value is not None else ""),
        words=_words(record),
        flags=scores.get("flags", []),
        promotable=value is not None,
        size=[*size],
        face=_face(scores.get("box"), size),
        file=f"{run.id}/{record['picture']}" if record.get("picture") else "",
        parts=_parts(scores) if scores else [],
        settings=[[knob.label, plain(getattr(settings, name))] for name, knob in knobs().items()],
        against=against,
        diff=diff,
    )


def cell_title(run: Run, cell: int) -> str:
    """What makes a cell another one than its neighbours: "Strength 0.35 · CodeFormer weight 0.6 · Seed 1"."""
    known, digits, left = walls.dimensions(run), dict[str, int](), cell
    for name, values in reversed([*known.items()]):
        left, digits[name] = divmod(left, len(values))
    told = {
        name: f"Prompt {digits[name] + 1}" if name == "prompt" else f"{label(name)} {plain(values[digits[name]])}"
        for name, values in known.items()
        if len(values) > 1
    }
    return " · ".join(told[name] for name in (*run.axes, "prompt", "seed") if name in told) or "The only cell"


def _face(box: Sequence[float] | None, size: tuple[int, int]) -> list[float]:
    if not box or not all(size):
        return []
    return [round(v / size[i % 2], 5) for i, v in enumerate(walls.face_square(box, size))]


def _words(record: Record) -> str:
    """What there is to say of a cell beside its scores: how it ended, and what its stages did not find."""
    because = f": {record['reason']}" if record.get("reason") else ""
    ended = [] if record["status"] == "done" else [record["status"].replace("_", " ") + because]
    return "; ".join([*ended, *record.get("notes", [])])


def _parts(scores: Mapping[str, Any]) -> list[tuple[str, list[list[str]]]]:
    """(group, [name, number in words, what it means] of each of its measures)."""
    missing = scores.get("not_measured", {})
    groups = {
        "Sharpness": [SHARPNESS, SIGMA, MEASURES["eye_distance"]],
        "Blur of each region": [*REGION_SIGMA.values()],
        "Guards": [*GUARDS.values()],
        "Distance to the unrestored picture": [*FIDELITY.values()],
    }
    return [(title, [_part(m, scores, missing) for m in measures]) for title, measures in groups.items()]


def _part(measure: Measure, scores: Mapping[str, Any], missing: Mapping[str, str]) -> list[str]:
    value = scores.get(measure.name)
    if value is None:
        return [measure.label, "not measured", missing.get(measure.name, measure.about)]
    fired = f" ! {measure.flag}" if measure.fires(value) else ""
    return [measure.label, f"{value:.4g} {measure.unit}{fired}", measure.about]


def _against_production(settings: Settings) -> tuple[str, list[list[str]]]:
    """How a cell differs from production: in words, and [setting, production's value, this one's].

    Prompt and seed are left out: they belong to the one picture.
    """
    try:
        production = load_preset("production").settings
    except PresetNotFound:
        return "There is no production preset yet.", []
    except BadPreset as error:
        return f"The production preset cannot be read: {error}", []
    diff = {name: pair for name, pair in production.diff(settings).items() if name not in ("prompt", "seed")}
    words = "Other than production in" if diff else "The same settings as production, but for prompt and seed."
    return words, [[knobs()[n].label, plain(a), plain(b)] for n, (a, b) in diff.items()]
