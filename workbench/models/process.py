"""What a process does once before it computes, and what its threads must not do at the same time."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from . import hardware

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT = (2**30, 2**25)  # bytes; the second where a build of glibc refuses the first

_alone = threading.RLock()
_fewer = threading.Condition()  # its lock guards `_beside`
_beside = 0  # threads inside `beside`
_own = threading.local()  # .beside: whether this thread is one of them
_begun = False


@contextmanager
def alone() -> Iterator[None]:
    """Inside, no other thread of this process builds a network, or is `beside`.

    diffusers and transformers do so under switches of the whole process (the default device is `meta` meanwhile, the default
    precision the network's), others under `warnings.catch_warnings`: where threads loaded at once, every later call of the
    process failed in 3 of 6 tries.
    """
    counted = getattr(_own, "beside", False)
    if counted:  # two that are beside and both want to be alone would wait for each other
        _count(-1)
    try:
        with _alone:
            with _fewer:
                _fewer.wait_for(lambda: not _beside)
            yield
    finally:
        if counted:
            with _alone:
                _count(1)


@contextmanager
def beside() -> Iterator[None]:
    """Inside, this thread computes while others do, too, but none builds a network.

    While one was read in float16, scores made on a thread failed: "nms_kernel" not implemented for 'Half'.
    """
    if getattr(_own, "beside", False):
        yield
        return
    with _alone:
        _count(1)
    try:
        yield
    finally:
        _count(-1)


def _count(change: int) -> None:
    global _beside
    _own.beside = change > 0
    with _fewer:
        _beside += change
        _fewer.notify_all()


def begin() -> None:
    """Import, in one thread, what computes, and let glibc keep memory. Whoever is about to compute calls this; only the first
    call does anything. Not when a result is in the store: it takes 6 s."""
    global _begun
    if _begun:
        return
    with _alone:
        if _begun:
            return
        keep_memory()
        with _uncollected():
            import diffusers
            import torch  # noqa: F401
            import transformers

            # they import by attribute, so that two threads may each see half a module
            _ = diffusers.StableDiffusionXLPipeline, diffusers.StableDiffusionXLImg2ImgPipeline, diffusers.AutoencoderKL
            _ = transformers.CLIPTextModel, transformers.CLIPTextModelWithProjection, transformers.CLIPTokenizer
        hardware.keep_to_limit()
        _begun = True


@contextmanager
def _uncollected() -> Iterator[None]:
    """Inside, Python looks for no garbage: it finds none among what is imported, and its looks are a tenth of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def keep_memory() -> bool:
    """Let glibc keep the memory that it got from the kernel, up to 1 GiB, for the next tensor. Whether it does.

    By default each tensor of more than 32 MiB is given back at once and taken anew, page by page: 342,000 page faults and
    0.6 of 3.7 s of a picture.
    """
    if "CS_GNU_LIBC_VERSION" not in os.confstr_names:
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(any(mallopt(what, size) for size in KEPT) for what in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD))
