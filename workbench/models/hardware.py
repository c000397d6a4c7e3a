"""The machine that the networks run on: its device, the memory there, the precision, and the number of CPU threads."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from workbench.errors import CardUnusable, OutOfMemory, UsageError
from workbench.store import parse_size

from . import driver

if TYPE_CHECKING:
    import torch

MAX_MEMORY = "WORKBENCH_MAX_MEMORY"


def device(name: str | None = None) -> torch.device:
    """The device named, else $WORKBENCH_DEVICE, else the first CUDA device, else, without an NVIDIA card, the CPU.

    Raises `UsageError`, and `CardUnusable` where there is a card that torch cannot use, unless the CPU was named: without a
    word it would take an hour for what the card does in a minute.
    """
    import torch

    count = gpus()
    name = name or os.environ.get("WORKBENCH_DEVICE") or ("cuda" if count or _unseen() else "cpu")
    try:
        found = torch.device(name)
    except RuntimeError:
        raise UsageError(f"'{name}' is no device; name cpu, cuda or, of several GPUs, cuda:1.") from None
    if found.type not in ("cpu", "cuda"):
        raise UsageError(f"on {found.type} the workbench is untried; name cpu, cuda or, of several GPUs, cuda:1.")
    if found.type == "cuda" and (problem := _unfit(found.index or 0) if count else _unseen()):
        raise CardUnusable(f"{problem}, or set WORKBENCH_DEVICE=cpu to work on the CPU.")
    if found.type == "cuda" and (found.index or 0) >= count:
        raise UsageError(
            f"there is no device {name}: torch sees {count or 'no'} GPU{'s' * (count > 1)} here; name cpu."
        )
    return found


@cache
def gpus() -> int:
    """How many CUDA devices torch sees."""
    import torch

    with warnings.catch_warnings():  # torch's own words on a driver that is too old: `unseen_card` says what to do
        warnings.simplefilter("ignore")
        return torch.cuda.device_count() if torch.cuda.is_available() else 0


def card_problem() -> str | None:
    """Why torch cannot use an NVIDIA card of this machine, and what to do, without a full stop; None where it can, and where
    there is none."""
    return next(filter(None, map(_unfit, range(gpus()))), None) if gpus() else _unseen()


@cache
def _unseen() -> str | None:
    """Of the cards of a machine on which torch sees none; asks the driver once a process."""
    import torch

    words = ""
    if torch.version.cuda and driver.cards():
        try:
            torch.cuda.init()
        except (RuntimeError, AssertionError) as error:
            words = str(error).partition("\n")[0].rstrip(".")
    return driver.unseen_card(torch.version.cuda, words)


@cache
def _unfit(index: int) -> str | None:
    """Of a card that torch sees: it may be too old or too new for this build, which torch says in the first kernel."""
    import torch

    if not torch.cuda.is_available() or index >= gpus():
        return None
    return driver.unfit_card(torch.version.cuda, torch.cuda.get_device_capability(index), torch.cuda.get_arch_list())


def free_memory() -> int | None:
    """Free bytes of the device's memory; None on the CPU, where batches gain nothing."""
    import torch

    return torch.cuda.mem_get_info(device())[0] if device().type == "cuda" else None


def memory_limit() -> int | None:
    """The most bytes of the device's memory that this process may take: $WORKBENCH_MAX_MEMORY, which on a CPU is the RAM of
    the networks and of what they work on. None: no limit. Raises `UnreadableSize`, `UsageError`."""
    text = os.environ.get(MAX_MEMORY, "").strip()
    if not text:
        return None
    limit = parse_size(text, MAX_MEMORY)
    if limit < 1:
        raise UsageError(f"{MAX_MEMORY} = '{text}' leaves no memory; write a size like 12GiB, or leave it out.")
    return limit


def usable_memory() -> int | None:
    """Bytes of the device's memory that this process holds or could still get; on the CPU the limit, None without one.

    Raises `UnreadableSize`, `UsageError`.
    """
    import torch

    free, limit = free_memory(), memory_limit()
    if free is None:
        return limit
    usable = free + torch.cuda.memory_reserved(device())
    return usable if limit is None else min(usable, limit)


def keep_to_limit() -> None:
    """Let torch take no more of a GPU than `memory_limit` says. On a CPU nothing enforces it: networks are placed by it."""
    import torch

    limit = memory_limit()
    if limit is not None and device().type == "cuda":
        whole = torch.cuda.mem_get_info(device())[1]
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / whole), device())


class PeakMemory:
    """The most bytes of the GPU's memory that were in use at once inside `with`, all of the process's together.

    It is of this very block, whatever ran before. Blocks of one thread must not lie within each other.

    Attributes:
        bytes: None on the CPU, where it is not measured: the system counts what a process holds, which is as much as its
            largest picture so far needed.
    """

    bytes: int | None = None

    def __enter__(self) -> PeakMemory:
        import torch

        self._where = device()
        if self._where.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._where)
        return self

    def __exit__(self, *_: object) -> None:
        import torch

        if self._where.type == "cuda":
            # not what is reserved: that stays as much as the largest picture so far needed, too
            self.bytes = torch.cuda.max_memory_allocated(self._where)


def dtype_name(name: str = "auto") -> str:
    """Precision of the SDXL networks by the setting `dtype`: 'auto' is float16 on a GPU, else float32. A VAE whose config
    asks for it works in float32 where the others are float16."""
    return name if name != "auto" else "float16" if device().type == "cuda" else "float32"


def dtype(name: str = "auto") -> torch.dtype:
    """As `dtype_name`, for torch."""
    import torch

    return getattr(torch, dtype_name(name))


def threads() -> int:
    """How many CPU threads torch runs on: $WORKBENCH_THREADS, else 1. Raises `UsageError`.

    The number is fixed and part of every content key, since it changes the last bits of a picture: 1 and 2 threads differ by
    1.3e-6 after one UNet call. It is 1 because on a busy 2-core machine 2 threads took 13.3 s for a call of 0.64 s.
    """
    text = os.environ.get("WORKBENCH_THREADS", "1")
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"WORKBENCH_THREADS is '{text}'; it must be a whole number from 1.")
    return int(text)


_pinning = threading.Lock()
_pinned = threading.local()  # .depth: how often this thread is inside
_inside, _own = 0, 1  # how many threads are inside; the process's own number, as the first of them found it


@contextmanager
def pinned_threads() -> Iterator[None]:
    """Run torch on `threads()` CPU threads inside, and on the process's own number again afterwards.

    Torch keeps a number for each Python thread; a new thread starts with the number that any thread set last. So the last
    one to leave puts the process's own number back.
    """
    import torch

    global _inside, _own
    number, depth = threads(), getattr(_pinned, "depth", 0)
    with _pinning:
        if not depth:
            _own = _own if _inside else torch.get_num_threads()
            _inside += 1
        torch.set_num_threads(number)
    _pinned.depth = depth + 1
    try:
        yield
    finally:
        _pinned.depth = depth
        if not depth:
            with _pinning:
                _inside -= 1
                torch.set_num_threads(_own)


def device_words() -> str:
    """Device and CPU threads in words; part of every content key, since they change a picture's last bits."""
    import torch

    where = device()
    if where.type == "cuda":
        return torch.cuda.get_device_name(where)
    return f"{where.type}, {threads()} thread{'s' * (threads() > 1)}"


def backend() -> str:
    """Device, its usual precision and CPU threads in words: what measurements of time and memory are kept under."""
    name, comma, rest = device_words().partition(", ")
    return f"{name} {dtype_name()}{comma}{rest}"


@contextmanager
def out_of_memory(what: str, *, alone: bool = False) -> Iterator[None]:
    """Turn torch's error inside into `OutOfMemory`, which says `what` was being done and what to change.

    `alone`: whether no other network of SDXL was on the device any more.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise OutOfMemory(
            f"out of device memory while {what}; lower width, height or hires_scale, or close other programs on the device"
            + (" (no other network of SDXL was left on it)." if alone else ".")
        ) from error
