"""The commands `challenge`, `verdict` and `promote`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.errors import NotPromoted, UsageError

from .alive import alive
from .naming import RunName, named_run
from .presets import preset_words
from .runs import plan_words
from .terminal import Json, MaxMemory, Quiet, say

if TYPE_CHECKING:
    from workbench.promotion import Candidate, Challenge, Verdict
    from workbench.sweeps import Plan

Prompt = Annotated[
    list[str] | None,
    typer.Option(help="What both have to show; may be repeated. Left out: the portraits shipped for the model."),
]
Seeds = Annotated[int, typer.Option(help="How many new seeds of each prompt.", min=1)]
Price = Annotated[float | None, typer.Option(help="Rent of this machine, to say what it costs.", min=0)]
Margin = Annotated[float, typer.Option(help="Points of sharpness within which the two are as good.")]


def challenge(
    challenger: Annotated[
        str, typer.Argument(help="A run (its winner), a preset, or changes: 'weight=0.9, strength=0.3'.")
    ],
    against: Annotated[str, typer.Option(help="The champion: a preset, its file, or a run.")] = "production",
    seeds: Seeds = 8,
    prompt: Prompt = None,
    margin: Margin = 2.0,
    plan_only: Annotated[bool, typer.Option("--plan", help="Only say what would be run.")] = False,
    price_per_hour: Price = None,
    quiet: Quiet = False,
    max_memory: MaxMemory = None,
    as_json: Json = False,
) -> None:
    """Let settings meet the champion on prompts and seeds that chose neither, and say which is better. Writes no preset.

    The same again with more seeds looks again, at the level that is left for it; what is there is not made again.

    Example: workbench challenge latest --plan
    Example: workbench challenge "weight=0.9, strength=0.3" --against embedded --seeds 4
    """
    from workbench.promotion import challenge as meet, verdict as judge
    from workbench.sweeps import plan, sweep

    duel = meet(against, challenger, prompts=prompt, seeds=seeds)
    with alive("loading and planning", quiet or as_json):
        planned = plan(duel.spec)
    if plan_only:
        what = _challenge_json(duel, planned, price_per_hour)
        say(what, as_json, lambda: f"{_challenge_words(duel)}\n{plan_words(what['plan'])}")
        return
    if not as_json:
        typer.echo(f"{_challenge_words(duel)}\n{plan_words(planned.to_json(price_per_hour))}")
    found = judge(sweep(duel.spec, quiet=quiet or as_json), duel, margin=margin)
    say(found.to_json(), as_json, lambda: verdict_words(found, price_per_hour))


def verdict(
    run: RunName,
    margin: Margin = 2.0,
    price_per_hour: Price = None,
    as_json: Json = False,
) -> None:
    """What a duel says. Reading the same pictures again is no new look at them.

    Example: workbench verdict latest
    """
    from workbench.promotion import verdict as judge

    found = judge(named_run(run, duel=True), margin=margin)
    say(found.to_json(), as_json, lambda: verdict_words(found, price_per_hour))


def promote(
    run: RunName,
    name: Annotated[str, typer.Option(help="Name of the preset to write.")] = "production",
    note: Annotated[str, typer.Option(help="Kept with the evidence.")] = "",
    cell: Annotated[int | None, typer.Option(help="A cell's number: its settings instead of the winner's.")] = None,
    against: Annotated[
        str,
        typer.Option(help="The champion, where no preset of that name is there yet. Left out: the sweep's own preset."),
    ] = "",
    seeds: Seeds = 8,
    prompt: Prompt = None,
    as_good: Annotated[bool, typer.Option("--as-good", help="Being as good is enough: it is cheaper, say.")] = False,
    force: Annotated[
        str | None, typer.Option(help="Write it without a duel, for this reason, which the evidence and the log keep.")
    ] = None,
    plan_only: Annotated[bool, typer.Option("--plan", help="Only say what the duel would cost.")] = False,
    price_per_hour: Price = None,
    quiet: Quiet = False,
    max_memory: MaxMemory = None,
    as_json: Json = False,
) -> None:
    """Let the winner of a run meet the champion on new seeds, and write it as the preset if it is better.

    The champion is the preset of that name, or where there is none yet, the one that the sweep started from. A duel's run is
    judged as it is, and `latest` is the newest sweep that is none. Exit status 3: not promoted, and the verdict says why.

    Example: workbench promote latest --plan
    Example: workbench promote latest --note "first sweep"
    Example: workbench promote latest --name portraits --force "seen by eye, for a test"
    """
    from workbench.promotion import candidate, is_challenge, promote as let_in

    found = named_run(run, duel=False)
    if force is not None and not force.strip():
        raise UsageError('--force needs a reason, which is kept: --force "why there is no duel".')
    chosen: dict[str, Any] = {
        "name": name, "note": note, "cell": cell, "against": against, "seeds": seeds, "prompts": prompt, "as_good": as_good
    }  # fmt: skip
    if plan_only:
        if force is not None or is_challenge(found):
            raise UsageError("--plan says what a duel costs, and there is none to be run here; leave it out.")
        wanted = candidate(found, **chosen)
        with alive("loading and planning", quiet or as_json):
            what = _challenge_json(wanted.challenge, wanted.plan(), price_per_hour)
        say(what, as_json, lambda: f"{_challenge_words(wanted.challenge)}\n{plan_words(what['plan'])}")
        return

    def told(wanted: Candidate) -> None:
        if not as_json:
            cost = plan_words(wanted.plan().to_json(price_per_hour))
            typer.echo(f"{_challenge_words(wanted.challenge)}\n{cost}")

    try:
        preset = let_in(found, **chosen, force=force or "", quiet=quiet or as_json, told=told)
    except NotPromoted as refused:
        if as_json:
            say({"promoted": False, "verdict": refused.verdict, "reason": str(refused)}, True, str)
        raise
    about = {"promoted": True, **preset.to_json(), "path": str(preset.path), "verdict": preset.evidence.get("verdict")}
    words = f"{preset.evidence['verdict']['words']}\n" if "verdict" in preset.evidence else ""
    say(about, as_json, lambda: words + preset_words(preset))


def _challenge_json(duel: Challenge, planned: Plan, price: float | None) -> dict[str, Any]:
    differs = [{"setting": name, "champion": one, "challenger": two} for name, (one, two) in duel.differs.items()]
    spec = duel.spec
    return {
        "champion": duel.champion,
        "challenger": duel.challenger,
        "differs": differs,
        "prompts": spec.prompts,
        "seeds": spec.seeds,
        "held_out": duel.held_out,
        "notes": [*duel.notes],
        "plan": planned.to_json(price),
    }


def _challenge_words(duel: Challenge) -> str:
    width = max(map(len, duel.differs))
    lines = [f"  {name:<{width}}  {one!r} -> {two!r}" for name, (one, two) in duel.differs.items()]
    return "\n".join(
        [f"{duel.challenger} against {duel.champion}", *lines, *(f"  note: {note}" for note in duel.notes)]
    )


def verdict_words(found: Verdict, price: float | None = None) -> str:
    """The verdict, where its run lies, and what deciding would cost."""
    lines = [found.words, found.caveat, str(found.run.path)]
    seconds = found.more_seconds
    if price is not None and seconds is not None:
        lines.append(f"deciding costs about {seconds / 3600 * price:.2f} at {price:g} an hour")
    return "\n".join(lines)
