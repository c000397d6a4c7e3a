import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from workbench.errors import CorruptWeights, MissingWeights, UsageError
from workbench.models import weights
from workbench.recipe.stages import stage_keys
from workbench.settings import SAMPLERS, Settings


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def test_missing_model_says_where_it_looked(home: Path) -> None:
    with pytest.raises(MissingWeights, match=r"models/sdxl has no base/model_index.json.*embedded"):
        weights.model_path("sdxl")


def test_named_models_live_at_home(home: Path, tiny_model: Path) -> None:
    shutil.copytree(tiny_model, home / "models" / "mine")
    assert weights.model_path("mine") == home / "models" / "mine"


def test_a_truncated_file_is_named(model: Path) -> None:
    file = model / "base" / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CorruptWeights, match="base cannot be loaded"):
        weights.load_base(model)


def test_a_config_of_other_sizes_is_refused(model: Path) -> None:
    config = model / "base" / "unet" / "config.json"
    config.write_text(config.read_text().replace('"cross_attention_dim": 64', '"cross_attention_dim": 32'))
    with pytest.raises(CorruptWeights, match="base"):
        weights.load_base(model)


def test_a_stable_diffusion_1_vae_is_refused(model: Path, tmp_path: Path) -> None:
    vae = Path(shutil.copytree(model / "base" / "vae", tmp_path / "vae"))
    config = json.loads((vae / "config.json").read_text())
    (vae / "config.json").write_text(json.dumps({**config, "scaling_factor": 0.18215}))
    with pytest.raises(weights.WrongVAE, match=r"Stable Diffusion 1\.x"):
        weights.load_base(model, vae)
    del config["scaling_factor"]  # the default of diffusers is Stable Diffusion 1's
    (vae / "config.json").write_text(json.dumps(config))
    with pytest.raises(weights.WrongVAE):
        weights.load_base(model, vae)


def test_refiner_shares_text_encoder_and_vae(tiny_model: Path) -> None:
    base = weights.load_base(tiny_model)
    refiner: Any = weights.load_refiner(tiny_model, base)
    assert refiner.vae is base.vae and refiner.text_encoder_2 is base.text_encoder_2
    assert refiner.config.requires_aesthetics_score


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_exists_and_evaluates_once_a_step(sampler: str, tiny_model: Path) -> None:
    config = json.loads((tiny_model / "base" / "scheduler" / "scheduler_config.json").read_text())
    scheduler = weights.make_scheduler(sampler, config)
    scheduler.set_timesteps(20)
    assert len(scheduler.timesteps) == 20 and scheduler.order == 1


def test_a_changed_file_changes_the_keys(model: Path) -> None:
    settings = Settings(model=str(model), width=64, height=64)
    before = stage_keys(settings)
    file = model / "refiner" / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    after = stage_keys(settings)
    assert before["base"] == after["base"] and before["refine"] != after["refine"] and before["faces"] != after["faces"]


def test_threads_are_pinned_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_THREADS", "2")
    with weights.pinned_threads():
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 1
    monkeypatch.setenv("WORKBENCH_THREADS", "many")
    with pytest.raises(UsageError, match="whole number"):
        weights.threads()


def test_missing_restorer_detector_and_vae(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match=r"codeformer\.pth"):
        weights.restorer_path(tmp_path)
    with pytest.raises(MissingWeights, match=r"detection_Resnet50_Final\.pth"):
        weights.detector_path("retinaface_resnet50")
    with pytest.raises(MissingWeights, match=r"config\.json"):
        weights.vae_path("nowhere")


def test_pinning_in_one_thread_leaves_the_others_numbers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads overlap: the one that leaves last must not hand its pinned number to threads that are still to come."""
    import threading

    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    pinned, leave, seen = threading.Event(), threading.Event(), []

    def late() -> None:
        with weights.pinned_threads():
            with weights.pinned_threads():
                pass
            seen.append(torch.get_num_threads())
            pinned.set()
            leave.wait(20)
        seen.append(torch.get_num_threads())

    try:
        thread = threading.Thread(target=late)
        with weights.pinned_threads():
            thread.start()
            pinned.wait(20)
        leave.set()
        thread.join()
        after = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        after.start()
        after.join()
        assert seen == [1, 2, 2] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
