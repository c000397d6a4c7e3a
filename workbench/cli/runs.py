"""The commands `sweep` and `runs list`, `runs show`, `runs table`, `runs watch`, `runs stop`, `runs finer`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.errors import RunBusy, UsageError, WorkbenchError
from workbench.settings import check_name, parse_plain, parse_value

from .alive import alive
from .naming import RunName, named_run
from .terminal import Json, MaxMemory, Quiet, Set, assignments, group, say

if TYPE_CHECKING:
    from pandas import DataFrame

    from workbench.runs import Run
    from workbench.sweeps import Estimate, Spec

runs_app = group("Look at runs.")
PlanJson = Mapping[str, Any]  # the JSON values of `Plan.to_json`


def sweep(
    spec: Annotated[Path, typer.Argument(help="TOML spec: preset, prompts, seeds, [axes], [[zipped]], [fixed].")],
    plan_only: Annotated[bool, typer.Option("--plan", help="Only say what would be run.")] = False,
    price_per_hour: Annotated[
        float | None, typer.Option(help="Rent of this machine, to say what --plan costs.")
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(metavar="CARD", help="With --plan: estimate for a card that is not here, like 'RTX 3090 Ti'."),
    ] = None,
    settings: Set = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Also run failed cells again.")] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Run it in a process of its own, which outlives this.")
    ] = False,
    join: Annotated[bool, typer.Option("--join", help="Help a process that already works on this run.")] = False,
    workers: Annotated[int | None, typer.Option(help="Processes on this machine; one per GPU if left out.")] = None,
    then: Annotated[
        str | None, typer.Option(metavar="COMMAND", help="Run by the shell when the sweep has ended, however it did.")
    ] = None,
    quiet: Quiet = False,
    max_memory: MaxMemory = None,
    as_json: Json = False,
) -> None:
    """Run a sweep, or go on with one that was interrupted (the same spec again).

    --set fixes a setting, with a list or a range it becomes an axis; also preset, prompts, seeds, strategy and so on.

    --then is for a machine that costs by the hour: the command is run when all is done, when the sweep has failed or its
    process was killed, and after `runs stop`; WORKBENCH_STATUS is done, failed or stopped, and WORKBENCH_RUN the run. It is
    not run after Ctrl-C, nor where the sweep never began. A lost connection ends neither.

    Example: workbench sweep experiments/demo.toml --plan
    Example: workbench sweep experiments/demo.toml --set 'weight=[0.2, 0.6, 1.0]' --set strength=0.2:0.5:0.05
    Example: workbench sweep experiments/demo.toml --plan --price-per-hour 0.44
    Example: workbench sweep experiments/demo.toml --set preset=recommended --plan --on "RTX 3090 Ti" --price-per-hour 0.30
    Example: workbench sweep experiments/demo.toml --detach
    Example: workbench sweep experiments/demo.toml --then 'workbench runs export $WORKBENCH_RUN -o /mnt/kept.tar && poweroff'
    """
    from workbench.sweeps import Afterwards, last_session, make_spec, prepare, sweep as run_sweep

    if price_per_hour is not None and not 0 <= price_per_hour < 1e6:
        raise UsageError(f"--price-per-hour {price_per_hour:g} is no price; give what an hour costs, from 0.")
    if on is not None and not plan_only:
        raise UsageError("--on says what a sweep would take on another card, so it goes with --plan.")
    if then is not None and (plan_only or not then.strip()):
        raise UsageError("--then names a command that follows a sweep; it has no meaning with --plan, or empty.")
    changed = make_spec(spec).with_values({n: _spec_value(n, t) for n, t in assignments(settings).items()})
    if on is not None:
        _say_estimate(changed, on, price_per_hour, as_json)
        return
    with alive("loading and planning", quiet or as_json):
        planned, _ = prepare(changed)
        if any(planned.left.values()) and not plan_only and not detach:
            from workbench.models import begin

            begin()
    if plan_only:
        what = planned.to_json(price_per_hour)
        say(what, as_json, lambda: plan_words(what))
        return
    if not as_json:
        typer.echo(plan_words(planned.to_json(price_per_hour)))
    else:
        for warning in planned.warnings:
            typer.echo(f"workbench: {warning}", err=True)
    if detach:
        _detach(changed, retry_failed, then, as_json)
        return
    with Afterwards(then) as after:
        run = run_sweep(changed, retry_failed=retry_failed, quiet=quiet, begun=after.begun, join=join, workers=workers)
        say({**last_session(run), "states": run.states()}, as_json, lambda: _run_words(run))
        sys.stdout.flush()
        _check_failed(run)


def _say_estimate(spec: Spec, on: str, price_per_hour: float | None, as_json: bool) -> None:
    from workbench.machine import card_named
    from workbench.sweeps import estimate

    found = estimate(spec, card_named(on), price_per_hour)
    say(found.to_json(), as_json, lambda: _estimate_words(found))


def _estimate_words(found: Estimate) -> str:
    card, (low, high), cost = found.card, found.hours, found.cost
    jobs = ", ".join(f"{count} {stage}" for stage, count in found.jobs.items())
    share = f"{card.share[0]:.0%} to {card.share[1]:.0%}"
    public = (
        f"an estimate: {card.rate:g} TFLOP/s by its maker, of which SDXL gets {share} in public timings; not measured"
    )
    how = "by times measured on such a card" if found.measured else public
    memory = f"{found.peak_bytes / 2**30:.1f} of {card.memory} GiB"
    lines = [
        f"{found.cells} cells on {card.name}: jobs {jobs}; {sum(found.unet_evaluations.values())} UNet evaluations",
        f"  time      {_duration(3600 * low)} to {_duration(3600 * high)}, with fetching and loading the weights",
        *([f"  cost      {cost[0]:.2f} to {cost[1]:.2f}, at {found.price_per_hour:g} an hour"] if cost else []),
        f"  download  {_size(found.download_bytes)}",
        f"  disk      {_size(found.disk_bytes)}, with the download",
        f"  memory    {memory}, all networks resident in float16",
        f"  this is {how}",
        *(f"  note: {note}" for note in found.notes),
    ]
    return "\n".join(lines)


def _detach(spec: Spec, retry_failed: bool, then: str | None, as_json: bool) -> None:
    from workbench.sweeps import start

    attached = start(spec, retry_failed=retry_failed, then=then)
    if then and not attached.started:
        raise RunBusy(
            f"a process works on {attached.run.id} already, and what follows it was said when it was started: --then was not "
            f"taken; stop it with workbench runs stop {attached.run.id} and start it again."
        )
    run, worker = attached.run, attached.worker
    words = (
        f"{attached}\nlook on:  workbench runs watch {run.id}\nstop it:  workbench runs stop {run.id}\n"
        f"its log:  {run.path / 'log.txt'}"
    )
    about = {"run": run.id, "path": str(run.path), "started": attached.started, "state": attached.state}
    say({**about, "worker": worker, "log": str(run.path / "log.txt")}, as_json, lambda: words)


def _short(table: DataFrame) -> DataFrame:
    """A table to be read, in which files have their short names."""
    from workbench.settings import knobs, short_name

    def short(value: object) -> object:
        return short_name(value) if isinstance(value, str) else value

    files = {name for name, knob in knobs().items() if knob.kind == "text" and "prompt" not in name}
    columns = [name for name in table.columns if name in files]
    shown = table.assign(**{name: table[name].map(short) for name in columns})
    return shown.rename(index=short)


def _check_failed(run: Run) -> None:
    if failed := run.states()["failed"]:
        raise WorkbenchError(
            f"{failed} cells failed; workbench runs table {run.id} says why, --retry-failed tries them again."
        )


def _spec_value(name: str, text: str) -> object:
    """A --set value of a sweep: a TOML list or a range for an axis, a spec's own entry, or the setting's own type."""
    import tomllib

    from workbench.sweeps import NAMED, is_range

    if text.startswith("["):
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{name}={text} is not a TOML list ({error}); write for example {name}=[1, 2].") from None
    if name in (*NAMED, "base"):
        return text if name in ("name", "preset", "base") else parse_plain(text)
    return text if is_range(check_name(name), text) else parse_value(name, text)


def plan_words(plan: PlanJson) -> str:
    """The plan as a small table, a line of totals, and notes."""
    rows = [("stage", "jobs", "shared", "done", "time left", "disk")]
    for stage, count in {**plan["stages"], "scores": {"jobs": plan["cells"], **plan["scores"]}}.items():
        if count["jobs"]:
            numbers = (str(count["jobs"]), str(count.get("shared", "")), str(count.get("done", "")))
            rows.append((stage, *numbers, _duration(count["seconds"]), _size(count["bytes"])))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["".join([f"  {row[0]:<{widths[0]}}", *(f"  {row[i]:>{widths[i]}}" for i in range(1, 6))]) for row in rows]
    lines = [f"{plan['cells']} cells{_search_words(plan)}", *table, _total_words(plan)]
    if plan["price_per_hour"] is not None:
        lines.append(_price_words(plan))
    return "\n".join([*lines, *(f"  note: {warning}" for warning in plan["warnings"])])


def _search_words(plan: PlanJson) -> str:
    if plan["strategy"] == "grid":
        return ""
    limit = f", at most {plan['budget']} of them are made" if plan["budget"] else ""
    return f" to choose from by {plan['strategy']}{limit}; what follows is for all of them"


def _total_words(plan: PlanJson) -> str:
    unet, naive = sum(plan["unet_evaluations"].values()), sum(plan["naive_unet_evaluations"].values())
    memory = plan["peak_memory"]
    known = f"({memory['how']}{_residency(memory['residency'])})"
    said = f"{_size(memory['bytes'])} {known}" if memory["bytes"] is not None else f"not known {known}"
    return (
        f"{unet} UNet evaluations instead of {naive}; {_left_words(plan)}; disk {_size(plan['bytes'])}; memory {said}"
    )


def _residency(name: str | None) -> str:
    """Which networks stay on the device, where that is not all of them."""
    return f", {name}" if name and name != "all" else ""


def _left_words(plan: PlanJson) -> str:
    if plan["seconds"] is not None:
        return f"about {_duration(plan['seconds'])} left" if plan["seconds"] else "nothing left to do"
    known = f"at least {_duration(plan['seconds_known'])} left, " if plan["seconds_known"] else "time "
    return f"{known}not measured on this device: {', '.join(plan['not_measured'])}"


def _price_words(plan: PlanJson) -> str:
    rate = plan["price_per_hour"]
    if plan["price"] is None:
        return f"price at {rate:g} an hour not known: {', '.join(plan['not_measured'])} was not measured on this device yet"
    return f"about {plan['price']:.2f} ({_duration(plan['seconds'])} at {rate:g} an hour)"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "not measured"
    if seconds < 100:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB" if count else "0"


def _run_words(run: Run) -> str:
    from workbench.analysis import dead_words, group_words, ranked

    states = ", ".join(f"{count} {state}" for state, count in run.states().items() if count)
    best = run.summary().head(5)
    best = best.drop(columns=[column for column in ("same", "not_run") if not best[column].to_numpy().any()])
    search = run.search()
    said = [f"{search['strategy']}: {search['why']}", *search["notes"]] if search else []
    group = group_words(ranked(run))
    notes = "".join(
        f"note: {sentence}\n" for sentence in [*said, *run.identical(), *([group] * bool(group)), *dead_words(run)]
    )
    files = [name for name in ("contact_sheet.png", "heat_map.png", "table.csv") if (run.path / name).exists()]
    return f"run {run.id}: {states}\nbest by mean sharpness:\n{_short(best.round(2)).to_string()}\n{notes}" + "\n".join(
        str(run.path / name) for name in files
    )


@runs_app.command("list")
def runs_list(as_json: Json = False) -> None:
    """All runs, newest first.

    Example: workbench runs list
    """
    from workbench.runs import broken_runs, list_runs
    from workbench.sweeps import Attached

    rows: list[dict[str, object]] = []
    lines: list[str] = []
    for run in list_runs():
        worker, counts = Attached(run).worker, {"cells": run.about["cells"], **run.states()}
        rows.append({"run": run.id, **counts, "worker": worker})
        said = (f"{what} {count}" for what, count in counts.items())
        lines.append("  ".join([run.id, *said, *_worker_words(worker)]))
        for problem in run.problems():
            typer.echo(f"workbench: {problem}", err=True)
    for run, problem in broken_runs():
        rows.append({"run": run.id, "problem": problem})
        typer.echo(f"workbench: {problem}", err=True)
    say(rows, as_json, lambda: "\n".join(lines) or "no runs yet; workbench sweep experiments/demo.toml makes one")


def _worker_words(worker: Mapping[str, object] | None) -> list[str]:
    """Who works on a run now; [] where nobody does."""
    return [f"process {worker.get('pid')} on {worker.get('host')} works on it"] if worker is not None else []


@runs_app.command("show")
def runs_show(run: RunName, as_json: Json = False) -> None:
    """What a run asked for, how far it is and which settings lead.

    Example: workbench runs show latest
    """
    from workbench.sweeps import attach

    attached = attach(named_run(run))
    found, worker = attached.run, attached.worker
    about = {
        "run": found.id,
        "path": str(found.path),
        **found.about,
        "state": attached.state,
        "worker": worker,
        "states": found.states(),
        "identical": found.identical(),
        "peak_memory": found.peak_memory(),
    }
    axes = "\n".join(f"  {name}: {values}" for name, values in found.axes.items())
    working = "".join(f"{words}\n" for words in _worker_words(worker))
    memory = ", ".join(f"{stage} {_size(size)}" for stage, size in found.peak_memory().items()) or "not measured"
    say(about, as_json, lambda: f"{working}{_run_words(found)}\naxes:\n{axes}\npeak memory of the device: {memory}")


@runs_app.command("table")
def runs_table(run: RunName, as_json: Json = False) -> None:
    """One record per cell: settings, status, scores, pixel hash.

    Example: workbench runs table latest --json
    """
    from workbench.runs import swept

    found = named_run(run)
    columns = ["cell", "status", "prompt", "seed", *swept(found.axes), "sharpness", "flags", "reason"]
    table = found.table().loc[:, columns]
    say(found.records(), as_json, lambda: _short(table).to_string(index=False, max_colwidth=40))


@runs_app.command("watch")
def runs_watch(
    run: RunName,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Look on at a run that another process works on, until it ends. Ctrl-C leaves the sweep running.

    Example: workbench runs watch latest
    """
    from workbench.sweeps import attach

    attached = attach(named_run(run))
    try:
        found = attached.wait(progress=not quiet)
    except KeyboardInterrupt as left:
        raise WorkbenchError(str(left)) from None
    about = {"run": found.id, "path": str(found.path), "state": attached.state, "states": found.states()}
    say(about, as_json, lambda: _run_words(found))
    _check_failed(found)


@runs_app.command("stop")
def runs_stop(
    run: RunName,
    wait: Annotated[bool, typer.Option("--wait", help="Return when it has ended, not at once.")] = False,
    as_json: Json = False,
) -> None:
    """Ask the process that works on a run to stop within one denoising step; what is finished is kept.

    The command that was given to the sweep with --then is run all the same, with WORKBENCH_STATUS=stopped.

    Example: workbench runs stop latest --wait
    """
    from workbench.sweeps import attach

    attached = attach(named_run(run))
    asked = attached.worker is not None
    state = attached.stop(wait=float("inf") if wait else 0.0)
    ended = f"{attached.run.id} is asked to stop" if state == "running" else str(attached)
    words = f"{ended}; the same sweep goes on from there" if asked else f"nobody works on it: {attached}"
    say({"run": attached.run.id, "asked": asked, "state": state}, as_json, lambda: words)


@runs_app.command("finer")
def runs_finer(
    run: RunName,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="The spec file; finer.toml in the run's folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Propose the next sweep: finer around a run's winner, on new seeds. It is written as a spec, and not run.

    Numbers get the values half way to the winner's neighbours; of a choice what was not told apart from the winner stays.

    Example: workbench runs finer latest
    """
    from workbench.sweeps import finer, finer_words

    found = named_run(run)
    proposal = finer(found)
    path = proposal.write(out or found.path / "finer.toml")
    words = "\n".join([*finer_words(proposal), f"run it:  workbench sweep {path}"])
    about = {"run": found.id, "spec": str(path), "around": proposal.around, "axes": proposal.spec.axes}
    say({**about, "zipped": proposal.spec.zipped, "seeds": proposal.spec.seeds}, as_json, lambda: words)
