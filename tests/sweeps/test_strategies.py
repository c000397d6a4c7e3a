"""Searches on made-up surfaces: no picture is made. Covers grids, racing, pareto and strategies."""

import itertools
import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workbench.errors import OptunaMissing, StrategyError, UsageError
from workbench.runs import BLOCKING
from workbench.sweeps.search import strategies
from workbench.sweeps.search.grid import Grid, Outcome, losses, spread, winner
from workbench.sweeps.search.pareto import front
from workbench.sweeps.search.racing import Surface
from workbench.sweeps.search.strategies import choose

AXES: dict[str, list[Any]] = {"strength": [0.25, 0.35, 0.45], "cfg": [2.0, 3.5, 5.0], "weight": [0.2, 0.6, 1.0]}


def grid_of(axes: dict[str, list[Any]] = AXES, prompts: int = 2, seeds: int = 2, keys: list[str] | None = None) -> Grid:
    return Grid.of(axes, [f"prompt {i}" for i in range(prompts)], list(range(seeds)), keys or ())


def world(grid: Grid, seed: int = 0, noise: float = 0.3) -> dict[int, Outcome]:
    """Sharpness with one peak, fidelity that falls with it, blocks of very different level."""
    rng = np.random.default_rng(seed)
    codes = np.array([code / max(code.max(), 1) for code in grid.codes()])
    peak = 10 * (1 - (codes**2).mean(0)) if codes.size else np.zeros(len(grid.combinations))
    level = rng.normal(40, 8, len(grid.blocks))
    found = {}
    for block, c in itertools.product(range(len(grid.blocks)), range(len(grid.combinations))):
        sharpness = float(level[block] + peak[c] + noise * rng.normal())
        fidelity = float(1 - peak[c] / 20 + 0.01 * rng.normal())
        found[grid.cell(c, block)] = Outcome(sharpness, fidelity, 1.0 + c % 3, key=f"{block}-{c}")
    return found


def play(strategy: str, grid: Grid, every: dict[int, Outcome], **options: Any) -> tuple[dict[int, Outcome], Any]:
    """The whole search: what it ran, and its last choice."""
    results: dict[int, Outcome] = {}
    while (choice := choose(strategy, grid, results, **options)).cells:
        assert not set(choice.cells) & results.keys()
        assert len(results) + len(choice.cells) <= options.get("budget", len(grid))
        results |= {cell: every[cell] for cell in choice.cells}
    return results, choice


# --- the universe


def test_cells_are_in_the_order_of_a_plan(spec: dict, bench: Any) -> None:
    from workbench.sweeps.planning import plan

    planned = plan(spec, bench.store)
    said = planned.resolved
    grid = Grid.of(said["axes"], said["prompts"], said["seeds"], [cell.key for cell in planned.cells])
    assert len(grid) == len(planned.cells) and grid.same == {}
    for c, block in itertools.product(range(len(grid.combinations)), range(len(grid.blocks))):
        settings = planned.cells[grid.cell(c, block)].settings
        assert (settings.prompt, settings.seed) == grid.blocks[block]
        assert tuple(getattr(settings, name) for name in grid.names) == grid.combinations[c]


def test_settings_that_vary_together_are_one_axis_without_an_order() -> None:
    grid = grid_of({"width+height": [[256, 256], [512, 256]], "weight": [0.2, 0.6]})
    assert grid.combinations[2] == ((512, 256), 0.2) and grid.label(2) == "width+height=512/256, weight=0.2"
    assert grid.ordered() == [False, True] and [list(code) for code in grid.codes()] == [[0, 0, 1, 1], [0, 1, 0, 1]]
    results, choice = play("race", grid, world(grid))
    assert results and all(state.state in ("contender", "dropped") for state in choice.states)


def test_numbers_are_ordered_and_words_are_not() -> None:
    grid = grid_of({"steps": [20, 5, 10], "sampler": ["UniPC", "DDIM"], "hires": [True, False], "cfg": [7.0]})
    assert grid.ordered() == [True, False, False]
    assert [sorted(set(code)) for code in grid.codes()] == [[0, 1, 2], [0, 1], [0, 1]]
    assert list(grid.codes()[0][::4]) == [2, 0, 1]


def test_a_grid_whose_keys_do_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="108"):
        grid_of(keys=["a"])


def test_an_outcome_is_read_from_a_record() -> None:
    record: Any = {
        "status": "done", "seconds": 2.5, "pixels_sha256": "abc",
        "scores": {"sharpness": 40.0, "ssim": 0.9, "lpips": 0.2, "flags": []},
    }  # fmt: skip
    assert strategies.outcome(record).sharpness == 40.0 and strategies.outcome(record).key == "abc"
    assert strategies.outcome(record).fidelity == 0.9
    assert strategies.outcome(record, "lpips").fidelity == -0.2
    record["scores"]["flags"] = [min(BLOCKING), "small"]
    assert strategies.outcome(record).blocked and not strategies.outcome(record).usable
    record["scores"]["flags"] = ["small"]
    assert strategies.outcome(record).usable
    record = {"status": "failed", "reason": "no memory"}
    failed = strategies.outcome(record)
    assert not failed.usable and failed.status == "failed"


def test_a_survey_is_spread_evenly() -> None:
    grid = grid_of()
    cells = spread(grid.codes(), 27, 4, 36, seed=1)
    assert len(set(cells)) == 36
    blocks = np.bincount([cell // 27 for cell in cells])
    assert blocks.max() - blocks.min() <= 1
    for code in grid.codes():
        assert list(np.bincount(code[[cell % 27 for cell in cells]])) == [12, 12, 12]
    pairs = np.bincount([grid.codes()[0][c % 27] * 3 + grid.codes()[2][c % 27] for c in cells])
    assert pairs.min() >= 3
    assert spread(grid.codes(), 27, 4, 20, seed=1) == cells[:20]
    assert spread(grid.codes(), 27, 4, 20, seed=2) != cells[:20]


# --- grid and random


def test_grid_runs_everything() -> None:
    grid = grid_of()
    results, last = play("grid", grid, world(grid))
    assert len(results) == 108
    assert {state.state for state in last.states} == {"contender"} and "all 108" in last.why


def test_random_draws_whole_settings_and_is_nested() -> None:
    grid = grid_of()
    drawn = {}
    for budget in (4, 30, 60, 107):
        results, last = play("random", grid, world(grid), budget=budget, seed=5)
        chosen = {cell % 27 for cell in results}
        assert set(results) == {cell for c in chosen for cell in grid.cells(c)}
        assert len(chosen) == budget // 4
        assert {c for c, s in enumerate(last.states) if s.state == "contender"} == chosen
        drawn[budget] = chosen
    assert drawn[4] < drawn[30] < drawn[60] < drawn[107]
    assert {cell % 27 for cell in play("random", grid, world(grid), budget=30, seed=6)[0]} != drawn[30]


# --- race


@pytest.mark.parametrize("seed", range(8))
def test_race_finds_the_grids_winner_with_a_third_of_the_pictures(seed: int) -> None:
    grid = grid_of()
    every = world(grid, seed)
    results, last = play("race", grid, every, seed=seed)
    assert len(results) <= 36
    whole, found = winner(grid, every), winner(grid, results)
    assert whole and found and whole.interval
    c = grid.combinations.index(found.combination)
    mean = np.mean([every[cell].sharpness or 0 for cell in grid.cells(c)])
    assert found.n == 4 and mean >= whole.interval[0]
    assert last.states[0].state == "contender"  # the true best is never dropped here
    assert last.states[-1].state == "dropped"  # 10 points behind
    assert "behind strength=" in last.states[-1].reason and "p = " in last.states[-1].reason


def test_race_stops_early_where_one_setting_is_far_ahead() -> None:
    grid = grid_of({"sampler": ["a", "b", "c", "d"]}, prompts=4, seeds=4)
    every = world(grid, noise=0.1)
    every |= {cell: Outcome((every[cell].sharpness or 0) + 50) for cell in grid.cells(2)}
    results, rounds = {}, []
    while (last := choose("race", grid, results, budget=64)).cells:
        rounds.append(last.cells)
        results |= {cell: every[cell] for cell in last.cells}
    assert len(results) < 64 - 12
    assert len(rounds) == 2 and len(rounds[1]) > 4  # the only contender left gets all it lacks at once
    assert [state.state for state in last.states] == ["dropped", "dropped", "contender", "dropped"]
    assert set(grid.cells(2)) <= results.keys()


def test_a_truly_best_setting_is_rarely_dropped() -> None:
    grid = grid_of()
    dropped = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        every = {cell: Outcome(float(rng.normal()) + (cell % 27 == 13) * 0.5) for cell in range(108)}
        _, last = play("race", grid, every, seed=seed)
        dropped += last.states[13].state == "dropped"
    assert dropped <= 5


@pytest.mark.parametrize("budget", [19, 25, 40, 70])
def test_a_race_that_cannot_decide_keeps_to_its_budget_and_finishes_somebody(budget: int) -> None:
    grid = grid_of()
    for seed in range(3):
        results, last = play("race", grid, world(grid, seed, noise=30.0), seed=seed, budget=budget)
        assert budget - 4 < len(results) <= budget
        found = winner(grid, results)
        assert found and found.n == 4 and sum(state.state == "contender" for state in last.states) > 5


def test_the_level_of_a_block_says_nothing_and_what_an_axis_says_goes_for_all() -> None:
    grid = grid_of()
    cells = spread(grid.codes(), 27, 4, 36, seed=0)
    every = world(grid, noise=0.2)
    values = [every[cell].sharpness or 0.0 for cell in cells]
    mean, covariance = Surface(grid.codes(), grid.ordered(), 27, 4).fit(cells, values)
    shifted = [value + 1000.0 * (cell // 27) for value, cell in zip(values, cells, strict=True)]
    again, _ = Surface(grid.codes(), grid.ordered(), 27, 4).fit(cells, shifted)
    assert again == pytest.approx(mean, abs=1e-6)
    truth = np.array([world(grid, noise=0.0)[cell].sharpness or 0.0 for cell in range(27)])
    off = (mean - mean.mean()) - (truth - truth.mean())
    unseen = sorted(set(range(27)) - {cell % 27 for cell in cells[:20]})
    early, _ = Surface(grid.codes(), grid.ordered(), 27, 4).fit(cells[:20], values[:20])
    assert np.abs(off).max() < 0.5 and unseen
    assert np.corrcoef(early[unseen], truth[unseen])[0, 1] > 0.95
    assert (np.diag(covariance) > 0).all()


def test_only_numbers_tell_of_their_neighbours() -> None:
    codes = [np.arange(4)]
    cells, values = [0, 1, 4, 5], [0.0, 9.0, 0.1, 9.1]  # two blocks, two of four values seen
    numbers, _ = Surface(codes, [True], 4, 2).fit(cells, values)
    words, _ = Surface(codes, [False], 4, 2).fit(cells, values)
    assert numbers[2] > numbers[3] > numbers[0]
    assert words[2] == words[3] == pytest.approx(0, abs=1e-9) and words[1] > 1


def test_race_takes_words_as_unordered() -> None:
    grid = grid_of({"sampler": ["a", "b", "c", "d", "e"], "weight": [0.2, 0.6, 1.0]}, seeds=4)
    hit = 0
    for seed in range(6):
        every = world(grid, seed)
        # an island between neighbours in the list
        every = {n: Outcome((o.sharpness or 0) + 9 * (n % 15 // 3 == 2)) for n, o in every.items()}
        found, whole = winner(grid, play("race", grid, every, seed=seed)[0]), winner(grid, every)
        assert found and whole
        hit += found.combination == whole.combination
    assert hit >= 5


def test_a_setting_that_fails_or_cheats_is_dropped_and_says_so() -> None:
    grid = grid_of()
    every = world(grid)
    best = winner(grid, every)
    assert best
    c = grid.combinations.index(best.combination)
    for bad in (Outcome(None, status="failed"), Outcome(None, status="no_face"), Outcome(99.0, blocked=True)):
        broken = every | {cell: bad for cell in grid.cells(c)[1:]}  # the one good picture keeps it promising
        results, last = play("race", grid, broken)
        assert any(cell in results for cell in grid.cells(c)[1:])
        assert [state.reason for state in last.states].count("leads") == 1
        assert (
            last.states[c].state == "dropped"
            and "failed, had no usable face or set off a guard" in last.states[c].reason
        )
        found = winner(grid, results)
        assert found and found.combination != best.combination and found.n == 4


def test_a_block_in_which_nobody_has_a_face_counts_against_nobody() -> None:
    grid = grid_of()
    every = world(grid)
    every |= {cell: Outcome(None, status="no_face") for cell in range(27, 54)}
    results, last = play("race", grid, every)
    assert set(losses(grid, every)) == {0}
    found = winner(grid, results)
    assert found and found.n == 3 and not any("guard" in state.reason for state in last.states)


def test_a_race_without_a_usable_picture_ends_and_says_so() -> None:
    grid = grid_of()
    results, last = play("race", grid, {cell: Outcome(None, status="failed") for cell in range(108)})
    assert "no picture of the first round is usable" in last.why and len(results) == 18
    assert winner(grid, results) is None and front(grid, results) == []


def test_settings_known_to_be_equal_are_raced_once() -> None:
    keys = [f"{block}-{c // 3}" for block in range(4) for c in range(27)]  # the last axis is dead
    grid = grid_of(keys=keys)
    results, last = play("race", grid, world(grid))
    assert {cell % 3 for cell in results} == {0}
    assert last.states[1] == ("not chosen", "gives the same pictures as strength=0.25, cfg=2, weight=0.2")
    assert len(play("random", grid, world(grid), budget=36)[0]) == 36


def test_settings_that_turn_out_equal_are_dropped() -> None:
    grid = grid_of()
    every = world(grid)
    every = {n: every[n // 3 * 3] for n in every}
    _, last = play("race", grid, every, budget=60)
    reasons = [state.reason for state in last.states]
    assert any("gives the same pictures as" in reason for reason in reasons)
    assert not any("gives the same pictures as" in reason for reason in reasons[::3])


# --- resuming


@pytest.mark.parametrize("strategy", ["grid", "random", "race", "pareto"])
def test_an_interruption_changes_nothing(strategy: str) -> None:
    grid = grid_of(seeds=1)
    every = world(grid)
    every[3] = Outcome(None, status="failed")
    undisturbed, last = play(strategy, grid, every, seed=2)
    rng = np.random.default_rng(0)
    for _ in range(4):
        results: dict[int, Outcome] = {}
        while (choice := choose(strategy, grid, results, seed=2)).cells:
            # any number of them finish, in any order
            finished = rng.permutation(choice.cells)[: rng.integers(1, len(choice.cells) + 1)]
            results |= {int(cell): every[int(cell)] for cell in finished}
            assert set(choose(strategy, grid, results, seed=2).cells).isdisjoint(results)
        assert results.keys() == undisturbed.keys() and choice == last
    # what another strategy left behind is used where it is asked for, and changes no choice
    assert choose(strategy, grid, every, seed=2) == last


def test_a_round_is_not_judged_before_it_is_complete() -> None:
    grid = grid_of()
    every = world(grid)
    first = choose("race", grid, {})
    partly = {cell: every[cell] for cell in first.cells[:-1]}
    again = choose("race", grid, partly)
    assert again.cells == first.cells[-1:] and again.states == first.states and again.why == first.why
    assert choose("race", grid, partly | {first.cells[-1]: every[first.cells[-1]]}).states != first.states


# --- pareto


def test_front_is_what_brute_force_says() -> None:
    grid = grid_of(seeds=1)
    rng = np.random.default_rng(3)
    scores = rng.integers(0, 5, (len(grid), 3)).astype(float).tolist()
    every = {n: Outcome(sharp, faithful, seconds) for n, (sharp, faithful, seconds) in enumerate(scores)}
    for block in range(2):
        every[grid.cell(5, block)] = Outcome(9.0, 9.0, 0.0, blocked=True)
    del every[grid.cell(6, 1)]
    points = {}
    for c in set(range(27)) - {5, 6}:
        own = [every[cell] for cell in grid.cells(c)]
        points[c] = [sum(getattr(o, n) for o in own) for n in ("sharpness", "fidelity", "seconds")]
    expected = [
        grid.combinations[c]
        for c, (s, f, t) in points.items()
        if not any(a >= s and b >= f and d <= t and (a, b, d) != (s, f, t) for a, b, d in points.values())
    ]
    assert front(grid, every) == expected and 1 < len(expected) < 20


def test_an_objective_that_was_not_measured_is_left_out() -> None:
    grid = grid_of({"weight": [0.0, 1.0]})
    every = {n: Outcome(float(n % 2), None, float(n % 2)) for n in range(8)}
    assert front(grid, every) == [(0.0,), (1.0,)]
    assert front(grid, {n: Outcome(o.sharpness, None, None) for n, o in every.items()}) == [(1.0,)]


def test_pareto_asks_for_whole_settings_once_and_stays_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    import optuna

    monkeypatch.chdir(tmp_path)
    optuna.logging.set_verbosity(optuna.logging.INFO)
    grid = grid_of({**AXES, "sampler": ["a", "b"]}, seeds=1)
    every = world(grid)
    every[3] = every[4] = Outcome(None, status="failed")
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings():
        warnings.simplefilter("error")
        results, last = play("pareto", grid, every, budget=30)
    assert len(results) == 30 and len({cell % 54 for cell in results}) == 15
    assert {grid.combinations[c] for c, s in enumerate(last.states) if s.state == "contender"} == set(
        front(grid, results)
    )
    assert capfd.readouterr() == ("", "") and caplog.records == [] and list(tmp_path.iterdir()) == []
    assert optuna.logging.get_verbosity() == optuna.logging.INFO


def test_pareto_beats_a_random_sample() -> None:
    grid = grid_of({name: list(range(5)) for name in ("a", "b", "c")}, prompts=1, seeds=1)
    # settings that are sharp and faithful at once lie around one point, and nothing else is better in either
    every = {
        n: Outcome(-float(abs(a - 1) + abs(b - 3)), -float(abs(c - 2) + abs(b - 3)), 1.0)
        for n, (a, b, c) in enumerate(itertools.product(range(5), repeat=3))
    }
    gained = []
    for seed in range(4):
        reached = [
            max(((every[n].sharpness or 0) + (every[n].fidelity or 0)) for n in play(s, grid, every, seed=seed)[0])
            for s in ("pareto", "random")
        ]
        gained.append(reached[0] - reached[1])
    assert sum(gained) > 0


def test_without_optuna_pareto_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    grid = grid_of()
    with pytest.raises(OptunaMissing, match=r"sdxl-face-workbench\[search\]") as caught:
        choose("pareto", grid, {})
    assert isinstance(caught.value, UsageError) and "\n" not in str(caught.value)
    for strategy in ("grid", "random", "race"):
        assert choose(strategy, grid, {}).cells


# --- budgets and odd grids


def test_bad_requests() -> None:
    grid = grid_of()
    with pytest.raises(StrategyError, match="grid, random, race, pareto"):
        choose("rase", grid, {})
    for strategy, budget, need in (("grid", 107, 108), ("random", 3, 4), ("race", 18, 19), ("pareto", 0, 4)):
        with pytest.raises(StrategyError, match=f"budget = {budget} is too small.*at least {need} pictures"):
            choose(strategy, grid, {}, budget=budget)
        assert choose(strategy, grid, {}, budget=need).cells
        assert choose(strategy, grid, {}, budget=108).notes == ()
        assert choose(strategy, grid, {}, budget=500).notes == (
            "budget = 500 is more than there is; 108 pictures is all.",
        )


@pytest.mark.parametrize("strategy", ["grid", "random", "race", "pareto"])
@pytest.mark.parametrize("axes", [{}, {"a": [1.0]}, {"a": [1.0], "b": [1, 2]}, {"a": ["x", "y"]}])
@pytest.mark.parametrize("seeds", [1, 3])
def test_tiny_grids(strategy: str, axes: dict[str, list[Any]], seeds: int) -> None:
    grid = grid_of(axes, prompts=1, seeds=seeds)
    results, last = play(strategy, grid, world(grid))
    assert results and len(last.states) == len(grid.combinations)
    found = winner(grid, results)
    assert found and found.n == seeds
    assert play(strategy, grid, world(grid), budget=len(grid))[0]


def test_the_winner_is_not_who_had_the_easy_blocks() -> None:
    grid = grid_of({"weight": [0.0, 1.0]}, prompts=1, seeds=3)
    results = {0: Outcome(10.0), 1: Outcome(12.0), 2: Outcome(20.0), 3: Outcome(22.2), 4: Outcome(90.0)}
    found = winner(grid, results)
    assert found and found.combination == (0.0,) and found.n == 3  # the only one that is finished
    found = winner(
        grid, results | {0: Outcome(None, status="failed"), 4: Outcome(None, status="no_face"), 5: Outcome(90.0)}
    )
    assert found and found.combination == (1.0,) and found.n == 3
    lossy = {0: Outcome(None, status="failed"), 1: Outcome(12.0), 2: Outcome(20.0), 4: Outcome(90.0)}
    found = winner(grid, lossy)
    assert found and found.combination == (0.0,) and found.n == 2  # a loss, but the other one is not finished
    found = winner(grid, results | {5: Outcome(92.1)})
    assert found and found.combination == (1.0,)
    assert found.mean == pytest.approx((12 + 22.2 + 92.1) / 3) and found.interval
    low, high = found.interval
    # differences of 2, 2.2 and 2.1: each of two settings has residuals of half, whose degrees of freedom are half too
    assert high - low == pytest.approx(2 * 4.3027 * (0.1 / np.sqrt(2)) / np.sqrt(3), rel=1e-3)


def test_the_interval_covers_the_truth() -> None:
    grid = grid_of({"weight": [0.0, 0.5, 1.0]}, prompts=3, seeds=2)
    covered = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        level = rng.normal(0, 20, 6)
        every = {n: Outcome(float(level[n // 3] + 100 * (n % 3 == 1) + rng.normal())) for n in range(18)}
        found = winner(grid, every)
        assert found and found.interval and found.combination == (0.5,)
        covered += found.interval[0] <= 100 + level.mean() <= found.interval[1]
    assert 275 <= covered <= 295


def test_choices_are_json_ready() -> None:
    grid = grid_of()
    choice = choose("race", grid, {})
    assert json.loads(json.dumps([choice.cells, choice.why, choice.states, choice.notes]))
