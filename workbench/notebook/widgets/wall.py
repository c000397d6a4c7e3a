"""The sweep wall: a run's pictures as a table whose axes one chooses, with a large view and a way to promote a cell."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from typing import TypedDict

import traitlets
from PIL import Image

from workbench.analysis import Mark, favourites, layout as walls, mark_cell
from workbench.errors import NoPicture, UnreadablePicture, UsageError
from workbench.files import hash_json, infotext, open_picture, png_bytes
from workbench.promotion import candidate, preview
from workbench.report import sheets as report
from workbench.runs import DONE, Record, Run, find_run, label, plain
from workbench.scores import FIDELITY, GUARDS, MEASURES, SHARPNESS, Measure
from workbench.settings import Settings

from .cell_detail import cell_title, describe
from .duelling import Duelling, duel_lines
from .open_tuners import line_to_run, load_in_tuner
from .panels import Message, jpeg, sentence
from .picture_files import HandedFile, PicturePanel
from .scripts import script, style

TILE = 288  # px; of the JPEGs in the table
LARGE = 1024  # px; of the opened picture, until somebody looks closer
SHEET = "sheet", "page"  # what can be saved as one picture
WIDE = 6  # columns; a notebook in a window of 1280 px has room for five of 112 px
TALL = 12  # rows of a page: as many as one still compares by scrolling; the costliest axes turn pages
ROLES = ("rows", "columns", "pages")
QUALITY = 95  # of the opened picture: at 80 the ringing around eyelashes is taken for sharpness
GROUPS = ("Score", "Guards", "Likeness to the unrestored picture", "Raw measures")


class CellView(TypedDict):
    """A cell in the table.

    `picture`: whether there is one; `version` changes with it. `text`: in the strip below it. `shade`: colour of the strip,
    from 0 to 1. `reason`: why it has no picture or score. `mark`: "favourite", "reject" or "".
    """

    cell: int
    state: str
    text: str
    flags: list[str]
    reason: str
    shade: float | None
    version: str
    picture: bool
    mark: str


class WallView(TypedDict):
    """The page that the wall shows.

    `dimensions`: {name: its label}, of those with more than one value. `pages`: what each page is of, in words; `page`: which
    one this is. `rows`, `columns`: their labels. `cells`: by row and column. `measures`: groups of those to colour by, and
    name and words of each.
    `low`, `high`: the ends of the legend in words, the worst first.
    """

    title: str
    dimensions: dict[str, str]
    pages: list[str]
    page: int
    rows: list[str]
    columns: list[str]
    cells: list[list[CellView]]
    measures: list[tuple[str, list[tuple[str, str]]]]
    low: str
    high: str


class TilesMessage(Message):
    """Asks for the pictures of these cells; `zoom`: of the faces only."""

    cells: list[int]
    zoom: bool


class MarkMessage(Message):
    """Asks to mark a cell, or with None to take its mark off."""

    cell: int
    mark: Mark | None


class TuneMessage(Message):
    """Asks to open a cell's settings in a tuner."""

    cell: int


class PreviewMessage(Message):
    """Asks whom this cell has to beat to become the preset `name`, what that costs and what it would change."""

    cell: int
    name: str


class PromoteMessage(PreviewMessage):
    """Asks to let it meet the champion, and to write it if it is better; `note` is kept with the evidence."""

    note: str


class Wall(PicturePanel):
    """A run's cells as a table.

    Attributes:
        view: a `WallView`.
        roles: {dimension: "rows", "columns" or "pages"}; dimensions are prompt, seed and the run's axes.
        page: which page is shown, from 0.
        colour: the measure in the cells' strips.
        zoom: whether every picture is shown as the square around its face.
        pinned: {"rows": labels, "columns": labels} that stand first.
        opened: number of the cell in the large view, -1 for none.
        detail, picture: a `CellDetail` of that cell, and the JPEG of its picture.
        selected: `Settings` of that cell, None where it was not run: `wall.observe(f, "selected")`, or
            `Tuner(wall.selected)`.
    """

    _esm = script("wall", "actions", "zooming")
    _css = style("wall", "actions", "zooming")

    view = traitlets.Dict().tag(sync=True)
    roles = traitlets.Dict().tag(sync=True)
    page = traitlets.Int(0).tag(sync=True)
    colour = traitlets.Unicode(SHARPNESS.name).tag(sync=True)
    zoom = traitlets.Bool(False).tag(sync=True)
    pinned = traitlets.Dict({"rows": [], "columns": []}).tag(sync=True)
    opened = traitlets.Int(-1).tag(sync=True)
    detail = traitlets.Dict().tag(sync=True)
    picture = traitlets.Bytes().tag(sync=True)
    selected = traitlets.Instance(Settings, allow_none=True)

    def __init__(self, run: Run | str, *, roles: Mapping[str, str] | None = None, **traits: object) -> None:
        """`run`: as `wb.find_run` takes it; `roles`: of those dimensions that are not to have their default role.

        Raises `RunNotFound`, `BadRun`, and `UsageError` for roles that do not fit.
        """
        self.run = find_run(run)
        self._drawing = threading.Lock()
        self._duelling = Duelling(self.say, self._settled)
        super().__init__(**traits, roles={**_default_roles(self.run), **(roles or {})})
        self.refresh()
        if self.opened >= 0:
            self._open()
        self.observe(lambda _: self.work.submit(self._choose), ["roles", "page", "colour"])
        self.observe(lambda _: self.work.submit(self._open), "opened")

    def refresh(self) -> None:
        """Look at the run again. What is chosen, pinned and opened stays as it is."""
        with self._drawing:
            dimensions = walls.dimensions(self.run)
            sides = {role: [name for name in dimensions if self.roles.get(name) == role] for role in ROLES}
            pages = math.prod(len(dimensions[name]) for name in sides["pages"])
            layout = walls.make_layout(self.run, **sides)
            page = walls.arrange(self.run, layout, min(self.page, pages - 1), self.colour)
            low, high = _ends(page.low, page.high, page.measure)
            marks = favourites(self.run)
            self.view = WallView(
                title=self.run.id,
                dimensions={name: label(name) for name, values in dimensions.items() if len(values) > 1},
                pages=page.pages,
                page=page.number,
                rows=page.rows,
                columns=page.columns,
                cells=[[_cell(cell, marks.get(cell.number, "")) for cell in row] for row in page.cells],
                measures=self._measures(),
                low=low,
                high=high,
            )

    def _choose(self) -> None:
        self.refresh()
        self.say("")

    def _measures(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """(group, [measure, its name, unit and better direction in words]), of those that were measured on some cell."""
        scores = [record.get("scores", {}) for record in self.run.records()]
        there = [m for m in MEASURES.values() if any(s.get(m.name) is not None for s in scores)]
        groups = [(title, [(m.name, _words(m)) for m in there if _group(m) == title]) for title in GROUPS]
        return [group for group in groups if group[1]] or [(GROUPS[0], [(SHARPNESS.name, _words(SHARPNESS))])]

    def _record(self, cell: int) -> Record | None:
        return next((record for record in self.run.records() if record["cell"] == cell), None)

    def _open(self) -> None:
        """Fill the large view with the opened cell; it and its picture travel in one message."""
        record = self._record(self.opened) if self.opened >= 0 else None
        settings = Settings.written(record["settings"]) if record else None
        picture, size, gone = b"", (0, 0), ""
        if record and record["status"] in DONE:
            try:
                image = open_picture(self.run.picture(record))
                picture, size = jpeg(image, LARGE, QUALITY), image.size
            except UnreadablePicture as error:  # the large view shows this cell all the same, not the one before
                gone = sentence(error)
        with self.hold_sync():
            self.picture = picture
            self.detail = {} if self.opened < 0 else describe(self.run, self.opened, record, size)
            self.say(gone, error=bool(gone))
        self.selected = settings

    def _settled(self) -> None:
        """The large view says how the cell differs from production, which may be another one now."""
        said = dict(self.said)
        self._open()
        self.said = said

    # --- what the page asks for

    def _do_tiles(self, message: TilesMessage) -> None:
        """Send the pictures of some cells; the page asks for the visible ones, a few at a time."""
        wanted, zoom = set(message["cells"]), message["zoom"]
        tiles, missing = {}, {}
        for record in self.run.records():
            if record["cell"] in wanted and record["status"] in DONE:
                name = f"{record['cell']}:{str(zoom).lower()}:{_version(record)}"
                try:
                    tiles[name] = walls.tile(self.run, record, TILE, zoom)
                except UnreadablePicture as error:
                    missing[name] = str(error)
        self.send({"tiles": [*tiles], "missing": missing}, buffers=[*tiles.values()])

    def file_of(self, key: str) -> HandedFile:
        """The finished picture of a cell, or "page" (this page of the wall) or "sheet" (all cells) as one picture."""
        if key in SHEET:
            return HandedFile(f"{self.run.id}-{key}.png", "", lambda: png_bytes(self._sheet(key)))
        record = self._record(int(key))
        if record is None or record["status"] not in DONE:
            raise NoPicture(
                f"cell {key} of {self.run.id} has no picture: {record['reason'] if record else 'it was not run'}."
            )
        settings = Settings.written(record["settings"])
        return HandedFile(f"{self.run.id}-{int(key):04d}.png", infotext(settings), self.run.picture(record).read_bytes)

    def _sheet(self, key: str) -> Image.Image:
        if key == "sheet":
            return report.sheet(self.run, TILE)
        sides = {role: [name for name in walls.dimensions(self.run) if self.roles.get(name) == role] for role in ROLES}
        page = walls.arrange(self.run, walls.make_layout(self.run, **sides), self.view["page"], self.colour)
        return report.page_sheet(self.run, page, TILE, faces=self.zoom)

    def _do_mark(self, message: MarkMessage) -> None:
        mark_cell(self.run, message["cell"], message["mark"])
        self.refresh()

    def _do_tune(self, message: TuneMessage) -> None:
        """Load a cell's settings into the tuner that is open, or say how to open one."""
        record = self._record(message["cell"])
        if record is None:
            raise UsageError(f"cell {message['cell']} has not been run; open one that was.")
        title = cell_title(self.run, message["cell"])
        if load_in_tuner(Settings.written(record["settings"])):
            self.say(f"The tuner of this notebook shows {title} now.")
            self.send({"line": ""})
        else:
            self.say("No tuner is open in this notebook. Run this in a new cell:")
            self.send({"line": line_to_run(self)})

    def _do_preview(self, message: PreviewMessage) -> None:
        """Send whom a cell has to beat, on what and at what cost, and what promoting it would change in a preset."""
        record = self._record(message["cell"])
        if record is None:
            raise UsageError(f"cell {message['cell']} has not been run, so that there is nothing to promote.")
        wanted = candidate(self.run, cell=message["cell"], name=message["name"])
        changes = _lines(preview(message["name"], Settings.written(record["settings"])))
        self.send({"duel": duel_lines(wanted), "preview": changes, "name": message["name"], "cell": message["cell"]})

    def _do_promote(self, message: PromoteMessage) -> None:
        cell, name, note = message["cell"], message["name"], message["note"]
        self._duelling.begin(lambda: candidate(self.run, cell=cell, name=name, note=note))

    def _static(self) -> None:
        from IPython.display import Image, display

        display(Image(report.jpeg(report.sheet(self.run, tile=TILE))))


def _default_roles(run: Run) -> dict[str, str]:
    """As `walls.default_layout`, but no wider than a notebook, which is read by scrolling down, not sideways."""
    sizes = {name: len(values) for name, values in walls.dimensions(run).items()}
    layout = walls.default_layout(run)
    pages, rows, columns = [*layout.pages], [*layout.rows], [*layout.columns]
    while len(columns) > 1 and math.prod(sizes[name] for name in columns) > WIDE:
        rows.append(columns.pop(0))
    while len(rows) > 1 and math.prod(sizes[name] for name in rows) > TALL:
        pages.append(rows.pop(0))
    return {
        name: role
        for role, names in zip(ROLES, (rows, columns, pages), strict=True)
        for name in names
        if sizes[name] > 1
    }


def _cell(cell: walls.Tile, mark: str) -> CellView:
    return CellView(
        cell=cell.number,
        state=cell.state,
        text=cell.text,
        flags=list(cell.flags),
        reason=cell.reason or "",
        shade=cell.shade,
        version=_version(cell.record),
        picture=cell.state in DONE,
        mark=mark,
    )


def _version(record: Record | None) -> str:
    """A hash of the picture and of where its face is, so that the page never shows an older tile for it."""
    if not record or not record.get("pixels_sha256"):
        return ""
    return hash_json([record["pixels_sha256"], record.get("scores", {}).get("box")])[:12]


def _words(measure: Measure) -> str:
    better = {True: ", higher is better", False: ", lower is better", None: ""}
    return f"{measure.label} ({measure.unit}{better[measure.higher_is_better]})"


def _group(measure: Measure) -> str:
    if measure == SHARPNESS:
        return GROUPS[0]
    return GROUPS[1] if measure.name in GUARDS else GROUPS[2] if measure.name in FIDELITY else GROUPS[3]


def _ends(low: float | None, high: float | None, name: str) -> tuple[str, str]:
    """The legend's two ends in words, the worst first."""
    if low is None or high is None:
        return "", ""
    if MEASURES[name].higher_is_better is False:
        low, high = high, low
    return f"{low:.4g}", f"{high:.4g}"


def _lines(changes: Mapping[str, tuple[object, object]]) -> list[str]:
    """What a promotion would change, one setting a line."""
    if not changes:
        return ["no setting changes; the evidence is replaced by this run's."]
    new = all(before is None for before, _ in changes.values())
    lines = [
        f"{label(name)} = {plain(then)}" if new else f"{label(name)}: {plain(now)} -> {plain(then)}"
        for name, (now, then) in changes.items()
    ]
    return ["a new preset:"] * new + lines
