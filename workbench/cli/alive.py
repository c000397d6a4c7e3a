"""A sign of life while a command does what has no bar of its own: importing torch takes 6 s, on a busy machine 20."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

EVERY = 3.0  # s between two signs


@contextmanager
def alive(words: str, quiet: bool = False) -> Iterator[None]:
    """Inside, stderr says `words` at once, and every few seconds how long it has taken."""
    over, began = threading.Event(), time.monotonic()

    def tell() -> None:
        _say(f"workbench: {words} ...")
        while not over.wait(EVERY):
            _say(f"workbench: {words}, {time.monotonic() - began:.0f} s ...")

    thread = threading.Thread(target=tell, daemon=True)
    if not quiet:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if not quiet:
            thread.join()
            if sys.stderr.isatty():
                _say("")


def _say(text: str) -> None:
    """On a terminal the line is written over by the next one; in a log file each is a line."""
    sys.stderr.write(f"\r\x1b[K{text}" if sys.stderr.isatty() else f"{text}\n")
    sys.stderr.flush()
