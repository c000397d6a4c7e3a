"""Presets that go somewhere else: from one environment to the next, to an address, and back from one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import AlreadyThere, BadPreset, NothingToPromote, PresetNotFound, StoreUnreachable, UsageError
from workbench.files import hash_json
from workbench.store import open_place, public_address

from .change_log import ChangeWords, Kind, PresetChange
from .folder import check_replaceable, load_preset, preset_changes, presets_folder
from .preset import ENVIRONMENTS, Preset, check_preset_name, parse
from .preset_file import read_object
from .replacing import changing, content, replace

MOST_BYTES = 4_000_000  # of a preset file; one with a long evidence has 100 KB


def copy_preset(source: str, name: str = "production", *, why: str = "", force: str = "") -> Preset:
    """Write what the preset `source` is as the preset `name`, byte for byte: from staging to production.

    An environment takes only what has won a duel, as the log knows it by its digest; `force`: why it takes another one.
    Raises `NothingToPromote`, `PresetNotFound`, `UsageError`, `BadPreset`, `DiskFull`, `CannotWrite`.
    """
    path = presets_folder() / f"{check_replaceable(name)}.json"
    load_preset(source)  # what is wrong with the request is said before anything is written, a lock included
    with changing(path.parent):
        preset = load_preset(source)
        data = _bytes(preset)
        if data == content(path):
            raise UsageError(f"'{name}' is '{source}' already.")
        won = _duel_won_by(data)
        if name in ENVIRONMENTS and not won and not force:
            raise NothingToPromote(
                f"'{source}' has won no duel here, so that it does not become '{name}'; let it meet that (workbench "
                f"challenge {source} --against {name}) and promote the duel, or say why there is none: --force REASON."
            )
        kind: Kind = "promote" if won else "force" if force else "save"
        said = _said(preset, force or why, preset.name)
        if won:
            said |= ChangeWords(chosen_on=won.chosen_on, judged_on=won.judged_on)
        replace(path, data, kind, **said)
    return parse(path, data)


def _duel_won_by(data: bytes) -> PresetChange | None:
    """The promotion that wrote these very bytes, if they won a duel."""
    digest = hashlib.sha256(data).hexdigest()
    changes = preset_changes()[0]
    return next((c for c in changes if c.written == digest and c.kind == "promote" and c.judged_on), None)


def _bytes(preset: Preset) -> bytes:
    data = content(preset.path) if preset.path else None
    if data is None:
        raise PresetNotFound(f"the preset '{preset.name}' has no file any more.")
    return data


def _said(preset: Preset, why: str, source: str) -> ChangeWords:
    return ChangeWords(why=why, source=source, evidence=hash_json(preset.evidence) if preset.evidence else None)


# --- addresses ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PresetAddress:
    """Where a preset file lies elsewhere.

    Attributes:
        folder, file: the parts of its URL.
        name: of the preset.
    """

    folder: str
    file: str
    name: str

    def __str__(self) -> str:
        """Without what may be a credential in it: user, password, query."""
        return public_address(f"{self.folder.rstrip('/')}/{self.file}")


def address_of(url: str, name: str = "") -> PresetAddress:
    """What is meant by an fsspec URL (s3://, hf://user/repo, memory://, a folder): a .json file, or `name`.json in a folder.

    Raises `UsageError`: neither is said.
    """
    plain, mark, query = url.partition("?")
    folder, _, last = plain.rpartition("/")
    if last.endswith(".json"):
        start = f"{folder}/" if folder.endswith(":/") else folder or ("/" if plain.startswith("/") else ".")
        return PresetAddress(start, f"{last}{mark}{query}", last.removesuffix(".json"))
    if not name:
        raise UsageError(f"{public_address(url)} names no preset file; give the address of a .json.")
    return PresetAddress(plain, f"{name}.json{mark}{query}", name)


def push_preset(name: str, url: str, *, force: bool = False) -> PresetAddress:
    """Write a preset's file to an address, byte for byte.

    Raises `AlreadyThere` where another file lies there, `PresetNotFound`, `BadPreset`, `UnknownPlace`, `StoreUnreachable`.
    """
    preset = load_preset(name)
    data, to = _bytes(preset), address_of(url, preset.name)
    place = open_place(to.folder, "place")
    try:
        there = place.read(to.file)
    except FileNotFoundError:
        there = None
    if there not in (None, data) and not force:
        raise AlreadyThere(f"{to} is there already, and is another file; name another one, or replace it with --force.")
    if there != data:
        try:
            place.write(to.file, data)
        except FileNotFoundError:
            raise StoreUnreachable(
                f"{to} cannot be written: there is no such repository or bucket; make it first."
            ) from None
    return to


def pull_preset(url: str, name: str = "", *, why: str = "", force: str = "") -> Preset:
    """Take a preset over from an address, byte for byte, as `name`, or as its file is called there.

    `force`: why it may replace a preset of yours, or become an environment. Raises `AlreadyThere`, `BadPreset`: it is no
    preset, or was altered; `UsageError`, `PresetNotFound`, `UnknownPlace`, `StoreUnreachable`.
    """
    source = address_of(url, name and check_preset_name(name))
    name = check_replaceable(name or source.name)
    if name in ENVIRONMENTS and not force:
        raise UsageError(
            f"'{name}' is written by a promotion; pull it as another one (--name), or say why it is not: --force REASON."
        )
    path = presets_folder() / f"{name}.json"
    data = _fetched(source)
    preset = _checked(source, path, data)
    with changing(path.parent):
        there = content(path)
        if there not in (None, data) and not force:
            raise AlreadyThere(
                f"there is a preset '{name}' already, and it is another one; pull this as another (--name), or say why it is "
                "replaced: --force REASON."
            )
        if there != data:
            replace(path, data, "pull", **_said(preset, force or why, str(source)))
    return preset


def _fetched(source: PresetAddress) -> bytes:
    try:
        data = open_place(source.folder, "place").read(source.file)
    except FileNotFoundError:
        raise PresetNotFound(f"there is no {source}.") from None
    if len(data) > MOST_BYTES:
        raise BadPreset(f"{source} has {len(data):,} bytes, which no preset has.")
    return data


def _checked(source: PresetAddress, path: Path, data: bytes) -> Preset:
    """The preset, as it will be at `path`."""
    try:
        preset, value = parse(path, data), read_object(path, data)
    except BadPreset as error:
        raise BadPreset(str(error).replace(str(path), str(source))) from None
    if preset.evidence and "checksum" not in value:
        raise BadPreset(
            f"{source} has evidence but no checksum, so nobody can tell whether that was altered; push it anew from where it "
            "was promoted, or take the evidence out."
        )
    return preset
