"""The vocabulary of CLIP's text encoders, which both encoders of SDXL read and a single file does not hold.

It is built from the byte-pair merges that OpenCLIP ships (Radford et al. 2021), as OpenAI's own tokenizer builds it: 256
bytes, the same at a word's end, 48,894 merges and two marks; with that it is the hub's `vocab.json` and `merges.txt`.
"""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import CorruptWeights
from workbench.files import file_sha256

from .process import alone

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

FILE = "bpe_simple_vocab_16e6.txt.gz"
MERGES = 48_894
BEGIN, END = "<|startoftext|>", "<|endoftext|>"
TOKENS = 77  # the encoders' length, the two marks among them
PADDING = {"tokenizer": END, "tokenizer_2": "!"}  # the encoders were trained with unlike ones


def merges_file() -> Path:
    """OpenCLIP's file. Raises `MissingWeights`."""
    from .tensors import package_folder

    return package_folder("open_clip", "open-clip-torch") / FILE


def vocabulary_sha256() -> str:
    """Of OpenCLIP's file. Raises `MissingWeights`."""
    return file_sha256(merges_file())


@cache
def words() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """({token: id}, the merges in their order). Raises `MissingWeights`, `CorruptWeights`."""
    path = merges_file()
    try:
        lines = gzip.decompress(path.read_bytes()).decode().split("\n")
    except (OSError, EOFError, ValueError) as error:
        raise CorruptWeights(f"{path} cannot be read ({error}); install open-clip-torch again.") from None
    pairs = [tuple(line.split()) for line in lines[1 : MERGES + 1]]
    merges = [(pair[0], pair[1]) for pair in pairs if len(pair) == 2]
    if len(merges) != MERGES:
        raise CorruptWeights(f"{path} holds {len(merges)} merges, not {MERGES}; install open-clip-torch again.")
    letters = _letters()
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges), BEGIN, END]
    return {token: number for number, token in enumerate(tokens)}, merges


def _letters() -> list[str]:
    """A visible letter for each of the 256 bytes, in OpenAI's order: first the bytes that are visible letters themselves."""
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in seen] + [chr(256 + n) for n in range(256 - len(seen))]


def clip_tokenizer(part: str) -> CLIPTokenizer:
    """SDXL's "tokenizer" or "tokenizer_2", which differ in what they pad with. Raises `MissingWeights`, `CorruptWeights`."""
    with alone():  # two threads that import by attribute may each see half a module
        from transformers import CLIPTokenizer

    vocabulary, merges = words()
    made: Any = CLIPTokenizer  # which says that merges are texts, and takes pairs
    return made(
        vocab=vocabulary, merges=merges, bos_token=BEGIN, eos_token=END, unk_token=END, pad_token=PADDING[part],
        model_max_length=TOKENS,
    )  # fmt: skip
