import json
import shutil
from pathlib import Path

import pytest

from workbench.errors import CorruptWeights, WrongVAE
from workbench.models import SAMPLERS, pipelines


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def test_a_truncated_file_is_named(model: Path) -> None:
    file = model / "base" / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CorruptWeights, match="base cannot be loaded"):
        pipelines.load_base(model)


def test_a_config_of_other_sizes_is_refused(model: Path) -> None:
    config = model / "base" / "unet" / "config.json"
    config.write_text(config.read_text().replace('"cross_attention_dim": 64', '"cross_attention_dim": 32'))
    with pytest.raises(CorruptWeights, match="base"):
        pipelines.load_base(model)


def test_a_stable_diffusion_1_vae_is_refused(model: Path, tmp_path: Path) -> None:
    vae = Path(shutil.copytree(model / "base" / "vae", tmp_path / "vae"))
    config = json.loads((vae / "config.json").read_text())
    (vae / "config.json").write_text(json.dumps({**config, "scaling_factor": 0.18215}))
    with pytest.raises(WrongVAE, match=r"Stable Diffusion 1\.x"):
        pipelines.load_base(model, vae)
    del config["scaling_factor"]  # the default of diffusers is Stable Diffusion 1's
    (vae / "config.json").write_text(json.dumps(config))
    with pytest.raises(WrongVAE):
        pipelines.load_base(model, vae)


def test_refiner_shares_text_encoder_and_vae(tiny_model: Path) -> None:
    base = pipelines.load_base(tiny_model)
    refiner = pipelines.load_refiner(tiny_model, base)
    assert refiner.vae is base.vae and refiner.text_encoder_2 is base.text_encoder_2
    assert refiner.config["requires_aesthetics_score"]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_exists_and_evaluates_once_a_step(sampler: str, tiny_model: Path) -> None:
    config = json.loads((tiny_model / "base" / "scheduler" / "scheduler_config.json").read_text())
    scheduler = pipelines.make_scheduler(sampler, config)
    scheduler.set_timesteps(20)
    assert len(scheduler.timesteps) == 20 and scheduler.order == 1


def test_ctrl_c_while_a_file_is_read_is_no_damage(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import StableDiffusionXLPipeline

    def interrupted(*_: object, **__: object) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise OSError("unable to load diffusion_pytorch_model.safetensors") from error

    monkeypatch.setattr(StableDiffusionXLPipeline, "from_pretrained", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pipelines.load_base(model)
