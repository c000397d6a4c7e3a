"""What a model is, told from its header or its configs: every kind a sentence, nothing loaded, no torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.checkpoints import configs_beside, header_only, write_form

import workbench as wb
from workbench.errors import MissingWeights, WrongModel
from workbench.models import list_models
from workbench.models.finding import base_of, model_path

UNET = "model.diffusion_model."
FIRST, CROSS = f"{UNET}input_blocks.0.0.weight", f"{UNET}input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
CLIP_L = "conditioner.embedders.0.transformer.text_model.embeddings.position_embedding.weight"
BIGG = "model.transformer.resblocks.9.mlp.c_proj.bias"
SDXL = {FIRST: (320, 4, 3, 3), CROSS: (640, 2048), CLIP_L: (77, 768), f"conditioner.embedders.1.{BIGG}": (1280,)}

KINDS: dict[str, tuple[str, dict[str, tuple[int, ...]], str]] = {  # file: (kind, tensors, what is said)
    "base": ("sdxl-base", SDXL, "usual size"),
    "no-first-encoder": ("sdxl-base", {FIRST: (320, 4, 3, 3), f"conditioner.embedders.1.{BIGG}": (1280,)}, "usual size"),
    "encoders-only": ("sdxl-base", {CLIP_L: (77, 768), f"conditioner.embedders.1.{BIGG}": (1280,)}, "it has 0 channels"),
    "model-spec": ("sdxl-vpred", {**SDXL, "v_pred": (0,)}, "usual size"),
    "noob_vpred": ("sdxl-vpred", {**SDXL, "v_pred": (0,), "ztsnr": (0,)}, "usual size"),
    "inpaint": ("sdxl-inpaint", {**SDXL, FIRST: (320, 9, 3, 3)}, "wants a mask"),
    "instruct": ("sdxl-inpaint", {**SDXL, FIRST: (320, 8, 3, 3)}, "wants a mask or a second picture"),
    "refiner": (
        "sdxl-refiner",
        {FIRST: (384, 4, 3, 3), CROSS: (768, 1280), f"conditioner.embedders.0.{BIGG}": (1280,)},
        "usual size",
    ),
    "playground": ("edm", {**SDXL, "edm_mean": (1,), "edm_std": (1,)}, "Playground v2.5"),
    "cosxl": ("edm", {**SDXL, "edm_vpred.sigma_max": (1,)}, "EDM"),
    "v1-5": (
        "sd1",
        {FIRST: (320, 4, 3, 3), CROSS: (640, 768), "cond_stage_model.transformer.text_model.final_layer_norm.bias": (768,)},
        "Stable Diffusion 1.x",
    ),
    "v1-5-inpainting": ("sd1", {FIRST: (320, 9, 3, 3), CROSS: (640, 768)}, "Stable Diffusion 1.x"),
    "v2-1": (
        "sd2", {FIRST: (320, 4, 3, 3), CROSS: (640, 1024), "cond_stage_model.model.ln_final.bias": (1024,)},
        "Stable Diffusion 2.x",
    ),
    "flux1-dev": ("flux", {"double_blocks.0.img_attn.norm.key_norm.scale": (128,), "img_in.weight": (3072, 64)}, "Flux"),
    "flux-checkpoint": ("flux", {f"{UNET}double_blocks.0.img_attn.norm.key_norm.scale": (128,)}, "Flux"),
    "kohya": ("lora", {"lora_unet_input_blocks_4_1_proj_in.lora_down.weight": (8, 640)}, "lora_up.weight: it is damaged"),
    "peft": ("lora", {"unet.down_blocks.1.attentions.0.proj_in.lora_A.weight": (8, 640)}, "lora_B.weight: it is damaged"),
    "loha": ("lora", {"lora_unet_x.hada_w1_a": (8, 8)}, "a LoHa"),
    "control": ("controlnet", {"control_model.time_embed.0.weight": (1280, 320)}, "a ControlNet"),
    "diffusers-control": (
        "controlnet", {"controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3), "conv_in.weight": (320, 4, 3, 3)},
        "a ControlNet",
    ),
    "sd3": ("unknown", {f"{UNET}joint_blocks.0.x_block.attn.qkv.weight": (8, 8)}, "Stable Diffusion 3"),
    "unet-only": ("unknown", {FIRST: (320, 4, 3, 3), CROSS: (640, 2048)}, "lacks the text encoders"),
    "diffusers-unet": (
        "unknown", {"conv_in.weight": (320, 4, 3, 3), "down_blocks.0.resnets.0.norm1.bias": (320,)}, "a UNet alone"
    ),
    "encoder": ("unknown", {"text_model.final_layer_norm.bias": (768,)}, "a text encoder alone"),
    "embedding": ("unknown", {"clip_l": (4, 768), "clip_g": (4, 1280)}, "textual-inversion"),
    "nothing": ("unknown", {"a": (1,)}, "nothing that the workbench knows"),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_the_kind_of_a_file_is_told_from_its_header(name: str, tmp_path: Path) -> None:
    kind, tensors, said = KINDS[name]
    info = wb.inspect_model(header_only(tmp_path / f"{name}.safetensors", tensors))
    assert (info.kind, info.form, info.usable) == (kind, "single-file", False) and said in info.reason
    assert info.path == tmp_path / f"{name}.safetensors" and info.licence.endswith("ask whoever published it")
    if not kind.startswith("sdxl") or kind == "sdxl-inpaint":
        with pytest.raises(WrongModel, match=f"{name}.safetensors is "):
            base_of(str(info.path))


@pytest.mark.parametrize("form", ["folder", "folder-fp16", "sharded", "sharded-fp16", "single-file", "pipeline-folder"])
def test_forms_and_what_comes_with_them(form: str, tiny_model: Path, tmp_path: Path) -> None:
    model, refiner = write_form(form, tiny_model, tmp_path / "form")
    info = wb.inspect_model(str(model))
    want = {"sharded": "folder", "sharded-fp16": "folder-fp16", "pipeline-folder": "folder"}.get(form, form)
    assert (info.kind, info.form, info.usable, info.path) == ("sdxl-base", want, True, model)
    assert info.refiner == (refiner / "refiner" if refiner == model else None) and info.bytes > 100_000
    if refiner != model:
        assert (wb.inspect_model(refiner).kind, wb.inspect_model(refiner).usable) == ("sdxl-refiner", True)


def test_kinds_of_folders(tiny_model: Path, tmp_path: Path) -> None:
    def changed(name: str, file: str, **values: object) -> Any:
        folder = Path(shutil.copytree(tiny_model / "base", tmp_path / name))
        config = folder / file
        config.write_text(json.dumps({**json.loads(config.read_text()), **values}))
        return wb.inspect_model(folder)

    unet, scheduler = "unet/config.json", "scheduler/scheduler_config.json"
    assert changed("v", scheduler, prediction_type="v_prediction").kind == "sdxl-vpred"
    assert changed("v2", scheduler, prediction_type="v_prediction").usable
    assert changed("edm", scheduler, _class_name="EDMDPMSolverMultistepScheduler").kind == "edm"
    assert changed("playground", "vae/config.json", latents_mean=[0, 0, 0, 0]).kind == "edm"
    assert changed("inpaint", unet, in_channels=9).kind == "sdxl-inpaint"
    assert changed("sd1", "model_index.json", _class_name="StableDiffusionPipeline").kind == "sd1"
    assert changed("sd3", "model_index.json", _class_name="StableDiffusion3Pipeline").kind == "unknown"
    assert changed("flux", "model_index.json", _class_name="FluxPipeline").kind == "flux"
    lcm = changed("lcm", unet, time_cond_proj_dim=256)
    assert (lcm.kind, lcm.usable) == ("sdxl-base", False) and "guidance scale as an input" in lcm.reason
    assert wb.inspect_model(tmp_path / "v" / "vae").kind == "vae"
    (tmp_path / "lora").mkdir()
    header_only(tmp_path / "lora" / "pytorch_lora_weights.safetensors", {"unet.x.lora_A.weight": (2, 2)})
    assert wb.inspect_model(tmp_path / "lora").kind == "lora"
    (tmp_path / "v" / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    broken = wb.inspect_model(tmp_path / "v")
    assert not broken.usable and "unet has no weights" in broken.reason


DAMAGED = {
    "zeros.safetensors": (b"\0" * 100, "is no .safetensors file"),
    "empty.safetensors": (b"", "it is empty; download it again"),
    "pointer.safetensors": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
    "page.safetensors": (b"<!DOCTYPE html><html>", "it is a web page"),
    "renamed.safetensors": (b"PK\x03\x04" + b"\0" * 60, "a pickle of PyTorch under another name"),
    "quantised.safetensors": (b"GGUF" + b"\0" * 60, "a GGUF file"),
    "model.ckpt": (b"PK\x03\x04", "a pickle: loading one can run any code"),
    "model.pt": (b"PK\x03\x04", "a pickle: loading one can run any code"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_cannot_be_read_is_a_sentence(name: str, tmp_path: Path) -> None:
    content, said = DAMAGED[name]
    (tmp_path / name).write_bytes(content)
    info = wb.inspect_model(tmp_path / name)
    assert (info.kind, info.form, info.usable) == ("unknown", "single-file", False) and said in info.reason


def test_a_download_cut_short_is_seen_without_reading_it(tiny_model: Path, tmp_path: Path) -> None:
    model, _ = write_form("single-file", tiny_model, tmp_path / "form")
    os.truncate(model, model.stat().st_size - 1000)
    info = wb.inspect_model(model)
    assert not info.usable and "cut short" in info.reason


def test_a_file_of_other_sizes_needs_its_configs(tiny_model: Path, tmp_path: Path) -> None:
    model, _ = write_form("single-file", tiny_model, tmp_path / "form")
    shutil.rmtree(model.with_suffix(".config"))
    info = wb.inspect_model(model)
    assert info.usable is False
    assert "it has 8 channels in its UNet's first block, SDXL's 320" in info.reason and "base.config" in info.reason
    configs_beside(model, tiny_model / "base")
    assert wb.inspect_model(model).usable
    config = model.with_suffix(".config") / "text_encoder_2" / "config.json"
    config.write_text(config.read_text().replace('"num_hidden_layers": 10', '"num_hidden_layers": 12'))
    assert "it has 10 layers in its text_encoder_2, base.config's 12" in wb.inspect_model(model).reason


@pytest.mark.parametrize(
    "content", ["{}", '{"block_out_channels": 8}', '{"block_out_channels": [], "layers_per_block": "x"}']
)
def test_configs_of_another_shape_are_a_sentence(content: str, tiny_model: Path, tmp_path: Path) -> None:
    model, _ = write_form("single-file", tiny_model, tmp_path / "form")
    (model.with_suffix(".config") / "unet" / "config.json").write_text(content)
    info = wb.inspect_model(model)
    assert info.usable is False and "are not those of an SDXL" in info.reason


@pytest.mark.parametrize("encoder", [5, "x", [1], {}])
def test_an_index_of_another_shape_is_no_traceback(encoder: object, tiny_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model / "base", tmp_path / "base"))
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "text_encoder": encoder}))
    assert wb.inspect_model(folder).kind == "sdxl-base"


def test_a_link_that_leads_to_nothing_hides_no_other_model(home: Path, tiny_model: Path) -> None:
    shutil.copytree(tiny_model, home / "models" / "mine")
    (home / "models" / "gone.safetensors").symlink_to(home / "nowhere")
    found = {info.path.name: info for info in list_models()}
    assert found["mine"].usable and "leads to nothing" in found["gone.safetensors"].reason


def test_the_bundled_configs_are_sdxls(tmp_path: Path) -> None:
    """Their networks have the published numbers of parameters."""
    import diffusers
    import transformers
    from accelerate import init_empty_weights

    from workbench.models.checkpoints import CONFIGS, network_class

    assert diffusers and transformers
    counts = {}
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        made: Any = network_class(part)
        with init_empty_weights():
            if part in ("unet", "vae"):
                network = made.from_config(made.load_config(CONFIGS / "base" / part))
            else:
                network = made(made.config_class.from_pretrained(CONFIGS / "base" / part))
        counts[part] = sum(p.numel() for p in network.parameters())
    assert counts == {
        "unet": 2_567_463_684, "vae": 83_653_863, "text_encoder": 123_060_480, "text_encoder_2": 694_659_840,
    }  # fmt: skip


def test_seven_gigabytes_are_as_fast_as_a_small_file_and_need_no_torch(tmp_path: Path) -> None:
    header_only(tmp_path / "large.safetensors", SDXL, size=7_000_000_000)
    header_only(tmp_path / "small.safetensors", SDXL)
    code = """
import sys, time
import workbench as wb
wb.inspect_model(sys.argv[2])
took = []
for path in sys.argv[1:]:
    began = time.perf_counter()
    assert wb.inspect_model(path).kind == "sdxl-base"
    took.append(time.perf_counter() - began)
print(took[0] < 0.5 and (tmp := 'torch') not in sys.modules, took)
"""
    paths = [str(tmp_path / f"{name}.safetensors") for name in ("large", "small")]
    ended = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, timeout=60)
    assert ended.stdout.startswith("True"), ended.stdout + ended.stderr


def test_names_paths_and_hub_ids(home: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = home / "models"
    file, _ = write_form("single-file", tiny_model, models / "files")
    assert model_path("files/base") == model_path("files/base.safetensors") == model_path(str(file)) == file
    monkeypatch.chdir(models)
    assert model_path("./files/base.safetensors") == file
    monkeypatch.chdir(models / "files")
    assert model_path("base.safetensors") == file and wb.inspect_model(Path("base.safetensors")).usable
    for odd in ("a" * 5000, "~nobody/model", "\0", "models/" + "b" * 300):
        with pytest.raises(MissingWeights, match="is not there"):
            model_path(odd)
    shutil.copytree(tiny_model / "base", models / "folder")
    assert model_path("folder") == models / "folder"
    (models / "one").mkdir()
    shutil.copy(file, models / "one" / "face.safetensors")
    configs_beside(models / "one" / "face.safetensors", tiny_model / "base")
    assert wb.inspect_model("one").usable and base_of("one").path == models / "one" / "face.safetensors"
    shutil.copy(file, models / "one" / "other.safetensors")
    assert "several checkpoints (face.safetensors, other.safetensors); name one" in wb.inspect_model("one").reason
    with pytest.raises(MissingWeights, match=r"there is no .*models/foldr\. .*Did you mean 'folder'\?"):
        model_path("foldr")
    with pytest.raises(MissingWeights, match=r"There is files, folder, one\.$"):
        model_path("quite another")
    with pytest.raises(MissingWeights, match="no hub repository of that id is in the local cache"):
        model_path("someone/nothing")
    names = {info.path.name: (info.kind, info.usable) for info in list_models()}
    assert names["folder"] == ("sdxl-base", True) and names["one"] == ("unknown", False)


def test_a_hub_repository_in_the_local_cache(home: Path, tiny_model: Path, tmp_path: Path) -> None:
    repo = tmp_path / "hub" / "models--SG161222--RealVisXL_V5.0"
    snapshot = repo / "snapshots" / "abc123"
    shutil.copytree(tiny_model / "base", snapshot)
    (snapshot / "README.md").write_text("---\nlicense: openrail++\ntags: [a]\n---\n# RealVisXL")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc123")
    code = "import sys, json, workbench as wb; print(json.dumps(wb.inspect_model(sys.argv[1]).to_json()))"
    ended = subprocess.run(
        [sys.executable, "-c", code, "SG161222/RealVisXL_V5.0"], capture_output=True, text=True, timeout=60,
        env={**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub")},
    )  # fmt: skip
    found = json.loads(ended.stdout)
    assert (found["kind"], found["form"], found["usable"], found["path"]) == (
        "sdxl-base",
        "hub-cache",
        True,
        str(snapshot),
    )
    assert found["licence"] == "SG161222/RealVisXL_V5.0: openrail++"


def test_a_changed_file_is_looked_at_again(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"a": np.zeros(1)}, file)
    assert wb.inspect_model(file).kind == "unknown"
    time.sleep(0.01)
    header_only(file, KINDS["kohya"][1])
    assert wb.inspect_model(file).kind == "lora"


def test_loras_are_listed_with_the_models(home: Path) -> None:
    folder = home / "models" / "loras" / "deep"
    folder.mkdir(parents=True)
    (home / "models" / "embeddings").mkdir()
    layer = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"
    for name, width in (("crisp", 2048), ("old", 768)):
        shapes = {f"{layer}.lora_down.weight": (8, width), f"{layer}.lora_up.weight": (640, 8)}
        header_only(folder / f"{name}.safetensors", shapes, license="CC-BY-NC-4.0")
    found = {info.path.stem: info for info in list_models()}
    assert found.keys() == {"crisp", "old"} and {info.kind for info in found.values()} == {"lora"}
    assert found["crisp"].usable and "is a LoRA for SDXL; name it in loras" in found["crisp"].reason
    assert found["old"].usable is False and "a LoRA for Stable Diffusion 1.x, not for SDXL" in found["old"].reason
    assert "must not be put behind a service" in found["crisp"].licence
