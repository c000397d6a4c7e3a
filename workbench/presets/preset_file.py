"""What may stand in a preset file: its types, from which its JSON schema is made, its versions, and what is refused."""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic_core import from_json

from workbench.errors import BadPreset
from workbench.files import hash_json
from workbench.recipe import UsedModel
from workbench.settings import MOST, Settings, knobs, shorthands

from .change_log import Digest, RunSample
from .replacing import reason

FORMAT = "workbench-preset"
FORMAT_VERSION = 2
ALLOWED = ("prompt", "negative_prompt", "seed")  # what requests to a server may set, where a preset does not say
DIALECT = "https://json-schema.org/draft/2020-12/schema"
ANEW = "put an older one back with workbench presets rollback, or delete it and promote again"


def _moment(text: str) -> str:
    datetime.fromisoformat(text)
    return text


def _run_id(text: str) -> str:
    if not text or text.startswith(".") or "/" in text or "\0" in text or len(text.encode()) > 200:
        raise ValueError("a run's id is the name of its folder")
    return text


class VerdictEvidence(BaseModel):
    """What a duel found, as far as it is read again."""

    model_config = ConfigDict(strict=True, extra="allow")

    words: str = Field(description="The verdict in a sentence.")
    decision: str = Field(default="", description="better, worse, as_good, undecided, flagged ...")
    caveat: str = ""


class Evidence(BaseModel):
    """Why settings were promoted. More may stand in it; what is read again has these types."""

    model_config = ConfigDict(strict=True, extra="allow")

    run: Annotated[str, AfterValidator(_run_id)] | None = Field(
        default=None, description="Id of the run that measured them."
    )
    chosen: dict[str, str | int | float | bool | None] = Field(
        default={}, description="The swept settings that were chosen."
    )
    chosen_by: str = ""
    mean: float | None = Field(default=None, description="Mean face sharpness.")
    n: int = Field(default=0, ge=0, description="Over how many pictures.")
    guards: dict[str, int] = Field(default={}, description="Which guards fired, on how many pictures.")
    keys: dict[str, str] = Field(default={}, description="Content key of each stage of the winner's picture.")
    batch: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default={}, description="Pictures in a UNet batch, of each stage."
    )
    used: list[RunSample] = Field(default=[], description="Every prompt and seed that chose or judged these settings.")
    verdict: VerdictEvidence | None = None
    forced: str = Field(default="", description="Why there was no duel.")
    caveat: str = ""
    note: str = ""


class Provenance(BaseModel):
    """Where settings come from: the time, and versions of libraries by their names."""

    model_config = ConfigDict(strict=True, extra="allow")

    promoted: Annotated[str, AfterValidator(_moment)] | None = Field(default=None, description="When, in ISO 8601.")


class PresetFile(BaseModel):
    """A preset of the SDXL face workbench."""

    model_config = ConfigDict(strict=True, extra="forbid", title="Workbench preset")

    format: Literal["workbench-preset"]
    version: int = Field(ge=1, le=FORMAT_VERSION, description="Of this format. Older ones are read as well.")
    name: str = Field(default="", description="Not read: a preset is called as its file is.")
    about: str = Field(default="", description="A sentence for people.")
    settings: dict[str, JsonValue]
    digest: Digest | None = Field(default=None, description="sha256 of the settings, as JSON with sorted keys.")
    parent: Digest | None = Field(
        default=None, description="Digest of the settings that these replaced, or were derived from."
    )
    models: dict[str, UsedModel] = Field(
        {}, description="The weights that the settings use: names, and sha256 of what is read."
    )
    evidence: Evidence = Evidence()
    provenance: Provenance = Provenance()
    licences: list[str] = Field(default=[], description="Of the weights, in words.")
    allow: list[str] = Field(default=list(ALLOWED), description="The settings that requests to a server may set.")


def preset_schema() -> dict[str, object]:
    """The JSON schema (2020-12) of preset files, for editors and other tools, made from the one list of settings.

    It is stricter than reading in one thing: choices are read in any case.
    """
    found = PresetFile.model_json_schema()
    own = found["properties"]
    own["settings"] = _settings_schema(own["settings"])
    own["allow"]["items"] = {"enum": list(knobs())}
    own["checksum"] = {
        "type": "string",
        "description": "sha256 of all the rest but $schema; left out of what is written by hand.",
    }
    own["$schema"] = {"type": "string", "description": "Where this schema lies, for editors."}
    return {"$schema": DIALECT, **found}


STANDARD = (
    "type", "enum", "anyOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "title",
    "description", "default",
)  # fmt: skip
"""Words of JSON Schema that settings use; what else their declarations say is the workbench's own."""


def _settings_schema(about: Mapping[str, object]) -> dict[str, object]:
    declared = {
        name: {word: each[word] for word in STANDARD if word in each}
        for name, each in Settings.model_json_schema()["properties"].items()
    }
    short = {
        name: declared[both[0]] | {"description": f"Sets {' and '.join(both)}."} for name, both in shorthands().items()
    }
    weights = {
        f"^{knob.items}:": {"type": "number", "minimum": -MOST, "maximum": MOST}
        for knob in knobs().values()
        if knob.items
    }
    return {
        **{word: text for word, text in about.items() if word == "title"},
        "type": "object",
        "description": "Settings that are left out have their defaults.",
        "properties": declared | short,
        "patternProperties": weights,
        "additionalProperties": False,
    }


# --- reading -----------------------------------------------------------------------------------------------------


def read_object(path: Path, data: bytes) -> dict[str, Any]:
    """The JSON object in the bytes of a file. Raises `BadPreset`: a key is there twice, or it is no such thing.

    `from_json` refuses what nobody could use or save: a nesting of thousands, half of a surrogate pair.
    """
    text = data.removeprefix(codecs.BOM_UTF8)  # the mark is how Windows editors begin a file
    twice: list[str] = []

    def pairs(found: list[tuple[str, object]]) -> dict[str, object]:
        names = [name for name, _ in found]
        twice.extend(name for name in names if names.count(name) > 1)
        return dict(found)

    try:
        value = from_json(text)
        json.loads(text, object_pairs_hook=pairs)  # from_json takes the last of two
    except ValueError as error:
        raise BadPreset(f"{path} is not a preset file ({error if data else 'it is empty'}); {ANEW}.") from None
    if twice:
        raise BadPreset(f"{path} gives {twice[0][:40]!r} twice in one object; keep one of them.")
    if not isinstance(value, dict):
        raise BadPreset(f'{path} is not a preset file: it does not say "format": "{FORMAT}".')
    return value


def read_preset_file(path: Path, value: Mapping[str, Any]) -> tuple[PresetFile, dict[str, Any], Settings]:
    """(what stands in a preset file, the same as JSON values of the present version, its settings). Raises `BadPreset`."""
    if value.get("format") != FORMAT:
        raise BadPreset(f'{path} is not a preset file: it does not say "format": "{FORMAT}".')
    version = value.get("version")
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
        raise BadPreset(
            f"{path} is of preset version {version!r:.40}, this workbench reads versions 1 to {FORMAT_VERSION}; "
            "promote it again, or use the workbench that wrote it."
        )
    body = {k: v for k, v in value.items() if k not in ("checksum", "$schema")}
    check_whole(path, value, body)
    for step in range(version, FORMAT_VERSION):
        body = MIGRATIONS[step](body)
    if without_nan(body) != body:
        raise BadPreset(f"{path} has a number that is none (NaN or Infinity), which JSON has not; write null.")
    try:
        file = PresetFile.model_validate(body)
    except ValidationError as error:
        unknown = [".".join(map(str, each["loc"])) for each in error.errors() if each["type"] == "extra_forbidden"]
        if unknown:
            raise BadPreset(f"{path} has unknown entries: {ascii(', '.join(sorted(unknown)))[1:-1][:200]}.") from None
        raise BadPreset(f"{path} has a wrong entry ({reason(error)}); correct it, or {ANEW}.") from None
    settings = Settings.written(file.settings)
    if file.digest not in (None, hash_json(file.settings)):
        raise BadPreset(
            f'{path} has a "digest" that is not that of its settings, which were changed by hand; delete its "digest", its '
            '"checksum" and its "evidence" to use it as a hand-written preset.'
        )
    return file, body, settings


def check_whole(path: Path, value: Mapping[str, Any], body: Mapping[str, Any]) -> None:
    if "checksum" in value and value["checksum"] != hash_json(body):
        raise BadPreset(
            f"{path} was altered after it was written (its checksum does not match), so its evidence no longer holds; "
            'restore it from presets/history, or delete its "checksum", "digest" and "evidence" to use it as a hand-written '
            "preset."
        )


def _to_2(body: dict[str, Any]) -> dict[str, Any]:
    """Version 1 wrote the mean of no pictures as NaN."""
    return {**without_nan(body), "version": 2}


MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _to_2}
"""{version: makes the next one of it}. What a later version added may be missing in any file."""


def without_nan(value: Any) -> Any:
    """JSON values in which numbers that JSON has not are null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: without_nan(each) for name, each in value.items()}
    return [without_nan(each) for each in value] if isinstance(value, list | tuple) else value
