"""What kind of model a file or a folder is, told from its header or its configs before anything is loaded. Needs no torch.

The names of tensors are those of Stability's own code (`model.diffusion_model.`, `conditioner.embedders.`,
`first_stage_model.`), which A1111, ComfyUI and Civitai exchange, of diffusers, and of kohya's LoRAs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from .headers import Header
from .parts import read_json, read_optional

Kind = Literal[
    "sdxl-base", "sdxl-refiner", "sdxl-inpaint", "sdxl-vpred", "edm", "sd1", "sd2", "flux", "lora", "restorer",
    "upscaler", "vae", "controlnet", "unknown",
]  # fmt: skip

UNET, VAE = "model.diffusion_model.", "first_stage_model."
TEXT_1 = "conditioner.embedders.0.transformer."  # of the base: CLIP ViT-L
TEXT_2 = {"base": "conditioner.embedders.1.model.", "refiner": "conditioner.embedders.0.model."}  # OpenCLIP ViT-bigG
FIRST = UNET + "input_blocks.0.0.weight"  # (channels, input channels, 3, 3)

LORA = (
    "lora_unet_", "lora_te", ".lora_up.", ".lora_down.", ".lora_A.", ".lora_B.", ".lora.up.", ".lora.down.",
    ".hada_w1_a", ".lokr_w1", ".oft_", ".dora_scale",
)  # fmt: skip
CONTROLNET = ("control_model.", "controlnet_", "input_hint_block.", "control_add_embedding.", "zero_convs.")
OTHERS = {  # what stands in the names, with and without a prefix: what it is
    "joint_blocks.0.": "Stable Diffusion 3",
    "cap_embedder.": "Lumina or Z-Image",
    "patchify_proj.": "LTX-Video",
    "llm_adapter.": "Anima",
    "img_in.weight": "a transformer like Qwen-Image",
    "transformer_blocks.0.attn.": "a transformer like Qwen-Image",
    "blocks.0.cross_attn.": "Wan or Sana",
}

REASONS: dict[Kind, str] = {
    "sdxl-base": "an SDXL checkpoint.",
    "sdxl-vpred": "an SDXL checkpoint that predicts v; its sampler is set up for that.",
    "sdxl-refiner": "an SDXL refiner: it cannot begin a picture, so name it in refiner, and an SDXL base in model.",
    "sdxl-inpaint": (
        "an SDXL inpainting or editing checkpoint: its UNet wants a mask or a second picture beside the latents, which "
        "nothing here gives it; use the checkpoint that it was made from."
    ),
    "edm": (
        "an EDM checkpoint (Playground v2.5, CosXL): it is trained for other noise levels than SDXL's samplers take; use an "
        "SDXL checkpoint."
    ),
    "sd1": "a Stable Diffusion 1.x checkpoint; the workbench runs SDXL, so use an SDXL checkpoint (most are 6.5 GB or more).",
    "sd2": "a Stable Diffusion 2.x checkpoint; the workbench runs SDXL, so use an SDXL checkpoint (most are 6.5 GB or more).",
    "flux": "a Flux model, which is no SDXL; use an SDXL checkpoint.",
    "lora": "a LoRA, which changes a checkpoint and is none: name it in loras, and an SDXL checkpoint in model.",
    "vae": "a VAE alone; name it in vae, and an SDXL checkpoint in model.",
    "controlnet": "a ControlNet, which guides a checkpoint and is none; use an SDXL checkpoint.",
    "unknown": "nothing that the workbench knows; use an SDXL checkpoint as one .safetensors file or a diffusers folder.",
}
"""What is said of each kind, behind "... is "."""


def kind_of_file(header: Header) -> tuple[Kind, str]:
    """(kind, what is to be said of it behind "... is ") of a `.safetensors` file."""
    kind, other = _kind_of_file(header)
    return kind, other or REASONS[kind]


def _kind_of_file(header: Header) -> tuple[Kind, str]:
    names = header.tensors
    if any(word in name for name in names for word in LORA):
        return "lora", ""
    if any(name.removeprefix(UNET).startswith(CONTROLNET) for name in names):
        return "controlnet", ""
    if any("double_blocks.0." in name for name in names):
        return "flux", ""
    if any(header.has(prefix) for prefix in (f"{UNET}input_blocks.", "conditioner.", "cond_stage_model.")):
        return _kind_of_checkpoint(header)
    if other := next((what for word, what in OTHERS.items() if any(word in name for name in names)), None):
        return "unknown", f"{other}, which is no SDXL; use an SDXL checkpoint."
    bare = {name.removeprefix(VAE) for name in names}
    if {"encoder.conv_in.weight", "decoder.conv_out.weight"} <= bare:
        return "vae", ""
    if names.keys() & {"clip_l", "clip_g", "emb_params", "string_to_param"}:
        return "unknown", "a textual-inversion embedding, which a prompt names; it is no checkpoint."
    if "conv_in.weight" in names and header.has("down_blocks."):
        return "unknown", "a UNet alone, without text encoders; use the whole checkpoint or the diffusers folder."
    if header.has("text_model.") or header.has("transformer.resblocks."):
        return "unknown", "a text encoder alone; use the whole checkpoint or the diffusers folder."
    return "unknown", ""


def _kind_of_checkpoint(header: Header) -> tuple[Kind, str]:
    """Of a file that has a UNet or text encoders in Stability's layout."""
    names, width = header.tensors, _cross_attention(header)
    sdxl = header.has("conditioner.") or width in (2048, 1280)
    if header.has("cond_stage_model.model.") or (not sdxl and width == 1024):
        return "sd2", ""
    if header.has("cond_stage_model.") or (not sdxl and width == 768):
        return "sd1", ""
    if names.keys() & {"edm_mean", "edm_std", "edm_vpred.sigma_max"}:
        return "edm", ""
    if FIRST in names and names[FIRST].shape[1] != 4:
        return "sdxl-inpaint", ""
    if header.has(TEXT_2["base"]):
        return ("sdxl-vpred", "") if predicts_v(header) else ("sdxl-base", "")
    if header.has(TEXT_2["refiner"]):
        return "sdxl-refiner", ""
    return "unknown", (
        "an SDXL UNet whose file lacks the text encoders; use the whole checkpoint (6.5 GB or more) or the diffusers folder."
    )


def _cross_attention(header: Header) -> int:
    """Features of the text that the UNet takes: 768 in SD 1, 1024 in SD 2, 2048 in SDXL, 1280 in its refiner."""
    key = next((name for name in header.tensors if name.endswith(".attn2.to_k.weight")), None)
    return header.tensors[key].shape[-1] if key else 0


def predicts_v(header: Header) -> bool:
    """Whether the file says that its UNet predicts v: the empty tensor `v_pred` (NoobAI), or SAI's model spec."""
    said = header.metadata.get("modelspec.prediction_type", "").lower()
    return "v_pred" in header.tensors or said in ("v", "v_prediction", "v-prediction", "velocity")


def zero_terminal_snr(header: Header) -> bool:
    """Whether the file says that it was trained down to a signal of none (Lin et al. 2024): the empty tensor `ztsnr`."""
    return "ztsnr" in header.tensors


def kind_of_folder(folder: Path) -> tuple[Kind, str]:
    """(kind, what is to be said of it behind "... is ") of a folder in diffusers format: a pipeline's, or one network's."""
    kind = _kind_of_pipeline(folder) if (folder / "model_index.json").is_file() else _kind_of_network(folder)
    return kind, REASONS[kind]


def _kind_of_pipeline(folder: Path) -> Kind:
    index = read_json(folder / "model_index.json")
    name, unet = str(index.get("_class_name")), read_optional(folder / "unet" / "config.json")
    if "Flux" in name:
        return "flux"
    if "ControlNet" in name and not unet:
        return "controlnet"
    if not name.startswith(("StableDiffusion", "LatentConsistencyModel")) or "3" in name:
        return "unknown"
    if "XL" not in name:
        return "sd2" if unet.get("cross_attention_dim") == 1024 else "sd1"
    scheduler = read_optional(folder / "scheduler" / "scheduler_config.json")
    vae = read_optional(folder / "vae" / "config.json")
    if "EDM" in str(scheduler.get("_class_name")) or vae.get("latents_mean"):
        return "edm"
    if unet.get("in_channels", 4) != 4:
        return "sdxl-inpaint"
    if index.get("text_encoder") in (None, [None, None]):
        return "sdxl-refiner"
    return "sdxl-vpred" if scheduler.get("prediction_type") == "v_prediction" else "sdxl-base"


def _kind_of_network(folder: Path) -> Kind:
    name = str(read_optional(folder / "config.json").get("_class_name"))
    if name.startswith("AutoencoderKL"):
        return "vae"
    if "ControlNet" in name:
        return "controlnet"
    lora = ("adapter_config.json", "pytorch_lora_weights.safetensors")
    return "lora" if any((folder / file).is_file() for file in lora) else "unknown"


def blocks(layers: int, kinds: Sequence[str], depth: int | Sequence[int]) -> tuple[int, int]:
    """(input blocks, transformer blocks) of a UNet in Stability's layout.

    By diffusers' config: `layers_per_block`, `down_block_types`, `transformer_layers_per_block`.
    """
    depths = [depth] * len(kinds) if isinstance(depth, int) else depth
    down = sum(layers * d for kind, d in zip(kinds, depths, strict=True) if "CrossAttn" in kind)
    up = sum((layers + 1) * d for kind, d in zip(kinds, depths, strict=True) if "CrossAttn" in kind)
    return len(kinds) * (layers + 1), down + up + depths[-1]
