"""Small LoRAs for the tiny model, in every way in which people's files name their tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

STYLES = ("kohya", "kohya-sgm", "diffusers", "diffusers-old", "unet-only", "text-only")
RANK = 2
DOWN = "down_blocks_1_attentions_0_transformer_blocks_0_"
UNET = {  # {module: the same under Stability's names}
    DOWN + "attn1_to_q": "input_blocks_3_1_transformer_blocks_0_attn1_to_q",
    DOWN + "attn2_to_k": "input_blocks_3_1_transformer_blocks_0_attn2_to_k",
    DOWN + "attn2_to_out_0": "input_blocks_3_1_transformer_blocks_0_attn2_to_out_0",
    DOWN + "ff_net_0_proj": "input_blocks_3_1_transformer_blocks_0_ff_net_0_proj",
    "mid_block_attentions_0_proj_in": "middle_block_1_proj_in",
    "up_blocks_0_attentions_1_transformer_blocks_0_attn1_to_v": "output_blocks_1_1_transformer_blocks_0_attn1_to_v",
}
TEXT = ("layers_0_self_attn_q_proj", "layers_1_self_attn_out_proj", "layers_0_mlp_fc1")
SEPARATE = (
    "down_blocks",
    "mid_block",
    "up_blocks",
    "transformer_blocks",
    "to_q",
    "to_k",
    "to_v",
    "to_out",
    "proj_in",
    "self_attn",
    "q_proj",
    "out_proj",
)


def dotted(name: str) -> str:
    for part in SEPARATE:
        name = name.replace(part, part.replace("_", "~"))
    return name.replace("_", ".").replace("~", "_")


def write_lora(
    path: Path, style: str, pipe: Any, *, strength: float = 3.0, alpha: float | None = 1.0, seed: int = 0
) -> Path:
    """Write a LoRA for a pipeline of the tiny model. `alpha`: kohya's; its weight is alpha / 2."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    targets = [("unet", "lora_unet_", name) for name in UNET] if style != "text-only" else []
    if style != "unet-only":
        targets += [("text_encoder", "lora_te1_text_model_encoder_", name) for name in TEXT]
        targets += [("text_encoder_2", "lora_te2_text_model_encoder_", name) for name in TEXT]
    for part, prefix, name in targets:
        modules = dict(getattr(pipe, part).named_modules())
        inside = next(
            found
            for found in (dotted(name), f"encoder.{dotted(name)}", f"text_model.encoder.{dotted(name)}")
            if found in modules
        )
        layer = modules[inside]
        down = torch.randn(RANK, layer.in_features, generator=generator) * strength / layer.in_features**0.5
        up = torch.randn(layer.out_features, RANK, generator=generator) * strength
        if style.startswith("diffusers"):
            name = inside if part == "unet" else "text_model." + inside.removeprefix("text_model.")
            if style == "diffusers-old" and ".to_" in name:
                name = (
                    name.replace("attn1.", "attn1.processor.")
                    .replace("attn2.", "attn2.processor.")
                    .replace("to_out.0", "to_out")
                )
                tensors |= {f"{part}.{name}_lora.down.weight": down, f"{part}.{name}_lora.up.weight": up}
            elif style == "diffusers-old":
                kind = "lora" if part == "unet" else "lora_linear_layer"
                tensors |= {f"{part}.{name}.{kind}.down.weight": down, f"{part}.{name}.{kind}.up.weight": up}
            else:
                tensors |= {f"{part}.{name}.lora_A.weight": down, f"{part}.{name}.lora_B.weight": up}
            continue
        name = prefix + (UNET[name] if style == "kohya-sgm" and part == "unet" else name)
        tensors |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
        if alpha is not None:
            tensors[f"{name}.alpha"] = torch.tensor(alpha)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path
