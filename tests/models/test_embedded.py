"""The embedded model's quality bar: it makes faces of the two people, and every knob visibly acts."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from workbench.models import Sdxl, codeformer, pipelines, retinaface, weights
from workbench.presets import load_preset
from workbench.recipe import faces
from workbench.recipe.pipeline import Bench
from workbench.scores.blur_network import blur
from workbench.settings import Settings
from workbench.store.store import Store

PROMPTS = ("portrait photo of Grace Hopper", "portrait photo of Eileen Collins")
EMBEDDED = load_preset("embedded").settings


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """With a store: the tests compare the same few pictures."""
    return Bench(Store(tmp_path_factory.mktemp("made")))


def difference(one: Image.Image, other: Image.Image) -> float:
    """Mean absolute difference in levels of 255."""
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())


def test_files_are_small_and_safetensors() -> None:
    files = [p for p in weights.EMBEDDED.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 40e6
    assert not [p for p in files if p.suffix in (".bin", ".pth", ".ckpt", ".pt")]


def test_it_is_a_real_sdxl() -> None:
    sdxl = Sdxl("embedded", "", "auto", "auto")
    base: Any = pipelines.load_base(sdxl)
    refiner: Any = pipelines.load_refiner(sdxl, base)
    assert base.unet.config.addition_embed_type == refiner.unet.config.addition_embed_type == "text_time"
    assert base.vae.config.latent_channels == 4 and base.vae_scale_factor == 8
    assert base.text_encoder is not None and refiner.text_encoder is None and refiner.config.requires_aesthetics_score
    parts = (base.unet, base.vae, base.text_encoder, base.text_encoder_2, refiner.unet)
    assert {str(p.dtype) for part in parts for p in part.parameters()} == {"torch.float32"}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_picture_has_one_face_and_refining_sharpens_it(made: Bench) -> None:
    one_face, sharper = [], []
    for prompt in PROMPTS:
        for seed in range(4):
            result = made.generate(EMBEDDED.replace(prompt=prompt, seed=seed, restorer="none"))
            found = faces.find_faces(result.image, retinaface.load_retinaface())
            one_face.append(len(found) == 1)
            if not found:
                continue
            enlarged = result.stages["base"].resize(result.image.size, Image.Resampling.LANCZOS)
            before, after = (
                blur(faces.measure_crop(picture, found[0])[0]).sharpness for picture in (enlarged, result.image)
            )
            sharper.append(after > before)
    assert np.mean(one_face) >= 0.95, one_face
    assert np.mean(sharper) >= 0.95, sharper


@pytest.mark.slow
def test_prompt_cfg_negative_prompt_and_seed_act(made: Bench) -> None:
    base = EMBEDDED.replace(prompt=PROMPTS[0], seed=1, hires=False, restorer="none")

    def moved(**changes: object) -> float:
        return difference(made.generate(base).image, made.generate(base.replace(**changes)).image)

    assert moved(prompt=PROMPTS[1]) > 15
    assert moved(cfg=1.0) > 5
    assert moved(seed=2) > 10
    assert moved(negative_prompt="") > 1
    assert moved(prompt=f"{PROMPTS[0]}, black and white") > 5
    colour = np.ptp(np.asarray(made.generate(base.replace(prompt=f"{PROMPTS[0]}, black and white")).image, int), axis=2)
    assert colour.mean() < 20  # black and white is what was asked for


@pytest.mark.slow
def test_strength_changes_more_when_higher(made: Bench) -> None:
    settings = EMBEDDED.replace(prompt=PROMPTS[1], seed=3, restorer="none")
    base = made.generate(settings).stages["base"].resize((512, 512), Image.Resampling.LANCZOS)
    moved = [difference(base, made.generate(settings.replace(strength=s)).image) for s in (0.2, 0.35, 0.6)]
    assert moved[0] < moved[1] < moved[2]


@pytest.mark.parametrize("who", ["hopper", "collins"])
def test_restorer_sharpens_at_0_and_stays_close_at_1(who: str, astronaut: Image.Image, hopper: Image.Image) -> None:
    picture = astronaut if who == "collins" else hopper
    face = faces.find_faces(picture, retinaface.load_retinaface())[0]
    sharp, _ = faces.align(np.asarray(picture), face)
    blurred = cv2.GaussianBlur(sharp, (0, 0), 5)
    net = codeformer.load_codeformer(weights.restorer_path(weights.model_path("embedded")))
    restored = {w: codeformer.restore(net, blurred, w) for w in (0.0, 0.5, 1.0)}
    # its own faces are about as sharp as a blur of 3 px: 9.8 -> 19.6 and 12.4 -> 25.8, but 16.7 -> 19.5 from a blur of 3 px
    assert blur(restored[0.0]).sharpness > 1.6 * blur(blurred).sharpness
    moved = [np.abs(picture.astype(float) - blurred).mean() for picture in restored.values()]
    assert moved[0] > moved[1] > moved[2]


def test_recommended_differs_only_where_it_must() -> None:
    """The embedded preset is the recommended recipe at the embedded model's size."""
    assert set(EMBEDDED.diff(Settings())) <= {
        "model",
        "prompt",
        "width",
        "height",
        "steps",
        "hires_scale",
        "refine_cfg",
    }


def test_training_script_is_in_the_repository() -> None:
    root = Path(__file__).parents[2]
    assert (root / "experiments" / "embedded_model" / "make.py").exists()
    assert "embedded-model" in (root / "Makefile").read_text()
