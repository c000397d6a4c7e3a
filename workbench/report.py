"""Pictures of a run: the labelled contact sheet, the heat map of the score, the strip of one cell's stages.

matplotlib is used through Figure and its Agg canvas, never pyplot, whose global state breaks under notebook threads.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from .files import write_atomic
from .images import contact_sheet, open_picture
from .runs import DONE, Run, swept

MAX_COLUMNS = 12


def sheet(run: Run, tile: int = 128) -> Image.Image:
    """Every cell of a run, failures and missing faces shown in place; the last axes are the columns."""
    about = run.about
    spec = about["spec"]
    records = {record["cell"]: record for record in run.records()}
    axes = list(spec["axes"].items())
    columns: list[dict[str, Any]] = [{}]
    while axes and len(columns) * len(axes[-1][1]) <= MAX_COLUMNS:
        name, values = axes.pop()
        columns = [{name: value, **rest} for value in values for rest in columns]
    rows: list[dict[str, Any]] = [{"prompt": p, "seed": s} for p in spec["prompts"] for s in spec["seeds"]]
    for name, values in axes:
        rows = [{**row, name: value} for row in rows for value in values]
    tiles, captions = [], []
    for r in range(len(rows)):
        line = [records.get(r * len(columns) + c) for c in range(len(columns))]
        tiles.append([_tile(run, record) for record in line])
        captions.append([_caption(record) for record in line])
    labels = [_label(row, spec) for row in rows]
    title = f"{about['name']}: sharpness of the face under each picture, ! where a guard fired"
    return contact_sheet(tiles, labels, [_label(c, spec) for c in columns], captions=captions, tile=tile, title=title)


def _tile(run: Run, record: dict[str, Any] | None) -> Image.Image | str:
    if record is None:
        return "not run yet"
    if record["status"] not in DONE:
        return f"failed: {record['reason']}"
    return open_picture(run.picture(record))


def _caption(record: dict[str, Any] | None) -> str:
    if record is None or record["status"] == "failed":
        return ""
    value, flags = record["scores"]["sharpness"], record["scores"].get("flags", [])
    if value is None:
        return record["status"].replace("_", " ")
    return f"{value:.1f}{' !' * bool(flags)}"


def _label(values: dict[str, Any], spec: dict[str, Any]) -> str:
    shown = dict(values)
    if "prompt" in shown:
        shown["prompt"] = f"{spec['prompts'].index(shown['prompt']) + 1}: {_short(shown['prompt'], 30)}"
    return "\n".join(f"{name} {_plain(value)}" for name, value in shown.items())


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def heat_map(run: Run, path: Path) -> Path:
    """Mean sharpness over prompts and seeds: the two first axes against each other, one panel per value of the rest."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    summary: Any = run.summary().reset_index()
    names = [name for name in swept(run.axes) if summary[name].nunique() > 1]
    if names:  # as the spec lists the values, not best first as the summary does
        table: Any = run.table()
        places = {name: {value: i for i, value in enumerate(dict.fromkeys(table[name]))} for name in names}
        summary = summary.sort_values(names, key=lambda column: column.map(places[column.name]))
    y, x = (names + [None, None])[:2] if len(names) != 1 else (None, names[0])
    rest = names[2:]
    panels: list[Any] = list(summary.groupby(rest, sort=False)) if rest else [((), summary)]
    panels = panels[:12]
    figure = Figure(figsize=(max(4.2, 3.3 * len(panels) + 1.2), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    low, high = summary["mean"].min(), summary["mean"].max()
    image = None
    for i, (values, part) in enumerate(panels):
        ax = figure.add_subplot(1, len(panels), i + 1)
        grid, xs, ys = _grid(part, x, y)
        image = ax.imshow(
            grid, cmap="cividis", vmin=low, vmax=high, aspect="auto"
        )  # cividis: safe for colour-blind eyes
        ax.set_xticks(range(len(xs)), [_plain(v) for v in xs])
        ax.set_yticks(range(len(ys)), [_plain(v) for v in ys])
        ax.set_xlabel(x or "")
        ax.set_ylabel(y or "")
        ax.set_title(
            ", ".join(f"{n} {_plain(v)}" for n, v in zip(rest, values, strict=True)) or "mean sharpness", fontsize=10
        )
        for r, line in enumerate(grid):
            for c, value in enumerate(line):
                dark = value < (low + high) / 2
                text = "–" if value != value else f"{value:.1f}"
                ax.text(c, r, text, ha="center", va="center", fontsize=9, color="white" if dark else "black")
    if image is not None:
        figure.colorbar(image, ax=figure.axes, label="sharpness, 0–100, higher is sharper")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_atomic(path, buffer.getvalue())
    return path


def _grid(part: Any, x: str | None, y: str | None) -> tuple[list[list[float]], list[Any], list[Any]]:
    xs = list(dict.fromkeys(part[x])) if x else [""]
    ys = list(dict.fromkeys(part[y])) if y else [""]
    is_x: Callable[[Any], Any] = (lambda v: part[x] == v) if x else (lambda v: True)
    is_y: Callable[[Any], Any] = (lambda v: part[y] == v) if y else (lambda v: True)

    def mean(row: Any, column: Any) -> float:
        chosen = part[is_x(column) & is_y(row)] if x or y else part
        return float(chosen["mean"].mean()) if len(chosen) else float("nan")

    return [[mean(row, column) for column in xs] for row in ys], xs, ys


def jpeg(image: Image.Image, quality: int = 80) -> bytes:
    """JPEG bytes for a notebook's output: eight PNGs of 1024 px made a notebook file of 33 MB."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def strip(stages: dict[str, Image.Image], tile: int = 320) -> Image.Image:
    """One picture's stages side by side, labelled with their sizes."""
    columns = [f"{name} {image.width}x{image.height}" for name, image in stages.items()]
    return contact_sheet([list(stages.values())], [""], columns, tile=tile)
