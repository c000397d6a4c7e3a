"""Makes the pictures that were labelled whole or torn: 288 of the embedded preset, with what was there before.

    python experiments/deformed/make_pictures.py DIR

Each seed of each person has twelve of the 24 pairs of a strength and a CFG, drawn so that every pair comes as often as the
others, and one restorer weight for each, or none. In DIR: `NNN.png` the finished picture (what a sweep scores),
`NNN-base.png` the first picture, before it is refined, `NNN-refined.png` the refined one, before faces are restored, and
`pictures.csv`.
"""

from __future__ import annotations

import csv
import itertools
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import workbench as wb
from workbench.files import pixels_sha256

PROMPTS = {
    "hopper": "portrait photo of Grace Hopper, sharp focus",
    "collins": "portrait photo of Eileen Collins, astronaut, smiling",
}
"""Those of experiments/demo.toml."""
SEEDS = range(1, 13)
STRENGTHS = (0.25, 0.35, 0.45, 0.55, 0.65, 0.75)
CFGS = (2.0, 3.5, 5.0, 7.0)  # of the refiner; the first picture has the preset's
WEIGHTS = (None, 0.2, 0.6, 1.0)  # of CodeFormer, as in the demo; None: faces are not restored
DRAWN = 1  # of the lots below


@dataclass(frozen=True)
class Wanted:
    """One picture to be made."""

    number: int
    person: str
    seed: int
    strength: float
    cfg: float
    weight: float | None


def wanted() -> Iterator[Wanted]:
    """What is to be made, in the order of making."""
    lots, number = random.Random(DRAWN), 0
    for person in PROMPTS:
        for seed in SEEDS:
            # one seed has one half of the pairs, the next one the other half
            if seed % 2:
                pairs = list(itertools.product(STRENGTHS, CFGS))
                lots.shuffle(pairs)
            weights = list(WEIGHTS) * 3
            lots.shuffle(weights)
            half = pairs[:12] if seed % 2 else pairs[12:]
            for (strength, cfg), weight in zip(half, weights, strict=True):
                yield Wanted(number, person, seed, strength, cfg, weight)
                number += 1


def settings_of(one: Wanted) -> wb.Settings:
    """The embedded preset with what this picture differs in."""
    restoring = {"restorer": "none"} if one.weight is None else {"weight": one.weight}
    return wb.load_preset("embedded").settings.replace(
        prompt=PROMPTS[one.person], seed=one.seed, strength=one.strength, refine_cfg=one.cfg, **restoring
    )


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for one in wanted():
        made = wb.generate(settings_of(one))
        made.image.save(folder / f"{one.number:03d}.png")
        made.stages["base"].save(folder / f"{one.number:03d}-base.png")
        made.stages["refine"].save(folder / f"{one.number:03d}-refined.png")
        about = {**vars(one), "weight": "none" if one.weight is None else one.weight}
        rows.append({**about, "sha256": pixels_sha256(made.image)})
        print(*rows[-1].values(), flush=True)
    with (folder / "pictures.csv").open("w", newline="") as file:
        out = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        out.writeheader()
        out.writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
