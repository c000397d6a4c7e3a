"""What the text encoders read of a prompt: token ids with weights, in chunks of 75.

Two prompts with one reading are one picture, so content keys have the reading, not the text. Longer prompts are read as A1111
reads them: chunk by chunk, broken at a comma where one is near.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from workbench.errors import CorruptWeights, SettingsError
from workbench.files import hash_json
from workbench.models import Embedding, Tokenizers, embeddings_in, tokenizers_of

from .prompt_syntax import PromptPart, PromptSyntax, parse_prompt

if TYPE_CHECKING:
    from pathlib import Path

CHUNK = 75  # tokens between the marks of beginning and end: SDXL's text encoders take 77
BACKTRACK = 20  # tokens: a chunk ends at a comma that is no further back, as in A1111
READINGS = 4096  # that are kept of a checkpoint


class Vector(NamedTuple):
    """One vector of an embedding, in the place of a token."""

    embedding: Embedding
    number: int


@dataclass(frozen=True)
class TokenChunk:
    """At most 75 tokens and their weights."""

    tokens: tuple[int | Vector, ...]
    weights: tuple[float, ...]

    def to_json(self) -> list[object]:
        ids = [[t.embedding.digest, t.number] if isinstance(t, Vector) else t for t in self.tokens]
        return [ids] if set(self.weights) <= {1.0} else [ids, list(self.weights)]


@dataclass(frozen=True, eq=False)
class Reading:
    """A prompt as a checkpoint's text encoders read it.

    Attributes:
        chunks: {"tokenizer", "tokenizer_2": chunks, at least one, as many for each}.
        tokens: of the whole prompt, by the second tokenizer.
        cut: the end of the text that is not read; with the syntax "plain" only.
    """

    chunks: dict[str, tuple[TokenChunk, ...]]
    tokens: int
    cut: str = ""

    @cached_property
    def digest(self) -> str:
        return hash_json({name: [chunk.to_json() for chunk in chunks] for name, chunks in self.chunks.items()})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reading) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @property
    def length(self) -> int:
        """How many chunks it is."""
        return len(next(iter(self.chunks.values())))


def read_prompt(checkpoint: Path, text: str, syntax: PromptSyntax, name: str = "prompt") -> Reading:
    """What the text encoders of a checkpoint read of a prompt.

    Args:
        checkpoint: its file or folder.
        name: of the setting, for errors.

    Raises:
        SettingsError: the prompt has what is not supported; see `parse_prompt`.
        MissingWeights, CorruptWeights, WrongModel: of the checkpoint, or of an embedding that the prompt names.
    """
    tokenizers = tokenizers_of(checkpoint)
    if syntax == "plain":
        return _known(tokenizers, text, None)
    try:
        parsed = parse_prompt(text, syntax, name)
    except ValueError as error:
        raise SettingsError(f"{error}.") from None
    pieces = tuple(tuple(_pieces(section)) for section in parsed.sections)
    for piece, _ in (each for section in pieces for each in section):
        if isinstance(piece, Embedding):
            piece.check(tokenizers.widths)
    return _known(tokenizers, text, pieces)


Piece = tuple[str | Embedding, float]
_kept: WeakKeyDictionary[Tokenizers, OrderedDict[str | tuple[tuple[Piece, ...], ...], Reading]] = WeakKeyDictionary()


def _pieces(section: Sequence[PromptPart]) -> Iterator[Piece]:
    for part in section:
        for text, embedding in embeddings_in(part.text):
            if embedding or text:
                yield embedding or text, part.weight


def _known(tokenizers: Tokenizers, text: str, pieces: tuple[tuple[Piece, ...], ...] | None) -> Reading:
    """The reading, from those that are kept if it is there. `pieces`: None for a plain text."""
    kept = _kept.setdefault(tokenizers, OrderedDict())
    key = text if pieces is None else pieces  # blanks and brackets apart, texts of equal pieces are one
    found = kept.get(key)
    if found is None:
        found = kept[key] = _plain(tokenizers, text) if pieces is None else _webui(tokenizers, text, pieces)
        if len(kept) > READINGS:
            kept.popitem(last=False)
    return found


def _plain(tokenizers: Tokenizers, text: str) -> Reading:
    """One chunk, cut where it is full, as diffusers' pipelines do it."""
    chunks, tokens, cut = {}, 0, ""
    for name, tokenizer in tokenizers.named.items():
        encoding = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
        ids, tokens = encoding.ids[:CHUNK], len(encoding.ids)
        cut = text[encoding.offsets[CHUNK][0] :] if tokens > CHUNK else ""
        chunks[name] = (TokenChunk(tuple(ids), (1.0,) * len(ids)),)
    return Reading(chunks, tokens, cut)


def _webui(tokenizers: Tokenizers, text: str, pieces: tuple[tuple[Piece, ...], ...]) -> Reading:
    chunks, tokens = {}, 0
    for name, tokenizer in tokenizers.named.items():
        comma = tokenizer.convert_tokens_to_ids(",</w>")
        chunker = _Chunker(comma if isinstance(comma, int) else -1)
        tokens = 0
        for number, section in enumerate(pieces):
            if number:
                chunker.close()
            for piece, weight in section:
                if isinstance(piece, str):
                    ids = tokenizer.backend_tokenizer.encode(piece, add_special_tokens=False).ids
                    chunker.add(ids, weight)
                    tokens += len(ids)
                else:
                    chunker.add_whole([Vector(piece, n) for n in range(piece.vectors)], weight)
                    tokens += piece.vectors
        chunks[name] = chunker.finished()
    if len({len(each) for each in chunks.values()}) > 1:
        raise CorruptWeights(
            f"the model's two tokenizers read '{text[:40]}' in unlike numbers of tokens; they are not of one model."
        )
    return Reading(chunks, tokens)


class _Chunker:
    """Fills chunks with tokens, in A1111's way."""

    def __init__(self, comma: int) -> None:
        """`comma`: its id; a comma after which the words are moved to the next chunk rather than torn apart."""
        self._comma = comma
        self._done: list[TokenChunk] = []
        self._open: list[tuple[int | Vector, float]] = []
        self._break = -1  # where the open chunk may be broken: behind its last comma

    def add(self, ids: Sequence[int], weight: float) -> None:
        for token in ids:
            full = len(self._open) == CHUNK
            if token == self._comma:
                if full:
                    self.close()
                self._break = len(self._open) + 1 if not full else -1
            elif full:
                near = self._break > 0 and CHUNK - self._break < BACKTRACK
                moved = self._open[self._break :] if near else []
                del self._open[len(self._open) - len(moved) :]
                self.close()
                self._open = moved
            self._open.append((token, weight))

    def add_whole(self, vectors: Sequence[Vector], weight: float) -> None:
        """Of one embedding, which is never torn apart."""
        if len(vectors) > CHUNK:
            raise SettingsError(
                f"the embedding {vectors[0].embedding.path.name} has {len(vectors)} vectors, more than the {CHUNK} tokens "
                "that a text encoder takes at once; use a smaller one."
            )
        if len(self._open) + len(vectors) > CHUNK:
            self.close()
        self._open += [(vector, weight) for vector in vectors]

    def close(self) -> None:
        """End the open chunk, however full it is."""
        tokens, weights = tuple(token for token, _ in self._open), tuple(weight for _, weight in self._open)
        self._done.append(TokenChunk(tokens, weights))
        self._open, self._break = [], -1

    def finished(self) -> tuple[TokenChunk, ...]:
        if self._open or not self._done:
            self.close()
        return tuple(self._done)
