"""Readings of prompts through SDXL's text encoders: chunk by chunk, then A1111's emphasis.

A reading of one chunk without weights gives the very tensors of the pipelines' own `encode_prompt`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.errors import NotFinite
from workbench.models import ENCODERS

from .readings import Reading, TokenChunk, Vector

if TYPE_CHECKING:
    import torch
    from torch import nn

    from .denoising import Pipeline


@dataclass
class Text:
    """A prompt and its negative prompt as the UNet reads them.

    Attributes:
        positive, negative: (1, tokens, features), equally long; `negative` is None without guidance.
        pooled, negative_pooled: (1, features), of the second text encoder; `negative_pooled` is None without guidance.
    """

    positive: torch.Tensor
    negative: torch.Tensor | None
    pooled: torch.Tensor
    negative_pooled: torch.Tensor | None


def encode(pipe: Pipeline, prompt: Reading, negative: Reading | None, clip_skip: int = 0) -> Text:
    """The prompts as the UNet of a pipeline reads them.

    `clip_skip`: layers left out behind the one that is read; not of the negative prompt, as in the pipelines.
    Where one of the two is longer, each is repeated until both are as long: attention over the same words several times gives
    what it gives over them once, so that nothing is added to the shorter one.
    """
    positive, pooled = _encode(pipe, prompt, clip_skip)
    if negative is None:
        return Text(positive, None, pooled, None)
    unwanted, unwanted_pooled = _encode(pipe, negative, 0)
    length = math.lcm(prompt.length, negative.length)
    positive, unwanted = (t.repeat(1, length // r.length, 1) for t, r in ((positive, prompt), (unwanted, negative)))
    return Text(positive, unwanted, pooled, unwanted_pooled)


def _encode(pipe: Pipeline, reading: Reading, clip_skip: int) -> tuple[torch.Tensor, torch.Tensor]:
    """((1, tokens, features of all encoders), pooled (1, features))."""
    import torch

    parts, pooled = [], None
    for name, chunks in reading.chunks.items():
        tokenizer, encoder = getattr(pipe, name), getattr(pipe, ENCODERS[name])
        hidden = []
        for chunk in chunks:
            with torch.no_grad(), _vectors(encoder, name, chunk):
                out = encoder(_ids(tokenizer, chunk).to(encoder.device), output_hidden_states=True)
            hidden.append(_emphasised(out.hidden_states[-(clip_skip + 2)], chunk))  # SDXL reads the last layer but one
            if name == "tokenizer_2" and pooled is None:
                pooled = out[0]
        parts.append(torch.cat(hidden, dim=1))
    assert pooled is not None
    return torch.cat(parts, dim=-1).to(dtype=pipe.text_encoder_2.dtype), pooled


def _ids(tokenizer: Any, chunk: TokenChunk) -> torch.Tensor:
    """(1, 77): the marks around the tokens, then padding. A vector of an embedding has any token's id."""
    import torch

    ids = [0 if isinstance(token, Vector) else token for token in chunk.tokens]
    ids = [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]
    return torch.tensor([ids + [tokenizer.pad_token_id] * (tokenizer.model_max_length - len(ids))])


@contextmanager
def _vectors(encoder: nn.Module, name: str, chunk: TokenChunk) -> Iterator[None]:
    """Inside, the encoder's table of tokens gives the vectors of embeddings in their places."""
    places = [(place, token) for place, token in enumerate(chunk.tokens, start=1) if isinstance(token, Vector)]
    if not places:
        yield
        return
    tensors = {vector.embedding: vector.embedding.tensor(name) for _, vector in places}

    def put(_: object, __: object, table: torch.Tensor) -> torch.Tensor:
        table = table.clone()
        for place, vector in places:
            table[:, place] = tensors[vector.embedding][vector.number].to(table)
        return table

    encoding: Any = encoder
    hook = encoding.get_input_embeddings().register_forward_hook(put)
    try:
        yield
    finally:
        hook.remove()


def _emphasised(hidden: torch.Tensor, chunk: TokenChunk) -> torch.Tensor:
    """A1111's emphasis: each token's features times its weight, then all of them scaled so that their mean is what it was.

    `hidden`: (1, 77, features). Raises `NotFinite` where the weights take the mean to 0.
    """
    import torch

    if set(chunk.weights) <= {1.0}:
        return hidden
    wide = hidden.float()
    weights = torch.ones(wide.shape[1], device=wide.device)
    weights[1 : 1 + len(chunk.weights)] = torch.tensor(chunk.weights, device=wide.device)
    weighted = wide * weights[None, :, None]
    scale = wide.mean() / weighted.mean()
    if not scale.isfinite():
        raise NotFinite(
            "the prompt's weights take the mean of its features to 0, so it cannot be restored; use others."
        )
    return (weighted * scale).to(hidden.dtype)
