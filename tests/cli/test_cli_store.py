"""`workbench store`, as people and scripts meet it."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.stores import age, key, keys_in, noise
from typer.testing import CliRunner

from workbench.cli import commands as cli
from workbench.store.store import Store

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """The command line in this process: (exit status, stdout, stderr)."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["workbench", "store", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


@pytest.fixture
def folder(home: Path) -> Path:
    """A store of four artefacts, the first two unused for 40 days; the second is the cheapest."""
    store = Store.at_home()
    for number, seconds in enumerate((9, 1, 3, 4)):
        store.put(key(number), noise(number, seconds=seconds), {"stage": "faces" if number else "base"})
    age(home / "store", 100)
    age(home / "store", 40 * 86400, key(0), key(1))
    return home / "store"


@pytest.mark.parametrize("command", ["stats", "prune", "verify"])
def test_every_command_has_help_with_an_example_and_json(command: str) -> None:
    result = CliRunner().invoke(cli.app, ["store", command, "--help"])
    assert result.exit_code == 0 and f"Example: workbench store {command}" in re.sub(r"\s+", " ", result.output)
    assert "--json" in result.output


def test_stats(folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_STORE_LIMIT", "5GB")
    (folder / key(9)[:2]).mkdir(exist_ok=True)
    (folder / key(9)[:2] / f"{key(9)}.png").write_bytes(b"half")
    with Store(folder).keeping([key(0)]):
        status, out, err = call("stats")
    assert (status, err) == (0, "")
    first, base, faces, together, *rest = out.splitlines()
    assert first.startswith(f"{folder}: the limit is 5 GB, ") and first.endswith("are free on its disk")
    assert re.search(r"base +1 artefacts +3\.\d+ kB +9 s of work +last used: 40 days ago", base)
    assert re.search(r"faces +3 artefacts +\d+\.?\d* kB +8 s of work +last used: 100 seconds ago", faces)
    assert re.search(r"together +4 artefacts .* 17 s of work", together)
    assert re.search(r"1 files \(4 B\) are not finished", rest[0]) and "1 keys are kept" in rest[1]
    said = json.loads(call("stats", "--json")[1])
    assert (said["artefacts"], said["seconds"], said["limit"], said["pinned"]) == (4, 17, 5_000_000_000, 0)
    assert said["stages"]["faces"]["artefacts"] == 3


def test_an_empty_store(home: Path, call: Call) -> None:
    for command in ("stats", "prune", "verify"):
        status, out, err = call(command, *(["-q"] if command == "verify" else []))
        assert (status, err) == (0, "") and " 0 artefacts" in out


def test_prune_by_size(folder: Path, call: Call) -> None:
    status, out, _ = call("prune", "--to", "10 kB", "--dry-run")
    assert status == 0 and re.search(r"would drop 2 artefacts, \d+\.?\d* kB and 4 s of work; .* would be left", out)
    assert len(keys_in(folder)) == 4
    said = json.loads(call("prune", "--to", "10 kB", "--json")[1])
    assert (said["artefacts"], said["seconds"], said["dry_run"]) == (2, 4, False) and said["left"] < 10_000
    assert keys_in(folder) == {key(0), key(3)}
    assert call("prune", "--to", "0")[0] == 0 and keys_in(folder) == set()


def test_prune_by_age(folder: Path, call: Call) -> None:
    assert call("prune", "--older-than", "50d")[0] == 0 and len(keys_in(folder)) == 4
    with Store(folder).keeping([key(0)]):
        assert call("prune", "--older-than", "30d")[0] == 0
    assert keys_in(folder) == {key(0), key(2), key(3)}
    assert call("prune", "--older-than", "1min")[0] == 0 and keys_in(folder) == set()


def test_prune_without_a_size_goes_to_the_limit(folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call("prune")[0] == 0 and len(keys_in(folder)) == 4
    monkeypatch.setenv("WORKBENCH_STORE_LIMIT", "10 kB")
    assert call("prune")[0] == 0 and len(keys_in(folder)) == 2
    monkeypatch.setenv("WORKBENCH_STORE_LIMIT", "0")
    status, _, err = call("prune")
    assert status == 2 and "--to 10GB" in err and len(keys_in(folder)) == 2


@pytest.mark.parametrize(
    ("words", "said"), [(["--to", "much"], "--to = 'much'"), (["--older-than", "30"], "write 90min, 12h, 30d or 2w")]
)
def test_unreadable_sizes_and_spans(folder: Path, call: Call, words: list[str], said: str) -> None:
    status, _, err = call("prune", *words)
    assert status == 2 and said in err and err.count("\n") == 1 and len(keys_in(folder)) == 4


def test_a_remote_store(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_STORE", "memory://commands")
    Store.at_home().put(key(1), noise(1), {"stage": "base"})
    status, out, _ = call("stats")
    assert status == 0 and out.startswith("memory://commands: no limit\n") and "last used: not known" in out
    assert call("verify", "-q")[:2] == (0, "memory://commands: 1 artefacts read, 0 of them damaged\n")
    status, _, err = call("prune", "--to", "0")
    assert status == 2 and "only folders are evicted from" in err


def test_verify(folder: Path, call: Call) -> None:
    assert call("verify", "-q") == (0, f"{folder}: 4 artefacts read, 0 of them damaged\n", "")
    png = next(folder.rglob(f"{key(1)}.png"))
    png.write_bytes(next(folder.rglob(f"{key(2)}.png")).read_bytes())
    next(folder.rglob(f"{key(3)}.json")).unlink()
    status, out, err = call("verify")
    assert status == 1 and "--drop" in err.splitlines()[-1]
    assert "verify" in err and "4/4" in err  # the bar
    assert f"{key(1)}: its pixels do not match their hash." in out and f"{key(3)}.png: never finished" in out
    said = json.loads(call("verify", "-q", "--json")[1])
    assert [row["key"] for row in said["damaged"]] == [key(1)] and said["leftovers"] and not said["dropped"]
    assert call("verify", "-q", "--drop")[0] == 0
    assert call("verify", "-q") == (0, f"{folder}: 2 artefacts read, 0 of them damaged\n", "")
    assert {path.stem for path in folder.glob("??/*")} == {key(0), key(2)}


def test_looking_after_a_store_that_is_being_filled(home: Path, call: Call) -> None:
    code = (
        "from support.stores import key, noise; from workbench.store import Store; store = Store.at_home()\n"
        "with store.keeping(map(key, range(200))):\n"
        "    for n in range(200):\n"
        "        store.put(key(n), noise(n), {'stage': 'base'})\n"
        "    assert all(Store.at_home().get(key(n)) for n in range(200))"
    )
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]),
    }
    with subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if done := keys_in(home / "store"):  # finished, now nothing but their pins keeps them
                age(home / "store", 100, *done)
            for words in (["verify", "-q", "--drop"], ["prune", "--to", "0"], ["stats"]):
                assert call(*words)[0] == 0
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
