"""Sweeps in processes of their own: killed at random moments and gone on with, or begun again when all is done."""

from __future__ import annotations

import multiprocessing
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.files import open_picture, pixels_sha256, read_lines
from workbench.recipe import Bench
from workbench.runs.run import Run, list_runs
from workbench.store import Store
from workbench.sweeps import plan, sweep

READY, BASE, REFINE = range(3)  # places in what a child process counts, which outlives it
PRELOADED = [  # what a sweep imports only when it comes to it
    "experiments.benchmarks.interrupted", "experiments.benchmarks.naive", "pandas", "matplotlib.pyplot",
    "diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl",
    "diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl_img2img",
    "transformers.models.clip.modeling_clip", "transformers.models.clip.tokenization_clip",
]  # fmt: skip
MOST = 0.25  # of an uninterrupted run's time: the latest moment of a kill


class ChildFailed(WorkbenchError):
    """A sweep in a process of its own ended otherwise than by being killed or finished."""


@contextmanager
def at_home(folder: Path | str) -> Iterator[Path]:
    """Within it $WORKBENCH_HOME is `folder` and the store lies there."""
    names = ("WORKBENCH_HOME", "WORKBENCH_STORE")
    before = {name: os.environ.pop(name, None) for name in names}
    os.environ["WORKBENCH_HOME"] = str(folder)
    try:
        yield Path(folder)
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def kills(
    spec: dict[str, Any],
    folder: Path,
    *,
    times: int = 20,
    seed: int = 0,
    check: Callable[[], None] = lambda: None,
    told: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Kill sweeps of `spec` `times` times with SIGKILL at random moments, let every one be finished, and look at all.

    Args:
        folder: where their homes are made, one for an uninterrupted run, one for every run that is killed.
        seed: of the moments: uniform from when the networks are loaded to a quarter of an uninterrupted run's time.
        told: called with the number of kills so far.

    Returns:
        "rework": for each kill {"base", "refine"}: UNet sample-forwards executed in that session beyond those by which
        the work left has become less; "batch": {stage: sample-forwards of a batch of the longest pictures}; "worst": the
        largest rework of a stage in such batches; "runs", and what `judged` says of them together.

    Raises `ChildFailed`, and what `check` raises.
    """
    context, moments = _context(), random.Random(seed)
    with at_home(folder / "whole"):
        started = time.monotonic()
        session = _Child(context, spec, folder / "whole")
        _until(session, check, ready=True)
        started = time.monotonic()
        _until(session, check)
        duration = time.monotonic() - started
        planned = plan(spec, Store(None))
        want = _pictures(list_runs()[0])
    longest = {
        "base": max((c.settings.steps for c in planned.jobs["base"].values()), default=1),
        "refine": max((c.settings.refine_evaluations for c in planned.jobs["refine"].values()), default=1),
    }
    size = planned.spec.batch_size if isinstance(planned.spec.batch_size, int) else 1
    found: dict[str, Any] = {
        "rework": [],
        "batch": {stage: n * size for stage, n in longest.items()},
        "seconds": duration,
    }
    found |= {"runs": 0, "records_wrong": 0, "pixels_wrong": 0, "stages_twice": 0}
    while len(found["rework"]) < times:
        home = folder / f"killed-{found['runs']}"
        found["runs"] += 1
        with at_home(home):
            finished = False
            while not finished:
                before = _left(spec, home)
                session = _Child(context, spec, home)
                _until(session, check, ready=True)
                wait = moments.uniform(0, MOST * duration) if len(found["rework"]) < times else float("inf")
                finished = not _until(session, check, seconds=wait)
                after = _left(spec, home)
                if not finished:
                    executed = {"base": session.counted[BASE], "refine": session.counted[REFINE]}
                    found["rework"].append({name: executed[name] - (before[name] - after[name]) for name in executed})
                    told(len(found["rework"]))
            wrong = judged(list_runs()[0], len(planned.cells), want)
            found |= {name: found[name] + count for name, count in wrong.items()}
    found["worst"] = max(kill[stage] / found["batch"][stage] for kill in found["rework"] for stage in kill)
    return found


def judged(run: Run, cells: int, want: dict[int, str]) -> dict[str, int]:
    """What is wrong with a run whose cells' pixels should be `want`: "records_wrong" (cells with no record, or more than
    one), "pixels_wrong" (cells whose record or file has others), "stages_twice" (results that were written again)."""
    lines = read_lines(run.journal)
    recorded = Counter(line["cell"] for line in lines if line["kind"] == "cell")
    stages = Counter(line["key"] for line in lines if line["kind"] == "stage")
    got = _pictures(run)
    return {
        "records_wrong": sum(recorded[cell] != 1 for cell in range(cells)),
        "pixels_wrong": sum(got.get(cell) != pixels for cell, pixels in want.items()),
        "stages_twice": sum(stages.values()) - len(stages),
    }


def again(spec: dict[str, Any], home: Path, check: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Sweep `spec`, all of which is done at `home`, in a new process: {"seconds" and "cpu_seconds" of the call after all
    imports, "loaded": names of the models in memory}. Raises `ChildFailed`."""
    context = _context()
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_again, args=(spec, str(home), there), daemon=True)
    child.start()
    there.close()
    try:
        while child.is_alive() and not here.poll(0.1):
            check()
        if not here.poll():
            raise ChildFailed(
                f"the sweep's process ended with status {child.exitcode}; run the sweep itself to see why."
            )
        return here.recv()
    finally:
        child.kill()
        child.join()


def _context() -> Any:
    """Processes that begin with everything imported and nothing loaded: an import takes longer than many a session."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


class _Child:
    """A sweep in a process of its own; `counted` holds what it has executed, also when it is dead."""

    def __init__(self, context: Any, spec: dict[str, Any], home: Path) -> None:
        self.counted = context.RawArray("q", 3)
        self.process = context.Process(target=_sweep, args=(spec, str(home), self.counted), daemon=True)
        self.process.start()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


def _until(
    session: _Child,
    check: Callable[[], None],
    *,
    ready: bool = False,
    seconds: float = float("inf"),
) -> bool:
    """Wait until a session is `ready` to begin (True), its time is over and it is killed (True), or it has finished."""
    end = time.monotonic() + seconds
    try:
        while session.process.is_alive():
            check()
            if ready and session.counted[READY]:
                return True
            if time.monotonic() >= end:
                session.kill()
                return True
            session.process.join(min(0.05, max(0.0, end - time.monotonic())))
    except BaseException:
        session.kill()
        raise
    if session.process.exitcode:
        raise ChildFailed(
            f"the sweep's process ended with status {session.process.exitcode}; run the sweep itself to see why."
        )
    return False


def _sweep(spec: dict[str, Any], home: str, counted: Any) -> None:
    with at_home(home):
        on = Bench(Store.at_home())
        settings = plan(spec, on.store).cells[0].settings
        diffusion = on.diffusion(settings)
        for place, pipe in ((BASE, diffusion.base), (REFINE, diffusion.refiner(settings))):
            pipe.unet.register_forward_pre_hook(_counter(counted, place))
        counted[READY] = 1
        sweep(spec, on=on, quiet=True)


def _counter(counted: Any, place: int) -> Callable[..., None]:
    def count(*_: Any) -> None:
        counted[place] += 1

    return count


def _again(spec: dict[str, Any], home: str, answer: Any) -> None:
    with at_home(home):
        started, cpu = time.perf_counter(), time.process_time()
        on = Bench(Store.at_home())
        sweep(spec, on=on, quiet=True)
        took = time.perf_counter() - started
        answer.send({"seconds": took, "cpu_seconds": time.process_time() - cpu, "loaded": list(on.loaded)})


def _left(spec: dict[str, Any], home: Path) -> dict[str, int]:
    """UNet sample-forwards that a run would have to do now."""
    return plan(spec, Store(home / "store")).minimum()["unet_evaluations"]


def _pictures(run: Run) -> dict[int, str]:
    """{cell: sha256 of the pixels in its file}, "" where record and file do not agree."""
    found = {}
    for record in run.records():
        path = run.picture(record) if record.get("picture") else None
        pixels = pixels_sha256(open_picture(path)) if path and path.exists() else ""
        found[record["cell"]] = pixels if pixels == record.get("pixels_sha256") else ""
    return found


def temporary() -> tempfile.TemporaryDirectory[str]:
    """A folder that is removed again, also if a killed process has left files in it."""
    return tempfile.TemporaryDirectory(prefix="workbench-bench-", ignore_cleanup_errors=True)
