"""Whatever stands in a file that the product has written: the file is named, and the rest goes on."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.runs import scored
from typer.testing import CliRunner

from workbench.analysis import favourites, votes
from workbench.cli import commands as cli
from workbench.errors import BadRun
from workbench.files import append_line, file_sha256, read_lines
from workbench.runs import Run, broken_runs, find_run, list_runs, open_run
from workbench.settings import Settings
from workbench.sweeps import Attached, Costs, last_session
from workbench.sweeps.holding import Holding, holder

SHAPES = [
    "", "null", "0", "1.5", "true", '"text"', "[]", "{}", "[1]", "[" * 100_000, '{"a":' * 100_000, '{"format": 1}',
    '{"kind": "cell"}', '{"kind": "cell", "cell": "0", "status": "done"}', '{"kind": "batch", "size": 4}', '{"kind": 5}',
    '{"kind": "machine"}', '{"kind": "stage", "stage": null}', '{"kind": "vote", "a": "x"}',
    '{"state": "finished", "cells": 5}', '{"created": "yesterday"}', "\xff", "{",
]  # fmt: skip


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_HOME", str(tmp_path_factory.mktemp("originals")))
        return scored(), scored(seeds=3)


@pytest.fixture
def runs(home: Path, originals: tuple[Run, Run]) -> tuple[Run, Run]:
    """Two runs, of which the second will be harmed: copies, which take a tenth of the time."""
    whole, harmed = (Run(Path(shutil.copytree(run.path, home / "runs" / run.id))) for run in originals)
    return whole, harmed


def command(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(cli.app, list(words))
    assert done.exception is None or isinstance(done.exception, SystemExit | BadRun), done.exception
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize("shape", SHAPES)
def test_run_json(runs: tuple[Run, Run], shape: str) -> None:
    whole, harmed = runs
    spec = dict(harmed.about["spec"])
    records = len(harmed.records())
    (harmed.path / "run.json").write_text(shape, encoding="latin-1")
    assert [run.id for run in list_runs()] == [whole.id] and find_run("latest").id == whole.id
    assert [(run.id, f"{harmed.path}/run.json cannot be read" in said) for run, said in broken_runs()] == [
        (harmed.id, True)
    ]
    status, out, err = command("runs", "list")
    assert (
        status == 0 and out.startswith(whole.id) and "\n" not in out.strip() and f"{harmed.path} is no whole run" in err
    )
    rows = json.loads(command("runs", "list", "--json")[1])
    assert [row.get("problem") is None for row in rows] == [True, False]
    with pytest.raises(BadRun, match=r"run the same sweep again, which writes the file anew"):
        _ = find_run(harmed.id).about
    again = open_run("t", spec, harmed.id.rpartition("-")[2], records)
    assert again.path == harmed.path and len(again.records()) == records and broken_runs() == []


@pytest.mark.parametrize("shape", SHAPES)
def test_a_line_of_the_journal(runs: tuple[Run, Run], shape: str) -> None:
    whole, harmed = runs
    before = harmed.records()
    with open(harmed.journal, "a", encoding="latin-1") as file:
        file.write(shape + "\n")
    harmed.append("batch", {"size": {"base": 2}})
    assert harmed.records() == before and harmed.batch() == {"base": 2} and harmed.table() is not None
    # not JSON: what a crash leaves; or of a kind that a newer version may write
    left = shape in ("", "\xff", "{") or '"vote"' in shape
    assert (harmed.problems() == []) == left
    status, out, err = command("runs", "list")
    assert status == 0 and whole.id in out and harmed.id in out
    assert (f"{harmed.journal} has 1 line of another shape" in err) != left


FILES: dict[str, Callable[[Run], Any]] = {
    "status.json": lambda run: Attached(run).progress,
    "lock": holder,
    "search.json": lambda run: (run.search(), run.states()),
    "last_session.json": last_session,
    "votes.jsonl": votes.read,
    "marks.jsonl": favourites,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("file", FILES)
def test_a_file_beside_it(runs: tuple[Run, Run], file: str, shape: str) -> None:
    whole, harmed = runs
    (harmed.path / file).write_text(shape, encoding="latin-1")
    FILES[file](harmed)
    status, out, _ = command("runs", "list")
    assert status == 0 and whole.id in out and harmed.id in out
    assert command("runs", "show", harmed.id)[0] == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_a_lock_that_is_held(runs: tuple[Run, Run], shape: str) -> None:
    with Holding(runs[1], join=False):
        (runs[1].path / "lock").write_text(shape, encoding="latin-1")
        assert holder(runs[1]) is not None and Attached(runs[1]).state == "running"


@pytest.mark.parametrize("shape", SHAPES)
def test_votes_go_on_behind_an_odd_line(runs: tuple[Run, Run], shape: str) -> None:
    run = runs[0]
    first, second = run.records()[0], run.records()[1]
    votes.record(run, votes.Pair(first["cell"], second["cell"]), "a", "me")
    with open(votes.votes_file(run), "a", encoding="latin-1") as file:
        file.write(shape + "\n")
    votes.record(run, votes.Pair(first["cell"], second["cell"]), "b", "you")
    assert [vote.choice for vote in votes.read(run)] == ["a", "b"]


@pytest.mark.parametrize("shape", [*SHAPES, '{"cpu": {"m": {"base": {"64x64": {"rates": ["fast"]}}}}}'])
def test_costs(tmp_path: Path, shape: str) -> None:
    path = tmp_path / "costs.json"
    path.write_text(shape, encoding="latin-1")
    costs = Costs(path, "cpu")
    assert costs.seconds("base", Settings(model="m")) is None
    costs.learn("base", Settings(model="m"), 3.0)
    costs.save()
    assert Costs(path, "cpu").seconds("base", Settings(model="m")) == pytest.approx(3.0)


@pytest.mark.parametrize(
    "places", [{"0x0": {}}, {"nonsense": {"rates": [1.0]}}, {"64x64": {"rates": []}}, {"64x64": {"new": [1.0]}}]
)
def test_rows_of_costs_that_say_nothing(tmp_path: Path, places: dict[str, Any]) -> None:
    path = tmp_path / "costs.json"
    path.write_text(json.dumps({"cpu": {"m": {"base": {**places, "128x128": {"rates": [2.0]}}}}}))
    assert Costs(path, "cpu").seconds("base", Settings(model="m")) is not None


@pytest.mark.parametrize("shape", SHAPES)
def test_remembered_hashes(home: Path, tmp_path: Path, shape: str) -> None:
    (home / "cache").mkdir(parents=True)
    (home / "cache" / "hashes.json").write_text(shape, encoding="latin-1")
    large = tmp_path / "large"
    large.write_bytes(b"x" * 1_000_001)
    assert len(file_sha256(large)) == 64


# --- which is the latest -------------------------------------------------------------------------------------------


def begun(run: Run, when: datetime) -> None:
    about = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps({**about, "created": when.isoformat()}))


def test_the_latest_is_the_one_begun_last_whatever_its_files_say(runs: tuple[Run, Run], tmp_path: Path) -> None:
    """A copied or restored home made another run the latest."""
    first, second = runs
    assert [run.id for run in list_runs()] == [second.id, first.id]  # within one second, too
    for path in (first.path / "run.json", first.path):
        os.utime(path, (2_000_000_000, 2_000_000_000))
    assert find_run("latest").id == second.id
    now = datetime.now(UTC)
    begun(first, now.astimezone(UTC))  # an hour earlier on the clock, later in truth
    begun(second, (now - timedelta(minutes=5)).astimezone(tz=None))
    assert find_run("latest").id == first.id


def test_latest_is_said_with_its_date(runs: tuple[Run, Run]) -> None:
    status, _, err = command("runs", "table", "latest")
    assert status == 0 and f"latest is {runs[1].id}, begun {runs[1].created:%Y-%m-%d %H:%M:%S}." in err
    assert "latest" not in command("runs", "table", runs[1].id)[2]


def test_a_run_from_the_future_is_warned_of(runs: tuple[Run, Run]) -> None:
    begun(runs[0], datetime.now(UTC) + timedelta(days=800))
    status, _, err = command("runs", "show", "latest")
    assert status == 0 and f"{runs[0].id} says that it was begun in the future" in err


def test_reading_a_long_journal_is_quick(runs: tuple[Run, Run]) -> None:
    import time

    record = {name: value for name, value in runs[0].records()[0].items() if name != "kind"}
    with open(runs[0].journal, "w") as file:
        file.writelines(json.dumps({"kind": "cell", **record, "cell": i}) + "\n" for i in range(2000))
    started = time.process_time()
    assert len(runs[0].records()) == 2000
    typed = time.process_time() - started
    started = time.process_time()
    assert len(read_lines(runs[0].journal)) == 2000
    assert typed < 3 * (time.process_time() - started) + 0.05
    append_line(runs[0].journal, {"kind": "later", "what": "a newer version writes"})
    assert runs[0].problems() == []
