"""Favourites and rejects: what a person marked on a run's wall, kept with the run.

`marks.jsonl` in the run's folder grows by one line for each mark and for each mark taken off; nothing in it is rewritten.
Knows no torch.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal, get_args

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from workbench.errors import NoPicture, UsageError
from workbench.files import append_line, fits, read_lines
from workbench.runs import DONE, Run

Mark = Literal["favourite", "reject"]


class MarkLine(TypedDict):
    """A line of `marks.jsonl`: a cell's mark, None where it was taken off; `pixels` as in the cell's record."""

    cell: int
    mark: Mark | None
    pixels: str
    at: str


LINE: TypeAdapter[MarkLine] = TypeAdapter(MarkLine)


def mark_line(line: object) -> bool:
    """Whether a line of `marks.jsonl` is a `MarkLine`."""
    return fits(line, LINE)


def marks_file(run: Run) -> Path:
    return run.path / "marks.jsonl"


def mark_cell(run: Run, cell: int, mark: Mark | None) -> None:
    """Mark a cell's picture, in place of the mark it had; None takes it off. It is on disk when this returns.

    Raises `UsageError` for another mark, `NoPicture` where the cell has none.
    """
    if mark is not None and mark not in get_args(Mark):
        raise UsageError(f"a mark is favourite or reject, or None to take it off, not {mark!r}.")
    pixels = _pixels(run)
    if cell not in pixels:
        raise NoPicture(f"cell {cell} of {run.id} has no picture to mark; mark one that was made.")
    at = datetime.now().astimezone().isoformat(timespec="seconds")
    append_line(marks_file(run), {"cell": cell, "mark": mark, "pixels": pixels[cell], "at": at})


def favourites(run: Run) -> dict[int, Mark]:
    """{cell: "favourite" or "reject"} of the cells that are marked now, in the order of the cells.

    A mark is on a picture: where the cell's picture was made anew and is another one, it no longer counts.
    """
    lines: list[MarkLine] = read_lines(marks_file(run), mark_line)
    if not lines:
        return {}
    pixels = _pixels(run)
    newest = {line["cell"]: line for line in lines}
    found: dict[int, Mark] = {}
    for cell, line in sorted(newest.items()):
        if (mark := line["mark"]) and pixels.get(cell) == line["pixels"]:
            found[cell] = mark
    return found


def _pixels(run: Run) -> dict[int, str]:
    """{cell: `pixels_sha256` of its picture}, of the cells that have one."""
    return {record["cell"]: record["pixels_sha256"] for record in run.records() if record["status"] in DONE}
