"""What a process does before it computes."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from workbench.models import process
from workbench.settings import Settings


def test_glibc_keeps_what_it_has() -> None:
    """Without it every tensor of 64 MB is 16,000 page faults; with it the first ones are, until the heap has room."""
    if "CS_GNU_LIBC_VERSION" not in os.confstr_names:
        assert process.keep_memory() is False
        return
    assert process.keep_memory()
    faults = []
    for _ in range(24):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(16_000_000).sum()
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert sorted(faults)[12] < 1_000


def test_where_a_gibibyte_is_refused_it_takes_less(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Glibc:
        def __init__(self, name: None) -> None: ...

        def mallopt(self, what: int, size: int) -> int:
            asked.append((what, size))
            return int(size <= 2**25)

    monkeypatch.setattr(process.ctypes, "CDLL", Glibc)
    assert process.keep_memory() and asked == [(-3, 2**30), (-3, 2**25), (-1, 2**30), (-1, 2**25)]


def test_importing_does_nothing_of_it() -> None:
    code = "import sys, workbench, workbench.models.process as p; print(p._begun, 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False False\n"


FIRST_CALLS = """
import sys, threading, json
import workbench as wb
from workbench.recipe import Bench
from workbench.store import Store
s, said = wb.Settings(**json.loads(sys.argv[1])), []
def call(n):
    try:
        make = wb.generate if sys.argv[2] == "one" else Bench(Store(None)).generate
        make(s.replace(seed=n % 2))
        said.append("made")
    except BaseException as error:
        said.append(f"{type(error).__name__}: {error}")
threads = [threading.Thread(target=call, args=(n,)) for n in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
call(0)
print(json.dumps(said))
"""


@pytest.mark.slow
@pytest.mark.parametrize("benches", ["one", "four"])
def test_the_first_calls_may_come_from_threads(tiny: Settings, tmp_path: Path, benches: str) -> None:
    """In 3 of 6 fresh processes every call failed, and each later one: "fetch it again, a file is missing or damaged"."""
    env = {**os.environ, "WORKBENCH_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", FIRST_CALLS, json.dumps(tiny.model_dump()), benches]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert json.loads(ended.stdout.splitlines()[-1]) == ["made"] * 5, ended.stderr[-2000:]


def test_what_is_in_the_store_loads_no_more_than_torch(tiny: Settings, home: Path) -> None:
    from workbench.recipe import Bench
    from workbench.store import Store

    Bench(Store.at_home()).generate(tiny)
    code = "import sys, json, workbench as wb; wb.generate(wb.Settings(**json.loads(sys.argv[1])), quiet=True)\n"
    code += "print('torch' in sys.modules, 'diffusers' in sys.modules)"
    command = [sys.executable, "-c", code, json.dumps(tiny.model_dump())]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert ended.stdout == "True False\n", ended.stderr[-2000:]


def test_a_score_needs_no_diffusers() -> None:
    """`workbench score` took 6 s to import what it never called."""
    code = "import sys, skimage.data; from workbench import scores; picture = skimage.data.astronaut()\n"
    code += "print(scores.cell_scores(picture, picture)[0], {'diffusers', 'transformers'} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert ended.stdout == "ok set()\n", ended.stderr[-2000:]


def test_nobody_computes_while_a_network_is_built() -> None:
    """Nor do two wait for each other who compute and want to build one."""
    seen: list[str] = []
    both = threading.Barrier(2)

    def compute(name: str) -> None:
        with process.beside(), process.beside():
            both.wait(10)
            with process.alone():
                seen.append(f"{name} builds")
                time.sleep(0.05)
                seen.append(f"{name} has built")
            seen.append("computes")

    threads = [threading.Thread(target=compute, args=(name,), daemon=True) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(seen) == 6 and seen.index("a has built") == seen.index("a builds") + 1
    assert seen.index("b has built") == seen.index("b builds") + 1
    with process.alone(), process.beside(), process.alone():
        assert process._beside == 0
    assert process._beside == 0
