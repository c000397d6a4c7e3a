"""The face detector: its converted weights answer as their ONNX does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data

from workbench.models import load_retinaface


def test_retinaface_equals_its_onnx() -> None:
    """A pair of convolutions in the wrong order loads as well: only the outputs tell."""
    onnxruntime = pytest.importorskip("onnxruntime")
    from retinaface.weights import WEIGHTS

    picture = data.astronaut()[:250, 120:400, ::-1].astype(np.float32) - np.array([104, 117, 123], np.float32)
    x = picture.transpose(2, 0, 1)[None].copy()
    theirs = onnxruntime.InferenceSession(WEIGHTS, providers=["CPUExecutionProvider"]).run(None, {"input": x})
    with torch.inference_mode():
        ours = load_retinaface()(torch.from_numpy(x))
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert np.abs(a.numpy() - b).max() < 1e-4


@pytest.mark.filterwarnings("ignore:.*weights.*:UserWarning")  # facexlib's call of torchvision's resnet50
@pytest.mark.parametrize("name", ["mobile0.25", "resnet50"])
def test_retinaface_from_a_facexlib_file(tmp_path: Path, name: str) -> None:
    from facexlib.detection.retinaface import RetinaFace

    net = load_retinaface() if name == "mobile0.25" else RetinaFace(network_name=name, device=torch.device("cpu"))
    path = tmp_path / "detection.pth"
    torch.save({f"module.{key}": value for key, value in net.state_dict().items()}, path)
    loaded = load_retinaface(path)
    assert loaded.cfg["name"] == {"mobile0.25": "mobilenet0.25", "resnet50": "Resnet50"}[name]
    for key, value in net.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)
    assert not loaded.training
