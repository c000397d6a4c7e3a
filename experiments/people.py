"""The people that what we train learns from: 54 public-domain portraits that lie beside the repository, not in it.

`../shared/portraits` has the pictures, `faces.json` their landmarks, and a README that says where they are from. Trained on
them is what ships as weights; the pictures themselves stay there. Who is measured is never learnt from: every sixth person
is held out whole.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

PORTRAITS = Path(__file__).parents[2] / "shared" / "portraits"
EVERY = 6


@dataclass(frozen=True)
class Person:
    """One portrait.

    Attributes:
        name: of the file, without its ending.
        file: a picture, natively crisp, with 118 to 150 px between the eyes (the 512 template has 126).
        landmarks: (5, 2) x, y in px of left eye, right eye, nose, left and right mouth corner.
        sharpened: whether the guards of `blur-1` saw a halo: no truth of what crisp is.
        held_out: whether it is for measuring, not for learning.
    """

    name: str
    file: Path
    landmarks: np.ndarray
    sharpened: bool
    held_out: bool

    @cached_property
    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return np.asarray(Image.open(self.file).convert("RGB"))


def people(folder: Path = PORTRAITS) -> list[Person]:
    """Everybody, in the order of the file names. Ends with a sentence where the portraits are not there."""
    if not (folder / "faces.json").exists():
        raise SystemExit(f"the portraits to learn from are not in {folder}; they are not part of the repository.")
    rows = json.loads((folder / "faces.json").read_text())
    return [
        Person(
            Path(row["file"]).stem,
            folder / row["file"],
            np.array(row["lm5"], np.float64),
            "haloed" in row["flags"],
            number % EVERY == EVERY - 1,
        )
        for number, row in enumerate(rows)
    ]


def learnt_from(folder: Path = PORTRAITS) -> list[Person]:
    """Those that are crisp by nature and not held out."""
    return [person for person in people(folder) if not person.sharpened and not person.held_out]


def measured_on(folder: Path = PORTRAITS) -> list[Person]:
    """Those that nothing learns from and that are crisp by nature."""
    return [person for person in people(folder) if not person.sharpened and person.held_out]
