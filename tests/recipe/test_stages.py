"""Parity: the stages equal a plain script that calls diffusers itself, bit for bit; keys say what the stages do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UniPCMultistepScheduler,
)
from PIL import Image
from support.plain import plain_recipe

from workbench.errors import Cancelled
from workbench.models import codeformer, retinaface
from workbench.recipe.faces import align, find_faces, paste
from workbench.recipe.keys import stage_keys, stage_named
from workbench.recipe.pipeline import Bench
from workbench.settings import Settings
from workbench.store.store import Artefact, Store

SCHEDULERS = {
    "DPM++ 2M Karras": lambda config: DPMSolverMultistepScheduler.from_config(config, use_karras_sigmas=True),
    "Euler a": EulerAncestralDiscreteScheduler.from_config,
    "UniPC": UniPCMultistepScheduler.from_config,
    "DDIM": DDIMScheduler.from_config,
}


def plain_script(model: Path, s: Settings) -> tuple[Image.Image, Image.Image]:
    """The recipe as a user of diffusers would write it, with nothing of ours."""
    base: Any = StableDiffusionXLPipeline.from_pretrained(model / "base")
    refiner: Any = StableDiffusionXLImg2ImgPipeline.from_pretrained(
        model / "refiner", text_encoder_2=base.text_encoder_2, vae=base.vae
    )
    for pipe in (base, refiner):
        pipe.scheduler = SCHEDULERS[s.sampler](pipe.scheduler.config)
    return plain_recipe(base, refiner, s)


@pytest.mark.parametrize("sampler", SCHEDULERS)
@pytest.mark.parametrize("cfg", [1.0, 6.5])
def test_base_and_refine_equal_the_plain_pipelines(
    tiny: Settings, tiny_model: Path, bench: Bench, sampler: str, cfg: float
):
    settings = tiny.replace(sampler=sampler, cfg=cfg, seed=11)
    result = bench.generate(settings)
    first, second = plain_script(tiny_model, settings)
    assert np.array_equal(np.asarray(result.stages["base"]), np.asarray(first))
    assert np.array_equal(np.asarray(result.stages["refine"]), np.asarray(second))
    assert np.asarray(second).std() > 5  # a grey picture would equal any other


def test_refine_equals_the_plain_pipeline_when_the_base_comes_from_disk(tiny: Settings, tiny_model: Path, home: Path):
    """The generator goes on where the base left it, also when the base was made by another process yesterday."""
    Bench(Store(home / "store")).generate(tiny.replace(hires=False, sampler="Euler a"))
    result = Bench(Store(home / "store")).generate(tiny.replace(sampler="Euler a"))
    assert result.counters["stages"] == {"base": 0, "refine": 1, "detail": 0, "faces": 0, "upscale": 0}
    _, second = plain_script(tiny_model, tiny.replace(sampler="Euler a"))
    assert np.array_equal(np.asarray(result.image), np.asarray(second))


def test_other_samplers_before_it_leave_no_trace(tiny: Settings, tiny_model: Path) -> None:
    bench = Bench(Store(None))
    for sampler in ("UniPC", "DPM++ 2M SDE Karras", "DDIM"):
        bench.generate(tiny.replace(sampler=sampler))
    _, second = plain_script(tiny_model, tiny)
    assert np.array_equal(np.asarray(bench.generate(tiny).image), np.asarray(second))


def test_faces_stage_is_codeformer_on_the_aligned_crop(bench: Bench, astronaut: Image.Image, tiny: Settings) -> None:
    from workbench.recipe.restoration import RestoreFaces

    settings = tiny.replace(restorer="codeformer", weight=0.3)
    out = RestoreFaces(settings)(Artefact(astronaut), settings, lambda *_: None)
    assert len(out.info["faces"]) == 1
    face = find_faces(astronaut, retinaface.load_retinaface())[0]
    crop, matrix = align(np.asarray(astronaut), face)
    net = codeformer.load_codeformer()
    with torch.inference_mode():
        x = torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 127.5 - 1
        y = net(x, weight=0.3)[0][0]
    restored = ((y.clamp(-1, 1) + 1) / 2 * 255).round().byte().permute(1, 2, 0).numpy()
    difference = np.abs(np.asarray(out.image, int) - np.asarray(paste(astronaut, restored, matrix), int))
    assert difference.max() <= 1  # x / 127.5 - 1 and (x / 255 - .5) / .5 may round apart


def test_a_picture_without_a_face_is_a_result(bench: Bench, tiny: Settings) -> None:
    result = bench.generate(tiny.replace(restorer="codeformer"))
    assert result.info["faces"]["faces"] == []
    assert np.array_equal(np.asarray(result.image), np.asarray(result.stages["refine"]))


def test_upscale_halves_the_x4_network(tiny: Settings) -> None:
    from workbench.recipe.restoration import Enlarge

    picture = Image.effect_noise((24, 16), 60).convert("RGB")
    settings = tiny.replace(upscaler="realesr-animevideov3", upscale_factor=4)
    stage = Enlarge(settings)
    four = stage(Artefact(picture), settings, lambda *_: None).image
    two = stage(Artefact(picture), settings.replace(upscale_factor=2), lambda *_: None).image
    assert (four.size, two.size) == ((96, 64), (48, 32))
    assert np.array_equal(np.asarray(two), np.asarray(four.resize((48, 32), Image.Resampling.LANCZOS)))


@pytest.mark.parametrize(("stage", "at"), [("base", 2), ("refine", 1), ("faces", 0)])
def test_cancel_within_one_step(bench: Bench, tiny: Settings, stage: str, at: int) -> None:
    seen = []

    def report(name: str, done: int, total: int) -> None:
        seen.append((name, done))
        if (name, done) == (stage, at):
            raise Cancelled("stop")

    settings = tiny.replace(restorer="codeformer")
    with pytest.raises(Cancelled):
        bench.generate(settings, report)
    assert seen[-1] == (stage, at)
    before = bench.counters()["unet_evaluations"]
    assert before[stage] == at if stage != "faces" else True
    assert bench.generate(settings).keys == stage_keys(settings)  # and nothing is broken by it


def test_out_of_memory_is_one_sentence_with_a_remedy(
    bench: Bench, tiny: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workbench.errors import OutOfMemory

    bench.generate(tiny)

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(bench.diffusion(tiny).refiner(tiny).unet, "forward", full)
    with pytest.raises(OutOfMemory, match=r"denoising 128x128; lower width"):
        bench.generate(tiny.replace(strength=0.5))


BASE = Settings(model="embedded")


@pytest.mark.parametrize(
    ("changes", "changed"),
    [
        ({"weight": 0.1}, {"faces"}),
        ({"strength": 0.5}, {"refine", "faces"}),
        ({"refine_cfg": 3.0}, {"refine", "faces"}),
        ({"hires_scale": 2.0}, {"refine", "faces"}),
        ({"resampler": "bicubic"}, {"refine", "faces"}),
        ({"seed": 1}, {"base", "refine", "faces"}),
        ({"prompt": "x"}, {"base", "refine", "faces"}),
        ({"sampler": "Euler"}, {"base", "refine", "faces"}),
        ({"upscale_factor": 4}, set()),
    ],
)
def test_a_setting_changes_the_keys_from_its_stage_on(changes: dict, changed: set[str]) -> None:
    before, after = stage_keys(BASE), stage_keys(BASE.replace(**changes))
    assert {name for name in before if before[name] != after[name]} == changed


def test_what_does_nothing_changes_no_key() -> None:
    assert stage_keys(BASE.replace(strength=0.36)) == stage_keys(BASE.replace(strength=0.37))
    off, base = BASE.replace(cfg=1), stage_named("base")
    assert base.effective_settings(off) == base.effective_settings(off.replace(negative_prompt="other"))
    assert stage_keys(BASE.replace(hires=False)) == stage_keys(BASE.replace(hires=False, strength=0.9, refine_cfg=2))


def test_threads_are_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = stage_keys(BASE)
    monkeypatch.setenv("WORKBENCH_THREADS", "2")
    assert stage_keys(BASE)["base"] != before["base"]


@pytest.mark.slow
def test_restore_stage_runs_with_codeformer_at_full_size(
    tiny: Settings, tiny_model: Path, astronaut: Image.Image, tmp_path
):
    """codeformer.pth as released, in everything but its numbers: 94 M random weights through the stage, end to end."""
    import shutil

    from spandrel_extra_arches.architectures.CodeFormer import CodeFormer

    from workbench.recipe.restoration import RestoreFaces

    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    shutil.rmtree(model / "restorer")
    (model / "restorer").mkdir()
    torch.manual_seed(0)
    net = CodeFormer(dim_embd=512, codebook_size=1024, n_head=8, n_layers=9, connect_list=["32", "64", "128", "256"])
    torch.save({"params_ema": net.state_dict()}, model / "restorer" / "codeformer.pth")
    settings = tiny.replace(model=str(model), restorer="codeformer", weight=0.5)
    out = RestoreFaces(settings)(Artefact(astronaut), settings, lambda *_: None)
    changed = (np.asarray(out.image) != np.asarray(astronaut)).any(axis=2)
    x0, y0, x1, y1 = out.info["faces"][0]["box"]
    assert changed[int(y0) : int(y1), int(x0) : int(x1)].mean() > 0.9  # the face was replaced,
    assert not changed[400:].any()  # and nothing else
