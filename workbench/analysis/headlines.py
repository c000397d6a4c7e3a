"""What came of a run in one sentence: which setting won, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from workbench.evidence import compare
from workbench.runs import DONE, Run, SettingValues, setting_rows, told

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


@dataclass(frozen=True)
class Best:
    """The winner of a run and how the other settings stand to it.

    Attributes:
        setting: the winner, {setting: value} of what the axes vary.
        mean, n: its mean sharpness, over so many pictures.
        apart: (another setting with a sharpness, whether it is told apart from the winner: 95 %, all comparisons together;
            None where that takes two prompts or seeds).
        flagged: how many settings with a higher mean were passed over, because a guard fired on them.
    """

    setting: SettingValues
    mean: float
    n: int
    apart: list[tuple[SettingValues, bool | None]]
    flagged: int


def best_setting(run: Run) -> Best | str:
    """The winner of a run; why there is none, where there is none. Raises `MixedScores`."""
    rows = [row for row in setting_rows(run) if row.n]
    whole = [i for i, row in enumerate(rows) if not row.missing and not row.not_run]
    clean = [i for i in whole if not rows[i].flagged]
    if not clean:
        return "a guard fired on every setting" if whole else "no setting has a face score on every prompt and seed"
    place, best = combination_numbers(run), clean[0]
    keys = [tuple(row.combination.values()) or (0,) for row in rows]
    found = compare(measured(run)[:, [place[key] for key in keys]], prompt_numbers(run))

    def apart(i: int) -> bool | None:
        half = found.half_width(best, i)
        return None if math.isnan(half) else bool(abs(found.means[i] - found.means[best]) > half)

    others = [(row.combination, apart(i)) for i, row in enumerate(rows) if i != best]
    flagged = sum(rows[i].flagged > 0 and rows[i].mean > rows[best].mean for i in whole)
    return Best(rows[best].combination, rows[best].mean, rows[best].n, others, flagged)


def headline(run: Run) -> Headline:
    """Raises `MixedScores`."""
    best = best_setting(run)
    if isinstance(best, str):
        return Headline("", best, 0.0, 0, 0, None, 0)
    apart = [sure for _, sure in best.apart]
    together = None if apart and set(apart) == {None} else sum(not sure for sure in apart)
    setting = told(best.setting) or "the only setting"
    return Headline(setting, "", best.mean, best.n, len(apart), together, best.flagged)


def shown_cells(run: Run) -> dict[tuple[object, ...], int]:
    """{a setting, as `combination_numbers` has it: the cell that stands for it}: of the first prompt and seed that it has a
    picture of, which is the same one for all settings, so that looking from one to another compares like with like."""
    made = sorted(record["cell"] for record in run.records() if record["status"] in DONE)
    settings = {column: key for key, column in combination_numbers(run).items()}
    inner = math.prod(len(values) for values in run.axes.values())
    first: dict[tuple[object, ...], int] = {}
    for cell in made:
        first.setdefault(settings[cell % inner], cell)
    return first
