"""Promotion on runs whose records are written here, so that the winner is known."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from workbench.presets import load_preset
from workbench.promotion import NothingToPromote, promote
from workbench.runs import MixedScores, Run, open_run
from workbench.settings import Settings, UsageError

AXES = {"strength": [0.2, 0.4], "weight": [0.0, 1.0]}


def make_run(sharpness: dict[Any, list[Any]]) -> Run:
    """A finished run of AXES with one prompt and as many seeds as each combination has scores (None: no face)."""
    seeds = list(range(len(next(iter(sharpness.values())))))
    spec = {"base": {}, "prompts": ["p"], "seeds": seeds, "axes": AXES, "preset": "embedded", "name": "t"}
    run = open_run("t", spec, "0123456789", 4 * len(seeds))
    for cell, (seed, strength, weight) in enumerate(itertools.product(seeds, *AXES.values())):
        value = sharpness[strength, weight][int(seed)]
        settings = Settings(model="embedded", prompt="p", seed=seed, strength=strength, weight=weight)
        record: dict[str, Any] = {
            "cell": cell, "key": f"k{cell}", "keys": {"base": "b", "faces": f"k{cell}"}, "reason": None,
            "settings": settings.model_dump(), "status": "done" if value is not None else "no_face",
            "scores": {"sharpness": value, "lpips": None}, "picture": f"pictures/{cell:04d}.png", "pixels_sha256": f"h{cell}",
        }  # fmt: skip
        run.append("cell", record)
    return run


def test_the_best_mean_wins_not_the_best_picture(home: Path) -> None:
    run = make_run({(0.2, 0.0): [50, 52], (0.2, 1.0): [99, 1], (0.4, 0.0): [60, 50], (0.4, 1.0): [40, 41]})
    preset = promote(run, note="why not")
    assert preset.evidence["chosen"] == {"strength": 0.4, "weight": 0.0}
    assert (preset.evidence["mean"], preset.evidence["n"], preset.evidence["note"]) == (55, 2, "why not")
    assert preset.evidence["runner_up"]["settings"] == {"strength": 0.2, "weight": 0.0}
    assert preset.evidence["runner_up"]["paired_difference"] == {"mean": 4.0, "sd": pytest.approx(8.485), "n": 2}
    assert (preset.settings.strength, preset.settings.weight, preset.settings.seed) == (0.4, 0.0, 0)
    assert preset.evidence["pixels_sha256"] == f"h{preset.evidence['cell']}" == "h2"
    assert load_preset("production") == preset
    assert any("non-commercial" in text for text in preset.licences)


def test_a_missing_face_disqualifies(home: Path) -> None:
    run = make_run({(0.2, 0.0): [50, 50], (0.2, 1.0): [99, None], (0.4, 0.0): [40, 40], (0.4, 1.0): [41, 41]})
    assert promote(run).evidence["chosen"] == {"strength": 0.2, "weight": 0.0}


def flagged(run: Run, cells: set[int], flag: str) -> Run:
    for record in run.records():
        if record["cell"] in cells:
            run.append("cell", {**record, "scores": {**record["scores"], "flags": [flag]}})
    return run


def test_a_guard_that_fires_blocks(home: Path) -> None:
    """Cell 3 is the sharpest, and noisy: its setting is passed over, and the evidence says so."""
    run = make_run({(0.2, 0.0): [50], (0.2, 1.0): [60], (0.4, 0.0): [40], (0.4, 1.0): [99]})
    preset = promote(flagged(run, {3}, "noisy"))
    assert preset.evidence["chosen"] == {"strength": 0.2, "weight": 1.0}
    assert preset.evidence["passed_over"] == [{"strength": 0.4, "weight": 1.0, "mean": 99.0, "flagged": 1}]
    assert run.summary()["flagged"].tolist().count(1) == 1 and run.table()["flags"].tolist().count("noisy") == 1
    with pytest.raises(NothingToPromote, match="noisy 4x"):
        promote(flagged(run, {0, 1, 2, 3}, "noisy"))


def test_a_small_face_is_said_but_does_not_block(home: Path) -> None:
    run = make_run({combination: [1.0] for combination in itertools.product(*AXES.values())})
    assert promote(flagged(run, {0, 1, 2, 3}, "small")).evidence["n"] == 1


def test_scores_of_two_versions_are_not_compared(home: Path) -> None:
    run = make_run({combination: [1.0] for combination in itertools.product(*AXES.values())})
    for record, version in zip(run.records(), ("blur-1", "blur-1", "bands-1", "blur-1"), strict=True):
        run.append("cell", {**record, "scores": {**record["scores"], "versions": {"sharpness": version}}})
    with pytest.raises(MixedScores, match="bands-1 and blur-1"):
        promote(run)


def test_nothing_to_promote_changes_nothing(home: Path) -> None:
    promote(make_run({combination: [1.0] for combination in itertools.product(*AXES.values())}))
    before = load_preset("production")
    run = make_run({combination: [None] for combination in itertools.product(*AXES.values())})
    with pytest.raises(NothingToPromote, match="retry-failed"):
        promote(run)
    assert load_preset("production") == before


def test_bad_preset_name(home: Path) -> None:
    run = make_run({combination: [1.0] for combination in itertools.product(*AXES.values())})
    for name in ("../evil", "", "A B"):
        with pytest.raises(UsageError, match="cannot be a preset's name"):
            promote(run, name=name)


def test_one_seed_has_no_spread(home: Path) -> None:
    preset = promote(make_run({combination: [1.0] for combination in itertools.product(*AXES.values())}))
    assert preset.evidence["sd"] is None and preset.evidence["n"] == 1
