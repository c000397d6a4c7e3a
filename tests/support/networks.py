"""Small random files of the networks that people have, by their own classes."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from spandrel.architectures.RestoreFormer import RestoreFormer
from torch import nn

from workbench.models.face_restorers import RestoreFormerPlusPlus

MAIN, EXTRA = "spandrel.architectures", "spandrel_extra_arches.architectures"
WINDOW: dict[str, Any] = {"embed_dim": 12, "depths": (1,), "num_heads": (2,), "window_size": 8, "img_size": 64}
LAYERS: dict[str, Any] = {"depth": (1,), "num_heads": (2,), "upscale": 2, "upsampler": "pixelshuffledirect"}
SMALL: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ESRGAN": (MAIN, "ESRGAN", {"num_filters": 8, "num_blocks": 1}),
    "Compact": (MAIN, "Compact", {"num_feat": 8, "num_conv": 2, "upscale": 2, "act_type": "prelu"}),
    "SPAN": (MAIN, "SPAN", {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 8, "upscale": 2}),
    "SwinIR": (MAIN, "SwinIR", {**WINDOW, "upscale": 2, "upsampler": "pixelshuffledirect"}),
    "Swin2SR": (MAIN, "Swin2SR", {**WINDOW, "upscale": 2, "upsampler": "pixelshuffledirect"}),
    "SRFormer": (EXTRA, "SRFormer", {**WINDOW, "upscale": 2, "upsampler": "pixelshuffledirect"}),
    "SAFMN": (MAIN, "SAFMN", {"dim": 8, "n_blocks": 1, "upscaling_factor": 2}),
    "DAT": (MAIN, "DAT", {**LAYERS, "embed_dim": 32, "split_size": (8, 16)}),
    "HAT": (
        MAIN,
        "HAT",
        {**WINDOW, "compress_ratio": 2, "squeeze_factor": 4, "upscale": 2, "upsampler": "pixelshuffle"},
    ),
    "OmniSR": (MAIN, "OmniSR", {}),
    "RealCUGAN": (MAIN, "UpCunet2x", {}),
    "PLKSR": (MAIN, "PLKSR", {"dim": 8, "n_blocks": 1}),
    "SwiftSRGAN": (MAIN, "SwiftSRGAN", {}),
    "DITN": (MAIN, "DITN", {}),
    "CRAFT": (MAIN, "CRAFT", {}),
    "SeemoRe": (MAIN, "SeemoRe", {}),
    "DnCNN": (MAIN, "DnCNN", {"in_nc": 3, "out_nc": 3, "nc": 8, "nb": 4}),
    "DCTLSA": (MAIN, "DCTLSA", {}),
    "ATD": (MAIN, "ATD", {}),
    "RGT": (MAIN, "RGT", {}),
    "GRL": (MAIN, "GRL", {}),
    "MoSR": (MAIN, "MoSR", {}),
    "RetinexFormer": (MAIN, "RetinexFormer", {}),
    "MixDehazeNet": (MAIN, "MixDehazeNet", {}),
    "HVICIDNet": (MAIN, "HVICIDNet", {}),
    "MPRNet": (EXTRA, "MPRNet", {}),
    "MIRNet2": (EXTRA, "MIRNet2", {}),
    "RCAN": (MAIN, "RCAN", {"n_resgroups": 1, "n_resblocks": 1, "n_feats": 8, "reduction": 4, "scale": 2}),
}
"""{architecture: (package, class, numbers that make it small)}"""

FORMER = {
    "n_embed": 16, "embed_dim": 32, "ch": 32, "out_ch": 3, "ch_mult": (1, 1, 1, 1, 1, 1), "num_res_blocks": 1,
    "attn_resolutions": (16,), "dropout": 0.0, "in_channels": 3, "resolution": 512, "z_channels": 32, "double_z": False,
    "enable_mid": True,
}  # fmt: skip


def network(name: str) -> nn.Module:
    """A small random network; always the same."""
    package, cls, numbers = SMALL[name]
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        return getattr(importlib.import_module(f"{package}.{name}"), cls)(**numbers).eval()


def write_network(path: Path, name: str, under: str = "") -> nn.Module:
    """A random network as a file: `.pth`, with the tensors `under` a key, or `.safetensors`."""
    net = network(name)
    write_state(path, net.state_dict(), under)
    return net


def write_state(path: Path, state: dict[str, Any], under: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file({key: value.contiguous() for key, value in state.items()}, path)
    else:
        torch.save({under: state} if under else state, path)
    return path


def _seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return make().eval()


def restore_former(path: Path, plus: bool = False, under: str = "") -> nn.Module:
    """A small RestoreFormer, or RestoreFormer++ with its tensors' names as its training leaves them."""
    numbers: Any = FORMER
    net = _seeded(lambda: RestoreFormerPlusPlus(**numbers) if plus else RestoreFormer(**numbers, head_size=8))
    state = net.state_dict()
    if plus:
        state = {f"vqvae.{key}": value for key, value in state.items()} | {"discriminator.conv.weight": torch.ones(2)}
    write_state(path, state, under)
    return net


def gfpgan(path: Path) -> nn.Module:
    """GFPGAN has one size. Its noise is made to matter."""
    from spandrel.architectures.GFPGAN import GFPGAN

    net = _seeded(
        lambda: GFPGAN(
            out_size=512, num_style_feat=512, channel_multiplier=2, decoder_load_path=None, fix_decoder=False, num_mlp=8,
            input_is_latent=True, different_w=True, narrow=1, sft_half=True,
        )
    )  # fmt: skip
    state = {key: value.half() for key, value in net.state_dict().items()}
    state |= {key: torch.full_like(v, 0.3) for key, v in state.items() if v.shape == (1,) and "style_conv" in key}
    net.load_state_dict(state)
    write_state(path, state, "params_ema")
    return net
