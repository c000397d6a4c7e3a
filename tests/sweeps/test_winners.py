import os
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from support.runs import fresh, rewrite

from workbench import scores
from workbench.errors import InputLost
from workbench.files import open_picture, pixels_sha256, read_chunk, read_lines, read_settings
from workbench.recipe.pipeline import Bench
from workbench.runs import Run
from workbench.store.store import Store
from workbench.sweeps.planning import plan
from workbench.sweeps.recording import Recorder
from workbench.sweeps.session import last_session, sweep
from workbench.sweeps.winners import enlarge


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A score for random pictures, which show no face: the higher the strength, the sharper."""
    original = Recorder.cell

    def cell(
        self: Any, of: Any, image: Any, seconds: float, status: str, measured: dict[str, Any], *notes: Any
    ) -> None:
        original(
            self,
            of,
            image,
            seconds,
            scores.SCORED[0],
            {**measured, "sharpness": 50 + 10 * of.settings.strength},
            *notes,
        )

    monkeypatch.setattr(Recorder, "cell", cell)


@pytest.mark.parametrize("mode", ["picture", "background"])
@pytest.mark.usefixtures("scored")
def test_only_the_winners_are_enlarged(spec: dict, home: Path, mode: str) -> None:
    wanted = {
        **spec,
        "axes": {"weight": [0.0, 0.5, 1.0], "strength": [0.3, 0.5]},
        "fixed": {**spec["fixed"], "upscaler": "realesr-animevideov3", "upscale_mode": mode},
        "upscale_winners": 1,
    }
    run = sweep(wanted, on=fresh(home), quiet=True)
    assert last_session(run)["executed"]["stages"]["upscale"] == 0
    pictures = sorted((run.path / "winners").iterdir())
    assert len(pictures) == 2 and all(path.name.startswith("1-") for path in pictures)  # one setting, two prompts
    for path in pictures:
        settings = read_settings(path)
        with Image.open(path) as file:
            image = file.convert("RGB")
        assert image.size == (256, 256) and settings.upscaler == "realesr-animevideov3"
        assert pixels_sha256(image) == pixels_sha256(Bench(Store(None)).generate(settings).image)
    before = {path: path.stat().st_mtime_ns for path in pictures}
    bench = fresh(home)
    sweep(wanted, on=bench, quiet=True)
    assert bench.loaded == () and {path: path.stat().st_mtime_ns for path in pictures} == before


def winners_of(spec: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A spec of 2 prompts x 3 strengths whose winner's two pictures are enlarged."""
    upscaling = {"upscaler": "realesr-animevideov3", "upscale_mode": "picture"}
    fixed = {**spec["fixed"], **upscaling}
    return {**spec, "axes": {"strength": [0.3, 0.5, 0.7]}, "fixed": fixed, "upscale_winners": 1, **more}


def names(run: Run) -> list[str]:
    return sorted(path.name for path in (run.path / "winners").iterdir())


@pytest.mark.usefixtures("scored")
def test_a_guarded_setting_does_not_win(spec: dict, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Recorder.cell

    def cell(
        self: Any, of: Any, image: Any, seconds: float, status: str, measured: dict[str, Any], *notes: Any
    ) -> None:
        flags = ["haloed"] if of.settings.strength == 0.7 else []
        original(self, of, image, seconds, status, {**measured, "flags": flags}, *notes)

    monkeypatch.setattr(Recorder, "cell", cell)
    run = sweep(winners_of(spec), on=fresh(home), quiet=True)
    assert [read_settings(path).strength for path in (run.path / "winners").iterdir()] == [0.5, 0.5]


@pytest.mark.usefixtures("scored")
def test_what_is_no_winner_any_more_goes(spec: dict, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of two settings said that they were the first."""
    run = sweep(winners_of(spec), on=fresh(home), quiet=True)
    before = names(run)
    rewritten = [record["cell"] for record in run.records() if record["settings"]["strength"] == 0.3]
    for number in rewritten:
        rewrite(run, number, scores={"sharpness": 90.0})
    sweep(winners_of(spec), on=fresh(home), quiet=True)
    assert names(run) == [f"1-{number:04d}.png" for number in rewritten] and not set(names(run)) & set(before)


@pytest.mark.usefixtures("scored")
def test_another_picture_under_the_same_name_is_made_anew(spec: dict, home: Path) -> None:
    run = sweep(winners_of(spec), on=fresh(home), quiet=True)
    path = run.path / "winners" / names(run)[0]
    whole, want = path.read_bytes(), pixels_sha256(open_picture(path))
    for spoilt in (whole[:2000], b"", (run.path / "winners" / names(run)[1]).read_bytes()):
        path.write_bytes(spoilt)
        sweep(winners_of(spec), on=fresh(home), quiet=True)
        assert pixels_sha256(open_picture(path)) == want


@pytest.mark.usefixtures("scored")
def test_keys_of_winners_follow_the_batch_that_made_them(
    spec: dict, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their keys were those of the first batch, which had not fitted."""
    from diffusers import UNet2DConditionModel

    real = UNet2DConditionModel.forward

    def small(self: Any, sample: Any, *rest: Any, **named: Any) -> Any:
        if len(sample) > 4 and sample.shape[-1] > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, sample, *rest, **named)

    monkeypatch.setattr(UNet2DConditionModel, "forward", small)
    run = sweep(winners_of(spec, batch_size=4), on=fresh(home), quiet=True)
    assert run.batch() == {"base": 4, "refine": 2, "detail": 4}
    records = {record["cell"]: record["keys"] for record in run.records()}
    for path in (run.path / "winners").iterdir():
        keys, own = read_chunk(path).keys, records[int(path.stem.partition("-")[2])]
        assert {name: keys[name] for name in own} == own


@pytest.mark.usefixtures("scored")
def test_a_picture_exchanged_after_it_was_scored_is_not_enlarged(spec: dict, home: Path) -> None:
    run = sweep({**winners_of(spec), "upscale_winners": 0, "fixed": spec["fixed"]}, on=fresh(home), quiet=True)
    first, second = (run.picture(record) for record in run.records()[:2])
    second.write_bytes(first.read_bytes())
    before = {r["cell"]: r["pixels_sha256"] for r in run.records()}
    again = sweep({**winners_of(spec), "upscale_winners": 0, "fixed": spec["fixed"]}, on=fresh(home), quiet=True)
    assert pixels_sha256(open_picture(second)) == before[1]  # made anew from the store, as it was
    assert sum(last_session(again)["executed"]["stages"].values()) == 0
    second.write_bytes(first.read_bytes())
    planned = plan(winners_of(spec))
    with pytest.raises(InputLost, match=r"0001\.png is not the picture that was scored; run the same sweep again"):
        for record in run.records():
            rewrite(run, record["cell"], scores={"sharpness": 90.0 if record["settings"]["strength"] == 0.5 else 1.0})
        enlarge(run, planned, fresh(home))


@pytest.mark.usefixtures("scored")
def test_a_copied_run_is_whole(spec: dict, home: Path) -> None:
    """In a copy the times of files are others; the pictures are the same."""
    run = sweep(spec, on=fresh(home), quiet=True)
    for record in run.records():
        os.utime(run.picture(record))
    lines = len(read_lines(run.journal))
    sweep(spec, on=fresh(home), quiet=True)
    assert len(read_lines(run.journal)) == lines
