"""Checks that every format of another tool has to stand: samples, round trips and mutated texts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.support.random_settings import random_settings
from workbench.errors import NotUnderstood
from workbench.presets.formats import FORMATS, Imported, effect
from workbench.settings import Settings, short_name

ODD = (
    None, True, -1, 0, 1e308, 2**70, "", "abc", [], {}, ["1", 0], ["9", 1], {"a": 1}, "1e5", "nan", "\0", "((((", "[a|b]",
    "<lora:x:9>", "<lora:a,b:1>", "<segment:face,x,y>", "AND", "<lora:", "99999999999999999999", 3.5, "12.5", "Infinity",
)  # fmt: skip
SIGNS = '"{}[],:\\0\n()<>-e9'


@dataclass(frozen=True)
class Sample:
    """A text of another tool: what it has beside the usual one, and what is read.

    Attributes:
        change: {entry: value}; None takes an entry out.
        expected: {setting: value} beside those of the usual one.
        unmapped: how the entries begin that have no counterpart; all of them.
        guessed: settings that are only likely; of them at least these.
    """

    about: str
    change: dict[str, Any] = field(default_factory=dict)
    expected: dict[str, Any] = field(default_factory=dict)
    unmapped: list[str] = field(default_factory=list)
    guessed: list[str] = field(default_factory=list)


def check(found: Imported, usual: dict[str, Any], sample: Sample) -> None:
    wanted = Settings(**{**usual, **sample.expected})
    assert Settings.diff(found.settings, wanted) == {}
    left = list(found.unmapped)
    for begin in sample.unmapped:
        assert any(words.startswith(begin) for words in left), (begin, left)
        left = [words for words in left if not words.startswith(begin)]
    assert left == []
    assert set(sample.guessed) <= found.guessed.keys()
    assert all(why.endswith(".") for why in found.guessed.values()), found.guessed


def round_trip(tool: str, cases: int, start: int = 0) -> None:
    """Random settings come back as they were, but for what was named."""
    for number in range(start, start + cases):
        s = random_settings(Random(number), (0.1, 0.3, 0.5, 0.8)[number % 4])
        there = FORMATS[tool].write(s)
        back = FORMATS[tool].read(there.text).settings
        files = {name: short_name(getattr(s, name)) for name in ("model", "vae", "refiner")}
        named = {name: getattr(s, name) for name in there.unmapped}
        assert effect(back.replace(**named)) == effect(s.replace(**files)) or effect(back.replace(**named)) == effect(
            s
        ), number


def mutated(tool: str, cases: int) -> None:
    """Texts with something wrong are read, or refused in a sentence; what is told can be written."""
    draw = Random(7)
    texts = [FORMATS[tool].write(random_settings(Random(number))).text for number in range(6)]
    for _ in range(cases):
        text = draw.choice(texts)
        text = _other_letters(draw, text) if draw.random() < 0.3 else json.dumps(_other_values(draw, json.loads(text)))
        try:
            found = FORMATS[tool].read(text)
        except NotUnderstood as error:
            assert str(error).endswith(".")
        else:
            repr(found).encode()


def _other_letters(draw: Random, text: str) -> str:
    for _ in range(draw.randint(1, 5)):
        place = draw.randrange(len(text) + 1)
        text = text[:place] + draw.choice(["", draw.choice(SIGNS)]) + text[place + draw.randint(0, 4) :]
    return text


def _other_values(draw: Random, whole: Any) -> Any:
    for _ in range(draw.randint(1, 4)):
        inside, name = draw.choice(_places(whole))
        if draw.random() < 0.7:
            inside[name] = draw.choice(ODD)
        else:
            del inside[name]
    return whole


def _places(value: Any) -> list[tuple[Any, Any]]:
    """(an object or a list, a name or a number in it) of everything that stands in a value."""
    names: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [(value, name) for name, _ in names]
    return [*found, *(each for _, inside in names for each in _places(inside))] or [({"": 0}, "")]
