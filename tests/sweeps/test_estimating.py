"""What a sweep takes on a card that is not here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from workbench.cli.commands import app
from workbench.errors import MissingWeights
from workbench.machine import CARDS
from workbench.settings import Settings
from workbench.sweeps import Costs, Spec, estimate, make_spec, plan

ROOT = Path(__file__).parents[2]
TI = CARDS["RTX 3090 Ti"]
SPEC = make_spec(ROOT / "experiments" / "demo.toml")


def full_size(**changes: object) -> Spec:
    return SPEC.with_values({"preset": "recommended", **changes})


def test_jobs_are_counted_as_a_plan_counts_them() -> None:
    found, planned = estimate(SPEC, TI), plan(SPEC).to_json()
    assert found.cells == planned["cells"]
    assert found.jobs == {stage: row["jobs"] for stage, row in planned["stages"].items() if row["jobs"]}
    assert found.unet_evaluations == {stage: n for stage, n in planned["unet_evaluations"].items() if n}
    assert found.download_bytes == 0


def test_without_weights_it_says_what_to_fetch_and_what_memory_and_disk_it_needs() -> None:
    found = estimate(full_size(), TI, 0.30)
    assert found.download_bytes == pytest.approx(13.4e9, rel=0.01)
    assert found.download_bytes < found.disk_bytes < found.download_bytes + 2e9
    assert found.peak_bytes is not None and 11 * 2**30 < found.peak_bytes < 0.85 * 24 * 2**30
    assert found.cost == (found.hours[0] * 0.30, found.hours[1] * 0.30)
    assert not found.measured
    assert estimate(full_size(), TI).cost is None
    small = estimate(full_size(hires_scale=2.0), CARDS["RTX 3080"])
    assert any("RTX 3080 has 10 GiB, and this needs" in note for note in small.notes)


def test_it_brackets_a_published_time_of_five_hundred_cells() -> None:
    """At 60 TFLOP/s, what published timings give a 3090 Ti, 500 cells of 768 to 1536 px take 9.4 minutes, by hand."""
    axes: dict[str, Any] = {
        "strength": [0.25, 0.3, 0.35, 0.4, 0.45],
        "refine_cfg": [3.0, 4.0, 5.0, 6.0, 7.0],
        "weight": [0.1, 0.3, 0.5, 0.7, 0.9],
    }
    spec = Spec(name="hand", preset="hires-768", prompts=["a face"], seeds=4, axes=axes, fixed={"steps": 30})
    found = estimate(spec, TI)
    assert found.cells == 500
    fetching = found.download_bytes / 200e6 + 13e9 / 2e9
    assert 3600 * found.hours[0] - fetching < 9.4 * 60 < 3600 * found.hours[1]


def test_times_of_such_a_card_are_taken_where_there_are_some(home: Path) -> None:
    costs = Costs(home / "store" / "costs.json", "NVIDIA GeForce RTX 3090 Ti float16")
    s = Settings(**plan_cell(full_size()))
    for stage, seconds in (("base", 10.0), ("refine", 20.0), ("faces", 0.5)):
        costs.learn(stage, s, seconds)
    costs.save()
    found = estimate(full_size(), TI)
    assert found.measured
    work = 2 * 10 + 0.9 * 18 * 20 + 54 * 0.5  # about: a step is shared
    assert 3600 * (found.hours[1] - found.hours[0]) < 13.4e9 / 20e6 + 40 + 0.4 * work
    assert not estimate(full_size(), CARDS["RTX 3090"]).measured


def plan_cell(spec: Spec) -> dict[str, object]:
    from workbench.sweeps import write_out

    return write_out(spec).cells()[0].model_dump()


def test_a_model_that_is_nowhere_is_refused_by_name() -> None:
    with pytest.raises(MissingWeights, match=r"'RealVis' is not there: .* Nor is it in the registry"):
        estimate(full_size(model="RealVis"), TI)


@pytest.mark.parametrize(
    "changes", [{"restorer": "nosuch"}, {"upscaler": "nosuch"}, {"vae": "nosuch"}, {"refiner": "nosuch"}]
)
def test_so_is_any_other_file(changes: dict[str, object]) -> None:
    with pytest.raises(MissingWeights, match="'nosuch' is not there"):
        estimate(full_size(**changes), TI)


def test_neither_the_order_of_an_axis_nor_an_ending_matters() -> None:
    one, other = (estimate(full_size(refiner=values), TI) for values in (["auto", "base"], ["base", "auto"]))
    assert (one.peak_bytes, one.hours) == (other.peak_bytes, other.hours)
    whole = estimate(full_size(model="sdxl_lightning_8step.safetensors"), TI)
    assert whole.download_bytes == estimate(full_size(model="sdxl_lightning_8step"), TI).download_bytes > 6e9


def test_what_is_not_counted_is_said() -> None:
    raced = estimate(full_size(strategy="random", budget=6), TI)
    assert "the strategy random chooses at most 6 of the cells; all of them are counted" in raced.notes
    winners = estimate(full_size(upscale_winners=1, upscaler="RealESRGAN_x2plus"), TI)
    assert winners.download_bytes == estimate(full_size(), TI).download_bytes + 67_061_725
    wide = estimate(full_size(dtype="float32"), TI)
    assert wide.peak_bytes is not None and wide.peak_bytes > 22 * 2**30
    assert any("float32 takes" in note for note in wide.notes)


def test_it_needs_no_torch_and_no_network(home: Path) -> None:
    code = (
        "import socket, sys; socket.socket.connect = None\n"
        "sys.argv = 'workbench sweep experiments/demo.toml --set preset=recommended --plan --on h100 --price-per-hour 2.5 "
        "--json'.split()\n"
        "from workbench.cli import main\n"
        "main()\n"
    )
    ending = "\nimport atexit\n"
    check = "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr))\n"
    done = subprocess.run(
        [sys.executable, "-c", check + code + ending], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.stderr.strip() == "False"
    found = json.loads(done.stdout)
    names = {
        "cells",
        "jobs",
        "unet_evaluations",
        "download_bytes",
        "disk_bytes",
        "peak_bytes",
        "hours",
        "cost",
        "measured",
    }
    assert names <= found.keys()
    assert found["cost"]["low"] == pytest.approx(2.5 * found["hours"]["low"], abs=0.001)


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--on", "H100"], "goes with --plan"), (["--on", "GTX 9", "--plan"], "is no card of the table")],
)
def test_what_makes_no_sense_is_refused(words: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["sweep", str(ROOT / "experiments" / "demo.toml"), *words])
    assert said in str(result.exception)
