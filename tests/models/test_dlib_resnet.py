"""dlib's recognition network: ours gives the numbers of dlib's own, from weights that are found without an import."""

from __future__ import annotations

import sys
from pathlib import Path

import dlib
import numpy as np
import pytest
import torch
from PIL import Image

from workbench.errors import CorruptWeights, MissingWeights
from workbench.models import dlib_resnet, load_dlib_resnet, package_folder

MODELS = package_folder("face_recognition_models", dlib_resnet.PACKAGE) / "models"


def test_descriptors_are_dlibs_own(hopper: Image.Image, astronaut: Image.Image) -> None:
    side = dlib_resnet.DLIB_CHIP
    chips = [np.asarray(picture.crop(box).resize((side, side))) for picture, box in (
        (hopper, (150, 60, 400, 310)), (astronaut, (150, 30, 300, 180)), (astronaut, (0, 0, 512, 512)),
    )]  # fmt: skip
    chips += [np.full((side, side, 3), level, np.uint8) for level in (0, 255)]
    chips += [np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)]
    theirs = dlib.face_recognition_model_v1(str(MODELS / dlib_resnet.FILE))  # pyright: ignore
    with torch.inference_mode():
        ours = load_dlib_resnet()(torch.from_numpy(np.stack(chips)).permute(0, 3, 1, 2).float())
    assert ours.shape == (6, 128)
    for one, chip in zip(ours.numpy(), chips, strict=True):
        assert np.abs(one - np.array(theirs.compute_face_descriptor(chip))).max() < 2e-5


def test_the_package_of_the_weights_is_never_imported() -> None:
    """Its own import fails where there is no pkg_resources."""
    net = load_dlib_resnet()
    assert "face_recognition_models" not in sys.modules
    assert not net.training and not any(p.requires_grad for p in net.parameters())


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingWeights, match="pip install face-recognition-models"):
        load_dlib_resnet()


@pytest.mark.parametrize("what", ["gone", "cut short", "one bit flipped", "a web page"])
def test_a_damaged_file_is_refused_with_a_remedy(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dlib_resnet, "package_folder", lambda *names: tmp_path)
    whole = (MODELS / dlib_resnet.FILE).read_bytes()
    middle = len(whole) // 2
    content = {
        "cut short": whole[:middle],
        "one bit flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "a web page": b"<html>404</html>",
    }
    (tmp_path / "models").mkdir()
    if what in content:
        (tmp_path / "models" / dlib_resnet.FILE).write_bytes(content[what])
    with pytest.raises(CorruptWeights, match="pip install --force-reinstall"):
        load_dlib_resnet()
