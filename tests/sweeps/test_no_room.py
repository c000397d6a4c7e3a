"""A full disk or a limit of file sizes stops a sweep with one sentence, wherever it is met, and costs nothing."""

from __future__ import annotations

import errno
import resource
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.runs import fresh, pixels

from workbench.errors import DiskFull, WorkbenchError
from workbench.recipe import Bench
from workbench.recipe.stages.refine import Refine
from workbench.store import Store
from workbench.sweeps import progress
from workbench.sweeps.session import sweep


@pytest.fixture
def small(spec: dict[str, Any]) -> dict[str, Any]:
    return {**spec, "prompts": ["a face"], "axes": {"weight": [0.0, 1.0], "strength": [0.3, 0.5]}}


ALONE: list[str] = []  # the pixels of `small` from a store in memory, made once for all limits


@pytest.fixture
def alone(small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    if not ALONE:
        with monkeypatch.context() as elsewhere:
            elsewhere.setenv("WORKBENCH_HOME", str(tmp_path / "elsewhere"))
            ALONE.extend(pixels(sweep(small, on=Bench(Store(None)), quiet=True)))
    return ALONE


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Inside, no file of this process can become larger."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    told = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, told)


@pytest.mark.parametrize("size", [0, 10, 100, 400, 700, 1_500, 4_000, 6_000, 9_000, 15_000, 25_000, 40_000])
def test_a_limit_of_file_sizes_is_one_sentence_and_costs_nothing(
    size: int, small: dict[str, Any], home: Path, alone: list[str]
) -> None:
    with largest_file(size):
        try:
            sweep(small, on=fresh(home), quiet=True)
        except DiskFull as error:
            assert "file sizes" in str(error) and "\n" not in str(error)
    run = sweep(small, on=fresh(home), quiet=True)
    assert run.states() == {"done": 0, "no_face": 4, "failed": 0, "to_do": 0}
    assert pixels(run) == alone and len(alone) == 4


def test_a_disk_that_fills_up_inside_a_stage_is_not_its_cells_fault(
    small: dict[str, Any], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Refine.start

    def full(*arguments: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Refine, "start", full)
    with pytest.raises(DiskFull, match="stopped the refine stage; free some"):
        sweep(small, on=fresh(home), quiet=True)
    monkeypatch.setattr(Refine, "start", original)
    assert sweep(small, on=fresh(home), quiet=True).states()["no_face"] == 4


def test_a_progress_file_that_cannot_be_written_is_not_a_cells_fault(
    small: dict[str, Any], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written between two steps of a face, so that the face was recorded as failed."""
    real = progress.os.replace

    def full(*arguments: Any) -> None:
        if str(arguments[1]).endswith("status.json"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(*arguments)

    monkeypatch.setattr(progress.os, "replace", full)
    with pytest.raises(DiskFull, match=r"status\.json could not be written"):
        sweep(small, on=fresh(home), quiet=True)
    monkeypatch.setattr(progress.os, "replace", real)
    assert sweep(small, on=fresh(home), quiet=True).states()["failed"] == 0


@pytest.mark.parametrize("what", ["store", "store, at every step"])
def test_a_store_deleted_in_mid_run_is_made_again(small: dict[str, Any], home: Path, what: str) -> None:
    calls = [0]

    def check() -> None:
        calls[0] += 1
        if calls[0] == 12 or (calls[0] % 5 == 0 and what != "store"):
            shutil.rmtree(home / "store", ignore_errors=True)

    run = sweep(small, on=fresh(home), quiet=True, check=check)
    assert run.states() == {"done": 0, "no_face": 4, "failed": 0, "to_do": 0}


def test_a_deleted_run_is_said_to_be_gone(small: dict[str, Any], home: Path) -> None:
    calls = [0]

    def check() -> None:
        calls[0] += 1
        if calls[0] == 20:
            shutil.rmtree(home / "runs")

    with pytest.raises(WorkbenchError) as said:
        sweep(small, on=fresh(home), quiet=True, check=check)
    assert "runs" in str(said.value) and "\n" not in str(said.value)
