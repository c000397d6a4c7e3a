"""Textual-inversion embeddings of SDXL (Gal et al. 2022): a few vectors that a prompt names like a word.

A file has `clip_l` and `clip_g`, (n, width) each, for the two text encoders.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import CorruptWeights, MissingWeights, WrongModel
from workbench.files import file_sha256

from .finding import ONE_FILE, PICKLES, check_no_pickle, models_folder
from .headers import read_header

if TYPE_CHECKING:
    import torch

FOLDER = "embeddings"
KEYS = {"tokenizer": "clip_l", "tokenizer_2": "clip_g"}
EXPLICIT = re.compile(r"\bembedding:([\w./-]*[\w])", re.IGNORECASE)  # as ComfyUI writes it


@dataclass(frozen=True)
class Embedding:
    """An embedding's file.

    Attributes:
        vectors: how many tokens it stands for.
        widths: of its vectors for the first and the second text encoder.
    """

    path: Path
    digest: str
    vectors: int
    widths: tuple[int, int]

    def check(self, takes: Mapping[str, int]) -> None:
        """Raise `WrongModel` where a text encoder takes other widths than these; `takes`: {tokenizer: width}."""
        own = dict(zip(KEYS, self.widths, strict=True))
        if unlike := next((name for name, width in takes.items() if own[name] != width), None):
            raise WrongModel(
                f"the embedding {self.path.name} has vectors of {own[unlike]} numbers, this model's text encoder takes "
                f"{takes[unlike]}; it was made for another model."
            )

    def tensor(self, tokenizer: str) -> torch.Tensor:
        """(vectors, width of that text encoder). Raises `CorruptWeights`."""
        from .tensors import read_tensors

        return read_tensors(self.path)[0][KEYS[tokenizer]]


def embeddings_in(text: str) -> Iterator[tuple[str, Embedding | None]]:
    """The text in pieces: (words, None), or (a name, its embedding).

    A name is a word of its own, in whatever case, or stands behind `embedding:`. Raises `MissingWeights` where the latter has
    no file, `WrongModel` and `CorruptWeights` where a file is no embedding of SDXL's.
    """
    files = _files()
    text = EXPLICIT.sub(_without_folder, text)
    for asked in EXPLICIT.findall(text):
        if asked.lower().removesuffix(ONE_FILE) not in files:
            near = difflib.get_close_matches(asked.lower(), files, n=1)
            rather = f" Did you mean '{near[0]}'?" if near else ""
            raise MissingWeights(
                f"the prompt names the embedding '{asked}', and there is no "
                f"{models_folder() / FOLDER / asked}{ONE_FILE}; put it there, or take the name out.{rather}"
            )
    if not files:
        yield text, None
        return
    longest = "|".join(re.escape(name) for name in sorted(files, key=len, reverse=True))
    place = 0
    for found in re.finditer(rf"(?<![\w-])(?:embedding:)?({longest})(?:\.safetensors)?(?![\w-])", text, re.IGNORECASE):
        yield text[place : found.start()], None
        yield found.group(1), _embedding(files[found.group(1).lower()])
        place = found.end()
    yield text[place:], None


def _without_folder(found: re.Match[str]) -> str:
    return "embedding:" + found.group(1).rpartition("/")[2]


def _files() -> dict[str, Path]:
    """{name in lower case: file} of the embeddings' folder and the folders in it."""
    folder = models_folder() / FOLDER
    if not folder.is_dir():
        return {}
    files = sorted(path for path in folder.rglob("*") if path.suffix in (ONE_FILE, *PICKLES))
    return {path.stem.lower(): path for path in reversed(files)}


def is_embedding(path: Path) -> bool:
    """Whether a `.safetensors` file is an embedding for SDXL. Raises `CorruptWeights`."""
    return set(KEYS.values()) <= read_header(path).tensors.keys()


def _embedding(path: Path) -> Embedding:
    check_no_pickle(path)
    tensors = read_header(path).tensors
    if not is_embedding(path):
        raise WrongModel(
            f"{path} is no embedding for SDXL: it has {', '.join(sorted(tensors)[:3])}, not clip_l and clip_g (one for each "
            "of the two text encoders); take the SDXL version of it, or take its name out of the prompt."
        )
    shapes = [tensors[key].shape for key in KEYS.values()]
    if any(len(shape) != 2 for shape in shapes) or shapes[0][0] != shapes[1][0]:
        raise CorruptWeights(
            f"{path}: clip_l and clip_g are {shapes[0]} and {shapes[1]}; both must be (vectors, width)."
        )
    return Embedding(path, file_sha256(path), shapes[0][0], (shapes[0][1], shapes[1][1]))
