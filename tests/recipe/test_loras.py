"""LoRAs: the pixels of diffusers' own loading, for every way to name tensors; weights that move without loading; refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.checkpoints import pipelines_of, scaled
from support.loras import STYLES, write_lora

from workbench.errors import CorruptWeights, MissingWeights, SettingsError, WrongModel
from workbench.files import pixels_sha256
from workbench.models import Adapters, LoraFile, models_folder, pipelines
from workbench.presets import licences
from workbench.recipe import Bench, stage_keys
from workbench.recipe.stages import stage
from workbench.settings import Settings, stages
from workbench.store import Store
from workbench.sweeps.session import sweep

d: Any = diffusers


@pytest.fixture
def base(tiny_model: Path) -> Any:
    return pipelines_of(tiny_model)[0]


def put(name: str, base: Any, style: str = "kohya", **how: Any) -> Path:
    return write_lora(models_folder() / "loras" / f"{name}.safetensors", style, base, **how)


def made(s: Settings) -> list[str]:
    return [pixels_sha256(picture) for picture in Bench(Store(None)).generate(s).stages.values()]


def by_diffusers(base: Any, s: Settings, loras: dict[Path, float]) -> list[str]:
    """Hashes of base and of the hires fix by the base itself, with diffusers' own LoRA loading."""
    refines = d.StableDiffusionXLImg2ImgPipeline.from_pipe(base)
    for number, path in enumerate(loras):
        base.load_lora_weights(str(path), adapter_name=f"l{number}")
    base.set_adapters([f"l{n}" for n in range(len(loras))], [*loras.values()])
    for pipe in (base, refines):
        pipe.set_progress_bar_config(disable=True)
        pipe.scheduler = d.DPMSolverMultistepScheduler.from_config(pipe.scheduler.config, use_karras_sigmas=True)
    generator = torch.Generator("cpu").manual_seed(s.seed)
    words: dict[str, Any] = {"negative_prompt": s.negative_prompt, "generator": generator}
    one = base("a face", width=64, height=64, num_inference_steps=s.steps, guidance_scale=s.base_cfg, **words).images[0]
    two = refines(
        "a face", image=one.resize(s.hires_size, 1), strength=s.strength, num_inference_steps=s.refine_steps,
        guidance_scale=s.refine_cfg, **words,
    ).images[0]  # fmt: skip
    assert np.asarray(two).std() > 5
    return [pixels_sha256(one), pixels_sha256(two)]


@pytest.mark.parametrize("style", STYLES)
def test_every_style_gives_the_pixels_of_diffusers(style: str, tiny: Settings, base: Any) -> None:
    path = put("detail", base, style)
    s = tiny.replace(refiner="base", loras="detail.safetensors:0.8")
    ours = made(s)
    assert ours == by_diffusers(base, s, {path: 0.8})
    assert ours[0] != made(s.replace(loras=""))[0]
    assert ours == made(s.replace(loras="", prompt="a face <lora:detail:0.8>"))


def test_several_act_together(tiny: Settings, base: Any) -> None:
    first, second = put("detail", base), put("skin", base, "diffusers", seed=1)
    s = tiny.replace(refiner="base", loras="detail:0.8, skin:-0.4")
    assert made(s) == by_diffusers(base, s, {first: 0.8, second: -0.4})
    assert made(s) == made(s.replace(loras="detail:0.8", prompt="a face<lora:skin:-0.4>"))


def test_the_weight_is_what_the_trainer_meant(tiny: Settings, base: Any) -> None:
    """W + weight * alpha / rank * up @ down, put into the weights by hand: within the rounding of float32."""
    path = put("detail", base, "kohya", alpha=0.5)
    tensors = load_file(path)
    names = {f"lora_unet_{n.replace('.', '_')}": m for n, m in base.unet.named_modules()}
    for part, prefix in (("text_encoder", "lora_te1_"), ("text_encoder_2", "lora_te2_")):
        modules = {n.removeprefix("text_model."): m for n, m in getattr(base, part).named_modules()}
        names |= {f"{prefix}text_model_{n.replace('.', '_')}": m for n, m in modules.items()}
    layers = [name.removesuffix(".lora_down.weight") for name in tensors if name.endswith(".lora_down.weight")]
    assert len(layers) == 12
    for layer in layers:
        change = tensors[f"{layer}.lora_up.weight"] @ tensors[f"{layer}.lora_down.weight"]
        names[layer].weight.data += 0.8 * float(tensors[f"{layer}.alpha"]) / 2 * change
    base.set_progress_bar_config(disable=True)
    base.scheduler = d.DPMSolverMultistepScheduler.from_config(base.scheduler.config, use_karras_sigmas=True)
    s = tiny.replace(hires=False, loras="detail:0.8")
    want = np.asarray(base(
        "a face", negative_prompt=s.negative_prompt, width=64, height=64, num_inference_steps=s.steps,
        guidance_scale=s.base_cfg, generator=torch.Generator("cpu").manual_seed(s.seed),
    ).images[0]).astype(int)  # fmt: skip
    ours, without = (
        np.asarray(Bench(Store(None)).generate(each).image).astype(int) for each in (s, s.replace(loras=""))
    )
    assert np.abs(ours - want).max() <= 2 < np.abs(without - want).max()


def test_weight_0_is_the_picture_without_it(tiny: Settings, base: Any) -> None:
    put("detail", base)
    assert stage_keys(tiny.replace(loras="detail:0")) == stage_keys(tiny)
    bench = Bench(Store(None))
    s = tiny.replace(refiner="base")
    before, with_it, after = (
        [pixels_sha256(p) for p in bench.generate(s.replace(loras=loras)).stages.values()]
        for loras in ("", "detail:0.8", "detail:0")
    )
    assert before == after != with_it


def test_another_weight_loads_nothing(tiny: Settings, base: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    put("detail", base)
    put("skin", base, seed=1)
    bench = Bench(Store(None))
    bench.generate(tiny.replace(refiner="base", loras="detail:0.8, skin:1"))
    loaded = []
    monkeypatch.setattr(pipelines, "load_base", lambda *_: loaded.append("base"))
    monkeypatch.setattr(d.StableDiffusionXLPipeline, "lora_state_dict", lambda *_, **__: loaded.append("lora"))
    for loras in ("detail:0.4, skin:0.2", "skin:1", "", "detail:1"):
        s = tiny.replace(refiner="base", loras=loras)
        assert [pixels_sha256(p) for p in bench.generate(s).stages.values()]
    assert loaded == []


def test_the_order_of_pictures_does_not_matter(tiny: Settings, base: Any) -> None:
    """What acted in the picture before does not act in the next one, in the UNet or in a text encoder."""
    put("detail", base)
    put("skin", base, "text-only", seed=1)
    bench, want = Bench(Store(None)), {}
    for loras in ("detail:1", "skin:1", "", "detail:0.5, skin:0.5", "skin:1", "detail:1", ""):
        s = tiny.replace(refiner="base", loras=loras)
        want[loras] = want.get(loras) or made(s)
        bench.store = Store(None)  # else a picture of before would be found there
        assert [pixels_sha256(p) for p in bench.generate(s).stages.values()] == want[loras]


def test_a_refiner_takes_no_lora_and_that_is_said(tiny: Settings, base: Any) -> None:
    put("detail", base)
    s = tiny.replace(loras="detail:0.8")
    refine = stages()["refine"]
    assert refine.effective_settings(s) == refine.effective_settings(tiny)
    assert refine.notes(s) == ["the LoRAs (detail) do not act in SDXL's refiner; refiner = base refines with them"]
    assert refine.notes(s.replace(refiner="base")) == [] == stages()["base"].notes(s)
    ours = Bench(Store(None)).generate(s)  # the shared text encoder and VAE are as they were when the refiner reads
    assert pixels_sha256(ours.stages["base"]) == made(s.replace(hires=False))[0]
    alone = Bench(Store(None))
    alone.store.put(ours.keys["base"], _base_of(s), {})
    assert pixels_sha256(alone.generate(s).image) == pixels_sha256(ours.image)


def _base_of(s: Settings) -> Any:
    bench = Bench(Store(None))
    result = bench.generate(s.replace(hires=False))
    artefact = bench.store.get(result.keys["base"])
    assert artefact is not None
    return artefact


def test_another_checkpoint_refines_with_the_lora(tiny: Settings, tiny_model: Path, tmp_path: Path, base: Any) -> None:
    """The two share a text encoder, into which the LoRA goes once."""
    put("detail", base)
    other = Path(shutil.copytree(tiny_model / "base", tmp_path / "other"))
    scaled(other / "unet" / "diffusion_pytorch_model.safetensors", 1.1)
    s = tiny.replace(refiner=str(other), loras="detail:0.8")
    whole = made(s)
    assert whole[0] == made(s.replace(refiner="base"))[0] and whole[1] != made(s.replace(loras="detail:0.7"))[1]
    tagged = tiny.replace(refiner=str(other), hires_prompt="a face <lora:detail:0.8>")
    assert made(tagged)[0] == made(tiny)[0]
    bench = Bench(Store(None))
    bench.generate(tagged)
    assert [pixels_sha256(p) for p in bench.generate(s).stages.values()] == whole


def test_keys_have_the_file_and_the_weight(tiny: Settings, base: Any) -> None:
    put("detail", base)
    s = tiny.replace(loras="detail:0.8")
    keys = stage_keys(s)
    assert stage_keys(s.replace(loras="detail:0.7"))["base"] != keys["base"] != stage_keys(tiny)["base"]
    shutil.copy(models_folder() / "loras" / "detail.safetensors", models_folder() / "other.safetensors")
    assert stage_keys(s.replace(loras="other:0.8")) == keys  # its name is nothing to a picture
    assert stage_keys(s.replace(loras=f"{models_folder() / 'other.safetensors'}:0.8")) == keys
    put("detail", base, seed=5)
    assert stage_keys(s)["base"] != keys["base"]


def test_keys_have_the_libraries_that_only_some_pictures_need(
    tiny: Settings, base: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("detail", base)
    three = (tiny, tiny.replace(loras="detail:1"), tiny.replace(sampler="DPM++ SDE"))
    before = [stage_keys(s)["base"] for s in three]
    monkeypatch.setattr(stage, "_version", lambda name: f"{name} 99")
    assert [stage_keys(s)["base"] == key for s, key in zip(three, before, strict=True)] == [True, False, False]


def test_a_changed_file_is_loaded_anew(tiny: Settings, base: Any) -> None:
    put("detail", base)
    bench = Bench(Store(None))
    s = tiny.replace(hires=False, loras="detail:0.8")
    before = pixels_sha256(bench.generate(s).image)
    put("detail", base, seed=5)
    after = pixels_sha256(bench.generate(s).image)
    assert after == made(s)[0] != before


def test_rows_of_unlike_loras_share_no_call(tiny: Settings, base: Any, tmp_path: Path) -> None:
    """A sweep over a weight, in batches: each cell is what it is alone at that batch size, made from nothing."""
    put("detail", base)
    fixed = {n: v for n, (v, _) in tiny.replace(refiner="base").diff(Settings()).items() if n not in ("prompt", "seed")}
    spec = {
        "preset": "recommended",
        "prompts": ["a face"],
        "seeds": [3, 4],
        "axes": {"lora:detail": [0, 0.4, 0.8]},
        "fixed": fixed,
        "batch_size": 2,
    }
    run = sweep(spec, quiet=True)
    assert run.states()["done"] + run.states()["no_face"] == 6
    shown = {(r["settings"]["lora:detail"], r["settings"]["seed"]): r["pixels_sha256"] for r in run.records()}
    assert len(set(shown.values())) == 6
    for weight in (0, 0.4, 0.8):
        alone = sweep(
            {**spec, "name": f"alone{weight}", "axes": {}, "fixed": {**fixed, "loras": f"detail:{weight}"}},
            on=Bench(Store(tmp_path / f"store {weight}")), quiet=True,
        )  # fmt: skip
        assert {r["settings"]["seed"]: r["pixels_sha256"] for r in alone.records()} == {
            n: shown[weight, n] for n in (3, 4)
        }
    table = run.table()
    assert set(table["lora:detail"]) == {0.0, 0.4, 0.8} and set(run.summary().index) == {0.0, 0.4, 0.8}


# --- refusals --------------------------------------------------------------------------------------------------------


def zeros(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    return {name: torch.zeros(shape) for name, shape in shapes.items()}


K = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
MID, TE = "lora_unet_mid_block_attentions_0_proj_in", "lora_te_text_model_encoder_layers_0_mlp_fc1"
REFUSED: dict[str, tuple[dict[str, tuple[int, ...]], str]] = {
    "sd1": ({f"{K}.lora_down.weight": (2, 768), f"{K}.lora_up.weight": (16, 2)}, "made for Stable Diffusion 1.x"),
    "sdxl": (
        {f"{K}.lora_down.weight": (2, 2048), f"{K}.lora_up.weight": (16, 2)},
        "made for SDXL: its layers take text of",
    ),
    "te": ({f"{TE}.lora_down.weight": (2, 32), f"{TE}.lora_up.weight": (32, 2)}, "one text encoder"),
    "flux": ({"lora_unet_double_blocks_0_img_attn_proj.lora_down.weight": (2, 32)}, "made for Flux"),
    "loha": ({f"{MID}.hada_w1_a": (2, 16)}, "a LoHa"),
    "lokr": ({f"{MID}.lokr_w1": (2, 16)}, "a LoKr"),
    "dora": ({f"{MID}.dora_scale": (2, 16), f"{MID}.lora_down.weight": (2, 16)}, "a DoRA"),
    "none": ({"conv_in.weight": (2,)}, "is no LoRA"),
    "bare": (
        {"mid_block.proj_in.lora_A.weight": (2, 16), "mid_block.proj_in.lora_B.weight": (16, 2)},
        "belongs to no network",
    ),
    "half": ({f"{MID}.lora_down.weight": (2, 16)}, "it is damaged"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_before_anything_runs(name: str, tiny: Settings) -> None:
    tensors, said = REFUSED[name]
    path = models_folder() / "loras" / f"{name}.safetensors"
    path.parent.mkdir(parents=True)
    save_file(zeros(tensors), path)
    with pytest.raises((WrongModel, CorruptWeights)) as error:
        stage_keys(tiny.replace(loras=name))
    assert said in str(error.value) and path.name in str(error.value)
    assert stage_keys(tiny.replace(loras=f"{name}:0"))  # it does not act


TE2, MID_7 = "lora_te2_text_model_encoder_layers_0_mlp_fc1", MID.replace("0", "7")
FOREIGN: dict[str, dict[str, tuple[int, ...]]] = {  # it fits by its text, and not by its layers
    "layer": {f"{MID}.lora_down.weight": (2, 99), f"{MID}.lora_up.weight": (99, 2)},
    "nowhere": {f"{MID_7}.lora_down.weight": (2, 16), f"{MID_7}.lora_up.weight": (16, 2)},
    "te2": {f"{TE2}.lora_down.weight": (2, 1280), f"{TE2}.lora_up.weight": (5120, 2)},
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_lora_of_another_size_is_refused_and_leaves_nothing_behind(name: str, tiny: Settings, base: Any) -> None:
    path = put("mixed", base)
    save_file({**load_file(path), **zeros(FOREIGN[name])}, path)
    put("detail", base)
    bench, s, said = Bench(Store(None)), tiny.replace(refiner="base"), []
    want = {loras: made(s.replace(loras=loras)) for loras in ("", "detail:0.8")}
    for _ in range(2):
        with pytest.raises(WrongModel, match=r"mixed\.safetensors.* made for another") as error:
            bench.generate(s.replace(loras="mixed:1"))
        said.append(str(error.value))
        for loras, pictures in want.items():
            bench.store = Store(None)
            assert [pixels_sha256(p) for p in bench.generate(s.replace(loras=loras)).stages.values()] == pictures
    assert said[0] == said[1]


def test_a_lora_that_is_not_there_is_named(tiny: Settings, base: Any, tmp_path: Path) -> None:
    put("detail", base)
    for s in (tiny.replace(loras="detial:0.8"), tiny.replace(prompt="a face <lora:detial:0.8>")):
        with pytest.raises(
            MissingWeights, match=r"the LoRA 'detial' is not there: .*loras/detial\.safetensors.*Did you mean 'detail'"
        ):
            Bench(Store(None)).generate(s)
    (models_folder() / "loras" / "old.ckpt").write_bytes(b"x")
    with pytest.raises(WrongModel, match="pickle"):
        stage_keys(tiny.replace(loras="old:1"))
    for folder in ("one", "two"):
        write_lora(models_folder() / "loras" / folder / "deep.safetensors", "kohya", base)
    with pytest.raises(MissingWeights, match="several LoRAs 'deep'"):
        stage_keys(tiny.replace(loras="deep:1"))
    assert stage_keys(tiny.replace(loras="one/deep:1")) == stage_keys(tiny.replace(loras="two/deep:1"))


def test_its_licence_is_told(tiny: Settings, base: Any) -> None:
    path = put("detail", base)
    save_file(load_file(path), path, metadata={"modelspec.license": "CC-BY-NC-4.0"})
    (text,) = [text for text in licences(tiny.replace(loras="detail:0.8")) if "LoRA" in text]
    assert text.startswith("LoRA detail: CC-BY-NC-4.0; must not be put behind a service")
    assert not [text for text in licences(tiny.replace(loras="detail:0")) if "LoRA" in text]


def test_a_weight_is_a_setting_of_its_own() -> None:
    s = Settings(loras="a/detail.safetensors:0.8, skin:0.4")
    assert getattr(s, "lora:detail") == 0.8 and getattr(s, "lora:other") == 0.0
    assert s.replace(**{"lora:detail": 0.1, "lora:eyes": 1}).loras == "a/detail.safetensors:0.1, skin:0.4, eyes:1"
    with pytest.raises(SettingsError, match="lora:detail = 11"):
        s.replace(**{"lora:detail": 11})
    with pytest.raises(SettingsError, match="lora:detail = 'much'"):
        s.replace(**{"lora:detail": "much"})
    with pytest.raises(SettingsError, match="unknown setting 'loar:detail'"):
        s.replace(**{"loar:detail": 1})


def test_a_second_lora_leaves_the_first_as_it_was(base: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """transformers reports the first one's tensors as "newly initialized"."""
    files = [LoraFile(n, put(n, base, seed=i), n * 30, 0.8) for i, n in enumerate("ab")]
    adapters = Adapters()
    adapters.use(base, files[:1])
    parts = (base.text_encoder, base.text_encoder_2, base.unet)
    before = [{n: t.clone() for n, t in part.state_dict().items() if "lora_aaa" in n} for part in parts]
    capfd.readouterr()
    adapters.use(base, files)
    assert "MISSING" not in capfd.readouterr().err
    for part, tensors in zip(parts, before, strict=True):
        now = part.state_dict()
        assert tensors and all(torch.equal(tensor, now[name]) for name, tensor in tensors.items())


def test_alpha_of_diffusers_own_files_counts(tiny: Settings, base: Any) -> None:
    """It is in the file's metadata, and was ignored: 4 became 1."""
    path = put("detail", base, "diffusers")
    ranks = {
        f"{part}.{name}": value
        for part in ("unet", "text_encoder", "text_encoder_2")
        for name, value in (("r", 2), ("lora_alpha", 8))
    }
    lists = {f"{part}.target_modules": targets(path, part) for part in ("unet", "text_encoder", "text_encoder_2")}
    save_file(load_file(path), path, metadata={"lora_adapter_metadata": json.dumps({**ranks, **lists})})
    s = tiny.replace(refiner="base", loras="detail:0.2")
    ours = made(s)
    assert ours == by_diffusers(base, s, {path: 0.2})
    save_file(load_file(path), path)
    assert made(s) != ours


def targets(path: Path, part: str) -> list[str]:
    names = [
        name.removeprefix(f"{part}.") for name in load_file(path) if name.startswith(f"{part}.") and "lora_A" in name
    ]
    return [name.removesuffix(".lora_A.weight").removeprefix("text_model.") for name in names]


def test_one_file_under_two_names_is_refused(tiny: Settings, base: Any) -> None:
    shutil.copy(put("a", base), models_folder() / "loras" / "b.safetensors")
    with pytest.raises(SettingsError, match="'a' and 'b' are one and the same file"):
        stage_keys(tiny.replace(loras="a:0.3, b:0.7"))


def test_a_name_of_any_length_is_named(tiny: Settings) -> None:
    with pytest.raises(MissingWeights, match="is not there"):
        stage_keys(tiny.replace(loras="a" * 300 + ":1"))


def test_only_plain_names_are_weights() -> None:
    for name in ("lora:detail.safetensors", "lora:sub/detail", "lora:a,b", "lora:", "lora: detail"):
        with pytest.raises(SettingsError, match=r"is no weight; write the file's name alone, as in 'lora:"):
            Settings().replace(**{name: 0.5})
