"""A run's report as one HTML file that needs nothing else: no script, no font, no picture from elsewhere.

Here is collected what the page says; `templates/` has how it looks. Everything that people typed (prompts, names, notes) is
escaped there. `ranked_html` is one part of the page, for notebooks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

import jinja2

from workbench.analysis import effects, favourites, headline, tile, votes
from workbench.errors import BadPreset, PresetNotFound
from workbench.files import package_version, write_atomic
from workbench.presets import licences, load_preset
from workbench.runs import DONE, Record, Run, find_run, label, listed, plain, same_values, swept, told
from workbench.scores import MEASURES
from workbench.settings import Settings, stages

from . import plots
from .page_parts import (
    Picture,
    alt_words,
    between_words,
    mark_words,
    named_rows,
    number_words,
    page_picture,
    page_plot,
    settings_words,
)
from .page_wall import wall_pages

THUMB, THUMBS = 96, 4  # px and number of the faces in a row of the ranking
TOP = 30  # rows of the ranking
FAILURES = 50  # that are listed; of the others there is the number


def write_report(run: Run | str | Path, path: Path | None = None) -> Path:
    """Write the report of a run as one HTML file, whole or not at all; by default `report.html` in the run's folder.

    The file has about 3 MB at most: the more pictures, the smaller the tiles of the wall, from 160 px to 48, and beyond some
    1,000 pictures the wall shows scores only. Raises `RunNotFound`, `MixedScores`.
    """
    run = find_run(run)
    path = path or run.path / "report.html"
    write_atomic(path, report_html(run).encode())
    return path


def report_html(run: Run) -> str:
    """The report of a run as it is now, as one HTML document. Raises `MixedScores`."""
    fidelity = effects.fidelity_measure(run)
    return (
        _templates()
        .get_template("page.html")
        .render(
            name=run.about["name"],
            run=run.id,
            made_at=f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}",
            headline=headline(run).words,
            asked=_asked(run),
            state=_state(run),
            best=_ranking(run, TOP),
            best_plot=page_plot(plots.ranking(run), "The best settings with their intervals"),
            cells=wall_pages(run),
            heat_maps=page_plot(plots.heat_maps(run), "Mean sharpness of every setting"),
            main_effects=page_plot(
                plots.main_effects(run), "Main effects: each value, whatever the other settings say"
            ),
            effects=[_effect(run, axis) for axis, values in run.axes.items() if len(values) > 1],
            pareto_front=page_plot(
                plots.pareto_front(run),
                f"Sharpness against fidelity to the unrestored picture, by {fidelity}: {MEASURES[fidelity].about}",
            ),
            times_plot=page_plot(plots.stage_times(run), "Measured work of each stage"),
            times=_times(run),
            votes=_votes(run),
            notes=_notes(run),
            licences=_licences(run),
            versions=_versions(run),
        )
    )


def ranked_html(run: Run | str | Path, top: int = 10) -> str:
    """The `top` best settings of a run as an HTML table for a notebook.

    It has their faces, intervals and flags, and in what each differs from the production preset. Raises `RunNotFound`,
    `MixedScores`.
    """
    return _templates().get_template("ranked.html").render(table=_ranking(find_run(run), top))


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("workbench.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


# --- what was asked, and what came of it


@dataclass(frozen=True)
class Asked:
    """(name, value) of what the spec says, and of `others`: the settings that it did not vary."""

    rows: list[tuple[str, str]]
    others: list[tuple[str, str]]


def _asked(run: Run) -> Asked:
    about, spec = run.about, run.about["spec"]
    rows = [("preset", spec.get("preset", ""))]
    rows += [(f"prompt {i}", prompt) for i, prompt in enumerate(spec["prompts"], start=1)]
    rows.append(("seeds", ", ".join(map(str, spec["seeds"]))))
    rows += [(label(name), ", ".join(map(plain, values))) for name, values in spec["axes"].items()]
    strategy = spec.get("strategy", "grid")
    rows.append(("strategy", strategy if not spec.get("budget") else f"{strategy}, at most {spec['budget']} pictures"))
    rows += [("cells", str(about["cells"])), ("begun", about["created"])]
    varied = {"prompt", "seed", *swept(spec["axes"])}
    return Asked(
        rows, [(label(name), plain(value)) for name, value in spec.get("base", {}).items() if name not in varied]
    )


@dataclass(frozen=True)
class State:
    """How many cells are in which state, what a search said, and (cell, settings, why) of the first failures.

    `search` is its strategy, None where the run is a grid; `failures` is the number of all of them.
    """

    counts: list[tuple[str, int]]
    search: str | None
    search_why: str
    failed: list[tuple[str, str, str]]
    failures: int


def _state(run: Run) -> State:
    search = run.search()
    failed = [r for r in run.records() if r["status"] not in DONE]
    return State(
        [(state.replace("_", " "), count) for state, count in run.states().items()],
        search["strategy"] if search else None,
        search["why"] if search else "",
        [(f"cell {r['cell']}", settings_words(run, r), r["reason"] or "") for r in failed[:FAILURES]],
        len(failed),
    )


# --- ranking


@dataclass(frozen=True)
class RankedSetting:
    """A row of the ranking, in words. Intervals are of 95 %; `gap` is the difference to the first row."""

    place: int
    setting: str
    mean: str
    interval: str
    shrunken: str
    gap: str
    gap_interval: str
    faces: list[Picture]
    fidelity: str
    sd: str
    n: int
    notes: list[str]
    differs: str


@dataclass(frozen=True)
class Ranking:
    """The best settings. `group`: which were not told apart from the first, in words. `fidelity` and `production`: heads of
    columns, which measure, which preset is compared to."""

    caption: str
    group: str
    fidelity: str
    production: str
    rows: list[RankedSetting]


def _ranking(run: Run, top: int) -> Ranking:
    table, fidelity = effects.ranked(run), effects.pareto(run)
    numbers, records = effects.combination_numbers(run), {r["cell"]: r for r in run.records()}
    production, head = _production()
    marks = favourites(run)
    rows = []
    others = dict(named_rows(fidelity))
    for place, (index, row) in enumerate(named_rows(table.head(top)), start=1):
        key = index if isinstance(index, tuple) else (index,)
        cells = _cells(run, records, numbers[key])
        other = others[index]
        flags = sorted({flag for r in cells for flag in r.get("scores", {}).get("flags", [])})
        notes = [f"! {', '.join(flags)}"] * bool(flags) + ["on the Pareto front"] * bool(other["front"])
        notes += mark_words(marks, [r["cell"] for r in cells])
        notes += [f"identical: {row['same']}"] * bool(row["same"])
        notes += [f"{int(row[c])} {c.replace('_', ' ')}" for c in ("missing", "not_run") if row[c]]
        rows.append(
            RankedSetting(
                place=place,
                setting=_words(run, key),
                mean=number_words(row["mean"]),
                shrunken=number_words(row["shrunken"]),
                interval=between_words(row["low"], row["high"]) or "no interval",
                gap="first" if place == 1 else number_words(row["difference"], sign=True),
                gap_interval=between_words(row["difference_low"], row["difference_high"], sign=True),
                faces=_faces(run, cells),
                fidelity=number_words(other["fidelity"], 3),
                sd=number_words(row["sd"]),
                n=int(row["n"]),
                notes=notes,
                differs=_differs(cells, production),
            )
        )
    caption = f"The best {min(top, len(table))} of {len(table)} settings by mean sharpness"
    return Ranking(caption, effects.group_words(table), fidelity.attrs["fidelity"], head, rows)


def _words(run: Run, key: tuple[object, ...]) -> str:
    return told(dict(zip(swept(run.axes), key, strict=False))) or "the only setting"


def _cells(run: Run, records: dict[int, Record], combination: int) -> list[Record]:
    """The records of one setting: first one of each prompt, then their other seeds."""
    spec = run.about["spec"]
    inner, seeds = math.prod(len(values) for values in run.axes.values()), len(spec["seeds"])
    places = [prompt * seeds + seed for seed in range(seeds) for prompt in range(len(spec["prompts"]))]
    return [records[cell] for block in places if (cell := block * inner + combination) in records]


def _faces(run: Run, cells: list[Record]) -> list[Picture]:
    shown = [r for r in cells if r["status"] in DONE and run.picture(r).exists()][:THUMBS]
    return [page_picture(tile(run, r, THUMB, zoom=True), alt_words(run, r)) for r in shown]


def _production() -> tuple[Settings | None, str]:
    """The settings of the production preset, None where it cannot be read, and what the column about it is headed."""
    try:
        return load_preset("production").settings, "against production"
    except PresetNotFound:
        return None, "production (there is none yet)"
    except BadPreset:
        return None, "production (its file is damaged)"


def _differs(cells: list[Record], production: Settings | None) -> str:
    if production is None or not cells:
        return "–"
    there = production.model_dump()
    found = [
        f"{label(name)} {plain(value)} (production {plain(there[name])})"
        for name, value in cells[0]["settings"].items()
        if name not in ("prompt", "seed") and value != there.get(name)
    ]
    return "; ".join(found) or "the same"


# --- effects, time, votes


@dataclass(frozen=True)
class Effect:
    """The main effect of one axis, a row of words for each of its values."""

    name: str
    rows: list[tuple[str, ...]]


def _effect(run: Run, axis: str) -> Effect:
    rows = [
        (
            str(value),
            number_words(row["mean"]),
            between_words(row["low"], row["high"]),
            number_words(row["effect"], 2, True),
            between_words(row["effect_low"], row["effect_high"], True),
            str(int(row["blocks"])),
        )
        for value, row in named_rows(effects.main_effects(run, axis))
    ]
    return Effect(label(axis), rows)


def _times(run: Run) -> list[tuple[str, ...]]:
    """(stage, how often it ran, seconds in all, their median) in words."""
    return [
        (
            stages()[str(stage)].label,
            str(int(row["count"])),
            number_words(row["total"], 1),
            number_words(row["median"], 2),
        )
        for stage, row in named_rows(effects.stage_seconds(run))
    ]


@dataclass(frozen=True)
class VoteTable:
    """How votes agree with the score, of all and of some, in words; no rows where there are no votes."""

    rows: list[tuple[str, ...]]
    left_out: int


def _votes(run: Run) -> VoteTable:
    found = votes.agreement(run)
    if found.n + found.ties + found.left_out == 0:
        return VoteTable([], 0)
    rows = [_rate("all votes", found)]
    told = {"smaller": f"scores differ by up to {found.gap or 0:.1f}", "larger": f"by more than {found.gap or 0:.1f}"}
    rows += [_rate(told[part], rate) for part, rate in found.by_gap.items()]
    rows += [_rate(f"{flag}: fired on one of the two", rate) for flag, rate in found.by_guard.items()]
    return VoteTable(rows, found.left_out)


def _rate(name: str, rate: votes.Rate) -> tuple[str, ...]:
    accuracy = "not measured" if rate.accuracy is None else f"{rate.accuracy:.0%}"
    ends = "" if rate.interval is None else f"{rate.interval[0]:.0%} to {rate.interval[1]:.0%}"
    return name, str(rate.n), str(rate.agreed), accuracy, ends, str(rate.ties)


# --- notes, licences, versions


def _notes(run: Run) -> list[str]:
    """What is particular to this run; what holds for every run stands in the template."""
    notes = [*_aliases(run), *run.identical(), *effects.dead_words(run)]
    for stage, size in (run.batch() or {}).items():
        if size > 1:
            notes.append(f"{stage} ran with {size} pictures in a UNet batch, which changes the last bits of a picture.")
    lacking = {f"{n}: {why}" for r in run.records() for n, why in r.get("scores", {}).get("not_measured", {}).items()}
    return notes + [f"not measured, {text}" for text in sorted(lacking)[:8]]


def _aliases(run: Run) -> list[str]:
    """Sentences on values of an axis that ask for the very same work, so that nothing was made of the second."""
    spec, keys = run.about["spec"], {r["cell"]: r["key"] for r in run.records()}
    same = same_values(keys, len(spec["prompts"]) * len(spec["seeds"]), spec["axes"])
    return [f"{label(axis)} {listed(values)} ask for the same work, which was done once." for axis, values, _ in same]


def _licences(run: Run) -> list[str]:
    """The licences of the weights that the run's settings use, each once."""
    return list(dict.fromkeys(text for r in run.records() for text in licences(Settings.written(r["settings"]))))


def _versions(run: Run) -> list[tuple[str, str]]:
    environment = run.about.get("environment", {})
    rows = [("python", environment.get("python")), ("machine", environment.get("machine"))]
    rows += [(n, v or "not installed") for n, v in environment.get("libraries", {}).items()]
    measured = {f"{n} {v}" for r in run.records() for n, v in r.get("scores", {}).get("versions", {}).items()}
    return rows + [
        ("scores", ", ".join(sorted(measured)) or "not measured"),
        ("workbench, of this page", package_version()),
    ]
