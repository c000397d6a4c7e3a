"""What a request may ask for: by query, JSON or form, against what the preset opens to requests."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

from workbench.errors import BadRequest, SettingsError
from workbench.presets import Preset
from workbench.settings import Settings, knobs, parse_value

SEED = 42  # as in the plan's contract
MOST = 4  # pictures of one request
NAMES = 200  # that a request may have: A1111's have more than fifty
LONGEST = 4000  # characters of a text: at most 54 chunks of 75 tokens
TAG = re.compile(r"<\s*(lora|lyco|hypernet)\s*:\s*([^:>]*)", re.I)
OWN = ("n", "preset")  # what a request has beside settings
# what of a setting's schema is told; `items`, which means something of our own there, is a schema itself in OpenAPI
TOLD = (
    "title", "description", "unit", "type", "anyOf", "enum", "named", "default", "minimum", "maximum", "exclusiveMinimum",
    "multipleOf", "minLength",
)  # fmt: skip


@dataclass(frozen=True)
class PictureRequest:
    """Attributes: preset: its name, "" for the first one served; values: settings; n: how many pictures, of seeds in a
    row."""

    preset: str
    values: Mapping[str, object]
    n: int


def read_request(query: str, body: bytes, content_type: str) -> dict[str, object]:
    """{name: value} of the query and the body of a request; values of a query or a form are texts.

    Raises `BadRequest`: the body is of another kind, or a name is given twice.
    """
    pairs: list[tuple[str, object]] = [*_pairs(query)]
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        pairs += _pairs(_text(body))
    elif kind == "application/json" or (body.strip() and not kind):
        pairs += _json_pairs(body)
    elif body.strip():
        raise BadRequest(
            f"a body of type '{kind}' is not read; send JSON (application/json), a form (application/x-www-form-urlencoded), "
            "or a query."
        )
    if len(pairs) > NAMES:
        raise BadRequest(f"that has {len(pairs)} names; there are not so many.")
    counted = Counter(name for name, _ in pairs)
    if twice := next((name for name, count in counted.items() if count > 1), None):
        raise BadRequest(f"{twice[:40]!a} is given twice; give each name once.")
    return dict(pairs)


class Typed(str):
    """A value of a query or a form, which is a text whatever it means."""


def _pairs(text: str) -> list[tuple[str, Typed]]:
    try:
        found = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=100)
        return [(name, Typed(value)) for name, value in found]
    except ValueError:
        raise BadRequest(
            "the query or form cannot be read; write NAME=VALUE, percent-encoded UTF-8, joined by &."
        ) from None


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise BadRequest("the body is not UTF-8 text.") from None


def _json_pairs(body: bytes) -> list[tuple[str, object]]:
    text = _text(body)
    if not text.strip():
        return []
    try:
        found = json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        raise BadRequest('the body is no JSON; send an object like {"prompt": "a face", "seed": 42}.') from None
    if not isinstance(found, _Pairs):
        raise BadRequest('the body is no JSON object; send one like {"prompt": "a face", "seed": 42}.')
    return list(found)


class _Pairs(list[tuple[str, object]]):
    """A JSON object with all its keys, equal ones too."""


def asked(given: Mapping[str, object], allow: Sequence[str]) -> PictureRequest:
    """What a request asks for.

    Args:
        given: as `read_request` has it.
        allow: the settings that the preset opens to requests.

    Raises:
        BadRequest: a name is unknown or not open, the prompt is missing or blank, or `n` is out of range.
        SettingsError: a value is out of range or of the wrong type.
    """
    for name in given:
        _check_name(name, allow)
    values = {name: _value(name, value) for name, value in given.items() if name not in OWN}
    prompt = values.get("prompt")
    if prompt is None:
        raise BadRequest("prompt is missing; say what the picture shows.")
    if isinstance(prompt, str) and not prompt.strip():
        raise BadRequest("prompt is blank; say what the picture shows.")
    for name, value in values.items():
        if isinstance(value, str):
            _check_text(name, value, allow)
    return PictureRequest(preset_name(given), {"seed": SEED, **values}, _number(given.get("n", 1)))


def accepted(header: str) -> set[str]:
    """The kinds of answer that a request's `Accept` names, without those that it refuses by q=0."""
    kinds = (part.lower().replace(" ", "").split(";") for part in header.split(","))
    return {kind for kind, *more in kinds if not any(re.fullmatch(r"q=0(\.0*)?", each) for each in more)}


def preset_name(given: Mapping[str, object]) -> str:
    name = given.get("preset", "")
    if not isinstance(name, str) or not name.isascii():
        raise BadRequest("preset is no name; give that of one.")
    return name


def _number(n: object) -> int:
    if isinstance(n, Typed) and n.isdecimal() and n.isascii():
        n = int(n[:9])
    if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= MOST:
        raise BadRequest(f"n is how many pictures are made, from 1 to {MOST}.")
    return n


def _check_name(name: str, allow: Sequence[str]) -> None:
    if name in allow or name in OWN:
        return
    said = ascii(name[:40])
    if name in knobs():
        raise BadRequest(f"{said} is not open to requests; the preset opens {', '.join([*allow, *OWN])}.")
    near = difflib.get_close_matches(name, [*allow, *OWN], n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join([*allow, *OWN])}."
    raise BadRequest(f"there is no {said}; {hint}")


def _value(name: str, value: object) -> object:
    """Of a query or a form all values are texts; of JSON they have their types."""
    if isinstance(value, Typed):
        return parse_value(name, str(value))
    if isinstance(value, _Pairs | list) or value is None:
        raise SettingsError(f"{name} takes no list, no object and no null.")
    return value


def _check_text(name: str, text: str, allow: Sequence[str]) -> None:
    """Files are named, not pointed at: with paths, anybody could try which files this machine has."""
    if len(text) > LONGEST:
        raise BadRequest(f"{name} has {len(text)} characters; it may have {LONGEST}.")
    if "prompt" not in name:
        if os.sep in text or text.startswith((".", "~")):
            raise BadRequest(f"{name} takes the name of a file among the models, no path.")
        return
    for kind, file in TAG.findall(text):
        if "loras" not in allow:
            raise BadRequest(f"<{kind}:...> in {name} is not open to requests: the preset does not open loras.")
        if os.sep in file or file.startswith((".", "~")):
            raise BadRequest(f"<{kind}:...> in {name} takes the name of a file among the LoRAs, no path.")


def pictures(preset: Preset, request: PictureRequest) -> tuple[Settings, ...]:
    """The settings of each picture that is asked for: of seeds in a row. Raises `SettingsError`."""
    return preset.settings.replace(**request.values).in_a_row(request.n)


def schema_of(names: Iterable[str]) -> dict[str, dict[str, object]]:
    """{name: JSON schema} of settings, as the one list of settings has them."""
    known = Settings.model_json_schema()["properties"]
    own = {
        "n": {"type": "integer", "minimum": 1, "maximum": MOST, "default": 1, "description": "Pictures, of seeds in a row."},
        "preset": {"type": "string", "description": "One of those that are served; the first one if left out."},
    }  # fmt: skip
    found = {name: {k: v for k, v in known[name].items() if k in TOLD} for name in names} | own
    found["prompt"] |= {"minLength": 1}
    found["prompt"].pop("default", None)
    found["seed"] |= {"default": SEED}
    return found
