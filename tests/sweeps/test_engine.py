"""The executor: what runs is the analytic minimum, and no result depends on what shared a batch with it."""

import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from support.runs import fresh

from workbench import scores
from workbench.files import pixels_sha256
from workbench.models import pipelines
from workbench.recipe import denoising
from workbench.recipe.pipeline import Bench
from workbench.runs import Run
from workbench.settings import Settings
from workbench.store.store import Store
from workbench.sweeps.planning import plan
from workbench.sweeps.session import last_session, sweep


@pytest.fixture
def diffusion_only(spec: dict[str, Any]) -> dict[str, Any]:
    """2 prompts x 2 seeds x 3 strengths x (2 guided CFGs and CFG 1), no faces."""
    fixed = {**spec["fixed"], "restorer": "none"}
    return {
        **spec,
        "seeds": [3, 8],
        "axes": {"strength": [0.2, 0.3, 0.5], "refine_cfg": [1.0, 2.0, 6.0]},
        "fixed": fixed,
    }


def pixels(run: Run) -> list[str]:
    return [record["pixels_sha256"] for record in run.records()]


def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What the networks themselves were asked for, counted by hooks on them and not by the code that counts."""
    seen: Counter[str] = Counter()
    real = pipelines._ready

    def ready(*arguments: Any) -> Any:
        pipe: Any = real(*arguments)
        stage = "refine" if type(pipe).__name__.endswith("Img2ImgPipeline") else "base"
        pipe.unet.register_forward_pre_hook(lambda _, sample: seen.update({stage: 1, f"{stage} rows": len(sample[0])}))
        if stage == "base":
            for name in ("encoder", "decoder"):
                getattr(pipe.vae, name).register_forward_pre_hook(lambda *_, n=name: seen.update([n]))
        return pipe

    monkeypatch.setattr(pipelines, "_ready", ready)
    return seen


def test_what_runs_is_the_minimum(diffusion_only: dict, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = counted(monkeypatch)
    run = sweep(diffusion_only, on=bench, quiet=True)
    # 4 bases of 4 steps; strengths of 2, 3 and 5 steps: CFG 1 alone, CFGs 2 and 6 share the first of theirs
    refine = 4 * ((2 + 3 + 5) + 2 * (2 + 3 + 5) - 3)
    assert seen == {
        "base": 16, "base rows": 32, "refine": refine, "refine rows": 4 * 10 + 2 * (4 * (20 - 3)),
        "encoder": 4, "decoder": 4 + 36,
    }  # fmt: skip
    session = last_session(run)
    assert (
        session["executed"]["unet_evaluations"]
        == {"base": 16, "refine": refine, "detail": 0}
        == session["unet_evaluations"]
    )
    calls = session["executed"]["calls"]
    assert (calls["vae_encodes"], calls["vae_decodes"], calls["padding"]) == (4, 40, 0)
    assert calls["prompt_encodes"] == 2 + 2 * 2  # base; refiner with and without a negative prompt


@pytest.mark.parametrize(
    "axes",
    [
        {"cfg": [2.0, 5.0], "strength": [0.3, 0.4]},
        {"base_cfg": [1.0, 2.0, 5.0], "refine_cfg": [1.0, 4.0]},
        {"sampler": ["Euler a", "UniPC"], "refine_cfg": [2.0, 3.0, 4.0]},
        {"hires_scale": [1.5, 2.0], "negative_prompt": ["", "blurry"], "refine_cfg": [2.0, 3.0]},
        {"steps": [3, 4], "hires": [True, False]},
        {"width": [64, 72], "strength": [0.36, 0.37, 0.4]},
    ],
    ids=lambda axes: " x ".join(axes),
)
def test_any_grid_costs_its_plan_and_gives_the_pictures_of_generate(
    diffusion_only: dict, home: Path, axes: dict
) -> None:
    fixed = {name: value for name, value in diffusion_only["fixed"].items() if name not in axes}
    wanted = {**diffusion_only, "axes": axes, "fixed": fixed}
    planned = plan(wanted, Store(None))
    run = sweep(wanted, on=fresh(home), quiet=True)
    executed, bench = last_session(run)["executed"], Bench(Store(None))
    assert executed["unet_evaluations"] == planned.to_json()["unet_evaluations"]
    assert executed["stages"] == {stage: len(jobs) for stage, jobs in planned.jobs.items()}
    for record in run.records()[:: max(1, len(planned.cells) // 5)]:
        bench.store = Store(None)  # the networks stay; nothing that was made before is found
        alone = bench.generate(Settings(**record["settings"]))
        assert sum(alone.counters["stages"].values()) == len(alone.stages)
        assert pixels_sha256(alone.image) == record["pixels_sha256"]


def test_at_a_fixed_batch_mates_do_not_matter(
    diffusion_only: dict, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every prompt, strength, CFG and step position in one batch of 3; then each strength in a sweep of its own."""
    calls = []
    real = denoising.Diffusion.evaluate

    def evaluate(self: Any, rows: Any, batch: int = 1) -> Any:
        calls.append((len(rows), batch, len({float(row.timesteps[row.done]) for row in rows})))
        return real(self, rows, batch)

    monkeypatch.setattr(denoising.Diffusion, "evaluate", evaluate)
    whole = sweep({**diffusion_only, "batch_size": 3}, on=fresh(home), quiet=True)
    assert {batch for _, batch, _ in calls} == {3}
    assert sum(n == 3 for n, _, _ in calls) > 0.8 * len(calls)  # batches are full but for the ends
    assert any(times > 1 for _, _, times in calls)  # rows at different steps shared a call
    want = {tuple(r["settings"].items()): r["pixels_sha256"] for r in whole.records()}
    for strength in (0.5, 0.2):
        alone = {
            **diffusion_only,
            "batch_size": 3,
            "seeds": [8],
            "fixed": {**diffusion_only["fixed"], "strength": strength},
        }
        alone["axes"] = {"refine_cfg": [6.0]}
        other = sweep(alone, on=Bench(Store(None)), quiet=True)
        for record in other.records():
            assert want[tuple(record["settings"].items())] == record["pixels_sha256"]
    one = sweep({**alone, "batch_size": 1, "seeds": [3, 8]}, on=fresh(home), quiet=True)
    assert last_session(one)["executed"]["stages"]["base"] == 4  # another batch size is another key: nothing is shared


def test_a_batch_that_does_not_fit_is_halved_and_recorded(
    diffusion_only: dict, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import UNet2DConditionModel

    real = UNet2DConditionModel.forward

    def small(self: Any, sample: Any, *rest: Any, **named: Any) -> Any:
        if len(sample) > 4 and sample.shape[-1] > 8:  # the refiner's pictures are larger
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, sample, *rest, **named)

    monkeypatch.setattr(UNet2DConditionModel, "forward", small)
    run = sweep({**diffusion_only, "batch_size": 8}, on=fresh(home), quiet=True)
    assert run.states()["failed"] == 0 and run.states()["to_do"] == 0
    assert run.batch() == {"base": 8, "refine": 2, "detail": 8}
    assert [note.split(": ")[1] for note in last_session(run)["notes"]] == [
        "the refine stage goes on with 4 pictures at a time.", "the refine stage goes on with 2 pictures at a time."
    ]  # fmt: skip
    assert last_session(run)["executed"]["stages"]["base"] == 4  # the base's own batch still fits
    assert all(record.get("batch") == {"base": 8, "refine": 2, "detail": 8} for record in run.records())
    bench = fresh(home)
    sweep({**diffusion_only, "batch_size": 8}, on=bench, quiet=True)
    assert bench.loaded == ()  # and it stays so when the sweep is run again


def test_one_cells_error_in_a_batch_is_its_own(
    diffusion_only: dict, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {**diffusion_only, "seeds": [3], "batch_size": 3}
    want = pixels(sweep(wanted, on=Bench(Store(None)), quiet=True))
    (next((home / "runs").iterdir())).rename(home / "runs" / "2000-01-01-other-00000000")
    real = denoising.Diffusion.evaluate

    def evaluate(self: Any, rows: Any, batch: int = 1) -> Any:
        if any(row.cfg == 6.0 and row.steps == 3 and row.done == 2 for row in rows):
            raise RuntimeError("the card fell off the bus")
        return real(self, rows, batch)

    monkeypatch.setattr(denoising.Diffusion, "evaluate", evaluate)
    run = sweep(wanted, on=fresh(home), quiet=True)
    bad = {r["cell"] for r in run.records() if r["status"] == "failed"}
    assert (
        bad
        == {r["cell"] for r in run.records() if r["settings"]["refine_cfg"] == 6.0 and r["settings"]["strength"] == 0.3}
        and len(bad) == 2
    )
    assert all(r["pixels_sha256"] == w for r, w in zip(run.records(), want, strict=True) if r["cell"] not in bad)


def test_scores_do_not_hold_up_the_next_step(diffusion_only: dict, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Denoising steps begin while a score is being made, on another thread."""
    scoring: list[tuple[float, float]] = []
    begun: list[float] = []
    threads: set[str] = set()
    score, step = scores.cell_scores, denoising.Diffusion.evaluate

    def slow(*pictures: Any) -> Any:
        threads.add(threading.current_thread().name)
        started = time.perf_counter()
        time.sleep(0.05)
        result = score(*pictures)
        scoring.append((started, time.perf_counter()))
        return result

    def evaluate(self: Any, rows: Any, batch: int = 1) -> Any:
        begun.append(time.perf_counter())
        time.sleep(0.02)
        return step(self, rows, batch)

    monkeypatch.setattr(scores, "cell_scores", slow)
    monkeypatch.setattr(denoising.Diffusion, "evaluate", evaluate)
    assert sweep({**diffusion_only, "seeds": [3]}, on=fresh(home), quiet=True).states()["to_do"] == 0
    assert threads and "MainThread" not in threads
    overlapped = sum(any(start < moment < end for moment in begun) for start, end in scoring)
    assert overlapped > len(scoring) / 2


def test_what_check_raises_comes_out_as_it_is(diffusion_only: dict, home: Path) -> None:
    class Enough(Exception):
        pass

    calls = iter(range(1000))

    def check() -> None:
        if next(calls) > 30:
            raise Enough

    with pytest.raises(Enough):
        sweep(diffusion_only, on=fresh(home), quiet=True, check=check)
    run = sweep(diffusion_only, on=fresh(home), quiet=True)
    assert run.states()["failed"] == 0
    assert 0 < last_session(run)["executed"]["unet_evaluations"]["refine"] < 4 * 27
