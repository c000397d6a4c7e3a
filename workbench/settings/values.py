"""Values of settings as people type them: numbers, texts, and lists of names with weights."""

from __future__ import annotations

import math
import re
from pathlib import PurePath
from typing import NamedTuple

from workbench.errors import SettingsError

Value = str | int | float | bool  # what a setting may be
FILES = (".safetensors", ".pth", ".pt", ".ckpt")  # endings of weights
BRACKETS = re.compile(r"[\\()\[\]]")
NUMBER = re.compile(r"[+-]?(\d{1,300}(\.\d{0,300})?|\.\d{1,300})([eE][+-]?\d{1,3})?", re.ASCII)


def parse_plain(text: str) -> Value:
    """What a text says: true or false, a whole number, a number (`.5`, `+0.5` and `1.` are), else the text itself."""
    word = text.strip()
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    if not NUMBER.fullmatch(word):
        return text
    number = int(word) if word.lstrip("+-").isdecimal() else float(word)
    return number if math.isfinite(number) else text  # 1e400 is infinite as a float


def check_text(name: str, text: str) -> None:
    """Refuse what no file can hold: half of a pair of surrogates (what Python makes of bytes that are not UTF-8), and NUL.

    Raises `SettingsError`.
    """
    odd = next((c for c in text if c == "\0" or "\ud800" <= c <= "\udfff"), None)
    if odd:
        byte = f"the byte {ord(odd) - 0xDC00:#04x}" if "\udc80" <= odd <= "\udcff" else f"the character {odd!a}"
        raise SettingsError(
            f"{name} holds {byte} at place {text.index(odd) + 1}, which is no UTF-8 text; write it anew in UTF-8."
        )


def short_name(text: str) -> str:
    """What a file of weights is called, without its folder and ending; any other text as it is."""
    path = PurePath(text)
    if path.suffix.lower() in FILES and "\n" not in text:
        return path.stem
    return path.name if text.startswith(("/", "./", "../", "~/")) and "\n" not in text else text


class Weighted(NamedTuple):
    """A file and its weight: an item of "detail.safetensors:0.8, skin:0.4"."""

    file: str
    weight: float

    @property
    def name(self) -> str:
        """What the file is called, without its folder and ending."""
        return PurePath(self.file).name.removesuffix(".safetensors")


MOST = 10.0  # a weight's; beyond it nothing is left of the picture


def parse_weight(what: str, text: str) -> float:
    """A weight from -10 to 10. Raises `ValueError` in a sentence that begins with `what`."""
    number = parse_plain(text)
    if isinstance(number, bool) or not isinstance(number, int | float) or not -MOST <= number <= MOST:
        raise ValueError(f"{what} has the weight '{text.strip()}'; it must be a number from {-MOST:g} to {MOST:g}")
    return float(number)


def parse_weighted(setting: str, text: str) -> list[Weighted]:
    """The items of a list such as "detail.safetensors:0.8, skin:0.4"; without a number an item has the weight 1.

    Raises `ValueError`, in a sentence, for an empty item, a weight that is none, and a name that comes twice.
    """
    found: list[Weighted] = []
    for item in text.split(",") if text.strip() else ():
        file, _, weight = item.rpartition(":") if ":" in item else (item, "", "1")
        if not file.strip():
            raise ValueError(
                f"{setting} = '{text}' has an empty item; write names with weights, as in 'detail:0.8, skin:0.4'"
            )
        found.append(Weighted(file.strip(), parse_weight(f"{setting}: '{file.strip()}'", weight)))
    names = [item.name for item in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(
            f"{setting} = '{text}' names '{twice}' twice; name each once (a name is the file's, without its folder)"
        )
    return found


def number_text(number: float) -> str:
    """A number as it is read again, in as few digits: "7", "0.35"."""
    short = f"{number:.15g}"
    return short if float(short) == number else repr(number)


def webui_prompt(text: str, syntax: str, loras: str = "") -> str:
    """A prompt as A1111 reads it as it is meant: with the syntax "plain" its brackets are letters, LoRAs are tags behind it.

    `loras`: a list of them; those of weight 0 do nothing and have no tag. Raises `ValueError` as `parse_weighted`.
    """
    tags = "".join(
        f" <lora:{item.name}:{number_text(item.weight)}>" for item in parse_weighted("loras", loras) if item.weight
    )
    return (BRACKETS.sub(r"\\\g<0>", text) if syntax == "plain" else text) + tags


def with_weight(setting: str, text: str, name: str, weight: float) -> str:
    """The list with another weight for the item of that name, which is added where it is not there. Raises `ValueError`."""
    items = parse_weighted(setting, text)
    if name not in [item.name for item in items]:
        items.append(Weighted(name, weight))
    changed = [Weighted(item.file, weight) if item.name == name else item for item in items]
    return ", ".join(f"{item.file}:{item.weight:.16g}" for item in changed)


def weight_of(text: str, name: str) -> float:
    """The weight of an item of a list; 0 where it is not in it. Raises `ValueError`."""
    return next((item.weight for item in parse_weighted("the list", text) if item.name == name), 0.0)
