"""Pictures of a run: the labelled contact sheet, the heat map of the score, the strip of one cell's stages.

matplotlib is used through Figure and its Agg canvas, never pyplot, whose global state breaks under notebook threads.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from workbench.files import contact_sheet, open_picture, write_atomic
from workbench.runs import DONE, Run, plain

MAX_COLUMNS = 12
MAX_PIXELS = 40e6  # of a contact sheet's tiles: 10,000 of 128 px would be 200 megapixels, 600 MB
MIN_TILE = 48


def sheet(run: Run, tile: int = 128) -> Image.Image:
    """Every cell of a run, failures and missing faces shown in place; the last axes are the columns.

    Tiles get smaller where there are very many, down to 48 px. Of a search, which leaves most cells out, only the rows
    with a picture are shown.
    """
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
    lines = [[records.get(r * len(columns) + c) for c in range(len(columns))] for r in range(len(rows))]
    shown = [r for r, line in enumerate(lines) if any(line) or spec.get("strategy", "grid") == "grid"]
    tile = min(tile, max(MIN_TILE, int((MAX_PIXELS / max(1, len(shown) * len(columns))) ** 0.5)))
    tiles = [[_tile(run, record, tile) for record in lines[r]] for r in shown]
    captions = [[_caption(record) for record in lines[r]] for r in shown]
    labels = [_label(rows[r], spec) for r in shown]
    title = f"{about['name']}: sharpness of the face under each picture, ! where a guard fired"
    return contact_sheet(tiles, labels, [_label(c, spec) for c in columns], captions=captions, tile=tile, title=title)


def _tile(run: Run, record: dict[str, Any] | None, tile: int) -> Image.Image | str:
    if record is None:
        return "not run yet"
    if record["status"] not in DONE:
        return f"failed: {record['reason']}"
    # shrunk as it is read: 1,000 pictures of 1536 px are 7 GB
    return ImageOps.contain(open_picture(run.picture(record)), (tile, tile), Image.Resampling.LANCZOS)


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
    return "\n".join(f"{name} {plain(value)}" for name, value in shown.items())


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def heat_map(run: Run, path: Path) -> Path:
    """Mean sharpness over prompts and seeds: the two first axes against each other, one panel per value of the rest."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    summary: Any = run.summary(merged=False).reset_index()
    for name in run.axes:  # one dimension for each axis, also where it varies several settings
        parts = ["base_cfg" if part == "cfg" else part for part in name.split("+")]
        summary[name] = (
            [plain(row) for row in summary[parts].itertuples(index=False)] if len(parts) > 1 else summary[parts[0]]
        )
    names = [name for name in run.axes if summary[name].nunique() > 1]
    if names:  # as the spec lists the values, not best first as the summary does
        places = {
            name: {plain(v) if "+" in name else v: i for i, v in enumerate(values)} for name, values in run.axes.items()
        }
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
        ax.set_xticks(range(len(xs)), [plain(v) for v in xs])
        ax.set_yticks(range(len(ys)), [plain(v) for v in ys])
        ax.set_xlabel(x or "")
        ax.set_ylabel(y or "")
        ax.set_title(
            ", ".join(f"{n} {plain(v)}" for n, v in zip(rest, values, strict=True)) or "mean sharpness", fontsize=10
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
