"""`runs export` and `runs import` as their user meets them."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from support.runs import scored

from workbench.cli import commands as cli
from workbench.runs.run import Run
from workbench.sweeps.holding import Holding

Said = tuple[int, str, str]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    def call(*words: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["workbench", "runs", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.fixture
def run(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Six cells; its report is drawn in no time."""
    run = scored(seeds=1)
    for record in run.records():
        run.picture(record).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (record["cell"], 0, 0)).save(run.picture(record))
    monkeypatch.setattr("workbench.report.write_report", lambda run: (run.path / "report.html").write_text("drawn"))
    monkeypatch.chdir(tmp_path)
    return run


def test_a_run_is_exported_and_comes_back(run: Run, command: Callable[..., Said], tmp_path: Path, monkeypatch) -> None:
    status, out, _ = command("export", "latest")
    assert status == 0 and out.startswith(f"{run.id}.tar  (0.") and "11 files, with the presets embedded.json" in out
    assert command("export", "latest")[:1] == (2,)
    about = json.loads(command("export", "latest", "--force", "--json")[1])
    assert about["files"] == 11 and about["working"] is False and about["notes"] == []
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "elsewhere"))
    status, out, _ = command("import", f"{run.id}.tar")
    assert status == 0 and "(11 files)" in out and "embedded.json: " in out
    assert (tmp_path / "elsewhere" / "runs" / run.id / "report.html").read_text() == "drawn"
    assert "the very same" in command("import", f"{run.id}.tar", "-q")[1]
    assert json.loads(command("import", f"{run.id}.tar", "--json")[1])["written"] is False
    assert run.id in command("show", "latest")[1]


def test_a_report_that_cannot_be_drawn_keeps_no_run_on_the_box(
    run: Run, command: Callable[..., Said], monkeypatch
) -> None:
    def broken(run: Run) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("workbench.report.write_report", broken)
    status, out, err = command("export", "latest", "-q")
    assert status == 0 and "10 files" in out
    assert "report.html could not be made (division by zero), so it is not in the archive" in err


def test_table_and_report_are_brought_up_to_the_records(run: Run, command: Callable[..., Said]) -> None:
    for name in ("table.csv", "report.html"):
        (run.path / name).write_text("old")
        os.utime(run.path / name, (1e9, 1e9))
    command("export", "latest", "-q")
    assert (run.path / "table.csv").read_text().startswith("cell,status") and (
        run.path / "report.html"
    ).read_text() == "drawn"


def test_a_run_that_is_worked_on_is_exported_as_it_is_now(run: Run, command: Callable[..., Said]) -> None:
    with Holding(run, join=False):
        status, _, err = command("export", "latest", "-q")
    assert status == 0 and "this is its state of now" in err
