"""Writes a diffusers pipeline as people exchange checkpoints: one `.safetensors` file in Stability's layout.

It is the way back from what diffusers' `from_single_file` does, written from the two layouts. Tests and the full-size proof
make their files with it, since none can be had offline.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

Tensors = dict[str, torch.Tensor]

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
ENDS = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
LAYER = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}


def single_file(
    pipe: Any, path: Path, dtype: torch.dtype | None, *, vae: bool = True, metadata: Mapping[str, str] | None = None
) -> Path:
    """Write an SDXL base or refiner. `metadata`: of the file, like `modelspec.license`; the others as of `tensors_of`."""
    return write(tensors_of(pipe, vae=vae), path, dtype, metadata)


def tensors_of(pipe: Any, *, vae: bool = True) -> Tensors:
    """The tensors of an SDXL base, or of a refiner (one without its first text encoder), in Stability's layout.

    `vae`: whether it is baked in, as in most published files.
    """
    found = {f"model.diffusion_model.{name}": t for name, t in unet_tensors(pipe.unet).items()}
    if vae:
        found |= {f"first_stage_model.{name}": t for name, t in vae_tensors(pipe.vae).items()}
    second = "0" if pipe.text_encoder is None else "1"
    found |= {f"conditioner.embedders.{second}.model.{n}": t for n, t in open_clip_tensors(pipe.text_encoder_2).items()}
    if pipe.text_encoder is not None:
        first = {name.removeprefix("text_model."): t for name, t in pipe.text_encoder.state_dict().items()}
        found |= {f"conditioner.embedders.0.transformer.text_model.{name}": t for name, t in first.items()}
    return found


def write(tensors: Tensors, path: Path, dtype: torch.dtype | None, metadata: Mapping[str, str] | None = None) -> Path:
    """Write tensors as a `.safetensors` file in one precision, or, where that is None, each in its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {n: t.to(dtype or t.dtype).contiguous() for n, t in tensors.items()},
        path,
        metadata=dict(metadata or {}) or None,
    )
    return path


def unet_tensors(unet: Any) -> Tensors:
    """A UNet's tensors in Stability's layout."""
    layers, attends = unet.config.layers_per_block, ["CrossAttn" in kind for kind in unet.config.up_block_types]
    return {_unet_name(name, layers, attends): tensor for name, tensor in unet.state_dict().items()}


def _unet_name(name: str, layers: int, attends: Sequence[bool]) -> str:
    """The layout numbers input and output blocks through: a block has its layers, and its resampling is one more."""
    stem, _, leaf = name.rpartition(".")
    if stem in ENDS:
        return f"{ENDS[stem]}.{leaf}"
    if match := re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", name):
        side, block, what, layer, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
        place = block * (layers + 1) + layer
        if what == "downsamplers":
            return f"input_blocks.{block * (layers + 1) + layers + 1}.0.op.{leaf}"
        if what == "upsamplers":
            return f"output_blocks.{block * (layers + 1) + layers}.{2 if attends[block] else 1}.conv.{leaf}"
        where = f"input_blocks.{place + 1}" if side == "down" else f"output_blocks.{place}"
        return f"{where}.0.{_renamed(rest, RESNET)}" if what == "resnets" else f"{where}.1.{rest}"
    match = re.match(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)", name)
    assert match, name
    if match[1] == "attentions":
        return f"middle_block.1.{match[3]}"
    return f"middle_block.{2 * int(match[2])}.{_renamed(match[3], RESNET)}"


def vae_tensors(vae: Any) -> Tensors:
    """A VAE's tensors in Stability's layout, without a prefix."""
    count = len(vae.config.block_out_channels)
    found = {}
    for name, tensor in vae.state_dict().items():
        renamed = _vae_name(name, count)
        attends = ".attn_1." in renamed and renamed.endswith("weight") and ".norm." not in renamed
        found[renamed] = tensor[:, :, None, None] if attends else tensor  # convolutions of one pixel there
    return found


def _vae_name(name: str, count: int) -> str:
    if match := re.match(r"encoder\.down_blocks\.(\d+)\.(resnets|downsamplers)\.(\d+)\.(.+)", name):
        block = f"encoder.down.{match[1]}"
        if match[2] == "downsamplers":
            return f"{block}.downsample.{match[4]}"
        return f"{block}.block.{match[3]}.{match[4].replace('conv_shortcut', 'nin_shortcut')}"
    if match := re.match(r"decoder\.up_blocks\.(\d+)\.(resnets|upsamplers)\.(\d+)\.(.+)", name):
        block = f"decoder.up.{count - 1 - int(match[1])}"  # counted from the other end
        if match[2] == "upsamplers":
            return f"{block}.upsample.{match[4]}"
        return f"{block}.block.{match[3]}.{match[4].replace('conv_shortcut', 'nin_shortcut')}"
    if match := re.match(r"(encoder|decoder)\.mid_block\.(resnets|attentions)\.(\d+)\.(.+)", name):
        if match[2] == "attentions":
            return f"{match[1]}.mid.attn_1.{_renamed(match[4], ATTENTION)}"
        return f"{match[1]}.mid.block_{int(match[3]) + 1}.{match[4]}"
    return name.replace("conv_norm_out", "norm_out")


def open_clip_tensors(encoder: Any) -> Tensors:
    """The second text encoder's tensors in OpenCLIP's layout: query, key and value in one, the projection transposed."""
    state = encoder.state_dict()
    own = {name.removeprefix("text_model."): tensor for name, tensor in state.items()}
    found = {
        "positional_embedding": own["embeddings.position_embedding.weight"],
        "token_embedding.weight": own["embeddings.token_embedding.weight"],
        "ln_final.weight": own["final_layer_norm.weight"],
        "ln_final.bias": own["final_layer_norm.bias"],
        "text_projection": own["text_projection.weight"].T,
        "logit_scale": torch.tensor(4.6052),
    }
    for number in range(encoder.config.num_hidden_layers):
        layer = f"encoder.layers.{number}"
        block = f"transformer.resblocks.{number}"
        for leaf in ("weight", "bias"):
            three = [own[f"{layer}.self_attn.{which}_proj.{leaf}"] for which in "qkv"]
            found[f"{block}.attn.in_proj_{leaf}"] = torch.cat(three)
            found[f"{block}.attn.out_proj.{leaf}"] = own[f"{layer}.self_attn.out_proj.{leaf}"]
            found |= {f"{block}.{new}.{leaf}": own[f"{layer}.{old}.{leaf}"] for old, new in LAYER.items()}
    return found


def _renamed(rest: str, names: Mapping[str, str]) -> str:
    stem, _, leaf = rest.rpartition(".")
    return f"{names.get(stem, stem)}.{leaf}"
