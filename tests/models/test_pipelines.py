"""The pipelines that are loaded are diffusers' own, from every form in which people have checkpoints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.checkpoints import FORMS, pipes, write_form

from experiments.benchmarks.single_files import single_file
from workbench.errors import CorruptWeights, GuidanceEmbedded, MissingWeights, WrongModel
from workbench.models import SAMPLERS, Sdxl, converting, pipelines, sampler_steps

d: Any = diffusers


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def sdxl(model: Path, refiner: str = "auto", vae: str = "", dtype: str = "auto") -> Sdxl:
    return Sdxl(str(model), vae, refiner, dtype)


def state(network: Any) -> dict[str, torch.Tensor]:
    return network.state_dict()


def equal(ours: Any, theirs: Any) -> bool:
    mine, others = state(ours), state(theirs)
    return mine.keys() == others.keys() and all(torch.equal(mine[name], others[name]) for name in mine)


def ids(tokenizer: Any) -> list[int] | None:
    return tokenizer("a face").input_ids if tokenizer else None


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_what_plain_diffusers_loads(form: str, tiny_model: Path, tmp_path: Path) -> None:
    model, refiner = write_form(form, tiny_model, tmp_path / "form")
    base = pipelines.load_base(sdxl(model))
    refines = pipelines.load_refiner(sdxl(model, str(refiner)), base)
    plain = pipes(form, model, refiner)
    for ours, theirs in zip((base, refines), plain, strict=True):
        for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
            mine, other = getattr(ours, name), getattr(theirs, name)
            assert (mine is None and other is None) or equal(mine, other), name
        for name in ("force_zeros_for_empty_prompt", "requires_aesthetics_score"):
            assert ours.config.get(name) == theirs.config.get(name), name
        assert dict(ours.scheduler.config) | {"_class_name": 0} == dict(theirs.scheduler.config) | {"_class_name": 0}
        for name in ("tokenizer", "tokenizer_2"):
            assert ids(getattr(ours, name)) == ids(getattr(theirs, name)), name


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="what is mapped is told by Linux alone")
def test_weights_in_another_precision_leave_no_file_in_memory(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A UNet of 5.1 GB lay there twice while it was read, as its file and as its tensors: 16.9 GB for what then took 14.0."""
    file = tmp_path / "unet.safetensors"
    before = load_file(tiny_model / "base" / "unet" / "diffusion_pytorch_model.safetensors")
    save_file({**before, "ids": torch.arange(3)}, file)
    monkeypatch.setattr(converting, "PIECE", 2000)
    names = list(converting.read_header(file).tensors)
    assert len([*converting._pieces(file, names)]) > 5
    found = converting.converted(file, names, torch.bfloat16)
    assert str(file) not in Path("/proc/self/maps").read_text()
    assert all(torch.equal(found[name], tensor.to(torch.bfloat16)) for name, tensor in before.items())
    assert torch.equal(found["ids"], torch.arange(3)) and found.keys() == {*before, "ids"}


def test_two_encoders_of_one_width_are_not_mistaken(tmp_path: Path) -> None:
    """diffusers puts the first one's tensors into the second, and leaves its projection without memory."""
    from workbench.models import model_path

    folder = model_path("embedded")
    plain = d.StableDiffusionXLPipeline.from_pretrained(folder / "base", local_files_only=True)
    assert plain.text_encoder.config.hidden_size == plain.text_encoder_2.config.hidden_size
    file = single_file(plain, tmp_path / "face.safetensors", torch.float32)
    shutil.copytree(folder / "base", tmp_path / "face.config", ignore=shutil.ignore_patterns("*.safetensors"))
    ours = pipelines.load_base(sdxl(file))
    assert equal(ours.text_encoder, plain.text_encoder) and equal(ours.text_encoder_2, plain.text_encoder_2)


def test_a_truncated_file_is_named(model: Path) -> None:
    file = model / "base" / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CorruptWeights, match="unet cannot be loaded"):
        pipelines.load_base(sdxl(model))


@pytest.mark.parametrize("form", ["folder", "single-file"])
def test_a_missing_tensor_is_named(form: str, tiny_model: Path, tmp_path: Path) -> None:
    """It was left on the device `meta`: pictures of NaN, without an exception."""
    model, _ = write_form(form, tiny_model, tmp_path / "form")
    folder = model / "base" / "unet" / "diffusion_pytorch_model.safetensors"
    file = folder if model.is_dir() else model
    tensors = load_file(file)
    del tensors["conv_out.bias" if model.is_dir() else "model.diffusion_model.out.2.bias"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(
        CorruptWeights,
        match=r"lacks (1 tensors of its unet \(conv_out\.bias first\)|tensors of its unet: it is damaged)",
    ):
        pipelines.load_base(sdxl(model))


def test_a_config_of_other_sizes_is_refused(model: Path) -> None:
    config = model / "base" / "unet" / "config.json"
    config.write_text(config.read_text().replace('"cross_attention_dim": 56', '"cross_attention_dim": 48'))
    with pytest.raises(CorruptWeights, match="unet"):
        pipelines.load_base(sdxl(model))


def test_text_encoders_of_another_model_are_refused(model: Path) -> None:
    shutil.rmtree(model / "base" / "text_encoder")
    encoder = d.StableDiffusionXLPipeline.from_pretrained(model / "base", text_encoder=None).text_encoder_2
    config = type(encoder.config)(**{**encoder.config.to_dict(), "hidden_size": 16, "num_hidden_layers": 1})
    from transformers import CLIPTextModel

    CLIPTextModel(config).save_pretrained(model / "base" / "text_encoder")
    with pytest.raises(CorruptWeights, match="text encoders give 40 features, its UNet takes 56"):
        pipelines.load_base(sdxl(model))


def test_what_takes_the_guidance_scale_is_refused_before_it_is_loaded(model: Path) -> None:
    config = model / "base" / "unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "time_cond_proj_dim": 256}))
    with pytest.raises(GuidanceEmbedded, match="LCM"):
        pipelines.load_base(sdxl(model))


def test_equal_networks_are_loaded_once(tiny_model: Path) -> None:
    base = pipelines.load_base(sdxl(tiny_model))
    refiner = pipelines.load_refiner(sdxl(tiny_model), base)
    assert refiner.vae is base.vae and refiner.text_encoder_2 is base.text_encoder_2
    assert refiner.config["requires_aesthetics_score"]


@pytest.mark.parametrize("encoder", ["0.transformer.text_model.final_layer_norm.bias", "1.model.ln_final.bias"])
def test_a_missing_tensor_of_an_encoder_is_named(encoder: str, tiny_model: Path, tmp_path: Path) -> None:
    model, _ = write_form("single-file", tiny_model, tmp_path / "form")
    tensors = load_file(model)
    del tensors[f"conditioner.embedders.{encoder}"]
    save_file(tensors, model)
    with pytest.raises(
        CorruptWeights, match=r"lacks 1 tensors of its text_encoder(_2)? \(.*final_layer_norm\.bias first\)"
    ):
        pipelines.load_base(sdxl(model))


@pytest.mark.parametrize("form", ["folder", "single-file"])
@pytest.mark.parametrize("part", ["text_encoder_2", "vae"])
def test_what_was_tuned_is_not_replaced_by_the_bases(part: str, form: str, tiny_model: Path, tmp_path: Path) -> None:
    """A refiner's tuned text encoder was silently replaced: pictures differed by 13.9 of 255 on average."""
    tuned = Path(shutil.copytree(tiny_model, tmp_path / "tuned"))
    file = next((tuned / "refiner" / part).glob("*.safetensors"))
    save_file({name: tensor * 1.01 for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})
    model, refiner = write_form(form, tuned, tmp_path / "form")
    base = pipelines.load_base(sdxl(model))
    refines = pipelines.load_refiner(sdxl(model, str(refiner)), base)
    other = {"vae": "text_encoder_2", "text_encoder_2": "vae"}[part]
    assert getattr(refines, part) is not getattr(base, part)
    assert getattr(refines, other) is getattr(base, other)
    assert equal(getattr(refines, part), getattr(pipes(form, model, refiner)[1], part))


def test_the_base_refines_with_its_own_networks(tiny_model: Path) -> None:
    base = pipelines.load_base(sdxl(tiny_model))
    refines = pipelines.load_refiner(sdxl(tiny_model, "base"), base)
    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        assert getattr(refines, name) is getattr(base, name)
    assert refines.scheduler is not base.scheduler
    assert not refines.config["requires_aesthetics_score"] and refines.config["force_zeros_for_empty_prompt"]


def test_a_checkpoint_without_a_vae_says_what_to_name(tiny_model: Path, tmp_path: Path) -> None:
    model, _ = write_form("without-vae", tiny_model, tmp_path / "form")
    with pytest.raises(MissingWeights, match="no VAE of its own; name one in vae"):
        pipelines.load_base(sdxl(model))
    # what has no VAE to compare with takes one that is known, or whose config says that it fits
    assert equal(
        pipelines.load_base(sdxl(model, vae=str(tiny_model / "base" / "vae"))).vae,
        pipelines.load_base(sdxl(tiny_model)).vae,
    )


@pytest.mark.parametrize(("marks", "changed"), [
    (("v_pred",), {"prediction_type": "v_prediction"}),
    (("v_pred", "ztsnr"), {
        "prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing",
    }),
])  # fmt: skip
def test_v_prediction_is_honoured(marks: tuple[str, ...], changed: Any, tiny_model: Path, tmp_path: Path) -> None:
    model, _ = write_form("single-file", tiny_model, tmp_path / "form")
    save_file(load_file(model) | {mark: torch.zeros(0) for mark in marks}, model)
    config = pipelines.load_base(sdxl(model)).scheduler.config
    assert {name: config[name] for name in changed} == changed
    for sampler in SAMPLERS:
        if "ztsnr" in marks and sampler == "DPM++ SDE":  # refused: diffusers' own does not do it
            continue
        scheduler: Any = pipelines.make_scheduler(sampler, "auto", config)
        assert scheduler.config.prediction_type == "v_prediction"
        scheduler.set_timesteps(8)
        assert torch.as_tensor(scheduler.timesteps).float().isfinite().all()


def test_weights_of_eight_bits_are_read(tiny_model: Path, tmp_path: Path) -> None:
    """ComfyUI's fp8 checkpoints: what is computed in is the precision of the settings."""
    model, _ = write_form("single-file", tiny_model, tmp_path / "form")
    eight = {name: t.to(torch.float8_e4m3fn) for name, t in load_file(model).items()}
    save_file(eight, model)
    weight = pipelines.load_base(sdxl(model)).unet.conv_in.weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, eight["model.diffusion_model.input_blocks.0.0.weight"].float())


def test_a_refiner_cannot_be_the_base(tiny_model: Path, tmp_path: Path) -> None:
    _, refiner = write_form("single-file", tiny_model, tmp_path / "form")
    with pytest.raises(WrongModel, match="name it in refiner"):
        pipelines.load_base(sdxl(refiner))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_with_every_schedule_evaluates_as_often_as_is_counted(sampler: str, tiny_model: Path) -> None:
    config = json.loads((tiny_model / "base" / "scheduler" / "scheduler_config.json").read_text())
    for schedule in ("auto", *SAMPLERS[sampler].schedules):
        for steps in (1, 4, 20, 50):
            counted = sampler_steps(sampler, schedule, steps)
            scheduler = pipelines.make_scheduler(sampler, schedule, config)
            pipelines.set_steps(scheduler, schedule, steps, "cpu")
            assert len(scheduler.timesteps) == counted.evaluations
            assert scheduler.timesteps.min() >= 0 and scheduler.order == SAMPLERS[sampler].evaluations


def test_ctrl_c_while_a_file_is_read_is_no_damage(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise OSError("unable to load diffusion_pytorch_model.safetensors") from error

    monkeypatch.setattr(diffusers.UNet2DConditionModel, "from_pretrained", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pipelines.load_base(sdxl(model))
