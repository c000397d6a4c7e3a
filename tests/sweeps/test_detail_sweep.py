"""Detailed faces in a sweep: rows of unlike stages share UNet calls, and several faces are one job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from support.runs import fresh

from workbench.files import pixels_sha256
from workbench.recipe import Bench, Diffusion, Row, batch_of, stage_keys
from workbench.settings import Settings
from workbench.store import Artefact, Store
from workbench.sweeps import last_session, plan, sweep

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def head(astronaut: Image.Image) -> Image.Image:
    return astronaut.crop((140, 0, 320, 180))


@pytest.fixture(scope="module")
def three(head: Image.Image) -> Image.Image:
    sheet = Image.new("RGB", (448, 192), (96, 110, 120))
    for side, place in ((160, (10, 10)), (140, (180, 20)), (120, (325, 40))):
        sheet.paste(head.resize((side, side), Image.Resampling.LANCZOS), place)
    return sheet


@pytest.fixture
def detailing(spec: dict[str, Any]) -> dict[str, Any]:
    fixed = {
        **spec["fixed"], "restorer": "none", "strength": 0.4, "refine_cfg": 2.0, "detail": True, "detail_size": 128,
        "detail_steps": 10, "detail_padding": 8, "detail_blur": 0,
    }  # fmt: skip
    return {**spec, "prompts": ["a face"], "axes": {}, "fixed": fixed}


def hires_made(on: Bench, spec: dict[str, Any], picture: Image.Image, batch: int = 1, **changes: Any) -> None:
    """Put a picture in the store as what the hires fix has made of a cell."""
    cell = next(
        cell
        for cell in plan(spec, Store(None)).cells
        if all(getattr(cell.settings, n) == v for n, v in changes.items())
    )
    state = torch.Generator("cpu").manual_seed(1).get_state().numpy().tobytes()
    keys = stage_keys(cell.settings, batch_of(batch))
    for stage in ("base", "refine"):  # a sweep looks at the first picture, too, to see whether the face was torn since
        on.store.put(keys[stage], Artefact(picture, state), {})


def test_detailing_shares_unet_calls_with_the_hires_fix_of_other_cells(
    detailing: dict[str, Any], head: Image.Image, home: Path
) -> None:
    """Seed 3 has its hires picture, and is detailed at 128 px, while that of seed 8, of 128 px, is refined."""
    spec = {**detailing, "seeds": [3, 8], "batch_size": 2}
    on = fresh(home)
    hires_made(on, spec, head.resize((128, 128), Image.Resampling.LANCZOS), 2, seed=3)
    run = sweep(spec, on=on, quiet=True)
    executed = last_session(run)["executed"]
    assert executed["unet_evaluations"] == {"base": 4, "refine": 4, "detail": 4}
    assert (executed["calls"]["unet_calls"], executed["calls"]["padding"]) == (
        8,
        4,
    )  # 4 of the base, filled up; 4 of both
    assert run.states()["failed"] == 0
    alone = Bench(Store(None))
    hires_made(alone, spec, head.resize((128, 128), Image.Resampling.LANCZOS), 2, seed=3)
    run = sweep({**spec, "seeds": [3], "name": "alone"}, on=alone, quiet=True)
    assert last_session(run)["executed"]["calls"]["padding"] == 4
    assert run.records()[0]["pixels_sha256"] == sweep(spec, on=on, quiet=True).records()[0]["pixels_sha256"]


@pytest.mark.parametrize("batch", [1, 3])
def test_faces_of_one_picture_are_one_job_and_share_first_steps_over_cfg(
    detailing: dict[str, Any], three: Image.Image, home: Path, batch: int
) -> None:
    spec = {**detailing, "axes": {"detail_cfg": [2.0, 6.0]}, "batch_size": batch}
    on = fresh(home)
    hires_made(on, spec, three, batch)
    run = sweep(spec, on=on, quiet=True)
    executed = last_session(run)["executed"]
    assert executed["stages"]["detail"] == 2 and executed["stages"]["refine"] == 0
    assert executed["unet_evaluations"]["detail"] == 3 * (2 * 4 - 1)
    calls = executed["calls"]
    assert (calls["detections"], calls["vae_encodes"], calls["vae_decodes"]) == (1, 3, 6)
    if batch == 3:
        assert calls["unet_calls"] == 7 and calls["padding"] == 0
        return
    for record in run.records():
        one = Bench(Store(None))
        hires_made(one, spec, three)
        made = one.generate(Settings(**record["settings"]))
        assert pixels_sha256(made.image) == record["pixels_sha256"] and len(made.info["detail"]["faces"]) == 3


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("where", ["step", "decoding"])
def test_a_face_that_fails_is_its_cells_fault_alone(
    detailing: dict[str, Any], three: Image.Image, home: Path, monkeypatch: pytest.MonkeyPatch, batch: int, where: str
) -> None:
    spec = {**detailing, "axes": {"detail_faces": [1, 3]}, "batch_size": batch}
    on = fresh(home)
    hires_made(on, spec, three, batch)
    step, finish = Row.advance, Diffusion.finish

    rows: list[
        Row
    ] = []  # in the order in which they begin; the second is of three faces, with another of them behind it

    def breaks(row: Row) -> bool:
        if row.stage == "detail" and all(row is not other for other in rows):
            rows.append(row)
        return len(rows) > 1 and row is rows[1]

    def advance(row: Row, *answer: Any) -> None:
        if breaks(row) and where == "step" and row.done == 1:
            raise ValueError("broken")
        step(row, *answer)

    def decode(self: Diffusion, row: Row) -> Artefact:
        if breaks(row) and where == "decoding":
            raise ValueError("broken")
        return finish(self, row)

    monkeypatch.setattr(Row, "advance", advance)
    monkeypatch.setattr(Diffusion, "finish", decode)
    run = sweep(spec, on=on, quiet=True)
    one, three_faces = run.records()
    assert (one["status"] == "failed", three_faces["status"], three_faces["reason"]) == (
        False,
        "failed",
        "detail: broken",
    )


def test_a_cell_says_that_no_face_was_found(detailing: dict[str, Any], home: Path) -> None:
    fixed = {name: value for name, value in detailing["fixed"].items() if name != "detail"}
    run = sweep({**detailing, "axes": {"detail": [False, True]}, "fixed": fixed}, on=fresh(home), quiet=True)
    plain, detailed = run.records()
    assert "notes" not in plain and detailed.get("notes") == ["the detailer found no face, so it changed nothing"]
    assert plain["pixels_sha256"] == detailed["pixels_sha256"]


def test_detailing_is_measured_against_what_was_there_before(detailing: dict[str, Any], three: Image.Image) -> None:
    from workbench.recipe import last_made

    settings = (
        plan({**detailing, "fixed": {**detailing["fixed"], "restorer": "codeformer"}}, Store(None)).cells[0].settings
    )
    assert settings.stages == ("base", "refine", "detail", "faces") and last_made(settings) == "refine"


def test_the_shipped_comparison_of_faces() -> None:
    planned = plan(ROOT / "experiments" / "faces.toml", Store(None))
    jobs = {stage: len(jobs) for stage, jobs in planned.jobs.items()}
    assert jobs == {"base": 8, "refine": 8, "detail": 8, "faces": 16, "upscale": 0} and len(planned.cells) == 32
    assert planned.warnings == []
