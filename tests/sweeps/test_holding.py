"""Who works on a run: only workers that would make the same pictures, and each on a device of its own."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from support import together
from support.runs import fresh, pixels, recorded

from workbench.errors import OtherPictures, TooManyWorkers
from workbench.files import read_lines
from workbench.models import hardware
from workbench.recipe import Bench
from workbench.runs import Run
from workbench.store import Store
from workbench.sweeps import detached, holding, local_workers
from workbench.sweeps.holding import Holding, working
from workbench.sweeps.planning import plan
from workbench.sweeps.session import last_session, open_run, sweep


@pytest.fixture
def run(spec: dict[str, Any]) -> Run:
    return open_run(plan(spec))


def test_an_unlike_worker_is_refused_and_told_why(
    run: Run, spec: dict[str, Any], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers whose keys differed made 48 records of 24 cells, and wrote over each other's pictures."""
    s = plan(spec).cells[0].settings
    with Holding(run, join=False), working(run, "a digest", s):
        monkeypatch.setenv("WORKBENCH_THREADS", "2")
        with pytest.raises(OtherPictures) as refused:
            sweep(spec, on=fresh(home), quiet=True, join=True)
    assert "the device is cpu, 1 thread there and cpu, 2 threads here" in str(refused.value)
    assert recorded(run) == []
    assert sweep(spec, on=fresh(home), quiet=True, join=True).states()["to_do"] == 0  # when nobody else is at work


def test_like_workers_share_a_run(run: Run, spec: dict[str, Any]) -> None:
    s = plan(spec).cells[0].settings
    with working(run, "a digest", s), working(run, "a digest", s):
        pass
    assert [line["digest"] for line in read_lines(run.journal) if line["kind"] == "machine"] == ["a digest"]


def test_what_the_first_one_is_is_known_before_a_second_looks(run: Run, spec: dict[str, Any]) -> None:
    s = plan(spec).cells[0].settings
    slow, seen = threading.Event(), []

    def tell() -> dict[str, str]:
        slow.set()
        time.sleep(0.3)
        return {}

    def first() -> None:
        with working(run, "one", s, about=tell):
            time.sleep(0.3)

    thread = threading.Thread(target=first)
    thread.start()
    slow.wait(20)
    with pytest.raises(OtherPictures), working(run, "another", s):
        seen.append("let in")
    thread.join()
    assert seen == []


@pytest.mark.parametrize(
    ("device", "gpus", "asked", "found"),
    [
        (None, 2, None, 2), (None, 2, 2, 2), ("cuda", 2, 2, 2), (None, 0, 2, 2), ("cpu", 2, 2, 2), ("cuda:1", 2, None, 1),
        (None, 2, 3, "there are 2 GPUs"), ("cuda:1", 2, 2, r"WORKBENCH_DEVICE names one \(cuda:1\)"),
    ],
)  # fmt: skip
def test_each_worker_has_a_device(
    device: str | None, gpus: int, asked: int | None, found: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "gpus", lambda: gpus)
    if device:
        monkeypatch.setenv("WORKBENCH_DEVICE", device)
    if isinstance(found, str):
        with pytest.raises(TooManyWorkers, match=found):
            local_workers.how_many(asked)
        return
    assert local_workers.how_many(asked) == found
    on_gpu = gpus and device != "cpu"
    assert local_workers._device_of(1) == ({"WORKBENCH_DEVICE": "cuda:1"} if on_gpu else {})


def test_who_was_asked_to_stop_is_waited_for(run: Run, spec: dict[str, Any], home: Path) -> None:
    """`runs stop` and then the same sweep at once was refused: the run was still busy."""
    first = Holding(run, join=False).__enter__()
    holding.stop(run)
    threading.Timer(0.5, first.__exit__).start()
    done = sweep(spec, on=fresh(home), quiet=True)
    assert done.states()["to_do"] == 0 and not (run.path / "stop").exists()
    assert done.peak_memory() == {}  # on a CPU it is not measured


def test_stopped_and_started_again_at_once_it_goes_on(
    run: Run, spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """--detach attached to the process that was about to stop, and nothing went on."""
    launched: list[str] = []
    monkeypatch.setattr(detached, "_launch", lambda run, *_: launched.append(run.id) or True)
    with Holding(run, join=False):
        assert not detached.start(spec).started and launched == []
        holding.stop(run)
        assert detached.start(spec).started and launched == [run.id]


@pytest.mark.slow
def test_workers_are_processes_that_join_and_say_together_how_far_the_run_is(
    spec: dict[str, Any], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each counted its own cells, and wrote "finished, 22 of 24" over the other's."""
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("WORKBENCH_HOME", str(tmp_path / "alone"))
        want = pixels(sweep(spec, on=Bench(Store(None)), quiet=True))
    begun = tmp_path / "begun"
    begun.mkdir()
    (tmp_path / "sitecustomize.py").write_text(together.code(begun, 2))  # the helper is a command that imports this
    path = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    together.begin_together(begun, 2, put=monkeypatch.setattr)
    run = sweep(spec, on=fresh(home), quiet=True, workers=2)
    assert len({line["pid"] for line in read_lines(run.journal) if line["kind"] == "stage"}) == 2
    assert pixels(run) == want and recorded(run) == list(range(24)) and run.states()["failed"] == 0
    assert last_session(run)["notes"] == [] and (run.path / "log-1.txt").exists()
    status = json.loads((run.path / "status.json").read_text())
    assert status["state"] == "finished" and status["cells"] == {"recorded": 24, "total": 24}
    assert sweep(spec, on=fresh(home), quiet=True, workers=2).states()["to_do"] == 0


def test_the_memory_of_a_stage_is_its_own(spec: dict[str, Any], home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """512 px after 1536 px read "20 GB, measured": the process's most since it began."""
    from workbench.sweeps.session import Session

    peak, calls = [0], [0]
    measured: dict[str, set[int | None]] = {}
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda where: peak.__setitem__(0, 0))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda where: peak[0])

    class Card(hardware.PeakMemory):
        def __enter__(self) -> Any:
            calls[0] += 1
            self._where = torch.device("cuda")
            torch.cuda.reset_peak_memory_stats(self._where)
            return self

    from workbench.recipe import denoising
    from workbench.sweeps import engine

    monkeypatch.setattr(denoising, "PeakMemory", Card)
    monkeypatch.setattr(engine, "PeakMemory", Card)
    real = denoising.Diffusion.pipe

    def pipe(self: Any, part: str) -> Any:
        peak[0] = max(peak[0], 7)  # whatever is asked of it
        return real(self, part)

    def forward(self: Any, sample: Any, *rest: Any, **named: Any) -> Any:
        peak[0] = max(peak[0], sample.numel())
        return unet(self, sample, *rest, **named)

    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.forward
    monkeypatch.setattr(UNet2DConditionModel, "forward", forward)
    monkeypatch.setattr(denoising.Diffusion, "pipe", pipe)
    note = Session.measured

    def keep(self: Any, stage: str, settings: Any, size: int, memory: int | None) -> None:
        measured.setdefault(stage, set()).add(memory)
        note(self, stage, settings, size, memory)

    monkeypatch.setattr(Session, "measured", keep)
    fixed = {name: value for name, value in spec["fixed"].items() if name != "hires_scale"}
    sizes = {**spec, "prompts": ["a face"], "axes": {"hires_scale": [2.0, 1.0]}, "fixed": fixed}
    run = sweep(sizes, on=fresh(home), quiet=True)
    # 2 halves x 4 channels x 8 x 8 latents, and for the refiner those of 128 and of 64 px
    assert calls[0] and measured["base"] == {2 * 4 * 64} and measured["refine"] == {2 * 4 * 256, 2 * 4 * 64}
    assert measured["faces"] == {0}
    most = {"base": 2 * 4 * 64, "refine": 2 * 4 * 256, "faces": 0}
    assert run.peak_memory() == most and last_session(run)["measured_memory"] == most


def test_on_the_cpu_memory_is_not_measured() -> None:
    with hardware.PeakMemory() as memory:
        torch.zeros(1000)
    assert memory.bytes is None
