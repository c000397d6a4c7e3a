"""Artefacts to fill a store with."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import numpy as np
from PIL import Image

from workbench.files import hash_json
from workbench.store.store import Artefact


def key(number: int) -> str:
    return hash_json(number)


def noise(number: int, side: int = 32, seconds: float = 1.0) -> Artefact:
    """A picture that PNG cannot make smaller: about 3 x side x side bytes."""
    pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)
    return Artefact(Image.fromarray(pixels), random.Random(number).randbytes(50), {"faces": [[0.25, number]]}, seconds)


def age(folder: Path, seconds: float, *keys: str) -> None:
    """Make files look as if last used `seconds` ago."""
    for path in folder.glob("??/*"):
        if not keys or path.stem in keys:
            os.utime(path, (time.time() - seconds, time.time() - seconds))


def keys_in(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("??/*.json")}
