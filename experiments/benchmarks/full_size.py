"""SDXL at its full size with random weights, through `workbench generate` on the CPU: does it load, how long, what memory.

    python -m experiments.benchmarks.full_size DIR            # writes 19 GB there, and takes a quarter of an hour

Written are one fp16 `.safetensors` file (6.9 GB) and a diffusers folder of fp16 files with base and refiner (12 GB). The
networks are those of SDXL, so that sizes, names and memory are true; the pictures are noise.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from workbench.models.random_weights import PARTS, filled, network, write_random_sdxl

from .single_files import Tensors, tensors_of, write

PICTURE = {"steps": 1, "refine_steps": 2, "strength": 0.5, "restorer": "none"}  # one step each
LARGE = {"width": 256, "height": 256, "hires_scale": 1.5, "dtype": "float32"}
# base and refiner in float32 are 23 GB; a CPU without AVX-512 takes ten minutes for a VAE's picture of 128 px in bfloat16
SMALL = {"width": 64, "height": 64, "hires_scale": 1.0, "dtype": "bfloat16"}


def single_file_tensors() -> Tensors:
    """The tensors of a whole SDXL base in Stability's layout, without memory."""
    return tensors_of(SimpleNamespace(**{part: network("base", part) for part in PARTS["base"]}))


def generate(to: Path, **changes: object) -> dict[str, object]:
    """Time and memory of `workbench generate` in a process of its own."""
    sets = [word for name, value in {**PICTURE, **changes}.items() for word in ("--set", f"{name}={value}")]
    program = str(Path(sys.executable).with_name("workbench"))
    began = time.monotonic()
    with open(to.with_suffix(".txt"), "w+") as said:
        command = [program, "generate", "--preset", "recommended", *sets, "-o", str(to), "-q"]
        process = subprocess.Popen(command, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        said.seek(0)
        words = said.read().strip()[-300:]
    return {
        **changes,
        "exit": os.waitstatus_to_exitcode(status),
        "seconds": round(time.monotonic() - began, 1),
        "peak GB": round(used.ru_maxrss * 1024 / 1e9, 1),
        "said": words,
    }


def main() -> None:
    folder = Path(sys.argv[1])
    file, models = folder / "full.safetensors", folder / "full"
    for path, how in ((file, lambda to: write(filled(single_file_tensors()), to, None)), (models, write_random_sdxl)):
        began = time.monotonic()
        if not path.exists():
            how(path)
            print(f"{path}: written in {time.monotonic() - began:.0f} s", flush=True)
    pictures = (
        {"model": file, **LARGE, "seed": 1},  # its digest is not known yet
        {"model": file, **LARGE, "seed": 2},
        {"model": models, "refiner": "base", **LARGE, "seed": 3},
        {"model": models, **SMALL, "seed": 4},
    )
    for changes in pictures:
        print(json.dumps(generate(folder / "picture.png", **changes), default=str), flush=True)


if __name__ == "__main__":
    main()
