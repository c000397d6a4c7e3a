"""How well the guard `deformed` tells torn faces from whole ones, on the labelled pictures and on portraits.

    python experiments/deformed/fit.py DIR        # DIR as make_pictures.py left it

Writes `numbers.csv` (each picture's number; empty where no face was found) and prints the table of the README. The portraits
are those of `experiments/people.py`: none of them is torn, whatever is done to it here.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageFilter

import workbench as wb
from experiments.benchmarks.identity import CHANGES
from experiments.people import people
from workbench.files import open_picture, pixels_sha256
from workbench.models import load_retinaface
from workbench.recipe import Face, measure_crop
from workbench.recipe.faces import find_faces
from workbench.scores import MEASURES, NotMeasured
from workbench.scores.deformation import deformed

HERE = Path(__file__).parent
FEW, MANY = 0.1, 0.03  # the shares of torn pictures that may be missed, and of whole ones that may be blamed
Pair = tuple[np.ndarray, np.ndarray]  # (before, after)


def number(picture: Image.Image | np.ndarray, before: Image.Image | np.ndarray) -> float | None:
    result = wb.score(picture, before)
    return result.faces[0].guards["deformed"] if result.sharpness is not None else None


def labelled(folder: Path) -> list[dict[str, str]]:
    """The rows of labels.csv, with the number of each picture. Ends where the pictures are others than those labelled."""
    rows = list(csv.DictReader((HERE / "labels.csv").open()))
    for row in rows:
        picture = open_picture(folder / f"{int(row['number']):03d}.png")
        if pixels_sha256(picture) != row["sha256"]:
            raise SystemExit(f"picture {row['number']} is not the one that was labelled.")
        value = number(picture, open_picture(folder / f"{int(row['number']):03d}-base.png"))
        row["deformed"] = "" if value is None else f"{value:.4f}"
    return rows


def limit_of(whole: np.ndarray, torn: np.ndarray) -> float:
    """Half-way (geometric) between the largest shares that may be blamed and missed."""
    return float(np.sqrt(np.quantile(whole, 1 - MANY) * np.quantile(torn, FEW)))


def held_out(rows: list[dict[str, str]], by: Callable[[dict[str, str]], str]) -> str:
    """The guard's errors where each group's limit was set on all the others."""
    fired: dict[str, list[bool]] = defaultdict(list)
    limits = []
    for group in sorted({by(row) for row in rows}):
        rest = [row for row in rows if by(row) != group]
        whole, torn = (
            np.array([float(r["deformed"]) for r in rest if r["label"] == label]) for label in ("whole", "torn")
        )
        limits.append(limit_of(whole, torn))
        for row in rows:
            if by(row) == group:
                fired[row["label"]].append(float(row["deformed"]) > limits[-1])
    said = ", ".join(f"{label} {sum(f)} of {len(f)} ({np.mean(f):.1%})" for label, f in sorted(fired.items()))
    return f"{said}; limits {min(limits):.3f} to {max(limits):.3f}"


def _small(face: np.ndarray, share: float) -> np.ndarray:
    """As a first picture is: softer than what it is refined to, and of fewer pixels."""
    image = Image.fromarray(cv2.GaussianBlur(face, (0, 0), 3))
    return np.asarray(image.resize((round(512 * share), round(512 * share)), Image.Resampling.LANCZOS))


def _sharpened(face: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(face).filter(ImageFilter.UnsharpMask(2, 100, 0)))


KEPT = ("blurred by 3 px", "JPEG 60", "contrast x1.4", "shifted by 6 px", "turned by 4 degrees", "warped by 8 px")
WAYS: dict[str, Callable[[np.ndarray, int], Pair]] = {
    **{name: lambda face, n, change=CHANGES[name]: (face, change(face, n)) for name in KEPT},
    "sharpened by 2 px, 100 %": lambda face, n: (face, _sharpened(face)),
    "from 32 px between the eyes": lambda face, n: (_small(face, 32 / 126), face),
    "from 16 px between the eyes": lambda face, n: (_small(face, 16 / 126), face),
    "from 32 px, warped by 4 px": lambda face, n: (_small(face, 32 / 126), CHANGES["warped by 4 px"](face, n)),
    "from 32 px, warped by 8 px": lambda face, n: (_small(face, 32 / 126), CHANGES["warped by 8 px"](face, n)),
}
"""{what is done to a portrait, aligned on the template: the pictures before and after}"""


def _since(after: np.ndarray, before: np.ndarray, face: Face) -> float | NotMeasured:
    """As `workbench.score` does, without its other measures."""
    share = before.shape[0] / after.shape[0]
    there = Face(face.box, face.score, (face.landmarks + 0.5) * share - 0.5)
    return deformed(measure_crop(after, face)[0], measure_crop(before, there)[0])


def main_portraits() -> None:
    """The numbers of portraits: none of them is torn, whatever is done to it here."""
    found: dict[str, list[float]] = defaultdict(list)
    detector, guard = load_retinaface(), MEASURES["deformed"]
    for n, person in enumerate(people()):
        aligned = measure_crop(person.pixels, Face((0, 0, 1, 1), 1.0, person.landmarks))[0]
        for name, way in WAYS.items():
            before, after = way(aligned, n)
            faces = find_faces(after, detector)
            value = _since(after, before, faces[0]) if faces else np.nan
            found[name].append(np.nan if isinstance(value, NotMeasured) else value)
    for name, values in found.items():
        shares = np.nanquantile(values, (0.5, 0.97, 1))
        fired, none = sum(guard.fires(value) for value in values), int(np.isnan(values).sum())
        print(f"{name:30s} {shares[0]:.3f} {shares[1]:.3f} {shares[2]:.3f} fires on {fired} of {len(values) - none}")


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    rows = labelled(folder)
    with (HERE / "numbers.csv").open("w", newline="") as file:
        out = csv.DictWriter(file, ["number", "deformed"], extrasaction="ignore", lineterminator="\n")
        out.writeheader()
        out.writerows(rows)
    print("labels", hashlib.sha256((HERE / "labels.csv").read_bytes()).hexdigest()[:12])
    guard = MEASURES["deformed"]
    for person, label in itertools.product(("hopper", "collins"), ("whole", "torn", "unsure")):
        some = [row["deformed"] for row in rows if (row["person"], row["label"]) == (person, label)]
        values = np.array([float(value) for value in some if value])
        fired = sum(guard.fires(value) for value in values)
        print(
            f"{person} {label}: {len(some)}, {len(some) - len(values)} without a face, fires on {fired} of {len(values)}"
        )
    scored = [row for row in rows if row["deformed"] and row["label"] != "unsure"]
    print("seed held out:", held_out(scored, lambda row: row["person"] + row["seed"]))
    print("person held out:", held_out(scored, lambda row: row["person"]))
    print("strength held out:", held_out(scored, lambda row: row["strength"]))
    main_portraits()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
