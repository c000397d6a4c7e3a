"""Preset files: settings with a name, their evidence and their licences, protected by a checksum."""

from __future__ import annotations

import codecs
import dataclasses
import difflib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from pydantic_core import from_json

from workbench.errors import BadPreset, NothingToRollBack, PresetNotFound, SettingsError, UsageError
from workbench.files import hash_json, home, with_checksum
from workbench.settings import Settings, knobs

from .change_log import Kind, PresetChange, RunSample
from .replacing import changes, changing, content, kept, preset_files, reason, replace

FORMAT = "workbench-preset"
FORMAT_VERSION = 1
ALLOWED = ("prompt", "negative_prompt", "seed")  # what requests to a server may set, where a preset does not say
SHIPPED = Path(__file__).parent / "shipped"
ENVIRONMENTS = ("staging", "production")  # what is written by a promotion, or by force with a reason
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Preset:
    """Settings under a name.

    Attributes:
        evidence: JSON values: why they were promoted; {} for settings that were written by hand.
        provenance: JSON values: the run and the versions that they come from; {} likewise.
        path: of the preset's file; None before it is saved.
        allow: the settings that requests to a server may set.
    """

    name: str
    settings: Settings
    about: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    licences: list[str] = field(default_factory=list)
    path: Path | None = None
    allow: tuple[str, ...] = ALLOWED

    def to_json(self) -> dict[str, object]:
        body = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "name": self.name,
            "about": self.about,
            "settings": self.settings.model_dump(),
            "evidence": self.evidence,
            "provenance": self.provenance,
            "licences": self.licences,
        }
        if self.allow != ALLOWED:
            body["allow"] = list(self.allow)
        return with_checksum(body)

    def save(
        self,
        path: Path,
        kind: Kind = "save",
        *,
        chosen_on: RunSample | None = None,
        judged_on: RunSample | None = None,
    ) -> Preset:
        """Write the file whole or not at all, and return what was written. A preset that was there before is kept under
        `history/`. The log gets a `PresetChange` with this `kind`, `chosen_on` and `judged_on`.

        Raises `DiskFull`, `CannotWrite`.
        """
        data = (json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n").encode()
        saved = _parse(path, data)  # first: what cannot be read back is not written
        with changing(path.parent):
            replace(path, data, kind, chosen_on=chosen_on, judged_on=judged_on)
        return saved


class PresetFile(BaseModel):
    """What may stand in a preset file, beside its checksum; `Settings` checks the settings."""

    model_config = ConfigDict(strict=True, extra="forbid")

    format: str
    version: int
    name: str = ""
    about: str = ""
    settings: dict[str, JsonValue]
    evidence: dict[str, JsonValue] = {}
    provenance: dict[str, JsonValue] = {}
    licences: list[str] = []
    allow: list[str] = list(ALLOWED)


@dataclass(frozen=True)
class ReplacedPreset:
    """A preset that was replaced.

    Attributes:
        stamp: when its file was written, UTC: 20261126T182843.867639.
        path: where its file is kept.
        preset: None where the file cannot be read, and `problem` says why.
        change: the change that replaced it; None where that happened before there was a log.
    """

    stamp: str
    path: Path
    preset: Preset | None
    problem: str = ""
    change: PresetChange | None = None


@dataclass(frozen=True)
class DamagedPreset:
    """A file among your presets that is none; `problem` is a sentence that names it."""

    name: str
    path: Path
    problem: str


def presets_folder() -> Path:
    """Where your own presets lie: `$WORKBENCH_HOME/presets`."""
    return home() / "presets"


def list_presets() -> list[Preset]:
    """Your own presets, then the shipped ones that yours do not hide; `damaged_presets` has the files that cannot be read.

    Each has the name by which `load_preset` finds it, that of its file: a copied file still has the other's name in it.
    """
    return [dataclasses.replace(found, name=path.stem) for path, found in _listed() if isinstance(found, Preset)]


def damaged_presets() -> list[DamagedPreset]:
    """The files among your presets that cannot be read as one."""
    return [DamagedPreset(path.stem, path, str(found)) for path, found in _listed() if isinstance(found, BadPreset)]


def _listed() -> Iterator[tuple[Path, Preset | BadPreset]]:
    own = preset_files(presets_folder())
    names = {path.stem for path in own}
    for path in [*own, *(p for p in preset_files(SHIPPED) if p.stem not in names)]:
        try:
            if found := _read(path):
                yield path, found
        except BadPreset as error:
            yield path, error


def load_preset(name_or_path: str | Path) -> Preset:
    """A preset by name (your own before a shipped one) or by path. Raises `PresetNotFound`, `BadPreset`."""
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in text or text.endswith(".json"):
        path = Path(name_or_path).expanduser()
        if found := _read(path):
            return found
        raise PresetNotFound(f"there is no preset file {path}.")
    for folder in (presets_folder(), SHIPPED):
        if found := _read(folder / f"{text}.json"):
            return found
    names = sorted({p.stem for folder in (presets_folder(), SHIPPED) for p in preset_files(folder)})
    near = difflib.get_close_matches(text, names, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(names)}"
    if text == "production":
        hint = "promote a sweep first (workbench promote latest), or name one of " + ", ".join(names)
    raise PresetNotFound(f"there is no preset '{text}'; {hint}.")


def preset_changes(name: str | None = None) -> tuple[list[PresetChange], list[str]]:
    """(every change of your presets or of one of them, the oldest first; a sentence for each line that cannot be read)"""
    return changes(presets_folder(), name)


def history(name: str = "production") -> list[ReplacedPreset]:
    """Every preset that once had this name and was replaced, newest first. Raises `UsageError` for a name that cannot be."""
    path = presets_folder() / f"{check_preset_name(name)}.json"
    replaced_by = {change.kept: change for change in preset_changes(name)[0]}
    found = []
    for each in kept(path):
        try:
            preset, problem = _parse(each.path, each.read()), ""
        except FileNotFoundError:  # put back while this was read
            continue
        except OSError as error:
            preset, problem = None, f"{each.path} cannot be read ({reason(error)})."
        except BadPreset as error:
            preset, problem = None, str(error)
        found.append(ReplacedPreset(each.stamp, each.path, preset, problem, replaced_by.get(each.stamp)))
    return found


def roll_back(name: str = "production", *, to: str | None = None) -> Preset:
    """Put a replaced preset back, byte for byte: the last one, or the one whose stamp begins with `to`.

    The preset that it replaces now is kept in the history, so that rolling back again undoes it.

    Raises:
        NothingToRollBack: none was replaced, or not exactly one has such a stamp.
        BadPreset: the file to be put back is damaged.
    """
    path = presets_folder() / f"{check_preset_name(name)}.json"
    _chosen(name, to)  # what is wrong with the request is said before anything is written, a lock included
    with changing(path.parent):
        back = _chosen(name, to)
        data = back.path.read_bytes()
        replace(path, data, "rollback", put_back=back.stamp)
    return _parse(path, data)


def _chosen(name: str, to: str | None) -> ReplacedPreset:
    """The replaced preset that is meant, if it can be put back."""
    replaced = history(name)
    if not replaced:
        raise NothingToRollBack(
            f"there is nothing to roll back to: no preset '{name}' was replaced yet in {presets_folder()}."
        )
    chosen = [each for each in replaced if to is None or each.stamp.startswith(to)]
    if not chosen or (to is not None and len(chosen) > 1):
        stamps = ", ".join(each.stamp for each in replaced)
        raise NothingToRollBack(
            f"{len(chosen) or 'no'} replaced presets of '{name}' are from '{to}'; there are {stamps}."
        )
    if chosen[0].preset is None:
        problem = chosen[0].problem.rstrip(".")
        raise BadPreset(f"{problem}; roll back to another one (workbench presets history {name}).")
    return chosen[0]


def _read(path: Path) -> Preset | None:
    """The preset in a file; None where there is no such file."""
    try:
        data = content(path)
    except OSError as error:
        raise BadPreset(f"{path} cannot be read ({reason(error)}).") from None
    return None if data is None else _parse(path, data)


def _parse(path: Path, data: bytes) -> Preset:
    """The preset that the bytes of a file are. `from_json` refuses what nobody could use or save: a nesting of thousands,
    half of a surrogate pair."""
    anew = "put an older one back with workbench presets rollback, or delete it and promote again"
    try:
        value = from_json(data.removeprefix(codecs.BOM_UTF8))  # the mark is how Windows editors begin a file
    except ValueError as error:
        raise BadPreset(f"{path} is not a preset file ({error if data else 'it is empty'}); {anew}.") from None
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise BadPreset(f'{path} is not a preset file: it does not say "format": "{FORMAT}".')
    if value.get("version") != FORMAT_VERSION:
        raise BadPreset(
            f"{path} is of preset version {value.get('version')!r:.40}, this workbench reads version {FORMAT_VERSION}; "
            "promote it again, or use the workbench that wrote it."
        )
    body = {k: v for k, v in value.items() if k != "checksum"}
    if "checksum" in value and value["checksum"] != hash_json(body):
        raise BadPreset(
            f"{path} was altered after it was written (its checksum does not match), so its evidence no longer holds; "
            'restore it from presets/history, or delete its "checksum" and "evidence" to use it as a hand-written preset.'
        )
    try:
        file = PresetFile.model_validate(body)
        settings = Settings.written(file.settings)
    except ValidationError as error:
        unknown = [str(each["loc"][0]) for each in error.errors() if each["type"] == "extra_forbidden"]
        if unknown:
            raise BadPreset(f"{path} has unknown entries: {', '.join(sorted(unknown))}.") from None
        raise BadPreset(f"{path} has a wrong entry ({reason(error)}); correct it, or {anew}.") from None
    except SettingsError as error:
        raise BadPreset(f"{path}: {error}") from None
    if unknown := [name for name in file.allow if name not in knobs()]:
        near = difflib.get_close_matches(unknown[0], knobs(), n=1)
        hint = f"; did you mean '{near[0]}'?" if near else "."
        raise BadPreset(f"{path} allows the setting '{unknown[0][:40]}', which there is not{hint}")
    allow = tuple(dict.fromkeys(file.allow))
    name = file.name or path.stem
    return Preset(name, settings, file.about, file.evidence, file.provenance, file.licences, path, allow)


def check_preset_name(name: str) -> str:
    """The name itself, if a preset may have it, else `UsageError`."""
    if not NAME.fullmatch(name):
        raise UsageError(f"'{name}' cannot be a preset's name; use lower-case letters, digits, '.', '_' and '-'.")
    return name


def check_replaceable(name: str) -> str:
    """The name itself, if you may write a preset of that name: a shipped one's is taken. Raises `UsageError`."""
    if (SHIPPED / f"{check_preset_name(name)}.json").exists():
        raise UsageError(f"'{name}' is a shipped preset and cannot be overwritten; choose another name.")
    return name
