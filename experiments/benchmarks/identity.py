"""Identity drift on portraits, one of each person: does it tell another person from what else may be done to a picture?

    python -m experiments.benchmarks.identity ../shared/portraits        # a few minutes for 54 portraits

There is one picture of each person, so that a person is compared with changed copies of that picture. Whether two photographs
of one person are told from those of two is not measured here.
"""

from __future__ import annotations

import io
import itertools
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from workbench.files import open_picture
from workbench.models import load_retinaface
from workbench.recipe import faces
from workbench.scores.fidelity import identity_drift

LIMIT = 0.6  # within which dlib takes two pictures for one person
Change = Callable[[np.ndarray, int], np.ndarray]


def portraits(paths: Iterable[Path]) -> list[np.ndarray]:
    """The largest face of each picture, as scores cut it: (512, 512, 3) uint8 RGB."""
    detector, pictures = load_retinaface(), map(open_picture, paths)
    return [faces.measure_crop(picture, faces.find_faces(picture, detector)[0])[0] for picture in pictures]


def _jpeg(face: np.ndarray, quality: int) -> np.ndarray:
    data = io.BytesIO()
    Image.fromarray(face).save(data, "JPEG", quality=quality)
    return np.asarray(Image.open(data).convert("RGB"))


def _tone(face: np.ndarray, contrast: float, brighter: float) -> np.ndarray:
    return np.clip(np.rint((face - 128.0) * contrast + 128 + brighter), 0, 255).astype(np.uint8)


def _moved(face: np.ndarray, shift: float = 0.0, degrees: float = 0.0, zoom: float = 1.0, way: int = 0) -> np.ndarray:
    """As by landmarks that are somewhere else: shifted by so many px to somewhere, then turned about the middle."""
    matrix = cv2.getRotationMatrix2D((256, 300), degrees, zoom)
    matrix[:, 2] += shift * np.array([np.cos(way), np.sin(way)])
    return cv2.warpAffine(face, matrix, (512, 512), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def _warped(face: np.ndarray, length: float, seed: int) -> np.ndarray:
    """Every part shifted to somewhere else by so many px (root mean square), smoothly within 40 px."""
    field = np.random.default_rng(seed).normal(size=(512, 512, 2)).astype(np.float32)
    field = cv2.GaussianBlur(field, (0, 0), 40)
    field *= length / np.sqrt((field**2).sum(axis=2).mean())
    y, x = np.mgrid[:512, :512].astype(np.float32)
    return cv2.remap(face, x + field[..., 0], y + field[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def _together(face: np.ndarray, n: int) -> np.ndarray:
    soft = cv2.GaussianBlur(_warped(face, 4, n), (0, 0), 2)
    return _jpeg(_tone(_moved(soft, 4, 3 * (-1) ** n, way=n), 0.8, 10), 60)


CHANGES: dict[str, Change] = {
    "blurred by 1 px": lambda face, _: cv2.GaussianBlur(face, (0, 0), 1),
    "blurred by 2 px": lambda face, _: cv2.GaussianBlur(face, (0, 0), 2),
    "blurred by 3 px": lambda face, _: cv2.GaussianBlur(face, (0, 0), 3),
    "JPEG 60": lambda face, _: _jpeg(face, 60),
    "40 levels brighter": lambda face, _: _tone(face, 1, 40),
    "40 levels darker": lambda face, _: _tone(face, 1, -40),
    "contrast x0.6": lambda face, _: _tone(face, 0.6, 0),
    "contrast x1.4": lambda face, _: _tone(face, 1.4, 0),
    "shifted by 6 px": lambda face, n: _moved(face, 6, way=n),
    "turned by 4 degrees": lambda face, n: _moved(face, degrees=4 * (-1) ** n),
    "5 % larger or smaller": lambda face, n: _moved(face, zoom=1.05 ** ((-1) ** n)),
    "mirrored": lambda face, _: np.ascontiguousarray(face[:, ::-1]),
    "warped by 4 px": lambda face, n: _warped(face, 4, n),
    "warped by 8 px": lambda face, n: _warped(face, 8, n),
    "2 px, JPEG 60, contrast x0.8, 4 px, 3 degrees, warped by 4 px": _together,
}
"""What is done to a portrait of 512 px; the number of the portrait says which way."""


def _line(what: str, drifts: np.ndarray) -> str:
    least, middle, most = np.quantile(drifts, (0, 0.5, 1))
    return f"{what:62s} {least:6.3f} {middle:6.3f} {most:6.3f} {(drifts < LIMIT).mean():8.1%}"


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    people = portraits(sorted(folder.glob("*.webp")))
    print(f"{len(people)} people{'':53s}  least median   most  below {LIMIT}")
    same = []
    for what, change in CHANGES.items():
        same.append([identity_drift(change(one, n), one) for n, one in enumerate(people)])
        print(_line(what, np.array(same[-1])), flush=True)
    begun, pairs = time.process_time(), list(itertools.combinations(people, 2))
    others = np.array([identity_drift(one, two) for one, two in pairs])
    took = (time.process_time() - begun) / len(pairs)
    every = np.array(same).flatten()
    print(_line(f"another person, {len(pairs)} pairs, {1000 * took:.0f} ms of one thread each", others))
    limit = min(every, key=lambda t: abs((every > t).mean() - (others <= t).mean()))
    print(f"equal error {(every > limit).mean():.2%} / {(others <= limit).mean():.2%} at {limit:.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
