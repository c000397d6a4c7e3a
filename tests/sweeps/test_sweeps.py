import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support import together
from support.runs import fresh, pixels, recorded, until

from workbench import scores
from workbench.errors import Cancelled, RunBusy
from workbench.files import read_lines
from workbench.recipe.pipeline import Bench
from workbench.runs import run as runs
from workbench.settings import Settings
from workbench.store.store import Store
from workbench.sweeps import holding, session as sweeps
from workbench.sweeps.planning import plan
from workbench.sweeps.session import last_session, sweep

WHOLE: list[str] = []  # the pixels of `spec`, made once, in a home of its own


@pytest.fixture
def whole(spec: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    if not WHOLE:
        with monkeypatch.context() as elsewhere:
            elsewhere.setenv("WORKBENCH_HOME", str(tmp_path / "whole"))
            WHOLE.extend(pixels(sweep(spec, on=Bench(Store(tmp_path / "other")), quiet=True)))
    return WHOLE


def test_a_sweep_runs_exactly_what_was_planned(spec: dict, bench: Bench) -> None:
    run = sweep(spec, on=bench, quiet=True)
    session = last_session(run)
    assert session["executed"]["stages"] == {"base": 2, "refine": 8, "detail": 0, "faces": 24, "upscale": 0}
    assert session["executed"]["unet_evaluations"] == session["unet_evaluations"]
    assert run.states() == {"done": 0, "no_face": 24, "failed": 0, "to_do": 0}
    for name in ("contact_sheet.png", "table.csv", "run.json", "pictures/0023.png"):
        assert (run.path / name).stat().st_size > 100
    table: Any = run.table()
    assert len(table) == 24 and table["sharpness"].isna().all() and set(table["status"]) == {"no_face"}
    assert table["pixels_sha256"].nunique() == 8  # random pictures: no face, so the weight changes nothing


def test_cells_are_the_pictures_of_generate(spec: dict, bench: Bench) -> None:
    from workbench.files.pictures import open_picture, pixels_sha256, read_settings

    run = sweep(spec, on=bench, quiet=True)
    record = run.records()[13]
    alone = Bench(Store(None)).generate(Settings(**record["settings"]))
    picture = run.picture(record)
    assert pixels_sha256(alone.image) == record["pixels_sha256"] == pixels_sha256(open_picture(picture))
    assert read_settings(picture) == alone.settings


def test_again_does_nothing(spec: dict, home: Path) -> None:
    first = sweep(spec, on=fresh(home), quiet=True)
    lines = first.journal.read_bytes()
    bench = fresh(home)
    again = sweep(spec, on=bench, quiet=True)
    assert again.path == first.path and again.journal.read_bytes() == lines
    assert bench.loaded == ()


def test_an_older_score_is_measured_again_on_the_same_pictures(spec: dict, home: Path, monkeypatch) -> None:
    first = sweep(spec, on=fresh(home), quiet=True)
    before = pixels(first)
    newer = {**scores.versions(), "sharpness": "blur-next"}
    monkeypatch.setattr(scores, "versions", lambda: newer)
    monkeypatch.setattr("workbench.scores.scoring.versions", lambda: newer)
    bench = fresh(home)
    again = sweep(spec, on=bench, quiet=True)
    assert pixels(again) == before and bench.loaded == ()
    assert {record["scores"]["versions"]["sharpness"] for record in again.records()} == {"blur-next"}
    assert again.score_version() == "blur-next"


def test_a_wider_sweep_reuses_the_narrower(spec: dict, home: Path) -> None:
    sweep(spec, on=fresh(home), quiet=True)
    wider = {**spec, "axes": {**spec["axes"], "weight": [0.0, 0.5, 0.7, 1.0]}}
    run = sweep(wider, on=fresh(home), quiet=True)
    assert last_session(run)["executed"]["stages"] == {"base": 0, "refine": 0, "detail": 0, "faces": 8, "upscale": 0}


@pytest.mark.parametrize("at", [("base", 1), ("refine", 2), ("faces", 3), ("scores", 5)])
def test_stopped_anywhere_it_goes_on_and_ends_the_same(
    spec: dict, home: Path, whole: list[str], at, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {"jobs": 0}
    original = sweeps.Progress.finish

    def stop(self, stage: str, *rest) -> None:
        original(self, stage, *rest)
        seen["jobs"] += stage == at[0]
        if (stage, seen["jobs"]) == at:
            raise KeyboardInterrupt

    monkeypatch.setattr(sweeps.Progress, "finish", stop)
    with pytest.raises(KeyboardInterrupt):
        sweep(spec, on=fresh(home), quiet=True)
    monkeypatch.setattr(sweeps.Progress, "finish", original)
    done = last_session(runs.list_runs()[0])["executed"]["stages"]
    run = sweep(spec, on=fresh(home), quiet=True)
    rest = last_session(run)["executed"]["stages"]
    assert {s: done[s] + rest[s] for s in done} == {"base": 2, "refine": 8, "detail": 0, "faces": 24, "upscale": 0}
    assert pixels(run) == whole and len(whole) == 24 and recorded(run) == list(range(24))


@pytest.mark.slow
def test_killed_it_goes_on_and_ends_the_same(
    spec: dict, whole: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_home = tmp_path / "killed"
    code = f"import workbench as wb; wb.sweep({spec!r}, quiet=True)"
    env = {**os.environ, "WORKBENCH_HOME": str(killed_home)}
    for results in (3, 12):  # kill -9 once so many stage results are on disk
        process = subprocess.Popen([sys.executable, "-c", code], env=env)
        while process.poll() is None and len(list((killed_home / "store").rglob("*.png"))) < results:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    monkeypatch.setenv("WORKBENCH_HOME", str(killed_home))
    run = sweep(spec, on=fresh(killed_home), quiet=True)  # here: a third process would import torch once more
    assert run.path == next((killed_home / "runs").iterdir())
    assert pixels(run) == whole and recorded(run) == list(range(24))
    assert last_session(run)["executed"]["stages"]["base"] == 0


def test_cancel_keeps_what_is_finished(spec: dict, home: Path) -> None:
    calls = iter(range(100))

    def check() -> None:
        if next(calls) > 20:
            raise Cancelled("stopped by the user.")

    with pytest.raises(Cancelled):
        sweep(spec, on=fresh(home), quiet=True, check=check)
    assert len(list((home / "store").rglob("*.png"))) >= 2


def test_a_failed_cell_is_a_record_and_the_rest_goes_on(
    spec: dict, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workbench.recipe.stages.refine import Refine

    original = Refine.start

    def fail(self, diffusion, settings, *rest):
        if settings.refine_cfg == 6.0 and settings.prompt == "a lake":
            raise RuntimeError("the card fell off the bus")
        return original(self, diffusion, settings, *rest)

    monkeypatch.setattr(Refine, "start", fail)
    run = sweep(spec, on=fresh(home), quiet=True)
    assert run.states() == {"done": 0, "no_face": 18, "failed": 6, "to_do": 0}
    bad = [r for r in run.records() if r["status"] == "failed"]
    assert all(
        r["reason"] == "refine: the card fell off the bus" and "Traceback" in r.get("traceback", "") for r in bad
    )
    assert set(run.summary()["missing"]) == {2}  # no face also counts as missing
    monkeypatch.setattr(Refine, "start", original)
    assert sweep(spec, on=fresh(home), quiet=True).states()["failed"] == 6  # not tried again unasked
    again = sweep(spec, on=fresh(home), quiet=True, retry_failed=True)
    assert again.states() == {"done": 0, "no_face": 24, "failed": 0, "to_do": 0}
    assert last_session(again)["executed"]["stages"]["refine"] == 2


def test_a_full_disk_stops_with_a_remedy_and_loses_nothing(
    spec: dict, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    real, calls = os.fsync, iter(range(1000))

    def full(handle: int) -> None:
        if next(calls) > 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    from workbench.errors import DiskFull

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull, match="free some room"):
        sweep(spec, on=fresh(home), quiet=True)
    monkeypatch.setattr(os, "fsync", real)
    kept = len(list((home / "store").glob("*/*.json")))
    assert kept >= 3
    run = sweep(spec, on=fresh(home), quiet=True)
    assert sum(last_session(run)["executed"]["stages"].values()) == 34 - kept


def test_a_lost_input_is_made_again(spec: dict, home: Path) -> None:
    run = sweep(spec, on=fresh(home), quiet=True)
    want = pixels(run)
    for path in (home / "store").glob("*/*"):
        path.unlink()
    (run.path / run.records()[7]["picture"]).unlink()
    again = sweep(spec, on=fresh(home), quiet=True)
    assert pixels(again) == want and again.picture(again.records()[7]).exists()


def test_a_second_process_is_told_who_holds_the_run(spec: dict, home: Path) -> None:
    run = sweep(spec, on=fresh(home), quiet=True)
    assert holding.holder(run) is None
    with holding.Holding(run, join=False):
        with pytest.raises(RunBusy, match=rf"process {os.getpid()} on .* is working on {run.id}; .*--join"):
            sweep(spec, on=fresh(home), quiet=True)
        assert holding.holder(run)["pid"] == os.getpid()  # type: ignore[index]
    sweep(spec, on=fresh(home), quiet=True)  # and its lock goes with it


@pytest.mark.slow
def test_two_processes_share_a_run(spec: dict, home: Path, tmp_path: Path) -> None:
    """The second helps: every cell once, every job once, the same pixels; and it ends alone when the first is killed."""
    whole = {**spec, "fixed": {**spec["fixed"], "steps": 12}}
    want = pixels(sweep(whole, on=Bench(Store(tmp_path / "other")), quiet=True))
    shared, begun = tmp_path / "shared", tmp_path / "begun"
    begun.mkdir()
    env = {**os.environ, "WORKBENCH_HOME": str(shared)}
    code = f"import workbench as wb; wb.sweep({whole!r}, quiet=True, join=True)"
    # each makes a base picture of 12 steps; the first one dies in the second step of a refinement
    first, second = (
        subprocess.Popen([sys.executable, "-c", together.code(begun, 2, stop_at) + code], env=env)
        for stop_at in (14, None)
    )
    try:

        def both() -> bool:
            (journal,) = shared.glob("runs/*/journal.jsonl")
            return len({line["pid"] for line in read_lines(journal) if line["kind"] == "stage"}) == 2

        until(lambda: (begun / "stopped").exists() and both())
        first.send_signal(signal.SIGKILL)
        assert second.wait(240) == 0
    finally:
        for process in (first, second):
            process.kill()
            process.wait()
    run = runs.Run(next((shared / "runs").iterdir()))
    assert pixels(run) == want and recorded(run) == list(range(24))
    stages = [line["key"] for line in read_lines(run.journal) if line["kind"] == "stage"]
    assert len(stages) == len(set(stages)) == 34  # nothing was made twice
    assert (run.path / "contact_sheet.png").exists()


def test_a_helper_that_fails_is_told_and_does_not_stop_the_rest(
    spec: dict, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workbench.sweeps import local_workers

    monkeypatch.setattr(local_workers.sys, "executable", "/bin/false")
    run = sweep(spec, on=fresh(home), quiet=True, workers=2)
    assert run.states()["to_do"] == 0
    assert last_session(run)["notes"] == ["helper 1 ended with status 1: no word"]


def test_a_stop_file_ends_it_within_a_step(spec: dict, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    original = sweeps.Session.step

    def step(self, stage: str, done: int, total: int) -> None:
        original(self, stage, done, total)
        steps.append(done)
        if len(steps) == 12:
            holding.stop(self.run)
            self._looked = 0.0

    monkeypatch.setattr(sweeps.Session, "step", step)
    with pytest.raises(Cancelled, match="was stopped; what was finished is kept"):
        sweep(spec, on=fresh(home), quiet=True)
    assert len(steps) == 12
    monkeypatch.setattr(sweeps.Session, "step", original)
    run = sweep(spec, on=fresh(home), quiet=True)  # begun again, it is not stopped any more
    assert run.states()["to_do"] == 0
    assert json.loads((run.path / "status.json").read_text())["state"] == "finished"


def test_cfg_axis_sets_both(spec: dict, bench: Bench) -> None:
    planned = plan({**spec, "axes": {"cfg": [2, 5.0]}}, bench.store)
    assert [(c.settings.base_cfg, c.settings.refine_cfg) for c in planned.cells] == [(2, 2), (5, 5)] * 2
    assert planned.to_json()["stages"]["base"]["jobs"] == 4
    run = sweep({**spec, "prompts": ["a face"], "axes": {"cfg": [2, 5.0]}}, on=bench, quiet=True)
    assert list(run.summary().index.names) == ["base_cfg", "refine_cfg"]


def test_eta_comes_from_measured_seconds(tiny: Settings, tmp_path: Path) -> None:
    from workbench.sweeps.costs import Costs
    from workbench.sweeps.progress import Progress

    def progress() -> Progress:
        work = {"base": [tiny] * 4, "refine": [tiny], "scores": [tiny]}
        costs = Costs(tmp_path / "costs.json", "a device")
        found = Progress(costs, quiet=True)
        found.status = tmp_path / "status.json"
        found.expect(work, 4)
        return found

    first = progress()
    first.finish("base", tiny, 10.0)
    assert first.eta() == "at least 00:30"  # three more bases; refine was never timed
    first.finish("refine", tiny, 4.0)
    assert first.eta() == "00:30"
    first.close("stopped")
    assert progress().eta() == "00:44"
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["state"] == "stopped" and status["seconds_left"] == 30.0


def test_a_score_that_fails_is_a_record_too(spec: dict, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench import scores

    original, calls = scores.cell_scores, iter(range(100))

    def fail(*pictures):
        if next(calls) == 2:
            raise ValueError("no such band")
        return original(*pictures)

    monkeypatch.setattr(scores, "cell_scores", fail)
    run = sweep(spec, on=fresh(home), quiet=True)
    bad = [record for record in run.records() if record["status"] == "failed"]
    assert [record["reason"] for record in bad] == ["scores: no such band"]
    assert sweep(spec, on=fresh(home), quiet=True, retry_failed=True).states()["failed"] == 0
