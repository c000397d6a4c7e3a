"""Equal pictures are never independent evidence: what reads alike counts once, in ranking, search and verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from workbench.analysis.effects import measured
from workbench.models import models_folder
from workbench.promotion import promote
from workbench.promotion.judging import verdict
from workbench.runs import Run, repeated, same_prompts
from workbench.settings import Settings
from workbench.store import Store
from workbench.sweeps import plan
from workbench.sweeps.search.grid import Grid, Outcome, winner
from workbench.sweeps.search.strategies import choose
from workbench.sweeps.session import sweep

ALIKE = ["a face, sharp", "a  face,sharp ", "A FACE, (sharp:1.0)"]


@pytest.fixture
def wanted(tiny: Settings) -> dict[str, Any]:
    fixed = {n: v for n, (v, _) in tiny.diff(Settings()).items() if n not in ("prompt", "seed", "strength")}
    return {
        "preset": "recommended",
        "prompts": [*ALIKE[:2], "a lake"],
        "seeds": [3, 4],
        "axes": {"strength": [0.3, 0.5]},
        "fixed": fixed,
    }


def scored(run: Run, sharpness: dict[tuple[str, int, float], float]) -> None:
    """Give the cells of a finished run other scores."""
    for record in run.records():
        s = record["settings"]
        value = sharpness[s["prompt"], s["seed"], s["strength"]]
        scores = {**record.get("scores", {}), "sharpness": value, "flags": []}
        run.append("cell", {**{k: v for k, v in record.items() if k != "kind"}, "status": "done", "scores": scores})


def test_the_plan_names_them(wanted: dict[str, Any], home: Path) -> None:
    planned = plan(wanted, Store(None))
    (note,) = [w for w in planned.warnings if "prompts" in w]
    assert note == "prompts 1 and 2 give the same pictures, since they read alike: computed once, they count once."
    assert len(planned.jobs["base"]) == 4 and len(planned.cells) == 12
    assert not [w for w in plan({**wanted, "prompts": ["a face", "a lake"]}, Store(None)).warnings if "prompts" in w]


def test_the_plan_says_what_is_cut(wanted: dict[str, Any]) -> None:
    long = "abcdefghij" * 8
    fixed = {**wanted["fixed"], "prompt_syntax": "plain"}
    said = plan({**wanted, "prompts": [long + "smile", long + "frown", "a lake"], "fixed": fixed}, Store(None)).warnings
    assert [w for w in said if w.startswith("prompt 1: prompt has 85 tokens") and "'fghijsmile'" in w]
    assert [w for w in said if w.startswith("prompts 1 and 2 give the same pictures")]
    assert not plan({**wanted, "prompts": [long + "smile", long + "frown"]}, Store(None)).warnings


def test_ranking_and_effects_count_once(wanted: dict[str, Any]) -> None:
    run = sweep(wanted, quiet=True)
    level = {"a lake": 60.0}
    scored(
        run,
        {
            (p, seed, s): level.get(p, 40.0) + seed + 10 * s
            for p in wanted["prompts"]
            for seed in (3, 4)
            for s in (0.3, 0.5)
        },
    )
    summary = run.summary()
    assert list(summary["n"]) == [4, 4] and list(summary["not_run"]) == [0, 0] and list(summary["missing"]) == [0, 0]
    assert summary["mean"].loc[0.5] == pytest.approx((43.0 + 44 + 63 + 64) / 4 + 5)
    numbers = measured(run)
    assert np.isnan(numbers[2:4]).all() and not np.isnan(numbers[[0, 1, 4, 5]]).any()
    assert "prompts 1 and 2 gave pixel-identical pictures: they count once." in run.identical()
    assert run.repeated_blocks() == {2: 0, 3: 1}


def test_a_verdict_counts_pairs_once(wanted: dict[str, Any]) -> None:
    run = sweep(wanted, quiet=True)
    scored(
        run,
        {
            (p, seed, s): 40.0 + seed + (6.0 + seed) * (s > 0.4)
            for p in wanted["prompts"]
            for seed in (3, 4)
            for s in (0.3, 0.5)
        },
    )
    said = verdict(run)
    assert said.found and said.found.pairs == 4 == said.wins and said.to_do == 0
    evidence = promote(run, name="winner", force="a test").evidence
    assert evidence["n"] == 4 and evidence["runner_up"]["paired_difference"]["n"] == 4


def test_searches_make_none_of_them_twice(wanted: dict[str, Any]) -> None:
    planned = plan({**wanted, "axes": {"strength": [0.3, 0.5], "refine_cfg": [2.0, 4.0, 6.0]}}, Store(None))
    resolved = planned.resolved
    grid = Grid.of(resolved["axes"], resolved["prompts"], resolved["seeds"], [cell.key for cell in planned.cells])
    assert grid.distinct_blocks == [0, 1, 4, 5] and len(grid) == 36
    for strategy in ("random", "race"):
        results: dict[int, Outcome] = {}
        while chosen := choose(strategy, grid, results, budget=24).cells:
            assert not {cell // 6 for cell in chosen} & {2, 3}
            results |= {cell: Outcome(50.0 + cell % 6, key=str(cell)) for cell in chosen}
        best = winner(grid, results)
        assert best is not None and best.n <= 4
    everything = {cell: Outcome(50.0 + cell % 6 + (cell // 6) % 2, key=str(cell)) for cell in range(len(grid))}
    best = winner(grid, everything)
    assert best is not None and best.n == 4


def test_the_winner_of_a_search_can_be_promoted(wanted: dict[str, Any]) -> None:
    """It never asks for the cells of prompts that repeat others, and they were said to be missing."""
    run = sweep({**wanted, "strategy": "random", "budget": 8}, quiet=True)
    assert len(run.records()) == 8
    scored(run, {(p, n, s): 40.0 + n + 10 * s for p in wanted["prompts"] for n in (3, 4) for s in (0.3, 0.5)})
    assert list(run.summary()["not_run"]) == [0, 0]
    assert promote(run, name="winner", force="a test").settings.strength == 0.5


def test_what_is_equal_for_some_settings_counts_once_there(wanted: dict[str, Any]) -> None:
    long = "abcdefghij" * 8
    axes = {"prompt_syntax": ["plain", "webui"]}
    run = sweep({**wanted, "prompts": [long + "x", long + "y"], "seeds": [3], "axes": axes}, quiet=True)
    assert run.repeated_cells() == {2} and run.repeated_blocks() == {}
    values = {0: 50.0, 1: 40.0, 2: 50.0, 3: 44.0}
    for record in run.records():
        scores = {**record.get("scores", {}), "sharpness": values[record["cell"]], "flags": []}
        run.append("cell", {**{k: v for k, v in record.items() if k != "kind"}, "status": "done", "scores": scores})
    assert run.summary()["n"].to_dict() == {"plain": 1, "webui": 2}
    assert np.isnan(measured(run)).tolist() == [[False, False], [True, False]]


def test_notes_do_not_depend_on_which_cell_comes_first(wanted: dict[str, Any]) -> None:
    (models_folder() / "loras").mkdir(parents=True)
    pair = {
        f"lora_unet_mid_block_attentions_0_proj_in.lora_{way}.weight": torch.zeros(shape)
        for way, shape in (("down", (2, 16)), ("up", (16, 2)))
    }
    save_file(pair, models_folder() / "loras" / "detail.safetensors")
    for weights in ([0, 0.4], [0.4, 0]):
        said = plan({**wanted, "prompts": ["a face"], "axes": {"lora:detail": weights}}, Store(None)).warnings
        assert [w for w in said if "do not act in SDXL's refiner" in w]


def test_a_plain_prompt_may_have_anything_in_it(wanted: dict[str, Any]) -> None:
    fixed = {**wanted["fixed"], "prompt_syntax": "plain"}
    for prompt in ("a face <lora:gone:0.4>", "a face embedding:gone", "a [b|c]"):
        assert plan({**wanted, "prompts": [prompt], "fixed": fixed}, Store(None)).hash


def test_what_is_repeated() -> None:
    assert repeated({0: {0: "a", 1: "b"}, 1: {0: "a", 1: "b"}, 2: {0: "a", 1: "c"}}) == {1: 0}
    assert repeated({0: {0: "a"}, 1: {1: "b"}, 2: {0: "a", 1: "b"}}) == {2: 0}  # wherever both show one
    assert repeated({0: {}, 1: {}}) == {}
    axes = {"x": [1, 2]}
    pictures = {0: "a", 1: "b", 2: "c", 3: "d", 4: "a", 5: "b", 6: "c", 7: "d"}  # 2 prompts x 2 seeds x 2 values
    assert same_prompts(pictures, 2, 2, axes) == [[0, 1]]
    assert same_prompts({**pictures, 7: "e"}, 2, 2, axes) == []
    assert same_prompts({0: "a", 1: "b"}, 2, 1, {"x": [1]}) == []
