"""The face restorer: spandrel's `CodeFormer` with the released `codeformer.pth`, or a narrow one from a `.safetensors` file.

`prefix` and `suffix` are its `forward` in two parts, so that one face restored at many weights pays for the first part once.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from workbench.errors import RestorationFailed

from .tensors import corrupt, load_strictly, read_tensors

with warnings.catch_warnings():
    # its `swish` is a torch.jit.script function, deprecated since torch 2.9: the warning is not ours to fix
    warnings.simplefilter("ignore")
    from spandrel_extra_arches.architectures.CodeFormer import CodeFormer
    from spandrel_extra_arches.architectures.CodeFormer.__arch.codeformer import (
        Fuse_sft_block,
        TransformerSALayer,
        VectorQuantizer,
        VQAutoEncoder,
        adaptive_instance_normalization,
    )

EMBEDDED_CODEFORMER = Path(__file__).parent / "embedded" / "restorer" / "codeformer.safetensors"
"""The narrow CodeFormer that ships with the workbench (made by experiments/embedded_model/restorer.py)."""

FACE_SIZE = 512
"""Side of the aligned crop in pixels. CodeFormer's 16x16 position embedding allows no other."""


class NarrowCodeFormer(CodeFormer):
    """CodeFormer with fewer channels, residual blocks, codes and layers; the inherited `forward` is unchanged.

    `forward` needs an input of 512x512 and a latent of 16x16 with 256 channels; GroupNorm needs every channel count to be
    a multiple of 32.

    Args:
        nf: channels at 512 px; the real network has 64.
        ch_mult: factor of `nf` at 512, 256, 128, 64, 32, 16 px; the real one has (1, 2, 2, 4, 4, 8).
        num_res_blocks: residual blocks at each size; the real one has 2.
        dim_embd, n_head, n_layers: the transformer; the real one has 512, 8, 9.
        codebook_size: entries of 256 numbers each; the real one has 1024.
        connect_list: sizes in pixels that have a controllable feature transform (fidelity weight).
    """

    def __init__(
        self,
        *,
        nf: int,
        ch_mult: tuple[int, ...],
        num_res_blocks: int,
        dim_embd: int,
        n_head: int,
        n_layers: int,
        codebook_size: int,
        connect_list: tuple[str, ...] = ("32", "64", "128", "256"),
    ) -> None:
        # CodeFormer.__init__ has the real channel numbers written into it, so its body is repeated here with ours
        VQAutoEncoder.__init__(self, FACE_SIZE, nf, list(ch_mult), "nearest", num_res_blocks, [16], codebook_size)
        # One channel in each of GroupNorm's 32 groups would lose its mean, and after the last norm nothing brings it back:
        # every picture came out in the same average colour. The real network has 2 channels in a group there.
        self.generator.blocks[-2] = nn.GroupNorm(4, nf * ch_mult[0], eps=1e-6)
        self.connect_list = list(connect_list)
        self.n_layers = n_layers
        self.dim_embd = dim_embd
        self.dim_mlp = dim_embd * 2
        self.position_emb = nn.Parameter(torch.zeros(256, dim_embd))
        self.feat_emb = nn.Linear(256, dim_embd)
        self.ft_layers = nn.Sequential(
            *[TransformerSALayer(embed_dim=dim_embd, nhead=n_head, dim_mlp=self.dim_mlp) for _ in range(n_layers)]
        )
        self.idx_pred_layer = nn.Sequential(nn.LayerNorm(dim_embd), nn.Linear(dim_embd, codebook_size, bias=False))
        sizes = ("512", "256", "128", "64", "32", "16")
        blocks = num_res_blocks
        self.channels = {size: nf * factor for size, factor in zip(sizes, ch_mult, strict=True)}
        # after the last residual block of each size, before the attention at 16 px
        self.fuse_encoder_block = {size: level * (blocks + 1) + blocks for level, size in enumerate(sizes)}
        self.fuse_encoder_block["16"] = 5 * (blocks + 1) + 1 + 2 * (blocks - 1)
        # after the first residual block of each size above 16 px. Four blocks come before them; attention doubles those
        # of 16 px
        first = 4 + 2 * blocks + 1
        self.fuse_generator_block = {"16": 4 + 2 * (blocks - 1)}
        self.fuse_generator_block |= {size: first + i * (blocks + 1) for i, size in enumerate(reversed(sizes[:-1]))}
        self.fuse_convs_dict = nn.ModuleDict(
            {size: Fuse_sft_block(self.channels[size], self.channels[size]) for size in self.connect_list}
        )


def _codeformer_for(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> CodeFormer:
    """Build the CodeFormer that a state dict describes: spandrel's own class at the real width, else a narrow one."""
    nf = state["encoder.blocks.0.weight"].shape[0]
    dim_embd = state["position_emb"].shape[1]
    codebook_size = state["quantize.embedding.weight"].shape[0]
    n_layers = len({key.split(".")[1] for key in state if key.startswith("ft_layers.")})
    connect = tuple(
        size for size in ("16", "32", "64", "128", "256", "512") if f"fuse_convs_dict.{size}.shift.0.weight" in state
    )
    if nf == 64:
        return CodeFormer(dim_embd=dim_embd, n_layers=n_layers, codebook_size=codebook_size, connect_list=list(connect))
    config = json.loads(metadata["config"])  # heads and multipliers cannot be told from the tensors alone
    return NarrowCodeFormer(
        nf=nf,
        ch_mult=tuple(config["ch_mult"]),
        num_res_blocks=int(config["num_res_blocks"]),
        n_head=int(config["n_head"]),
        dim_embd=dim_embd,
        n_layers=n_layers,
        codebook_size=codebook_size,
        connect_list=connect,
    )


def load_codeformer(path: Path = EMBEDDED_CODEFORMER, device: str | torch.device = "cpu") -> CodeFormer:
    """Load a CodeFormer face restorer in float32.

    Args:
        path: `codeformer.pth` as released (`{"params_ema": ...}`, read with weights_only), or a `.safetensors` file
            with the same tensor names. A file whose first convolution has 64 channels is the real architecture and
            runs in spandrel's class unchanged; a narrower one needs its numbers in the safetensors metadata.
        device: where it runs.

    Raises:
        MissingWeights, CorruptWeights.
    """
    path = Path(path)
    state, metadata = read_tensors(path)
    try:
        with torch.device("meta"):  # to draw weights that the file's replace took longer than to read those
            net = _codeformer_for(state, metadata)
    except (KeyError, ValueError, TypeError, AssertionError) as error:
        raise corrupt(path, f"it is not a CodeFormer: {type(error).__name__} {str(error)[:80]}") from error
    net.to_empty(device="cpu")
    load_strictly(net, state, path)
    return net.to(device)


@dataclass(frozen=True)
class Features:
    """What CodeFormer makes of one face before the weight acts; 47 MB at the real width, nearly all of it `kept`.

    Attributes:
        kept: {size in pixels: (1, channels, size, size)}, the encoder's features for the fuse blocks after the first.
        state: (1, channels, size, size), the generator's features where the first fuse block acts.
        residual: same shape; the first fuse block adds `weight * residual`. None where the network has no fuse block.
        blocks: how many blocks of the generator have run.
    """

    kept: dict[str, Tensor]
    state: Tensor
    residual: Tensor | None
    blocks: int


@contextmanager
def exact(net: nn.Module) -> Iterator[None]:
    """Inference in float32 whatever the caller's autocast: `get_codebook_feat` multiplies by a float32 one-hot, and fails in
    half precision."""
    with torch.inference_mode(), torch.autocast(next(net.parameters()).device.type, enabled=False):
        yield


def prefix(net: CodeFormer, crop: np.ndarray) -> Features:
    """The first part of spandrel's `forward`, which does not depend on the weight: 31 % of the work.

    Encoder, transformer, codebook, AdaIN, and the generator up to and including what the first fuse block adds.

    Args:
        net: what `load_codeformer` returned.
        crop: (512, 512, 3) uint8 RGB, from `workbench.recipe.faces.align`.

    Raises:
        RestorationFailed: wrong input.
    """
    if crop.shape != (FACE_SIZE, FACE_SIZE, 3) or crop.dtype != np.uint8:
        raise RestorationFailed(f"CodeFormer takes a (512, 512, 3) uint8 crop, not {crop.shape} {crop.dtype}.")
    x = torch.from_numpy(np.array(crop, order="C")).permute(2, 0, 1)[None]
    with exact(net):
        x = (x.to(next(net.parameters()).device, torch.float32) / 255.0 - 0.5) / 0.5
        after = {net.fuse_encoder_block[size] for size in net.connect_list}
        kept: dict[str, Tensor] = {}
        for i, block in enumerate(net.encoder.blocks):
            x = block(x)
            if i in after:
                kept[str(x.shape[-1])] = x
        positions = net.position_emb.unsqueeze(1)
        quantizer = cast(VectorQuantizer, net.quantize)
        query = net.feat_emb(x.flatten(2).permute(2, 0, 1))  # (256, 1, dim_embd)
        for layer in net.ft_layers:
            query = layer(query, query_pos=positions)
        codes = torch.topk(functional.softmax(net.idx_pred_layer(query).permute(1, 0, 2), dim=2), 1, dim=2)[1]
        state = adaptive_instance_normalization(quantizer.get_codebook_feat(codes, shape=[1, 16, 16, 256]), x)
        fuses = _fuses(net)
        for i, block in enumerate(net.generator.blocks):
            state = block(state)
            if i in fuses:  # the first lines of the fuse block's own forward
                both = fuses[i].encode_enc(torch.cat([kept.pop(str(state.shape[-1])), state], dim=1))
                return Features(kept, state, state * fuses[i].scale(both) + fuses[i].shift(both), i + 1)
        return Features(kept, state, None, len(net.generator.blocks))


def suffix(
    net: CodeFormer,
    features: Features,
    weights: Sequence[float],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[np.ndarray]:
    """The rest of `forward`, for any number of weights: each picture is bit for bit what `forward` gives for its weight.

    The weights run one after the other, for two reasons. A batch takes longer (full size, one CPU thread: 5.9 s for each
    weight alone, 6.4 in a batch of two, 7.0 in one of seven) and 0.5 GB more for each weight. And on a GPU cuDNN chooses its
    algorithm by the batch size, so that a picture's bits would depend on which other weights were asked for.

    Args:
        net: the network that made the features.
        features: from `prefix`.
        weights: fidelity from 0 (the codebook's own face: sharpest) to 1 (closest to the input).
        progress: called with (weights done, weights in all) after each; what it raises stops the work.

    Returns:
        (512, 512, 3) uint8 RGB for each weight.

    Raises:
        RestorationFailed: a weight is out of range, or the network gave NaN (CodeFormer's own script then returns its
            input without a word).
    """
    for weight in weights:
        if not 0.0 <= weight <= 1.0:
            raise RestorationFailed(f"The CodeFormer weight is {weight}; it goes from 0 (quality) to 1 (fidelity).")
    made = []
    for weight in weights:
        made.append(_generate(net, features, float(weight)))
        progress(len(made), len(weights))
    return made


def _fuses(net: CodeFormer) -> dict[int, Fuse_sft_block]:
    """{block of the generator: the fuse block that comes after it}."""
    return {
        net.fuse_generator_block[size]: cast(Fuse_sft_block, net.fuse_convs_dict[size]) for size in net.connect_list
    }


def _generate(net: CodeFormer, features: Features, weight: float) -> np.ndarray:
    """(512, 512, 3) uint8 RGB: what the generator makes of `features` at one weight."""
    with exact(net):
        x, fuses = features.state, _fuses(net)
        if weight > 0 and features.residual is not None:
            x = x + weight * features.residual
        for i, block in enumerate(net.generator.blocks[features.blocks :], start=features.blocks):
            x = block(x)
            if weight > 0 and i in fuses:
                x = fuses[i](features.kept[str(x.shape[-1])], x, weight)
        return pixels_of(x, "CodeFormer")


def pixels_of(answer: Tensor, who: str) -> np.ndarray:
    """A network's (1, 3, H, W) in -1..1 as (H, W, 3) uint8 RGB. Raises `RestorationFailed` for NaN."""
    if not bool(torch.isfinite(answer).all()):
        raise RestorationFailed(f"{who} returned NaN: the weights file is damaged or of another model.")
    x = (answer[0].clamp(-1, 1) + 1) / 2
    return (x * 255.0).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()


def restore(net: CodeFormer, crop: np.ndarray, weight: float) -> np.ndarray:
    """Restore one aligned face, as CodeFormer's own inference script does with its `w`.

    Takes and gives what `prefix` takes and `suffix` gives, and raises what they raise.
    """
    return suffix(net, prefix(net, crop), [weight])[0]
