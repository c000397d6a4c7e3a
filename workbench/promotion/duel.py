"""Champion against challenger on seeds that neither was chosen on: one sweep of both, which `verdict` reads.

A winner is the best of many on the pictures it was chosen by, so that part of its lead is luck. Here two settings meet
again on equal prompts and new seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from workbench.errors import NoChallenge, PresetNotFound, RunNotFound
from workbench.presets import Preset, RunSample, load_preset
from workbench.runs import Run, find_run, list_runs, listed, plain
from workbench.settings import MAX_SEED, Settings, Value, expand_cfg, parse_value
from workbench.sweeps import Spec, make_spec

from .promoting import choose, run_sample

MARK = "challenge"  # begins the name of a challenge's run


@dataclass(frozen=True)
class Challenge:
    """Two settings that are to meet. `wb.sweep(challenge.spec)` or `wb.start(challenge.spec)` lets them.

    Attributes:
        champion, challenger: in words.
        differs: {setting: (champion's, challenger's)}; prompt and seed are the pairs' and not compared.
        spec: the sweep of both, whose only axis is what differs.
        held_out: whether no seed was used to choose one of them, as far as the runs here can tell.
        chosen_on: what the challenger was chosen on; None where no run chose it, or that run is gone.
        notes: what a reader of the verdict has to know, in sentences.
    """

    champion: str
    challenger: str
    differs: dict[str, tuple[Value, Value]]
    spec: Spec
    held_out: bool
    chosen_on: RunSample | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Side:
    words: str
    settings: Settings
    run: Run | None = None  # that it was chosen by


Who = Preset | Settings | Run | str | Path


def challenge(
    champion: Who = "production",
    challenger: Who = "latest",
    *,
    prompts: list[str] | None = None,
    seeds: int | list[int] = 4,
    name: str = "",
) -> Challenge:
    """Let a challenger meet the champion on equal prompts and seeds.

    Each is settings, a preset (or its name or file), or a run whose winner is meant (or its id, or `latest`: the newest of
    the champion's model that is no challenge); the challenger may be changes to the champion: "weight=0.9, strength=0.3".

    Args:
        prompts: those of the run that the challenger was chosen by, if left out; else the champion's own.
        seeds: how many, and they are ones that neither side was chosen on; or which.
        name: of the run, instead of the two sides' names.

    Raises `NoChallenge` where the two do not differ or one is not there, `NothingToPromote` for a run without a winner.
    """
    one = _side(champion, None)
    two = _side(challenger, one.settings)
    differs = _compared(one.settings, two.settings)
    if not differs:
        raise NoChallenge(
            f"{one.words} and {two.words} have equal settings (prompt and seed are not compared), so there is nothing to "
            "decide; sweep other values, or name another challenger."
        )
    runs = {side.run.id: side.run for side in (two, one) if side.run}
    used = {one.settings.seed, two.settings.seed, *(s for run in runs.values() for s in run.about["spec"]["seeds"])}
    known = [prompt for run in runs.values() for prompt in run.about["spec"]["prompts"]]
    chosen = _unused(seeds, used) if isinstance(seeds, int) else seeds
    asked = prompts or (list(next(iter(runs.values())).about["spec"]["prompts"]) if runs else [one.settings.prompt])
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
    notes = _notes(chosen, overlap, bool(runs), old_prompts={*asked} <= {*known, one.settings.prompt})
    chosen_on = run_sample(two.run) if two.run else None
    return Challenge(one.words, two.words, differs, spec, not overlap, chosen_on, notes)


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
    if champion == "production" and not _there(champion):
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


def _there(name: str) -> bool:
    """Whether there is a preset of that name. Raises `BadPreset`."""
    try:
        load_preset(name)
    except PresetNotFound:
        return False
    return True


def _compared(one: Settings, two: Settings) -> dict[str, tuple[Value, Value]]:
    """What differs but prompt and seed."""
    return {name: pair for name, pair in one.diff(two).items() if name not in ("prompt", "seed")}


def _side(what: Who, champion: Settings | None) -> _Side:
    if isinstance(what, Settings):
        return _Side("the given settings", what)
    if isinstance(what, Preset):
        return _Side(f"preset {what.name}", what.settings, _chosen_by(what))
    if isinstance(what, Run):
        choice = choose(what)
        return _Side(f"the winner of {what.id}", Settings.written(choice.record["settings"]), what)
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


def _chosen_by(preset: Preset) -> Run | None:
    run = preset.evidence.get("run")
    try:
        return find_run(run) if isinstance(run, str) else None  # anything may stand in what was written by hand
    except RunNotFound:  # it is gone
        return None


def _short(side: _Side) -> str:
    return side.words.removeprefix("preset ").removeprefix("the winner of ").removeprefix("the ")[:16]


def _unused(count: int, used: set[int]) -> list[int]:
    """The lowest seeds that were not used: the same ones every time, so that more of them reuse the pictures of fewer."""
    if not 1 <= count <= 10_000:
        raise NoChallenge(f"seeds = {count} is not allowed; take 1 to 10000 of them, 8 or more say something.")
    return [seed for seed in range(min(count + len(used), MAX_SEED)) if seed not in used][:count]


def _notes(seeds: list[int], overlap: list[int], known: bool, *, old_prompts: bool) -> tuple[str, ...]:
    said = [
        f"Seed {listed(overlap)} was used to choose one of the two and flatters it."
        if len(overlap) == 1
        else f"Seeds {listed(overlap)} were used to choose one of the two and flatter it."
        if overlap
        else f"Seeds {listed(seeds)} are new to both."
        if known
        else f"Seeds {listed(seeds)} are not the presets' own; which others they were chosen on is not known."
    ]
    return (*said, *["The prompts are not new: name others to see whether it holds for them."] * old_prompts)
