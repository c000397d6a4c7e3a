"""Face restorers of every kind, loaded from a file and run on aligned 512 x 512 px crops, in float32 and always the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from spandrel.architectures.GFPGAN import GFPGANArch
from spandrel.architectures.RestoreFormer import RestoreFormer, RestoreFormerArch
from spandrel.architectures.RestoreFormer.__arch.restoreformer_arch import MultiHeadDecoderTransformer
from torch import Tensor, nn

from workbench.errors import RestorationFailed, WrongModel

from . import codeformer
from .architectures import EXTRA_ATTENTION, PLUS_PLUS, architecture_of, without_prefix
from .restorers import RESTORERS, RestorerKind
from .tensors import corrupt, load_strictly, read_tensors

Progress = Callable[[int, int], None]


class FaceRestorer(Protocol):
    """A loaded restorer, in two steps: what does not depend on the weight, and what does."""

    kind: RestorerKind

    def prefix(self, crop: np.ndarray) -> Any:
        """What is made of a (512, 512, 3) uint8 RGB crop before a weight acts. Raises `RestorationFailed`."""
        ...

    def suffix(self, features: Any, weights: Sequence[float], progress: Progress) -> list[np.ndarray]:
        """(512, 512, 3) uint8 RGB for each weight; `progress(done, weights in all)` after each."""
        ...


class WithFidelity:
    """CodeFormer: see `codeformer.prefix` and `codeformer.suffix`."""

    kind = RESTORERS["CodeFormer"]

    def __init__(self, net: codeformer.CodeFormer) -> None:
        self.net = net

    def prefix(self, crop: np.ndarray) -> codeformer.Features:
        return codeformer.prefix(self.net, crop)

    def suffix(self, features: codeformer.Features, weights: Sequence[float], progress: Progress) -> list[np.ndarray]:
        return codeformer.suffix(self.net, features, weights, progress)


class WithoutFidelity:
    """GFPGAN (Wang et al. 2021), RestoreFormer (Wang et al. 2022) and RestoreFormer++ (2023): one face, whatever the weight.

    GFPGAN adds noise that it draws anew in every call; here it takes that of its file.
    """

    def __init__(self, kind: RestorerKind, net: nn.Module) -> None:
        self.kind, self.net = kind, net

    def prefix(self, crop: np.ndarray) -> np.ndarray:
        if crop.shape != (codeformer.FACE_SIZE, codeformer.FACE_SIZE, 3) or crop.dtype != np.uint8:
            raise RestorationFailed(
                f"{self.kind.name} takes a (512, 512, 3) uint8 crop, not {crop.shape} {crop.dtype}."
            )
        fixed = {"randomize_noise": False} if self.kind.name == "GFPGAN" else {}
        with codeformer.exact(self.net):
            x = torch.from_numpy(np.array(crop, order="C")).permute(2, 0, 1)[None]
            x = (x.to(next(self.net.parameters()).device, torch.float32) / 255.0 - 0.5) / 0.5
            return codeformer.pixels_of(self.net(x, **fixed)[0], self.kind.name)

    def suffix(self, features: np.ndarray, weights: Sequence[float], progress: Progress) -> list[np.ndarray]:
        for done in range(1, len(weights) + 1):
            progress(done, len(weights))
        return [features] * len(weights)


class RestoreFormerPlusPlus(RestoreFormer):
    """RestoreFormer with attention to the encoder's features at 32 px, too (Wang et al. 2023); its heads are 4, not 8.

    By wzhouxiff/RestoreFormerPlusPlus, `VQVAEGANMultiHeadTransformer(head_size=4, ex_multi_scale_num=1)`. Spandrel has the
    parts of it and not the whole.
    """

    def __init__(self, **numbers: Any) -> None:
        super().__init__(**{**numbers, "head_size": 4})
        names = ("ch", "out_ch", "ch_mult", "num_res_blocks", "in_channels", "resolution", "z_channels", "enable_mid")
        own = {name: numbers[name] for name in names}
        self.decoder = MultiHeadDecoderTransformer(**own, attn_resolutions=(16, 32), head_size=4)

    def encode(self, x: Tensor) -> Any:
        quant, loss, info, seen = super().encode(x)
        return quant, loss, info, {**seen, "block_4_atten": seen["block_4"]}


def load_face_restorer(path: Path, device: str | torch.device = "cpu") -> FaceRestorer:
    """Load a face restorer in float32.

    Args:
        path: a CodeFormer, GFPGAN (v1.2 to v1.4, the "clean" architecture), RestoreFormer or RestoreFormer++.
        device: where it runs.

    Raises:
        MissingWeights, CorruptWeights, WrongModel.
    """
    name = architecture_of(path)
    if name == "CodeFormer":
        return WithFidelity(codeformer.load_codeformer(path, device))
    if name not in RESTORERS:
        raise WrongModel(f"{path} is {name}, which restores no faces; take one of {', '.join(RESTORERS)}.")
    state = dict(without_prefix(read_tensors(path)[0]))
    try:
        net = _net_of(name, state)
    except (KeyError, ValueError, TypeError, RuntimeError, AssertionError, IndexError) as error:
        raise corrupt(path, f"it does not fit {name}: {str(error).splitlines()[-1].strip()[:160]}") from error
    load_strictly(net, state, path)
    return WithoutFidelity(RESTORERS[name], net.to(device))


def _net_of(name: str, state: dict[str, Tensor]) -> nn.Module:
    if name == "GFPGAN":
        return cast(nn.Module, GFPGANArch().load(state).model)
    plain = {key: tensor for key, tensor in state.items() if not key.startswith(EXTRA_ATTENTION)}
    net: Any = RestoreFormerArch().load(plain).model
    return RestoreFormerPlusPlus(**net.hyperparameters) if name == PLUS_PLUS else net
