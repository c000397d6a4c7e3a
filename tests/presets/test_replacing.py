"""Promotions, saves and rollbacks that meet, are killed, or find the disk full: what was said of them is what there is."""

import base64
import errno
import json
import os
import random
import shutil
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from support.kills import killed_at, sigkilled_at

from workbench.errors import BadPreset, CannotWrite, DiskFull, NothingToRollBack, PresetNotFound
from workbench.presets import (
    Preset,
    change_log,
    history,
    list_presets,
    load_preset,
    preset_changes,
    presets_folder,
    replacing,
    roll_back,
)
from workbench.settings import Settings


def path(name: str = "mine") -> Path:
    return presets_folder() / f"{name}.json"


def put(about: str, name: str = "mine") -> Preset:
    return Preset(name, Settings(), about).save(path(name), "promote")


State = tuple[str | None, list[str]]


def state(name: str = "mine") -> State:
    """(about of the preset, abouts of those it replaced, newest first)"""
    try:
        present = load_preset(name).about
    except PresetNotFound:
        present = None
    return present, [k.preset.about if k.preset else k.problem for k in history(name)]


def replayed(name: str = "mine") -> tuple[str | None, list[str]]:
    """(sha256 of the preset, stamps of those it replaced, newest first), as the log alone has it."""
    changes, problems = preset_changes(name)
    assert problems == [] and len({change.id for change in changes}) == len(changes)
    present, stamps = None, set()
    for change in changes:
        assert change.replaced == present and (change.kept is None) == (present is None)
        present = change.written
        stamps -= {change.put_back}
        stamps |= {change.kept} - {None}
    return present, sorted(filter(None, stamps), reverse=True)


def exact(name: str = "mine") -> bool:
    """Whether the files are what the log says."""
    data = replacing.content(path(name))
    return replayed(name) == (replacing.sha256_of(data), [k.stamp for k in history(name)])


# --- at once


def test_promotions_and_rollbacks_at_once(home: Path) -> None:
    """Without a lock, of 60 pairs 28 promotions were gone and 58 rollbacks of a kept file that another had taken crashed."""
    put("first")
    put("second")
    failed: list[Exception] = []
    together = threading.Barrier(24)

    def work(task: Callable[[], object]) -> None:
        together.wait()
        try:
            task()
        except Exception as error:
            failed.append(error)

    tasks = [task for i in range(12) for task in (lambda i=i: put(f"p{i}"), roll_back_mine)]
    threads = [threading.Thread(target=work, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    present, replaced = state()
    assert sorted([str(present), *replaced]) == sorted(["first", "second", *(f"p{i}" for i in range(12))])
    kinds = [change.kind for change in preset_changes("mine")[0]]
    assert (kinds.count("promote"), kinds.count("rollback")) == (14, 12) and exact()


def roll_back_mine() -> Preset:
    return roll_back("mine")


def test_what_a_promotion_returns_is_its_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another replaces it at once: what is told is still what was written."""
    real = replacing._do

    def then_another(folder: Path, begun: replacing.PendingChange) -> None:
        real(folder, begun)
        path().write_text("{")

    monkeypatch.setattr(replacing, "_do", then_another)
    assert put("mine").about == "mine"


def test_files_of_one_moment_are_all_kept(home: Path) -> None:
    """File systems tick in milliseconds, and a file that was copied or restored has any date."""
    for i, date in enumerate((5e9, 5e9, 1e9, 1e9, 0.0, 1e9)):
        put(str(i))
        os.utime(path(), (date, date))
    assert state() == ("5", ["4", "3", "2", "1", "0"])
    assert roll_back("mine").about == "4" and state() == ("4", ["5", "3", "2", "1", "0"]) and exact()
    stamps = [k.stamp for k in history("mine")]
    assert len({*stamps}) == 5 and all(replacing.STAMP and stamp < "2100" for stamp in stamps)


# --- killed

WORK: dict[str, Callable[[], object]] = {
    "promote": lambda: put("new"),
    "first": lambda: put("new", "other"),
    "rollback": roll_back_mine,
}


@pytest.mark.parametrize("what", WORK)
def test_killed_at_any_moment_it_has_happened_or_not(home: Path, tmp_path: Path, what: str) -> None:
    """A rollback after a kill between keeping the old file and writing the new one put back what was there already."""
    name = "other" if what == "first" else "mine"
    for about in ("1", "2", "3"):
        put(about)
        put(about, "mine-2")
    shutil.copytree(home, tmp_path / "before")
    before = state(name)
    WORK[what]()
    after = state(name)
    assert before != after
    seen = []
    moment = 0
    while True:
        shutil.rmtree(home)
        shutil.copytree(tmp_path / "before", home)
        if not killed_at(moment, presets_folder(), WORK[what]):
            break
        moment += 1
        seen.append(state(name))
        assert seen[-1] in (before, after) and (name in [preset.name for preset in list_presets()]) == bool(
            state(name)[0]
        )
        assert exact(name) and state("mine-2") == ("3", ["2", "1"])
        killed_at(moment * 7 % 12, presets_folder(), lambda: put("next", "another"))  # while it does what was left
        assert state(name) == seen[-1] and exact(name)
        if before[1]:
            present, replaced = state(name)
            assert roll_back(name).about == replaced[0] != present  # no no-op
            assert roll_back(name).about == present  # and it can be undone
        put("last", name)
        assert state(name)[1][0] == seen[-1][0] if seen[-1][0] else not state(name)[1]
        assert exact(name) and not (presets_folder() / ".pending").exists()
    assert moment > 10 and before in seen and after in seen


@pytest.mark.parametrize(("kill", "steps"), [(killed_at, 60), (sigkilled_at, 12)])
def test_killed_again_and_again(
    home: Path, kill: Callable[[int, Path, Callable[[], object]], bool], steps: int
) -> None:
    """A walk of promotions and rollbacks of which most are killed: after each the state is the one before or after it."""
    chance = random.Random(4)
    expected: State = (None, [])
    for step in range(steps):
        present, kept = expected
        if not kept or chance.random() < 0.5:
            then = (str(step), [present, *kept] if present else kept)
            killed = kill(chance.randrange(24), presets_folder(), partial(put, str(step)))
        else:
            then = (kept[0], [present, *kept[1:]] if present else kept[1:])
            killed = kill(chance.randrange(24), presets_folder(), roll_back_mine)
        now = state()
        assert now == then or (killed and now == expected)
        assert exact()
        expected = now
    assert len(expected[1]) > steps / 10


def test_a_file_that_a_person_wrote_after_a_kill_stays(home: Path) -> None:
    put("1")
    moment = 0
    while state()[0] != "2":  # the first moment from which on it has happened
        killed_at(moment, presets_folder(), lambda: put("2"))
        moment += 1
    by_hand = Preset("mine", Settings(seed=7), "by hand").to_json()
    path().write_text(json.dumps(by_hand))
    assert load_preset("mine").about == "by hand"
    put("unrelated", "other")
    assert state() == ("by hand", ["1"])
    put("3")
    assert state() == ("3", ["by hand", "1"])


def test_a_pending_change_that_is_damaged_is_named_and_nothing_is_written(home: Path) -> None:
    put("1")
    put("2")
    pending = presets_folder() / ".pending"
    for shape in (b"", b"{}", b"null", b"[" * 100_000, b'{"change": 5}', b"\xff"):
        pending.write_bytes(shape)
        assert state() == ("2", ["1"]) and [p.name for p in list_presets()][:1] == ["mine"]
        for work in (roll_back_mine, lambda: put("3")):
            with pytest.raises(BadPreset, match=r"\.pending should hold .* delete that file"):
                work()
        assert ".pending" in preset_changes("mine")[1][0]
    pending.unlink()
    assert roll_back("mine").about == "1"


# --- refused by the disk


@pytest.mark.parametrize("what", ["promote", "first", "rollback"])
def test_what_fails_has_not_happened(home: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """The message says to run the same command again: a rollback of which half had happened would be undone by that."""
    name = "other" if what == "first" else "mine"
    for about in ("1", "2", "3"):
        put(about)
    before, files = state(name), sorted(presets_folder().rglob("*"))
    for refused in range(8):
        calls = 0

        def full(real: Callable[..., None], refused: int = refused) -> Callable[..., None]:
            def write(to: Path, what: object) -> None:
                nonlocal calls
                calls += 1
                if calls == refused + 1:
                    raise DiskFull(f"the disk is full: {to}")
                real(to, what)

            return write

        with monkeypatch.context() as patch:
            patch.setattr(replacing, "write_atomic", full(replacing.write_atomic))
            patch.setattr(change_log, "append_line", full(change_log.append_line))
            try:
                WORK[what]()
                break
            except DiskFull:
                pass
        assert state(name) == before and sorted(presets_folder().rglob("*")) == files and exact(name)
    assert refused == (3 if what == "first" else 4) and state(name) != before


def test_a_folder_in_the_way_is_said_before_anything_is_written(home: Path) -> None:
    path().mkdir(parents=True)
    with pytest.raises(CannotWrite, match="it is a folder"):
        put("1")
    assert preset_changes() == ([], []) and not (presets_folder() / ".pending").exists()
    put("1", "other")
    assert list_presets()[0].name == "other"


def test_a_rollback_of_nothing_writes_nothing(home: Path) -> None:
    with pytest.raises(NothingToRollBack, match="nothing to roll back to"):
        roll_back("mine")
    assert not home.exists()


def test_readers_write_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a killed process has left something to do: a server may read from a disk that it cannot write to."""
    put("1")
    put("2")
    moment = 0
    while not (presets_folder() / ".pending").exists():
        killed_at(moment, presets_folder(), lambda: put("3"))
        moment += 1
    before = {file: file.stat().st_mtime_ns for file in [home, *home.rglob("*")]}

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", "presets")

    for room, name in ((replacing, "locked"), (replacing, "write_atomic"), (change_log, "append_line")):
        monkeypatch.setattr(room, name, refuse)
    assert load_preset("mine").about == load_preset(path()).about == "3" and state() == ("3", ["2", "1"])
    assert list_presets()[0].about == "3" and len(preset_changes("mine")[0]) == 3
    assert {file: file.stat().st_mtime_ns for file in [home, *home.rglob("*")]} == before


# --- the log


def test_a_history_from_before_the_log(home: Path) -> None:
    put("1")
    put("2")
    (presets_folder() / "changes.jsonl").unlink()
    (presets_folder() / "history" / "mine-20200101T000000.000000.json").write_bytes(path().read_bytes())
    assert [k.change for k in history("mine")] == [None, None]
    assert roll_back("mine").about == "1" and state() == ("1", ["2", "2"])
    assert [k.change and k.change.kind for k in history("mine")] == ["rollback", None]
    assert roll_back("mine", to="2020").about == "2"


def test_lines_of_the_log_that_are_none_are_named_and_left_out(home: Path) -> None:
    put("1")
    put("2 \u2028 a line separator")
    log = presets_folder() / "changes.jsonl"
    first, second = log.read_bytes().splitlines()
    other = [
        json.dumps({**json.loads(first), **change}).encode()
        for change in ({"at": 5}, {"chosen_on": [1]}, {"kept": "x"})
    ]
    shapes = [b"null", b"0", b"1.5", b"true", b'"text"', b"[]", b"{}", b"[1]", b"[" * 100_000, first[:40],
              b'{"id": "\\ud83d"}', b"\xff\xfe", *other]  # fmt: skip
    log.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join([first, *shapes, second]) + b"\n")
    changes, problems = preset_changes("mine")
    assert [change.id for change in changes] == [json.loads(first)["id"], json.loads(second)["id"]]
    assert len(problems) == len(shapes) and all(
        f"line {n} of {log} is no" in text for n, text in enumerate(problems, 2)
    )
    assert roll_back("mine").about == "1" and len(preset_changes("mine")[0]) == 3
    log.unlink()
    log.mkdir()
    assert state()[0] == "1" and "cannot be read" in preset_changes()[1][0]
    with pytest.raises(CannotWrite):
        put("3")
    assert state() == ("1", ["2 \u2028 a line separator"]) and not (presets_folder() / ".pending").exists()


def test_what_is_pending_can_be_anything(home: Path) -> None:
    """The bytes of a damaged file are kept as they are, whatever they are."""
    path().parent.mkdir(parents=True)
    path().write_bytes(b"\xff\x00\xfe")
    moment = 0
    while not (presets_folder() / ".pending").exists():
        killed_at(moment, presets_folder(), lambda: put("1"))
        moment += 1
    assert base64.urlsafe_b64decode(json.loads((presets_folder() / ".pending").read_bytes())["old"]) == b"\xff\x00\xfe"
    put("2")
    assert [k.path.read_bytes() for k in history("mine")][-1] == b"\xff\x00\xfe" and state()[0] == "2"
