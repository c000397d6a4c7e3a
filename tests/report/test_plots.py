import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.figures import covered, texts
from support.runs import THREE_AXES as AXES, broken, known, known_run, rewrite, searched

from workbench.errors import UsageError
from workbench.report import plots
from workbench.runs import label
from workbench.scores.measures import MEASURES

ALL = ("heat_maps", "main_effects", "pareto_front", "ranking", "stage_times")


def words(figure: Any) -> str:
    return "\n".join(" ".join(t.get_text().split()) for t in texts(figure))


def test_every_figure_says_what_it_shows(home: Path, figures: list[Any]) -> None:
    run = broken(known())
    for name in ALL[:4]:
        getattr(plots, name)(run)
    said = [words(figure) for figure in figures]
    assert all("sharpness, points, higher is better" in text for text in said)
    assert "Mean sharpness over prompts and seeds" in said[0] and "* some are not measured" in said[0]
    assert "CodeFormer weight 0.5" in said[0] and "Strength" in said[0] and "Refine CFG" in said[0]
    assert "95 %" in said[1] and "of 2 blocks" not in said[1]
    assert (
        "ssim, similarity, higher is better" in said[2] and "a guard fired" in said[2] and "not all prompts" in said[2]
    )
    assert "difference to the first" in said[3] and "a guard fired" in said[3]


def heat(figure: Any) -> list[Any]:
    return [np.asarray(ax.images[0].get_array().filled(np.nan)).tolist() for ax in figure.axes if ax.images]


def test_heat_maps_hold_the_means(home: Path, figures: list[Any]) -> None:
    run = known_run(AXES, lambda s: (str(s), 10 * s["strength"] + s["refine_cfg"] + 20 * s["weight"] + s["seed"]))
    plots.heat_maps(run)
    rows = [[[10 * s + c + 20 * w + 0.5 for c in (2, 5, 8)] for s in (0.2, 0.4)] for w in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(heat(figures[-1]), rows)
    titles = [ax.get_title() for ax in figures[-1].axes if ax.images]
    assert titles == ["CodeFormer weight 0", "CodeFormer weight 0.5", "CodeFormer weight 1"]
    rewrite(run, 0, status="no_face", scores={"sharpness": None})
    plots.heat_maps(run)
    assert "5.0*" in words(figures[-1]) and heat(figures[-1])[0][0][0] == 5.0
    rewrite(run, 18, status="no_face", scores={"sharpness": None})
    plots.heat_maps(run)
    assert "–" in words(figures[-1]) and math.isnan(heat(figures[-1])[0][0][0])


def test_heat_maps_keep_the_order_of_the_spec_and_the_places_of_identical_pictures(
    home: Path, figures: list[Any]
) -> None:
    plots.heat_maps(known_run({"strength": [0.4, 0.2], "steps": [9, 5]}, lambda s: (str(s["strength"]), s["strength"])))
    assert heat(figures[-1]) == [[[0.4, 0.2]], [[0.4, 0.2]]]
    first, second, _ = figures[-1].axes
    assert [tick.get_text() for tick in first.get_xticklabels()] == ["0.4", "0.2"]
    assert [first.get_title(), second.get_title()] == ["Base steps 9", "Base steps 5"]


def test_settings_that_vary_together_are_one_axis_of_a_heat_map(home: Path, figures: list[Any]) -> None:
    axes = {"width+height": [[256, 256], [512, 384]], "cfg": [2.0, 5.0]}
    plots.heat_maps(known_run(axes, lambda s: (str(s), s["base_cfg"])))
    # a full grid, no diagonal: 2 x 2 means
    assert heat(figures[-1]) == [[[2.0, 2.0]], [[5.0, 5.0]]] and "256/256" in words(figures[-1])


def test_heat_maps_over_many_axes_say_what_they_average(home: Path, figures: list[Any]) -> None:
    axes = {
        "steps": [20, 30],
        "strength": [0.2, 0.4],
        "refine_cfg": [1.0, 2.0, 3.0, 4.0, 5.0],
        "weight": [0.0, 0.5, 1.0],
    }
    plots.heat_maps(known_run(axes, lambda s: (str(s), s["refine_cfg"] + s["weight"])))
    np.testing.assert_allclose(heat(figures[-1])[2], 4.0)
    assert len(heat(figures[-1])) == 3 and "prompts and seeds, Refine CFG" in words(figures[-1])
    plots.heat_maps(known_run({**axes, "refine_cfg": [1.0, 2.0, 3.0, 4.0]}, lambda s: (str(s), s["refine_cfg"])))
    assert len(heat(figures[-1])) == 12 and figures[-1].axes[1].get_title() == "CodeFormer weight 0, Refine CFG 2"


def test_of_a_measure_of_which_less_is_better(home: Path, figures: list[Any]) -> None:
    run = known_run({"weight": [0.0, 1.0]}, lambda s: (str(s), 50.0))
    for number in range(4):
        rewrite(run, number, scores={"noise": float(number % 2)})
    plots.heat_maps(run, "noise")
    assert "noise, 8-bit levels, lower is better" in words(figures[-1])
    assert next(ax for ax in figures[-1].axes if ax.images).images[0].cmap.name == "cividis_r"  # bright is good
    assert plots.direction(MEASURES["yaw"]) == "yaw, degrees"
    with pytest.raises(UsageError):
        plots.heat_maps(run, "noize")


def test_main_effects_with_and_without_bands(home: Path, figures: list[Any]) -> None:
    plots.main_effects(known())
    panels = figures[-1].axes
    assert [ax.get_xlabel() for ax in panels] == list(map(label, AXES)) and all(
        len(ax.collections) > 1 for ax in panels
    )
    line = panels[2].lines[0]
    assert line.get_xdata().tolist() == [0.0, 0.5, 1.0] and np.diff(line.get_ydata()) == pytest.approx([5, 5], abs=0.6)
    table: Any = plots.effects.main_effects(known(), "weight")
    (bars,) = (part for part in panels[2].collections if hasattr(part, "get_segments"))
    half = [(segment[1, 1] - segment[0, 1]) / 2 for segment in bars.get_segments()]
    assert half == pytest.approx((table["effect"] - table["effect_low"]).tolist())
    assert bars.get_color()[0].tolist() == pytest.approx([0xD5 / 255, 0x5E / 255, 0, 1])
    plots.main_effects(known(seeds=1))
    assert "no bands: they need two prompts or seeds" in words(figures[-1])
    plots.main_effects(known({}))
    assert "nothing to compare" in words(figures[-1])
    plots.main_effects(searched(known(strategy="race", seeds=3)))
    assert "not measured" in words(figures[-1])  # refine_cfg 2 nowhere


def test_the_front_is_marked_and_flagged_settings_are_hollow(home: Path, figures: list[Any]) -> None:
    run = known_run({"weight": [0.0, 0.5, 1.0]}, lambda s: (str(s), 40 + 10 * s["weight"]))
    for i in range(6):
        rewrite(run, i, scores={"ssim": [0.9, 0.95, 0.7][i % 3], "flags": ["noisy"] * (i == 2)})
    plots.pareto_front(run)
    shown = {part.get_label(): part for part in figures[-1].axes[0].collections}
    assert {name: part.get_offsets().tolist() for name, part in shown.items()} == {
        "on the front": [[0.95, 45.0]], "not on it": [[0.9, 40.0]], "a guard fired": [[0.7, 50.0]],
    }  # fmt: skip
    assert len(shown["a guard fired"].get_facecolor()) == 0 and len(shown["on the front"].get_facecolor()) == 1
    assert len(shown["a guard fired"].get_edgecolor()) == 1
    assert "1 CodeFormer weight 0.5" in words(figures[-1])


def test_a_long_front_is_numbered_in_part(home: Path, figures: list[Any]) -> None:
    run = known_run({"weight": [i / 20 for i in range(21)]}, lambda s: (str(s), 40 + 10 * s["weight"]))
    for i in range(42):
        rewrite(run, i, scores={"ssim": 0.9 - (i % 21) / 100})
    plots.pareto_front(run)
    said = words(figures[-1])
    assert "12 of 21 have a number" in said and "1 CodeFormer weight 1" in said and "12 CodeFormer weight 0" in said
    assert covered(figures[-1]) == []


def test_the_ranking_shows_intervals_of_the_table(home: Path, figures: list[Any]) -> None:
    run = known()
    plots.ranking(run, top=4)
    left, right = figures[-1].axes
    table: Any = plots.effects.ranked(run, 4)
    bars = [line.get_xdata() for line in left.lines if len(line.get_xdata()) == 2]
    np.testing.assert_allclose(bars, table[["low", "high"]])
    bars = [line.get_xdata() for line in right.lines if len(line.get_xdata()) == 2][1:4]
    np.testing.assert_allclose(bars, table[["difference_low", "difference_high"]][1:])
    assert "Strength 0.4, Refine CFG 2, CodeFormer weight 1" in words(figures[-1])
    plots.ranking(known(seeds=1))
    assert "no intervals" in words(figures[-1])


def test_times(home: Path, figures: list[Any]) -> None:
    run = known({"weight": [0.5]})
    plots.stage_times(run)
    assert "Not measured" in words(figures[-1])
    for seconds in (700.0, 100.0, 1.5):
        run.append("stage", {"stage": "refine", "key": "k", "seconds": seconds, "pid": 1})
    plots.stage_times(run)
    assert [bar.get_width() for bar in figures[-1].axes[0].patches] == [801.5]
    run.append("stage", {"stage": "base", "key": "k", "seconds": 5.0, "pid": 1})
    plots.stage_times(run)
    ax = figures[-1].axes[0]
    ticks = {t.get_text(): y for t, y in zip(ax.get_yticklabels(), ax.get_yticks(), strict=True)}
    assert {round(bar.get_y() + bar.get_height() / 2): bar.get_width() for bar in ax.patches} == {1: 5.0, 0: 801.5}
    assert (ticks["Base"], ticks["Refiner"]) == (1, 0)
    assert {round(t.get_position()[1]): t.get_text()[:2] for t in ax.texts} == {1: "5.", 0: "13"}
    assert "13 min: 3 x 100 s (median)" in words(figures[-1]) and "less is better" in words(figures[-1])
