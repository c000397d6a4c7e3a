"""Upscalers by file: every architecture loads or is refused by name, and tiles leave no trace where that is possible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.networks import SMALL, network, restore_former, write_network, write_state

from workbench.errors import CorruptWeights, MissingWeights, WrongModel
from workbench.models import import_basicsr
from workbench.models.architectures import architecture_of
from workbench.models.upscaler_files import UPSCALER_FILES, upscaler_identity, upscaler_licence, upscaler_work
from workbench.models.upscalers import Described, load_upscaler

SLOW = {"ATD", "GRL", "RGT", "MoSR", "DCTLSA", "CRAFT", "MIRNet2", "MPRNet"}  # seconds for the smallest picture


@pytest.fixture
def folder(home: Path) -> Path:
    path = home / "models" / "upscalers"
    path.mkdir(parents=True)
    return path


@pytest.mark.parametrize("name", SMALL)
def test_each_architecture_loads(folder: Path, name: str) -> None:
    write_network(folder / f"{name}.pth", name)
    assert architecture_of(folder / f"{name}.pth") == name
    upscaler = load_upscaler(name)
    if name in SLOW:
        return
    image = np.random.default_rng(0).integers(0, 256, (40, 36, 3), dtype=np.uint8)
    made = upscaler(image)
    assert made.shape == (40 * upscaler.scale, 36 * upscaler.scale, 3) and made.std() > 0
    assert np.array_equal(made, upscaler(image))  # nothing is drawn at random


@pytest.mark.parametrize(
    ("ending", "under"), [(".pth", "params_ema"), (".pt", "state_dict"), (".safetensors", ""), (".ckpt", "params")]
)
def test_the_forms_of_a_file(folder: Path, ending: str, under: str) -> None:
    net = write_network(folder / f"4x-Mine{ending}", "ESRGAN", under)
    upscaler = load_upscaler("4x-Mine")
    image = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected = net(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)[0].clamp(0, 1) * 255
    assert upscaler.scale == 4 and np.array_equal(upscaler(image), expected.round().byte().permute(1, 2, 0).numpy())


def test_names_of_a_gans_generator_and_endings_in_capitals(folder: Path) -> None:
    state = network("SPAN").state_dict()
    write_state(folder / "gan.pth", {f"netG.{key}": value for key, value in state.items()})
    assert load_upscaler("gan").scale == 2
    write_state(folder / "x.safetensors", state)
    (folder / "x.safetensors").rename(folder / "X.SAFETENSORS")
    assert load_upscaler(str(folder / "X.SAFETENSORS")).scale == 2


def test_real_esrgans_own_files_run_on_basicsrs_networks(folder: Path) -> None:
    sr = import_basicsr()
    torch.manual_seed(0)
    own = sr.RRDBNet(3, 3, scale=2, num_feat=8, num_block=1, num_grow_ch=4)
    write_state(folder / "RealESRGAN_x2plus.pth", own.state_dict(), "params_ema")
    found = load_upscaler("RealESRGAN_x2plus")
    assert (
        type(found.net).__name__ == "RRDBNet" and found.scale == 2 and type(found.net).__module__.startswith("basicsr")
    )
    write_network(folder / "4x-UltraSharp.pth", "ESRGAN")  # in ESRGAN's first names
    assert isinstance(load_upscaler("4x-UltraSharp").net, Described)
    write_network(folder / "compact.pth", "Compact")
    assert type(load_upscaler("compact").net).__name__ == "SRVGGNetCompact"


@pytest.mark.parametrize("name", ["ESRGAN", "SPAN", "PLKSR"])
def test_tiles_of_convolutions_join_exactly(folder: Path, name: str) -> None:
    """The whole picture in one piece gives the same levels."""
    write_network(folder / f"{name}.pth", name)
    upscaler = load_upscaler(name)
    image = np.random.default_rng(1).integers(0, 256, (40, 460, 3), dtype=np.uint8)
    assert upscaler.tile < 460
    from workbench.models.realesrgan import upscale

    whole = upscale(upscaler.net, upscaler.scale, image, 0, 0, step=upscaler.step)
    assert np.abs(upscaler(image).astype(int) - whole).max() <= 1


def test_what_looks_at_the_whole_picture_gets_it(folder: Path) -> None:
    write_network(folder / "SwinIR.pth", "SwinIR")  # spandrel: tiling is discouraged
    assert load_upscaler("SwinIR").tile == 0


def test_tiles_of_windows_fall_alike(folder: Path) -> None:
    """Where only windows meet (SRFormer's are 8 px here), a tile's result differs from the whole one's by a level at most."""
    write_network(folder / "SRFormer.pth", "SRFormer")
    upscaler = load_upscaler("SRFormer")
    image = np.asarray(Image.effect_noise((448, 64), 60).convert("RGB"))
    from workbench.models.realesrgan import upscale

    whole = upscale(upscaler.net, upscaler.scale, image, 0, 0, step=upscaler.step)
    assert np.abs(upscaler(image).astype(int) - whole).max() <= 1


# --- refused ---------------------------------------------------------------------------------------------------------


def test_what_is_no_upscaler_is_refused_by_name(folder: Path) -> None:
    restore_former(folder / "former.pth")
    with pytest.raises(WrongModel, match=r"former.pth is RestoreFormer, which restores faces; name it in restorer"):
        load_upscaler("former")
    write_state(folder / "unknown.pth", {"some.weight": torch.ones(2)})
    with pytest.raises(WrongModel, match=r"unknown.pth holds no network .*\(its first tensor is some.weight\)"):
        load_upscaler("unknown")
    (folder / "x.onnx").write_bytes(b"onnx")
    for name in ("x", "x.onnx", str(folder / "x.onnx")):
        with pytest.raises(WrongModel, match="is an ONNX file, which the workbench does not run"):
            load_upscaler(name)


def test_grey_networks_are_refused(folder: Path) -> None:
    from spandrel.architectures.DnCNN import DnCNN

    write_state(folder / "grey.pth", DnCNN(in_nc=1, out_nc=1, nc=8, nb=4).state_dict())
    with pytest.raises(WrongModel, match=r"is DnCNN for pictures of 1 channel\(s\)"):
        load_upscaler("grey")


def test_a_file_that_does_not_fit_its_architecture_is_damaged(folder: Path) -> None:
    state = network("SPAN").state_dict()
    state["block_1.c1_r.sk.weight"] = torch.ones(3, 3, 1, 1)
    write_state(folder / "odd.pth", state)
    with pytest.raises(CorruptWeights, match="it does not fit SPAN"):
        load_upscaler("odd")


class Evil:
    def __reduce__(self) -> Any:
        import os

        return (os.system, ("touch was-run",))


def test_code_in_a_file_is_not_run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"params": {"conv.weight": torch.ones(2)}, "more": Evil()}, folder / "evil.pth")
    with pytest.raises(CorruptWeights, match=r"it holds more than tensors \((posix|os).system\), which could be code"):
        load_upscaler("evil")
    torch.jit.script(torch.nn.Conv2d(3, 3, 1)).save(folder / "script.pt")
    with pytest.raises(CorruptWeights, match="it is a TorchScript archive, which holds code"):
        load_upscaler("script")
    assert not (tmp_path / "was-run").exists()


def test_names_paths_and_what_is_nearest(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_network(folder / "4x-UltraSharp.pth", "ESRGAN")
    deep = folder / "more" / "2x-Deep.safetensors"
    write_network(deep, "SPAN")
    for name in ("4x-UltraSharp", "4x-UltraSharp.pth", str(folder / "4x-UltraSharp.pth")):
        assert UPSCALER_FILES.find(name) == folder / "4x-UltraSharp.pth"
    assert UPSCALER_FILES.find("2x-Deep") == deep and UPSCALER_FILES.files() == [folder / "4x-UltraSharp.pth", deep]
    comfy = folder.parent / "upscale_models" / "4x-Comfy.pth"
    write_network(comfy, "ESRGAN")
    assert UPSCALER_FILES.find("4x-Comfy") == comfy
    with pytest.raises(
        MissingWeights, match=r"the upscaler '4x-UltaSharp' is not there: .*Did you mean '4x-UltraSharp'\?"
    ):
        load_upscaler("4x-UltaSharp")
    monkeypatch.chdir(folder)
    assert UPSCALER_FILES.find("./4x-UltraSharp.pth") == folder / "4x-UltraSharp.pth"


def test_what_is_known_without_loading(folder: Path) -> None:
    path = folder / "mine.pth"
    write_network(path, "ESRGAN")
    first = upscaler_identity("mine")
    write_network(path, "SPAN")
    assert upscaler_identity("mine") != first and len(first) == 64
    assert upscaler_licence("mine") == "upscaler mine: ask whoever published it"
    path.with_suffix(".license").write_text("CC-BY-NC-SA-4.0")
    assert upscaler_licence("mine").startswith("upscaler mine: CC-BY-NC-SA-4.0; must not be put behind a service")
    assert upscaler_licence("gone") == "upscaler gone: ask whoever published it" and upscaler_work("gone") == 37.6
    assert 0 < upscaler_work("mine") < upscaler_work("realesrgan-x4plus")
