"""From an interval to a word: is the challenger better, worse, or is it not proven?"""

from __future__ import annotations

from typing import Literal

from .intervals import half_width

Decision = Literal["better", "not proven", "worse", "flagged"]
MOST = 10_000  # pairs beyond which a difference is called too small to settle


def decide(interval: tuple[float, float] | None, *, blocked: bool, whole: bool) -> Decision:
    """What the 95 % `interval` of the mean difference (challenger minus champion) says; None: it could not be estimated.

    `blocked`: a guard fired on the challenger, or a picture of it has no score. `whole`: nothing is left to be made.
    """
    if not whole:
        return "not proven"
    if interval and interval[1] < 0:
        return "worse"
    if blocked:
        return "flagged"
    return "better" if interval and interval[0] > 0 else "not proven"


def more_pairs(mean: float | None, sd: float | None, count: int) -> int | None:
    """How many more pairs bring the interval off 0, if mean and sd stay what they are; None: more than `MOST`."""
    if not mean or sd is None:
        return None
    low, high = count, MOST
    if half_width(sd, high) >= abs(mean):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if half_width(sd, middle) < abs(mean) else (middle, high)
    return high - count
