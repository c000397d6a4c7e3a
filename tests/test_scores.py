import io
import itertools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFilter

from workbench import scores
from workbench.images import UnreadablePicture
from workbench.scores import LPIPS, SHARPNESS, NotMeasured, cell_scores, fidelity, score


def sharpness(image: Image.Image) -> float:
    value = score(image).sharpness
    assert value is not None
    return value


def test_blur_ladder_falls_at_every_step(astronaut: Image.Image, hopper: Image.Image) -> None:
    for picture, face_scale in ((astronaut, 0.5), (hopper, 0.7)):
        ladder = [sharpness(picture.filter(ImageFilter.GaussianBlur(r * face_scale))) for r in (0, 0.7, 1.4, 2, 3)]
        assert all(a > b + 2 for a, b in itertools.pairwise(ladder)), ladder
        assert ladder[0] > 60 and ladder[-1] < 30


def test_contrast_brightness_size_and_background_hardly_move_it(hopper: Image.Image) -> None:
    base = sharpness(hopper)
    dim = Image.fromarray((np.asarray(hopper) * 0.6 + 30).astype(np.uint8))
    larger = hopper.resize((hopper.width * 2, hopper.height * 2), Image.Resampling.LANCZOS)
    noisy_wall = np.asarray(hopper).copy()
    noisy_wall[:, :60] = np.random.default_rng(0).integers(0, 256, noisy_wall[:, :60].shape)
    for changed in (dim, larger, Image.fromarray(noisy_wall)):
        assert abs(sharpness(changed) - base) < 6


def test_white_noise_does_not_make_a_soft_face_sharp(hopper: Image.Image) -> None:
    crop = scores.aligned_face(hopper, scores.faces.find_faces(hopper, scores._detector())[0])
    soft, softer = (cv2.GaussianBlur(crop, (0, 0), sigma) for sigma in (1, 2))
    noise = np.random.default_rng(0).normal(0, 6, crop.shape)
    attacked = np.clip(softer + noise, 0, 255).astype(np.uint8)
    assert scores.sharpness_of(attacked) < scores.sharpness_of(soft) - 10


def test_no_face_is_none_and_never_zero() -> None:
    for picture in (Image.new("RGB", (300, 200), "grey"), Image.new("RGB", (1, 1)), Image.effect_noise((256, 256), 80)):
        result = score(picture)
        assert (result.status, result.sharpness, result.faces) == ("no_face", None, [])


def test_the_largest_of_several_faces_is_scored(astronaut: Image.Image, hopper: Image.Image) -> None:
    both = Image.new("RGB", (1024, 600))
    both.paste(hopper, (0, 0))
    both.paste(astronaut.filter(ImageFilter.GaussianBlur(3)), (512, 0))
    result = score(both)
    assert len(result.faces) == 2 and result.faces[0].eye_distance > result.faces[1].eye_distance
    assert result.sharpness == result.faces[0].sharpness > result.faces[1].sharpness + 20


def test_any_kind_of_picture_is_taken(hopper: Image.Image, tmp_path: Path) -> None:
    base = sharpness(hopper)
    for mode in ("L", "RGBA", "P"):
        assert abs(sharpness(hopper.convert(mode)) - base) < 15
    hopper.save(tmp_path / "h.png")
    assert sharpness(tmp_path / "h.png") == base  # type: ignore[arg-type]
    with pytest.raises(UnreadablePicture):
        score(tmp_path / "none.png")


def test_scores_know_their_direction_range_and_version() -> None:
    assert SHARPNESS.higher_is_better and not LPIPS.higher_is_better
    assert (SHARPNESS.low, SHARPNESS.high) == (0, 100) and SHARPNESS.version


def test_lpips_is_not_measured_without_its_backbone(astronaut: Image.Image, tmp_path: Path, monkeypatch) -> None:
    import torch

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    missing = fidelity(astronaut, astronaut)
    assert isinstance(missing, NotMeasured) and "AlexNet" in missing.reason
    status, values = cell_scores(astronaut, astronaut)
    assert status == "ok" and values["lpips"] is None and "AlexNet" in values["not_measured"]["lpips"]
    json.dumps(values)


def test_lpips_runs_when_the_backbone_is_there(astronaut: Image.Image, tmp_path: Path, monkeypatch) -> None:
    """The real lpips code on a random AlexNet saved where torchvision would put it: the plumbing, not the number."""
    import torch
    from torchvision.models import alexnet

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    torch.manual_seed(0)
    torch.save(alexnet(weights=None).state_dict(), tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth")
    monkeypatch.setattr(torch.hub, "_get_torch_home", lambda: str(tmp_path), raising=False)
    scores._lpips_net.cache_clear()
    try:
        same, other = (fidelity(astronaut, p) for p in (astronaut, astronaut.filter(ImageFilter.GaussianBlur(4))))
    finally:
        scores._lpips_net.cache_clear()
    assert same == 0 and isinstance(other, float) and other > 0


def test_evaluation_faces(shared: Path) -> None:
    """Other people's faces, where they are on this machine: found, and softer when blurred."""
    for about in json.loads((shared / "faces" / "faces.json").read_text()):
        picture = Image.open(shared / "faces" / about["file"]).convert("RGB")
        result = score(picture)
        assert result.status == "ok", about["file"]
        assert abs(result.faces[0].eye_distance - about["eye"]) < 0.15 * about["eye"]
        blurred = picture.filter(ImageFilter.GaussianBlur(about["eye"] / 126 * 2))
        assert sharpness(blurred) < sharpness(picture) - 8


def test_jpeg_is_taken(astronaut: Image.Image) -> None:
    buffer = io.BytesIO()
    astronaut.save(buffer, "JPEG", quality=90)
    assert abs(sharpness(Image.open(buffer)) - sharpness(astronaut)) < 5
