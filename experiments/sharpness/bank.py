"""Draw the sources once: build/sharpness/<kind>.npz with pictures (n, 512, 512, 3) uint8."""

import zlib
from pathlib import Path

import cv2
import numpy as np
from sources import KINDS, draw
from tqdm.auto import tqdm

BANK = Path("build/sharpness")
COUNTS = {"drawn": 200, "leaves": 120}


def main() -> None:
    cv2.setNumThreads(1)
    BANK.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        path = BANK / f"{kind}.npz"
        if path.exists():
            continue
        rng = np.random.default_rng(zlib.crc32(kind.encode()))
        np.savez(path, pictures=np.stack([draw(rng, kind) for _ in tqdm(range(COUNTS[kind]), desc=kind)]))


if __name__ == "__main__":
    main()
