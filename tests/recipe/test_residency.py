"""Networks take turns on the device, and no pixel knows."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from support.card import card, networks, weights
from support.loras import write_lora
from support.runs import fresh

from workbench.errors import CorruptWeights, OutOfMemory
from workbench.files import pixels_sha256
from workbench.models import FILL, Residency, Sdxl, models_folder, peak, pipelines, process
from workbench.recipe import Bench, Diffusion, memory_plan, plan_memory, stage_keys
from workbench.recipe.pipeline import generate
from workbench.settings import Settings
from workbench.store import Store
from workbench.sweeps import last_session, plan, sweep


def made(s: Settings, bench: Bench | None = None) -> list[str]:
    result = (bench or Bench(Store(None))).generate(s)
    return [pixels_sha256(picture) for picture in result.stages.values()]


def just_fits(s: Settings, residency: Residency, monkeypatch: pytest.MonkeyPatch) -> int:
    """Let there be as much memory as this arrangement needs."""
    monkeypatch.delenv("WORKBENCH_MAX_MEMORY", raising=False)
    size = int(peak(residency, plan_memory(s).uses) / FILL) + 1
    monkeypatch.setenv("WORKBENCH_MAX_MEMORY", f"{size}B")
    return size


@pytest.fixture
def tiny(tiny: Settings) -> Settings:
    """In few steps: networks come and go all the same."""
    return tiny.replace(steps=2, refine_steps=5)


@pytest.fixture(params=["base refines", "float16", "lora", "named vae"])
def s(request: pytest.FixtureRequest, tiny: Settings, tiny_model: Path, tmp_path: Path) -> Settings:
    if request.param == "base refines":
        return tiny.replace(refiner="base")
    if request.param == "named vae":
        return tiny.replace(vae=str(tiny_model / "base" / "vae"))
    if request.param == "lora":
        base = pipelines.load_base(Sdxl(str(tiny_model), "", "base", "float32"))
        write_lora(models_folder() / "loras" / "detail.safetensors", "kohya", base)
        return tiny.replace(refiner="base", loras="detail:0.5")
    model = Path(shutil.copytree(tiny_model, tmp_path / "half"))  # with a VAE that works in float32, as SDXL's own
    for part in ("base", "refiner"):
        config = model / part / "vae" / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "force_upcast": True}))
    return tiny.replace(model=str(model), dtype="float16")


def arranged(s: Settings, residency: Residency) -> Bench:
    """A bench whose device has held no more since it first ran out of memory."""
    bench = Bench(Store(None))
    bench.diffusion(s)._least = residency
    return bench


def test_every_arrangement_makes_the_same_pictures(tiny: Settings) -> None:
    further = tiny.replace(prompt="a lake", strength=0.6)
    plain = Bench(Store(None))
    want, after = made(tiny, plain), made(further, plain)
    for residency in list(Residency)[1:]:
        bench = arranged(tiny, residency)
        assert made(tiny, bench) == want and bench.diffusion(tiny).residency is residency
        assert made(further, bench) == after  # what had left has come back


def test_one_network_at_a_time_makes_the_same_pictures_of_every_model(s: Settings) -> None:
    bench = arranged(s, Residency.ONE_NETWORK)
    assert made(s, bench) == made(s)


@pytest.mark.parametrize("residency", Residency)
def test_no_more_is_on_the_device_than_was_estimated(
    residency: Residency, tiny: Settings, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    just_fits(tiny, residency, monkeypatch)
    uses = plan_memory(tiny).uses
    with card(bench) as seen:
        bench.generate(tiny)
        bench.generate(tiny.replace(prompt="a lake"))  # the encoders come back beside what is there
    most = peak(residency, [type(use)(use.role, use.networks) for use in uses])
    found = max(sum(each.values()) for each in seen)
    # no picture made alone reads base's prompts beside base's UNet, as those of a sweep do
    assert len(seen) > 10 and (found < most if residency is Residency.ONE_PART else found == most)
    together = {Residency.ALL: 5, Residency.ENCODERS_LEAVE: 5, Residency.ONE_PART: 2, Residency.ONE_NETWORK: 2}
    assert max(map(len, seen)) == together[residency]


def test_a_limit_is_explained_once_in_a_line(
    tiny: Settings, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory_plan, "_told", set())
    generate(tiny)
    assert "memory:" not in capsys.readouterr().err
    just_fits(tiny, Residency.ONE_NETWORK, monkeypatch)
    generate(tiny)
    generate(tiny.replace(seed=5))
    said = [line for line in capsys.readouterr().err.splitlines() if "memory:" in line]
    assert len(said) == 1 and "one network at a time is on the device" in said[0]


def test_out_of_memory_lets_networks_leave_and_goes_on(
    tiny: Settings, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    want = made(tiny)
    with card(bench) as seen:
        bench.generate(tiny.replace(seed=1))
    largest = max(size for each in seen for size in each.values())
    held = Bench(Store(None))
    with card(held, holds=2 * largest - 1):
        assert made(tiny, held) == want
    assert held.diffusion(tiny).residency > Residency.ALL
    assert "the device's memory ran out; from now on" in capsys.readouterr().err


def test_what_does_not_fit_alone_says_so(tiny: Settings, bench: Bench) -> None:
    with card(bench, holds=1), pytest.raises(OutOfMemory, match=r"no other network of SDXL was left on it"):
        bench.generate(tiny)
    assert bench.diffusion(tiny).residency is Residency.ONE_NETWORK
    assert made(tiny, bench) == made(tiny)  # and on a larger one it works


def test_a_sweep_on_a_card_too_small_for_all_fails_no_cell_and_keeps_its_batch(
    spec: dict[str, Any], home: Path, tiny: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {**spec, "batch_size": 2, "fixed": {**spec["fixed"], "restorer": "none"}}
    wanted["axes"] = {"strength": [0.3, 0.5], "refine_cfg": [2.0, 6.0]}
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("WORKBENCH_HOME", str(home / "elsewhere"))
        want = [record["pixels_sha256"] for record in sweep(wanted, on=Bench(Store(None)), quiet=True).records()]
    bench = fresh(home)
    with card(bench) as seen:
        bench.generate(tiny.replace(seed=77))
    small = fresh(home)
    with card(small, holds=sum(seen[-1].values()) * 0.6) as seen:
        run = sweep(wanted, on=small, quiet=True)
    assert [record["pixels_sha256"] for record in run.records()] == want
    assert run.states()["failed"] == 0 and last_session(run)["notes"] == []
    assert small.diffusion(tiny).residency > Residency.ALL and run.batch() == {"base": 2, "refine": 2, "detail": 2}


def test_a_plan_says_which_networks_stay(spec: dict[str, Any], tiny: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    without = {**spec, "fixed": {**spec["fixed"], "restorer": "none"}}
    assert plan(without).to_json()["peak_memory"]["residency"] == "all"
    all_at_once = plan(without).to_json()["peak_memory"]["bytes"]
    just_fits(tiny, Residency.ONE_PART, monkeypatch)
    found = plan(without).to_json()["peak_memory"]
    assert found["residency"] == "one part" and found["bytes"] < all_at_once


def test_networks_that_have_left_are_not_read_from_another_file(
    tiny: Settings, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = tiny.replace(model=str(shutil.copytree(tiny_model, tmp_path / "changed")))
    just_fits(s, Residency.ONE_NETWORK, monkeypatch)
    diffusion = Bench(Store(None)).diffusion(s)
    diffusion.settle(Residency.ONE_NETWORK)
    _ = diffusion.base
    file = tmp_path / "changed" / "base" / "unet" / "diffusion_pytorch_model.safetensors"
    os.utime(file, (1, 1))
    diffusion._placement.bring(("base", "vae"))
    with pytest.raises(CorruptWeights, match="has changed since"):
        diffusion._placement.bring(("base", "unet"))


def test_all_can_be_taken_off_and_come_back(tiny: Settings, bench: Bench) -> None:
    first = made(tiny, bench)
    diffusion = bench.diffusion(tiny)
    assert weights(bench) and diffusion.unload() and not weights(bench)
    assert not diffusion.unload()
    assert made(tiny.replace(seed=9), bench) == made(tiny.replace(seed=9)) and made(tiny, bench) == first
    assert all(isinstance(network, torch.nn.Module) for network in networks(bench).values())


def test_whoever_makes_room_keeps_nobody_from_loading(tiny: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread made room while it was alone, another loaded while it worked: each waited for the other for ever."""
    alone: list[bool] = []

    def make_way(diffusion: Diffusion, stage: str) -> None:
        alone.append(process._alone._is_owned())  # type: ignore[attr-defined]

    monkeypatch.setattr(Diffusion, "make_way", make_way)
    Bench(Store(None)).generate(tiny.replace(restorer="codeformer"))
    assert alone and not any(alone)


def test_the_vae_works_in_tiles_only_where_the_settings_say_so(tiny: Settings) -> None:
    """It gives other pixels, so its pictures have keys of their own; those of before keep theirs."""
    tiled = tiny.replace(vae_tiling=True)
    assert stage_keys(tiny) == stage_keys(tiny.replace(vae_tiling=False))
    assert not set(stage_keys(tiny).values()) & set(stage_keys(tiled).values())
    bench = Bench(Store(None))
    whole, picture = (bench.generate(s).image for s in (tiny, tiled))
    assert pixels_sha256(picture) != pixels_sha256(whole)
    assert [bench.diffusion(each).base.vae.use_tiling for each in (tiny, tiled)] == [False, True]
