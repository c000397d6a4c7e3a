"""A bar of the stage at work, for whoever waits for one picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from tqdm import tqdm  # not tqdm.auto: its widget would be a hole in an executed notebook

from workbench.models import Report

LAYOUT = "{desc} {n_fmt}/{total_fmt} |{bar}| {elapsed}"


@contextmanager
def stage_bar(quiet: bool = False) -> Iterator[Report]:
    """A `Report` that draws a bar on stderr (in a notebook below the cell); it goes when the picture is done."""
    bar: tqdm[NoReturn] | None = None

    def report(stage: str, done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(total=1, disable=quiet, leave=False, bar_format=LAYOUT)
        bar.set_description_str(f"{stage:<7}", refresh=False)
        bar.total, bar.n = max(total, 1), done
        bar.refresh()

    try:
        yield report
    finally:
        if bar is not None:
            bar.close()
