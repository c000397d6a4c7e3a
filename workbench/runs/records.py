"""What the files of a run hold: the types of a line of its journal on a cell, and of `run.json`."""

from __future__ import annotations

from datetime import datetime
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,  # pydantic takes those of `typing` from Python 3.12 on
)

from pydantic import AfterValidator, Field, TypeAdapter
from typing_extensions import TypedDict

from workbench.files import fits
from workbench.settings import Value

# states in which a cell's picture exists; in the last three it has no sharpness
DONE = ("done", "no_face", "face_too_small", "not_measured")

AxisValue = Value | list[Value]
"""Settings that vary together have a list."""
SettingValues = dict[str, Any]
"""{setting: value}, as `Settings(**values)` takes them."""
JsonObject = dict[str, Any]
"""What is written to a file or said as JSON, and has no closer type."""


State = Literal["done", "no_face", "face_too_small", "not_measured", "failed"]
Cells = Annotated[int, Field(ge=0)]


def _instant(text: str) -> str:
    datetime.fromisoformat(text)
    return text


Instant = Annotated[str, AfterValidator(_instant)]
"""A time, as ISO 8601."""


class Scores(TypedDict):
    """Of a cell's picture. Every other measure is there by its name too: a number, None where it was not measured."""

    sharpness: float | None
    faces: int
    box: list[float] | None  # x0, y0, x1, y1 of the largest face, px of the picture
    flags: list[str]  # the guards that fired
    versions: dict[str, str]  # of each score
    not_measured: dict[str, str]  # {measure: why}


class PictureFile(TypedDict):
    """A cell's picture as it was written, by which a damaged or exchanged one is told."""

    bytes: int
    sha256: str
    mtime_ns: int  # when it was written


class Record(TypedDict):
    """The newest line of the journal on a cell.

    A cell that failed has a `reason` and a `traceback`; `scores`, `picture`, `pixels_sha256` and `seconds` are there only
    where `status` is one of `DONE`.
    """

    kind: Literal["cell"]
    cell: Cells
    status: State
    reason: str | None
    key: str  # of the finished picture
    keys: dict[str, str]  # {stage: content key}, in the order in which they run
    settings: SettingValues
    batch: NotRequired[dict[str, int]]  # {stage: pictures in a UNet batch} where it is not 1
    scores: Scores
    picture: str  # path in the run's folder
    pixels_sha256: str
    file: NotRequired[PictureFile]  # records of before do not have it
    seconds: float  # that its last stage took
    notes: NotRequired[list[str]]  # sentences of stages, like that no face was found
    traceback: NotRequired[str]


class FailedRecord(TypedDict):
    """What a `Record` holds in any case."""

    kind: Literal["cell"]
    cell: Cells
    status: State
    reason: str | None
    key: str
    keys: dict[str, str]
    settings: SettingValues
    batch: NotRequired[dict[str, int]]
    traceback: NotRequired[str]


class StageLine(TypedDict):
    """A line of the journal on a result that is in the store."""

    kind: Literal["stage"]
    stage: str
    key: str
    seconds: float
    pid: int
    memory_bytes: NotRequired[int]  # the most of the GPU while it was made; only where it was measured


class BatchLine(TypedDict):
    """A line of the journal on the batch from here on; `why` it is another one than before."""

    kind: Literal["batch"]
    size: dict[str, int]
    why: NotRequired[str]


class MachineLine(TypedDict):
    """A line of the journal on the workers from here on: all are like this one."""

    kind: Literal["machine"]
    digest: str  # equal for workers that make the same pictures
    facts: dict[str, str]  # what they depend on, in words
    host: str
    pid: int


class ResolvedSpec(TypedDict):
    """A spec with preset, prompts and seeds written out. Its hash names the run."""

    preset: str
    base: SettingValues
    prompts: list[str]
    seeds: list[int]
    axes: dict[
        str, list[AxisValue]
    ]  # {setting: its values}; {"width+height": [[768, 768], ...]} where they vary together
    strategy: str
    budget: int | None
    batch_size: NotRequired[int]  # pictures in a UNet batch; left out: "auto"


class RunSpec(ResolvedSpec):
    """As it stands in run.json."""

    name: str


class Environment(TypedDict):
    """What a result depends on besides its settings; a library that is not installed has no version."""

    python: str
    machine: str
    libraries: dict[str, str | None]


class About(TypedDict):
    """run.json."""

    format: int
    name: str
    created: Instant  # with the offset of its time zone
    spec: RunSpec
    cells: Cells
    environment: Environment


class SearchState(TypedDict):
    """search.json: what a search chose last and why."""

    strategy: str
    why: str
    notes: list[str]
    cells: list[int]  # that it wants next
    states: list[dict[str, str]]  # of every setting: {"settings", "state", "reason"}
    blocks: NotRequired[int]  # that it asks for: prompts x seeds without those that repeat another's pictures


ABOUT: TypeAdapter[About] = TypeAdapter(About)
SEARCH: TypeAdapter[SearchState] = TypeAdapter(SearchState)
_MADE: TypeAdapter[Record] = TypeAdapter(Record)
_FAILED: TypeAdapter[FailedRecord] = TypeAdapter(FailedRecord)
_OTHERS: dict[str, TypeAdapter[Any]] = {
    "stage": TypeAdapter(StageLine),
    "batch": TypeAdapter(BatchLine),
    "machine": TypeAdapter(MachineLine),
}


def journal_line(line: object) -> bool:
    """Whether a line of a journal is what this version writes, or of a kind that it does not know."""
    if not isinstance(line, dict) or not isinstance(kind := line.get("kind"), str):
        return False
    made: TypeAdapter[Any] = _FAILED if line.get("status") == "failed" else _MADE
    adapter = made if kind == "cell" else _OTHERS.get(kind)
    return adapter is None or fits(line, adapter)
