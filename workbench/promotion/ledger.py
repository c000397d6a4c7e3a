"""What judged whom: every look at a duel, and every prompt and seed that ever chose or judged anything.

`judged.jsonl` beside the presets has a line for every look, only ever appended to. From it come the numbers that
`workbench.evidence.decide` spends its level by (the how-manieth look at this duel, the how-manieth challenger of this
champion), and the seeds that are used up: a challenger may have been made after one has seen how an earlier one did, so that
what judged one is no test of the next. It belongs to the presets it lies with; what a preset takes along to another machine
is in its evidence, under "used".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from workbench.errors import BadLedger
from workbench.files import append_line, hash_json, locked
from workbench.presets import Preset, RunSample, preset_changes, presets_folder
from workbench.settings import Settings

LEDGER = "judged.jsonl"


class Look(BaseModel):
    """A line of the ledger: a verdict that somebody has read.

    Attributes:
        champion, challenger: digests of their settings without prompt and seed.
        data: digest of the numbers that it was read from.
        look: the how-manieth at this duel; `place`: the how-manieth challenger of this champion it was.
        sample: the prompts and seeds of the pairs.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    at: AwareDatetime
    champion: str
    challenger: str
    data: str
    look: int
    place: int
    sample: RunSample


@dataclass(frozen=True)
class Place:
    """The how-manieth look at a duel a verdict is, and the how-manieth challenger of its champion it judges."""

    look: int
    challenger: int


def digest(settings: Settings) -> str:
    """What tells settings apart that are to be compared: all but prompt and seed."""
    return hash_json({name: value for name, value in settings.model_dump().items() if name not in ("prompt", "seed")})


def looks() -> list[Look]:
    """Every look so far, the oldest first. Raises `BadLedger` where they cannot be read: to forget some of them would spend
    the same certainty twice."""
    path = _path()
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BadLedger(
            f"{path} cannot be read ({error.strerror}), so nobody knows what judged whom; mend that."
        ) from None
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(Look.model_validate_json(line))
        except ValidationError as error:
            kind = error.errors(include_url=False)[0]["type"]
            if not line.strip() or (kind == "json_invalid" and line.startswith(b'{"at"')):
                continue  # cut short by a crash, before anybody saw what it was for
            raise BadLedger(
                f"line {number} of {path} is no record of a look at a duel, so nobody knows what judged whom; put that file "
                "back as it was, or move it away, which begins to count anew."
            ) from None
    return found


def placed(champion: str, challenger: str, data: str, sample: RunSample) -> Place:
    """Where a look at `data` of these two stands. The same data looked at again is the same look.

    A later look has all pairs of the ones before and more; one on others is a test of its own, and spends as much as another
    challenger: else one could look until some pairs suit.
    """
    of_champion = [look for look in looks() if look.champion == champion]
    own = [look for look in of_champion if look.challenger == challenger]
    if known := [look for look in own if look.data == data]:
        return Place(known[0].look, known[0].place)
    last = [look for look in own if look.place == max(each.place for each in own)]
    if last and all(_holds(sample, look.sample) for look in last):
        return Place(max(look.look for look in last) + 1, last[0].place)
    return Place(1, max((look.place for look in of_champion), default=0) + 1)


def enter(champion: str, challenger: str, data: str, sample: RunSample, *, peeked: bool = False) -> Place:
    """Write a look down before it is had, and say where it stands. `peeked`: pictures of the same duel were to be seen before
    this one's number of pairs was settled, so that it is no first look. Raises `BadLedger`, `DiskFull`, `CannotWrite`."""
    known = {(look.champion, look.challenger, look.data) for look in looks()}
    if (champion, challenger, data) in known:  # read again, which needs no right to write
        return placed(champion, challenger, data, sample)
    with locked(_path().with_suffix(".lock")):
        place = placed(champion, challenger, data, sample)
        if peeked and place.look == 1:
            place = Place(2, place.challenger)
        line = Look(
            at=datetime.now(UTC), champion=champion, challenger=challenger, data=data, look=place.look,
            place=place.challenger, sample=sample,
        )  # fmt: skip
        append_line(_path(), line.model_dump(mode="json"))
    return place


def _holds(sample: RunSample, other: RunSample) -> bool:
    return {*sample.prompts} >= {*other.prompts} and {*sample.seeds} >= {*other.seeds}


def used_samples(*sides: Preset | None) -> list[RunSample]:
    """What chose or judged these presets, as far as their evidence and the log of the presets know: each run once."""
    found = [sample for preset in sides if preset for sample in _in_evidence(preset)]
    for change in preset_changes()[0]:
        found.extend(sample for sample in (change.chosen_on, change.judged_on) if sample)
    return list({sample.run: sample for sample in found}.values())


def looked_at(*sides: str) -> list[RunSample]:
    """What judged these settings (by digest), or others against them, as far as the ledger knows."""
    return [look.sample for look in looks() if {look.champion, look.challenger} & {*sides}]


def used_seeds(
    champion: str, challenger: str, samples: Iterable[RunSample], prompts: list[str]
) -> tuple[set[int], set[int]]:
    """(the seeds of `samples` and of every look but those at this very duel; the seeds of the latter, which goes on with all
    of them on the same prompts, or has none of them)"""
    seen = looks()
    own = [look for look in seen if (look.champion, look.challenger) == (champion, challenger)]
    last = [look for look in own if look.place == max(each.place for each in own)]
    goes_on = last if last and all({*prompts} >= {*look.sample.prompts} for look in last) else []
    mine = {look.sample.run for look in goes_on}
    others = [look.sample for look in seen if look.sample.run not in mine]
    kept = {seed for look in goes_on for seed in look.sample.seeds}
    return {seed for sample in (*samples, *others) if sample.run not in mine for seed in sample.seeds}, kept


def _in_evidence(preset: Preset) -> Iterator[RunSample]:
    for entry in preset.evidence.get("used", []):
        yield RunSample.model_validate(entry)


def _path() -> Path:
    return presets_folder() / LEDGER
