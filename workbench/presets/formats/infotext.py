"""A1111's text beside a picture: the prompts, and below them a line of fields. The one reader of it in the house."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

NAME = re.compile(r"\s*(\w[\w /-]{0,60}):\s*")
QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"(?=\s*(?:,|$))')
SIZE = re.compile(r"(\d+)x(\d+)")
NEGATIVE = "Negative prompt:"
TEMPLATES = ("Template:", "Negative Template:")  # lines of the Dynamic Prompts extension, below the fields
LINE = 20_000  # characters of a line of fields; no tool writes as many
FEWEST = 3  # fields that make a line one of fields, for A1111 as well


@dataclass(frozen=True)
class Infotext:
    """What the text says.

    Attributes:
        fields: {name, as it is written: value, without quotes}; of a name that comes twice, the last.
    """

    prompt: str
    negative_prompt: str
    fields: dict[str, str] = field(default_factory=dict)


def parse_infotext(text: str) -> Infotext | None:
    """The prompts and fields of a text; None where no line of it is one of fields."""
    lines = text.replace("\r\n", "\n").strip().split("\n")
    last, below = _without_templates(lines)
    found = dict(_fields(lines[last][:LINE]))
    if len(found) < FEWEST:
        return None
    begins = next((i for i, line in enumerate(lines[:last]) if line.lstrip().startswith(NEGATIVE)), last)
    negative = "\n".join(lines[begins:last]).lstrip().removeprefix(NEGATIVE)
    return Infotext("\n".join(lines[:begins]).strip(), negative.strip(), found | below)


def _without_templates(lines: list[str]) -> tuple[int, dict[str, str]]:
    """(the number of the line of fields, the templates below it): the last line, unless templates follow one of fields."""
    first = next((i for i, line in enumerate(lines) if i and line.startswith(TEMPLATES)), len(lines))
    if first == len(lines) or len(dict(_fields(lines[first - 1][:LINE]))) < FEWEST:
        return len(lines) - 1, {}
    below, name = dict[str, str](), ""
    for line in lines[first:]:
        begun = next((each for each in TEMPLATES if line.startswith(each)), None)
        name = begun[:-1] if begun else name
        below[name] = line.removeprefix(begun).strip() if begun else f"{below[name]}\n{line}"
    return first - 1, below


def _fields(line: str) -> Iterator[tuple[str, str]]:
    """(name, value) of each field. What is none is passed over up to the next comma, as A1111 does."""
    place = 0
    while place < len(line):
        name = NAME.match(line, place)
        if name:
            value, place = _value(line, name.end())
            yield name[1].strip(), value
        comma = line.find(",", place)
        place = len(line) if comma < 0 else comma + 1


def _value(line: str, place: int) -> tuple[str, int]:
    """(a value, where it ends): JSON in quotes, Civitai's bare JSON, or all up to the next comma."""
    if quoted := QUOTED.match(line, place):
        return _unquoted(quoted[0]), quoted.end()
    if line[place : place + 1] in ("[", "{") and (end := _json_end(line, place)):
        return line[place:end], end
    comma = line.find(",", place)
    end = len(line) if comma < 0 else comma
    return line[place:end].strip(), end


def _json_end(line: str, place: int) -> int:
    try:
        return json.JSONDecoder().raw_decode(line, place)[1]
    except (ValueError, RecursionError):
        return 0


def _unquoted(value: str) -> str:
    try:
        text = str(json.loads(value))
        text.encode()
    except ValueError:  # of which half a surrogate pair is one
        return value
    return text
