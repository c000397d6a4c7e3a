"""The one door to production: who wants in meets who is there, on prompts and seeds that chose neither."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import UsageError
from workbench.presets import Preset, RunSample, check_replaceable
from workbench.runs import Run, SettingValues
from workbench.settings import Settings
from workbench.sweeps import Plan, plan, sweep

from .duel import SEEDS, Challenge, challenge, champion_of, has_preset, is_challenge, sweep_named
from .judging import Verdict, verdict
from .promoting import choose, write_promoted


@dataclass(frozen=True)
class Candidate:
    """Settings of a run that are to become a preset, and the duel that they have to win for it.

    Attributes:
        name: of the preset.
        challenge: the duel.
        as_good: whether being as good as the champion is enough.
    """

    name: str
    challenge: Challenge
    note: str = ""
    as_good: bool = False

    def plan(self) -> Plan:
        """What the duel costs; pictures that are in the store cost nothing."""
        return plan(self.challenge.spec)

    def settle(self, run: Run | str | Path) -> tuple[Verdict, Preset | None]:
        """Read the duel's run and write the preset if it was won: (the verdict, the preset or None)."""
        found = verdict(run, self.challenge)
        if found.refusal(self.name, as_good=self.as_good):
            return found, None
        return found, found.promote(self.name, self.note, as_good=self.as_good)


def candidate(
    of: Run | str | Path | Settings,
    *,
    name: str = "production",
    note: str = "",
    cell: int | None = None,
    settings: SettingValues | Settings | None = None,
    against: str = "",
    prompts: list[str] | None = None,
    seeds: int | list[int] = SEEDS,
    as_good: bool = False,
    chosen_on: RunSample | None = None,
) -> Candidate:
    """The winner of a run, or what a person has chosen of it (`cell`, `settings`), as a challenger; or settings that a person
    has found elsewhere, `chosen_on` these prompts and seeds.

    The champion is the preset that would be replaced; where there is none yet, `against`, or left out, the one that the sweep
    started from. Raises `NothingToPromote`, `NoChallenge`, `UsageError`, `RunNotFound`.
    """
    check_replaceable(name)
    if against and has_preset(name):
        raise UsageError(f"the champion is '{name}' itself, which would be replaced; leave out against = '{against}'.")
    if isinstance(of, Settings):
        champion = name if has_preset(name) else against
        if not champion:
            raise UsageError(f"there is no preset '{name}' yet; say who is to be beaten: against = a preset.")
        return Candidate(
            name, challenge(champion, of, prompts=prompts, seeds=seeds, chosen_in=chosen_on), note, as_good
        )
    run = sweep_named(of)
    choice = choose(run, cell=cell, settings=settings)
    champion = champion_of(name, run, against)
    own: Run | Settings = run if choice.by == "highest mean" else Settings.written(choice.record["settings"])
    duel = challenge(champion, own, prompts=prompts, seeds=seeds, chosen_in=run if isinstance(own, Settings) else None)
    return Candidate(name, duel, note, as_good)


def promote(
    run: Run | str | Path,
    *,
    name: str = "production",
    note: str = "",
    cell: int | None = None,
    settings: SettingValues | Settings | None = None,
    against: str = "",
    prompts: list[str] | None = None,
    seeds: int | list[int] = SEEDS,
    as_good: bool = False,
    force: str = "",
    quiet: bool = False,
    told: Callable[[Candidate], None] = lambda _: None,
) -> Preset:
    """Let the winner of a run (or `cell`, or `settings` of it) meet the champion, and write it as the preset `name` if it is
    better. The duel is a sweep of both on new seeds; what is in the store is not made again. Where the run is a duel itself,
    its challenger is written if it won.

    Args:
        against, prompts, seeds, as_good: as `candidate` takes them.
        force: why there is to be no duel; the evidence and the log have it.
        told: called with the candidate before anything is made, to say what it will cost.

    Raises `NotPromoted` where it did not prove better, and what `candidate` and `wb.sweep` raise.
    """
    check_replaceable(name)
    found = sweep_named(run)
    if force:
        if not force.strip():
            raise UsageError('force needs a reason, which is kept: force="why there is no duel".')
        if against or prompts or as_good or seeds != SEEDS or is_challenge(found):
            raise UsageError(
                "force skips the duel, so nothing can be said of one; leave that out, or name the sweep itself."
            )
        return write_promoted(found, name=name, note=note, cell=cell, settings=settings, forced=force.strip())
    if is_challenge(found):  # it has met the champion already
        if cell is not None or settings is not None or prompts or against or seeds != SEEDS:
            raise UsageError(
                f"{found.id} is a duel, which has its two settings, prompts and seeds; name the sweep instead, and they "
                "can be chosen."
            )
        return verdict(found).promote(name, note, as_good=as_good)
    wanted = candidate(
        run, name=name, note=note, cell=cell, settings=settings, against=against, prompts=prompts, seeds=seeds,
        as_good=as_good,
    )  # fmt: skip
    told(wanted)
    return verdict(sweep(wanted.challenge.spec, quiet=quiet), wanted.challenge).promote(name, note, as_good=as_good)
