"""Features and truths of many simulated faces, a file a kind and a file a person: build/sharpness/set_<kind>_<part>.npz."""

import sys
import zlib
from collections.abc import Iterator

import cv2
import numpy as np
from bank import BANK
from simulate import NUISANCES, example
from sources import KINDS, OWN_SIGMA, crop_of
from tqdm.auto import tqdm

from experiments.people import people
from workbench.scores.blur_network import features

COUNTS = {"drawn": 450, "leaves": 220}  # examples a part
A_PERSON = 50  # examples of each, a part
WITH_PEOPLE = ("0", "1")  # parts; the others hold only what is drawn, which teaches most about faces of another kind
NAMES = [kind.__name__ for kind in NUISANCES]
SPOILT = 3  # versions with nuisances of every softened picture, beside the one without


def sources(part: str) -> Iterator[tuple[str, np.ndarray, float, int]]:
    """(name, crisp pictures, their own sigma, how many examples): who looks sharpened is no truth, and left out."""
    for person in people() if part in WITH_PEOPLE else ():
        if not person.sharpened:
            yield person.name, crop_of(person)[None], OWN_SIGMA, A_PERSON
    for kind in KINDS:
        with np.load(BANK / f"{kind}.npz") as bank:
            yield kind, bank["pictures"], 0.0, COUNTS[kind]


def main(part: str) -> None:
    """One part of the examples: four crops and more of each softened picture."""
    cv2.setNumThreads(1)
    for name, pictures, sigma, count in sources(part):
        path = BANK / f"set_{name}_{part}.npz"
        if path.exists():
            continue
        rng = np.random.default_rng(zlib.crc32(f"{name} {part}".encode()))
        inputs, truths, extras, done = [], [], [], []
        for _ in tqdm(range(count), desc=name, mininterval=10):
            picture = pictures[int(rng.integers(len(pictures)))]
            crops, truth, extra, names = example(rng, picture, sigma, SPOILT)
            inputs.append([features(crop) for crop in crops])
            truths.append(truth)
            extras.append(extra)
            done.append([[nuisance in own for nuisance in NAMES] for own in names])
        np.savez(path, x=np.array(inputs), sigma=np.stack(truths), extra=extras, spoilt=done)


if __name__ == "__main__":
    main(sys.argv[1])
