import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.runs import known_run, rewrite

from workbench.analysis.effects import (
    dead_axes,
    dead_words,
    fidelity_measure,
    group_words,
    main_effects,
    measured,
    pareto,
    ranked,
    stage_seconds,
)
from workbench.errors import MixedScores, UsageError
from workbench.evidence import mean_interval
from workbench.runs.run import Run

AXES: dict[str, list[Any]] = {"strength": [0.2, 0.4], "weight": [0.0, 0.5, 1.0]}


def known(axes: dict[str, list[Any]] = AXES, seeds: int = 3, **more: Any) -> Run:
    """Sharpness 40 + 10 strength + weight + 5 per seed, and 0.1 seed more at weight 1."""

    def tell(s: dict[str, Any]) -> tuple[str, float]:
        bonus = 0.1 * s["seed"] * (s["weight"] == 1)
        return str(s), 40 + 10 * s["strength"] + s["weight"] + 5 * s["seed"] + bonus

    return known_run(axes, tell, seeds=seeds, **more)


def test_intervals_are_students() -> None:
    mean, low, high = mean_interval(np.array([1.0, 2.0, np.nan, 3.0, 4.0]))
    assert (mean, low, high) == pytest.approx((2.5, 0.445739, 4.554261), abs=1e-6)  # R: t.test(1:4)
    assert mean_interval(np.array([1.0, np.nan]))[0] == 1.0 and math.isnan(mean_interval(np.array([1.0]))[1])
    assert math.isnan(mean_interval(np.array([]))[0])


def test_numbers_stand_by_block_and_combination(home: Path) -> None:
    run = known()
    rewrite(run, 7, status="no_face", scores={"sharpness": None})
    found = measured(run)
    assert found.shape == (3, 6) and math.isnan(found[1, 1]) and found[2, 4] == pytest.approx(54.5)


def test_ranking_with_paired_differences(home: Path) -> None:
    """Seeds differ by 5, settings hardly: only pairs can tell them apart."""
    table: Any = ranked(known())
    assert table.index[:2].tolist() == [(0.4, 1.0), (0.4, 0.5)]
    first, second = table.iloc[0], table.iloc[1]
    assert (first["low"], first["high"]) == pytest.approx(
        (50.1 - 12.669, 50.1 + 12.669), abs=1e-3
    )  # 4.3027 x 5.1/1.7321
    assert math.isnan(first["difference"]) and first["shared"] == 3
    # residuals of three seeds and six settings have sd 0.05164 and 10 degrees of freedom: q(0.05; 6, 10) = 4.912
    paired = (second["difference"], second["difference_low"], second["difference_high"])
    assert paired == pytest.approx((-0.6, -0.6 - 4.912 * 0.05164 / 3**0.5, -0.6 + 4.912 * 0.05164 / 3**0.5), abs=1e-3)
    assert table["apart"].tolist() == [False, True, True, True, True, True]
    assert first["shrunken"] == pytest.approx(first["mean"], abs=0.01)
    assert group_words(table) == "The first setting is told apart from all others."
    assert len(ranked(known(), top=2)) == 2 and ranked(known(), top=2).equals(table.head(2))


def test_ranking_where_cells_are_missing(home: Path) -> None:
    run = known()
    rewrite(run, 4, status="no_face", scores={"sharpness": None})
    row: Any = ranked(run).loc[(0.4, 0.5)]
    assert (row["n"], row["missing"], row["shared"]) == (2, 1, 2)
    assert row["difference"] == pytest.approx(-0.6, abs=0.05)  # by all that is there; -0.65 by the two seeds alone
    one: Any = ranked(known(seeds=1))
    assert one[["low", "high", "difference_low", "difference_high"]].isna().all(axis=None)
    assert one["difference"].iloc[1] == pytest.approx(-0.5)


def test_ranking_of_one_setting_and_of_settings_together(home: Path) -> None:
    alone: Any = ranked(known({}))
    assert alone[["n", "shared"]].values.tolist() == [[3, 3]] and alone["high"].iloc[0] > alone["mean"].iloc[0]
    together: Any = ranked(known({"width+height": [[256, 256], [512, 512]], "cfg": [2.0, 5.0]}))
    assert together["same"].tolist() == [""] * 4 and together["shared"].tolist() == [3] * 4
    merged: Any = ranked(known_run({"weight": [0.2, 0.6, 1.0]}, lambda s: (str(s["seed"]), 50.0 + s["seed"])))
    assert merged["same"].tolist() == ["weight 0.2 = 0.6 = 1"]
    empty = known({"weight": [0.0]})
    empty.journal.unlink()
    assert len(ranked(empty)) == 0


def test_settings_that_are_not_told_apart_are_a_group(home: Path) -> None:
    noise = iter(np.random.default_rng(0).normal(size=200))
    axes: dict[str, list[Any]] = {"strength": [0.2, 0.3, 0.4], "weight": [0.0, 0.5, 1.0]}
    equal: Any = ranked(known_run(axes, lambda s: (str(s), 50 + next(noise)), seeds=4))
    assert not equal["apart"].any() and "No setting is told apart" in group_words(equal)
    assert equal["shrunken"].iloc[0] - equal["shrunken"].mean() < 0.3 * (equal["mean"].iloc[0] - equal["mean"].mean())
    some: Any = ranked(known_run(axes, lambda s: (str(s), 50 + next(noise) + 30 * (s["weight"] > 0.2)), seeds=4))
    assert some["apart"].sum() == 3
    assert group_words(some).startswith("5 of the 8 other settings are not told apart from the first")
    assert group_words(ranked(known({}))) == ""


def test_an_axis_without_effect_is_dead_by_equivalence(home: Path) -> None:
    """Not because no difference was found, but because none above the margin can be there."""
    noise = iter(np.random.default_rng(0).normal(size=300))
    axes: dict[str, list[Any]] = {"strength": [0.2, 0.4], "weight": [0.0, 0.5, 1.0]}

    def run(sd: float, seeds: int = 6) -> Run:
        return known_run(axes, lambda s: (str(s), 50 + sd * next(noise) + 10 * s["strength"]), seeds=seeds)

    quiet = run(0.2)
    assert [*dead_axes(quiet)] == ["weight"] and dead_axes(quiet)["weight"] < 1
    assert dead_words(quiet)[0].startswith(
        "CodeFormer weight makes no difference here: its values are as sharp as each other"
    )
    assert dead_axes(quiet, margin=0.01) == {} and [*dead_axes(quiet, margin=5)] == ["strength", "weight"]
    assert dead_axes(run(4.0)) == {} and dead_axes(run(0.2, seeds=1)) == {}


def test_main_effects_of_a_balanced_run(home: Path) -> None:
    table: Any = main_effects(known(), "weight")
    assert table.index.tolist() == ["0", "0.5", "1"] and table.index.name == "weight"
    assert table["mean"].tolist() == pytest.approx([48.0, 48.5, 49.1])
    assert table["effect"].tolist() == pytest.approx([-0.53333, -0.03333, 0.56667], abs=1e-5)
    assert table["cells"].tolist() == [6, 6, 6] and table["blocks"].tolist() == [3, 3, 3]
    # the level differs by 5 from seed to seed, the effect by 0.0667
    assert table["high"].iloc[0] - table["mean"].iloc[0] == pytest.approx(12.4207, abs=1e-3)
    assert table["effect_high"].iloc[2] - table["effect"].iloc[2] == pytest.approx(
        4.30265 * 0.0666667 / 3**0.5, abs=1e-4
    )
    strength: Any = main_effects(known(), "strength")
    assert strength["effect"].tolist() == pytest.approx([-1.0, 1.0])
    assert main_effects(known({"cfg": [2.0, 5.0]}), "cfg").index.tolist() == ["2", "5"]


def test_a_missing_cell_does_not_tilt_an_effect(home: Path) -> None:
    """The cell that failed is of the better strength, so that the mean of the rest would be 1 lower."""
    run = known()
    rewrite(run, 4, status="no_face", scores={"sharpness": None})
    table: Any = main_effects(run, "weight")
    assert table["effect"].tolist() == pytest.approx([-0.53333, -0.03333, 0.56667], abs=1e-5)
    assert table["cells"].tolist() == [5, 5, 5] and table["blocks"].tolist() == [3, 3, 3]


def test_effects_of_what_was_hardly_measured(home: Path) -> None:
    run = known()
    for number in (0, 3, 6, 9, 12, 15):  # weight 0 nowhere
        rewrite(run, number, status="no_face", scores={"sharpness": None})
    for number in (1, 4):  # weight 0.5 not in the first block
        rewrite(run, number, status="no_face", scores={"sharpness": None})
    table: Any = main_effects(run, "weight")
    assert table["blocks"].tolist() == [0, 2, 2] and math.isnan(table["mean"].iloc[0])
    assert table["mean"].iloc[1] == pytest.approx(51.0)
    alone: Any = main_effects(known(seeds=1), "weight")
    assert alone["effect_low"].isna().all()
    assert main_effects(run, "weight", "lpips")["blocks"].tolist() == [0, 0, 0]
    with pytest.raises(UsageError, match="it has strength, weight"):
        main_effects(run, "cfg")


def scored_twice(told: dict[float, tuple[float, float]], axis: str = "weight", name: str = "ssim") -> Run:
    """{weight: (sharpness, fidelity)}, the same for two seeds."""
    run = known_run({axis: list(told)}, lambda s: (str(s), told[s[axis]][0]))
    for i in range(2 * len(told)):
        rewrite(run, i, scores={name: list(told.values())[i % len(told)][1]})
    return run


def test_the_pareto_front(home: Path) -> None:
    told = {0.0: (50.0, 0.8), 0.2: (45.0, 0.9), 0.4: (44.0, 0.85), 0.6: (40.0, 0.95), 0.8: (40.0, 0.94)}
    table: Any = pareto(scored_twice(told))
    assert table.attrs == {"fidelity": "ssim"}
    assert table.index.tolist() == [0.0, 0.2, 0.4, 0.6, 0.8]
    assert table["front"].tolist() == [True, True, False, True, False]
    # of LPIPS less is better, and it is taken where it is there
    table = pareto(scored_twice(told, name="lpips"))
    assert table.attrs == {"fidelity": "lpips"} and table["front"].tolist() == [True, False, False, False, False]


def test_flagged_and_incomplete_settings_do_not_compete(home: Path) -> None:
    run = scored_twice({0.0: (50.0, 0.9), 0.5: (40.0, 0.8), 1.0: (30.0, 0.95)})
    rewrite(run, 0, scores={"flags": ["noisy"]})
    rewrite(run, 2, scores={"ssim": None})
    table: Any = pareto(run)
    assert table["front"].tolist() == [False, True, False]
    assert table["flagged"].tolist() == [1, 0, 0] and table["whole"].tolist() == [True, True, False]
    assert table["blocks"].tolist() == [2, 2, 1]
    rewrite(run, 0, scores={"flags": ["small"]})  # does not block promotion
    assert pareto(run)["front"].tolist() == [True, False, False]


def test_which_fidelity(home: Path) -> None:
    run = scored_twice({0.0: (50.0, 0.9)})
    assert fidelity_measure(run) == "ssim"
    rewrite(run, 0, scores={"lpips": 0.1})
    assert fidelity_measure(run) == "ssim"
    rewrite(run, 1, scores={"lpips": 0.1})
    assert fidelity_measure(run) == "lpips"
    assert pareto(known())["front"].tolist() == [False] * 6  # no fidelity was measured
    with pytest.raises(UsageError, match="'niqe' does not measure fidelity"):
        pareto(run, "niqe")


def test_versions_do_not_mix(home: Path) -> None:
    run = known()
    for number, version in enumerate(("blur-0", "blur-1")):
        rewrite(run, number, scores={"versions": {"sharpness": version}})
    tables: list[Any] = [ranked, pareto, lambda r: main_effects(r, "weight")]
    for table in tables:
        with pytest.raises(MixedScores):
            table(run)


def test_seconds_of_the_stages(home: Path) -> None:
    run = known()
    assert len(stage_seconds(run)) == 0
    for stage, seconds in (("faces", 1.0), ("base", 4.0), ("faces", 2.0), ("faces", 6.0)):
        run.append("stage", {"stage": stage, "key": "k", "seconds": seconds, "pid": 1})
    table: Any = stage_seconds(run)
    assert table.index.tolist() == ["base", "faces"]
    assert table.values.tolist() == [[1, 4.0, 4.0], [3, 9.0, 2.0]]
