"""The face restorer: its own code bit for bit, in two parts too; the embedded one restores; what it refuses."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from skimage import data
from torch import nn

from workbench.errors import CorruptWeights, RestorationFailed
from workbench.models import load_retinaface
from workbench.models.codeformer import (
    EMBEDDED_CODEFORMER,
    CodeFormer,
    NarrowCodeFormer,
    load_codeformer,
    prefix,
    restore,
    suffix,
)
from workbench.recipe.faces import align, find_faces


@pytest.fixture(scope="module")
def embedded() -> CodeFormer:
    return load_codeformer()


@pytest.fixture(scope="module")
def crop() -> np.ndarray:
    picture = data.astronaut()
    return align(picture, find_faces(picture, load_retinaface())[0])[0]


def by_hand(state: dict[str, torch.Tensor], net: CodeFormer, crop: np.ndarray, weight: float) -> np.ndarray:
    """CodeFormer's inference script, step by step: BGR -> RGB, /255, mean .5 std .5, net, clamp, round."""
    from torchvision.transforms.functional import normalize

    net.load_state_dict(state, strict=True)
    net.eval()
    bgr = crop[..., ::-1].astype(np.float32) / 255.0
    x = torch.from_numpy(np.ascontiguousarray(bgr[..., ::-1].transpose(2, 0, 1)))
    x = normalize(x, [0.5] * 3, [0.5] * 3).unsqueeze(0)
    with torch.no_grad():
        y = net(x, weight=weight)[0].squeeze(0).float().clamp_(-1, 1)
    return ((y + 1) / 2 * 255.0).round().numpy().astype(np.uint8).transpose(1, 2, 0)


@pytest.mark.parametrize("weight", [0.0, 0.6, 1.0])
def test_restore_equals_the_architecture_by_hand(embedded, crop, weight) -> None:
    state = {key: value.float() for key, value in load_file(EMBEDDED_CODEFORMER).items()}
    assert isinstance(embedded, NarrowCodeFormer)
    assert NarrowCodeFormer.forward is CodeFormer.forward, "the embedded restorer must run CodeFormer's own code"
    before = crop.copy()
    assert np.array_equal(restore(embedded, crop, weight), by_hand(state, load_codeformer(), crop, weight))
    assert np.array_equal(crop, before)


WEIGHTS = (0.6, 0.0, 1.0, 0.35)


def whole(net: CodeFormer, crop: np.ndarray, weight: float) -> np.ndarray:
    """spandrel's `forward`, in one piece."""
    with torch.inference_mode():
        x = (torch.from_numpy(crop.copy()).permute(2, 0, 1)[None].float() / 255.0 - 0.5) / 0.5
        y = (net(x, weight=weight)[0][0].clamp(-1, 1) + 1) / 2
    return (y * 255.0).round().byte().permute(1, 2, 0).numpy()


def test_split_equals_the_whole_for_any_weights(embedded, crop) -> None:
    """However many weights, in whatever order: the features serve them all and are not used up."""
    alone = [whole(embedded, crop, weight) for weight in WEIGHTS]
    assert len({picture.tobytes() for picture in alone}) == len(WEIGHTS)
    features = prefix(embedded, crop)
    for count in (4, 1, 2):
        made = suffix(embedded, features, WEIGHTS[:count])
        assert [np.array_equal(a, b) for a, b in zip(made, alone, strict=False)] == [True] * count
    assert suffix(embedded, features, []) == []


@pytest.mark.parametrize("connect", [(), ("16",), ("512", "64")])
def test_split_equals_the_whole_wherever_the_fuses_are(crop, connect) -> None:
    torch.manual_seed(2)
    net = NarrowCodeFormer(
        nf=32, ch_mult=(1, 1, 1, 1, 1, 1), num_res_blocks=1, dim_embd=32, n_head=2, n_layers=1, codebook_size=16,
        connect_list=connect,
    ).eval()  # fmt: skip
    made = suffix(net, prefix(net, crop), (0.0, 0.5, 1.0))
    assert [np.array_equal(a, whole(net, crop, w)) for a, w in zip(made, (0.0, 0.5, 1.0), strict=True)] == [True] * 3
    assert np.array_equal(made[0], made[2]) == (connect == ())


def test_prefix_runs_once_and_suffix_counts_its_weights(embedded, crop) -> None:
    encoded, seen = [], []
    handle = embedded.encoder.register_forward_pre_hook(lambda *_: encoded.append("whole"))
    first = embedded.encoder.blocks[0].register_forward_hook(lambda *_: encoded.append("block"))
    try:
        suffix(embedded, prefix(embedded, crop), (0.2, 0.9), lambda *n: seen.append(n))
    finally:
        handle.remove()
        first.remove()
    assert encoded == ["block"] and seen == [(1, 2), (2, 2)]

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        suffix(embedded, prefix(embedded, crop), (0.2, 0.9), stop)


@pytest.mark.slow
def test_the_real_size_from_a_released_file(tmp_path: Path, crop) -> None:
    """94 M random parameters in codeformer.pth's own form run through spandrel's class, bit for bit."""
    torch.manual_seed(0)
    net = CodeFormer()
    state = net.state_dict()
    assert sum(parameter.numel() for parameter in net.parameters()) == 94_112_707
    path = tmp_path / "codeformer.pth"
    torch.save({"params_ema": state}, path)
    loaded = load_codeformer(path)
    assert type(loaded) is CodeFormer
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())
    (middle,) = suffix(loaded, prefix(loaded, crop), (0.7,))
    assert np.array_equal(middle, by_hand(state, net, crop, 0.7))


def test_autocast_around_it_changes_nothing(embedded, crop) -> None:
    expected = restore(embedded, crop, 0.5)
    with torch.autocast("cpu", torch.bfloat16):
        assert np.array_equal(restore(embedded, crop, 0.5), expected)


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_weight_out_of_range(embedded, crop, weight) -> None:
    with pytest.raises(RestorationFailed, match="0"):
        restore(embedded, crop, weight)


def test_wrong_crops_are_named(embedded) -> None:
    for wrong in (
        np.zeros((256, 256, 3), np.uint8),
        np.zeros((512, 512, 3), np.float32),
        np.zeros((512, 512), np.uint8),
    ):
        with pytest.raises(RestorationFailed, match="512"):
            restore(embedded, wrong, 0.5)


def test_nan_is_an_error_and_never_the_input(crop) -> None:
    net = load_codeformer()
    nn.init.constant_(net.get_parameter("encoder.blocks.0.weight"), float("nan"))
    with pytest.raises(RestorationFailed, match="NaN"):
        restore(net, crop, 0.5)


def sharpness(picture: np.ndarray) -> float:
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(np.abs(cv2.Laplacian(grey, cv2.CV_32F)[100:440, 110:400]).mean())


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - other).mean())


@pytest.fixture(scope="module")
def restored(embedded) -> dict[str, tuple[np.ndarray, np.ndarray, list[np.ndarray]]]:
    """name: (sharp, blurred by sigma 3.5, [restored at 0, 0.5, 1]) of both faces, turned and moved a little."""
    from matplotlib import cbook

    detector, made = load_retinaface(), {}
    hopper = cv2.imread(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    assert hopper is not None
    for name, picture, turn in (("collins", data.astronaut(), 1.7), ("hopper", hopper[..., ::-1].copy(), -1.3)):
        aligned, _ = align(picture, find_faces(picture, detector)[0])
        move = cv2.getRotationMatrix2D((256, 290), turn, 1.015)
        sharp = cv2.warpAffine(aligned, move, (512, 512), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        soft = cv2.GaussianBlur(sharp, (0, 0), 3.5)
        made[name] = sharp, soft, [restore(embedded, soft, weight) for weight in (0.0, 0.5, 1.0)]
    return made


@pytest.mark.parametrize("name", ["collins", "hopper"])
def test_weight_0_sharpens_and_weight_1_stays_closer(restored, name) -> None:
    sharp, soft, (quality, middle, fidelity) = restored[name]
    # measured: 1.83 times the blurred face's sharpness for Collins, 2.8 for Hopper
    assert sharpness(quality) > 1.5 * sharpness(soft)
    assert abs(sharpness(quality) - sharpness(sharp)) < abs(sharpness(soft) - sharpness(sharp))
    assert distance(fidelity, soft) < 0.8 * distance(quality, soft)
    assert distance(fidelity, soft) < distance(middle, soft) < distance(quality, soft)
    assert distance(quality, middle) < distance(quality, fidelity)


@pytest.mark.parametrize("name", ["collins", "hopper"])
def test_no_colour_cast_and_still_that_face(restored, name) -> None:
    sharp, _, made = restored[name]
    for picture in made:
        assert np.abs(picture.mean((0, 1)) - sharp.mean((0, 1))).max() < 8
        (found,) = find_faces(picture, load_retinaface())
        (expected,) = find_faces(sharp, load_retinaface())
        assert np.abs(found.landmarks - expected.landmarks).mean() < 6  # of 512 px


@pytest.mark.parametrize("change", ["cut", "lacks", "extra", "shape", "metadata"])
def test_a_damaged_safetensors_is_named(tmp_path: Path, change) -> None:
    path = tmp_path / "narrow.safetensors"
    state = load_file(EMBEDDED_CODEFORMER)
    from safetensors import safe_open

    with safe_open(EMBEDDED_CODEFORMER, framework="pt") as file:
        metadata = dict(file.metadata())
    if change == "lacks":
        del state["feat_emb.weight"]
    elif change == "extra":
        state["more"] = torch.zeros(2)
    elif change == "shape":
        state["feat_emb.bias"] = torch.zeros(7)
    elif change == "metadata":
        metadata = {}
    save_file(state, path, metadata)
    if change == "cut":
        path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CorruptWeights, match=r"narrow\.safetensors"):
        load_codeformer(path)
