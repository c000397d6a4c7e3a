"""Features and truths of many simulated faces, a file a kind: build/sharpness/set_<kind>.npz."""

import sys
import zlib

import cv2
import numpy as np
from bank import BANK
from simulate import NUISANCES, example
from sources import KINDS
from tqdm.auto import tqdm

from workbench.scores.blur_network import features

COUNTS = {"drawn": 728, "leaves": 260, "redrawn": 598, "piece": 312, "native": 52}  # of a kind, of a person
NAMES = [kind.__name__ for kind in NUISANCES]
SPOILT = 3  # versions with nuisances of every softened picture, beside the one without


def main(part: str) -> None:
    """One part of the examples: 2,900 softened pictures, four crops of each."""
    cv2.setNumThreads(1)
    for kind in KINDS:
        name = kind.replace(" ", "_")
        path = BANK / f"set_{name}_{part}.npz"
        if path.exists():
            continue
        rng = np.random.default_rng(zlib.crc32(f"{kind} {part}".encode()))
        with np.load(BANK / f"{name}.npz") as bank:
            pictures, sigmas = bank["pictures"], bank["sigmas"]
        inputs, truths, extras, which, done = [], [], [], [], []
        for _ in tqdm(range(COUNTS[kind.split()[0]]), desc=kind, mininterval=10):
            i = int(rng.integers(len(pictures)))
            crops, truth, extra, names = example(rng, pictures[i], float(sigmas[i]), SPOILT)
            inputs.append([features(crop) for crop in crops])
            truths.append(truth)
            extras.append(extra)
            which.append(i)
            done.append([[name in own for name in NAMES] for own in names])
        np.savez(path, x=np.array(inputs), sigma=np.stack(truths), extra=extras, source=which, spoilt=done)


if __name__ == "__main__":
    main(sys.argv[1])
