"""The log of the presets: one line for every change, each of which names the line before it by its digest.

So whoever changes, removes, inserts or moves a line breaks the chain from there on, unless every later line is written anew;
to notice even that, keep the digest of the last line (`workbench presets verify` says it) somewhere else. Lines from before
there was a chain stay as they are: the first chained line names the digest of all that was there before it.
"""

from __future__ import annotations

import codecs
import getpass
import hashlib
import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints, ValidationError
from typing_extensions import TypedDict

from workbench.files import append_line, writing

LOG = "changes.jsonl"
Kind = Literal["promote", "force", "save", "rollback", "pull", "alias"]
Stamp = Annotated[str, StringConstraints(pattern=r"^[0-9]{8}T[0-9]{6}\.[0-9]{6}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class RunSample(BaseModel):
    """The prompts and seeds of a run, on which settings were chosen or judged."""

    model_config = ConfigDict(strict=True, frozen=True)

    run: str
    prompts: list[str]
    seeds: list[int]


class PresetChange(BaseModel):
    """A line of `changes.jsonl`: that a preset file was written.

    Attributes:
        previous: sha256 of the line before; of all lines before, where those were written before there was a chain; None in
            such a line.
        id: of this change alone.
        kind: "promote" (what won a duel), "force" (settings without a duel), "save" (settings that a person wrote),
            "rollback" (what had been replaced), "pull" (a file from elsewhere), "alias" (another name of a preset).
        name: of the preset.
        at: when.
        who: user and machine.
        why: what that person said.
        source: of what was pulled: its address without credentials; of what was copied: the preset.
        replaced: sha256 of the file that was there before; None where there was none.
        written: sha256 of the file that is there since.
        evidence: digest of the evidence in it; None where it has none.
        kept: the stamp under which the former file is kept; None where there was none.
        put_back: of a rollback: the stamp under which the file that was put back had been kept.
        chosen_on: what a promoted setting was chosen on; None where that is not known.
        judged_on: what it then beat the champion on; None where it did not have to.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    previous: Digest | None = None
    id: str
    kind: Kind
    name: str
    at: AwareDatetime
    who: str = ""
    why: str = ""
    source: str = ""
    replaced: Digest | None = None
    written: Digest
    evidence: Digest | None = None
    kept: Stamp | None = None
    put_back: Stamp | None = None
    chosen_on: RunSample | None = None
    judged_on: RunSample | None = None

    @property
    def line(self) -> bytes:
        """As the log has it, without its end."""
        return json.dumps(self.model_dump(mode="json"), ensure_ascii=False).encode()


class ChangeWords(TypedDict, total=False):
    """What a `PresetChange` says that only who makes it knows."""

    why: str
    source: str
    evidence: str | None
    put_back: str | None
    chosen_on: RunSample | None
    judged_on: RunSample | None


def log_lines(folder: Path) -> list[bytes]:
    """The lines of the log; none where there is no log. Raises `OSError`."""
    try:
        return (folder / LOG).read_bytes().removeprefix(codecs.BOM_UTF8).splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []


def logged(folder: Path) -> tuple[list[PresetChange], list[str]]:
    """(every change in the log, the oldest first; a sentence for each line that cannot be read)"""
    try:
        lines = log_lines(folder)
    except OSError as error:
        return [], [f"{folder / LOG} cannot be read ({error.strerror})."]
    found, problems = [], []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(PresetChange.model_validate_json(line))
        except ValidationError as error:
            why = error.errors(include_url=False)[0]["msg"]
            problems.append(f"line {number} of {folder / LOG} is no record of a change and is left out ({why}).")
    return found, problems


def append_change(folder: Path, change: PresetChange) -> None:
    """Write a change down, unless it is in the log. Raises `DiskFull`, `CannotWrite`."""
    take_back_half(folder, change)
    if change.id not in {each.id for each in logged(folder)[0]}:
        append_line(folder / LOG, change.model_dump(mode="json"))


def take_back_half(folder: Path, change: PresetChange) -> None:
    """Take out what a crash or a full disk left of a change's line, so that no half line stands in the chain."""
    path = folder / LOG
    with writing(path):
        half = path.read_bytes().rpartition(b"\n")[2] if path.exists() else b""
        if half and change.line.startswith(half):
            os.truncate(path, path.stat().st_size - len(half))


def link_after(lines: Sequence[bytes]) -> str:
    """What the line that comes after these has as `previous`."""
    if any(map(_chained, lines)):
        return hashlib.sha256(lines[-1]).hexdigest()
    return hashlib.sha256(b"\n".join(lines)).hexdigest()


def _chained(line: bytes) -> bool:
    try:
        return PresetChange.model_validate_json(line).previous is not None
    except ValidationError:
        return False


def person() -> str:
    """Who works here: "anna@bench-1"."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}".encode(errors="replace").decode()
