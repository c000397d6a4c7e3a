"""A run's cells laid out on pages of rows and columns, with what is said of each. Draws nothing and knows no widget."""

from __future__ import annotations

import difflib
import io
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageOps

from workbench.errors import LayoutError, NoPicture, UsageError
from workbench.files import open_picture
from workbench.runs import DONE, Run, plain
from workbench.scores import MEASURES, Measure

MAX_COLUMNS = 12
MAX_ROWS = 24
FACE = 1.1  # side of the square around a face, in sides of its box; at 1.6 a close-up portrait was not enlarged at all
SHORT = 30  # characters of a prompt in a label


@dataclass(frozen=True)
class Layout:
    """Which dimensions of a run are rows, columns and pages; of several, the last runs fastest."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    pages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tile:
    """One place on the wall.

    Attributes:
        number: of the cell in its run.
        state: its record's status; "not_run" where it has none, "left_out" where a search did not ask for it.
        value: the chosen measure's number; None: not measured.
        text: its caption: "38.8", "38.8 !" where a guard fired, "no face", "failed".
        flags: the guards that fired, in words.
        reason: why it failed.
        record: its newest line in the journal.
        shade: 0..1 from the worst to the best of the run (lowest to highest where neither is better); None without value.
    """

    number: int
    state: str
    value: float | None
    text: str
    flags: tuple[str, ...]
    reason: str | None
    record: dict[str, Any] | None
    shade: float | None


@dataclass(frozen=True)
class Page:
    """One page of a wall: `cells[r][c]`, labels (lines "name value") of rows, columns and of all pages.

    `low` and `high` are the smallest and largest number of `measure` in the whole run, so that pages compare; None where
    it was measured nowhere.
    """

    layout: Layout
    number: int
    pages: list[str]
    rows: list[str]
    columns: list[str]
    cells: list[list[Tile]]
    measure: str
    low: float | None
    high: float | None


def dimensions(run: Run) -> dict[str, list[Any]]:
    """{name: values} of everything that numbers a run's cells, slowest first: prompt, seed, then the axes as `run.axes`."""
    spec = run.about["spec"]
    return {"prompt": spec["prompts"], "seed": spec["seeds"], **spec["axes"]}


def default_layout(run: Run) -> Layout:
    """The costliest dimensions are pages, then rows; the last axes are columns, which share the most work.

    At most 12 columns and 24 rows a page. Axes of one value are left out. Where the last axis has more than 12 values, it
    is rows and another one is columns; a run without axes has its seeds as columns.
    """
    sizes = {name: len(values) for name, values in dimensions(run).items()}
    axes = [name for name in run.axes if sizes[name] > 1]
    columns = _last(axes, sizes, MAX_COLUMNS)
    if not columns:
        columns = [next((n for n in reversed(["seed", *axes]) if sizes[n] <= MAX_COLUMNS), "")]
    others = [name for name in ("prompt", "seed", *axes) if name not in columns]
    rows = _last(others, sizes, MAX_ROWS)
    pages = others[: len(others) - len(rows)]
    return Layout(tuple(rows), tuple(name for name in columns if name), tuple(pages))


def _last(names: list[str], sizes: dict[str, int], most: int) -> list[str]:
    """As many of the last names as have at most `most` combinations of values."""
    taken = next((i for i in range(len(names)) if math.prod(sizes[name] for name in names[i:]) <= most), len(names))
    return names[taken:]


def make_layout(
    run: Run, rows: str | Sequence[str] = (), columns: str | Sequence[str] = (), pages: str | Sequence[str] = ()
) -> Layout:
    """A layout by hand: every dimension of the run once; those of one value may be left out. Raises `LayoutError`."""
    known = dimensions(run)
    parts = [(part,) if isinstance(part, str) else tuple(part) for part in (rows, columns, pages)]
    told = [name for part in parts for name in part]
    for name in told:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(known)}"
            raise LayoutError(f"'{name}' is no dimension of {run.id}; {hint}.")
        if told.count(name) > 1:
            raise LayoutError(f"{name} is named twice; rows, columns and pages share the dimensions, each once.")
    if missing := [name for name, values in known.items() if len(values) > 1 and name not in told]:
        raise LayoutError(f"{' and '.join(missing)} must be among the rows, the columns or the pages.")
    return Layout(*parts)


def arrange(run: Run, layout: Layout | None = None, page: int = 0, colour: str = "sharpness") -> Page:
    """One page of the wall as it is now, failures and cells without a record in their places.

    Args:
        layout: `default_layout` where None.
        page: 0 to the number of pages - 1.
        colour: the name of the measure that is shown, one of `measures.MEASURES`. Where cells were scored by several
            versions of it, which do not compare, only those of the present one have a value.

    Raises `LayoutError`, `UsageError` for a measure that does not exist.
    """
    measure, known = measure_named(colour), dimensions(run)
    layout = layout or default_layout(run)
    strides = _strides(known)
    pages, rows, columns = ([*_places(known, strides, names)] for names in (layout.pages, layout.rows, layout.columns))
    if not 0 <= page < len(pages):
        raise LayoutError(f"there is no page {page}; {run.id} has pages 0 to {len(pages) - 1} in this layout.")
    records = {record["cell"]: record for record in run.records()}
    search = run.search()
    asked = None if search is None else set(search["cells"])
    values = values_of(list(records.values()), measure)
    low, high = (min(values.values()), max(values.values())) if values else (None, None)

    def cell(number: int) -> Tile:
        record, value = records.get(number), values.get(number)
        state = record["status"] if record else "not_run" if asked is None or number in asked else "left_out"
        flags = tuple((record or {}).get("scores", {}).get("flags", ()))
        shade = None if value is None or low is None or high is None else _shade(value, low, high, measure)
        text = _text(state, value, flags, measure)
        return Tile(number, state, value, text, flags, (record or {}).get("reason"), record, shade)

    start = pages[page][0]
    cells = [[cell(start + row + column) for column, _ in columns] for row, _ in rows]
    told, left, top = ([text for _, text in part] for part in (pages, rows, columns))
    return Page(layout, page, told, left, top, cells, colour, low, high)


def measure_named(name: str) -> Measure:
    """The measure of that name. Raises `UsageError` with the nearest one."""
    if name in MEASURES:
        return MEASURES[name]
    near = difflib.get_close_matches(name, MEASURES, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(MEASURES)}"
    raise UsageError(f"there is no measure '{name}'; {hint}.")


def values_of(records: list[dict[str, Any]], measure: Measure) -> dict[int, float]:
    """{cell: number} of the records that have the measure; of several versions of it, only the present one's."""
    scores = {r["cell"]: r.get("scores", {}) for r in records}
    measured = {cell: score for cell, score in scores.items() if score.get(measure.name) is not None}
    told = {cell: score.get("versions", {}).get(measure.name, measure.version) for cell, score in measured.items()}
    mixed = len(set(told.values())) > 1
    return {c: s[measure.name] for c, s in measured.items() if not mixed or told[c] == measure.version}


def number_text(value: float, measure: Measure) -> str:
    """A measure's number with the digits that say something: 38.8 points, a similarity of 0.912."""
    narrow = measure.high <= 10 or measure.name.startswith(("sigma", "niqe"))
    return f"{value:.3f}" if narrow else f"{value:.1f}"


def _text(state: str, value: float | None, flags: tuple[str, ...], measure: Measure) -> str:
    if value is not None:
        return number_text(value, measure) + " !" * bool(flags)
    return {"done": "not measured", "not_run": "not run yet"}.get(state, state.replace("_", " "))


def _shade(value: float, low: float, high: float, measure: Measure) -> float:
    place = (value - low) / (high - low) if high > low else 1.0
    return 1 - place if measure.higher_is_better is False and high > low else place


def _strides(known: dict[str, list[Any]]) -> dict[str, int]:
    """How far apart, in cell numbers, two neighbouring values of each dimension are."""
    sizes = [len(values) for values in known.values()]
    return {name: math.prod(sizes[place + 1 :]) for place, name in enumerate(known)}


def _places(known: dict[str, list[Any]], strides: dict[str, int], names: tuple[str, ...]) -> list[tuple[int, str]]:
    """(offset in cell numbers, label) of every combination of the values of `names`."""
    found = []
    for digits in itertools.product(*(range(len(known[name])) for name in names)):
        lines = [_line(name, digit, known[name][digit]) for name, digit in zip(names, digits, strict=True)]
        found.append((sum(strides[name] * digit for name, digit in zip(names, digits, strict=True)), "\n".join(lines)))
    return found


def _line(name: str, digit: int, value: Any) -> str:
    if name != "prompt":
        return f"{name} {plain(value)}"
    return f"prompt {digit + 1}: {value if len(value) <= SHORT else value[: SHORT - 1].rstrip() + '…'}"


def face_square(box: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1) px: the square around a face's box, 1.1 of its longer side, moved and cut to lie in the picture."""
    x0, y0, x1, y1 = box
    width, height = size
    side = max(1, min(round(FACE * max(x1 - x0, y1 - y0)), width, height))
    left = min(max(round((x0 + x1 - side) / 2), 0), width - side)
    top = min(max(round((y0 + y1 - side) / 2), 0), height - side)
    return left, top, left + side, top + side


def tile(run: Run, record: dict[str, Any], side: int = 160, zoom: bool = False) -> bytes:
    """JPEG of a cell's picture, as large as fits into `side` x `side` px.

    `zoom`: only the square around its largest face; the whole picture where none was found. Raises `NoPicture`, and
    `UnreadablePicture` where the file is gone.
    """
    return tiles(run, record, side)[zoom]


def tiles(run: Run, record: dict[str, Any], side: int = 160) -> tuple[bytes, bytes]:
    """Both of what `tile` gives, (whole, zoomed), at the price of opening the picture once."""
    if record["status"] not in DONE:
        raise NoPicture(f"cell {record['cell']} of {run.id} has no picture: {record['reason']}")
    picture = open_picture(run.picture(record))
    whole = _jpeg(picture, side)
    box = record["scores"].get("box")
    return whole, _jpeg(picture.crop(face_square(box, picture.size)), side) if box else whole


def _jpeg(picture: Image.Image, side: int) -> bytes:
    buffer = io.BytesIO()
    ImageOps.contain(picture, (side, side), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
