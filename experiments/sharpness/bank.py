"""Draw the sources once: build/sharpness/<kind>.npz with pictures (n, 512, 512, 3) uint8 and their own sigmas."""

import zlib
from pathlib import Path

import cv2
import numpy as np
from sources import KINDS, draw
from tqdm.auto import tqdm

BANK = Path("build/sharpness")
COUNTS = {"drawn": 260, "leaves": 160, "redrawn": 200, "piece": 200, "native": 20}


def main() -> None:
    cv2.setNumThreads(1)
    BANK.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        path = BANK / f"{kind.replace(' ', '_')}.npz"
        if path.exists():
            continue
        rng = np.random.default_rng(zlib.crc32(kind.encode()))
        drawn = [draw(rng, kind) for _ in tqdm(range(COUNTS[kind.split()[0]]), desc=kind)]
        np.savez(path, pictures=np.stack([picture for picture, _ in drawn]), sigmas=[sigma for _, sigma in drawn])


if __name__ == "__main__":
    main()
