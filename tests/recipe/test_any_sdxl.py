"""Any SDXL through base and hires fix, pixel for pixel as a plain script of diffusers: forms, refiners, VAEs, precisions.

What is compared is loaded from the same files: tensors of a file that is mapped into memory lie where the file has them, and
on a CPU that may change a last bit (one pixel of 16,384 by one level here).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from support.checkpoints import FORMS, configs_beside, pipelines_of, pipes, scaled, write_form
from support.plain import plain_recipe
from support.runs import fresh

from experiments.benchmarks.single_files import single_file, vae_tensors, write
from workbench.errors import MissingWeights, SettingsError, WrongModel
from workbench.files import pixels_sha256
from workbench.models import model_path
from workbench.presets import load_preset
from workbench.recipe import Bench, stage_keys
from workbench.settings import Settings
from workbench.store import Store
from workbench.sweeps.session import last_session, sweep

d: Any = diffusers
UNET = "unet/diffusion_pytorch_model.safetensors"


def script(base: Any, refines: Any, s: Settings) -> list[Image.Image]:
    """The recipe as a user of diffusers would write it."""
    for pipe in (base, refines):
        pipe.scheduler = d.DPMSolverMultistepScheduler.from_config(pipe.scheduler.config, use_karras_sigmas=True)
    return list(plain_recipe(base, refines, s))


def made(s: Settings) -> list[Image.Image]:
    return list(Bench(Store(None)).generate(s).stages.values())


def same(ours: list[Image.Image], theirs: list[Image.Image]) -> bool:
    assert np.asarray(theirs[-1]).std() > 5  # a grey picture would equal any other
    return [pixels_sha256(p) for p in ours] == [pixels_sha256(p) for p in theirs]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_makes_the_pixels_of_plain_diffusers(
    form: str, tiny: Settings, tiny_model: Path, tmp_path: Path
) -> None:
    model, refiner = write_form(form, tiny_model, tmp_path / "form")
    base, refines = pipes(form, model, refiner)
    named = "auto" if refiner == model else str(refiner)
    assert same(made(tiny.replace(model=str(model), refiner=named)), script(base, refines, tiny))


def test_the_base_refines_as_from_pipe(tiny: Settings, tiny_model: Path, tmp_path: Path) -> None:
    """One checkpoint for both passes, as nearly everybody works: also where there is no refiner, and none is named."""
    model, _ = write_form("single-file", tiny_model, tmp_path / "form")
    base, _ = pipes("single-file", model, model)
    want = script(base, d.StableDiffusionXLImg2ImgPipeline.from_pipe(base), tiny)
    for named in ("base", "auto", str(model)):
        s = tiny.replace(model=str(model), refiner=named)
        assert same(made(s), want)
        assert stage_keys(s) == stage_keys(s.replace(refiner="base"))


def test_a_model_with_a_refiner_may_leave_it(tiny: Settings, tiny_model: Path) -> None:
    base, _ = pipelines_of(tiny_model)
    want = script(base, d.StableDiffusionXLImg2ImgPipeline.from_pipe(base), tiny)
    assert same(made(tiny.replace(refiner="base")), want)
    assert stage_keys(tiny.replace(refiner="base"))["refine"] != stage_keys(tiny)["refine"]


def test_the_base_is_in_memory_once_and_reads_the_prompts_once(tiny: Settings) -> None:
    bench = Bench(Store(None))
    counters = bench.generate(tiny.replace(refiner="base")).counters
    assert counters["calls"]["prompt_encodes"] == 1 and counters["unet_evaluations"] == {
        "base": 4,
        "refine": 4,
        "detail": 0,
    }
    held = bench.diffusion(tiny)
    assert held.refiner(tiny.replace(refiner="base")).unet is held.base.unet


def test_another_checkpoint_refines_with_its_own_encoders_and_vae(
    tiny: Settings, tiny_model: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(tiny_model, tmp_path / "other"))
    shutil.rmtree(other / "refiner")
    for file in (other / "base").glob("*/*.safetensors"):
        scaled(file, 1.01)
    plain = d.StableDiffusionXLPipeline.from_pretrained(other / "base", local_files_only=True)
    base, _ = pipelines_of(tiny_model)
    refines = d.StableDiffusionXLImg2ImgPipeline(**plain.components, add_watermarker=False)
    assert same(made(tiny.replace(refiner=str(other))), script(base, refines, tiny))


def test_a_tuned_encoder_of_the_refiner_is_used(tiny: Settings, tiny_model: Path, tmp_path: Path) -> None:
    tuned = Path(shutil.copytree(tiny_model, tmp_path / "tuned"))
    scaled(tuned / "refiner" / "text_encoder_2" / "model.safetensors", 1.2)
    ours = made(tiny.replace(model=str(tuned)))
    assert same(ours, script(*pipelines_of(tuned), tiny)) and ours[-1] != made(tiny)[-1]


def test_v_prediction_makes_other_pixels_than_epsilon(tiny: Settings, tiny_model: Path, tmp_path: Path) -> None:
    said = {"modelspec.prediction_type": "v"}
    file = single_file(pipelines_of(tiny_model)[0], tmp_path / "v.safetensors", torch.float32, metadata=said)
    configs_beside(file, tiny_model / "base")
    base, _ = pipes("single-file", file, file)
    base.scheduler = type(base.scheduler).from_config(base.scheduler.config, prediction_type="v_prediction")
    want = script(base, d.StableDiffusionXLImg2ImgPipeline.from_pipe(base), tiny)
    assert same(made(tiny.replace(model=str(file))), want)
    assert want != made(tiny.replace(refiner="base"))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("upcast", [False, True])
def test_a_precision_makes_the_pixels_of_plain_diffusers(
    dtype: str, upcast: bool, tiny: Settings, tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny_model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    for part in ("base", "refiner"):
        config = tiny_model / part / "vae" / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "force_upcast": upcast}))
    tiny = tiny.replace(model=str(tiny_model))
    ours = made(tiny.replace(dtype=dtype))
    assert "should be kept in float32" not in caplog.text
    kind = getattr(torch, dtype)
    how: dict[str, Any] = {"dtype": kind, "local_files_only": True}
    base = d.StableDiffusionXLPipeline.from_pretrained(tiny_model / "base", **how)
    refines = d.StableDiffusionXLImg2ImgPipeline.from_pretrained(tiny_model / "refiner", **how)
    assert same(ours, script(base, refines, tiny))


def test_the_embedded_model_as_one_file_gives_the_same_pixels(tmp_path: Path) -> None:
    folder = model_path("embedded")
    named = {}
    for part, pipe in zip(("base", "refiner"), pipelines_of(folder, torch.float16), strict=True):
        if part == "base":  # its text encoders are float32
            pipe.text_encoder = pipelines_of(folder)[0].text_encoder
        pipe.text_encoder_2 = pipelines_of(folder)[0].text_encoder_2
        named[part] = str(single_file(pipe, tmp_path / f"{part}.safetensors", None))
        configs_beside(Path(named[part]), folder / part)
    s = load_preset("embedded").settings.replace(steps=6, refine_steps=8, strength=0.4, restorer="none", seed=3)
    assert same(made(s.replace(model=named["base"], refiner=named["refiner"])), made(s))


def test_the_precision_is_in_the_keys(tiny: Settings) -> None:
    keys = {name: stage_keys(tiny.replace(dtype=name)) for name in ("auto", "float32", "bfloat16", "float16")}
    assert keys["auto"] == keys["float32"]  # on the CPU
    assert len({key["base"] for key in keys.values()}) == len({key["refine"] for key in keys.values()}) == 3


def test_a_vae_counts_in_both_passes(tiny: Settings, tiny_model: Path, tmp_path: Path) -> None:
    base, refines = pipelines_of(tiny_model)
    state = {n: t * 1.01 if n.startswith("decoder") else t for n, t in base.vae.state_dict().items()}
    base.vae.load_state_dict(state)
    refines.vae = base.vae
    file = write(vae_tensors(base.vae), tmp_path / "vae.safetensors", torch.float32)
    assert same(made(tiny.replace(vae=str(file))), script(base, refines, tiny))


def test_a_refiner_is_needed_only_when_it_runs(tiny: Settings, tiny_model: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    (model / "refiner" / UNET).write_bytes(b"damaged")
    s = tiny.replace(model=str(model))
    assert pixels_sha256(made(s.replace(hires=False))[0]) == pixels_sha256(made(tiny)[0])
    with pytest.raises(MissingWeights, match="the model 'nowhere' is not there"):
        made(tiny.replace(refiner="nowhere"))
    made(tiny.replace(refiner="nowhere", hires=False))


def test_a_sweep_loads_a_refiner_anew_that_was_exchanged_before_it(
    spec: dict[str, Any], tiny: Settings, tiny_model: Path, tmp_path: Path, home: Path
) -> None:
    """It begins with base pictures, and goes on to refine them with the networks that it has been given for these."""
    other = Path(shutil.copytree(tiny_model, tmp_path / "other"))
    on = fresh(home)
    on.generate(tiny.replace(refiner=str(other)))
    scaled(other / "refiner" / UNET, 1.01)
    fixed = {**spec["fixed"], "refiner": str(other), "restorer": "none"}
    run = sweep({**spec, "seeds": [5], "fixed": fixed, "axes": {"refine_cfg": [2.0]}}, on=on, quiet=True)
    for record in run.records():
        alone = Bench(Store(None)).generate(Settings(**record["settings"]))
        assert record["pixels_sha256"] == pixels_sha256(alone.image)


@pytest.mark.parametrize("hires", [True, False])
def test_no_refiner_is_no_refiner_that_is_named(tiny: Settings, hires: bool) -> None:
    with pytest.raises(SettingsError, match="use hires = false to leave the hires fix out, or refiner = base"):
        tiny.replace(refiner="none", hires=hires)


def test_what_cannot_refine_is_told(tiny: Settings, tiny_model: Path, tmp_path: Path) -> None:
    lora = write({"lora_unet_a.lora_up.weight": torch.zeros(2, 2)}, tmp_path / "skin.safetensors", torch.float16)
    with pytest.raises(WrongModel, match="is a LoRA"):
        made(tiny.replace(refiner=str(lora)))


def test_changing_the_refiner_leaves_the_base_in_memory(tiny: Settings, tiny_model: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(tiny_model, tmp_path / "other"))
    for file in (other / "refiner").glob("*/*.safetensors"):  # its own texts and latents, too
        scaled(file, 1.05)
    bench = Bench(Store(None))
    pictures, held = [], set()
    for named in ("auto", "base", str(other), "auto", "base", str(other)):
        pictures.append(pixels_sha256(bench.generate(tiny.replace(refiner=named)).image))
        held.add(id(bench.diffusion(tiny).base.unet))
    assert len(held) == 1 and bench.ran["base"] == 1
    assert pictures[:3] == pictures[3:] and len(set(pictures)) == 3
    for named, picture in zip(("auto", "base", str(other)), pictures, strict=False):
        assert picture == pixels_sha256(Bench(Store(None)).generate(tiny.replace(refiner=named)).image)


def test_a_refiner_that_was_exchanged_is_loaded_anew(tiny: Settings, tiny_model: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(tiny_model, tmp_path / "other"))
    s, bench = tiny.replace(refiner=str(other)), Bench(Store(None))
    before = pixels_sha256(bench.generate(s).image)
    scaled(other / "refiner" / UNET, 1.01)
    after = pixels_sha256(bench.generate(s).image)
    assert before != after == pixels_sha256(Bench(Store(None)).generate(s).image) and bench.ran["base"] == 1


def test_the_refiner_is_an_axis(
    spec: dict[str, Any], tiny: Settings, tiny_model: Path, tmp_path: Path, home: Path
) -> None:
    """Each picture as made alone, whatever ran beside it, and every call of the plan's minimum once."""
    other = Path(shutil.copytree(tiny_model, tmp_path / "other"))
    scaled(other / "refiner" / UNET, 1.01)
    axes = {"refiner": ["auto", "base", str(other)], "refine_cfg": [1.0, 3.0]}
    run = sweep({**spec, "fixed": {**spec["fixed"], "restorer": "none"}, "axes": axes}, on=fresh(home), quiet=True)
    benches = {named: Bench(Store(None)) for named in axes["refiner"]}
    for record in run.records():
        bench = benches[record["settings"]["refiner"]]
        bench.store = Store(None)  # its networks stay; nothing that was made before is found
        alone = bench.generate(Settings(**record["settings"]))
        assert alone.counters["stages"]["base"] == alone.counters["stages"]["refine"] == 1
        assert record["pixels_sha256"] == pixels_sha256(alone.image)
    session = last_session(run)
    assert len({record["pixels_sha256"] for record in run.records()}) == len(run.records()) == 12
    assert session["executed"]["unet_evaluations"] == session["unet_evaluations"]
