"""Face restorers by file: what each does with the weight, the same face every time, and the others refused by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from support.models import EMBEDDED_RESTORER
from support.networks import gfpgan, restore_former, write_network, write_state

from workbench.errors import CorruptWeights, MissingWeights, RestorationFailed, WrongModel
from workbench.models import restorer_kind
from workbench.models.face_restorers import load_face_restorer


@pytest.fixture(scope="module")
def crop() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)


@pytest.fixture
def folder(home: Path) -> Path:
    path = home / "models" / "restorers"
    path.mkdir(parents=True)
    return path


def by_hand(net: torch.nn.Module, crop: np.ndarray, **how: object) -> np.ndarray:
    """As the networks' own scripts call them: -1..1 in and out."""
    with torch.inference_mode():
        x = torch.from_numpy(crop.copy()).permute(2, 0, 1)[None].float() / 255 * 2 - 1
        answer = net(x, **how)[0][0]
    return ((answer.clamp(-1, 1) + 1) / 2 * 255).round().byte().permute(1, 2, 0).numpy()


def silent(done: int, total: int) -> None:
    """A progress that shows nothing."""


@pytest.mark.parametrize(("plus", "under"), [(False, "params"), (True, "state_dict"), (True, "")])
def test_restoreformer(folder: Path, crop: np.ndarray, plus: bool, under: str) -> None:
    net = restore_former(folder / "former.pth", plus, under)
    kind = restorer_kind("former")
    assert (kind.name, kind.fidelity) == ("RestoreFormer++" if plus else "RestoreFormer", False)
    restorer = load_face_restorer(folder / "former.pth")
    made = restorer.suffix(restorer.prefix(crop), [0.0, 1.0], silent)
    assert np.array_equal(made[0], by_hand(net, crop)) and np.array_equal(made[0], made[1]) and made[0].std() > 1


def test_restoreformer_plus_plus_attends_at_32_px(folder: Path, crop: np.ndarray) -> None:
    """Its second decoder attention sees the encoder's features before they are halved; its heads are 4."""
    net = restore_former(folder / "former.pth", plus=True)
    names = {key.split(".attn.")[0] for key in net.state_dict() if key.startswith("decoder.up") and ".attn." in key}
    assert names == {"decoder.up.4", "decoder.up.5"}
    seen = []
    for block in net.decoder.up[4].attn:  # pyright: ignore
        block.register_forward_pre_hook(lambda _, taken: seen.append([tuple(t.shape[-2:]) for t in taken]))
        assert block.head_size == 4
    by_hand(net, crop)
    assert seen == [[(32, 32), (32, 32)]] * 2


@pytest.mark.slow
def test_gfpgan_gives_the_same_face_every_time(folder: Path, crop: np.ndarray) -> None:
    net = gfpgan(folder / "GFPGANv1.4.pth")
    restorer = load_face_restorer(folder / "GFPGANv1.4.pth")
    assert (restorer.kind.name, restorer.kind.fidelity) == ("GFPGAN", False)
    first = restorer.prefix(crop)
    assert np.array_equal(first, by_hand(net, crop, randomize_noise=False))
    assert not np.array_equal(first, by_hand(net, crop))  # by itself it draws noise


def test_a_codeformer_under_another_name_has_its_weight(folder: Path, crop: np.ndarray) -> None:
    shutil.copy(EMBEDDED_RESTORER / "codeformer.safetensors", folder / "fine-tune.safetensors")
    kind = restorer_kind("fine-tune")
    assert (kind.name, kind.fidelity) == ("CodeFormer", True) == (restorer_kind("codeformer").name, True)
    restorer = load_face_restorer(folder / "fine-tune.safetensors")
    made = restorer.suffix(restorer.prefix(crop), [0.0, 1.0], silent)
    assert not np.array_equal(made[0], made[1])


def test_what_restores_no_faces_is_refused_by_name(folder: Path) -> None:
    write_state(folder / "GPEN-BFR-512.pth", {"ecd0.0.weight": torch.ones(1), "final_linear.0.weight": torch.ones(1)})
    with pytest.raises(
        WrongModel, match=r"GPEN-BFR-512.pth is GPEN, which spandrel does not have.*take CodeFormer, GFPGAN"
    ):
        restorer_kind("GPEN-BFR-512")
    (folder / "GPEN-BFR-1024.onnx").write_bytes(b"onnx")
    with pytest.raises(WrongModel, match="is an ONNX file"):
        restorer_kind("GPEN-BFR-1024")
    write_network(folder / "4x.pth", "ESRGAN")
    with pytest.raises(WrongModel, match=r"4x.pth is ESRGAN, which restores no faces; .*or name it in upscaler"):
        restorer_kind("4x")
    with pytest.raises(WrongModel, match="ESRGAN, which restores no faces"):
        load_face_restorer(folder / "4x.pth")
    with pytest.raises(
        MissingWeights, match=r"the face restorer 'gfpgan' is not there: .*restorer 'codeformer' or 'none'"
    ):
        restorer_kind("gfpgan")
    (folder / "broken.pth").write_bytes(b"PK")
    with pytest.raises(CorruptWeights, match=r"broken.pth is not a usable weights file"):
        restorer_kind("broken")


def test_damage_is_named(folder: Path, crop: np.ndarray) -> None:
    net = restore_former(folder / "former.pth")
    state = net.state_dict()
    del state["decoder.conv_in.bias"]
    write_state(folder / "short.pth", state)
    with pytest.raises(CorruptWeights, match=r"short.pth .* does not fit RestoreFormer"):
        load_face_restorer(folder / "short.pth")
    spoilt = {k: v * float("nan") if "conv_out" in k else v for k, v in net.state_dict().items()}
    write_state(folder / "nan.pth", spoilt)
    with pytest.raises(RestorationFailed, match="RestoreFormer returned NaN"):
        load_face_restorer(folder / "nan.pth").prefix(crop)
    with pytest.raises(RestorationFailed, match=r"takes a \(512, 512, 3\) uint8 crop, not \(8, 8, 3\)"):
        load_face_restorer(folder / "former.pth").prefix(crop[:8, :8])
