"""Networks on the device and off it: what is used comes, what need not stay leaves first.

Off a GPU a network is in the CPU's memory. Off a CPU it is nowhere: its module stays, without weights, which are read from
its file again when it is used next. Whoever holds the module never sees another one.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import CorruptWeights

from . import hardware
from .residency import Residency, Role, stays

if TYPE_CHECKING:
    from torch import nn

Stamp = tuple[tuple[Path, int, int], ...]


@dataclass
class PlacedNetwork:
    """A network and where it is.

    Attributes:
        load: reads it anew, on the CPU.
        files: what it is read from; `stamp`: their sizes and times when it was.
        roles: what it is used for.
        there: whether it is on the device, or partly.
    """

    network: nn.Module
    load: Callable[[], nn.Module]
    files: Sequence[Path]
    stamp: Stamp
    roles: set[Role] = field(default_factory=set)
    there: bool = False


class Placement:
    """The networks of some pipelines.

    Attributes:
        residency: which of them stay beside the one at work.
    """

    def __init__(self) -> None:
        self.residency = Residency.ALL
        self._placed: dict[int, PlacedNetwork] = {}

    def add(self, role: Role, load: Callable[[], nn.Module], files: Sequence[Path]) -> nn.Module:
        """Load a network, and put it where it has to be before its first use: on the device if all are to stay there."""
        stamp = _stamp(files)
        network = load()
        placed = self._placed[id(network)] = PlacedNetwork(network, load, files, stamp, {role})
        if self.residency is Residency.ALL:
            _bring(placed)
        else:
            _leave(placed)
        return network

    def share(self, network: nn.Module, role: Role) -> None:
        """A network that was added has another role, too."""
        self._placed[id(network)].roles.add(role)

    def forget(self, part: str) -> None:
        """A part's networks are not used any more; those it shares with another one stay."""
        for key, placed in list(self._placed.items()):
            placed.roles = {role for role in placed.roles if role[0] != part}
            if not placed.roles:
                del self._placed[key]

    def make_way(self, at_work: Role) -> None:
        """Move off the device what need not stay beside `at_work`."""
        leaving = [p for p in self._placed.values() if p.there and not stays(self.residency, p.roles, at_work)]
        for placed in leaving:
            _leave(placed)
        if leaving:
            _give_back()

    def bring(self, at_work: Role) -> None:
        """Move what `at_work` uses onto the device, after what need not stay has left it.

        Raises torch's `OutOfMemoryError`; `CorruptWeights` where a file has changed since it was read.
        """
        self.make_way(at_work)
        for placed in self._placed.values():
            if at_work in placed.roles and not placed.there:
                _bring(placed)

    def clear(self) -> bool:
        """Move everything off the device; whether there was anything."""
        leaving = [placed for placed in self._placed.values() if placed.there]
        for placed in leaving:
            _leave(placed)
        if leaving:
            _give_back()
        return bool(leaving)

    def there(self) -> set[Role]:
        """The roles of what is on the device."""
        return {role for placed in self._placed.values() if placed.there for role in placed.roles}


def is_empty(network: nn.Module) -> bool:
    """Whether a network is off a CPU, without its weights."""
    return next(network.parameters()).is_meta


def _bring(placed: PlacedNetwork) -> None:
    placed.there = True  # also where it comes halfway and memory runs out: then it has to leave
    if is_empty(placed.network):
        fresh = placed.load()
        if _stamp(placed.files) != placed.stamp:
            raise CorruptWeights(
                f"{placed.files[0]} has changed since it was first read; run the same again, which loads all of it anew."
            )
        _fill(placed.network, fresh)
    placed.network.to(hardware.device())


def _leave(placed: PlacedNetwork) -> None:
    if hardware.device().type == "cpu":
        _empty(placed.network)
    else:
        placed.network.to("cpu")
    placed.there = False


def _own(network: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """(module, name in it, name in the network's file) of each of the network's own tensors. LoRAs beside them are in no file
    of it: they stay where they are, and wrap a layer as `base_layer`."""
    for path, module in network.named_modules():
        if ".lora_" not in f".{path}":
            for name, tensor in module._parameters.items():
                if tensor is not None:
                    yield module, name, f"{path}.{name}".replace(".base_layer.", ".").removeprefix(".")


def _empty(network: nn.Module) -> None:
    import torch

    for module, name, _ in _own(network):
        tensor = module._parameters[name]
        assert tensor is not None
        bare = torch.empty_like(tensor, device="meta")
        module._parameters[name] = torch.nn.Parameter(bare, requires_grad=tensor.requires_grad)


def _fill(network: nn.Module, fresh: nn.Module) -> None:
    tensors = dict(fresh.named_parameters())
    for module, name, full in _own(network):
        module._parameters[name] = tensors[full]


def _stamp(files: Sequence[Path]) -> Stamp:
    return tuple((file, stat.st_size, stat.st_mtime_ns) for file in files for stat in [file.stat()])


def _give_back() -> None:
    """Let others have the memory: torch keeps a GPU's, and glibc the CPU's (see `keep_memory`)."""
    import torch

    if hardware.device().type == "cuda":
        torch.cuda.empty_cache()
    elif "CS_GNU_LIBC_VERSION" in os.confstr_names:
        ctypes.CDLL(None).malloc_trim(0)
