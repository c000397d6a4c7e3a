"""A run's cells laid out on pages of rows and columns, with what is said of each.

The wall, the contact sheet and the report all take it from here. Draws nothing and knows no widget.
"""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workbench.errors import LayoutError, NoPicture, UsageError
from workbench.files import fitted, jpeg_bytes, open_picture
from workbench.runs import DONE, Record, Run, label, plain
from workbench.scores import MEASURES, Measure

MAX_COLUMNS = 12
MAX_ROWS = 24
FACE = (
    1.1  # side of the square around a face, in sides of its box; with 1.6 a close-up portrait was not enlarged at all
)
SHORT = 30  # characters of a prompt in a label


@dataclass(frozen=True)
class Layout:
    """Which dimensions of a run are its rows, columns and pages. Of several, the last one's values change fastest."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    pages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tile:
    """One place on the wall.

    Attributes:
        number: number of the cell in its run.
        state: its record's status; "not_run" where it has none, "left_out" where a search did not ask for it.
        value: the number of the measure that is shown; None: not measured.
        text: what stands under it: "38.8", "38.8 !" where a guard fired, "no face", "failed".
        flags: the guards that fired, in words.
        reason: why it failed; None where it did not.
        record: its newest line in the journal; None where it has none.
        shade: 0 (the worst of the run) to 1 (the best); of a measure that has no better direction, lowest to highest. None
            without a value.
    """

    number: int
    state: str
    value: float | None
    text: str
    flags: tuple[str, ...]
    reason: str | None
    record: Record | None
    shade: float | None


@dataclass(frozen=True)
class Page:
    """One page of a wall.

    Attributes:
        number: which page this is, from 0.
        pages, rows, columns: labels of all pages, and of this one's rows and columns: one line "Label value" a dimension.
        cells: `cells[r][c]` stands in row r and column c.
        measure: name of the measure that is shown.
        low, high: its smallest and largest number in the whole run, so that pages compare; None where it was measured
            nowhere.
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


def dimensions(run: Run) -> Mapping[str, Sequence[object]]:
    """{name: values} of what numbers a run's cells: prompt, seed, then the axes in the order of `run.axes`.

    From one cell to the next the last dimension changes first.
    """
    spec = run.about["spec"]
    return {"prompt": spec["prompts"], "seed": spec["seeds"], **spec["axes"]}


def default_layout(run: Run) -> Layout:
    """The layout of a run where nobody asks for another: the last axes are columns, what comes before them rows, then pages.

    At most 12 columns, and 24 rows a page. Axes of one value are left out. Where the last axis has more than 12 values, it
    makes rows and another dimension makes the columns; a run without axes has its seeds as columns.
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


def one_page(run: Run) -> Layout:
    """`default_layout` with its pages under one another, as one page of any length."""
    layout = default_layout(run)
    return Layout(layout.pages + layout.rows, layout.columns)


def _last(names: list[str], sizes: dict[str, int], most: int) -> list[str]:
    """The longest tail of `names` with at most `most` combinations of their values."""
    taken = next((i for i in range(len(names)) if math.prod(sizes[name] for name in names[i:]) <= most), len(names))
    return names[taken:]


def make_layout(
    run: Run, rows: str | Sequence[str] = (), columns: str | Sequence[str] = (), pages: str | Sequence[str] = ()
) -> Layout:
    """A layout by hand. It names every dimension of the run once; those of one value may be left out.

    Raises `LayoutError`.
    """
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
    """One page of the wall as it is now; failures, and cells without a record, stand in their places.

    Args:
        layout: None: `default_layout`.
        page: 0 to the number of pages - 1.
        colour: the name of the measure that is shown, a key of `scores.MEASURES`. Where cells were scored by several
            versions of it, which do not compare, only those of the present version have a value.

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


def values_of(records: list[Record], measure: Measure) -> dict[int, float]:
    """{cell: number} of the records that have this measure.

    Where they were scored by several versions of it, only those of the present version.
    """
    scores = {r["cell"]: r.get("scores", {}) for r in records}
    measured = {cell: score for cell, score in scores.items() if score.get(measure.name) is not None}
    told = {cell: score.get("versions", {}).get(measure.name, measure.version) for cell, score in measured.items()}
    mixed = len(set(told.values())) > 1
    return {c: s[measure.name] for c, s in measured.items() if not mixed or told[c] == measure.version}


def number_text(value: float, measure: Measure) -> str:
    """A measure's number with as many digits as say something: "38.8" points, a similarity of "0.912"."""
    narrow = measure.high <= 10 or measure.name.startswith(("sigma", "niqe"))
    return f"{value:.3f}" if narrow else f"{value:.1f}"


def _text(state: str, value: float | None, flags: tuple[str, ...], measure: Measure) -> str:
    if value is not None:
        return number_text(value, measure) + " !" * bool(flags)
    return {"done": "not measured", "not_run": "not run yet"}.get(state, state.replace("_", " "))


def _shade(value: float, low: float, high: float, measure: Measure) -> float:
    place = (value - low) / (high - low) if high > low else 1.0
    return 1 - place if measure.higher_is_better is False and high > low else place


def _strides(known: Mapping[str, Sequence[object]]) -> dict[str, int]:
    """{dimension: how much a cell's number grows from one of its values to the next}."""
    sizes = [len(values) for values in known.values()]
    return {name: math.prod(sizes[place + 1 :]) for place, name in enumerate(known)}


def _places(
    known: Mapping[str, Sequence[object]], strides: dict[str, int], names: tuple[str, ...]
) -> list[tuple[int, str]]:
    """(what it adds to a cell's number, label) of every combination of the values of `names`."""
    found = []
    for digits in itertools.product(*(range(len(known[name])) for name in names)):
        lines = [_line(name, digit, known[name][digit]) for name, digit in zip(names, digits, strict=True)]
        found.append((sum(strides[name] * digit for name, digit in zip(names, digits, strict=True)), "\n".join(lines)))
    return found


def _line(name: str, digit: int, value: object) -> str:
    if name != "prompt":
        return f"{label(name)} {plain(value)}"
    prompt = str(value)
    return f"Prompt {digit + 1}: {prompt if len(prompt) <= SHORT else prompt[: SHORT - 1].rstrip() + '…'}"


def face_square(box: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The square around a face, as (x0, y0, x1, y1) in px.

    Its side is 1.1 of the longer side of `box` (x0, y0, x1, y1), at most the shorter one of the picture, whose `size` is
    (width, height); near an edge it is moved to lie inside.
    """
    x0, y0, x1, y1 = box
    width, height = size
    side = max(1, min(round(FACE * max(x1 - x0, y1 - y0)), width, height))
    left = min(max(round((x0 + x1 - side) / 2), 0), width - side)
    top = min(max(round((y0 + y1 - side) / 2), 0), height - side)
    return left, top, left + side, top + side


def tile(run: Run, record: Record, side: int = 160, zoom: bool = False) -> bytes:
    """JPEG of a cell's picture, as large as fits into `side` x `side` px.

    `zoom`: only the square around its largest face; the whole picture where none was found. Raises `NoPicture`, and
    `UnreadablePicture` where the file is gone.
    """
    return tiles(run, record, side)[zoom]


def tiles(run: Run, record: Record, side: int = 160) -> tuple[bytes, bytes]:
    """(the whole picture, the square around its face) as `tile` gives them, for one opening of the file."""
    if record["status"] not in DONE:
        raise NoPicture(f"cell {record['cell']} of {run.id} has no picture: {record['reason']}")
    picture = open_picture(run.picture(record))
    whole = jpeg_bytes(fitted(picture, side))
    box = record["scores"].get("box")
    return whole, jpeg_bytes(fitted(picture.crop(face_square(box, picture.size)), side)) if box else whole
