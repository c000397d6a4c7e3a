from pathlib import Path

import pytest

from workbench.pipeline import Bench
from workbench.plans import SpecError, make_spec, plan
from workbench.settings import SettingsError


def test_plan_counts_each_stage_once(spec: dict, bench: Bench) -> None:
    planned = plan(spec, bench.store).to_json()
    assert planned["cells"] == 24
    assert {stage: count["jobs"] for stage, count in planned["stages"].items()} == {
        "base": 2, "refine": 8, "faces": 24, "upscale": 0,
    }  # fmt: skip
    assert planned["unet_evaluations"] == {"base": 2 * 4, "refine": 2 * 2 * (3 + 5)}
    assert planned["warnings"] == []
    assert bench.counters()["stages"]["base"] == 0


def test_aliased_and_dead_values_are_named(spec: dict, bench: Bench) -> None:
    axes = {"strength": [0.3, 0.35, 0.5], "weight": [0.2, 0.8], "refine_cfg": [2.0, 6.0]}
    planned = plan({**spec, "axes": axes, "fixed": {**spec["fixed"], "restorer": "none"}}, bench.store)
    assert planned.warnings == [
        "strength 0.3 and 0.35 give the same picture (each runs 3 of 10 refine steps); only one is computed.",
        "axis weight is dead: all its values (0.2 and 0.8) give the same picture (the faces stage does not run).",
    ]
    assert planned.to_json()["stages"]["refine"]["jobs"] == 2 * 2 * 2


def test_the_issue_s_alias() -> None:
    planned = plan({"preset": "embedded", "axes": {"strength": [0.36, 0.37, 0.45]}})
    assert "strength 0.36 and 0.37 give the same picture (each runs 9 of 25 refine steps)" in planned.warnings[0]


def test_axes_are_ordered_by_stage(spec: dict, bench: Bench) -> None:
    planned = plan(
        {**spec, "axes": {"weight": [0.1, 0.2], "strength": [0.3, 0.5], "base_cfg": [2.0, 3.0]}}, bench.store
    )
    assert list(planned.resolved["axes"]) == ["base_cfg", "strength", "weight"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"axes": {"strenght": [0.3]}}, "did you mean 'strength'"),
        ({"axes": {"strength": [0.3, 1.7]}}, "strength = 1.7 is not allowed"),
        ({"axes": {"strength": []}}, "axes.strength is empty"),
        ({"axes": {"strength": [0.3, 0.3]}}, "names a value twice"),
        ({"axes": {"seed": [1]}}, "list its values under seeds"),
        ({"axes": {"cfg": [1.0], "base_cfg": [2.0]}}, "beside it"),
        ({"prompts": []}, "prompts is empty"),
        ({"prompts": [" "]}, "empty prompt"),
        ({"seeds": [1.5]}, "seeds"),
        ({"fixed": {"weigth": 1}}, "did you mean 'weight'"),
        ({"fixed": {"weight": 0.5}, "axes": {"weight": [0.1]}}, "both an axis and fixed"),
        ({"strength": [0.3]}, "settings go under [axes]"),
        ({"preset": "nope"}, "no preset 'nope'"),
    ],
)
def test_bad_specs_are_refused_before_anything_runs(change: dict, said: str) -> None:
    from workbench.settings import UsageError

    with pytest.raises(UsageError) as caught:
        plan({"preset": "embedded", **change})
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_bad_spec_files(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no spec"):
        make_spec(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("axes = [")
    with pytest.raises(SpecError, match="not a TOML spec"):
        make_spec(tmp_path / "bad.toml")


def test_spec_changes_from_the_command_line(spec: dict) -> None:
    changed = make_spec(spec).with_values({"weight": 0.4, "strength": [0.2, 0.4], "steps": 3, "seeds": [1]})
    assert changed.axes == {"refine_cfg": [2.0, 6.0], "strength": [0.2, 0.4]}
    assert changed.fixed["weight"] == 0.4 and changed.fixed["steps"] == 3 and changed.seeds == [1]
    with pytest.raises(SettingsError):
        make_spec(spec).with_values({"foo": 1})
