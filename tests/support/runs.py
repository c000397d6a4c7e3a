"""Runs as the engine leaves them behind, with pictures and scores that a test decides."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from workbench.files import hash_json, read_lines
from workbench.promotion.duel import MEETING, Meeting
from workbench.recipe.pipeline import Bench
from workbench.runs import run as runs
from workbench.runs.run import Run, open_run
from workbench.settings import Settings, expand_cfg
from workbench.store.store import Store
from workbench.sweeps.spec import write_out

SCORES: dict[str, Any] = {"sharpness": None, "faces": 1, "box": None, "flags": [], "versions": {}, "not_measured": {}}

Told = tuple[str, float | None]  # what its pixels are, its sharpness


def known_run(axes: dict[str, list[Any]], tell: Callable[[dict[str, Any]], Told], seeds: int = 2, **more: Any) -> Run:
    """A finished run whose pictures and scores `tell` decides from a cell's settings."""
    spec = {
        "base": {},
        "prompts": ["p"],
        "seeds": list(range(seeds)),
        "axes": axes,
        "preset": "embedded",
        "strategy": "grid",
        "budget": None,
        "name": "t",
        **more,
    }
    combinations: list[Any] = list(itertools.product(range(seeds), *axes.values()))
    run = open_run("t", spec, hash_json(spec), len(combinations))
    for cell, combination in enumerate(combinations):
        seed, *values = combination
        changes: dict[str, Any] = {"seed": seed}
        for name, value in zip(axes, values, strict=True):
            changes |= dict(zip(name.split("+"), value, strict=True)) if "+" in name else {name: value}
        settings = Settings(model="embedded", prompt="p", **expand_cfg(changes))
        pixels, sharpness = tell(settings.model_dump())
        record = {
            "cell": cell, "key": f"k{cell}", "keys": {"faces": f"k{cell}"}, "reason": None,
            "settings": settings.model_dump(), "status": "done" if sharpness is not None else "no_face",
            "scores": SCORES | {"sharpness": sharpness}, "picture": f"pictures/{cell:04d}.png", "pixels_sha256": pixels,
            "seconds": 1.0,
        }  # fmt: skip
        if pixels == "failed":
            record = {**record, "status": "failed", "reason": "base: no", "scores": {}}
            del record["pixels_sha256"], record["picture"]
        run.append("cell", record)
    return run


def rewrite(run: Run, number: int, **changes: Any) -> None:
    """A newer record of a cell; `scores` are added to the old ones."""
    renew(run, run.records()[number], **changes)


def renew(run: Run, old: Any, **changes: Any) -> None:
    """The same of a record that was read before: reading all of them for each took half of a test's time."""
    scores = {**old["scores"], **changes.pop("scores", {})}
    run.append("cell", {**{n: v for n, v in old.items() if n != "kind"}, "scores": scores, **changes})


TWO_AXES: dict[str, list[Any]] = {"strength": [0.2, 0.4], "weight": [0.0, 0.5, 1.0]}


def scored(axes: dict[str, list[Any]] = TWO_AXES, **more: Any) -> Run:
    """Sharper with strength and weight."""
    return known_run(axes, lambda s: (str(s), 40 + 10 * s["strength"] + s["weight"]), **more)


THREE_AXES: dict[str, list[Any]] = {"strength": [0.2, 0.4], "refine_cfg": [2.0, 5.0, 8.0], "weight": [0.0, 0.5, 1.0]}


def known(axes: dict[str, list[Any]] = THREE_AXES, seeds: int = 2, **more: Any) -> Run:
    """The sharper, the less faithful; some noise that is the same each time."""
    noise = itertools.cycle([0.3, -0.5, 0.9, -0.1, 0.0, -0.7, 0.4])

    def tell(s: dict[str, Any]) -> tuple[str, float]:
        return f"{s} {next(noise)}", 40 + 30 * s["strength"] + 10 * s["weight"] - s["refine_cfg"] / 4 + next(noise)

    run = known_run(axes, tell, seeds=seeds, **more)
    for record in run.records():
        if record["status"] == "done":
            renew(run, record, scores={"ssim": round(1.2 - (record["scores"]["sharpness"] or 0) / 100, 4)})
    return run


def broken(run: Run) -> Run:
    """A failure, a missing face, a cell that was not run, and a guard that fired."""
    rewrite(run, 0, status="failed", reason="base: no", scores={"sharpness": None, "ssim": None})
    rewrite(run, 4, status="no_face", scores={"sharpness": None, "ssim": None})
    rewrite(run, 17, scores={"flags": ["haloed"]})
    kept = [{n: v for n, v in record.items() if n != "kind"} for record in run.records() if record["cell"] != 9]
    run.journal.unlink()
    for record in kept:
        run.append("cell", record)
    return run


def painted(run: Run, side: int = 64) -> Run:
    """Every cell a picture of its own colour: the whole is red, the square of its face blue."""
    (run.path / "pictures").mkdir(exist_ok=True)
    for record in run.records():
        if record["status"] != "failed":
            picture = Image.new("RGB", (side, side), (250, 10, 2 * record["cell"]))
            picture.paste((10, 10, 250), (side // 4, side // 4, 3 * side // 4, 3 * side // 4))
            picture.save(run.picture(record))
            box = [side * 0.4, side * 0.4, side * 0.6, side * 0.6]
            renew(run, record, scores={"box": box})
    return run


def pixels(run: runs.Run) -> list[str]:
    return [record["pixels_sha256"] for record in run.records()]


def recorded(run: runs.Run) -> list[int]:
    """The cell of every record, in order: one named twice was recorded twice."""
    return sorted(line["cell"] for line in read_lines(run.journal) if line["kind"] == "cell")


def pretend(run: runs.Run, **about: Any) -> None:
    """A status.json as `Progress` writes it."""
    usual = {
        "state": "running", "pid": os.getpid(), "cells": {"recorded": 2, "total": 24}, "stage": "refine", "step": 3,
        "steps": 5, "seconds": 4.0, "seconds_left": 70.0, "seconds_left_is": "predicted", "updated": time.time(),
    }  # fmt: skip
    (run.path / "status.json").write_text(json.dumps({**usual, **about}))


def until(what: Callable[[], Any], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.03)


COUNT = itertools.count()


def duel(
    pairs: list[tuple[Any, Any]], *, prompts: int = 1, flags: dict[int, list[str]] | None = None, held_out: bool = True
) -> Run:
    """A challenge whose pairs have these sharpnesses; None: no face, "-": not made yet."""
    spec = {
        "base": {}, "prompts": [f"p{i}" for i in range(prompts)], "seeds": list(range(len(pairs) // prompts)),
        "axes": {"strength+weight": [[0.2, 0.0], [0.4, 1.0]]}, "preset": "recommended", "strategy": "grid", "budget": None,
        "name": "challenge t",
    }  # fmt: skip
    run = open_run("challenge t", spec, f"{next(COUNT):08x}", 2 * len(pairs))
    for cell, value in enumerate(value for pair in pairs for value in pair):
        if value == "-":
            continue
        settings = Settings(
            model="embedded",
            prompt=f"p{cell // 2 // len(spec['seeds'])}",
            seed=cell // 2 % len(spec["seeds"]),
            strength=(0.2, 0.4)[cell % 2],
            weight=cell % 2,
        )
        scores = SCORES | {
            "sharpness": value,
            "ssim": 0.9 - 0.1 * (cell % 2),
            "lpips": None,
            "flags": (flags or {}).get(cell, []),
        }
        keys = {"base": f"b{cell // 2}", "refine": f"r{cell}"}
        picture = f"{cell}.png"
        Image.new("RGB", (32, 32), (cell, 0, 0)).save(run.path / picture)
        record: dict[str, Any] = {
            "cell": cell, "keys": keys, "reason": None, "settings": settings.model_dump(), "picture": picture,
            "status": "no_face" if value is None else "done", "scores": scores, "pixels_sha256": f"h{cell}",
            "key": f"r{cell}",
            "seconds": 1.0,
        }  # fmt: skip
        run.append("cell", record)
    (run.path / MEETING).write_text(Meeting(held_out=held_out, notes=["Known."]).model_dump_json())
    return run


def met(challenge: Any, *, by: float = 5.0) -> Run:
    """The run of a challenge that was had: the challenger is sharper `by` about so much."""
    grid = write_out(challenge.spec)
    prompts, seeds = challenge.spec.prompts, challenge.spec.seeds
    spec = {
        "base": {}, "prompts": prompts, "seeds": seeds, "axes": grid.axes, "preset": "recommended", "strategy": "grid",
        "budget": None, "name": challenge.spec.name,
    }  # fmt: skip
    run = open_run(challenge.spec.name, spec, hash_json(spec), len(grid.cells()))
    for cell, settings in enumerate(grid.cells()):
        sharpness = 50 + (by + 0.4 * (cell // 2 % 3 - 1)) * (cell % 2)
        record: dict[str, Any] = {
            "cell": cell, "keys": {"faces": f"k{cell}"}, "reason": None, "settings": settings.model_dump(),
            "status": "done", "scores": SCORES | {"sharpness": sharpness}, "key": f"k{cell}",
            "pixels_sha256": f"{run.id}{cell}", "picture": "x", "seconds": 1.0,
        }  # fmt: skip
        run.append("cell", record)
    return run


def fresh(home: Path) -> Bench:
    """A bench as a new process would have it."""
    return Bench(Store(home / "store"))


def searched(run: Run) -> Run:
    kept = [{n: v for n, v in r.items() if n != "kind"} for r in run.records() if r["cell"] % 18 in (2, 5, 11)]
    run.journal.unlink()
    for record in kept:
        run.append("cell", record)
    return run


LONG: dict[str, list[Any]] = {
    "width+height": [[768, 768], [1024, 1024], [1280, 768]], "sampler": ["Euler", "DPM++ 2M SDE Karras"],
    "strength": [0.2, 0.3, 0.4], "weight": [0.0, 0.2, 0.4, 0.6, 0.8, 1.0],
}  # fmt: skip

CASES: dict[str, Any] = {
    "three axes": known,
    "failures": lambda: broken(known(strategy="grid")),
    "search": lambda: searched(known(strategy="race")),
    "one axis of many values": lambda: known({"weight": [i / 20 for i in range(21)]}),
    "no axes": lambda: known({}),
    "one seed": lambda: known(seeds=1),
    "four axes with long values": lambda: known(LONG),
    "many CFGs": lambda: known({"cfg": [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], "weight": [0.0, 1.0]}),
    "six samplers": lambda: known({"sampler": ["DPM++ 2M Karras", "DPM++ 2M", "DPM++ 2M SDE Karras", "Euler", "Euler a",
                                               "UniPC", "DDIM"], "weight": [0.0, 1.0]}),
    "nothing recorded": lambda: searched(known({"weight": [0.5]}, seeds=1)),
}  # fmt: skip
