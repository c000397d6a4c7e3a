"""What a duel says: the pairs, the word they allow, what guards saw on both sides, what it costs.

What differs from pair to pair (equal prompt and seed), not from picture to picture, says how sure a lead is. The word comes
from `workbench.evidence.decide`, at a level that the ledger of all looks and challengers sets.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from workbench.errors import BadPreset, NoChallenge, NotPromoted, PresetNotFound
from workbench.evidence import MARGIN, Decision, SharesApart, decide, shares_apart
from workbench.files import Chart, hash_json
from workbench.presets import Preset, check_replaceable, load_preset, presets_folder
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
    list_runs,
    listed,
    same_pictures,
)
from workbench.scores import MEASURES, SHARPNESS
from workbench.settings import Settings, expand_cfg

from . import showing
from .duel import Challenge, Meeting, is_challenge, kept_meeting
from .ledger import Place, digest, enter, looks
from .promoting import run_sample, write_promoted

if TYPE_CHECKING:
    from PIL import Image

Sides = dict[str, list[Record | None]]
"""{"champion": its record of every prompt and seed, None where there is none yet; "challenger": ...}"""
FIDELITY = {"ssim": "SSIM", "lpips": "LPIPS", "identity_drift": "identity drift"}  # what the restorer left of the face
NO_SCORE = "no face score"
Ruling = Literal["better", "as_good", "worse", "undecided", "flagged", "not made"]


@dataclass(frozen=True)
class GuardRate:
    """How often something spoke against the pictures of the two sides.

    Attributes:
        name: of the guard, or `NO_SCORE`: a picture that failed or shows no face.
        champion, challenger: pictures on which it fired.
        of: pictures of the two sides.
        apart: the challenger's share minus the champion's, with its 95 % interval; None where a side has no picture.
        blocks: whether it keeps the challenger out: it counts against promotion, and fires more often on it than on the
            champion (the interval lies above 0).
    """

    name: str
    champion: int
    challenger: int
    of: tuple[int, int]
    apart: SharesApart | None
    blocks: bool

    @property
    def words(self) -> str:
        said = f"{self.name} {self.challenger} of {self.of[1]}, champion {self.champion} of {self.of[0]}"
        if not self.blocks or self.apart is None:
            return said
        return f"{said} (more often by {100 * self.apart.low:.0f} to {100 * self.apart.high:.0f} % of the pictures)"


@dataclass(frozen=True)
class Verdict:
    """What the pairs say. A pair is a prompt and seed on which both sides have a sharpness.

    Attributes:
        decision: "better", "as_good", "worse" or "undecided", as `found.word`; "flagged": not worse, but a guard fires more
            often on the challenger than on the champion; "not made": pictures are missing, nothing is decided yet.
        found: the numbers; None before all pictures are made.
        wins, losses, ties: of the challenger.
        guards: every guard that fired anywhere, and pictures without a score.
        to_do: pictures that are not made yet.
        fidelity: {"ssim": mean paired change, "lpips": ..., "identity_drift": ...}, None where not measured.
        seconds: {"champion": per picture, all stages, "challenger": ...}; None where a stage came from the store.
        cells: (champion's cell, challenger's cell) of every prompt and seed, also of those that count as one.
        differences: challenger minus champion for every pair that counts, in that order.
        meeting: who met and on what; what is kept with the run.
    """

    run: Run
    settings: dict[str, SettingValues]
    decision: Ruling
    found: Decision | None
    wins: int
    losses: int
    ties: int
    guards: tuple[GuardRate, ...]
    to_do: int
    fidelity: dict[str, float | None]
    seconds: dict[str, float | None]
    cells: tuple[tuple[int, int], ...]
    differences: tuple[float, ...]
    identical: bool
    caveat: str
    meeting: Meeting

    @property
    def champion(self) -> str:
        return self.meeting.champion

    @property
    def challenger(self) -> str:
        return self.meeting.challenger

    @property
    def more_seconds(self) -> float | None:
        """What deciding is expected to take, at the time that pictures took here; None where that is not known."""
        one, two = self.seconds["champion"], self.seconds["challenger"]
        if self.found is None or self.found.more is None or one is None or two is None:
            return None
        return self.found.more * (one + two)

    @property
    def words(self) -> str:
        """One sentence."""
        return f"{'; '.join([f'{self.word}: {self._lead()}', *self._troubles(), *self._costs()])}."

    @property
    def rows(self) -> dict[str, str]:
        """The same as rows with a name each: sharpness, guards, and what else changes."""
        said = {"Sharpness": [self._lead()], "Guards": self._troubles(), "Also": self._costs()}
        lines = {name: "; ".join(parts).removeprefix("guards: ") for name, parts in said.items()}
        return {name: f"{line[:1].upper()}{line[1:]}." for name, line in lines.items()}

    @property
    def word(self) -> str:
        """The decision as a word: "Better"."""
        return self.decision.replace("_", " ").capitalize()

    def _lead(self) -> str:
        found = self.found
        if found is None:
            return f"{self.to_do} of {2 * len(self.cells)} pictures are not made yet"
        if self.identical:
            return f"{self.challenger} and {self.champion} gave the same pictures to the last pixel"
        if not math.isfinite(found.low):
            return f"{found.pairs} {'pair shows' if found.pairs == 1 else 'pairs show'} nothing, take more seeds"
        way = "sharper" if found.mean > 0 else "softer"
        than = f"{self.challenger} is {way} than {self.champion} by {abs(found.mean):.1f} points on {found.scope}"
        counts = f"{self.wins} won, {self.losses} lost" + f", {self.ties} tied" * bool(self.ties)
        sure = f"interval {found.low:+.1f} to {found.high:+.1f} at {100 - 200 * found.level:.4g} %"
        lead = f"{than} ({sure}; {found.pairs} pairs: {counts}{self._place()})"
        if found.word == "as_good":
            return f"{lead}, which is within {found.margin:g} points to either side"
        return lead if found.word != "undecided" else f"{lead}, {self._more()}"

    def _place(self) -> str:
        """That this is not the first look or the first challenger, which costs certainty."""
        found = self.found
        if found is None or (found.looks, found.challengers) == (1, 1):
            return ""
        return f"; look {found.looks}, challenger {found.challengers} of this champion"

    def _more(self) -> str:
        more = self.found.more if self.found else None
        if more is None:
            return "which more seeds of these prompts would not decide"
        seconds = self.more_seconds
        time = "time not measured here" if seconds is None else f"about {_duration(seconds)}"
        return f"about {more} more pairs ({2 * more} pictures, {time}) would decide if that is the true difference"

    def _troubles(self) -> list[str]:
        said = [rate.words for rate in sorted(self.guards, key=lambda rate: not rate.blocks)]
        return [f"guards: {', '.join(said)}"] if said else ["no guard fired"]

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
        if one is None or two is None:
            return [*said, "time per picture not measured here"]
        cheaper = f", {100 * (1 - two / one):.0f} % cheaper" if two < 0.95 * one else ""
        return [*said, f"time per picture {two:.2g} s instead of {one:.2g} s{cheaper}"]

    def to_json(self) -> JsonObject:
        left_out = ("run", "differences", "meeting", "found", "guards")
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in left_out}
        return {
            "run": self.run.id,
            "champion": self.champion,
            "challenger": self.challenger,
            **values,
            "found": _finite(asdict(self.found)) if self.found else None,
            "guards": [_finite(asdict(rate)) for rate in self.guards],
            "more_seconds": self.more_seconds,
            "words": self.words,
        }

    def promote(self, name: str = "production", note: str = "", *, as_good: bool = False) -> Preset:
        """Write the challenger as the preset `name`, with this verdict as evidence.

        `as_good`: also where it is as good only, for another reason (it is cheaper, say). Raises `NotPromoted` unless the
        verdict allows it, `UsageError` for the name of a shipped preset.
        """
        if problem := self.refusal(name, as_good=as_good):
            raise NotPromoted(problem, self.to_json())
        return write_promoted(
            self.run, name=name, note=note, settings=self.settings["challenger"], verdict=self.to_json(),
            chosen_on=self.meeting.chosen_on, used=self.meeting.used, parent=self.meeting.champion_digest,
        )  # fmt: skip

    def refusal(self, name: str = "production", *, as_good: bool = False) -> str:
        """Why the challenger does not become the preset `name`, in a sentence; "" where it may."""
        check_replaceable(name)
        if self.decision != "better" and not (as_good and self.decision == "as_good"):
            also = " Another reason than sharpness may speak for it: --as-good." if self.decision == "as_good" else ""
            return f"the challenger is not promoted. {self.words}{also}"
        if not self.meeting.held_out:
            return (
                f"the challenger is not promoted: {self.run.id} is not known to be on seeds that chose neither of the two, "
                "which flatters one of them; workbench challenge opens a duel on new ones."
            )
        try:
            beats = self._beats(name)
        except BadPreset as error:
            return f"the challenger is not promoted: whom it has to beat cannot be read ({str(error).rstrip('.')})."
        if self.decision == "as_good" and self.found and self.found.margin > MARGIN:
            return (
                f"the challenger is not promoted: as good is within {MARGIN:g} points here, not {self.found.margin:g}."
            )
        if not beats:
            return (
                f"the challenger is not promoted: it has beaten {self.champion}, and '{name}' has other settings; "
                f"workbench challenge --against {name} lets it meet those."
            )
        return ""

    def _beats(self, name: str) -> bool:
        """Whether one of the two is what the preset `name` is now. Raises `BadPreset` where that cannot be read."""
        try:
            present = load_preset(presets_folder() / f"{name}.json").settings
        except PresetNotFound:
            return True
        met = [record["settings"] for record in self.run.records() if record["cell"] in self.cells[0]]
        return digest(present) in {digest(Settings.written(settings)) for settings in met}

    def chart(self) -> Chart:
        """The differences, pair by pair, with their mean and its interval."""
        return showing.chart(self)

    def sheet(self, tile: int = 200, most: int = 8) -> Image.Image:
        """The faces side by side, a pair a row: the first `most` of them. `tile` is in px."""
        return showing.sheet(self, tile, most)


def verdict(run: Run | str | Path, of: Challenge | None = None, *, margin: float = MARGIN) -> Verdict:
    """What a duel's run says, which is a look at it: the ledger has it from then on.

    `of`: the challenge that it was made for, where this is the first look; it is kept with the run. `margin`: points of
    sharpness within which the two are as good.

    Raises `NoChallenge` for a run that does not have one axis of two values, `MixedScores`, `BadPairs` for a margin that is
    none.
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
    sides = _once({side: [records.get(pair[i]) for pair in cells] for i, side in enumerate(settings)})
    to_do = sum(r is None for rs in sides.values() for r in rs)
    meeting = kept_meeting(run, of)
    guards = _guards(sides)
    found = None if to_do else _decision(run, sides, margin, opened=meeting != Meeting())
    # what is not whole is not shown: who looks at a part, and stops when it suits, has looked
    differences = () if to_do else tuple(_differences(sides, "sharpness"))
    return Verdict(
        run, settings, _ruling(found, guards), found, sum(d > 0 for d in differences), sum(d < 0 for d in differences),
        sum(d == 0 for d in differences), guards, to_do, {name: _mean(_differences(sides, name)) for name in FIDELITY},
        _seconds(run, sides), cells, differences, _identical(sides), _caveat(run, meeting), meeting,
    )  # fmt: skip


def _ruling(found: Decision | None, guards: tuple[GuardRate, ...]) -> Ruling:
    if found is None:
        return "not made"
    if found.word != "worse" and any(rate.blocks for rate in guards):
        return "flagged"
    return found.word


def _decision(run: Run, sides: Sides, margin: float, *, opened: bool) -> Decision:
    """What the pairs say, at the level of this look at this challenger. `opened`: it is a duel, and no other sweep of two
    values, which nobody is promoted by."""
    import pandas as pd

    rows = []
    for pair in zip(*sides.values(), strict=True):
        one, two = (_value(record, SHARPNESS.name) for record in pair)
        if pair[0] and one is not None and two is not None:
            settings = pair[0]["settings"]
            rows.append((settings["prompt"], settings["seed"], one, two))
    pairs = pd.DataFrame(rows, columns=pd.Index(["prompt", "seed", "champion", "challenger"]))
    place = _placed(run, sides, rows) if opened else Place(1, 1)
    return decide(pairs, looks=place.look, challengers=place.challenger, margin=margin)


def _placed(run: Run, sides: Sides, rows: list[tuple[str, int, float, float]]) -> Place:
    """Write this look into the ledger; where no picture is there, there was nothing to look at."""
    pair = _met(run)
    if not rows or pair is None:
        return Place(1, 1)
    entered = {look.sample.run for look in looks()}
    before = [other for other in list_runs() if is_challenge(other) and other.created < run.created]
    peeked = any(other.id not in entered and _met(other) == pair for other in before)
    return enter(*pair, hash_json([[*row] for row in rows]), run_sample(run), peeked=peeked)


def _met(run: Run) -> tuple[str, str] | None:
    """The digests of champion and challenger in a duel's run; None where one of them has no picture yet."""
    sides = [next((r["settings"] for r in run.records() if r["cell"] % 2 == side), None) for side in (0, 1)]
    if sides[0] is None or sides[1] is None:
        return None
    return digest(Settings.written(sides[0])), digest(Settings.written(sides[1]))


def _guards(sides: Sides) -> tuple[GuardRate, ...]:
    made = {side: [record for record in records if record] for side, records in sides.items()}
    fired = {
        side: Counter(flag for r in rs for flag in r.get("scores", {}).get("flags", [])) for side, rs in made.items()
    }
    for side, rs in made.items():
        if lacking := sum(_value(record, SHARPNESS.name) is None for record in rs):
            fired[side][NO_SCORE] = lacking
    of = (len(made["champion"]), len(made["challenger"]))
    rates = []
    for name in dict.fromkeys(name for counts in fired.values() for name in counts):
        one, two = fired["champion"][name], fired["challenger"][name]
        apart = shares_apart((one, of[0]), (two, of[1])) if all(of) else None
        counts = name == NO_SCORE or name in BLOCKING
        rates.append(GuardRate(name, one, two, of, apart, counts and apart is not None and apart.low > 0))
    return tuple(rates)


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


def _seconds(run: Run, sides: Sides) -> dict[str, float | None]:
    """Mean time of all stages of a picture, of those pictures none of whose stages came from the store."""
    took = {line["key"]: line["seconds"] for line in run.lines("stage")}
    made = {side: [list(r["keys"].values()) for r in rs if r and r.get("keys")] for side, rs in sides.items()}
    return {
        side: _mean([sum(took[k] for k in keys) for keys in all_ if took.keys() >= set(keys)])
        for side, all_ in made.items()
    }


def _caveat(run: Run, meeting: Meeting) -> str:
    spec = run.about["spec"]
    seeds, prompts = spec["seeds"], len(spec["prompts"])
    on = f"measured on seed{'s' * (len(seeds) > 1)} {listed(seeds)} of {prompts} prompt{'s' * (prompts > 1)}"
    return f"{on}. {' '.join(meeting.notes)}".rstrip(".")


def _finite(value: object) -> object:
    """As JSON has it, which knows no infinity and no NaN."""
    return json.loads(json.dumps(value), parse_constant=lambda _: None)


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )
