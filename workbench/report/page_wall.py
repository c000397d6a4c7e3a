"""The wall of a report page: every cell of the run in its place, with pictures as large as there is room for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workbench.analysis import Mark, Page, Tile, arrange, default_layout, favourites, tiles
from workbench.runs import DONE, Run
from workbench.scores import SHARPNESS

from . import plots
from .page_parts import (
    SIGNS,
    Picture,
    alt_words,
    page_picture,
)

ROOM = 2_000_000  # bytes of base64 for the wall's pictures; with plots and thumbnails the file stays below 3 MB
SIDES = (160, 128, 96, 64, 48)  # px of a tile: the largest for which the wall has room


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


def wall_pages(run: Run) -> WallPages:
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
    marks = favourites(run)
    title = page.pages[page.number].replace("\n", ", ") or "All cells"
    rows = [
        (label, [_wall_cell(run, cell, pictures, marks) for cell in line])
        for label, line in zip(page.rows, page.cells, strict=True)
        if any(cell.state != "left_out" for cell in line)
    ]
    return WallPage(title, page.columns, rows)


def _wall_cell(run: Run, cell: Tile, pictures: dict[int, tuple[bytes, bytes]], marks: Mapping[int, Mark]) -> WallCell:
    whole = face = None
    mark = [SIGNS[marks[cell.number]]] if cell.number in marks else []
    if cell.record is not None and cell.number in pictures:
        alt = alt_words(run, cell.record)
        whole, face = map(page_picture, pictures[cell.number], (alt, f"face of {alt}"))
    return WallCell(
        said=" ".join([f"{cell.text}: {cell.reason}" if cell.reason else cell.text, *mark]),
        style="" if cell.shade is None else _style(cell.shade),
        bad=cell.shade is None and cell.state not in ("done", "not_run", "left_out"),
        whole=whole,
        face=face,
    )
