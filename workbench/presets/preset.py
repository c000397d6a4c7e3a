"""Preset files: settings with a name, their evidence and their licences, protected by a checksum."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workbench.errors import BadPreset, NothingToRollBack, PresetNotFound, SettingsError, UsageError
from workbench.files import hash_json, home, write_atomic, write_json
from workbench.settings import Settings

FORMAT = "workbench-preset"
FORMAT_VERSION = 1
SHIPPED = Path(__file__).parent / "shipped"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Preset:
    """Settings under a name.

    Attributes:
        evidence: JSON values: why they were promoted; {} for settings that were written by hand.
        provenance: JSON values: the run and the versions that they come from; {} likewise.
        path: of the preset's file; None before it is saved.
    """

    name: str
    settings: Settings
    about: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    licences: list[str] = field(default_factory=list)
    path: Path | None = None

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
        return {**body, "checksum": hash_json(body)}

    def save(self, path: Path) -> Preset:
        """Write the file whole or not at all, and read it back. A preset that was there before is kept under `history/`.

        Raises `DiskFull`, `CannotWrite`.
        """
        _keep(path)
        write_json(path, self.to_json())
        return load_preset(path)


@dataclass(frozen=True)
class ReplacedPreset:
    """A preset that was replaced.

    Attributes:
        stamp: when its file was written, UTC: 20261126T182843.867639.
        path: where its file is kept.
        preset: None where the file cannot be read, and `problem` says why.
    """

    stamp: str
    path: Path
    preset: Preset | None
    problem: str = ""


def presets_folder() -> Path:
    """Where your own presets lie: `$WORKBENCH_HOME/presets`."""
    return home() / "presets"


def list_presets() -> list[Preset]:
    """Your own presets, then the shipped ones that yours do not hide. Raises `BadPreset` naming a damaged file."""
    own = sorted(presets_folder().glob("*.json"))
    names = {path.stem for path in own}
    return [load_preset(p) for p in [*own, *(p for p in sorted(SHIPPED.glob("*.json")) if p.stem not in names)]]


def load_preset(name_or_path: str | Path) -> Preset:
    """A preset by name (your own before a shipped one) or by path. Raises `PresetNotFound`, `BadPreset`."""
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in text or text.endswith(".json"):
        path = Path(name_or_path).expanduser()
        if not path.is_file():
            raise PresetNotFound(f"there is no preset file {path}.")
        return _read(path)
    for folder in (presets_folder(), SHIPPED):
        if (path := folder / f"{text}.json").is_file():
            return _read(path)
    names = sorted({p.stem for folder in (presets_folder(), SHIPPED) for p in folder.glob("*.json")})
    near = difflib.get_close_matches(text, names, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(names)}"
    if text == "production":
        hint = "promote a sweep first (workbench promote latest), or name one of " + ", ".join(names)
    raise PresetNotFound(f"there is no preset '{text}'; {hint}.")


def history(name: str = "production") -> list[ReplacedPreset]:
    """Every preset that once had this name and was replaced, newest first. Raises `UsageError` for a name that cannot be."""
    stamped = re.compile(re.escape(check_preset_name(name)) + r"-(\d{8}T\d{6}\.\d{6})\.json")
    found = []
    for path in sorted((presets_folder() / "history").glob("*.json"), reverse=True):
        if said := stamped.fullmatch(path.name):  # not those of "production-2"
            try:
                found.append(ReplacedPreset(said[1], path, _read(path)))
            except BadPreset as error:
                found.append(ReplacedPreset(said[1], path, None, str(error)))
    return found


def roll_back(name: str = "production", *, to: str | None = None) -> Preset:
    """Put a replaced preset back, byte for byte: the last one, or the one whose stamp begins with `to`.

    The preset that it replaces now is kept in the history, so that rolling back again undoes it.

    Raises:
        NothingToRollBack: none was replaced, or not exactly one has such a stamp.
        BadPreset: the file to be put back is damaged.
    """
    kept, path = history(name), presets_folder() / f"{name}.json"
    if not kept:
        raise NothingToRollBack(
            f"there is nothing to roll back to: no preset '{name}' was replaced yet in {presets_folder()}."
        )
    chosen = [each for each in kept if to is None or each.stamp.startswith(to)]
    if not chosen or (to is not None and len(chosen) > 1):
        stamps = ", ".join(each.stamp for each in kept)
        raise NothingToRollBack(
            f"{len(chosen) or 'no'} replaced presets of '{name}' are from '{to}'; there are {stamps}."
        )
    back = chosen[0]
    if back.preset is None:
        raise BadPreset(f"{back.problem.rstrip('.')}; roll back to another one (workbench presets history {name}).")
    data = back.path.read_bytes()
    _keep(path)
    write_atomic(path, data)
    back.path.unlink()
    return load_preset(path)


def _keep(path: Path) -> None:
    """Copy a preset file that is about to be replaced into `history/`, whatever is in it."""
    if path.exists():
        stamp = datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y%m%dT%H%M%S.%f")
        write_atomic(path.parent / "history" / f"{path.stem}-{stamp}.json", path.read_bytes())


def _read(path: Path) -> Preset:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadPreset(f"{path} is not a preset file ({error}); write it anew with workbench promote.") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise BadPreset(f'{path} is not a preset file: it does not say "format": "{FORMAT}".')
    if data.get("version") != FORMAT_VERSION:
        raise BadPreset(
            f"{path} is of preset version {data.get('version')!r}, this workbench reads version {FORMAT_VERSION}; "
            "promote it again, or use the workbench that wrote it."
        )
    if "checksum" in data and data["checksum"] != hash_json({k: v for k, v in data.items() if k != "checksum"}):
        raise BadPreset(
            f"{path} was altered after it was written (its checksum does not match), so its evidence no longer holds; "
            'restore it from presets/history, or delete its "checksum" and "evidence" to use it as a hand-written preset.'
        )
    unknown = set(data) - {f for f in Preset.__dataclass_fields__ if f != "path"} - {"format", "version", "checksum"}
    if unknown:
        raise BadPreset(f"{path} has unknown entries: {', '.join(sorted(unknown))}.")
    try:
        settings = Settings(**data["settings"])
        rest = {k: data[k] for k in ("about", "evidence", "provenance", "licences") if k in data}
        return Preset(data.get("name", path.stem), settings, path=path, **rest)
    except SettingsError as error:
        raise BadPreset(f"{path}: {error}") from None
    except (KeyError, TypeError) as error:
        raise BadPreset(f"{path} lacks its settings ({error}).") from None


def check_preset_name(name: str) -> str:
    """The name itself, if a preset may have it, else `UsageError`."""
    if not NAME.fullmatch(name):
        raise UsageError(f"'{name}' cannot be a preset's name; use lower-case letters, digits, '.', '_' and '-'.")
    return name
