"""An `nvidia-smi` that says what a test wants, and the kernel's files beside it."""

from __future__ import annotations

from pathlib import Path

H100 = "NVIDIA H100 80GB HBM3, {driver}, 81559, 9.0"
HEAD = "| NVIDIA-SMI {driver}             Driver Version: {driver}     CUDA Version: {cuda}     |"


def fake_nvidia_smi(folder: Path, driver: str = "550.54.14", cuda: str = "12.4", cards: str = H100) -> Path:
    """A program in `folder`, which belongs on the PATH; how often it was called stands in `calls` beside it."""
    return fake_program(
        folder / "nvidia-smi",
        f'echo "$*" >> {folder}/calls\n'
        f"case \"$*\" in *--query-gpu=*) echo '{cards.format(driver=driver)}';; "
        f"*) echo '{HEAD.format(driver=driver, cuda=cuda)}';; esac",
    )


def fake_program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path
