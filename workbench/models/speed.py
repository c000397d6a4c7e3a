"""How fast this machine multiplies, how much work a piece of code is, and what makes a UNet faster on a card."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from . import hardware

LONG_ENOUGH = 0.05  # s of one product, after which its side is doubled no more
LARGEST = 16384  # side: 1 GB a matrix in float32
CALLS = 5  # UNet calls of which the median counts
SDPA = {"flash": "FLASH_ATTENTION", "memory-efficient": "EFFICIENT_ATTENTION", "cuDNN": "CUDNN_ATTENTION"}


def matmul_rate(dtype: str = "auto") -> float:
    """FLOP a second of a product of two square matrices, the fastest of three; takes less than a second.

    The side is doubled from 512 until a product takes 0.05 s, so that neither its start nor the clock counts. `dtype`: as
    the setting. On the CPU with the threads that pictures are made with.
    """
    import torch

    with hardware.pinned_threads(), torch.inference_mode():
        side, seconds = 256, 0.0
        while seconds < LONG_ENOUGH and side < LARGEST:
            side *= 2
            matrix = torch.ones(side, side, dtype=hardware.dtype(dtype), device=hardware.device())
            torch.mm(matrix, matrix)
            seconds = min(timed(lambda matrix=matrix: torch.mm(matrix, matrix)) for _ in range(3))
    return 2 * side**3 / seconds


def timed(call: Callable[[], object]) -> float:
    """Seconds until the device has done it."""
    settle()
    started = time.perf_counter()
    call()
    settle()
    return time.perf_counter() - started


def settle() -> None:
    """Wait until the card has done what it was given; at once on the CPU."""
    import torch

    if hardware.device().type == "cuda":
        torch.cuda.synchronize(hardware.device())


@contextmanager
def counting_flops() -> Iterator[Callable[[], int]]:
    """What runs inside is counted: `counted()` is the FLOP of products, convolutions and attention so far; a multiplication
    and an addition are two. By torch's own counter, which slows the code down."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        yield counter.get_total_flops


def unet_gains(unet: Any, width: int, height: int, compiler: str = "inductor") -> dict[str, float | str]:
    """{a change: how many times as fast a guided UNet call becomes by it}; a sentence where it does not run here.

    Each is measured alone, against the UNet as it is. The networks must not be used afterwards: what was compiled stays so.
    `width`, `height`: of the picture, in pixels.
    """
    import torch

    with hardware.pinned_threads(), torch.inference_mode():
        call = partial(unet, **_inputs(unet, width, height))
        usual = _seconds(call)
        return {name: _gain(usual, call, change) for name, change in _changes(unet, compiler).items()}


def _changes(unet: Any, compiler: str) -> dict[str, Callable[[], AbstractContextManager[None]]]:
    return {
        "channels_last": partial(_channels_last, unet),
        "fp16 accumulation": _fp16_accumulation,
        **{f"SDPA {name}": partial(_attention, kernel) for name, kernel in SDPA.items()},
        "regional compile": partial(_compiled, unet, compiler),  # the last: it stays
    }


def _inputs(unet: Any, width: int, height: int) -> dict[str, Any]:
    """Noise in the shapes of a picture's two halves, with and without the prompt."""
    import torch

    config, like = unet.config, {"dtype": unet.dtype, "device": unet.device}
    ids = 6  # original size, crop and target size: a base's
    pooled = config.projection_class_embeddings_input_dim - ids * config.addition_time_embed_dim
    return {
        "sample": torch.randn(2, config.in_channels, height // 8, width // 8, **like),
        "timestep": torch.tensor(500, device=unet.device),
        "encoder_hidden_states": torch.randn(2, 77, config.cross_attention_dim, **like),
        "added_cond_kwargs": {"text_embeds": torch.randn(2, pooled, **like), "time_ids": torch.ones(2, ids, **like)},
    }


def _seconds(call: Callable[[], object]) -> float:
    for _ in range(2):  # compiles, and chooses kernels
        call()
    return statistics.median(timed(call) for _ in range(CALLS))


def _gain(usual: float, call: Callable[[], object], change: Callable[[], AbstractContextManager[None]]) -> float | str:
    try:
        with change():
            return usual / _seconds(call)
    except Exception as error:  # a kernel that this card has not, no compiler: each has a class of its own
        return f"not measured: {str(error).partition(chr(10))[0] or type(error).__name__}"


@contextmanager
def _channels_last(unet: Any) -> Iterator[None]:
    import torch

    unet.to(memory_format=torch.channels_last)
    try:
        yield
    finally:
        unet.to(memory_format=torch.contiguous_format)


@contextmanager
def _fp16_accumulation() -> Iterator[None]:
    import torch

    switches = torch.backends.cuda.matmul
    before = switches.allow_fp16_accumulation
    switches.allow_fp16_accumulation = True
    try:
        yield
    finally:
        switches.allow_fp16_accumulation = before


@contextmanager
def _attention(kernel: str) -> Iterator[None]:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(getattr(SDPBackend, kernel)):
        yield


@contextmanager
def _compiled(unet: Any, compiler: str) -> Iterator[None]:
    unet.compile_repeated_blocks(backend=compiler)
    yield
