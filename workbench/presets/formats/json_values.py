"""JSON that other tools write beside their pictures: objects whose values may be missing, numbers as text, or anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json

from workbench.errors import NotUnderstood
from workbench.settings import Knob, knob_of, parse_plain

from .foreign_prompts import clean
from .gathering import NO_COUNTERPART, Gathering

LONGEST = 160  # characters of a value that is shown


def read_object(text: str, what: str) -> dict[str, Any]:
    """The object that a text is; `what`: it should be, for the sentence. Raises `NotUnderstood`."""
    try:
        found = from_json(text.strip().removeprefix("\ufeff"))
    except (ValueError, TypeError) as error:  # TypeError: half a surrogate pair
        raise NotUnderstood(f"the text is no {what}: it is damaged or cut off ({error}); copy all of it.") from None
    if not isinstance(found, dict):
        raise NotUnderstood(f"the text is no {what}: it must be an object, {{...}}, and is a {type(found).__name__}.")
    return found


def looks_like_object(text: str) -> bool:
    """Whether a text begins as an object of JSON does, whole or not."""
    return text.lstrip("\ufeff \t\r\n").startswith("{")


def shown(value: object) -> str:
    """A value for people, on one line and not too long."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join(clean(text[: LONGEST * 2]).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def as_number(value: object) -> object:
    """A number that stands as text, or is 30.0 for 30; anything else as it is."""
    if isinstance(value, str):
        value = parse_plain(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return int(value)
    return value


def fitting(name: str, value: object) -> object:
    """A value in the type of the setting `name`, as far as it can be: a number's text as a number, 7 for a float as 7.0."""
    kind = knob_of(name).kind
    if kind in ("int", "float"):
        value = as_number(value)
        return float(value) if kind == "float" and type(value) is int and abs(value) < 2**63 else value
    if kind == "bool" and isinstance(value, str):
        return parse_plain(value)
    return clean(value) if isinstance(value, str) else value


def truth(value: object) -> bool:
    """Whether a switch is on, as a bool, a number or a text."""
    return parse_plain(value) is True if isinstance(value, str) else bool(value)


def take(gathering: Gathering, name: str, value: object, words: str, guess: str = "") -> bool:
    """As `Gathering.take`, of a value of JSON."""
    given = fitting(name, value)
    if isinstance(given, str) and knob_of(name).kind not in ("text", "choice"):
        gathering.cannot(words, f"{name} must be {_allowed(knob_of(name))}, and '{given[:40]}' is not")
        return False
    return gathering.take(name, given, words, guess)


def _allowed(knob: Knob) -> str:
    return f"of kind {knob.allowed}"


class Entries:
    """The entries of an object, each of which is taken once; `left` are those that nobody has understood."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._left = {str(name): value for name, value in values.items()}
        self._all = dict(self._left)

    def peek(self, name: str) -> Any:
        return self._all.get(name)

    def take(self, name: str) -> Any:
        """A value; None where there is none, it is null, or it was taken."""
        return self._left.pop(name, None)

    def words(self, name: str) -> str:
        """An entry as it was written, taken or not."""
        return shown_entry(name, self._all.get(name))

    def into(self, gathering: Gathering, name: str, setting: str, guess: str = "") -> bool:
        """Take an entry, where there is one, for a setting; whether it was allowed."""
        value = self.take(name)
        return value is not None and take(gathering, setting, value, self.words(name), guess)

    def text(self, name: str) -> str:
        """Take a text; "" where there is none or it is no text, which stays among what is left."""
        value = self._left.get(name)
        if value is None or isinstance(value, str):
            self._left.pop(name, None)
            return clean(value or "")
        return ""

    def drop(self, *names: str) -> None:
        """Take what says nothing of how a picture is made."""
        for name in names:
            self._left.pop(name, None)

    def tell_left(self, gathering: Gathering, why: Mapping[str, str], prefix: str = "") -> None:
        """Name all that is left and not empty. `why`: {how a name begins: why it has no counterpart}."""
        for name, value in self._left.items():
            if value is None or value in ("", False, [], {}):
                continue
            reason = next((each for begin, each in why.items() if name.startswith(begin)), NO_COUNTERPART)
            gathering.cannot(prefix + shown_entry(name, value), reason)


def shown_entry(name: str, value: object) -> str:
    return f"{shown(name)}: {shown(value)}"
