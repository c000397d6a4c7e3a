"""The benchmark of sweeps: its counts, that it notices what is wrong, and every part in its quickest form."""

import json
import math
import mmap
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from experiments.benchmarks import simulated
from experiments.benchmarks.counts import Lab, brute_force, grids
from experiments.benchmarks.engine import PARTS, TARGETS, SweepReport, bench_sweep, sampled
from experiments.benchmarks.interrupted import at_home, judged
from workbench.errors import Cancelled, UsageError
from workbench.files import read_lines
from workbench.recipe import denoising
from workbench.recipe.pipeline import Bench
from workbench.runs import list_runs
from workbench.store.store import Store
from workbench.sweeps.planning import plan
from workbench.sweeps.recording import Recorder
from workbench.sweeps.session import sweep


@pytest.fixture
def options(tiny_model: Path) -> dict[str, Any]:
    return {"model": str(tiny_model), "prompt": "a face", "size": 64, "quick": True}


@pytest.fixture
def lab(tmp_path: Path, options: dict[str, Any]) -> Lab:
    return Lab(tmp_path / "lab", **options)


def verdicts(report: SweepReport, part: str) -> dict[str, str]:
    return {row["name"]: row["verdict"] for row in report.rows() if row["part"] == part}


# --- counting --------------------------------------------------------------------------------------------------------


def test_the_brute_force_count_of_hires_768(lab: Lab) -> None:
    """The figures of the analysis: 30 base and 190 refine sample-forwards, 210 without the shared first step."""
    spec = lab.cube(5, size=768)
    cells = [cell.settings for cell in plan(spec, Store(None)).cells]
    assert brute_force(cells) == {
        "base": 30, "refine": 190, "detail": 0, "encode": 1, "decode": 26, "prompts": 2, "detections": 25, "weights": 125,
    }  # fmt: skip
    assert sum(s.steps for s in cells) == 3750 and sum(s.refine_evaluations for s in cells) == 1050
    unguided = [
        s.replace(refine_cfg=1.0, seed=n) for n, s in enumerate(cells)
    ]  # nothing is shared over seeds or at CFG 1
    assert brute_force(unguided)["refine"] == 1050 and brute_force(unguided)["base"] == 3750


def test_the_brute_force_count_is_the_plans_on_every_grid(lab: Lab) -> None:
    lab.quick = False
    assert len(grids(lab)) >= 5
    for spec in grids(lab).values():
        planned = plan(spec, Store(None))
        least = planned.minimum()
        found = brute_force(cell.settings for cell in planned.cells)
        assert {n: found[n] for n in ("base", "refine", "detail")} == least["unet_evaluations"]
        assert (found["encode"], found["decode"]) == (least["vae_encodes"], least["vae_decodes"])


def test_counters_reach_their_targets_and_a_planted_call_does_not(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = bench_sweep(["counters"], **options)
    assert set(verdicts(report, "counters").values()) == {"reached"}
    assert report.details["counters"]["2x2x2"]["executed"]["refine"] == 2 * (6 + 11) - 2

    real = denoising.Diffusion.evaluate

    def twice(self: Any, rows: Any, batch: int = 1) -> Any:  # runs the network behind the counters' back
        if rows[0].done == 3:
            before = dict(self.counts)
            real(self, rows, batch)
            self.counts.clear()
            self.counts.update(before)
        return real(self, rows, batch)

    monkeypatch.setattr(denoising.Diffusion, "evaluate", twice)
    monkeypatch.setattr("experiments.benchmarks.counts.grids", lambda lab: {"2x2x2": lab.cube(2)})
    found = verdicts(bench_sweep(["counters"], **options), "counters")
    assert list(found.values()) == ["reached", "reached", "missed"]

    def counted(self: Any, rows: Any, batch: int = 1) -> Any:
        if rows[0].done == 3:
            real(self, rows, batch)
        return real(self, rows, batch)

    monkeypatch.setattr(denoising.Diffusion, "evaluate", counted)
    found = verdicts(bench_sweep(["counters"], **options), "counters")
    assert list(found.values()) == ["missed", "missed", "reached"]


# --- speed -----------------------------------------------------------------------------------------------------------


def test_speed_compares_pixels_and_accounts_for_all_its_time(options: dict[str, Any]) -> None:
    report = bench_sweep(["speed"], **options)
    (found,) = report.details["speed"].values()
    assert verdicts(report, "speed")["pictures of the naive loop that differ"] == "reached"
    assert verdicts(report, "speed")["naive loop / sweep, CPU time, 5x5x5"] == "not measured"
    assert found["naive_cells"] == {"measured": 4, "of": 8}
    shares = found["shares"]
    networks = sum(shares[n] for n in ("base", "refine", "encode", "decode", "restorer"))
    assert math.isclose(networks + shares["everything else"], 1) and 0 < networks < 1
    assert found["naive_cpu_seconds"] / found["sweep_cpu_seconds"] == pytest.approx(found["ratio"])
    assert found["ratio"] < found["limit"]
    assert found["counts"]["executed"] == found["counts"]["minimum"]


def test_speed_sees_other_pixels(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    real = denoising.Row.advance

    def rounder(self: Any, negative: Any, positive: Any) -> None:
        real(self, negative, 1.01 * positive)

    monkeypatch.setattr(denoising.Row, "advance", rounder)
    report = bench_sweep(["speed"], **options)
    assert verdicts(report, "speed")["pictures of the naive loop that differ"] == "missed"


def test_the_sample_has_every_step_count_and_many_weights(lab: Lab) -> None:
    cells = plan(lab.cube(5), Store(None)).cells
    chosen = sampled(cells, 2)
    assert {steps: len(group) for steps, group in chosen.items()} == dict.fromkeys((6, 7, 8, 10, 11), 2)
    assert all(cell.settings.refine_evaluations == steps for steps, group in chosen.items() for cell in group)
    assert len({cell.settings.weight for group in chosen.values() for cell in group}) >= 4
    assert len({cell.settings.refine_cfg for group in chosen.values() for cell in group}) >= 2
    assert sorted(c.index for group in sampled(cells, 125).values() for c in group) == list(range(125))


# --- processes of their own ------------------------------------------------------------------------------------------


def test_killed_sweeps_end_whole_and_a_finished_one_loads_nothing(options: dict[str, Any]) -> None:
    report = bench_sweep(["kill", "rerun"], **options)
    found = report.details["kill"]
    assert len(found["rework"]) == 3 and found["runs"] >= 1
    assert found["batch"] == {"base": 12, "refine": 9}
    assert all(lost >= 0 for kill in found["rework"] for lost in kill.values())
    assert verdicts(report, "kill")["records lost or doubled"] == "reached"
    assert verdicts(report, "kill")["pictures that differ"] == "reached"
    again = report.details["rerun"]
    assert again["loaded"] == [] and again["cpu_seconds"] > 0 and again["cells"] == 8


def test_a_lost_or_doubled_record_and_another_pixel_are_seen(lab: Lab) -> None:
    with lab.home():
        run = sweep(lab.cube(2), on=Bench(Store.at_home()), quiet=True)
        want = {record["cell"]: record["pixels_sha256"] for record in run.records()}
        clean = {"records_wrong": 0, "pixels_wrong": 0, "stages_twice": 0}
        assert judged(run, 8, want) == clean
        assert judged(run, 9, want) == {**clean, "records_wrong": 1}
        Image.new("RGB", (128, 128)).save(run.path / "pictures" / "0003.png")
        assert judged(run, 8, want) == {**clean, "pixels_wrong": 1}
        lines = {line["kind"]: line for line in read_lines(run.journal)}
        run.append("cell", lines["cell"])
        run.append("stage", lines["stage"])
        assert judged(run, 8, want) == {"records_wrong": 1, "pixels_wrong": 1, "stages_twice": 1}
        want.pop(3)
        assert judged(run, 8, {**want, 0: "another"})["pixels_wrong"] == 1
        first = next(record for record in run.records() if record["cell"] == 0)
        run.append("cell", {**first, "pixels_sha256": "another"})  # a record that is not its file's
        assert judged(run, 8, want)["pixels_wrong"] == 1


# --- a simulated card ------------------------------------------------------------------------------------------------


@pytest.mark.alone
def test_a_simulated_card_works_and_waits_as_long_as_it_says(lab: Lab) -> None:
    with lab.home():
        on = Bench(Store.at_home())
        card = simulated.card_sweep(on, lab.cube(2), 1.0, lambda: None)
        assert 1.0 <= card["busy"] * card["seconds"] < 3.0  # what was asked for, and what sleeps oversleep
        assert card["busy"] <= 1.0
        run = list_runs()[0]
        assert run.states()["to_do"] == 0 and run.states()["failed"] == 0
        assert on.counters()["unet_evaluations"] == {"base": 30, "refine": 32, "detail": 0}


@pytest.mark.alone
def test_a_card_that_waits_for_the_engine_is_less_busy(lab: Lab) -> None:
    def slow() -> None:
        time.sleep(0.02)

    with lab.home():
        quick = simulated.card_sweep(Bench(Store.at_home()), lab.cube(2), 1.0, lambda: None)
    with lab.home():
        held_up = simulated.card_sweep(Bench(Store.at_home()), lab.cube(2), 1.0, slow)
    assert held_up["busy"] < 0.8 * quick["busy"]


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_the_queue_is_even(lab: Lab, workers: int, tmp_path: Path) -> None:
    found = simulated.queue(lab.cube(3, size=768, seeds=4), workers, tmp_path / "claims")
    assert found["efficiency"] <= 1 + 1e-9
    assert found["efficiency"] > {1: 0.999, 2: 0.97, 8: 0.8}[workers]
    assert len(found["busy"]) == workers
    # 12 first_steps of 3 groups: waiting is no work, and what is done twice is whole first steps, at most one a group
    extra = found["extra_first_steps"]
    assert extra == 0 if workers == 1 else 0 <= extra <= 24 and extra == round(extra)


def test_the_queue_does_all_the_work_once(lab: Lab, tmp_path: Path) -> None:
    """One worker alone needs exactly the least: 1 base, and every family's first step once."""
    spec = lab.cube(2, size=768)
    alone = simulated.queue(spec, 1, tmp_path / "claims")
    work = plan(spec, Store(None)).jobs
    s = next(iter(work["base"].values())).settings
    base = simulated._seconds("base", s)
    refine = sum(simulated._seconds("refine", cell.settings) for cell in work["refine"].values())
    faces = sum(simulated._seconds("faces", cell.settings) for cell in work["faces"].values())
    step = simulated.WORK["refine"] / simulated.RATE
    assert alone["seconds"] == pytest.approx(base + refine + faces - 2 * step, rel=0.01)


def test_memory_is_measured_and_growth_is_seen(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    report = bench_sweep(["memory"], **options)
    found = report.details["memory"]
    assert found["cells"] == 12 and found["warm"] >= 6 and min(found["bytes"].values()) > 50e6
    assert found["peak"] >= max(found["bytes"].values())

    leak: list[mmap.mmap] = []
    real = Recorder.cell

    def leaking(self: Any, *arguments: Any) -> None:
        # with every record: restoring may be done long before the last is scored. Pages of its own: 600 MB of bytes found
        # room in what malloc had kept from the first run, and the process did not grow
        leak.append(mmap.mmap(-1, 50_000_000))
        leak[-1].write(b"x" * 50_000_000)
        real(self, *arguments)

    monkeypatch.setattr(Recorder, "cell", leaking)
    assert verdicts(bench_sweep(["memory"], **options), "memory") == {"growth of the process after warm-up": "missed"}


# --- the report ------------------------------------------------------------------------------------------------------


def test_every_target_stands_in_the_table() -> None:
    values = {(t.part, t.name): {"==": t.limit, "<=": t.limit, ">=": t.limit}[t.sense] for t in TARGETS}
    assert {row["verdict"] for row in SweepReport(values, {}).rows()} == {"reached"}
    off = {"==": 1, "<=": 0.01, ">=": -0.01}
    worse = {(t.part, t.name): t.limit + off[t.sense] for t in TARGETS}
    assert {row["verdict"] for row in SweepReport(worse, {}).rows()} == {"missed"}
    empty = SweepReport({}, {})
    assert {row["verdict"] for row in empty.rows()} == {"not measured"}
    assert {row["part"] for row in empty.rows()} == set(PARTS)
    assert len(empty.table().splitlines()) == len(TARGETS)
    json.dumps(empty.to_json())


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(UsageError, match="no part 'sped'; there are counters"):
        bench_sweep(["sped"])


def test_it_can_be_stopped_and_leaves_nothing(options: dict[str, Any], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    calls = iter(range(1000))

    def check() -> None:
        if next(calls) > 40:
            raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"):
        bench_sweep(["counters"], **options, check=check)
    assert not list(tmp_path.glob("workbench-bench-*"))


def test_homes_are_kept_apart(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("WORKBENCH_STORE", "memory://somewhere")
    with at_home(tmp_path / "other"):
        assert os.environ["WORKBENCH_HOME"] == str(tmp_path / "other") and "WORKBENCH_STORE" not in os.environ
        assert Store.at_home().folder == tmp_path / "other" / "store"
    assert os.environ["WORKBENCH_HOME"] == str(home) and os.environ["WORKBENCH_STORE"] == "memory://somewhere"
