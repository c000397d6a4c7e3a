"""A bar of the stage at work, for whoever waits for one picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from tqdm.auto import tqdm

from workbench.models import Report

LAYOUT = "{desc} {n_fmt}/{total_fmt} |{bar}| {elapsed}"


@contextmanager
def stage_bar(quiet: bool = False) -> Iterator[Report]:
    """A `Report` that draws a bar on stderr (in a notebook below the cell); it goes when the picture is done."""
    bar: tqdm[NoReturn]
    with tqdm(total=1, disable=quiet, leave=False, bar_format=LAYOUT) as bar:

        def report(stage: str, done: int, total: int) -> None:
            bar.set_description_str(f"{stage:<7}", refresh=False)
            bar.total, bar.n = max(total, 1), done
            bar.refresh()

        yield report
