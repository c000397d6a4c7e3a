"""Enlarges the best settings' pictures by Real-ESRGAN after a sweep: x4 on 1536 px costs as much as two refine steps."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from tqdm.auto import tqdm

from workbench.errors import InputLost, NoSettingsInPicture, UnreadablePicture
from workbench.files import open_picture, pixels_sha256, read_chunk, save_picture
from workbench.recipe import Bench, ContentKeys, jobs_of
from workbench.runs import DONE, Record, Run, setting_rows
from workbench.settings import Settings, knobs
from workbench.store import Artefact

from .planning import Plan


def enlarge(run: Run, planned: Plan, on: Bench, check: Callable[[], None] = lambda: None) -> list[Path]:
    """Write `winners/<rank>-<cell>.png` for every picture of the `upscale_winners` best settings on which no guard fired.

    What is there and still the same stays; what an earlier ranking has left goes.

    Raises `InputLost`, or what `check` raises.
    """
    rows = [row for row in setting_rows(run) if row.n and not row.flagged]
    best = rows[: planned.spec.upscale_winners]
    if not best:
        tqdm.write("workbench: no winner is enlarged: no setting has a score and is free of flags.", file=sys.stderr)
    ranked = [
        (rank, record)
        for rank, row in enumerate(best, start=1)
        for record in run.records()
        if record["status"] in DONE and all(record["settings"][n] == value for n, value in row.combination.items())
    ]
    folder, keys_of, found = run.path / "winners", ContentKeys(), []
    for rank, record in ranked:
        s = planned.cells[record["cell"]].settings.replace(upscaler=planned.upscaler)
        late = s.stages.index(knobs()["upscaler"].stage)
        # of what comes before the upscaler, the cell's own keys: other machines may have made it, in batches of their own
        keys = keys_of(s, made={name: record["keys"][name] for name in s.stages[:late]})
        path = folder / f"{rank}-{record['cell']:04d}.png"
        if not _has(path, keys):
            save_picture(path, _enlarged(run, record, s, keys, late, on, check), s, keys=keys)
        found.append(path)
    for path in set(folder.glob("*.png")) - set(found):
        path.unlink()
    return found


def _has(path: Path, keys: dict[str, str]) -> bool:
    """Whether the picture at `path` is the one of these keys."""
    try:
        return read_chunk(path).keys == keys
    except (UnreadablePicture, NoSettingsInPicture):
        return False


def _enlarged(
    run: Run, record: Record, s: Settings, keys: dict[str, str], late: int, on: Bench, check: Callable[[], None]
) -> Image.Image:
    """The finished picture of a cell after the stages that its settings `s` run from the upscaler on, the `late`-th."""
    jobs = jobs_of(s, keys)
    if late == len(jobs) - 1:
        image = open_picture(run.picture(record))
        if pixels_sha256(image) != record["pixels_sha256"]:
            raise InputLost(
                f"{run.picture(record)} is not the picture that was scored; run the same sweep again, which makes it anew."
            )
        done = {jobs[-2].key: Artefact(image)}
    else:  # the background is enlarged, and the faces are pasted into it
        before = jobs[late].taken[0]
        kept = on.store.get(before)
        if kept is None:
            raise InputLost(
                f"the picture of cell {record['cell']} before its faces were restored is no longer in the store, so its "
                "background cannot be enlarged; use upscale_mode = 'picture', or give the store more room "
                "(WORKBENCH_STORE_LIMIT)."
            )
        done = {before: kept}
    for job in jobs[late:]:
        done[job.key] = on.make(job, done, lambda *_: check())
    return done[jobs[-1].key].image
