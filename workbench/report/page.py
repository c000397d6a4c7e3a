"""A run's report as one HTML file that needs nothing else: no script, no font, no picture from elsewhere.

Everything that people typed (prompts, names, notes) is escaped. `ranked_html` is a part of it, for notebooks.
"""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import Any

from workbench.analysis import effects, layout as walls, votes
from workbench.errors import BadPreset, PresetNotFound
from workbench.files import package_version, write_atomic
from workbench.presets import load_preset
from workbench.promotion import licences
from workbench.runs import DONE, Run, alike, find_run, listed, plain, swept
from workbench.scores import MEASURES, SHARPNESS

from ..settings import Settings
from . import markup, plots

ROOM = 2_000_000  # bytes of base64 for the wall's pictures; with plots and thumbnails the file stays below 3 MB
SIDES = (160, 128, 96, 64, 48)  # px of a tile: the largest for which the wall has room
THUMB, THUMBS = 96, 4  # px and number of the faces in a row of the ranking
TOP = 30  # rows of the ranking

CAVEATS = (
    "Settings are compared on the pictures that they were chosen by, and the best of many looks better than it is: meet the "
    "winner on seeds that it has not seen before you trust its lead.",
    "An interval is Student's t over prompts and seeds, taken as independent; it says how far these prompts and seeds would "
    "let the mean vary, nothing about prompts of another kind. Intervals are not corrected for the number of comparisons.",
    "The score tells how blurred a face is. It is no judge of beauty or likeness, and it takes some sharpening for "
    "sharpness: look at the pictures.",
)


def write_report(run: Run | str | Path, path: Path | None = None) -> Path:
    """Write the report of a run as one HTML file, whole or not at all; by default `report.html` in the run's folder.

    About 3 MB at most: tiles of the wall get smaller with their number, from 160 px to 48, and beyond some 1,000 pictures
    the wall has scores only. Raises `RunNotFound`, `MixedScores`.
    """
    run = find_run(run)
    path = path or run.path / "report.html"
    write_atomic(path, report_html(run).encode())
    return path


def report_html(run: Run) -> str:
    """The report of a run as it is now, as one HTML document."""
    name, sections = run.about["name"], _sections(run)
    links = " ".join(f'<a href="#{key}">{markup.text(title)}</a>' for key, title, _ in sections)
    body = "".join(
        f'<section id="{key}" aria-labelledby="{key}-h"><h2 id="{key}-h">{markup.text(title)}</h2>{part}</section>'
        for key, title, part in sections
    )
    made = f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{markup.text(name)}: report of a sweep</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{markup.TABLES}{markup.PAGE}</style></head><body class='wb'>"
        f"<header><h1>{markup.text(name)}: report of a sweep</h1>"
        f'<p class="faint">{markup.text(run.id)}, as it was on {made}</p></header>'
        f'<nav aria-label="Contents">{links}</nav><main>{body}</main></body></html>\n'
    )


def _sections(run: Run) -> list[tuple[str, str, str]]:
    """(id, title, HTML) in the order of the page."""
    parts = [
        ("asked", "What was asked", _asked(run)),
        ("state", "What came of it", _state(run)),
        ("ranking", "Ranking", _ranking(run)),
        ("wall", "Wall", _wall(run)),
        ("effects", "What the settings do", _effects(run)),
        ("time", "Time", _time(run)),
        ("votes", "Votes", _votes(run)),
        ("notes", "Notes and caveats", _notes(run)),
        ("made", "Licences and versions", _versions(run)),
    ]
    return parts


# --- numbers in words


def _number(value: float, digits: int = 1, sign: bool = False) -> str:
    # + 0.0: of -0.04 no "-0.0" is left
    return "not measured" if math.isnan(value) else f"{round(value, digits) + 0.0:{'+' if sign else ''}.{digits}f}"


def _between(low: float, high: float, sign: bool = False) -> str:
    return "" if math.isnan(low) else f"{_number(low, sign=sign)} to {_number(high, sign=sign)}"


# --- sections


def _asked(run: Run) -> str:
    about, spec = run.about, run.about["spec"]
    rows: list[tuple[str, Any]] = [("preset", spec.get("preset", ""))]
    rows += [(f"prompt {i}", prompt) for i, prompt in enumerate(spec["prompts"], start=1)]
    rows.append(("seeds", ", ".join(map(str, spec["seeds"]))))
    rows += [(f"axis {name}", ", ".join(map(plain, values))) for name, values in spec["axes"].items()]
    strategy = spec.get("strategy", "grid")
    rows.append(("strategy", strategy if not spec.get("budget") else f"{strategy}, at most {spec['budget']} pictures"))
    rows += [("cells", about["cells"]), ("begun", about["created"])]
    left = {n: v for n, v in spec.get("base", {}).items() if n not in {"prompt", "seed", *swept(spec["axes"])}}
    rest = f"<details><summary>The other settings</summary>{markup.pairs((n, plain(v)) for n, v in left.items())}</details>"
    return markup.pairs(rows) + rest * bool(left)


def _state(run: Run) -> str:
    states = {state.replace("_", " "): count for state, count in run.states().items()}
    failed = [r for r in run.records() if r["status"] not in DONE]
    parts = [markup.pairs(states.items())]
    if search := run.search():
        parts.append(f"<p>Search by {markup.text(search['strategy'])}: {markup.text(search['why'])}</p>")
    if failed:
        shown = [
            (f"cell {r['cell']}", markup.text(_settings_words(run, r)), markup.text(r["reason"])) for r in failed[:50]
        ]
        more = f"<p>and {len(failed) - 50} more</p>" * (len(failed) > 50)
        parts.append(markup.table(["cell", "settings", "why"], shown, f"{len(failed)} failed") + more)
    return "".join(parts)


def _settings_words(run: Run, record: dict[str, Any]) -> str:
    settings = record["settings"]
    prompt = run.about["spec"]["prompts"].index(settings["prompt"]) + 1
    varied = [f"{name} {plain(settings[name])}" for name in swept(run.axes)]
    return ", ".join([*varied, f"prompt {prompt}", f"seed {settings['seed']}"])


def ranked_html(run: Run | str | Path, top: int = 10) -> str:
    """The best settings of a run as an HTML table for a notebook: faces, intervals, flags, what differs from production.

    Raises `RunNotFound`, `MixedScores`.
    """
    return f'<style>{markup.TABLES}</style><div class="wb">{_ranked(find_run(run), top)}</div>'


def _ranking(run: Run) -> str:
    said = (
        "Means over prompts and seeds with their 95 % intervals. The difference to the first is taken within prompts and "
        "seeds: where its interval holds 0, the two were not told apart. A setting on which a guard fired (!) is not "
        "promoted."
    )
    plot = markup.figure(
        plots.ranking(run), "The best settings with their intervals", "The table's means and intervals as a plot."
    )
    return f"<p>{said}</p>{_ranked(run, TOP)}{plot}"


def _ranked(run: Run, top: int) -> str:
    table: Any = effects.ranked(run)
    fidelity: Any = effects.pareto(run)
    name = fidelity.attrs["fidelity"]
    numbers, records = effects.combination_numbers(run), {r["cell"]: r for r in run.records()}
    production, head = _production(), _production_head()
    rows = []
    for place, (index, row) in enumerate(table.head(top).iterrows(), start=1):
        key = index if isinstance(index, tuple) else (index,)
        cells = _cells(run, records, numbers[key])
        other = fidelity.loc[[index]].iloc[0]
        flags = sorted({flag for r in cells for flag in r.get("scores", {}).get("flags", [])})
        notes = [f"! {', '.join(flags)}"] * bool(flags) + ["on the Pareto front"] * bool(other["front"])
        notes += [f"identical: {row['same']}"] * bool(row["same"])
        notes += [f"{int(row[c])} {c.replace('_', ' ')}" for c in ("missing", "not_run") if row[c]]
        gap = "first" if place == 1 else _number(row["difference"], sign=True)
        rows.append((
            f"{place}. {markup.text(_words(run, key))}",
            f"{_number(row['mean'])}<br>{_between(row['low'], row['high']) or 'no interval'}",
            f"{gap}<br>{_between(row['difference_low'], row['difference_high'], sign=True)}",
            f'<div class="pics">{_thumbs(run, cells)}</div>', _number(other["fidelity"], 3), _number(row["sd"]),
            str(int(row["n"])), markup.text("; ".join(notes)), markup.text(_differs(cells, production)),
        ))  # fmt: skip
    columns = ["setting", "sharpness, 95 %", "to the first, 95 %", "faces", name, "sd", "n", "notes", head]
    first = f"The best {min(top, len(table))} of {len(table)} settings by mean sharpness"
    return markup.table(columns, rows, first, (1, 2, 4, 5, 6)) if rows else "<p>No cell has been recorded yet.</p>"


def _words(run: Run, key: tuple[Any, ...]) -> str:
    pairs = zip(swept(run.axes), key, strict=False)
    return ", ".join(f"{name} {plain(value)}" for name, value in pairs) or "the only setting"


def _cells(run: Run, records: dict[int, dict[str, Any]], combination: int) -> list[dict[str, Any]]:
    """The records of one setting: first one of each prompt, then their other seeds."""
    spec = run.about["spec"]
    inner, seeds = math.prod(len(values) for values in run.axes.values()), len(spec["seeds"])
    places = [prompt * seeds + seed for seed in range(seeds) for prompt in range(len(spec["prompts"]))]
    return [records[cell] for block in places if (cell := block * inner + combination) in records]


def _thumbs(run: Run, cells: list[dict[str, Any]]) -> str:
    shown = [r for r in cells if r["status"] in DONE and run.picture(r).exists()][:THUMBS]
    return "".join(markup.image(walls.tile(run, r, THUMB, zoom=True), _alt(run, r)) for r in shown)


def _alt(run: Run, record: dict[str, Any]) -> str:
    value = record.get("scores", {}).get("sharpness")
    said = record["status"].replace("_", " ") if value is None else f"sharpness {value:.1f}"
    return f"{_settings_words(run, record)}: {said}"


def _production() -> Settings | None:
    try:
        return load_preset("production").settings
    except (PresetNotFound, BadPreset):  # `_production_head` says which
        return None


def _production_head() -> str:
    try:
        load_preset("production")
    except PresetNotFound:
        return "production (there is none yet)"
    except BadPreset:
        return "production (its file is damaged)"
    return "against production"


def _differs(cells: list[dict[str, Any]], production: Settings | None) -> str:
    if production is None or not cells:
        return "–"
    there = production.model_dump()
    found = [
        f"{name} {plain(value)} (production {plain(there[name])})"
        for name, value in cells[0]["settings"].items()
        if name not in ("prompt", "seed") and value != there.get(name)
    ]
    return "; ".join(found) or "the same"


def _wall(run: Run) -> str:
    layout = walls.default_layout(run)
    first = walls.arrange(run, layout)
    pictures = _pictures(run)
    parts = [_key(first)]
    if pictures is None:
        parts.append("<p>There are too many pictures to hold in this file; the run's folder has them.</p>")
    body = "".join(
        _wall_page(run, first if number == 0 else walls.arrange(run, layout, number), pictures or {})
        for number in range(len(first.pages))
    )
    switch = (
        '<input type="radio" name="tiles" id="pictures" checked><label for="pictures">whole pictures</label>'
        '<input type="radio" name="tiles" id="faces"><label for="faces">faces, enlarged</label>'
    )
    return "".join(parts) + (switch if pictures else "") + f'<div class="wall">{body}</div>'


def _pictures(run: Run) -> dict[int, tuple[bytes, bytes]] | None:
    """{cell: (whole, face)} JPEG as large as there is room for; None where there is none for the smallest."""
    records = [r for r in run.records() if r["status"] in DONE and run.picture(r).exists()]
    sample = records[:: max(1, len(records) // 8)]
    for side in SIDES:
        size = sum(len(data) for r in sample for data in walls.tiles(run, r, side)) * 4 / 3
        if not sample or size / len(sample) * len(records) <= ROOM:
            return {r["cell"]: walls.tiles(run, r, side) for r in records}
    return None


def _key(page: walls.Page) -> str:
    if page.low is None or page.high is None:
        return "<p>No cell has a sharpness yet.</p>"
    steps = [i / 6 for i in range(7)]
    spans = "".join(
        f'<span style="{_style(step)}">{page.low + (page.high - page.low) * step:.0f}</span>' for step in steps
    )
    return (
        f"<p>Every cell in its place, coloured by {markup.text(plots.direction(SHARPNESS))}; ! where a guard fired.</p>"
        f'<p class="key" role="img" aria-label="Colours from {page.low:.1f} to {page.high:.1f}">{spans}</p>'
    )


def _style(shade: float) -> str:
    back, text = plots.on_cividis(shade)
    return f"background:{back};color:{text}"


def _wall_page(run: Run, page: walls.Page, pictures: dict[int, tuple[bytes, bytes]]) -> str:
    title = page.pages[page.number].replace("\n", ", ") or "All cells"
    keep = [r for r, line in enumerate(page.cells) if any(cell.state != "left_out" for cell in line)]
    if not keep:
        return f"<p>{markup.text(title)}: the search left all of it out.</p>"
    head = "".join(f'<th scope="col">{markup.text(label) or "cell"}</th>' for label in page.columns)
    rows = ""
    for r in keep:
        cells = "".join(_cell(run, cell, pictures) for cell in page.cells[r])
        rows += f'<tr><th scope="row">{markup.text(page.rows[r]) or "all"}</th>{cells}</tr>'
    top = f"<caption>{markup.text(title)}</caption><thead><tr><td></td>{head}</tr></thead>"
    return markup.scroll(f"<table>{top}<tbody>{rows}</tbody></table>", f"Wall: {title}")


def _cell(run: Run, cell: walls.Tile, pictures: dict[int, tuple[bytes, bytes]]) -> str:
    shown = ""
    if cell.record is not None and cell.number in pictures:
        whole, face = pictures[cell.number]
        alt = _alt(run, cell.record)
        shown = markup.image(whole, alt, more=' class="whole"') + markup.image(
            face, f"face of {alt}", more=' class="face"'
        )
    said = f"{cell.text}: {cell.reason}" if cell.reason else cell.text
    if cell.shade is None:
        bad = " bad" * (cell.state not in ("done", "not_run", "left_out"))
        return f'<td>{shown}<span class="score none{bad}">{markup.text(said)}</span></td>'
    return f'<td>{shown}<span class="score" style="{_style(cell.shade)}">{markup.text(said)}</span></td>'


def _effects(run: Run) -> str:
    parts = [
        markup.figure(plots.heat_maps(run), "Mean sharpness of every setting", "Heat maps of the means in the ranking."),
        markup.figure(plots.main_effects(run), "Main effects: each value, whatever the other axes say",
                "Mean sharpness against each axis; the numbers are in the tables below."),
    ]  # fmt: skip
    tables = []
    for axis, values in run.axes.items():
        if len(values) < 2:
            continue
        table: Any = effects.main_effects(run, axis)
        rows = [
            (markup.text(value), _number(row["mean"]), _between(row["low"], row["high"]), _number(row["effect"], 2, True),
             _between(row["effect_low"], row["effect_high"], True), str(int(row["blocks"])))
            for value, row in table.iterrows()
        ]  # fmt: skip
        head = [axis, "mean", "95 %", "difference from the mean of all", "95 %", "prompts and seeds"]
        tables.append(markup.table(head, rows, f"Main effect of {axis} on sharpness", range(1, 6)))
    if tables:
        parts.append(f"<details><summary>The main effects in numbers</summary>{''.join(tables)}</details>")
    name = effects.fidelity_measure(run)
    title = f"Sharpness against fidelity to the unrestored picture, by {name}: {MEASURES[name].about}"
    parts.append(
        markup.figure(plots.pareto_front(run), title, "Mean sharpness against mean fidelity; both are in the ranking.")
    )
    return "".join(parts)


def _time(run: Run) -> str:
    table: Any = effects.stage_seconds(run)
    figure = markup.figure(
        plots.stage_times(run), "Measured work of each stage", "Seconds of each stage; the table has them."
    )
    rows = [
        (markup.text(s), str(int(r["count"])), _number(r["total"], 1), _number(r["median"], 2))
        for s, r in table.iterrows()
    ]
    head = ["stage", "times", "seconds in all", "median seconds"]
    return figure + (markup.table(head, rows, "Measured seconds of the stages", (1, 2, 3)) if rows else "")


def _votes(run: Run) -> str:
    found = votes.agreement(run)
    if found.n + found.ties + found.left_out == 0:
        said = "There are no votes yet. The voting panel of the notebooks shows pairs blind and keeps the votes with the run."
        return f"<p>{said}</p>"
    rows = [_rate("all votes", found)]
    told = {"smaller": f"scores differ by up to {found.gap or 0:.1f}", "larger": f"by more than {found.gap or 0:.1f}"}
    rows += [_rate(told[part], rate) for part, rate in found.by_gap.items()]
    rows += [_rate(f"{flag}: fired on one of the two", rate) for flag, rate in found.by_guard.items()]
    head = ["pairs", "votes", "agreed", "accuracy", "95 %", "ties"]
    note = f"<p>{found.left_out} votes are left out: their pictures were made anew, or have no score.</p>" * bool(
        found.left_out
    )
    said = "How often the picture with the better sharpness was the one preferred; chance is 50 %. Intervals: Wilson."
    return f"<p>{said}</p>" + markup.table(head, rows, "Agreement of sharpness with blind votes", range(1, 6)) + note


def _rate(name: str, rate: votes.Rate) -> tuple[str, ...]:
    accuracy = "not measured" if rate.accuracy is None else f"{rate.accuracy:.0%}"
    ends = "" if rate.interval is None else f"{rate.interval[0]:.0%} to {rate.interval[1]:.0%}"
    return markup.text(name), str(rate.n), str(rate.agreed), accuracy, ends, str(rate.ties)


def _notes(run: Run) -> str:
    notes = [*_aliases(run), *run.identical()]
    for stage, size in (run.batch() or {}).items():
        if size > 1:
            notes.append(f"{stage} ran with {size} pictures in a UNet batch, which changes the last bits of a picture.")
    lacking = {f"{n}: {why}" for r in run.records() for n, why in r.get("scores", {}).get("not_measured", {}).items()}
    notes += [f"not measured, {text}" for text in sorted(lacking)[:8]]
    return markup.bullets([*notes, *CAVEATS])


def _aliases(run: Run) -> list[str]:
    """Values of an axis that ask for the very same work, so that nothing was made of the second."""
    spec, keys = run.about["spec"], {r["cell"]: r["key"] for r in run.records()}
    sizes = [len(spec["prompts"]), len(spec["seeds"]), *map(len, run.axes.values())]
    found = []
    for place, (name, values) in enumerate(run.axes.items(), start=2):
        groups = [group for group in alike(keys, sizes, place) if len(group) > 1] if keys else []
        found += [
            f"{name} {listed([values[i] for i in g])} ask for the same work, which was done once." for g in groups
        ]
    return found


def _versions(run: Run) -> str:
    records = run.records()
    used = list(dict.fromkeys(text for r in records for text in licences(Settings(**r["settings"]))))
    environment = run.about.get("environment", {})
    rows = [("python", environment.get("python")), ("machine", environment.get("machine"))]
    rows += [(n, v or "not installed") for n, v in environment.get("libraries", {}).items()]
    measured = {f"{n} {v}" for r in records for n, v in r.get("scores", {}).get("versions", {}).items()}
    rows += [("scores", ", ".join(sorted(measured)) or "not measured"), ("workbench, of this page", package_version())]
    return markup.bullets(used or ["no picture was made yet"]) + markup.pairs(rows)
