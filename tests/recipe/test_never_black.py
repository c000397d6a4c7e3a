"""No picture of numbers that are none, and no fault that outlives its cause: what is tried after one works."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import load_file, save_file
from support.runs import fresh

from workbench.errors import NotFinite, OutOfMemory
from workbench.files import pixels_sha256
from workbench.models import Residency
from workbench.recipe import Bench
from workbench.settings import Settings
from workbench.store import Store
from workbench.sweeps.session import sweep


@pytest.fixture
def half(tiny: Settings, tiny_model: Path, tmp_path: Path) -> Settings:
    """Settings of a model in float16 whose VAE has to be float32 while it works, as SDXL's own."""
    model = Path(shutil.copytree(tiny_model, tmp_path / "half"))
    for part in ("base", "refiner"):
        config = model / part / "vae" / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "force_upcast": True}))
    return tiny.replace(model=str(model), dtype="float16")


def failing(times: int, real: Callable[..., Any], error: BaseException) -> Callable[..., Any]:
    """`real`, whose first calls raise an error."""
    left = [times]

    def call(*arguments: Any, **named: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise error
        return real(*arguments, **named)

    return call


def test_the_vae_works_in_float32_and_is_float16_beside(half: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, seen = Bench(Store(None)), []
    for name in ("encode", "decode"):
        real = getattr(AutoencoderKL, name)

        def call(self: Any, picture: Any, *rest: Any, real: Any = real, **named: Any) -> Any:
            seen.append({picture.dtype, *(p.dtype for p in self.parameters())})
            return real(self, picture, *rest, **named)

        monkeypatch.setattr(AutoencoderKL, name, call)
    bench.generate(half)
    assert seen == [{torch.float32}] * 3
    assert {p.dtype for p in bench.diffusion(half).base.vae.parameters()} == {torch.float16}


GOOD: dict[str, str] = {}  # {dtype: the pixels of `half`}, made once: the copies of the model are the same


@pytest.mark.parametrize(
    ("error", "times"), [(torch.OutOfMemoryError("CUDA out of memory"), len(Residency)), (KeyboardInterrupt(), 1)]
)
@pytest.mark.parametrize("call", ["encode", "decode"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_picture_after_a_failure_inside_the_vae_is_a_good_one(
    half: Settings, monkeypatch: pytest.MonkeyPatch, call: str, error: BaseException, times: int, dtype: str
) -> None:
    """It fails when no arrangement of networks has room for it.

    In bfloat16 diffusers' own encoding goes to float32 and back.
    """
    half = half.replace(dtype=dtype)
    if dtype not in GOOD:
        GOOD[dtype] = pixels_sha256(Bench(Store(None)).generate(half).image)
    bench = Bench(Store(None))
    monkeypatch.setattr(AutoencoderKL, call, failing(times, getattr(AutoencoderKL, call), error))
    with pytest.raises((OutOfMemory, KeyboardInterrupt)):
        bench.generate(half)
    assert {p.dtype for p in bench.diffusion(half).base.vae.parameters()} == {getattr(torch, dtype)}
    assert pixels_sha256(bench.generate(half).image) == GOOD[dtype]


@pytest.mark.parametrize(("times", "lost"), [(1, 0), (len(Residency) + 1, 6)])
def test_one_out_of_memory_costs_no_cell(
    half: Settings, spec: dict[str, Any], home: Path, monkeypatch: pytest.MonkeyPatch, times: int, lost: int
) -> None:
    """Of 12 cells 10 failed after one such error. Where it comes again, what cannot be made without that picture is named."""
    fixed = {**spec["fixed"], "model": half.model, "dtype": "float16", "restorer": "none"}
    twelve = {**spec, "fixed": fixed, "axes": {"strength": [0.3, 0.5], "refine_cfg": [1.0, 2.0, 6.0]}}
    error = torch.OutOfMemoryError("CUDA out of memory")
    monkeypatch.setattr(AutoencoderKL, "decode", failing(times, AutoencoderKL.decode, error))
    run = sweep(twelve, on=fresh(home), quiet=True)
    assert run.states() == {"done": 0, "no_face": 12 - lost, "failed": lost, "to_do": 0}
    reasons = {str(record["reason"]) for record in run.records() if record["status"] == "failed"}
    assert all("base: out of device memory while decoding 64x64" in reason for reason in reasons)
    assert sweep(twelve, on=fresh(home), quiet=True, retry_failed=True).states()["no_face"] == 12


def spoilt(model: Path, to: Path, file: str, tensor: str) -> Path:
    """A copy of a model one of whose tensors is NaN."""
    shutil.copytree(model, to)
    state = load_file(to / file)
    state[tensor] = state[tensor] * float("nan")
    save_file(state, to / file, metadata={"format": "pt"})
    return to


NETWORKS = {  # what says so, and the stages that are stored before
    ("base/unet", "conv_in.weight"): ("base, step 1 of 4: the UNet gave", []),
    ("refiner/unet", "conv_in.weight"): ("refine, step 1 of 4: the UNet gave", ["base"]),
    ("base/vae", "decoder.conv_in.weight"): ("base, decoding: the VAE gave", []),
    ("refiner/vae", "encoder.conv_in.weight"): ("refine, encoding: the VAE gave", ["base"]),
}


@pytest.mark.parametrize(("part", "tensor"), NETWORKS)
def test_numbers_that_are_none_make_no_picture(
    part: str, tensor: str, tiny: Settings, tiny_model: Path, tmp_path: Path, home: Path
) -> None:
    model = spoilt(tiny_model, tmp_path / "nan", f"{part}/diffusion_pytorch_model.safetensors", tensor)
    said, stored = NETWORKS[part, tensor]
    store = Store(home / "store")
    with pytest.raises(NotFinite, match=said):
        Bench(store).generate(tiny.replace(model=str(model)))
    assert [mark.stage for _, mark in store.marks(store.entries()) if mark] == stored


def test_a_later_step_is_named(tiny: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.recipe import denoising

    real = denoising.Diffusion.evaluate

    def evaluate(self: Any, rows: Any, batch: int = 1) -> Any:
        answers = real(self, rows, batch)
        return [(n, p * float("inf")) for n, p in answers] if rows[0].done == 2 else answers

    monkeypatch.setattr(denoising.Diffusion, "evaluate", evaluate)
    with pytest.raises(NotFinite, match="base, step 3 of 4"):
        Bench(Store(None)).generate(tiny)


def test_a_sweep_names_stage_and_step_and_makes_the_rest(
    spec: dict[str, Any], tiny: Settings, tiny_model: Path, tmp_path: Path, home: Path
) -> None:
    model = spoilt(tiny_model, tmp_path / "nan", "base/unet/diffusion_pytorch_model.safetensors", "conv_in.weight")
    fixed = {name: value for name, value in spec["fixed"].items() if name != "model"}
    both = {**spec, "axes": {"model": [tiny.model, str(model)]}, "fixed": fixed}
    run = sweep(both, on=fresh(home), quiet=True)
    reasons = {r["settings"]["model"]: r["reason"] for r in run.records()}
    assert run.states() == {"done": 0, "no_face": 2, "failed": 2, "to_do": 0} and reasons[tiny.model] is None
    assert str(reasons[str(model)]).startswith("base, step 1 of 4: the UNet gave numbers that are none")
    assert not any(
        Image.open(path).convert("L").getextrema() == (0, 0) for path in (run.path / "pictures").glob("*.png")
    )
