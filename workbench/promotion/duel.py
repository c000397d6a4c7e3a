"""Champion against challenger on seeds that neither was chosen on: one sweep of both, which `verdict` reads.

A winner is the best of many on the pictures it was chosen by, so that part of its lead is luck. Here two settings meet
again on equal prompts and new seeds.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from workbench.errors import NoChallenge, PresetNotFound, RunNotFound, UsageError
from workbench.files import hash_json, write_atomic
from workbench.presets import Preset, RunSample, load_preset, presets_folder
from workbench.runs import JOIN, Run, find_run, list_runs, listed, plain
from workbench.settings import MAX_SEED, Settings, Value, expand_cfg, parse_value
from workbench.sweeps import Spec, make_spec, write_out

from .ledger import digest, looked_at, used_samples, used_seeds
from .promoting import choose, run_sample
from .prompts import usual_prompts

MARK = "challenge"  # begins the name of a challenge's run
MEETING = "meeting.json"  # beside the other files of its run
SEEDS = 8  # of each prompt, if nobody says how many


class Meeting(BaseModel):
    """Who met in a run and on what, as it is kept with it.

    Attributes:
        champion, challenger: in words.
        champion_digest: of its settings; None in meetings from before it was kept.
        held_out: whether no seed chose or judged one of them before, as far as the ledger and the evidence know.
        chosen_on: what the challenger was chosen on; None where no run chose it, or that run is gone.
        used: all that chose or judged one of them before.
        notes: what a reader of the verdict has to know, in sentences.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    champion: str = "the champion"
    champion_digest: str | None = None
    challenger: str = "the challenger"
    held_out: bool = False
    chosen_on: RunSample | None = None
    used: list[RunSample] = []
    notes: list[str] = ["Whether these were held out is not known."]


@dataclass(frozen=True)
class Challenge:
    """Two settings that are to meet. `wb.sweep(challenge.spec)` or `wb.start(challenge.spec)` lets them.

    Attributes:
        differs: {setting: (champion's, challenger's)}; prompt and seed are the pairs' and not compared.
        spec: the sweep of both, whose only axis is what differs.
        meeting: who meets, and on what they were chosen.
    """

    differs: dict[str, tuple[Value, Value]]
    spec: Spec
    meeting: Meeting

    @property
    def champion(self) -> str:
        return self.meeting.champion

    @property
    def challenger(self) -> str:
        return self.meeting.challenger

    @property
    def held_out(self) -> bool:
        return self.meeting.held_out

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(self.meeting.notes)


@dataclass(frozen=True)
class _Side:
    words: str
    settings: Settings
    chosen_on: RunSample | None = None
    preset: Preset | None = None


def _looked_at(side: _Side) -> RunSample | None:
    """The picture that a preset written by hand was tried on."""
    if side.preset is None:
        return None
    return RunSample(run=side.words, prompts=[side.settings.prompt], seeds=[side.settings.seed])


Who = Preset | Settings | Run | str | Path


def challenge(
    champion: Who = "production",
    challenger: Who = "latest",
    *,
    prompts: list[str] | None = None,
    seeds: int | list[int] = SEEDS,
    name: str = "",
    chosen_in: Run | RunSample | None = None,
) -> Challenge:
    """Let a challenger meet the champion on equal prompts and seeds.

    Each is settings, a preset (or its name or file), or a run whose winner is meant (or its id, or `latest`: the newest of
    the champion's model that is no challenge); the challenger may be changes to the champion: "weight=0.9, strength=0.3".
    Before anything was promoted, "production" is the preset that the challenger's sweep started from.

    Args:
        prompts: the portraits that are shipped for the champion's model, if left out (`usual_prompts`).
        seeds: how many of each prompt, and they are ones that chose or judged neither side; or which.
        name: of the run, instead of the two sides' names.
        chosen_in: the run in which a person found a challenger that is given as settings, or what else it was chosen on.

    Raises `NoChallenge` where the two do not differ or one is not there, `NothingToPromote` for a run without a winner,
    `BadLedger`.
    """
    if champion == "production" and not has_preset("production") and (found := _as_run(challenger)):
        champion = champion_of("production", found)
    one = _side(champion, None)
    two = _side(challenger, one.settings)
    if chosen_in is not None:
        words = f"a setting of {chosen_in.id if isinstance(chosen_in, Run) else chosen_in.run}"
        two = _Side(words, two.settings, run_sample(chosen_in) if isinstance(chosen_in, Run) else chosen_in)
    differs = _compared(one.settings, two.settings)
    if not differs:
        raise NoChallenge(
            f"{one.words} and {two.words} have equal settings (prompt and seed are not compared), so there is nothing to "
            "decide; sweep other values, or name another challenger."
        )
    asked = list(dict.fromkeys(prompts or usual_prompts(one.settings)))
    own = [sample for side in (two, one) if (sample := side.chosen_on or _looked_at(side))]
    pair = digest(one.settings), digest(two.settings)
    tried = [
        run_sample(run) for run in list_runs() if not is_challenge(run) and _tried_in(run, (one.settings, two.settings))
    ]
    samples = {sample.run: sample for sample in (*used_samples(one.preset, two.preset), *tried, *own)}
    used, goes_on = used_seeds(*pair, samples.values(), asked)
    used |= {one.settings.seed, two.settings.seed} - goes_on
    known = [prompt for sample in (*samples.values(), *looked_at(*pair)) for prompt in sample.prompts]
    chosen = _unused(seeds, used, goes_on) if isinstance(seeds, int | np.integer) else _listed(seeds)
    # some of the seeds that judged it before, chosen after one has seen them, are no test
    used |= goes_on if not {*chosen} >= goes_on else set()
    samples |= {sample.run: sample for sample in looked_at(*pair)}
    shared = {n: v for n, v in one.settings.model_dump().items() if n not in differs and n not in ("prompt", "seed")}
    spec = make_spec(
        {
            "name": f"{MARK} {name or f'{_short(one)} {_short(two)}'}",
            "preset": "recommended",  # all of whose settings are written over: a preset of yours may change meanwhile
            "prompts": asked,
            "seeds": chosen,
            "zipped": [{n: list(pair) for n, pair in differs.items()}],
            "fixed": shared,
        }
    )
    overlap = [seed for seed in chosen if seed in used]
    meeting = Meeting(
        champion=one.words, champion_digest=hash_json(one.settings.model_dump()), challenger=two.words,
        held_out=not overlap, chosen_on=two.chosen_on,
        used=list(samples.values()),
        notes=_notes(chosen, overlap, bool(samples), old_prompts={*asked} <= {*known, one.settings.prompt}),
    )  # fmt: skip
    return Challenge(differs, spec, meeting)


def kept_meeting(run: Run, of: Challenge | None = None) -> Meeting:
    """Who met in a run: as `of` says it, which is then kept with the run, else as was kept.

    Raises `NoChallenge` where the run is another one than that of the challenge, `DiskFull`, `CannotWrite`.
    """
    path = run.path / MEETING
    if of is None:
        try:
            return Meeting.model_validate_json(path.read_bytes())
        except (FileNotFoundError, ValidationError):  # a sweep of two values that nobody opened as a duel
            return Meeting()
    spec, wanted = run.about["spec"], write_out(of.spec)
    if (spec["prompts"], spec["seeds"], run.axes) != (of.spec.prompts, of.spec.seeds, wanted.axes):
        raise NoChallenge(f"{run.id} is not the run of this challenge: its prompts, seeds or values are others.")
    write_atomic(path, of.meeting.model_dump_json(indent=2).encode())
    return of.meeting


def sweep_named(run: Run | str | Path) -> Run:
    """As `find_run`, but `latest` is the newest that is no challenge. Raises `RunNotFound`, `BadRun`."""
    return (latest_sweep() if run == "latest" else None) or find_run(run)


def duel_named(run: Run | str | Path) -> Run:
    """As `find_run`, but `latest` is the newest that is a challenge. Raises `RunNotFound`, `BadRun`."""
    newest = (each for each in list_runs() if is_challenge(each))
    return (next(newest, None) if run == "latest" else None) or find_run(run)


def champion_of(name: str, run: Run, against: str = "") -> str:
    """Who is to be beaten for the preset `name`: it itself; where it is not there yet, `against`, or what the sweep started
    from. Raises `UsageError` where that is gone, `BadPreset` where it is damaged."""
    if has_preset(name):
        return name
    started = against or str(run.about["spec"]["preset"])
    try:
        load_preset(started)
    except PresetNotFound:
        raise UsageError(
            f"there is no preset '{name}' yet, and '{started}', which {run.id} started from, is gone; say who is to be "
            "beaten: --against PRESET."
        ) from None
    return started


def has_preset(name: str) -> bool:
    """Whether you have a preset of that name yourself. Raises `BadPreset` where it is damaged."""
    try:
        load_preset(presets_folder() / f"{name}.json")
    except PresetNotFound:
        return False
    return True


def is_challenge(run: Run) -> bool:
    return str(run.about["name"]).startswith(f"{MARK} ")


def latest_sweep(model: str | None = None) -> Run | None:
    """The newest run that is no challenge; of a model, if one is named."""
    runs = (run for run in list_runs() if not is_challenge(run))
    return next((run for run in runs if model in (None, run.about["spec"]["base"].get("model"))), None)


def stand_ins(champion: str, challenger: str) -> tuple[str, str, list[str]]:
    """(champion, challenger, what stands in for them and why): so that there is a challenge before anything was promoted.

    Where there is no preset "production" yet, "embedded" is the champion. Where the latest sweep's winner is the champion
    already, it meets the preset that its sweep began with. Where there is no sweep, the champion meets itself with another
    `weight`. Raises `NoChallenge` for names that nothing has, `BadPreset` where "production" is damaged.
    """
    said = []
    if champion == "production" and not has_preset(champion):
        champion = "embedded"
        said.append("Nothing was promoted yet, so the preset embedded stands in as the champion.")
    if challenger != "latest":
        return champion, challenger, said
    settings = _side(champion, None).settings
    run = latest_sweep(settings.model)
    if run is None:
        challenger = "weight=1.0" if settings.weight < 1 else "weight=0.6"
        said.append(
            f"There is no sweep of this model yet, so the champion with {challenger} stands in as the challenger."
        )
    elif not _compared(settings, _side(run, None).settings):
        said.append(
            f"{champion} is the winner of {run.id} already: it meets the preset that this sweep began with, so that you see "
            "whether it was worth it."
        )
        champion = run.about["spec"]["preset"]
    return champion, challenger, said


def _as_run(what: Who) -> Run | None:
    """The run that is meant, if it is one."""
    if isinstance(what, Run) or not isinstance(what, str | Path):
        return what if isinstance(what, Run) else None
    try:
        return sweep_named(what)
    except RunNotFound:
        return None


def _compared(one: Settings, two: Settings) -> dict[str, tuple[Value, Value]]:
    """What differs but prompt and seed."""
    return {name: pair for name, pair in one.diff(two).items() if name not in ("prompt", "seed")}


def _side(what: Who, champion: Settings | None) -> _Side:
    if isinstance(what, Settings):
        return _Side("the given settings", what)
    if isinstance(what, Preset):
        return _Side(f"preset {what.name}", what.settings, _chosen_by(what), what)
    if isinstance(what, Run):
        choice = choose(what)
        return _Side(f"the winner of {what.id}", Settings.written(choice.record["settings"]), run_sample(what))
    if isinstance(what, str) and "=" in what and champion is not None:
        changes = dict(_assignment(part) for part in what.split(","))
        words = ", ".join(f"{name} {plain(value)}" for name, value in changes.items())
        return _Side(f"the champion with {words}", champion.replace(**expand_cfg(changes)))
    try:
        return _side(load_preset(what), champion)
    except PresetNotFound as missing:
        if what == "latest":
            model = champion.model if champion else None
            if (newest := latest_sweep(model)) is None:
                raise NoChallenge(
                    f"there is no sweep{f' of model {model}' if model else ''} yet whose winner could be the challenger; "
                    "workbench sweep SPEC makes one, or name changes to the champion, such as weight=0.9."
                ) from None
            return _side(newest, champion)
        try:
            return _side(find_run(what), champion)
        except RunNotFound:
            known = ", ".join(run.id for run in list_runs()[:4]) or "none yet"
            raise NoChallenge(f"{str(missing).rstrip('.')}; nor is there a run '{what}': there is {known}.") from None


def _assignment(text: str) -> tuple[str, Value]:
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals:
        raise NoChallenge(f"'{text.strip()}' is not setting=value; write for example weight=0.9, strength=0.3.")
    return name, parse_value(name, value)


def _chosen_by(preset: Preset) -> RunSample | None:
    run = preset.evidence.get("run")
    try:
        return run_sample(find_run(run)) if run else None
    except RunNotFound:  # it is gone
        return None


def _short(side: _Side) -> str:
    return side.words.removeprefix("preset ").removeprefix("the winner of ").removeprefix("the ")[:16]


def _unused(count: int | np.integer, used: set[int], goes_on: set[int]) -> list[int]:
    """The lowest seeds that were not used, so that more of them reuse the pictures of fewer; fewer than a duel had before are
    new ones."""
    if isinstance(count, bool) or not 1 <= count <= 10_000:
        raise NoChallenge(f"seeds = {count} is not allowed; take 1 to 10000 of them, 8 or more say something.")
    if count < len(goes_on):
        used, goes_on = used | goes_on, set()
    free = (seed for seed in range(MAX_SEED) if seed not in used and seed not in goes_on)
    return sorted([*goes_on, *itertools.islice(free, int(count) - len(goes_on))])


def _listed(seeds: list[int]) -> list[int]:
    """Seeds that a person named, each once."""
    if not seeds or any(isinstance(seed, bool) or not isinstance(seed, int | np.integer) for seed in seeds):
        raise NoChallenge(f"seeds = {seeds!r} is not allowed; give whole numbers, or how many.")
    return list(dict.fromkeys(int(seed) for seed in seeds))


def _tried_in(run: Run, sides: tuple[Settings, ...]) -> bool:
    """Whether one of the two is a setting of this sweep, so that its pictures may have chosen it."""
    base, axes = run.about["spec"]["base"], run.axes

    def is_in(settings: Settings) -> bool:
        own = settings.model_dump()
        for axis, values in axes.items():
            names = axis.split(JOIN)
            value = [own.get(name) for name in names] if len(names) > 1 else own.get(axis)
            if value not in values:
                return False
        swept = {name for axis in axes for name in axis.split(JOIN)} | {"prompt", "seed"}
        return all(own.get(name) == value for name, value in base.items() if name not in swept)

    return any(map(is_in, sides))


def _notes(seeds: list[int], overlap: list[int], known: bool, *, old_prompts: bool) -> list[str]:
    said = [
        f"Seed {listed(overlap)} was used to choose one of the two and flatters it."
        if len(overlap) == 1
        else f"Seeds {listed(overlap)} were used to choose one of the two and flatter it."
        if overlap
        else f"Seeds {listed(seeds)} are new to both."
        if known
        else f"Seeds {listed(seeds)} are not the presets' own; which others they were chosen on is not known."
    ]
    return [*said, *["The prompts are not new: name others to see whether it holds for them."] * old_prompts]
