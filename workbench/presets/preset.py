"""A preset: settings with a name, their evidence and their licences, as its file has them, protected by a checksum."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Unpack

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from workbench.errors import BadPreset, SettingsError, UsageError
from workbench.files import hash_json, with_checksum
from workbench.recipe import UsedModel
from workbench.settings import Settings, knobs

from .change_log import ChangeWords, Kind
from .preset_file import ALLOWED, FORMAT, FORMAT_VERSION, check_whole, read_object, read_preset_file, without_nan
from .replacing import changing, content, reason, replace

ENVIRONMENTS = ("staging", "production")  # what is written by a promotion, or by force with a reason
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
ALIAS_FORMAT = "workbench-alias"


@dataclass(frozen=True)
class Preset:
    """Settings under a name.

    Attributes:
        evidence: JSON values: why they were promoted; {} for settings that were written by hand.
        provenance: JSON values: the run and the versions that they come from; {} likewise.
        path: of the preset's file; None before it is saved.
        allow: the settings that requests to a server may set.
        parent: digest of the settings that these replaced, or were derived from; None where that is not known.
        models: {component: the weights that the settings used when the file was written}; see `used_models`.
        name_inside: another name that stands in its file, as in a copied one; the file's own name counts.
        via: the aliases by which it was found.
    """

    name: str
    settings: Settings
    about: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    licences: list[str] = field(default_factory=list)
    path: Path | None = None
    allow: tuple[str, ...] = ALLOWED
    parent: str | None = None
    models: dict[str, UsedModel] = field(default_factory=dict)
    name_inside: str = ""
    via: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """sha256 of the settings: equal for presets that make equal pictures of equal requests."""
        return hash_json(self.settings.model_dump())

    def to_json(self) -> dict[str, object]:
        body = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "name": self.name,
            "about": self.about,
            "settings": self.settings.model_dump(),
            "digest": self.digest,
            "parent": self.parent,
            "models": {component: model.model_dump() for component, model in self.models.items()},
            "evidence": without_nan(self.evidence),
            "provenance": without_nan(self.provenance),
            "licences": self.licences,
        }
        if self.allow != ALLOWED:
            body["allow"] = list(self.allow)
        return with_checksum(body)

    def save(self, path: Path, kind: Kind = "save", **said: Unpack[ChangeWords]) -> Preset:
        """Write the file whole or not at all, and return what was written. A preset that was there before is kept under
        `history/`, and is the parent of this one. The log gets a `PresetChange` with what is `said`.

        Raises `DiskFull`, `CannotWrite`, `BadPreset`: what could not be read back is not written.
        """
        named = dataclasses.replace(self, name=path.stem)
        checked = parse(path, named._data())  # before anything is written, a lock included
        evidence = hash_json(checked.evidence) if checked.evidence else None
        with changing(path.parent):
            data = dataclasses.replace(named, parent=_digest_at(path) or self.parent)._data()
            replace(path, data, kind, **ChangeWords(**{"evidence": evidence, **said}))
        return parse(path, data)

    def _data(self) -> bytes:
        return (json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n").encode()


@dataclass(frozen=True)
class Alias:
    """Another name of a preset: a file that says which one is meant."""

    name: str
    target: str
    path: Path

    def data(self) -> bytes:
        body = with_checksum({"format": ALIAS_FORMAT, "version": 1, "target": self.target})
        return (json.dumps(body, indent=2) + "\n").encode()


class AliasFile(BaseModel):
    """What may stand in an alias's file, beside its checksum."""

    model_config = ConfigDict(strict=True, extra="forbid")

    format: Literal["workbench-alias"]
    version: Annotated[int, Field(ge=1, le=1)]
    target: Annotated[str, StringConstraints(pattern=f"^{NAME.pattern}$")]


def read(path: Path) -> Preset | Alias | None:
    """What is in a file; None where there is no such file. Raises `BadPreset`."""
    try:
        data = content(path)
    except OSError as error:
        raise BadPreset(f"{path} cannot be read ({reason(error)}).") from None
    return None if data is None else parse_any(path, data)


def parse(path: Path, data: bytes, name: str = "") -> Preset:
    """The preset that the bytes of a file are; `name`: where its file is not called so. Raises `BadPreset`."""
    return _preset(path, read_object(path, data), name or path.stem)


def parse_any(path: Path, data: bytes, name: str = "") -> Preset | Alias:
    """As `parse`, of a file that may be an alias's."""
    value = read_object(path, data)
    make = _alias if value.get("format") == ALIAS_FORMAT else _preset
    return make(path, value, name or path.stem)


def _preset(path: Path, value: dict[str, Any], called: str) -> Preset:
    try:
        file, body, settings = read_preset_file(path, value)
    except SettingsError as error:
        raise BadPreset(f"{path}: {' '.join(str(error).split())}") from None
    if unknown := [each for each in file.allow if each not in knobs()]:
        near = difflib.get_close_matches(unknown[0], knobs(), n=1)
        hint = f"; did you mean '{near[0]}'?" if near else "."
        raise BadPreset(f"{path} allows the setting {unknown[0][:40]!r}, which there is not{hint}")
    return Preset(
        called, settings, file.about, body.get("evidence", {}), body.get("provenance", {}), file.licences, path,
        tuple(dict.fromkeys(file.allow)), file.parent, file.models, file.name if file.name != called else "",
    )  # fmt: skip


def _alias(path: Path, value: dict[str, Any], name: str) -> Alias:
    body = {k: v for k, v in value.items() if k not in ("checksum", "$schema")}
    check_whole(path, value, body)
    try:
        return Alias(name, AliasFile.model_validate(body).target, path)
    except ValidationError as error:
        raise BadPreset(f"{path} is an alias with a wrong entry ({reason(error)}); correct it, or delete it.") from None


def _digest_at(path: Path) -> str | None:
    """Of the settings of the preset in a file; None where there is none that can be read."""
    try:
        found = read(path)
    except BadPreset:
        return None
    return found.digest if isinstance(found, Preset) else None


def check_preset_name(name: str) -> str:
    """The name itself, if a preset may have it, else `UsageError`."""
    if not NAME.fullmatch(name):
        raise UsageError(f"'{name}' cannot be a preset's name; use lower-case letters, digits, '.', '_' and '-'.")
    return name
