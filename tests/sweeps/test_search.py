"""Searches through the whole machinery: a known response surface in place of the score."""

import math
from pathlib import Path
from typing import Any

import pytest
from support.runs import fresh

from workbench import scores
from workbench.files import read_lines
from workbench.promotion.promoting import write_promoted
from workbench.runs import Run
from workbench.sweeps.recording import Recorder
from workbench.sweeps.session import last_session, sweep

PEAK = {"strength": 0.4, "refine_cfg": 4.0, "weight": 0.5}


@pytest.fixture
def surface(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sharpest at PEAK; every prompt and seed has a level of its own, every picture a little noise."""
    original = Recorder.cell

    def cell(
        self: Any, of: Any, image: Any, seconds: float, status: str, measured: dict[str, Any], *notes: Any
    ) -> None:
        s = of.settings
        value = 60 - 60 * (s.strength - 0.4) ** 2 * 20 - 1.5 * (s.refine_cfg - 4) ** 2 - 30 * (s.weight - 0.5) ** 2
        value += 5 * (s.seed % 3) + 0.4 * math.sin(37 * of.index)
        original(
            self,
            of,
            image,
            seconds,
            scores.SCORED[0],
            {**measured, "sharpness": value, "ssim": 1 - s.weight / 9},
            *notes,
        )

    monkeypatch.setattr(Recorder, "cell", cell)


@pytest.fixture
def search(spec: dict[str, Any]) -> dict[str, Any]:
    """3 strengths x 4 CFGs x 3 weights x 4 seeds = 144 cells; they differ in the order of their pictures, too."""
    axes = {"strength": [0.3, 0.4, 0.5], "refine_cfg": [2.0, 3.0, 4.0, 5.0], "weight": [0.0, 0.5, 1.0]}
    fixed = {**spec["fixed"], "restorer": "codeformer", "steps": 2}
    return {**spec, "prompts": ["a face"], "seeds": [1, 2, 3, 4], "axes": axes, "fixed": fixed, "strategy": "race"}


def cells(run: Run) -> list[int]:
    return sorted(line["cell"] for line in read_lines(run.journal) if line["kind"] == "cell")


@pytest.mark.slow
@pytest.mark.usefixtures("surface")
def test_a_race_finds_the_peak_with_a_third_of_the_pictures(search: dict, home: Path) -> None:
    run = sweep(search, on=fresh(home), quiet=True)
    whole, states, chosen = run.records(), run.states(), run.search()
    assert len(whole) <= 48 and len(set(cells(run))) == len(cells(run))
    assert states["to_do"] == 0 and states["left_out"] == 144 - len(whole)
    assert chosen and {state["state"] for state in chosen["states"]} >= {"contender", "dropped"}
    assert all(state["reason"] for state in chosen["states"])
    best: Any = run.summary()
    assert dict(zip(best.index.names, best.index[0], strict=True)) == PEAK and best["not_run"].iloc[0] == 0
    preset = write_promoted(run)
    assert preset.evidence["chosen"] == PEAK and preset.evidence["search"]["strategy"] == "race"
    assert last_session(run)["executed"]["stages"]["base"] == 4
    lines = run.journal.read_bytes()
    bench = fresh(home)
    sweep(search, on=bench, quiet=True)
    assert bench.loaded == () and run.journal.read_bytes() == lines


@pytest.mark.slow
@pytest.mark.usefixtures("surface")
def test_a_stopped_race_asks_for_the_same_pictures(search: dict, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    want = cells(sweep(search, on=fresh(home), quiet=True))
    monkeypatch.setenv("WORKBENCH_HOME", str(home.with_name("other")))
    run: Run | None = None
    for steps in (40, 90, 10_000):
        calls = iter(range(steps))

        def check(left: Any = calls) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt

        try:
            run = sweep(search, on=fresh(home.with_name("other")), quiet=True, check=check)
        except KeyboardInterrupt:
            continue
    assert run and cells(run) == want


@pytest.mark.slow
@pytest.mark.usefixtures("surface")
@pytest.mark.parametrize("strategy", ["random", "pareto"])
def test_a_search_keeps_its_budget(search: dict, home: Path, strategy: str) -> None:
    run = sweep({**search, "strategy": strategy, "budget": 30}, on=fresh(home), quiet=True)
    assert 24 <= len(run.records()) <= 30
    chosen = run.search()
    assert chosen and chosen["strategy"] == strategy and chosen["why"] and run.states()["to_do"] == 0
