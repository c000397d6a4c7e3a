"""What the sections of a report page share: numbers and settings in words, pictures as they stand in the page."""

from __future__ import annotations

import base64
import io
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from PIL import Image

from workbench.analysis import Mark
from workbench.files import Chart
from workbench.runs import Record, Run, swept, told

if TYPE_CHECKING:
    import pandas as pd

SIGNS: dict[Mark, str] = {"favourite": "★", "reject": "✕"}


def number_words(value: float, digits: int = 1, sign: bool = False) -> str:
    if math.isnan(value):
        return "not measured"
    # + 0.0: of -0.04 no "-0.0" is left
    return f"{round(value, digits) + 0.0:{'+' if sign else ''}.{digits}f}"


def named_rows(table: pd.DataFrame) -> Iterator[tuple[Hashable, dict[Hashable, Any]]]:
    """(name, {column: value}) of each row."""
    return zip(table.index, table.to_dict("records"), strict=True)


def between_words(low: float, high: float, sign: bool = False) -> str:
    return "" if math.isnan(low) else f"{number_words(low, sign=sign)} to {number_words(high, sign=sign)}"


@dataclass(frozen=True)
class Picture:
    """A picture as it stands in the page: `source` is a `data:` address, `alt` says what is seen."""

    source: str
    width: int
    height: int
    alt: str


@dataclass(frozen=True)
class Plot:
    """A chart with its caption; the drawing takes the page's colours."""

    title: str
    drawing: Markup


def page_picture(data: bytes, alt: str) -> Picture:
    """The bytes of a JPEG or PNG file as a picture of the page."""
    with Image.open(io.BytesIO(data)) as image:
        kind, (width, height) = image.get_format_mimetype(), image.size
    return Picture(f"data:{kind};base64,{base64.b64encode(data).decode()}", width, height, alt)


def page_plot(chart: Chart, title: str) -> Plot:
    return Plot(title, Markup(chart.svg()))


def settings_words(run: Run, record: Record) -> str:
    settings = record["settings"]
    prompt = run.about["spec"]["prompts"].index(settings["prompt"]) + 1
    varied = told({name: settings[name] for name in swept(run.axes)})
    return ", ".join([*[varied] * bool(varied), f"prompt {prompt}", f"seed {settings['seed']}"])


def mark_words(marks: Mapping[int, Mark], cells: Iterable[int]) -> list[str]:
    """How many of some cells a person has marked, with the wall's signs: ["★ 2 favourites"]."""
    counts = Counter(marks[cell] for cell in cells if cell in marks)
    return [f"{sign} {counts[mark]} {mark}{'s' * (counts[mark] > 1)}" for mark, sign in SIGNS.items() if counts[mark]]


def alt_words(run: Run, record: Record) -> str:
    value = record.get("scores", {}).get("sharpness")
    said = record["status"].replace("_", " ") if value is None else f"sharpness {value:.1f}"
    return f"{settings_words(run, record)}: {said}"
