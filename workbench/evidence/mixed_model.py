"""A linear mixed model of settings in blocks, fitted by REML: which setting is how good, seen in few pictures of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FIRST, AGAIN = 40, 10  # REML iterations of a first fit, and of one that starts from the last one's variances
SMOOTH = 0.6  # length scale of an axis whose whole range is 1: neighbours of 3 values correlate 0.71, its ends 0.25


class Surface:
    """value(combination, block) = level of the block + f(combination) + taste of the block + noise.

    f is a sum of one smooth random function for each axis, one of all axes together, and an own deviation of each
    combination; a block's taste is one smooth random function for each axis. Their variances are estimated by REML (MM
    iterations of Zhou et al. 2019: the likelihood never falls, variances stay positive). An axis that is not `ordered`
    has independent values in place of a smooth function.
    """

    def __init__(self, codes: Sequence[np.ndarray], ordered: Sequence[bool], combinations: int, blocks: int) -> None:
        self.blocks = blocks
        axes = []
        for code, is_ordered in zip(codes, ordered, strict=True):
            apart = (code[:, None] - code) / max(int(code.max()), 1)
            axes.append(np.exp(-0.5 * (apart / SMOOTH) ** 2) if is_ordered else (apart == 0).astype(float))
        own = np.eye(combinations)
        self.shared = [*axes, *([np.prod(axes, axis=0)] if len(axes) > 1 else []), own]
        self.within = [*axes, own]  # in one block only; the last is the noise
        self.variances: np.ndarray | None = None

    def fit(self, cells: Sequence[int], values: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """Posterior mean (combinations,) of f and its covariance, valid for differences between combinations.

        A fit after another starts from its variances.
        """
        at, y = np.asarray(cells), np.asarray(values, float)
        combination, block = at % len(self.shared[0]), at // len(self.shared[0])
        levels = (block[:, None] == np.unique(block)).astype(float)
        y = y - levels @ (levels.T @ y / levels.sum(0))
        # identical pictures everywhere have no spread to measure by
        scale = float(y.std()) or 1.0
        y = y / scale
        pick, same = np.ix_(combination, combination), block[:, None] == block
        parts = np.array([k[pick] for k in self.shared] + [k[pick] * same for k in self.within])
        flat, n = parts.reshape(len(parts), -1), len(y)
        variances = np.full(len(parts), 1 / len(parts)) if self.variances is None else self.variances / scale**2
        iterations = FIRST if self.variances is None else AGAIN
        for i in range(iterations + 1):
            inverse = np.linalg.inv((variances @ flat).reshape(n, n) + 1e-8 * np.eye(n))
            weighed = inverse @ levels
            project = inverse - weighed @ np.linalg.solve(levels.T @ weighed, weighed.T)
            residual = project @ y
            if i < iterations:
                explained = flat @ np.outer(residual, residual).ravel()
                expected = flat @ project.ravel()
                ratio = np.maximum(explained, 1e-12) / np.maximum(expected, 1e-12)
                # a variance of exactly 0 would be certain for ever
                variances = np.clip(variances * np.sqrt(ratio), 1e-6, 1e6)
        self.variances = variances * scale**2
        prior = np.tensordot(variances[: len(self.shared)], np.array(self.shared), 1)
        known = prior[:, combination]
        return known @ residual * scale, (prior - known @ project @ known.T) * scale**2
