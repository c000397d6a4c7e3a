"""What a challenge says: the paired differences, their interval, what guards saw, what it costs, and one word on it.

What differs from pair to pair (equal prompt and seed), not from picture to picture, says how sure a lead is. The interval
is Student's (Gosset 1908, Biometrika 6:1).
"""

from __future__ import annotations

import io
import math
import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from workbench.errors import NoChallenge, NothingToPromote
from workbench.evidence import Decision, decide, mean_interval, more_pairs
from workbench.files import figure_picture, new_figure
from workbench.presets import Preset, RunSample
from workbench.runs import (
    BLOCKING,
    DONE,
    JOIN,
    AxisValue,
    JsonObject,
    Record,
    Run,
    SettingValues,
    find_run,
    listed,
    same_pictures,
)
from workbench.scores import MEASURES, SHARPNESS
from workbench.settings import expand_cfg

from .duel import Challenge
from .promoting import promote

if TYPE_CHECKING:
    from PIL import Image

FEW = 6  # pairs below which the interval itself is called rough: with 5 its own width is good to a third
Sides = dict[str, list[Record | None]]
"""{"champion": its record of every prompt and seed, None where there is none yet; "challenger": ...}"""
FIDELITY = {"ssim": "SSIM", "lpips": "LPIPS", "identity_drift": "identity drift"}  # what the restorer left of the face


@dataclass(frozen=True)
class Verdict:
    """What the pairs say. A pair is a prompt and seed on which both sides have a sharpness.

    Attributes:
        decision: "better" (the interval lies above 0, and nothing blocks the challenger), "worse" (below 0), "flagged" (a
            guard fired on the challenger, or it has a picture without a score, and it is not worse), "not proven".
        pairs: their number; `mean` (challenger minus champion, points of sharpness), `sd` and `interval` (95 %) are over
            them, None where there are too few.
        wins, losses, ties: of the challenger.
        guards: {"champion": {flag: pictures}, "challenger": ...}; all that fired, also those that do not block.
        missing: {"champion": pictures that failed or show no face, "challenger": ...}.
        to_do: pictures that are not made yet; nothing is decided before they are.
        fidelity: {"ssim": mean paired change, "lpips": ..., "identity_drift": ...}, None where not measured.
        seconds: {"champion": per picture, all stages, "challenger": ...}; None where a stage came from the store.
        more_seeds: about how many more would decide, if the difference stays what it is; None: decided, or never.
        cells: (champion's cell, challenger's cell) of every prompt and seed, also of those that count as one.
        differences: challenger minus champion for every pair that counts, in that order.
        chosen_on: what the challenger was chosen on before; None where that is not known.
    """

    run: Run
    champion: str
    challenger: str
    settings: dict[str, SettingValues]
    decision: Decision
    pairs: int
    mean: float | None
    sd: float | None
    interval: tuple[float, float] | None
    wins: int
    losses: int
    ties: int
    guards: dict[str, dict[str, int]]
    missing: dict[str, int]
    to_do: int
    fidelity: dict[str, float | None]
    seconds: dict[str, float | None]
    more_seeds: int | None
    cells: tuple[tuple[int, int], ...]
    differences: tuple[float, ...]
    identical: bool
    caveat: str
    chosen_on: RunSample | None

    @property
    def words(self) -> str:
        """One sentence."""
        return f"{'; '.join([f'{self.decision.capitalize()}: {self._lead()}', *self._troubles(), *self._costs()])}."

    def _lead(self) -> str:
        if self.to_do:
            return f"{self.to_do} of {2 * len(self.cells)} pictures are not made yet"
        if self.identical:
            return f"{self.challenger} and {self.champion} gave the same pictures to the last pixel"
        if self.mean is None or self.interval is None:
            return f"{self.pairs} {'pair shows' if self.pairs == 1 else 'pairs show'} nothing, take more seeds"
        way = "sharper" if self.mean > 0 else "softer"
        than = f"{self.challenger} is {way} than {self.champion} by {abs(self.mean):.1f} points"
        few = ", so few that the interval is rough" * (self.pairs < FEW)
        low, high = self.interval
        counts = f"{self.wins} won, {self.losses} lost" + f", {self.ties} tied" * bool(self.ties)
        lead = f"{than} (95 % interval {low:+.1f} to {high:+.1f}; {self.pairs} pairs{few}: {counts})"
        if self.decision != "not proven":
            return lead
        if self.more_seeds is None:
            return f"{lead}, a difference too small to settle with any number of seeds"
        return f"{lead}, about {self.more_seeds} more seeds would decide if that is the true difference"

    def _troubles(self) -> list[str]:
        said = []
        for side in ("challenger", "champion"):
            fired = ", ".join(f"{flag} {count}x" for flag, count in self.guards[side].items())
            missing = f"{self.missing[side]} without a face score" if self.missing[side] else ""
            if fired or missing:
                said.append(f"guards on the {side}: {', '.join(filter(None, (fired, missing)))}")
        return said or ["no guard fired"]

    def _costs(self) -> list[str]:
        said = []
        for name, change in self.fidelity.items():
            if change is None:
                said.append(f"{FIDELITY[name]} to the unrestored face not measured")
            else:
                closer = (change > 0) == MEASURES[name].higher_is_better
                way = (
                    "unchanged" if abs(change) < 0.0005 else f"{change:+.3f} ({'closer' if closer else 'further off'})"
                )
                said.append(f"{FIDELITY[name]} to the unrestored face {way}")
        one, two = self.seconds["champion"], self.seconds["challenger"]
        time = "not measured here" if one is None or two is None else f"{two:.2g} s instead of {one:.2g} s"
        return [*said, f"time per picture {time}"]

    def to_json(self) -> JsonObject:
        left_out = ("run", "differences", "chosen_on")
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in left_out}
        return {"run": self.run.id, **values, "words": self.words}

    def promote(self, name: str = "production", note: str = "") -> Preset:
        """Write the challenger as the preset `name`, with this verdict as evidence. Raises `NothingToPromote` unless it is
        better; `promotion.promote(run, cell=...)` promotes what you choose yourself."""
        if self.decision != "better":
            raise NothingToPromote(f"the challenger is not promoted. {self.words}")
        settings, said = self.settings["challenger"], self.to_json()
        return promote(self.run, name=name, note=note, settings=settings, verdict=said, chosen_on=self.chosen_on)

    def chart(self) -> Image.Image:
        """The differences, pair by pair, with their mean and its interval."""
        return _chart(self)

    def sheet(self, tile: int = 200, most: int = 8) -> Image.Image:
        """The faces side by side, a pair a row: the first `most` of them. `tile` is in px."""
        return _sheet(self, tile, most)


def verdict(run: Run | str | Path, of: Challenge | None = None) -> Verdict:
    """What a challenge's run says. `of` gives the two sides' names and whether the seeds were held out.

    Raises `NoChallenge` for a run that does not have one axis of two values, `MixedScores`.
    """
    run = find_run(run)
    run.score_version()
    spec = run.about["spec"]
    if len(run.axes) != 1 or len(next(iter(run.axes.values()))) != 2:
        raise NoChallenge(
            f"{run.id} is no challenge: that is a run whose one axis has two values, champion and challenger."
        )
    (axis, values) = next(iter(run.axes.items()))
    settings = {side: _combination(axis, value) for side, value in zip(("champion", "challenger"), values, strict=True)}
    records = {record["cell"]: record for record in run.records()}
    cells = tuple((2 * i, 2 * i + 1) for i in range(len(spec["prompts"]) * len(spec["seeds"])))
    sides = {side: [records.get(pair[i]) for pair in cells] for i, side in enumerate(settings)}
    sides = _once(sides)
    sign = 1 if SHARPNESS.higher_is_better else -1
    differences = tuple(sign * d for d in _differences(sides, "sharpness"))
    flags = {
        side: Counter(f for r in rs if r for f in r.get("scores", {}).get("flags", [])) for side, rs in sides.items()
    }
    missing = {side: sum(r is not None and _value(r, "sharpness") is None for r in rs) for side, rs in sides.items()}
    to_do = sum(r is None for rs in sides.values() for r in rs)
    mean, sd, between = _interval(differences)
    blocked = bool(BLOCKING & set(flags["challenger"])) or missing["challenger"] > 0
    decision = decide(between, blocked=blocked, whole=not to_do)
    per_seed = max(1, round(len(sides["champion"]) / len(spec["seeds"])))  # pairs that one seed more gives
    more = None if to_do or decision != "not proven" else more_pairs(mean, sd, len(differences))
    return Verdict(
        run, of.champion if of else "the champion", of.challenger if of else "the challenger", settings, decision,
        len(differences), mean, sd, between, sum(d > 0 for d in differences), sum(d < 0 for d in differences),
        sum(d == 0 for d in differences), {side: dict(found) for side, found in flags.items()}, missing, to_do,
        {name: _mean(_differences(sides, name)) for name in FIDELITY}, _seconds(run, sides),
        math.ceil(more / per_seed) if more else None, cells, differences, _identical(sides),
        _caveat(run, of), of.chosen_on if of else None,
    )  # fmt: skip


def _combination(axis: str, value: AxisValue) -> SettingValues:
    return expand_cfg(dict(zip(axis.split(JOIN), value, strict=True)) if isinstance(value, list) else {axis: value})


def _value(record: Record | None, measure: str) -> float | None:
    return record.get("scores", {}).get(measure) if record else None


def _differences(sides: Sides, measure: str) -> list[float]:
    """Challenger minus champion, on every prompt and seed where both have the number."""
    pairs = zip(*([_value(r, measure) for r in sides[side]] for side in ("champion", "challenger")), strict=True)
    return [two - one for one, two in pairs if one is not None and two is not None]


def _once(sides: Sides) -> Sides:
    """Without the pairs whose two pictures an earlier pair shows, too: two prompts that read alike are one."""
    seen: set[tuple[str | None, ...]] = set()
    kept = []
    for pair in zip(*sides.values(), strict=True):
        pictures = tuple(record.get("pixels_sha256") if record else None for record in pair)
        if None in pictures or pictures not in seen:
            kept.append(pair)
        seen.add(pictures)
    return {side: [pair[i] for pair in kept] for i, side in enumerate(sides)}


def _identical(sides: Sides) -> bool:
    hashes = {
        side: {i: r["pixels_sha256"] if r and r["status"] in DONE else None for i, r in enumerate(records)}
        for side, records in sides.items()
    }
    return len(same_pictures(hashes)) == 1


def _mean(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _interval(differences: tuple[float, ...]) -> tuple[float | None, float | None, tuple[float, float] | None]:
    """(mean, sample sd, 95 % interval of the mean); the last two None below two."""
    mean, low, high = mean_interval(np.array(differences, float))
    if len(differences) < 2:
        return None if math.isnan(mean) else mean, None, None
    return mean, statistics.stdev(differences), (low, high)


def _seconds(run: Run, sides: Sides) -> dict[str, float | None]:
    """Mean time of all stages of a picture, of those pictures none of whose stages came from the store."""
    took = {line["key"]: line["seconds"] for line in run.lines("stage")}
    made = {side: [list(r["keys"].values()) for r in rs if r and r.get("keys")] for side, rs in sides.items()}
    return {
        side: _mean([sum(took[k] for k in keys) for keys in all_ if took.keys() >= set(keys)])
        for side, all_ in made.items()
    }


def _caveat(run: Run, of: Challenge | None) -> str:
    spec = run.about["spec"]
    on = f"measured on seeds {listed(spec['seeds'])} of {len(spec['prompts'])} prompt{'s' * (len(spec['prompts']) > 1)}"
    notes = "Whether these were held out is not known." if of is None else " ".join(of.notes)
    return f"{on}. {notes}".rstrip(".")


def _chart(verdict: Verdict) -> Image.Image:
    figure = new_figure(7.2, 1.9)
    ax = figure.subplots()
    ax.axvline(0, color="#666666", linewidth=1)
    # Okabe-Ito blue and vermilion, told apart by their shapes as well
    for shown, colour, marker in ((lambda d: d > 0, "#0072B2", "^"), (lambda d: d <= 0, "#D55E00", "v")):
        found = [d for d in verdict.differences if shown(d)]
        ax.plot(found, [0.0] * len(found), marker, color=colour, markersize=9, alpha=0.75, linestyle="none")
    if verdict.mean is not None and verdict.interval is not None:
        ax.plot(verdict.interval, (-1, -1), color="black", linewidth=2.5, solid_capstyle="butt")
        ax.plot([verdict.mean], [-1], "o", color="black", markersize=8)
    ax.set_yticks([0, -1], labels=["each pair", "mean, 95 %"])
    ax.set_ylim(-1.7, 0.7)
    ax.set_xlabel("sharpness, challenger minus champion, points (right of 0: the challenger is sharper)")
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    return figure_picture(figure)


def _sheet(verdict: Verdict, tile: int, most: int) -> Image.Image:
    from PIL import Image as Pictures

    from workbench.analysis import tile as picture
    from workbench.files import contact_sheet

    spec = verdict.run.about["spec"]
    blocks = [(i, seed) for i in range(1, len(spec["prompts"]) + 1) for seed in spec["seeds"]]
    records = {record["cell"]: record for record in verdict.run.records()}
    rows: list[list[Image.Image | str]] = []
    captions: list[list[str]] = []
    for pair in verdict.cells[:most]:
        rows.append([])
        captions.append([])
        for record in map(records.get, pair):
            if record is None or record["status"] not in DONE:
                rows[-1].append("not made yet" if record is None else f"failed: {record['reason']}")
                captions[-1].append("")
            else:
                rows[-1].append(Pictures.open(io.BytesIO(picture(verdict.run, record, tile, zoom=True))))
                captions[-1].append(_caption(record))
    labels = [f"prompt {prompt}\nseed {seed}" for prompt, seed in blocks[:most]]
    return contact_sheet(rows, labels, ["champion", "challenger"], captions=captions, tile=tile)


def _caption(record: Record) -> str:
    value, flags = _value(record, "sharpness"), record["scores"].get("flags", [])
    return ", ".join([record["status"].replace("_", " ") if value is None else f"{value:.1f}", *flags])
