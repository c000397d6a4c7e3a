"""A random SDXL of a few kilobytes: real diffusers folders through the real loaders, a picture in a tenth of a second.

For tests of what the pipeline does, where what the picture shows does not matter.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import diffusers
import torch
from tokenizers import pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from workbench.models import realesrgan

d: Any = diffusers  # its annotations say tuple[int] where it takes any tuple

WIDTH, SECOND = 32, 24  # of the two text encoders: from_single_file tells them apart by that
EMBEDDED_RESTORER = Path(__file__).parents[2] / "workbench" / "models" / "embedded" / "restorer"


def make_tiny_model(folder: Path) -> Path:
    """Write `base/`, `refiner/` and `restorer/` under `folder`, always the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        letters = sorted(pre_tokenizers.ByteLevel.alphabet())
        tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
        names = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
        tokenizers = [
            CLIPTokenizer(
                vocab={t: i for i, t in enumerate(tokens)}, merges=[], pad_token=pad, model_max_length=77, **names
            )
            for pad in ("<|endoftext|>", "!")
        ]
        ids: dict[str, Any] = {
            "bos_token_id": len(tokens) - 2,
            "eos_token_id": len(tokens) - 1,
            "pad_token_id": len(tokens) - 1,
        }
        # with fewer than 10 layers in the second, diffusers takes a single file for Stable Diffusion 1's
        first, second = (
            CLIPTextConfig(
                vocab_size=len(tokens), hidden_size=width, intermediate_size=width, projection_dim=width,
                num_hidden_layers=layers, num_attention_heads=2, max_position_embeddings=77, **ids,
            )
            for width, layers in ((WIDTH, 2), (SECOND, 10))
        )  # fmt: skip
        encoder, encoder_2 = CLIPTextModel(first), CLIPTextModelWithProjection(second)
        vae = d.AutoencoderKL(
            block_out_channels=(8, 8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=1, norm_num_groups=4, latent_channels=4,
            force_upcast=False, scaling_factor=0.13025,
        )  # fmt: skip
        scheduler = d.EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            timestep_spacing="leading",
        )
        shared = {"text_encoder_2": encoder_2, "tokenizer_2": tokenizers[1], "vae": vae, "scheduler": scheduler}
        d.StableDiffusionXLPipeline(
            text_encoder=encoder, tokenizer=tokenizers[0], unet=_unet(WIDTH + SECOND, 6), **shared
        ).save_pretrained(folder / "base")
        d.StableDiffusionXLImg2ImgPipeline(
            text_encoder=None, tokenizer=None, unet=_unet(SECOND, 5), requires_aesthetics_score=True,
            force_zeros_for_empty_prompt=False, **shared,
        ).save_pretrained(folder / "refiner")  # fmt: skip
    shutil.copytree(EMBEDDED_RESTORER, folder / "restorer")
    return folder


def _unet(context: int, time_ids: int) -> Any:
    return d.UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        norm_num_groups=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), transformer_layers_per_block=(1, 1),
        attention_head_dim=(2, 4), cross_attention_dim=context, use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=SECOND + 8 * time_ids,
    )  # fmt: skip


def small_rrdb(scale: int, path: Path) -> None:
    torch.manual_seed(1)
    sr = realesrgan.import_basicsr()
    net = sr.RRDBNet(3, 3, scale=scale, num_feat=16, num_block=2, num_grow_ch=8)
    torch.save({"params_ema": net.state_dict()}, path)
