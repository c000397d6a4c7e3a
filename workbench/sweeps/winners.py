"""Enlarges the best settings' pictures by Real-ESRGAN after a sweep: x4 on 1536 px costs as much as two refine steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from PIL import Image

from workbench.errors import InputLost
from workbench.files import open_picture, save_picture
from workbench.recipe import Bench, jobs_of, stage_keys
from workbench.runs import DONE, Run, setting_rows
from workbench.settings import Settings, knobs
from workbench.store import Artefact

from .planning import Plan


def enlarge(
    run: Run, planned: Plan, batch: Mapping[str, int], on: Bench, check: Callable[[], None] = lambda: None
) -> list[Path]:
    """Write `winners/<rank>-<cell>.png` for every picture of the `upscale_winners` best settings; those that are there stay.

    Raises `InputLost`, or what `check` raises.
    """
    best = [row.combination for row in setting_rows(run)[: planned.spec.upscale_winners] if row.n]
    found = []
    for rank, combination in enumerate(best, start=1):
        for record in run.records():
            if any(record["settings"][name] != value for name, value in combination.items()):
                continue
            number = record["cell"]
            path = run.path / "winners" / f"{rank}-{number:04d}.png"
            if not path.exists() and record["status"] in DONE:
                s = planned.cells[number].settings.replace(upscaler=planned.upscaler)
                keys = stage_keys(s, batch)
                save_picture(path, _enlarged(number, run.picture(record), s, keys, on, check), s, keys=keys)
            found.append(path)
    return found


def _enlarged(
    cell: int, picture: Path, s: Settings, keys: dict[str, str], on: Bench, check: Callable[[], None]
) -> Image.Image:
    """The finished `picture` of a cell after the stages that its settings `s` run from the upscaler on."""
    late = s.stages.index(knobs()["upscaler"].stage)
    jobs = jobs_of(s, keys)
    if late == len(jobs) - 1:
        done = {jobs[-2].key: Artefact(open_picture(picture))}
    else:  # the background is enlarged, and the faces are pasted into it
        before = jobs[late].taken[0]
        kept = on.store.get(before)
        if kept is None:
            raise InputLost(
                f"the picture of cell {cell} before its faces were restored is no longer in the store, so its background "
                "cannot be enlarged; use upscale_mode = 'picture', or give the store more room (WORKBENCH_STORE_LIMIT)."
            )
        done = {before: kept}
    for job in jobs[late:]:
        done[job.key] = on.make(job, done, lambda *_: check())
    return done[jobs[-1].key].image
