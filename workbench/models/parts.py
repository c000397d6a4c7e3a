"""Which files of a diffusers folder are read when it is loaded: its pictures depend on these and on no others.

The rules are those of diffusers 0.42 and transformers 5, for local folders. Links are followed, to files and to folders.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from workbench.errors import CorruptWeights

# in the order in which the libraries look for them; the first that is there is read, and with an index its shards
WEIGHTS = (
    "diffusion_pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.bin",
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
HALF = "fp16"  # the variant that is read where there are no files without one: `variant="fp16"` of a download
WORDS = ("vocab.json", "merges.txt")  # read where there is no tokenizer.json
TOKENIZER = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")


def tokenizer_files(folder: Path) -> list[Path]:
    """The files that loading a tokenizer reads. Raises `CorruptWeights`."""
    words = ("tokenizer.json",) if (folder / "tokenizer.json").is_file() else WORDS
    optional = [folder / name for name in TOKENIZER if (folder / name).is_file()]
    return [*(_there(folder / name) for name in words), *optional]


def scheduler_files(folder: Path) -> list[Path]:
    """The file that loading a scheduler reads. Raises `CorruptWeights`."""
    return [_there(folder / "scheduler_config.json")]


def network_files(folder: Path) -> list[Path]:
    """The config and the weights that loading one network reads. Raises `CorruptWeights`."""
    weights = weight_files(folder)
    if not weights:
        raise CorruptWeights(
            f"{folder} has no weights ({WEIGHTS[1]}, {WEIGHTS[3]}, or these with .{HALF} in the name); fetch the model again."
        )
    return [_there(folder / "config.json"), *weights]


def variant_of(folder: Path) -> str | None:
    """The variant of a network's files that is read: None for those without one in their names, which come first."""
    there = _names(folder)
    return HALF if not there.intersection(WEIGHTS) and there.intersection(map(_of_variant, WEIGHTS)) else None


def _names(folder: Path) -> set[str]:
    """Of what is in a folder, for this is asked before every picture; empty where there is no such folder."""
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def _of_variant(name: str) -> str:
    """`model.fp16.safetensors`, `model.safetensors.index.fp16.json`."""
    stem, _, ending = name.rpartition(".")
    return f"{stem}.{HALF}.{ending}"


def weight_files(folder: Path) -> list[Path]:
    """The files with a network's tensors, and before them their index where there is one; [] where there are none.

    Raises `CorruptWeights`: a part that the index names is missing.
    """
    names, there = [_of_variant(name) for name in WEIGHTS] if variant_of(folder) else WEIGHTS, _names(folder)
    first = next((_there(folder / name) for name in names if name in there), None)
    if first is None or first.suffix != ".json":
        return [first] if first else []
    named = read_json(first).get("weight_map")
    shards = sorted({str(shard) for shard in named.values()}) if isinstance(named, dict) else []
    if not shards:
        raise CorruptWeights(f"{first} names no file of weights; fetch the model again.")
    return [first, *(_there(folder / shard) for shard in shards)]


def _there(path: Path) -> Path:
    if not path.is_file():
        raise CorruptWeights(f"{path} is missing; fetch the model again, or put the file there.")
    return path


def read_optional(path: Path) -> dict[str, Any]:
    """A JSON object, {} where there is no such file. Raises `CorruptWeights`."""
    return read_json(path) if path.is_file() else {}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a model's folder. Raises `CorruptWeights`."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptWeights(f"{path} cannot be read ({error}); fetch the model again.") from None
    if not isinstance(found, dict):
        raise CorruptWeights(f"{path} is no JSON object; fetch the model again.")
    return found
