"""A run's report as one HTML file that needs nothing else: no script, no font, no picture from elsewhere.

Here is collected what the page says; `templates/` has how it looks. Everything that people typed (prompts, names, notes) is
escaped there. `ranked_html` is one part of the page, for notebooks.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from PIL import Image

from workbench.analysis import Page, Tile, arrange, default_layout, effects, tile, tiles, votes
from workbench.errors import BadPreset, PresetNotFound
from workbench.files import package_version, write_atomic
from workbench.presets import licences, load_preset
from workbench.runs import DONE, Record, Run, find_run, listed, plain, same_values, swept
from workbench.scores import MEASURES, SHARPNESS
from workbench.settings import Settings

from . import plots

if TYPE_CHECKING:
    import pandas as pd

ROOM = 2_000_000  # bytes of base64 for the wall's pictures; with plots and thumbnails the file stays below 3 MB
SIDES = (160, 128, 96, 64, 48)  # px of a tile: the largest for which the wall has room
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
            asked=_asked(run),
            state=_state(run),
            best=_ranking(run, TOP),
            best_plot=_plot(
                plots.ranking(run),
                "The best settings with their intervals",
                "The table's means and intervals as a plot.",
            ),
            cells=_wall(run),
            heat_maps=_plot(
                plots.heat_maps(run), "Mean sharpness of every setting", "Heat maps of the means in the ranking."
            ),
            main_effects=_plot(
                plots.main_effects(run),
                "Main effects: each value, whatever the other axes say",
                "Mean sharpness against each axis; the numbers are in the tables below.",
            ),
            effects=[_effect(run, axis) for axis, values in run.axes.items() if len(values) > 1],
            pareto_front=_plot(
                plots.pareto_front(run),
                f"Sharpness against fidelity to the unrestored picture, by {fidelity}: {MEASURES[fidelity].about}",
                "Mean sharpness against mean fidelity; both are in the ranking.",
            ),
            times_plot=_plot(
                plots.stage_times(run), "Measured work of each stage", "Seconds of each stage; the table has them."
            ),
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


# --- numbers in words


def _number(value: float, digits: int = 1, sign: bool = False) -> str:
    if math.isnan(value):
        return "not measured"
    # + 0.0: of -0.04 no "-0.0" is left
    return f"{round(value, digits) + 0.0:{'+' if sign else ''}.{digits}f}"


def _rows(table: pd.DataFrame) -> Iterator[tuple[Hashable, dict[Hashable, Any]]]:
    """(name, {column: value}) of each row."""
    return zip(table.index, table.to_dict("records"), strict=True)


def _between(low: float, high: float, sign: bool = False) -> str:
    return "" if math.isnan(low) else f"{_number(low, sign=sign)} to {_number(high, sign=sign)}"


# --- pictures inside the page


@dataclass(frozen=True)
class Picture:
    """A picture as it stands in the page: `source` is a `data:` address, `alt` says what is seen."""

    source: str
    width: int
    height: int
    alt: str


@dataclass(frozen=True)
class Plot:
    """A figure with its caption."""

    title: str
    picture: Picture


def _picture(data: bytes, alt: str) -> Picture:
    """The bytes of a JPEG or PNG file as a picture of the page."""
    with Image.open(io.BytesIO(data)) as image:
        kind, (width, height) = image.get_format_mimetype(), image.size
    return Picture(f"data:{kind};base64,{base64.b64encode(data).decode()}", width, height, alt)


def _plot(image: Image.Image, title: str, alt: str) -> Plot:
    # as PNG of 256 colours: its letters stay crisp, which JPEG blurs
    buffer = io.BytesIO()
    image.quantize(256).save(buffer, "PNG", optimize=True)
    return Plot(title, _picture(buffer.getvalue(), alt))


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
    rows += [(f"axis {name}", ", ".join(map(plain, values))) for name, values in spec["axes"].items()]
    strategy = spec.get("strategy", "grid")
    rows.append(("strategy", strategy if not spec.get("budget") else f"{strategy}, at most {spec['budget']} pictures"))
    rows += [("cells", str(about["cells"])), ("begun", about["created"])]
    varied = {"prompt", "seed", *swept(spec["axes"])}
    return Asked(rows, [(name, plain(value)) for name, value in spec.get("base", {}).items() if name not in varied])


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
        [(f"cell {r['cell']}", _settings_words(run, r), r["reason"] or "") for r in failed[:FAILURES]],
        len(failed),
    )


def _settings_words(run: Run, record: Record) -> str:
    settings = record["settings"]
    prompt = run.about["spec"]["prompts"].index(settings["prompt"]) + 1
    varied = [f"{name} {plain(settings[name])}" for name in swept(run.axes)]
    return ", ".join([*varied, f"prompt {prompt}", f"seed {settings['seed']}"])


# --- ranking


@dataclass(frozen=True)
class RankedSetting:
    """A row of the ranking, in words. Intervals are of 95 %; `gap` is the difference to the first row."""

    place: int
    setting: str
    mean: str
    interval: str
    gap: str
    gap_interval: str
    faces: list[Picture]
    fidelity: str
    sd: str
    n: int
    notes: str
    differs: str


@dataclass(frozen=True)
class Ranking:
    """The best settings. `fidelity` and `production` are heads of columns: which measure, which preset is compared to."""

    caption: str
    fidelity: str
    production: str
    rows: list[RankedSetting]


def _ranking(run: Run, top: int) -> Ranking:
    table, fidelity = effects.ranked(run), effects.pareto(run)
    numbers, records = effects.combination_numbers(run), {r["cell"]: r for r in run.records()}
    production, head = _production()
    rows = []
    others = dict(_rows(fidelity))
    for place, (index, row) in enumerate(_rows(table.head(top)), start=1):
        key = index if isinstance(index, tuple) else (index,)
        cells = _cells(run, records, numbers[key])
        other = others[index]
        flags = sorted({flag for r in cells for flag in r.get("scores", {}).get("flags", [])})
        notes = [f"! {', '.join(flags)}"] * bool(flags) + ["on the Pareto front"] * bool(other["front"])
        notes += [f"identical: {row['same']}"] * bool(row["same"])
        notes += [f"{int(row[c])} {c.replace('_', ' ')}" for c in ("missing", "not_run") if row[c]]
        rows.append(
            RankedSetting(
                place=place,
                setting=_words(run, key),
                mean=_number(row["mean"]),
                interval=_between(row["low"], row["high"]) or "no interval",
                gap="first" if place == 1 else _number(row["difference"], sign=True),
                gap_interval=_between(row["difference_low"], row["difference_high"], sign=True),
                faces=_faces(run, cells),
                fidelity=_number(other["fidelity"], 3),
                sd=_number(row["sd"]),
                n=int(row["n"]),
                notes="; ".join(notes),
                differs=_differs(cells, production),
            )
        )
    caption = f"The best {min(top, len(table))} of {len(table)} settings by mean sharpness"
    return Ranking(caption, fidelity.attrs["fidelity"], head, rows)


def _words(run: Run, key: tuple[object, ...]) -> str:
    pairs = zip(swept(run.axes), key, strict=False)
    return ", ".join(f"{name} {plain(value)}" for name, value in pairs) or "the only setting"


def _cells(run: Run, records: dict[int, Record], combination: int) -> list[Record]:
    """The records of one setting: first one of each prompt, then their other seeds."""
    spec = run.about["spec"]
    inner, seeds = math.prod(len(values) for values in run.axes.values()), len(spec["seeds"])
    places = [prompt * seeds + seed for seed in range(seeds) for prompt in range(len(spec["prompts"]))]
    return [records[cell] for block in places if (cell := block * inner + combination) in records]


def _faces(run: Run, cells: list[Record]) -> list[Picture]:
    shown = [r for r in cells if r["status"] in DONE and run.picture(r).exists()][:THUMBS]
    return [_picture(tile(run, r, THUMB, zoom=True), _alt(run, r)) for r in shown]


def _alt(run: Run, record: Record) -> str:
    value = record.get("scores", {}).get("sharpness")
    said = record["status"].replace("_", " ") if value is None else f"sharpness {value:.1f}"
    return f"{_settings_words(run, record)}: {said}"


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
        f"{name} {plain(value)} (production {plain(there[name])})"
        for name, value in cells[0]["settings"].items()
        if name not in ("prompt", "seed") and value != there.get(name)
    ]
    return "; ".join(found) or "the same"


# --- wall


@dataclass(frozen=True)
class WallCell:
    """A cell's place: its picture and the face in it, None where there is no picture or no room for it.

    `said` stands below, on the colours `style`; without a score there are none (""), and `bad` marks what went wrong.
    """

    said: str
    style: str
    bad: bool
    whole: Picture | None
    face: Picture | None


@dataclass(frozen=True)
class WallPage:
    """A page of the wall: (label, cells) of its rows, without those of which a search left out every cell."""

    title: str
    columns: list[str]
    rows: list[tuple[str, list[WallCell]]]


@dataclass(frozen=True)
class Shade:
    """A step of the key: a score, rounded and with one digit more, and its colours."""

    text: str
    exact: str
    style: str


@dataclass(frozen=True)
class WallPages:
    """All pages of the wall with the key to its colours.

    `measure` says what is coloured; `pictured`: the cells have pictures; `crowded`: there are too many for them.
    """

    measure: str
    key: list[Shade]
    crowded: bool
    pictured: bool
    pages: list[WallPage]


def _wall(run: Run) -> WallPages:
    layout = default_layout(run)
    first = arrange(run, layout)
    pages = [first, *(arrange(run, layout, number) for number in range(1, len(first.pages)))]
    found = _pictures(run)
    pictures = found or {}
    return WallPages(
        plots.direction(SHARPNESS),
        _key(first),
        found is None,
        bool(pictures),
        [_wall_page(run, page, pictures) for page in pages],
    )


def _pictures(run: Run) -> dict[int, tuple[bytes, bytes]] | None:
    """{cell: (whole, face)} as JPEG, as large as there is room for; None where there is none for the smallest."""
    records = [r for r in run.records() if r["status"] in DONE and run.picture(r).exists()]
    sample = records[:: max(1, len(records) // 8)]
    for side in SIDES:
        size = sum(len(data) for r in sample for data in tiles(run, r, side)) * 4 / 3
        if not sample or size / len(sample) * len(records) <= ROOM:
            return {r["cell"]: tiles(run, r, side) for r in records}
    return None


def _key(page: Page) -> list[Shade]:
    if page.low is None or page.high is None:
        return []
    steps = [(i / 6, page.low + (page.high - page.low) * i / 6) for i in range(7)]
    return [Shade(f"{value:.0f}", f"{value:.1f}", _style(step)) for step, value in steps]


def _style(shade: float) -> str:
    back, text = plots.on_cividis(shade)
    return f"background:{back};color:{text}"


def _wall_page(run: Run, page: Page, pictures: dict[int, tuple[bytes, bytes]]) -> WallPage:
    title = page.pages[page.number].replace("\n", ", ") or "All cells"
    rows = [
        (label, [_wall_cell(run, cell, pictures) for cell in line])
        for label, line in zip(page.rows, page.cells, strict=True)
        if any(cell.state != "left_out" for cell in line)
    ]
    return WallPage(title, page.columns, rows)


def _wall_cell(run: Run, cell: Tile, pictures: dict[int, tuple[bytes, bytes]]) -> WallCell:
    whole = face = None
    if cell.record is not None and cell.number in pictures:
        alt = _alt(run, cell.record)
        whole, face = map(_picture, pictures[cell.number], (alt, f"face of {alt}"))
    return WallCell(
        said=f"{cell.text}: {cell.reason}" if cell.reason else cell.text,
        style="" if cell.shade is None else _style(cell.shade),
        bad=cell.shade is None and cell.state not in ("done", "not_run", "left_out"),
        whole=whole,
        face=face,
    )


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
            _number(row["mean"]),
            _between(row["low"], row["high"]),
            _number(row["effect"], 2, True),
            _between(row["effect_low"], row["effect_high"], True),
            str(int(row["blocks"])),
        )
        for value, row in _rows(effects.main_effects(run, axis))
    ]
    return Effect(axis, rows)


def _times(run: Run) -> list[tuple[str, ...]]:
    """(stage, how often it ran, seconds in all, their median) in words."""
    return [
        (str(stage), str(int(row["count"])), _number(row["total"], 1), _number(row["median"], 2))
        for stage, row in _rows(effects.stage_seconds(run))
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
    notes = [*_aliases(run), *run.identical()]
    for stage, size in (run.batch() or {}).items():
        if size > 1:
            notes.append(f"{stage} ran with {size} pictures in a UNet batch, which changes the last bits of a picture.")
    lacking = {f"{n}: {why}" for r in run.records() for n, why in r.get("scores", {}).get("not_measured", {}).items()}
    return notes + [f"not measured, {text}" for text in sorted(lacking)[:8]]


def _aliases(run: Run) -> list[str]:
    """Sentences on values of an axis that ask for the very same work, so that nothing was made of the second."""
    spec, keys = run.about["spec"], {r["cell"]: r["key"] for r in run.records()}
    same = same_values(keys, len(spec["prompts"]) * len(spec["seeds"]), spec["axes"])
    return [f"{axis} {listed(values)} ask for the same work, which was done once." for axis, values, _ in same]


def _licences(run: Run) -> list[str]:
    """The licences of the weights that the run's settings use, each once."""
    return list(dict.fromkeys(text for r in run.records() for text in licences(Settings(**r["settings"]))))


def _versions(run: Run) -> list[tuple[str, str]]:
    environment = run.about.get("environment", {})
    rows = [("python", environment.get("python")), ("machine", environment.get("machine"))]
    rows += [(n, v or "not installed") for n, v in environment.get("libraries", {}).items()]
    measured = {f"{n} {v}" for r in run.records() for n, v in r.get("scores", {}).get("versions", {}).items()}
    return rows + [
        ("scores", ", ".join(sorted(measured)) or "not measured"),
        ("workbench, of this page", package_version()),
    ]
