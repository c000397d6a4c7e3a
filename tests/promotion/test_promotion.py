"""Promotion on runs whose records are written here, so that the winner is known."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from support.runs import SCORES

from workbench.errors import MixedScores, NothingToPromote, UsageError
from workbench.presets import Preset, RunSample, load_preset, preset_changes, presets_folder
from workbench.promotion.promoting import preview, write_promoted
from workbench.runs import Run, open_run
from workbench.settings import Settings

AXES = {"strength": [0.2, 0.4], "weight": [0.0, 1.0]}


def make_run(sharpness: dict[Any, list[Any]]) -> Run:
    """A finished run of AXES with one prompt and as many seeds as each combination has scores (None: no face)."""
    seeds = list(range(len(next(iter(sharpness.values())))))
    spec = {"base": {}, "prompts": ["p"], "seeds": seeds, "axes": AXES, "preset": "embedded", "name": "t"}
    spec |= {"strategy": "grid", "budget": None}
    run = open_run("t", spec, "0123456789", 4 * len(seeds))
    for cell, (seed, strength, weight) in enumerate(itertools.product(seeds, *AXES.values())):
        value = sharpness[strength, weight][int(seed)]
        settings = Settings(model="embedded", prompt="p", seed=seed, strength=strength, weight=weight)
        record: dict[str, Any] = {
            "cell": cell, "key": f"k{cell}", "keys": {"base": "b", "faces": f"k{cell}"}, "reason": None,
            "settings": settings.model_dump(), "status": "done" if value is not None else "no_face",
            "scores": SCORES | {"sharpness": value, "lpips": None}, "picture": f"pictures/{cell:04d}.png",
            "pixels_sha256": f"h{cell}", "seconds": 1.0,
        }  # fmt: skip
        run.append("cell", record)
    return run


def test_the_best_mean_wins_not_the_best_picture(home: Path) -> None:
    run = make_run({(0.2, 0.0): [50, 52], (0.2, 1.0): [99, 1], (0.4, 0.0): [60, 50], (0.4, 1.0): [40, 41]})
    preset = write_promoted(run, note="why not")
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
    assert write_promoted(run).evidence["chosen"] == {"strength": 0.2, "weight": 0.0}


def flagged(run: Run, cells: set[int], flag: str) -> Run:
    for record in run.records():
        if record["cell"] in cells:
            run.append("cell", {**record, "scores": {**record["scores"], "flags": [flag]}})
    return run


def test_a_guard_that_fires_blocks(home: Path) -> None:
    """Cell 3 is the sharpest, and noisy: its setting is passed over, and the evidence says so."""
    run = make_run({(0.2, 0.0): [50], (0.2, 1.0): [60], (0.4, 0.0): [40], (0.4, 1.0): [99]})
    preset = write_promoted(flagged(run, {3}, "noisy"))
    assert preset.evidence["chosen"] == {"strength": 0.2, "weight": 1.0}
    assert preset.evidence["passed_over"] == [{"strength": 0.4, "weight": 1.0, "mean": 99.0, "flagged": 1}]
    assert run.summary()["flagged"].tolist().count(1) == 1 and run.table()["flags"].tolist().count("noisy") == 1
    with pytest.raises(NothingToPromote, match="noisy 4x"):
        write_promoted(flagged(run, {0, 1, 2, 3}, "noisy"))


@pytest.mark.parametrize("flag", ["small", "asymmetric"])
def test_what_only_informs_is_said_but_does_not_block(flag: str, home: Path) -> None:
    run = make_run({combination: [1.0] for combination in itertools.product(*AXES.values())})
    assert write_promoted(flagged(run, {0, 1, 2, 3}, flag)).evidence["n"] == 1


def test_scores_of_two_versions_are_not_compared(home: Path) -> None:
    run = make_run({combination: [1.0] for combination in itertools.product(*AXES.values())})
    for record, version in zip(run.records(), ("blur-1", "blur-1", "bands-1", "blur-1"), strict=True):
        run.append("cell", {**record, "scores": {**record["scores"], "versions": {"sharpness": version}}})
    with pytest.raises(MixedScores, match="bands-1 and blur-1"):
        write_promoted(run)


def test_nothing_to_promote_changes_nothing(home: Path) -> None:
    write_promoted(make_run({combination: [1.0] for combination in itertools.product(*AXES.values())}))
    before = load_preset("production")
    run = make_run({combination: [None] for combination in itertools.product(*AXES.values())})
    with pytest.raises(NothingToPromote, match="retry-failed"):
        write_promoted(run)
    assert load_preset("production") == before


def test_bad_preset_name(home: Path) -> None:
    run = make_run({combination: [1.0] for combination in itertools.product(*AXES.values())})
    for name in ("../evil", "", "A B"):
        with pytest.raises(UsageError, match="cannot be a preset's name"):
            write_promoted(run, name=name)


def test_one_seed_has_no_spread(home: Path) -> None:
    preset = write_promoted(make_run({combination: [1.0] for combination in itertools.product(*AXES.values())}))
    assert preset.evidence["sd"] is None and preset.evidence["n"] == 1


PLAIN = {(0.2, 0.0): [50, 52], (0.2, 1.0): [60, 61], (0.4, 0.0): [70, 80], (0.4, 1.0): [40, 41]}


def test_a_person_may_choose_another_cell(home: Path) -> None:
    """Cell 0 is seed 0, and seed 1 is sharper: the preset makes the very picture that was clicked."""
    run = make_run(PLAIN)
    preset = write_promoted(run, cell=0, note="I like it")
    evidence = preset.evidence
    assert (preset.settings.strength, preset.settings.weight, preset.settings.seed) == (0.2, 0.0, 0)
    assert (evidence["cell"], evidence["chosen_by"], evidence["rank"]) == (0, "a person", 3)
    assert (evidence["mean"], evidence["n"], evidence["pixels_sha256"]) == (51, 2, "h0")
    assert evidence["runner_up"]["settings"] == {"strength": 0.4, "weight": 0.0}
    assert evidence["runner_up"]["paired_difference"]["mean"] == -24.0
    assert "chosen by a person (rank 3 of 4)" in preset.about
    assert write_promoted(run).evidence["chosen_by"] == "highest mean"


def test_a_combination_by_its_settings(home: Path) -> None:
    run = make_run(PLAIN)
    preset = write_promoted(run, settings={"strength": 0.2, "weight": 1.0})
    assert (preset.evidence["rank"], preset.settings.seed) == (2, 1)
    assert write_promoted(run, settings=preset.settings).settings == preset.settings
    for wrong, said in (
        ({"strength": 0.2}, "weight of"),
        ({"strength": 0.2, "weight": 1.0, "seed": 1}, "seed is no axis"),
        ({"strength": 0.3, "weight": 1.0}, "no picture of"),
    ):
        with pytest.raises(UsageError, match=said):
            write_promoted(run, settings=wrong)
    with pytest.raises(UsageError, match="give one of them"):
        write_promoted(run, cell=0, settings={"strength": 0.2, "weight": 1.0})
    with pytest.raises(NothingToPromote, match=r"cell 99 of .* has not been made; its cells are 0 to 7"):
        write_promoted(run, cell=99)


def test_a_person_cannot_choose_what_a_guard_or_a_missing_face_speaks_against(home: Path) -> None:
    """The guard fired on seed 1 only; the cell of seed 0 is the same setting."""
    run = flagged(make_run({**PLAIN, (0.4, 1.0): [40, None]}), {4}, "noisy")
    before = write_promoted(run)
    with pytest.raises(NothingToPromote, match=r"a guard fired on strength 0.2, weight 0 \(noisy 1x\)"):
        write_promoted(run, cell=0)
    with pytest.raises(
        NothingToPromote, match=r"strength 0.4, weight 1 has no face score on 1 of 2 pictures \(1 no face\)"
    ):
        write_promoted(run, cell=3)
    assert load_preset("production") == before
    assert write_promoted(flagged(run, {1}, "small"), cell=1).evidence["guards"] == {"small": 1}


def test_a_setting_with_the_same_pictures_as_another_may_be_chosen(home: Path) -> None:
    """The ranking shows one row for both; the cell that was clicked is the one whose settings are promoted."""
    run = make_run(PLAIN)
    for record in run.records():
        if record["settings"]["strength"] == 0.2:
            run.append("cell", {**record, "pixels_sha256": f"same{record['settings']['seed']}"})
    assert write_promoted(run, cell=1).settings.weight == 1.0


def test_the_diff_that_a_promotion_would_make(home: Path) -> None:
    settings = Settings(model="embedded", strength=0.5)
    new = preview("production", settings)
    assert new["strength"] == (None, 0.5) and len(new) == len(Settings.model_fields) - 2
    Preset("production", settings.replace(strength=0.3, seed=4)).save(presets_folder() / "production.json")
    assert preview("production", settings) == {"strength": (0.3, 0.5)}
    assert preview("production", load_preset("production").settings) == {}
    (presets_folder() / "production.json").write_text("{")
    assert preview("production", settings) == new
    with pytest.raises(UsageError, match="cannot be a preset's name"):
        preview("../evil", settings)


def test_the_log_has_what_a_promotion_was_chosen_on(home: Path) -> None:
    run = make_run(PLAIN)
    write_promoted(run)
    write_promoted(run, cell=0, name="mine")
    for name in ("production", "mine"):
        ((change,), problems) = preset_changes(name)
        assert (change.kind, change.name, change.judged_on, problems) == ("promote", name, None, [])
        assert change.chosen_on == RunSample(run=run.id, prompts=["p"], seeds=[0, 1])
