"""What came of a run in one sentence: which setting won, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.evidence import compare
from workbench.runs import DONE, Run, swept, told

from .effects import combination_numbers, measured, prompt_numbers


@dataclass(frozen=True)
class Headline:
    """The winner: the highest mean sharpness among the settings with a score on every prompt and seed and without a flag.

    Attributes:
        setting: the winner's, in words; "" where there is none, and `why` says why.
        mean, n: its mean sharpness, over so many pictures.
        others: how many other settings have a sharpness.
        together: how many of them are not told apart from it (95 %, all comparisons together); None where that takes two
            prompts or seeds.
        flagged: how many settings with a higher mean were passed over, because a guard fired on them.
    """

    setting: str
    why: str
    mean: float
    n: int
    others: int
    together: int | None
    flagged: int

    @property
    def words(self) -> str:
        """In a sentence or two."""
        if not self.setting:
            return f"No winner: {self.why}."
        pictures = "1 picture" if self.n == 1 else f"{self.n} pictures"
        lead = f"Winner: {self.setting}, sharpness {self.mean:.1f} over {pictures}; {self._sure()}."
        if not self.flagged:
            return lead
        what = "1 sharper setting was" if self.flagged == 1 else f"{self.flagged} sharper settings were"
        return f"{lead} {what} passed over: a guard fired."

    def _sure(self) -> str:
        if not self.others:
            return "there is no other"
        if self.together is None:
            return "whether it leads by more than luck takes two prompts or seeds"
        if not self.together:
            return "the other one is told apart" if self.others == 1 else f"told apart from all {self.others} others"
        if self.others == 1:
            return "the other one is not told apart"
        if self.together == self.others:
            return f"none of the {self.others} others is told apart: the lead may be luck"
        return f"{self.together} of {self.others} others not told apart: which of them leads may be luck"


def headline(run: Run) -> Headline:
    """Raises `MixedScores`."""
    summary, place = run.summary(), combination_numbers(run)
    summary = summary.loc[summary["n"] > 0]
    clean = (summary["flagged"] == 0).to_numpy(bool)
    whole = ((summary["missing"] == 0) & (summary["not_run"] == 0)).to_numpy(bool)
    if not (clean & whole).any():
        why = (
            "a guard fired on every setting" if whole.any() else "no setting has a face score on every prompt and seed"
        )
        return Headline("", why, 0.0, 0, 0, None, 0)
    best = int(np.flatnonzero(clean & whole)[0])
    keys = [index if isinstance(index, tuple) else (index,) for index in summary.index]
    found = compare(measured(run)[:, [place[key] for key in keys]], prompt_numbers(run))
    apart = [(found.means[i] - found.means[best], found.half_width(best, i)) for i in range(len(keys)) if i != best]
    sure = [abs(difference) > half for difference, half in apart if np.isfinite(half)]
    setting = told(dict(zip(swept(run.axes), keys[best], strict=False))) or "the only setting"
    means = summary["mean"].to_numpy(float)
    flagged = int(np.count_nonzero(whole & ~clean & (means > means[best])))
    together = None if apart and not sure else len(apart) - sum(sure)
    row = summary.iloc[best]
    return Headline(setting, "", float(means[best]), int(row["n"]), len(apart), together, flagged)


def shown_cells(run: Run) -> dict[tuple[object, ...], int]:
    """{a setting, as `combination_numbers` has it: the cell that stands for it}: of the first prompt and seed that it has a
    picture of, which is the same one for all settings, so that looking from one to another compares like with like."""
    made = sorted(record["cell"] for record in run.records() if record["status"] in DONE)
    settings, inner = {column: key for key, column in combination_numbers(run).items()}, _inner(run)
    first: dict[tuple[object, ...], int] = {}
    for cell in made:
        first.setdefault(settings[cell % inner], cell)
    return first


def _inner(run: Run) -> int:
    return int(np.prod([len(values) for values in run.axes.values()], dtype=int))
