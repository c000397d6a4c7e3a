"""RAM while base and refiner are loaded, against what stays: `python -m experiments.benchmarks.host_memory MODEL [DTYPE]`.

MODEL: a folder with base and refiner, as `full_size` writes one. The system's own count of the process: "anonymous" is its
tensors, "file" are pages of weights files that are mapped, which the system takes back when it needs them.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

from workbench.models import Sdxl, begin, pipelines

COUNTED = {"VmHWM": "peak", "VmRSS": "all", "RssAnon": "anonymous", "RssFile": "file"}


def counted() -> dict[str, int]:
    """Bytes of this process by the system's count."""
    lines = (line.partition(":") for line in Path("/proc/self/status").read_text().splitlines())
    return {COUNTED[name]: int(value.split()[0]) * 1024 for name, _, value in lines if name in COUNTED}


def main() -> None:
    begin()
    before, most, over = counted(), {"anonymous": 0, "file": 0}, threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            now = counted()
            most.update({name: max(size, now[name]) for name, size in most.items()})

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.monotonic()
    try:
        sdxl = Sdxl(sys.argv[1], "", "auto", (sys.argv[2:] or ["bfloat16"])[0])
        _held = pipelines.load_refiner(sdxl, pipelines.load_base(sdxl))
    finally:
        over.set()
        watcher.join()
    after = counted()
    found = {"seconds": round(time.monotonic() - began, 1), "before": before, "most": most, "after": after}
    print(json.dumps({**found, "peak / what stays": round(after["peak"] / after["all"], 3)}, indent=2))


if __name__ == "__main__":
    main()
