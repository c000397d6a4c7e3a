"""The text that a picture of anybody's carries, and what of A1111's `parameters` it says."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any

from workbench.errors import UnreadablePicture
from workbench.files import PARAMETERS, picture_texts

PAIR = re.compile(r'(\w[\w /-]{0,60}):\s*("(?:[^"\\]|\\.)*"|[^,]*)(?:,|$)')
SIZE = re.compile(r"(\d+)x(\d+)")
LINE = 20_000  # characters of a line of settings; no tool writes as many
FEWEST = 3  # pairs that make the last line one of settings, for A1111 as well


def described(image: str) -> dict[str, Any]:
    """What A1111 says of a picture: `info`, its text; `items`, other texts; `parameters`, what the text says.

    `image`: base64, or a data: address. Raises `UnreadablePicture`.
    """
    items = picture_texts(_bytes(image))
    info = items.pop(PARAMETERS, "")
    return {"info": info, "items": items, "parameters": parameters_of(info)}


def _bytes(image: str) -> bytes:
    data = image.strip()
    if data.startswith(("http://", "https://")):
        raise UnreadablePicture("the server fetches no pictures; send the picture itself as base64.")
    data = data.partition(",")[2] if data.startswith("data:") else data
    try:
        return base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        raise UnreadablePicture("the picture is no base64; send the bytes of its file as base64.") from None


def parameters_of(info: str) -> dict[str, str]:
    """The fields of A1111's `parameters` text, with the prompts; {} of a text that is none."""
    lines = info.strip().split("\n")
    pairs = PAIR.findall(lines[-1][:LINE])
    if len(pairs) < FEWEST:
        return {}
    prompt, _, negative = "\n".join(lines[:-1]).partition("Negative prompt: ")
    found = {"Prompt": prompt.strip(), "Negative prompt": negative.strip()}
    for name, value in pairs:
        found |= _field(name.strip(), _unquoted(value.strip()))
    return found


def _field(name: str, value: str) -> dict[str, str]:
    size = SIZE.fullmatch(value)
    return {f"{name}-1": size[1], f"{name}-2": size[2]} if size else {name: value}


def _unquoted(value: str) -> str:
    try:
        return str(json.loads(value)) if value.startswith('"') else value
    except ValueError:
        return value
