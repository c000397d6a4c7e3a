import shutil
from pathlib import Path

import pytest

from workbench.errors import MissingWeights
from workbench.models import weights
from workbench.models.finding import vae_path
from workbench.recipe.keys import stage_keys
from workbench.settings import Settings


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def test_missing_model_says_where_it_looked(home: Path) -> None:
    with pytest.raises(MissingWeights, match=r"there is no .*models/sdxl\..*or use model 'embedded'"):
        weights.model_path("sdxl")


def test_named_models_live_at_home(home: Path, tiny_model: Path) -> None:
    shutil.copytree(tiny_model, home / "models" / "mine")
    assert weights.model_path("mine") == home / "models" / "mine"


def test_a_changed_file_changes_the_keys(model: Path) -> None:
    settings = Settings(model=str(model), width=64, height=64)
    before = stage_keys(settings)
    file = model / "refiner" / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    after = stage_keys(settings)
    assert before["base"] == after["base"] and before["refine"] != after["refine"] and before["faces"] != after["faces"]


def test_missing_restorer_detector_and_vae(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match=r"codeformer\.pth"):
        weights.restorer_path(tmp_path)
    with pytest.raises(MissingWeights, match=r"detection_Resnet50_Final\.pth"):
        weights.detector_path("retinaface_resnet50")
    with pytest.raises(MissingWeights, match=r"the VAE 'nowhere' is not there: there is no .*models/nowhere\."):
        vae_path("nowhere")
