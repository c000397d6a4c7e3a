"""`make bench-score` and `make bench-sweep`: what they print, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from experiments.benchmarks.__main__ import app
from workbench.cli.terminal import run

Command = Callable[..., int]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run one of them in this process; its exit status."""

    def call(*words: str) -> int:
        monkeypatch.setattr("sys.argv", ["benchmarks", *words])
        with pytest.raises(SystemExit) as ended:
            run(app)
        return int(ended.value.code or 0)

    return call


def test_the_engines_figures_as_json(
    command: Command,
    tmp_path: Path,
    tiny_model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert command("sweep", "--quick", "--quiet", "--only", "nothing") == 2
    assert "there is no part 'nothing'" in capsys.readouterr().err
    monkeypatch.setattr("experiments.benchmarks.counts.grids", lambda lab: {"2x2x2": lab.cube(2)})
    small = ["--quick", "--quiet", "--only", "counters", "--model", str(tiny_model)]
    assert command("sweep", *small, "--json", "-o", str(tmp_path / "result.json")) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "result.json").read_text())
    assert {row["verdict"] for row in printed["figures"] if row["part"] == "counters"} == {"reached"}


@pytest.mark.slow
def test_the_trust_test_of_the_score(
    command: Command, capsys: pytest.CaptureFixture[str], astronaut: Image.Image, hopper: Image.Image, tmp_path: Path
) -> None:
    astronaut.save(tmp_path / "a.png")
    hopper.save(tmp_path / "h.png")
    pictures = [str(tmp_path / "a.png"), str(tmp_path / "h.png")]
    assert command("score", *pictures, "--quick", "--fast", "--quiet", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["portraits"] == ["a", "h"] and next(iter(report["rows"])) == "workbench"
    assert {"laplacian", "tenengrad_F", "crete_F", "fft_F"} <= set(report["rows"])
    Image.new("RGB", (64, 64)).save(tmp_path / "none.png")
    assert command("score", str(tmp_path / "none.png"), "--quick") == 2
    assert "no face in" in capsys.readouterr().err
