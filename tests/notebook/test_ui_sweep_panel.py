import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.runs import known, painted, pretend, until
from support.widgets import ask, opened

from workbench.errors import NotFinished
from workbench.notebook.widgets import SweepPanel
from workbench.notebook.widgets.outcome import OutcomePanel
from workbench.recipe.pipeline import generate
from workbench.runs import run as runs
from workbench.runs.run import Run
from workbench.sweeps import session as sweeps
from workbench.sweeps.detached import Attached
from workbench.sweeps.holding import Holding
from workbench.sweeps.planning import plan
from workbench.sweeps.spec import make_spec


@pytest.fixture(autouse=True)
def no_process_is_left(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("WORKBENCH_WIDGETS", "on")
    yield
    for run in runs.list_runs():
        worker = Attached(run).worker
        if worker and worker["pid"] != os.getpid():
            os.kill(worker["pid"], signal.SIGKILL)


def ready(what: Any) -> SweepPanel:
    panel = SweepPanel(what)
    panel.head.work.settle()
    return panel


@pytest.fixture
def run(spec: dict[str, Any]) -> Run:
    """A run nobody has worked on."""
    return sweeps.open_run(plan(spec))


def test_the_plan_is_shown_before_anything_runs(spec: dict[str, Any], home: Path) -> None:
    panel = ready(spec)
    view = panel.head.view
    assert view["state"] == "not started" and view["start"] and not view["stop"] and view["label"] == "Start"
    assert view["plan"].startswith("24 pictures (2 base, 8 refine, 24 faces); time not measured yet and ")
    assert view["bars"] == [("base", 0, 2), ("refine", 0, 8), ("faces", 0, 24)]
    assert panel.run is None and panel.wall is None and not (home / "runs").exists()
    with pytest.raises(NotFinished, match="press Start"):
        panel.result()


def test_what_the_store_has_already_counts_as_done(spec: dict[str, Any]) -> None:
    generate(plan(spec).cells[0].settings)
    assert ready(spec).head.view["bars"] == [("base", 1, 2), ("refine", 1, 8), ("faces", 1, 24)]


def test_warnings_of_the_plan_are_shown(spec: dict[str, Any]) -> None:
    spec["fixed"]["restorer"] = "none"
    assert "weight is dead" in ready(spec).head.view["warnings"][0]


def test_a_bad_spec_is_said_in_the_panel(spec: dict[str, Any], tmp_path: Path) -> None:
    panel = ready({**spec, "axes": {"strenght": [0.2]}})
    assert panel.head.said["error"] and "did you mean 'strength'" in panel.head.said["text"]
    assert panel.head.view["state"] == "not started" and not panel.head.view["start"]
    assert "there is no spec" in ready(tmp_path / "none.toml").head.said["text"].lower()
    assert "no runs are named 'nothing'" in ready("nothing").head.said["text"].lower()


def test_it_finds_the_run_that_was_begun(spec: dict[str, Any], run: Run) -> None:
    panel = ready(spec)
    assert panel.run is not None and panel.run.path == run.path and panel.wall is not None
    assert panel.box.children == (panel.head, panel.wall)
    assert panel.head.view["title"] == run.id and panel.head.view["bars"][-1] == ("cells", 0, 24)
    assert panel.head.view["label"] == "Go on"
    with pytest.raises(NotFinished, match=r"not started; run this cell when"):
        panel.result()
    by_id = ready(run.id)  # nobody knows its spec here
    assert by_id.run is not None and by_id.run.path == run.path and not by_id.head.view["start"]
    ask(by_id.head, do="start", retry=False)
    assert by_id.head.said["error"] and "open the panel with its spec" in by_id.head.said["text"]


def working(run: Run, **status: Any) -> Any:
    """The run as it is while a process works on it, which this one pretends to be."""
    holding = Holding(run, join=False)
    holding.__enter__()
    pretend(run, **status)
    return holding


def test_progress_is_counted_per_stage(spec: dict[str, Any], run: Run) -> None:
    panel = ready(spec)
    planned = plan(spec)
    keys = [*planned.jobs["refine"]]
    holding = working(run)
    try:
        for key in [*keys[:3], keys[0]]:
            run.append("stage", {"stage": "refine", "key": key, "seconds": 0.1, "pid": 1})
        panel.look()
        view = panel.head.view
        assert view["state"] == "running" and view["running"] and view["stop"] and not view["start"]
        assert view["bars"][:3] == [("base", 0, 2), ("refine", 3, 8), ("faces", 0, 24)]
        assert view["now"] == "refine, step 3 of 5; 01:10 left"
        assert panel.head.work.watching
        pretend(run, seconds_left_is="at least")
        panel.look()
        assert panel.head.view["now"].endswith("; at least 01:10 left")
        with pytest.raises(NotFinished, match="running, 0 of 24 cells"):
            panel.result()
        ask(panel.head, do="stop")
        assert (run.path / "stop").exists() and panel.head.view["state"] == "stopping"
        assert not panel.head.view["stop"]
    finally:
        holding.__exit__(None, None, None)
    pretend(run, state="stopped")
    panel.look()
    assert panel.head.view["state"] == "stopped" and not panel.head.work.watching
    assert "what was finished is kept" in panel.head.said["text"] and not panel.head.said["error"]


def test_new_cells_appear_on_the_wall_while_it_watches(spec: dict[str, Any], run: Run) -> None:
    panel = ready(spec)
    assert panel.wall is not None
    panel.wall.opened = 1
    holding = working(run)
    try:
        panel.look()
        settings = plan(spec).cells[0].settings.model_dump()
        record = {
            "cell": 0,
            "settings": settings,
            "status": "failed",
            "reason": "faces: too small",
            "key": "k",
            "keys": {},
        }
        run.append("cell", record)
        wall = panel.wall
        until(lambda: wall.view["cells"][0][0]["text"] == "failed", 5)
        until(lambda: panel.head.view["bars"][-1] == ("cells", 1, 24), 5)  # shown after the wall
        assert wall.opened == 1
    finally:
        holding.__exit__(None, None, None)


def test_one_that_died_says_so_with_the_remedy(spec: dict[str, Any], run: Run) -> None:
    working(run).__exit__(None, None, None)
    panel = ready(spec)
    assert panel.head.view["state"] == "died" and panel.head.view["start"]
    assert panel.head.said["error"] and "run the same sweep again" in panel.head.said["text"]


def test_a_finished_one_with_failures_can_be_tried_again(spec: dict[str, Any], run: Run, monkeypatch: Any) -> None:
    working(run).__exit__(None, None, None)
    pretend(run, state="finished")
    assert not ready(spec).head.view["start"] and ready(spec).result().path == run.path
    run.append(
        "cell",
        {
            "cell": 0,
            "settings": plan(spec).cells[0].settings.model_dump(),
            "status": "failed",
            "reason": "no",
            "key": "k",
            "keys": {},
        },
    )
    panel = ready(spec)
    assert panel.head.view["label"] == "Retry 1 failed" and panel.head.view["start"]
    asked: list[Any] = []
    monkeypatch.setattr(
        "workbench.sweeps.detached.start", lambda spec, retry_failed: asked.append(retry_failed) or Attached(run)
    )
    ask(panel.head, do="start", retry=True)
    assert asked == [True]


def test_why_there_is_no_finer_sweep_is_said_and_stays(spec: dict[str, Any], run: Run) -> None:
    working(run).__exit__(None, None, None)
    pretend(run, state="finished")
    panel = ready(spec)
    ask(panel.head, do="propose")
    assert panel.head.said["error"] and "has no winner to refine around" in panel.head.said["text"]


def test_of_a_search_only_what_it_asked_for_is_counted(spec: dict[str, Any]) -> None:
    spec |= {"strategy": "random", "budget": 6}
    run = sweeps.open_run(plan(spec))
    (run.path / "search.json").write_text(
        json.dumps({"cells": [0, 1, 2, 3], "strategy": "random", "why": "", "notes": [], "states": []})
    )
    assert ready(spec).head.view["bars"] == [("cells", 0, 4)]


@pytest.mark.slow
def test_started_stopped_and_gone_on_with(spec: dict[str, Any], tmp_path: Path) -> None:
    spec["prompts"], spec["fixed"]["refine_steps"] = ["a face"], 150  # at 60 it was over within 2 s
    path = tmp_path / "small.json"
    path.write_text(json.dumps(spec))
    panel = ready(path)
    begun = time.perf_counter()
    panel.head._received(panel.head, {"do": "start", "retry": False}, [])
    assert time.perf_counter() - begun < 0.05  # the process takes seconds to start
    until(lambda: panel.head.view["state"] == "starting", 5)
    panel.head.work.settle(120)
    until(lambda: panel.wall is not None and any(c["picture"] for row in panel.wall.view["cells"] for c in row))
    ask(panel.head, do="stop")
    until(lambda: panel.head.view["state"] == "stopped", 60)
    assert 1 <= panel.head.view["bars"][-1][1] < 12

    again = ready(path)  # another notebook, or this one after its kernel was restarted
    assert again.run is not None and again.head.view["label"] == "Go on"
    assert again.head.view["bars"] == panel.head.view["bars"]
    ask(again.head, do="start", retry=False)
    until(lambda: again.head.view["state"] == "finished")
    assert [done == total for _, done, total in again.head.view["bars"]] == [True] * 4
    assert not again.head.said["error"] and again.result().states()["to_do"] == 0
    until(lambda: again.head.view["headline"].startswith("No winner: "))  # a face of 64 px has no score


def test_what_came_out_appears_by_itself(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts and ranking whose dots open their cell on the wall, the winner, the next sweep."""
    run = painted(known())
    working(run).__exit__(None, None, None)
    pretend(run, state="finished")
    panel = SweepPanel(run.id, promote_as="")
    panel.head.work.settle()
    assert panel.head.view["headline"].startswith("Winner: Strength 0.4")
    outcome = next(part for part in panel.box.children if isinstance(part, OutcomePanel))
    until(lambda: not outcome.view["busy"])
    assert len(outcome.view["charts"]) == 5 and "The best" in outcome.view["ranking"]
    (cell,) = re.findall(r'data-cell="(\d+)"', outcome.view["charts"][0]["svg"])[:1]
    ask(outcome, do="open", cell=int(cell))
    assert panel.wall is not None and panel.wall.opened == int(cell)
    assert panel.winner is not None and panel.winner.widget is not None
    sent: list[Any] = []
    monkeypatch.setattr(panel.head, "send", sent.append)
    ask(panel.head, do="propose")
    assert sent[0]["proposal"][0].startswith("around ") and "36 pictures" in sent[0]["proposal"][-1]
    next_run, started = sweeps.open_run(plan(panel.finer().spec)), []
    monkeypatch.setattr("workbench.sweeps.detached.start", lambda spec: started.append(spec) or Attached(next_run))
    ask(panel.head, do="finer")
    assert started == [make_spec(run.path / "finer.toml")] and len(panel.box.children) == 6
    assert next_run.id in panel.head.said["text"]
    panel._below[0].head.work.settle()
    ask(panel.head, do="finer")
    assert len(panel.box.children) == 6  # it has its panel already
    run.append("cell", {**run.records()[0], "status": "failed", "reason": "no", "scores": {}})
    pretend(run, state="stopped")
    panel.look()
    assert panel.head.view["headline"] == "" and len(panel.box.children) == 3  # until it has finished again
    assert "wb-sweep" in panel.box.children[-1]._dom_classes  # the finer sweep's panel stays


@pytest.mark.slow
def test_headless_the_sweep_is_run_and_shown_as_a_picture(
    spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_WIDGETS", "off")
    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.display", lambda *what, **how: shown.append(what[0]))
    small = {**spec, "prompts": ["a face"], "axes": {"weight": [0.0, 1.0]}}
    panel = SweepPanel(small, promote_as="")
    panel._ipython_display_()
    assert panel.head.comm is None and panel.wall is None
    assert "finished, 2 of 2 cells" in shown[1].data and shown[2].data.startswith("**No winner: ")
    charts = [image for image in shown[3:8] if image.alt]
    assert len(charts) == 5 and charts[0].alt.startswith("Ranking. No picture has")  # a report is legible to all
    assert opened(shown[0].data).width > 200 and panel.result().states()["to_do"] == 0
    with pytest.raises(Exception, match="did you mean 'strength'"):
        SweepPanel({**spec, "axes": {"strenght": [0.2]}}).result()
