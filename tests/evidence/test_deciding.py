"""The word that pairs allow, and the promise that it is rarely wrong, by simulation."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from workbench.errors import BadPairs, WorkbenchError
from workbench.evidence import Decision, decide, shares_apart
from workbench.evidence.deciding import PER_CHAMPION, PROMPTS_LIKE, level


def frame(differences: Any, *, own_seeds: bool = False) -> pd.DataFrame:
    """Pairs of differences (prompts, seeds); NaN: no such pair. `own_seeds`: no seed is used with two prompts."""
    differences = np.atleast_2d(np.asarray(differences, float))
    prompts, seeds = np.indices(differences.shape)
    if own_seeds:
        seeds = seeds + 1000 * prompts
    pairs = pd.DataFrame(
        {
            "prompt": [f"p{i}" for i in prompts.ravel()],
            "seed": seeds.ravel(),
            "champion": 50.0,
            "challenger": 50 + differences.ravel(),
        }
    )
    return pairs.dropna()


def test_one_prompt_is_students_t_at_half_of_the_level() -> None:
    differences = np.array([2.0, 3, 4, 1, 2])
    found = decide(frame(differences))
    reference = ttest_1samp(differences, 0).confidence_interval(0.975)
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high))
    assert (found.word, found.mean, found.level) == ("better", pytest.approx(2.4), 0.0125)
    assert (found.pairs, found.prompts, found.seeds, found.scope, found.more) == (5, 1, 5, "these prompts", None)
    assert decide(frame(-differences)).word == "worse"


def test_as_good_lies_within_the_margin() -> None:
    differences = [0.1, -0.2, 0.3, -0.1, 0.2, -0.3, 0.1, 0.0]
    assert decide(frame(differences)).word == "as_good"
    assert decide(frame(differences), margin=0.05).word == "undecided"
    # a lead within the margin is a lead all the same, and told
    small = decide(frame(np.array(differences) + 1))
    assert small.word == "better" and 0 < small.low < small.mean < 2


def test_as_many_more_pairs_of_the_same_kind_decide() -> None:
    differences = [1.0, -1, 3, 1]
    found = decide(frame(differences), margin=0.5)
    assert found.word == "undecided" and found.more
    for more, word in ((4 * ((found.more - 1) // 4), "undecided"), (4 * math.ceil(found.more / 4), "better")):
        # the same mean, and the spread that these four would have in so many
        count = 4 + more
        spread = (np.array(differences * (count // 4)) - 1) * math.sqrt((count - 1) / count * 4 / 3) + 1
        assert decide(frame(spread), margin=0.5, looks=2).word == word


def test_what_cannot_be_told() -> None:
    for pairs in (frame([[math.nan]]), frame([5.0])):
        found = decide(pairs)
        assert (found.word, found.low, found.high, found.more) == ("undecided", -math.inf, math.inf, None)
    assert math.isnan(decide(frame([[math.nan]])).mean) and decide(frame([5.0])).mean == 5
    seven, eight = decide(frame([0.0] * 7)), decide(frame([0.0] * 8))
    assert (seven.word, seven.low, seven.more) == ("undecided", -math.inf, 1)
    assert (eight.word, eight.low, eight.high) == ("as_good", 0, 0)
    assert decide(frame([1.0] * 8)).word == "better"
    never = decide(frame([0.001, 40, -40, 30, -30]), margin=0.01)
    assert (never.word, never.more) == ("undecided", None)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda p: p.drop(columns="seed"), "no column seed"),
        (lambda p: p.assign(champion=math.nan), "missing"),
        (lambda p: p.assign(challenger=math.inf), "missing"),
        (lambda p: p.assign(champion="sharp"), "no number"),
        (lambda p: p.assign(prompt=None), "missing"),
        (lambda p: pd.concat([p, p.iloc[:1]]), "prompt 'p0' with seed 0 is given twice"),
        (lambda p: p.to_dict(), "no DataFrame but dict"),
        (lambda _: None, "no DataFrame but NoneType"),
        (lambda p: p.assign(prompt=[["a"], ["b"]]), "cannot be compared"),
    ],
)
def test_what_are_no_pairs(spoil: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        decide(spoil(frame([1.0, 2.0])))
    assert isinstance(refused.value, WorkbenchError)


@pytest.mark.parametrize(
    "wrong", [{"looks": 0}, {"challengers": -1}, {"looks": 1.5}, {"margin": 0}, {"margin": math.nan}]
)
def test_what_is_not_allowed(wrong: Any) -> None:
    with pytest.raises(BadPairs, match="is not allowed"):
        decide(frame([1.0, 2.0]), **wrong)


def test_the_level_is_spent_over_challengers_with_no_horizon() -> None:
    assert level(1) == 0.0125
    everything = sum(2 * level(k) for k in range(1, 10_000))
    assert PER_CHAMPION * 0.999 < everything < PER_CHAMPION
    first, later = (decide(frame([1.0, 2, 3, 1]), challengers=k) for k in (1, 4))
    assert later.low < first.low and (later.looks, later.challengers) == (1, 4)


def test_a_later_look_holds_for_all_numbers_of_pairs_at_once() -> None:
    """By hand, for 16 pairs of sd 1: (17 ** .5 / .025) ** (1 / 8) = 1.8930; t = (15 x .8930 / (1 - 1.8930 / 17)) ** .5."""
    differences = np.random.default_rng(4).normal(size=16)
    differences = (differences - differences.mean()) / differences.std(ddof=1)
    found = decide(frame(differences), looks=2)
    assert found.high == pytest.approx(3.8826 / 4, rel=1e-4) and found.low == pytest.approx(-found.high)
    assert decide(frame(differences), looks=9).high == found.high > decide(frame(differences)).high
    # too few to say anything at any time
    assert decide(frame([9.0, 9.1, 9.2, 9.3]), looks=2).low == -math.inf


def test_the_scope_depends_on_how_many_prompts_there_are() -> None:
    rng = np.random.default_rng(0)
    few, many = (decide(frame(rng.normal(size=(n, 4)))) for n in (PROMPTS_LIKE - 1, PROMPTS_LIKE))
    assert (few.scope, many.scope) == ("these prompts", "prompts like these")


def test_prompts_that_differ_make_few_of_them_no_wider_and_many_of_them_wider() -> None:
    """About these two prompts it does not matter that one gains 10 points and the other none; about others it does."""
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(8, 4))
    apart = noise + np.array([0, 10] * 4)[:, None]

    def width(found: Decision) -> float:
        return found.high - found.low

    assert width(decide(frame(apart[:2]))) == pytest.approx(width(decide(frame(noise[:2]))))
    assert width(decide(frame(apart))) > 5 * width(decide(frame(noise)))


def test_a_seed_of_two_prompts_is_one_draw() -> None:
    """The same noise may favour one side in all prompts: 2 x 4 differences that agree by seed are 4, not 8."""
    once = np.array([[1.0, 3, 2, 4]])
    shared = decide(frame(np.vstack([once, once])))
    alone = decide(frame(once))
    assert (shared.low, shared.high) == pytest.approx((alone.low, alone.high))
    own = decide(frame(np.vstack([once, once]), own_seeds=True))
    assert own.low > shared.low


def test_gaps_are_no_zeros() -> None:
    whole = np.random.default_rng(2).normal(3, 1, (3, 5))
    gaps = whole.copy()
    gaps[0, 1] = gaps[2, 4] = math.nan
    found = decide(frame(gaps))
    assert found.pairs == 13 and found.mean == pytest.approx(np.nanmean(gaps, axis=1).mean()) and found.word == "better"
    # a prompt with one pair has no spread of its own: then the spread between prompts counts
    gaps[1, 1:] = math.nan
    assert decide(frame(gaps)).low < found.low


def test_the_order_of_the_pairs_does_not_matter() -> None:
    pairs = frame(np.random.default_rng(3).normal(size=(9, 3)))
    one, two = decide(pairs), decide(pairs.sample(frac=1, random_state=0))
    assert (one.low, one.high, one.word) == pytest.approx((two.low, two.high, two.word))


def wrong(prompts: int, seeds: int, *, crossed: float = 0.0, duels: int = 600) -> float:
    """How often a challenger that is no better on average is called so; where it speaks of these prompts only, on them."""
    rng, count = np.random.default_rng(prompts * 100 + seeds), 0
    for _ in range(duels):
        taste = rng.normal(size=(prompts, 1)) if prompts > 1 else np.zeros((1, 1))
        found = decide(frame(taste + crossed * rng.normal(size=(1, seeds)) + rng.normal(size=(prompts, seeds))))
        count += found.word == "better" and (found.scope != "these prompts" or taste.mean() <= 0)
    return count / duels


@pytest.mark.parametrize(("prompts", "seeds"), [(1, 8), (2, 4), (6, 4), (8, 4)])
def test_it_is_rarely_wrong(prompts: int, seeds: int) -> None:
    """At most 2.5 %; more exactly, over 2,000 duels each: experiments/benchmarks/deciding.py. 600 allow two more sds."""
    assert wrong(prompts, seeds) <= 0.025 + 2 * math.sqrt(0.025 * 0.975 / 600)


def test_coming_back_when_it_suits_is_rarely_wrong() -> None:
    rng, count = np.random.default_rng(5), 0
    for _ in range(400):
        differences = rng.normal(size=64)
        count += any(decide(frame(differences[:n]), looks=n // 4).word == "better" for n in range(4, 65, 4))
    assert count / 400 <= 0.025 + 2 * math.sqrt(0.025 * 0.975 / 400)


def test_what_a_whole_seed_favours_is_no_lead() -> None:
    """24 prompts with one seed were 35 % wrong, with two 5 %."""
    assert wrong(2, 4, crossed=1.0) <= 0.04 and wrong(8, 4, crossed=1.0) <= 0.04
    assert wrong(24, 1, crossed=1.0, duels=50) == 0 and wrong(24, 2, crossed=1.0) <= 0.025


def test_of_one_seed_for_all_prompts_nothing_can_be_told() -> None:
    found = decide(frame(np.random.default_rng(6).normal(9, 1, (24, 1))))
    assert (found.word, found.low, found.scope) == ("undecided", -math.inf, "prompts like these")
    assert found.more is None and found.mean == pytest.approx(9, abs=1)
    assert decide(frame(np.random.default_rng(6).normal(9, 1, (24, 1)), own_seeds=True)).word == "better"
    assert decide(frame(np.zeros((9, 1)))).word == "undecided"


def test_a_part_with_one_degree_of_freedom_is_not_trusted() -> None:
    """Two prompts, one of two seeds and one of twenty, were 4.4 % wrong by Satterthwaite's degrees."""
    rng, count = np.random.default_rng(7), 0
    for _ in range(600):
        differences = np.full((2, 20), math.nan)
        differences[0, :2], differences[1] = rng.normal(size=2), rng.normal(size=20)
        count += decide(frame(differences, own_seeds=True)).word == "better"
    assert count / 600 <= 0.02


def test_more_seeds_do_not_decide_what_prompts_differ_by() -> None:
    """It said "467 more", and after them "1,312 more": the spread between prompts does not get less by more seeds."""
    rng = np.random.default_rng(8)
    taste = rng.normal(size=(24, 1))
    differences = 0.4 + 8 * (taste - taste.mean()) + rng.normal(size=(24, 8))
    assert decide(frame(differences)).more is None
    noise = 6 * rng.normal(size=(24, 8))
    quiet = decide(frame(0.8 + noise - noise.mean()), margin=0.1)
    assert quiet.word == "undecided" and quiet.more


def test_shares() -> None:
    """Newcombe 1998, table II, example a: 56 of 70 against 48 of 80, difference 0.2, interval 0.0524 to 0.3339."""
    found = shares_apart((48, 80), (56, 70))
    assert (found.difference, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)
