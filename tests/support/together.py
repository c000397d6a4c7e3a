"""Processes that work on a sweep together, whichever of them is loaded first, and of which one stops where it is to die."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.runs import until

TESTS = Path(__file__).parents[1]


def begin_together(
    folder: Path, processes: int, *, stop_at: int | None = None, put: Callable[..., Any] = setattr
) -> None:
    """Let the third UNet call of this process wait until so many processes have made their first.

    With 4 steps or more, none has made anything then, and each is about to make something. `folder`, which is there, then
    holds a file for each. In its call number `stop_at` this process says so by a file "stopped", and does no more.
    """
    from workbench.recipe import denoising

    real, calls = denoising.Diffusion.evaluate, itertools.count(1)

    def evaluate(*arguments: Any) -> Any:
        call = next(calls)
        if call == 1:
            (folder / f"begun-{os.getpid()}").touch()
        if call == 3:
            until(lambda: len(list(folder.glob("begun-*"))) >= processes, 300)
        if call == stop_at:
            (folder / "stopped").touch()
            time.sleep(600)
        return real(*arguments)

    put(denoising.Diffusion, "evaluate", evaluate)


def code(folder: Path, processes: int, stop_at: int | None = None) -> str:
    """The same as the first lines of another process."""
    return (
        f"import sys, pathlib; sys.path.insert(0, {str(TESTS)!r})\n"
        "from support.together import begin_together\n"
        f"begin_together(pathlib.Path({str(folder)!r}), {processes}, stop_at={stop_at})\n"
    )
