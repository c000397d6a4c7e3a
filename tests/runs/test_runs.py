from pathlib import Path
from typing import Any

import pytest
from support.runs import Told, fresh, known_run, rewrite

from workbench.errors import MixedScores
from workbench.promotion.promoting import write_promoted
from workbench.runs import AxisValue, plain, run as runs, same_pictures, same_values, swept
from workbench.runs.identical import alike
from workbench.sweeps.session import sweep


def test_runs_are_found_by_part_of_their_name(spec: dict, home: Path) -> None:
    small = {**spec, "axes": {}, "prompts": ["a face"], "name": "small one"}
    run = sweep(small, on=fresh(home), quiet=True)
    assert "small-one" in run.id
    for which in ("latest", run.id, run.id[-8:], str(run.path), run.path):
        assert runs.find_run(which).path == run.path
    with pytest.raises(runs.RunNotFound, match=run.id):
        runs.find_run("nothing")
    assert run.summary()["n"].tolist() == [0] and run.identical() == []
    (run.path / "run.json").write_text("{")
    with pytest.raises(runs.BadRun):
        run.about  # noqa: B018


def test_a_cell_that_a_guard_never_saw_is_not_taken_for_clean(home: Path) -> None:
    """Some scored before there was the guard, some after, as where a sweep that measures again was stopped."""
    run = known_run({"weight": [0.2, 0.6]}, lambda s: (str(s), 50.0), seeds=1)
    old = {"sharpness": "blur-2", "halo": "halo-1"}
    rewrite(run, 0, scores={"versions": old})
    rewrite(run, 1, scores={"versions": old})
    assert run.score_version() == "blur-2"
    rewrite(run, 1, scores={"versions": {**old, "deformed": "deformed-1"}})
    for read in (run.score_version, run.summary, lambda: write_promoted(run)):
        with pytest.raises(MixedScores, match="deformed"):
            read()
    rewrite(run, 0, scores={"versions": {**old, "deformed": "deformed-1"}})
    assert run.score_version() == "blur-2"


def test_what_axes_vary() -> None:
    assert swept({"width+height": [], "cfg": [], "weight+cfg": []}) == [
        "width", "height", "base_cfg", "refine_cfg", "weight", "base_cfg", "refine_cfg",
    ]  # fmt: skip
    assert [plain(v) for v in (0.30, 5.0, 7, [768, 0.5], True)] == ["0.3", "5", "7", "768/0.5", "True"]


def test_values_that_are_alike_whatever_the_other_axes_say() -> None:
    """2 x 3 values; the last axis runs fastest."""
    pictures = dict(enumerate(["a", "a", "b", "c", "c", "b"]))
    assert alike(pictures, [2, 3], 1) == [[0, 1], [2]] and alike(pictures, [2, 3], 0) == [[0], [1]]
    pictures[4] = "d"
    assert alike(pictures, [2, 3], 1) == [[0], [1], [2]]
    assert alike({**pictures, 4: "c", 1: "d"}, [2, 3], 1) == [[0], [1], [2]]
    del pictures[3], pictures[4]  # missing in both
    assert alike(pictures, [2, 3], 1) == [[0, 1], [2]]
    del pictures[0]
    assert alike(pictures, [2, 3], 1) == [[0], [1], [2]]


def test_identical_pictures_are_one_row_and_the_first_value_stands_for_them(home: Path) -> None:
    """Weights 0.2 and 0.6 give equal pictures at every strength; 1.0 does at strength 0.2 only."""

    def tell(s: dict[str, Any]) -> Told:
        same = s["weight"] < 1 or s["strength"] == 0.2
        name = f"{s['strength']} {s['seed']} {'low' if same else 'high'}"
        return name, {0.2: 50.0, 0.4: 60.0}[s["strength"]] - (0 if same else 5) + s["seed"]

    run = known_run({"strength": [0.2, 0.4], "weight": [0.2, 0.6, 1.0]}, tell)
    assert run.identical() == [
        "weight 0.2 and 0.6 gave pixel-identical pictures: they cannot be ranked against each other."
    ]
    summary: Any = run.summary()
    assert summary.index.tolist() == [(0.4, 0.2), (0.4, 1.0), (0.2, 0.2)]
    assert summary["same"].tolist() == ["weight 0.2 = 0.6", "", "weight 0.2 = 0.6 = 1"]
    assert summary["n"].tolist() == [2, 2, 2]
    assert len(run.summary(merged=False)) == 6
    evidence = write_promoted(run).evidence
    assert evidence["chosen"] == {"strength": 0.4, "weight": 0.2}
    assert evidence["runner_up"]["settings"] == {"strength": 0.4, "weight": 1.0}  # not its twin, weight 0.6
    assert len(evidence["ranking"]) == 3


def test_no_face_is_the_reason(home: Path) -> None:
    run = known_run({"weight": [0.2, 0.6, 1.0]}, lambda s: (str(s["seed"]), None))
    assert run.identical() == [
        "weight 0.2, 0.6 and 1 gave pixel-identical pictures (no face was found): they cannot be ranked against each other."
    ]
    assert run.summary()["same"].tolist() == ["weight 0.2 = 0.6 = 1"]


def test_one_picture_that_differs_is_enough(home: Path) -> None:
    run = known_run({"weight": [0.2, 0.6]}, lambda s: (f"{s['seed']} {s['seed'] == 1 and s['weight']}", 50.0))
    assert run.identical() == [] and len(run.summary()) == 2


def test_failed_cells_are_not_alike(home: Path) -> None:
    run = known_run({"weight": [0.2, 0.6]}, lambda s: ("failed", 50.0))
    assert run.identical() == [] and run.summary()["missing"].tolist() == [2, 2]
    assert run.summary()["same"].tolist() == ["", ""]
    run = known_run({"weight": [0.2, 0.6, 1.0]}, lambda s: ("failed" if s["weight"] < 1 else "p", 50.0), seeds=1)
    assert len(run.summary()) == 3


def test_settings_that_vary_together_are_ranked_and_promoted(home: Path) -> None:
    axes = {"width+height": [[256, 256], [512, 256], [512, 512]], "weight": [0.0, 1.0]}
    run = known_run(axes, lambda s: (f"{s['width']} {s['weight']} {s['seed']}", s["height"] / 10 + s["weight"]))
    # 512x256 and 512x512 were given the same pixels
    assert run.identical() == [
        "width+height 512/256 and 512/512 gave pixel-identical pictures: they cannot be ranked against each other."
    ]
    assert list(run.summary().index.names) == ["width", "height", "weight"]
    assert run.summary()["same"].tolist().count("height 256 = 512") == 2
    run = known_run({**axes, "steps": [9]}, lambda s: (str(s), s["height"] / 10 + s["weight"]))
    preset = write_promoted(run)
    assert preset.evidence["chosen"] == {"width": 512, "height": 512, "weight": 1.0, "steps": 9}
    assert (preset.settings.width, preset.settings.height) == (512, 512)


def test_settings_with_the_same_pictures() -> None:
    same = {1: "a", 2: "b"}
    assert same_pictures({"x": same, "y": dict(reversed(same.items())), "z": {1: "a"}}) == [["x", "y"], ["z"]]
    assert same_pictures({"x": {1: None}, "y": {1: None}, "z": {}}) == [["x"], ["y"], ["z"]]  # None: it failed
    assert same_pictures({}) == []


def test_values_of_which_no_picture_is_known_are_not_said_to_be_the_same() -> None:
    axes: dict[str, list[AxisValue]] = {"strength": [0.2, 0.3], "weight": [0.0, 0.5, 1.0]}
    pictures = {0: "a", 3: "b", 6: "a", 9: "b"}  # of two blocks, with weight 0 alone: a search has left the others out
    assert list(same_values(pictures, 2, axes)) == []
    pictures |= {1: "a", 4: "b", 7: "a", 10: "b"}
    assert list(same_values(pictures, 2, axes)) == [("weight", [0.0, 0.5], [0, 3, 6, 9, 1, 4, 7, 10])]
    assert list(same_values(dict.fromkeys(range(12), "a"), 2, axes)) == [
        ("strength", [0.2, 0.3], list(range(12))), ("weight", [0.0, 0.5, 1.0], list(range(12))),
    ]  # fmt: skip
