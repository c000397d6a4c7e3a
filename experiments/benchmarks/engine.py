"""What the engine of sweeps is worth: calls against the minimum, CPU time against a plain loop, kills, re-runs, a simulated
card, memory. Every figure stands beside its target."""

from __future__ import annotations

import os
import platform
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import UsageError
from workbench.files import pixels_sha256
from workbench.recipe import Bench
from workbench.settings import Settings
from workbench.store import Store
from workbench.sweeps import Cell, plan, session as sweeps

from .counts import Lab, counters, executed_by, metered, named
from .interrupted import again, kills, temporary
from .naive import NETWORKS, Naive, restorer_of
from .simulated import card_sweep, memory_sweep, queue

PARTS = ("counters", "speed", "kill", "rerun", "device", "memory")


@dataclass(frozen=True)
class Target:
    """A figure that the benchmark measures and what it has to be: `sense` is ==, <= or >=."""

    part: str
    name: str
    sense: str
    limit: float
    form: str = "{:.0f}"

    def reached(self, value: float) -> bool:
        return {"==": value == self.limit, "<=": value <= self.limit, ">=": value >= self.limit}[self.sense]


TARGETS = (
    Target("counters", "calls that are not the plan's minimum", "==", 0),
    Target("counters", "calls that are not a brute-force count's", "==", 0),
    Target("counters", "calls that are not what hooks on the networks saw", "==", 0),
    Target("speed", "naive loop / sweep, CPU time, 3x3x3", ">=", 4.5, "{:.2f}x"),
    Target("speed", "naive loop / sweep, CPU time, 5x5x5", ">=", 8.0, "{:.2f}x"),
    Target("speed", "pictures of the naive loop that differ", "==", 0),
    Target("speed", "share of all that is not UNet, VAE or restorer", "<=", 0.03, "{:.2%}"),
    Target("kill", "most batches of work lost by a kill", "<=", 1, "{:.2f}"),
    Target("kill", "pictures that differ", "==", 0),
    Target("kill", "records lost or doubled", "==", 0),
    Target("rerun", "seconds for a finished sweep, after imports", "<=", 2, "{:.2f}"),
    Target("rerun", "models loaded", "==", 0),
    Target("device", "share of time that a simulated card is busy", ">=", 0.97, "{:.1%}"),
    Target("device", "cell by cell / sweep, with a full-size picture's shares", ">=", 8.0, "{:.2f}x"),
    Target("device", "8 simulated workers on 5x5x5x4, of perfect", ">=", 0.94, "{:.3f}"),
    Target("memory", "growth of the process after warm-up", "<=", 0.05, "{:.1%}"),
)


@dataclass(frozen=True)
class SweepReport:
    """Figures by (part, name), and under `details[part]` what they were made of, as JSON values."""

    figures: dict[tuple[str, str], float]
    details: dict[str, Any]

    def rows(self) -> list[dict[str, Any]]:
        """One for every target: part, name, value (None: not measured), target, verdict."""
        rows = []
        for target in TARGETS:
            value = self.figures.get((target.part, target.name))
            verdict = "not measured" if value is None else "reached" if target.reached(value) else "missed"
            said = f"{target.sense} {target.form.format(target.limit)}"
            rows.append(
                {"part": target.part, "name": target.name, "value": value, "target": said, "verdict": verdict}
                | {"text": "-" if value is None else target.form.format(value)}
            )
        return rows

    def to_json(self) -> dict[str, Any]:
        return {"figures": self.rows(), "details": self.details}

    def table(self) -> str:
        lines = [(r["part"], r["name"], r["text"], r["target"], r["verdict"]) for r in self.rows()]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(f"{text:<{w}}" for text, w in zip(line, widths, strict=True)).rstrip() for line in lines
        )


def bench_sweep(only: Iterable[str] = PARTS, **options: Any) -> SweepReport:
    """Measure the parts named; `options` are those of `Lab`.

    Raises `UsageError` for another part, what sweeps raise, and what `check` raises.
    """
    only = list(only)
    if unknown := [name for name in only if name not in PARTS]:
        raise UsageError(f"there is no part '{unknown[0]}'; there are {', '.join(PARTS)}.")
    figures: dict[tuple[str, str], float] = {}
    with temporary() as folder:
        lab = Lab(Path(folder), **options)
        details: dict[str, Any] = {
            "machine": {"cores": os.cpu_count(), "processor": platform.machine()},
            "lab": {"model": lab.model, "size": lab.size, "quick": lab.quick, "full": lab.full, "seed": lab.seed},
        }
        for part in (name for name in PARTS if name in only):
            lab.told(part)
            names = [target.name for target in TARGETS if target.part == part]
            values, details[part] = MEASURE[part](lab)
            figures |= {(part, name): value for name, value in zip(names, values, strict=True) if value is not None}
    return SweepReport(figures, details)


# --- speed -----------------------------------------------------------------------------------------------------------


def speed(lab: Lab) -> tuple[list[float | None], dict[str, Any]]:
    sides = (2,) if lab.quick else (3, 5)
    found = {}
    for side in sides:
        lab.told(f"speed: {side}x{side}x{side}")
        found[f"{side}x{side}x{side}"] = _race(lab, lab.cube(side, size=lab.size))
    differ = sum(one["differing"] for one in found.values())
    rest = max(one["shares"]["everything else"] for one in found.values())  # the small grid's is the larger
    ratios = [found[name]["ratio"] if name in found else None for name in ("3x3x3", "5x5x5")]
    return [*ratios, float(differ), rest], found


def sampled(cells: list[Cell], each: int) -> dict[int, list[Cell]]:
    """{refiner's steps: up to `each` of the cells that have them}, other CFGs and weights for every one."""
    groups: dict[int, list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[cell.settings.refine_evaluations].append(cell)
    return {
        steps: [group[i * len(group) // n + (place % max(1, len(group) // n))] for i in range(n)]
        for place, (steps, group) in enumerate(groups.items())
        for n in [min(each, len(group))]
    }


def _race(lab: Lab, spec: dict[str, Any]) -> dict[str, Any]:
    """One sweep and, between its steps, cells by the naive loop: CPU seconds of the calling thread, on loaded models."""
    with lab.home() as home:
        on, meter = metered(lab, spec)
        planned = plan(spec, on.store)
        settings = planned.cells[0].settings
        restorer = restorer_of(on, settings) if settings.restorer != "none" else None
        naive = Naive(on.diffusion(settings), restorer, meter)
        _warm_up(lab, on, naive, settings)
        meter.clear()
        chosen = sampled(planned.cells, len(planned.cells) if lab.full else 2)
        todo = [
            cell
            for i in range(max(map(len, chosen.values())))
            for group in chosen.values()
            for cell in group[i : i + 1]
        ]
        took: dict[int, float] = {}
        pictures: dict[int, str] = {}
        calls = sum(planned.minimum()["unet_evaluations"].values())

        def make(cell: Cell) -> None:
            with meter.of("naive"):
                started = time.thread_time()
                picture = naive(cell.settings)
                took[cell.index] = time.thread_time() - started
            pictures[cell.index] = pixels_sha256(picture)

        def check() -> None:
            lab.check()
            done = meter.calls["ours", "base"] + meter.calls["ours", "refine"]
            while not meter.busy and len(took) < len(todo) * done / calls:  # evenly between the sweep's own calls
                make(todo[len(took)])

        threads, whole = time.process_time(), time.thread_time()
        run = sweeps.sweep(spec, on=on, quiet=True, check=check)
        ours = time.thread_time() - whole - sum(took.values())
        beside = time.process_time() - threads - ours - sum(took.values())
        for cell in todo[len(took) :]:
            make(cell)
        last = {
            "plan": _cpu(lambda: plan(spec, on.store)),
            "table, sheet and heat map": _cpu(lambda: sweeps.finish(run)),
        }
        records = {record["cell"]: record for record in run.records()}
        group_of = {cell.index: cell.settings.refine_evaluations for cell in planned.cells}
        size = Counter(group_of.values())
        mean = {
            steps: sum(took[c.index] for c in group) / len(group) for steps, group in chosen.items()
        }  # of a strength's cells
        loop = sum(size[steps] * mean[steps] for steps in mean)
        networks = meter.networks("ours")
        saved = sum(networks[name] for name in NETWORKS)
        if lab.finished is None or len(planned.cells) >= len(plan(lab.finished[0], Store(None)).cells):
            lab.finished = spec, home
        return {
            "ratio": loop / ours,
            "limit": loop / saved,
            "differing": sum(records[cell]["pixels_sha256"] != pixels for cell, pixels in pictures.items()),
            "sweep_cpu_seconds": ours,
            "scoring_and_saving_cpu_seconds": beside,
            "naive_cpu_seconds": loop,
            "naive_cells": {"measured": len(took), "of": len(planned.cells)},
            "naive_cpu_seconds_by_refine_steps": mean,
            "shares": {
                **{name: seconds / ours for name, seconds in networks.items()},
                "everything else": 1 - saved / ours,
                **{name: seconds / ours for name, seconds in last.items()},
            },
            "naive_shares": {n: v / sum(took.values()) for n, v in meter.networks("naive").items()},
            "counts": {"executed": executed_by(run), "minimum": named(planned.minimum())},
            "faces": sorted({record["scores"]["faces"] for record in run.records() if record["status"] != "failed"}),
        }


def _warm_up(lab: Lab, on: Bench, naive: Naive, s: Settings) -> None:
    """One cell of another prompt by both, so that neither pays for imports and first calls."""
    own = on.store
    with lab.home():
        on.store = Store.at_home()
        spec = lab.cube(1, size=s.width, prompts=["warm-up"], steps=2)
        sweeps.sweep(spec, on=on, quiet=True, check=lab.check)
        naive(plan(spec, on.store).cells[0].settings)
    on.store = own


def _cpu(what: Callable[[], Any]) -> float:
    started = time.thread_time()
    what()
    return time.thread_time() - started


# --- the other parts -------------------------------------------------------------------------------------------------


def kill(lab: Lab) -> tuple[list[float], dict[str, Any]]:
    few = {"steps": 12, "refine_steps": 20}
    spec = lab.spec({"strength": [0.25, 0.35, 0.45], "refine_cfg": [2.0, 5.0], "weight": [0.2, 0.8]}, seeds=2, **few)
    if lab.quick:
        spec = lab.spec({"strength": [0.25, 0.45], "weight": [0.2, 0.8]}, **few)
    times = 3 if lab.quick else 20
    found = kills(
        spec, lab.folder / "kill", times=times, seed=lab.seed, check=lab.check,
        told=lambda done: lab.told(f"kill {done} of {times}"),
    )  # fmt: skip
    return [found["worst"], float(found["pixels_wrong"]), float(found["records_wrong"])], found


def rerun(lab: Lab) -> tuple[list[float], dict[str, Any]]:
    if lab.finished is None:
        with lab.home() as home:
            lab.finished = lab.cube(2 if lab.quick else 5), home
            sweeps.sweep(lab.finished[0], on=Bench(Store.at_home()), quiet=True, check=lab.check)
    spec, home = lab.finished
    found = again(spec, home, lab.check)
    return [found["seconds"], float(len(found["loaded"]))], {**found, "cells": len(plan(spec, Store(None)).cells)}


def device(lab: Lab) -> tuple[list[float], dict[str, Any]]:
    with lab.home() as home:
        spec = lab.cube(2 if lab.quick else 5, size=64 if lab.quick else 256)
        lab.told("device: one simulated card")
        card = card_sweep(Bench(Store.at_home()), spec, 2.0 if lab.quick else 60.0, lab.check)
        lab.told("device: a queue of simulated workers")
        side, seeds = (2, 2) if lab.quick else (5, 4)
        shared = queue(lab.cube(side, size=768, seeds=seeds), 8, home / "claims")
    return [card["busy"], card["ratio"], shared["efficiency"]], {"card": card, "queue": shared}


def memory(lab: Lab) -> tuple[list[float], dict[str, Any]]:
    axes = {"strength": [n / 10 for n in range(1, 11)], "refine_cfg": [float(n) for n in range(2, 12)]}
    few = {"steps": 2, "refine_steps": 10}
    spec = lab.spec({**axes, "weight": [n / 10 for n in range(1, 11)]}, size=256, **few)
    if lab.quick:
        spec = lab.spec({"strength": [0.2, 0.4, 0.6], "refine_cfg": [2.0, 3.0], "weight": [0.2, 0.8]}, size=64, **few)
    with lab.home():
        found = memory_sweep(Bench(Store.at_home()), spec, 6 if lab.quick else 400, lab.check)
    return [found["growth"]], found


MEASURE: dict[str, Callable[[Lab], tuple[Any, dict[str, Any]]]] = {
    "counters": counters, "speed": speed, "kill": kill, "rerun": rerun, "device": device, "memory": memory,
}  # fmt: skip
