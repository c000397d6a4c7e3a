"""What the text encoders of a checkpoint read: their tokenizers, without the encoders themselves."""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .checkpoints import TOKENIZERS, Checkpoint
from .finding import checkpoint_in
from .parts import tokenizer_files

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

CHECKPOINTS = 8  # whose tokenizers are kept: 3 MB each
ENCODERS = {"tokenizer": "text_encoder", "tokenizer_2": "text_encoder_2"}

Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, eq=False)
class Tokenizers:
    """The tokenizers of a checkpoint.

    Attributes:
        refines: whether it is an SDXL refiner, which has the second text encoder only.
        named: {"tokenizer" (not of a refiner) and "tokenizer_2": the tokenizer}.
        widths: {tokenizer: features of its text encoder}.
        layers: of the text encoder that has fewest.
    """

    refines: bool
    named: dict[str, CLIPTokenizer]
    widths: dict[str, int]
    layers: int


_kept: OrderedDict[Path, tuple[Stamp, Tokenizers]] = OrderedDict()  # the checkpoint read last at the end


def tokenizers_of(path: Path) -> Tokenizers:
    """The tokenizers of the checkpoint in a file or folder; loaded again only when one of its files has changed.

    Raises `MissingWeights`, `CorruptWeights`, `WrongModel`.
    """
    if (kept := _kept.get(path)) and _stamp([Path(file) for file, *_ in kept[0]]) == kept[0]:
        return kept[1]
    checkpoint = checkpoint_in(path)
    stamp = _stamp(_files(checkpoint))  # before they are read: a change meanwhile is seen the next time
    names = [name for name in TOKENIZERS if name in checkpoint.parts]
    configs = {name: checkpoint.config(ENCODERS[name]) for name in names}
    found = Tokenizers(
        checkpoint.refines,
        {name: checkpoint.tokenizer(name) for name in names},
        {name: int(config["hidden_size"]) for name, config in configs.items()},
        min(int(config["num_hidden_layers"]) for config in configs.values()),
    )
    _kept.pop(path, None)
    _kept[path] = (stamp, found)
    while len(_kept) > CHECKPOINTS:
        _kept.popitem(last=False)
    return found


def _files(checkpoint: Checkpoint) -> list[Path]:
    """What tells the tokenizers, and the folder in which a single file's own would be."""
    names = [name for name in TOKENIZERS if name in checkpoint.parts]
    files = [checkpoint.path, checkpoint.path.with_suffix(".config"), checkpoint.configs / "model_index.json"]
    files += [checkpoint.configs / ENCODERS[name] / "config.json" for name in names]
    folders = [checkpoint.configs / name for name in names]
    return files + [file for folder in folders if folder.is_dir() for file in tokenizer_files(folder)]


def _stamp(files: list[Path]) -> Stamp:
    return tuple(_stamp_of(file) for file in files)


def _stamp_of(file: Path) -> tuple[str, int, int]:
    try:
        stat = os.stat(file)
    except OSError:
        return (str(file), -1, -1)
    return (str(file), stat.st_mtime_ns, stat.st_size)
