"""Whether the log of the presets, their files and what is kept of them are what the log says: `workbench presets verify`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from workbench.errors import BadPreset, PresetNotFound

from .change_log import LOG, PresetChange, link_after, log_lines
from .folder import presets_folder
from .preset import ENVIRONMENTS, check_preset_name
from .replacing import changes, content, kept, preset_files, read_pending, reason, sha256_of


@dataclass(frozen=True)
class LogCheck:
    """What `verify_presets` found.

    Attributes:
        changes: how many there are in the log, or of one preset.
        chained: how many lines of the log name the one before.
        intact: whether every chained line follows the one before it.
        head: sha256 of the last line: kept elsewhere, it also tells a log that was written anew as a whole.
        problems: what is not as the log says, in sentences.
        notes: what the log does not know, and need not, in sentences.
    """

    changes: int
    chained: int
    intact: bool
    head: str
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def words(self) -> str:
        state = "chain broken" if not self.intact else "chain intact"
        state += ", but the files are not what it says" if self.intact and self.problems else ""
        unchained = "" if self.chained else ", which has no chained line yet"
        return f"{self.changes} change{'s' * (self.changes != 1)}, {state}{unchained}"


def verify_presets(name: str | None = None) -> LogCheck:
    """Check the whole chain of the log, and the files of every preset in it, or of one. Writes nothing.

    Raises `UsageError` for a name that cannot be, `PresetNotFound` for one that nothing is known of, `BadPreset` where the
    log cannot be read.
    """
    folder = presets_folder()
    if name is not None:
        check_preset_name(name)
    while True:
        lines, begun = _lines(folder), read_pending(folder)
        check = _check(folder, lines, name)
        if not check.problems or (lines, begun) == (_lines(folder), read_pending(folder)):
            return check  # else somebody has written meanwhile, and what was read is of two moments


def _lines(folder: Path) -> list[bytes]:
    try:
        return log_lines(folder)
    except OSError as error:
        raise BadPreset(f"{folder / LOG} cannot be read ({reason(error)}), so nothing can be verified.") from None


def _check(folder: Path, lines: list[bytes], name: str | None) -> LogCheck:
    found, unread = changes(folder)
    mine = [change for change in found if name in (None, change.name)]
    if name is not None and not mine and content(folder / f"{name}.json") is None and not kept(folder / f"{name}.json"):
        raise PresetNotFound(
            f"there is no preset '{name}' of yours, and the log has none; workbench presets list has them."
        )
    chained, head, broken = _chain(lines, folder, found[-1:])
    check = LogCheck(len(mine), chained, not broken, head, broken)
    check.problems.extend(text for text in unread if not text.startswith("line "))  # a damaged pending change
    for each in sorted({change.name for change in mine}):
        _check_preset(folder / f"{each}.json", [change for change in mine if change.name == each], check)
    known = {change.name for change in found}
    unknown = [p.name for p in preset_files(folder) if p.stem not in known and name in (None, p.stem)]
    check.notes.extend(
        f"{file} is not in the log: it was not written by the workbench, or before it had one." for file in unknown
    )
    return check


def _chain(lines: list[bytes], folder: Path, last: list[PresetChange]) -> tuple[int, str, list[str]]:
    """(how many lines are chained, digest of the last line, a sentence for every line that does not follow the one before)"""
    chained, problems = 0, []
    for number, line in enumerate(lines, start=1):
        where = f"line {number} of {folder / LOG}"
        try:
            previous = PresetChange.model_validate_json(line).previous
        except ValidationError:
            if number == len(lines) and any(change.line.startswith(line) for change in last):
                continue  # a crash has cut it, and the change is pending: the next writer writes it whole
            previous = None
            if chained:
                problems.append(f"{where} is no record of a change: it was damaged or put in.")
        else:
            if chained and previous is None:
                problems.append(f"{where} names no line before it: it was put in, or changed.")
        if previous is not None:
            before = lines[: number - 1]
            expected = hashlib.sha256(before[-1]).hexdigest() if chained else link_after(before)
            if previous != expected:
                problems.append(
                    f"{where} does not follow what stands before it: a line was changed, removed, put in or moved."
                )
            chained += 1
    head = hashlib.sha256(lines[-1]).hexdigest() if lines else ""
    return chained, head, problems


def _check_preset(path: Path, own: list[PresetChange], check: LogCheck) -> None:
    """Replay the changes of a preset, and compare what they lead to with the files."""
    present, history = own[0].replaced, dict[str, str | None]()
    for change in own:
        if change.replaced != present:
            check.notes.append(
                f"{path.name} was changed outside of the workbench before it was replaced at {change.at:%Y-%m-%d %H:%M} UTC."
            )
        present = change.written
        history.pop(change.put_back or "", None)
        if change.kept:
            history[change.kept] = change.replaced
    try:
        actual = sha256_of(content(path))
    except OSError as error:
        check.problems.append(f"{path} cannot be read ({reason(error)}).")
        return
    if actual is None:
        (check.problems if path.stem in ENVIRONMENTS else check.notes).append(
            f"{path.name} is gone, which no change did; workbench presets rollback {path.stem} puts an older one back."
        )
    elif actual != present:
        check.problems.append(
            f"{path.name} is not what the last change of it wrote ({own[-1].kind}, {own[-1].at:%Y-%m-%d %H:%M} UTC): it was "
            "altered outside of the workbench, or the end of the log is missing."
        )
    check.problems.extend(_check_kept(path, own, history))


def _check_kept(path: Path, own: list[PresetChange], history: dict[str, str | None]) -> Iterator[str]:
    begun = f"{own[0].at:%Y%m%dT%H%M%S.%f}"
    there = {each.stamp: each for each in kept(path)}
    for stamp, digest in history.items():
        if stamp not in there:
            yield f"history/{path.stem}-{stamp}.json is gone."
            continue
        try:
            same = sha256_of(there[stamp].read()) == digest
        except OSError as error:
            yield f"{there[stamp].path} cannot be read ({reason(error)})."
            continue
        if not same:
            yield f"history/{path.stem}-{stamp}.json is not what was replaced: it was altered."
    for stamp in sorted(there.keys() - history.keys()):
        if stamp > begun:
            yield f"history/{path.stem}-{stamp}.json is not in the log: it was put there, or the end of the log is missing."
