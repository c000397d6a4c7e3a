"""Another VAE in each form, and Stable Diffusion 1.x's, which loads without an error, refused in each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file
from support.checkpoints import scaled, write_form

from experiments.benchmarks.single_files import vae_tensors, write
from workbench.errors import CorruptWeights, WrongModel, WrongVAE
from workbench.files import file_sha256
from workbench.models import Sdxl, inspect_model, pipelines, vaes

FILE = "diffusion_pytorch_model.safetensors"


def vae_of(model: Path, vae: Path, dtype: str = "auto") -> Any:
    return pipelines.load_base(Sdxl(str(model), str(vae), "auto", dtype)).vae


def own(model: Path) -> Any:
    return diffusers.AutoencoderKL.from_pretrained(model / "base" / "vae", local_files_only=True)


@pytest.fixture
def tuned(tiny_model: Path) -> dict[str, torch.Tensor]:
    """A VAE whose decoder was trained on: its latents are the model's still."""
    state = own(tiny_model).state_dict()
    return {name: tensor * 1.01 if name.startswith("decoder") else tensor for name, tensor in state.items()}


@pytest.fixture
def unlike(tiny_model: Path) -> Any:
    """A VAE of the very same tensors, trained for itself, as Stable Diffusion 1.x's is beside SDXL's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return diffusers.AutoencoderKL.from_config(dict(own(tiny_model).config))


def diffusers_layout(tuned: dict[str, torch.Tensor], tiny_model: Path) -> dict[str, torch.Tensor]:
    return tuned


def stability_layout(tuned: dict[str, torch.Tensor], tiny_model: Path) -> dict[str, torch.Tensor]:
    vae = own(tiny_model)
    vae.load_state_dict(tuned)
    return vae_tensors(vae)


def inside_a_checkpoint(tuned: dict[str, torch.Tensor], tiny_model: Path) -> dict[str, torch.Tensor]:
    return {f"first_stage_model.{name}": t for name, t in stability_layout(tuned, tiny_model).items()}


@pytest.mark.parametrize("layout", [diffusers_layout, stability_layout, inside_a_checkpoint])
def test_one_file_in_each_layout(layout: Any, tuned: dict[str, torch.Tensor], tiny_model: Path, tmp_path: Path) -> None:
    file = write(layout(tuned, tiny_model), tmp_path / "vae.safetensors", torch.float32)
    info = inspect_model(file)
    assert (info.kind, info.form, info.usable) == ("vae", "single-file", None) and "only" not in info.licence
    state = vae_of(tiny_model, file).state_dict()
    assert state.keys() == tuned.keys() and all(torch.equal(state[name], tuned[name]) for name in tuned)


def test_a_file_beside_a_checkpoint_that_is_a_file(
    tuned: dict[str, torch.Tensor], tiny_model: Path, tmp_path: Path
) -> None:
    model, _ = write_form("single-file", tiny_model, tmp_path / "form")
    file = write(tuned, tmp_path / "vae.safetensors", torch.float32)
    assert torch.equal(vae_of(model, file).decoder.conv_in.weight, tuned["decoder.conv_in.weight"])


def test_a_folder_plain_and_fp16(tuned: dict[str, torch.Tensor], tiny_model: Path, tmp_path: Path) -> None:
    vae = own(tiny_model)
    vae.load_state_dict(tuned)
    vae.save_pretrained(tmp_path / "plain")
    vae.to(torch.float16).save_pretrained(tmp_path / "half", variant="fp16")
    assert torch.equal(vae_of(tiny_model, tmp_path / "plain").quant_conv.weight, tuned["quant_conv.weight"])
    half = vae_of(tiny_model, tmp_path / "half").quant_conv.weight
    assert torch.equal(half, tuned["quant_conv.weight"].half().float())
    assert inspect_model(tmp_path / "half").form == "folder-fp16"


def test_stable_diffusion_1_by_its_config(tiny_model: Path, tmp_path: Path) -> None:
    vae = Path(shutil.copytree(tiny_model / "base" / "vae", tmp_path / "vae"))
    config = json.loads((vae / "config.json").read_text())
    (vae / "config.json").write_text(json.dumps({**config, "scaling_factor": 0.18215}))
    with pytest.raises(WrongVAE, match=r"Stable Diffusion 1\.x"):
        vae_of(tiny_model, vae)
    del config["scaling_factor"]  # the default of diffusers is Stable Diffusion 1's
    (vae / "config.json").write_text(json.dumps(config))
    with pytest.raises(WrongVAE):
        vae_of(tiny_model, vae)
    info = inspect_model(vae)
    assert (info.kind, info.usable) == ("vae", False) and "Stable Diffusion 1.x" in info.reason


@pytest.mark.parametrize("name", ["vae-ft-mse-840000-ema-pruned.safetensors", "vae-ft-mse-840000-ema-pruned.ckpt"])
def test_stable_diffusion_1_by_its_digest(
    name: str, tuned: dict[str, torch.Tensor], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tuned, tmp_path / name, torch.float32)
    monkeypatch.setattr(vaes, "SD1_FILES", (file_sha256(file),))
    with pytest.raises(WrongVAE, match=r"Stable Diffusion 1\.x's, whose latents are not SDXL's; use a VAE made for"):
        vae_of(tiny_model, file)
    info = inspect_model(file)
    assert (info.kind, info.usable) == ("vae", False) and "Stable Diffusion 1.x" in info.reason


def test_the_digests_are_those_of_published_files() -> None:
    known = (*vaes.SD1_FILES, *vaes.SDXL_FILES, *vaes.FP16_FIX_FILES)
    assert len(set(known)) == len(known) and all(len(bytes.fromhex(digest)) == 32 for digest in known)


@pytest.mark.parametrize("form", ["file", "folder"])
def test_one_that_nothing_tells_by_what_it_makes_of_a_picture(
    form: str, unlike: Any, tiny_model: Path, tmp_path: Path
) -> None:
    """Stable Diffusion 1.x's VAE under a new name: the header is SDXL's, and the picture was wrong without an error."""
    if form == "folder":
        unlike.save_pretrained(tmp_path / "vae")
        place = tmp_path / "vae"
    else:
        place = write(vae_tensors(unlike), tmp_path / "vae.safetensors", torch.float32)
    assert inspect_model(place).usable is None
    with pytest.raises(WrongVAE, match=r"correlate by -?0\.\d\d, where the same VAE has 1\.00"):
        vae_of(tiny_model, place)


def test_a_file_that_nothing_tells_is_refused_where_there_is_nothing_to_compare(
    tuned: dict[str, torch.Tensor], tiny_model: Path, tmp_path: Path
) -> None:
    model, _ = write_form("without-vae", tiny_model, tmp_path / "form")
    file = write(tuned, tmp_path / "vae.safetensors", torch.float32)
    with pytest.raises(WrongVAE, match="no VAE of its own to compare it with"):
        vae_of(model, file)


def test_the_one_mended_for_float16_needs_no_float32(
    tuned: dict[str, torch.Tensor], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    config = model / "base" / "vae" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "force_upcast": True}))
    file = write(tuned, tmp_path / "sdxl.vae.safetensors", torch.float32)
    assert vae_of(model, file, "float16").config.force_upcast
    monkeypatch.setattr(vaes, "FP16_FIX_FILES", (file_sha256(file),))
    assert not vae_of(model, file, "float16").config.force_upcast
    assert inspect_model(file).usable is True


@pytest.mark.parametrize("by", ["config", "digest"])
def test_stable_diffusion_1_inside_an_sdxl(
    by: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    config = model / "base" / "vae" / "config.json"
    if by == "config":
        config.write_text(json.dumps({**json.loads(config.read_text()), "scaling_factor": 0.18215}))
    else:
        monkeypatch.setattr(vaes, "SD1_FILES", (file_sha256(model / "base" / "vae" / FILE),))
    with pytest.raises(WrongVAE, match=r"has a Stable Diffusion 1\.x VAE"):
        pipelines.load_base(Sdxl(str(model), "", "auto", "auto"))


def test_what_is_no_vae_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    model, _ = write_form("single-file", tiny_model, tmp_path / "form")
    with pytest.raises(WrongVAE, match="an SDXL checkpoint, and no VAE"):
        vae_of(tiny_model, model)
    sizes = {"encoder.conv_in": (8, 3, 3, 3), "decoder.conv_out": (3, 8, 3, 3), "decoder.conv_in": (8, 16, 3, 3)}
    tensors = {f"{name}.weight": torch.zeros(size) for name, size in sizes.items()}
    flux = write(tensors, tmp_path / "ae.safetensors", torch.float16)
    with pytest.raises(WrongVAE, match="16 latent channels"):
        vae_of(tiny_model, flux)
    assert inspect_model(flux).usable is False
    torch.save({"state_dict": {}}, tmp_path / "vae.pt")
    with pytest.raises(WrongModel, match="pickle"):
        vae_of(tiny_model, tmp_path / "vae.pt")


def test_one_that_lacks_tensors_is_damaged(tuned: dict[str, torch.Tensor], tiny_model: Path, tmp_path: Path) -> None:
    del tuned["decoder.mid_block.resnets.0.conv1.bias"]
    file = write(tuned, tmp_path / "vae.safetensors", torch.float32)
    with pytest.raises(CorruptWeights, match="lacks tensors of its vae"):
        vae_of(tiny_model, file)


def test_the_vae_counts_and_the_models_own_does_not(
    tuned: dict[str, torch.Tensor], tiny_model: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    file = write(tuned, tmp_path / "vae.safetensors", torch.float32)
    with_it = Sdxl(str(model), str(file), "auto", "auto")
    before = [with_it.identity(part) for part in ("base", "refiner")]
    assert before != [Sdxl(str(model), "", "auto", "auto").identity(part) for part in ("base", "refiner")]
    for part in ("base", "refiner"):
        scaled(model / part / "vae" / FILE, 1.01)
    assert [with_it.identity(part) for part in ("base", "refiner")] == before
    write({**load_file(file), "quant_conv.bias": torch.ones(8)}, file, torch.float32)
    after = [with_it.identity(part) for part in ("base", "refiner")]
    assert all(a != b for a, b in zip(before, after, strict=True))
