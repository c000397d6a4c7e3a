"""The sweep wall: a run's pictures as a table whose axes one chooses, with a large view and a way to promote a cell."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from typing import Any, TypedDict

import traitlets

from workbench.analysis import layout as walls
from workbench.errors import BadPreset, PresetNotFound, UnreadablePicture, UsageError
from workbench.files import hash_json, open_picture
from workbench.presets import load_preset
from workbench.promotion import candidate, preview
from workbench.report import sheets as report
from workbench.runs import DONE, Record, Run, find_run, plain
from workbench.scores import FIDELITY, GUARDS, MEASURES, REGION_SIGMA, SHARPNESS, SIGMA, Measure
from workbench.settings import Settings, knobs

from .duelling import Duelling, duel_lines
from .panels import Message, Panel, jpeg
from .scripts import script, style

TILE = 160  # px; of the JPEGs in the table
LARGE = 1024  # px; of the opened picture
WIDE = 6  # columns; a notebook in a window of 1280 px has room for five of 112 px
TALL = 12  # rows of a page: as many as one still compares by scrolling; the costliest axes turn pages
ROLES = ("rows", "columns", "pages")


class CellView(TypedDict):
    """A cell in the table.

    `picture`: whether there is one; `version` changes with it. `text`: in the strip below it. `shade`: colour of the strip,
    from 0 to 1. `reason`: why it has no picture or score.
    """

    cell: int
    state: str
    text: str
    flags: list[str]
    reason: str
    shade: float | None
    version: str
    picture: bool


class WallView(TypedDict):
    """The page that the wall shows.

    `dimensions`: {name: how many values}, of those with more than one. `pages`: what each page is of, in words; `page`: which
    one this is. `rows`, `columns`: their labels. `cells`: by row and column. `measures`: {name: in words} to colour by.
    `low`, `high`: the ends of the legend in words, the worst first.
    """

    title: str
    dimensions: dict[str, int]
    pages: list[str]
    page: int
    rows: list[str]
    columns: list[str]
    cells: list[list[CellView]]
    measures: dict[str, str]
    low: str
    high: str


class CellDetail(TypedDict):
    """What the large view says of a cell; of one that was not run only the first three, and nothing of the rest.

    `file`: its picture, as run/path. `parts`: group of measures, and name, number and meaning of each. `settings`: label and
    value. `against`, `diff`: how it differs from production; setting, production's value, this one's.
    """

    cell: int
    title: str
    words: str
    flags: list[str]
    promotable: bool
    file: str
    parts: list[tuple[str, list[list[str]]]]
    settings: list[list[str]]
    against: str
    diff: list[list[str]]


class TilesMessage(Message):
    """Asks for the pictures of these cells; `zoom`: of the faces only."""

    cells: list[int]
    zoom: bool


class PreviewMessage(Message):
    """Asks whom this cell has to beat to become the preset `name`, what that costs and what it would change."""

    cell: int
    name: str


class PromoteMessage(PreviewMessage):
    """Asks to let it meet the champion, and to write it if it is better; `note` is kept with the evidence."""

    note: str


class Wall(Panel):
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

    _esm = script("wall")
    _css = style("wall")

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
        self.observe(lambda _: self.work.submit(self._open), ["opened", "zoom"])

    def refresh(self) -> None:
        """Look at the run again. What is chosen, pinned and opened stays as it is."""
        with self._drawing:
            dimensions = walls.dimensions(self.run)
            sides = {role: [name for name in dimensions if self.roles.get(name) == role] for role in ROLES}
            pages = math.prod(len(dimensions[name]) for name in sides["pages"])
            layout = walls.make_layout(self.run, **sides)
            page = walls.arrange(self.run, layout, min(self.page, pages - 1), self.colour)
            low, high = _ends(page.low, page.high, page.measure)
            self.view = WallView(
                title=self.run.id,
                dimensions={name: len(values) for name, values in dimensions.items() if len(values) > 1},
                pages=page.pages,
                page=page.number,
                rows=page.rows,
                columns=page.columns,
                cells=[[_cell(cell) for cell in row] for row in page.cells],
                measures=self._measures(),
                low=low,
                high=high,
            )

    def _choose(self) -> None:
        self.refresh()
        self.say("")

    def _measures(self) -> dict[str, str]:
        """{measure: its name, unit and better direction in words}, of those that were measured on some cell."""
        scores = [record.get("scores", {}) for record in self.run.records()]
        there = [m for m in MEASURES.values() if any(s.get(m.name) is not None for s in scores)] or [SHARPNESS]
        return {measure.name: f"{measure.name} ({measure.unit}{_direction(measure)})" for measure in there}

    def _record(self, cell: int) -> Record | None:
        return next((record for record in self.run.records() if record["cell"] == cell), None)

    def _open(self) -> None:
        """Fill the large view with the opened cell; it and its picture travel in one message."""
        record = self._record(self.opened) if self.opened >= 0 else None
        settings = Settings.written(record["settings"]) if record else None
        picture = b""
        if record and record["status"] in DONE:
            box = record.get("scores", {}).get("box")
            image = open_picture(self.run.picture(record))
            if self.zoom and box:
                image = image.crop(walls.face_square(box, image.size))
            picture = jpeg(image, LARGE)
        with self.hold_sync():
            self.picture = picture
            self.detail = {} if self.opened < 0 else describe(self.run, self.opened, record)
            self.say("")
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


def describe(run: Run, cell: int, record: Record | None) -> CellDetail:
    """All there is to say of a cell; `record` is None for one that was not run."""
    if record is None:
        return CellDetail(
            cell=cell,
            title=f"Cell {cell}",
            words="not run yet; it has no picture and no score.",
            flags=[],
            promotable=False,
            file="",
            parts=[],
            settings=[],
            against="",
            diff=[],
        )
    scores, settings = record.get("scores", {}), Settings.written(record["settings"])
    value = scores.get(SHARPNESS.name)
    against, diff = _against_production(settings)
    return CellDetail(
        cell=cell,
        title=f"Cell {cell}" + (f": sharpness {value:.1f}" if value is not None else ""),
        words=_words(record),
        flags=scores.get("flags", []),
        promotable=value is not None,
        file=f"{run.id}/{record['picture']}" if record.get("picture") else "",
        parts=_parts(scores) if scores else [],
        settings=[[knob.label, plain(getattr(settings, name))] for name, knob in knobs().items()],
        against=against,
        diff=diff,
    )


def _words(record: Record) -> str:
    """What there is to say of a cell beside its scores: how it ended, and what its stages did not find."""
    because = f": {record['reason']}" if record.get("reason") else ""
    ended = [] if record["status"] == "done" else [record["status"].replace("_", " ") + because]
    return "; ".join([*ended, *record.get("notes", [])])


def _parts(scores: Mapping[str, Any]) -> list[tuple[str, list[list[str]]]]:
    """(group, [name, number in words, what it means] of each of its measures)."""
    missing = scores.get("not_measured", {})
    groups = {
        "Sharpness": [SHARPNESS, SIGMA, MEASURES["eye_distance"]],
        "Blur of each region": [*REGION_SIGMA.values()],
        "Guards": [*GUARDS.values()],
        "Distance to the unrestored picture": [*FIDELITY.values()],
    }
    return [(title, [_part(m, scores, missing) for m in measures]) for title, measures in groups.items()]


def _part(measure: Measure, scores: Mapping[str, Any], missing: Mapping[str, str]) -> list[str]:
    value = scores.get(measure.name)
    if value is None:
        return [measure.name, "not measured", missing.get(measure.name, measure.about)]
    fired = f" ! {measure.flag}" if measure.fires(value) else ""
    return [measure.name, f"{value:.4g} {measure.unit}{fired}", measure.about]


def _against_production(settings: Settings) -> tuple[str, list[list[str]]]:
    """How a cell differs from production: in words, and [setting, production's value, this one's].

    Prompt and seed are left out: they belong to the one picture.
    """
    try:
        production = load_preset("production").settings
    except PresetNotFound:
        return "There is no production preset yet.", []
    except BadPreset as error:
        return f"The production preset cannot be read: {error}", []
    diff = {name: pair for name, pair in production.diff(settings).items() if name not in ("prompt", "seed")}
    words = "Other than production in" if diff else "The same settings as production, but for prompt and seed."
    return words, [[knobs()[n].label, plain(a), plain(b)] for n, (a, b) in diff.items()]


def _cell(cell: walls.Tile) -> CellView:
    return CellView(
        cell=cell.number,
        state=cell.state,
        text=cell.text,
        flags=list(cell.flags),
        reason=cell.reason or "",
        shade=cell.shade,
        version=_version(cell.record),
        picture=cell.state in DONE,
    )


def _version(record: Record | None) -> str:
    """A hash of the picture and of where its face is, so that the page never shows an older tile for it."""
    if not record or not record.get("pixels_sha256"):
        return ""
    return hash_json([record["pixels_sha256"], record.get("scores", {}).get("box")])[:12]


def _direction(measure: Measure) -> str:
    words = {True: ", higher is better", False: ", lower is better", None: ""}
    return words[measure.higher_is_better]


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
        f"{name} = {plain(then)}" if new else f"{name}: {plain(now)} -> {plain(then)}"
        for name, (now, then) in changes.items()
    ]
    return ["a new preset:"] * new + lines
