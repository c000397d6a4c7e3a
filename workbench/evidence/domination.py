"""Pareto domination: what no other beats in one objective while being as good in all."""

from __future__ import annotations

import numpy as np


def dominated(points: np.ndarray, by: np.ndarray | None = None) -> np.ndarray:
    """(n,) bool of `points` (n, objectives), higher is better: whether one of `by` (m, objectives; the points themselves if
    left out) is at least as good in all objectives and better in one."""
    rivals = points if by is None else by
    return np.array([((rivals >= point).all(1) & (rivals > point).any(1)).any() for point in points], bool)
