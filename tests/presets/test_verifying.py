"""The chain of the log: whatever is changed, taken out, put in or moved is found, and what a kill leaves is none of that."""

import json
import os
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from support.kills import killed_at, sigkilled_at

from workbench.errors import UsageError
from workbench.presets import Preset, history, list_presets, make_alias, presets_folder, roll_back, verify_presets
from workbench.settings import Settings


def path(name: str = "mine") -> Path:
    return presets_folder() / f"{name}.json"


def log() -> Path:
    return presets_folder() / "changes.jsonl"


def put(about: str, name: str = "mine") -> Preset:
    return Preset(name, Settings(), about, {"mean": 1.0}).save(path(name), "promote", why=f"because {about}")


@pytest.fixture
def made(home: Path) -> list[bytes]:
    for about in ("1", "2", "3"):
        put(about)
    put("production", "production")
    roll_back("mine", why="too sharp")
    make_alias("best", "production")
    return log().read_bytes().splitlines()


def test_an_honest_log_is_intact(made: list[bytes]) -> None:
    check = verify_presets()
    assert (check.problems, check.notes, check.words) == ([], [], "6 changes, chain intact")
    assert check.chained == 6 and verify_presets("mine").words == "4 changes, chain intact"
    last = json.loads(made[-2])
    assert (last["kind"], last["why"]) == ("rollback", "too sharp") and "@" in last["who"]
    assert last["evidence"] and last["evidence"] == json.loads(made[0])["evidence"]
    with pytest.raises(UsageError):
        verify_presets("../x")


TAMPERED: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "changed": lambda lines: [lines[0], lines[1].replace(b"because 2", b"because 7"), *lines[2:]],
    "removed": lambda lines: [*lines[:2], *lines[3:]],
    "first removed": lambda lines: lines[1:],
    "put in": lambda lines: [*lines[:3], lines[1], *lines[3:]],
    "no record": lambda lines: [*lines[:3], b'{"at"', *lines[3:]],
    "moved": lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
    "unchained": lambda lines: [
        *lines[:3],
        json.dumps({**json.loads(lines[3]), "previous": None}).encode(),
        *lines[4:],
    ],
    "end missing": lambda lines: lines[:4],
    "last again": lambda lines: [*lines, lines[-1]],
    "cut": lambda lines: [*lines[:-1], lines[-1][:50]],
}


@pytest.mark.parametrize("how", TAMPERED)
def test_a_log_that_was_tampered_with_is_found(made: list[bytes], how: str) -> None:
    log().write_bytes(b"\n".join(TAMPERED[how](made)) + b"\n")
    check = verify_presets()
    told = "chain intact, but the files are not what it says" if how == "end missing" else "chain broken"
    assert check.problems and told in check.words
    assert any(str(log()) in text or "end of the log is missing" in text for text in check.problems)


def test_every_single_byte_of_the_log_counts(made: list[bytes]) -> None:
    data = log().read_bytes()
    chance = random.Random(1)
    for _ in range(60):
        place = chance.randrange(len(data) - 1)
        other = bytes([data[place] ^ (1 << chance.randrange(7))])
        log().write_bytes(data[:place] + other + data[place + 1 :])
        last = place > data.rindex(b"\n", 0, len(data) - 1)  # nothing follows it but the files, and its digest
        assert verify_presets().problems or last
        assert verify_presets().head != "" and (not last or verify_presets().head != made_head(data))


def made_head(data: bytes) -> str:
    log().write_bytes(data)
    return verify_presets().head


def test_files_that_were_altered_outside_are_found(made: list[bytes]) -> None:
    kept = history("mine")[0].path
    data = kept.read_bytes()
    kept.write_bytes(data + b" ")
    assert [text for text in verify_presets().problems if kept.name in text and "altered" in text]
    kept.unlink()
    assert [text for text in verify_presets("mine").problems if kept.name in text and "is gone" in text]
    assert verify_presets("production").problems == []
    kept.write_bytes(data)
    extra = kept.with_name("mine-20990101T000000.000000.json")
    extra.write_bytes(data)
    assert [text for text in verify_presets().problems if extra.name in text]
    extra.unlink()
    path().write_bytes(path().read_bytes() + b"\n")
    (problem,) = verify_presets().problems
    assert problem.startswith("mine.json is not what the last change of it wrote (rollback")
    put("4")  # what was altered is kept, and the log says it for good
    check = verify_presets()
    assert check.problems == [] and "changed outside of the workbench before" in check.notes[0]
    path("production").unlink()
    assert "production.json is gone" in verify_presets().problems[0]


def test_a_log_from_before_the_chain_is_anchored(made: list[bytes]) -> None:
    """Its lines have no `previous`; the first chained line holds all of them."""
    old = [{k: v for k, v in json.loads(line).items() if k not in ("previous", "who", "why")} for line in made[:4]]
    shutil.rmtree(presets_folder() / "history")
    log().write_text("".join(json.dumps(line) + "\n" for line in old) + "null\n")
    path("best").unlink()
    path().unlink()
    for name in ("mine", "production"):
        put("new", name)
    check = verify_presets("production")
    assert (check.chained, check.changes, check.problems) == (2, 2, [])
    text = log().read_text()
    log().write_text(text.replace("production", "Production", 1))
    assert "line 6 of" in verify_presets("production").problems[0]


def test_presets_that_the_log_does_not_know_are_a_note(made: list[bytes]) -> None:
    path("copy").write_bytes(path().read_bytes())
    check = verify_presets()
    assert check.problems == [] and check.notes[0].startswith("copy.json is not in the log")


# --- killed, and at once


def states(folder: Path) -> tuple[str, ...]:
    return tuple(
        f"{preset.name} {preset.about}" for preset in list_presets() if preset.path and preset.path.parent == folder
    )


def walk(kill: Callable[[int, Path, Callable[[], object]], bool], steps: int, seed: int) -> None:
    """Promotions and rollbacks, most of them killed at a random point: after each the chain is whole, and nothing is lost."""
    chance = random.Random(seed)
    abouts = {"first", "second"}
    for about in ("first", "second"):
        put(about)
    for step in range(steps):
        about = f"p{step}"
        work = partial(put, about) if chance.random() < 0.5 else partial(roll_back, "mine")
        before = states(presets_folder())
        killed = kill(chance.randrange(26), presets_folder(), work)
        assert killed or states(presets_folder()) != before
        check = verify_presets()
        assert check.problems == [] and check.notes == []
        present = states(presets_folder())[0].partition(" ")[2]
        kept = [each.preset.about if each.preset else "" for each in history("mine")]
        abouts |= {present} & {about}
        assert {present, *kept} == abouts and len(kept) + 1 == len(abouts)
    put("last")
    assert verify_presets().problems == []


@pytest.mark.parametrize(("kill", "steps"), [(killed_at, 15), (sigkilled_at, 8)])
def test_killed_at_random_points_the_chain_is_intact(
    home: Path, kill: Callable[[int, Path, Callable[[], object]], bool], steps: int
) -> None:
    walk(kill, int(os.environ.get("WORKBENCH_TEST_KILLS", steps)), 7)


def test_two_at_once_lose_nothing(home: Path) -> None:
    """Two people who promote and roll back at once: every promotion is there or kept, the chain is intact."""
    times = int(os.environ.get("WORKBENCH_TEST_KILLS", 6))
    put("first")
    put("second")
    children = []
    for person in "ab":
        if (child := os.fork()) == 0:
            try:
                for i in range(times):
                    put(f"{person}{i}")
                    roll_back("mine")
                os._exit(0)
            except BaseException as error:
                os.write(2, repr(error).encode())
                os._exit(1)
        children.append(child)
    while children:  # who verifies meanwhile finds nothing wrong either
        assert verify_presets().problems == []
        done = {child: os.waitpid(child, os.WNOHANG) for child in children}
        assert all(not status for _, status in done.values())
        children = [child for child, (ended, _) in done.items() if not ended]
    present = states(presets_folder())[0].partition(" ")[2]
    kept = [each.preset.about if each.preset else "" for each in history("mine")]
    assert sorted([present, *kept]) == sorted(["first", "second", *(f"{p}{i}" for p in "ab" for i in range(times))])
    check = verify_presets()
    assert (check.problems, check.notes, check.changes) == ([], [], 2 + 4 * times)
