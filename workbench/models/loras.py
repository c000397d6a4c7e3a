"""LoRAs on the disk (Hu et al. 2021): from a name to the file, and whether it is made for SDXL, told from its header.

Kohya's names (`lora_unet_...lora_down.weight`), with Stability's or diffusers' blocks in them, and diffusers' own
(`unet....lora_A.weight`, `....lora.down.weight`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from workbench.errors import CorruptWeights, WrongModel
from workbench.files import file_sha256
from workbench.settings import Weighted

from .checkpoints import Checkpoint
from .finding import ONE_FILE, PICKLES, check_no_pickle
from .headers import Header, read_header
from .shelf import Shelf

FOLDERS = ("loras", "lora", "Lora")
IN_FOLDER = "pytorch_lora_weights.safetensors"  # as diffusers saves it
KOHYA = ("lora_unet_", "lora_te1_", "lora_te2_")
DIFFUSERS = ("unet.", "text_encoder.", "text_encoder_2.")
MADE_FOR = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 1280: "SDXL's refiner", 2048: "SDXL"}
"""By the features of the text that the UNet takes."""
ANY_MODEL = "a model with the layers that it names"
CROSS = re.compile(r"attn2[._](processor[._])?to_[kv](_lora)?\.(lora_A|lora_down|lora\.down|down)\b")  # (rank, that)
HALVES = (("lora_down.", "lora_up."), ("lora_A.", "lora_B."), (".down.", ".up."))
VARIANTS = {  # what stands in the names of tensors: what it is
    ".hada_": "a LoHa (LyCORIS)",
    ".lokr_": "a LoKr (LyCORIS)",
    ".oft_": "an OFT",
    ".boft_": "a BOFT",
    ".lora_mid.": "a LoCon with Tucker decomposition (LyCORIS)",
    ".on_input": "an (IA)3 (LyCORIS)",
    ".a1.weight": "a GLoRA (LyCORIS)",
    ".diff.": "a difference of full weights (LyCORIS)",
    ".w_norm": "a network with norms (LyCORIS)",
    "dora_scale": "a DoRA",
    "lora_magnitude_vector": "a DoRA",
}


@dataclass(frozen=True)
class LoraFile:
    """A LoRA and its weight. `name`: by which it is called in settings."""

    name: str
    path: Path
    digest: str
    weight: float


def lora_file(item: Weighted, checkpoint: Checkpoint) -> LoraFile:
    """The file of an item of `loras`, or of a tag, for a checkpoint.

    Raises `MissingWeights`, `CorruptWeights`, `WrongModel`.
    """
    path = lora_path(item.file)
    width, takes = _check(path, path.stat().st_mtime_ns), checkpoint.config("unet").get("cross_attention_dim")
    if width not in (0, takes):
        raise WrongModel(
            f"{path} was made for {MADE_FOR.get(width, 'another model')}: its layers take text of {width} features, those of "
            f"{checkpoint.path} take {takes}; take the version of it that was made for this model."
        )
    return LoraFile(item.name, path, file_sha256(path), item.weight)


def check_lora(path: Path) -> str:
    """The model that a LoRA was made for, in words. Raises `CorruptWeights`, `WrongModel`: one that is not applied."""
    width = _check(path, path.stat().st_mtime_ns)
    return MADE_FOR.get(width, "another model") if width else ANY_MODEL


LORAS = Shelf("LoRA", FOLDERS, (ONE_FILE,), check_no_pickle, foreign=PICKLES, inside=IN_FOLDER)


def lora_path(name: str) -> Path:
    """Where a LoRA lies; see `Shelf.find`. Raises `MissingWeights`, and `WrongModel`: it is a pickle."""
    return LORAS.find(name)


@lru_cache(maxsize=64)
def _check(path: Path, changed: int) -> int:
    """Features of the text that its layers take; 0 where nothing tells.

    Raises `WrongModel` for what the workbench does not apply, as far as names and shapes tell.
    """
    header = read_header(path)
    if not any(".lora" in name for name in header.tensors) and not any(
        v in n for n in header.tensors for v in VARIANTS
    ):
        raise WrongModel(
            f"{path} is no LoRA: none of its tensors is one ({next(iter(header.tensors), 'it has none')})."
        )
    if variant := next((what for part, what in VARIANTS.items() if any(part in name for name in header.tensors)), None):
        raise WrongModel(
            f"{path} is {variant}, which the workbench does not apply; take a plain LoRA of it (lora_down and lora_up, or "
            "lora_A and lora_B)."
        )
    if made_for := _made_for(header):
        raise WrongModel(f"{path} was made for {made_for}, not for SDXL; take the SDXL version of it.")
    prefixes = KOHYA if any(name.startswith("lora_") for name in header.tensors) else DIFFUSERS
    if odd := next((name for name in header.tensors if not name.startswith(prefixes)), None):
        raise WrongModel(f"{path} has the tensor {odd}, which belongs to no network of SDXL; use another LoRA.")
    _check_pairs(path, header)
    return next((t.shape[1] for n, t in header.tensors.items() if CROSS.search(n) and len(t.shape) == 2), 0)


def _made_for(header: Header) -> str:
    """Which other model it was made for; "" where nothing tells."""
    names = header.tensors
    if any("double_blocks" in n or "single_transformer_blocks" in n or "single_blocks" in n for n in names):
        return "Flux"
    if any("joint_blocks" in n or n.startswith("transformer.transformer_blocks") for n in names):
        return "Stable Diffusion 3"
    if any(n.startswith(("lora_te_", "lora_te3_", "lora_prior_")) for n in names):
        return "Stable Diffusion 1.x or another model with one text encoder"
    return ""


def _check_pairs(path: Path, header: Header) -> None:
    """Raise `CorruptWeights` for halves of pairs, over which diffusers stumbles with a KeyError."""
    for name in header.tensors:
        one, two = next((pair for pair in HALVES if pair[0] in name or pair[1] in name), ("", ""))
        other = name.replace(one, two) if one in name else name.replace(two, one)
        if other not in header.tensors:
            raise CorruptWeights(f"{path} has {name} and not {other}: it is damaged; fetch it again.")
