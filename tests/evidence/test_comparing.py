"""Many settings compared in blocks: simultaneous intervals, means drawn together."""

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import tukey_hsd

from workbench.evidence import compare


def test_two_way_layout_by_hand() -> None:
    """Rows 1, 2, 3 and 2, 5, 5 in two blocks: effects -1.5, .5, 1; residuals -+.5, +-.5, 0: sd^2 = 1 / 2."""
    found = compare(np.array([[1.0, 2, 3], [2, 5, 5]]))
    assert found.means == pytest.approx([1.5, 3.5, 4.0]) and (found.sd, found.df) == (pytest.approx(0.5**0.5), 2)
    # q(0.05; 3, 2) = 8.331 in every table
    assert found.half_width(0, 2) == pytest.approx(8.331 * 0.5, abs=2e-3)


def test_without_blocks_that_differ_it_is_tukeys() -> None:
    """Of one-way data scipy has the same; here a block's level takes one degree of freedom more."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(400, 4)) + [0, 0.1, 0.2, 0.3]
    found, reference = compare(values), tukey_hsd(*values.T).confidence_interval()
    half = (reference.high - reference.low)[0, 3] / 2
    assert found.half_width(0, 3) == pytest.approx(half, rel=0.02)


def test_missing_numbers_tilt_nothing() -> None:
    """The harder block lacks the first setting."""
    whole = np.array([[0.0, 1, 2], [0.5, 1, 2], [10, 11, 12]])
    gap = whole.copy()
    gap[2, 0] = math.nan
    found = compare(gap)
    assert found.means - found.means[1] == pytest.approx([-0.75, 0, 1]) and found.counts.tolist() == [2, 3, 3]
    assert found.half_width(0, 1) > found.half_width(1, 2)
    nothing = compare(np.full((2, 3), math.nan))
    assert np.isnan(nothing.means).all() and math.isnan(nothing.half_width(0, 1))
    one = compare(np.array([[1.0, 2, 3]]))
    assert one.df == 0 and math.isnan(one.half_width(0, 1)) and one.shrunken.tolist() == [1, 2, 3]


def test_what_a_prompt_prefers_is_no_noise_where_it_has_several_seeds() -> None:
    """Two prompts of opposite tastes: about these two the settings are known well; by blocks alone they were noise."""
    taste = np.repeat([[0.0, 8], [8, 0]], 3, axis=0)
    values = taste + np.random.default_rng(1).normal(0, 0.1, (6, 2))
    assert compare(values, np.repeat([0, 1], 3)).sd < 0.2 < 3 < compare(values).sd
    assert compare(values, np.arange(6)).sd == compare(values).sd


def simulated(settings: int, blocks: int, between: float, times: int = 300) -> Any:
    """(lead of the first over its truth as it looks, the same shrunken, share with any wrong interval to the first)"""
    rng = np.random.default_rng(settings)
    rows = []
    for _ in range(times):
        truth = between * rng.normal(size=settings)
        truth -= truth.mean()
        found = compare(truth + rng.normal(size=(blocks, settings)) + rng.normal(size=(blocks, 1)))
        first = int(np.argmax(found.means))
        lead, drawn = (means[first] - means.mean() - truth[first] for means in (found.means, found.shrunken))
        wrong = any(
            abs(found.means[first] - found.means[i] - truth[first] + truth[i]) > found.half_width(first, i)
            for i in range(settings)
        )
        rows.append((lead, drawn, wrong))
    return np.mean(rows, axis=0)


def test_the_winners_curse_is_taken_out() -> None:
    """27 equal settings in 4 blocks: the first one's fake lead is .99 sd of a picture."""
    lead, drawn, wrong = simulated(27, 4, 0.0)
    assert lead == pytest.approx(0.99, abs=0.05) and drawn < 0.25 and wrong <= 0.09
    lead, drawn, wrong = simulated(9, 4, 0.5)
    assert lead > 0.4 and abs(drawn) < 0.15 and wrong <= 0.09


def test_real_differences_stay() -> None:
    values = np.arange(6.0) * 10 + np.random.default_rng(2).normal(0, 0.5, (4, 6))
    found = compare(values)
    assert found.shrunken == pytest.approx(found.means, abs=0.05)
    assert all(found.means[5] - found.means[i] > found.half_width(5, i) for i in range(5))
