"""The text that a picture of anybody's carries, and what of A1111's `parameters` it says."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from workbench.errors import UnreadablePicture
from workbench.files import PARAMETERS, picture_texts
from workbench.presets.formats import parse_infotext

SIZE = re.compile(r"(\d+)x(\d+)")


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
    said = parse_infotext(info)
    if said is None:
        return {}
    found = {"Prompt": said.prompt, "Negative prompt": said.negative_prompt}
    for name, value in said.fields.items():
        found |= _field(name, value)
    return found


def _field(name: str, value: str) -> dict[str, str]:
    size = SIZE.fullmatch(value)
    return {f"{name}-1": size[1], f"{name}-2": size[2]} if size else {name: value}
