"""Enlarges the best settings' pictures by Real-ESRGAN after a sweep: x4 on 1536 px costs as much as two refine steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from workbench.errors import InputLost
from workbench.files import open_picture, save_picture
from workbench.recipe import Bench, inputs, stage_keys
from workbench.runs import Run, swept
from workbench.store import Artefact

from .planning import Plan


def enlarge(
    run: Run, planned: Plan, batch: Mapping[str, int], on: Bench, check: Callable[[], None] = lambda: None
) -> list[Path]:
    """Write `winners/<rank>-<cell>.png` for every picture of the `upscale_winners` best settings; those that are there stay.

    Raises `InputLost`, or what `check` raises.
    """
    best: Any = run.summary().head(planned.spec.upscale_winners)
    best = best[best["n"] > 0]
    names, table = swept(run.axes), run.table()
    found = []
    for rank, index in enumerate(best.index, start=1):
        values = index if isinstance(index, tuple) else (index,)
        rows: Any = table
        for name, value in zip(names, values, strict=False):
            rows = rows[rows[name] == value]
        for number, picture in zip(rows["cell"], rows["picture"], strict=True):
            path = run.path / "winners" / f"{rank}-{number:04d}.png"
            if not path.exists() and isinstance(picture, str):
                _enlarge(path, run.path / picture, int(number), planned, batch, on, check)
            found.append(path)
    return found


def _enlarge(
    path: Path,
    picture: Path,
    number: int,
    planned: Plan,
    batch: Mapping[str, int],
    on: Bench,
    check: Callable[[], None],
) -> None:
    s = planned.cells[number].settings.replace(upscaler=planned.upscaler)
    keys = stage_keys(s, batch)
    if s.stages[-1] == "upscale":
        made = {s.stages[-2]: Artefact(open_picture(picture))}
    else:  # the background is enlarged, and the faces are pasted into it
        refined = inputs(s)["upscale"][0]
        kept = on.store.get(keys[refined])
        if kept is None:
            raise InputLost(
                f"the picture of cell {number} before its faces were restored is no longer in the store, so its background "
                "cannot be enlarged; use upscale_mode = 'picture', or give the store more room (WORKBENCH_STORE_LIMIT)."
            )
        made = {refined: kept}
    for name in s.stages[s.stages.index("upscale") :]:
        made[name] = on.run_stage(name, keys, s, made, lambda *_: check())
    save_picture(path, made[s.stages[-1]].image, s, keys=keys)
