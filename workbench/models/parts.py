"""Which files of a model's folder are read when it is loaded: its pictures depend on these and on no others.

The rules are those of diffusers 0.42 and transformers 5, for local folders. Links are followed, to files and to folders.
"""

from __future__ import annotations

import json
from collections.abc import Collection
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
WORDS = ("vocab.json", "merges.txt")  # read where there is no tokenizer.json
TOKENIZER = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")


def pipeline_files(folder: Path, without: Collection[str] = ()) -> list[Path]:
    """The files that loading the pipeline in `folder` reads.

    `without`: components that are taken from elsewhere, like the VAE of a refiner. Raises `CorruptWeights`.
    """
    index = folder / "model_index.json"
    found = [index]
    for name, value in _read(index).items():
        kind = value[1] if isinstance(value, list) and len(value) == 2 else None
        if isinstance(kind, str) and name not in without:
            found += _component_files(folder / name, kind)
    return found


def _component_files(folder: Path, kind: str) -> list[Path]:
    """`kind`: the name of its class, as model_index.json has it."""
    if "Scheduler" in kind:
        return [_there(folder / "scheduler_config.json")]
    if "Tokenizer" in kind:
        words = ("tokenizer.json",) if (folder / "tokenizer.json").is_file() else WORDS
        optional = [folder / name for name in TOKENIZER if (folder / name).is_file()]
        return [*(_there(folder / name) for name in words), *optional]
    if "Processor" in kind or "Extractor" in kind:
        return [_there(folder / "preprocessor_config.json")]
    return network_files(folder)


def network_files(folder: Path) -> list[Path]:
    """The config and the weights that loading one network reads. Raises `CorruptWeights`."""
    weights = weight_files(folder)
    if not weights:
        raise CorruptWeights(f"{folder} has no weights ({WEIGHTS[1]} or {WEIGHTS[3]}); fetch the model again.")
    return [_there(folder / "config.json"), *weights]


def weight_files(folder: Path) -> list[Path]:
    """The files with a network's tensors, and before them their index where there is one; [] where there are none.

    Raises `CorruptWeights`: a part that the index names is missing.
    """
    first = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if first is None or first.suffix != ".json":
        return [first] if first else []
    named = _read(first).get("weight_map")
    shards = sorted({str(shard) for shard in named.values()}) if isinstance(named, dict) else []
    if not shards:
        raise CorruptWeights(f"{first} names no file of weights; fetch the model again.")
    return [first, *(_there(folder / shard) for shard in shards)]


def _there(path: Path) -> Path:
    if not path.is_file():
        raise CorruptWeights(f"{path} is missing; fetch the model again, or put the file there.")
    return path


def _read(path: Path) -> dict[str, Any]:
    """A JSON object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptWeights(f"{path} cannot be read ({error}); fetch the model again.") from None
    if not isinstance(found, dict):
        raise CorruptWeights(f"{path} is no JSON object; fetch the model again.")
    return found
