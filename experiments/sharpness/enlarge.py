"""The two portraits enlarged by Real-ESRGAN (whose weights come in a Python package): what makes them crisp at 512.

A face of 43 or 84 px between the eyes is soft in the 512 template. Real-ESRGAN makes believable lashes, irises and lips of
it; which ones depends on the size it starts from, so that one portrait gives several faces. Writes
build/sharpness/enlarged/<person>_<n>.png, each the template at twice its size.
"""

import cv2
import numpy as np
import torch
from bank import BANK
from PIL import Image
from sources import BIG, LANDMARKS, clean, source
from tqdm.auto import tqdm

from workbench.models.realesrgan import load_realesrgan, upscale
from workbench.recipe.faces import estimate_matrix

ENLARGED = BANK / "enlarged"
# how much smaller the portrait is made first, and which network enlarges it; Collins' is small and enlarged twice
WAYS = {
    "hopper": [(1.0, "realesrgan-x4plus", False), (0.75, "realesrgan-x4plus", False), (0.55, "realesrgan-x4plus", False),
               (1.0, "realesrgan-x4plus", True), (1.0, "realesr-animevideov3", False), (0.7, "realesr-animevideov3", True)],
    "collins": [(1.0, "realesr-animevideov3", False), (0.8, "realesr-animevideov3", True),
                (1.0, "realesrgan-x4plus", False), (0.75, "realesrgan-x4plus", True)],
}  # fmt: skip


def enlarged(net: torch.nn.Module, scale: int, pixels: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return upscale(net, scale, pixels)


def main() -> None:
    torch.set_num_threads(1)
    ENLARGED.mkdir(parents=True, exist_ok=True)
    for person, ways in WAYS.items():
        for n, (shrink, name, denoised) in enumerate(tqdm(ways, desc=person)):
            if (ENLARGED / f"{person}_{n}.png").exists():
                continue
            net, scale = load_realesrgan(name)
            landmarks = np.array(LANDMARKS[person])
            picture = (clean if denoised else source)(person)
            reach = 1.9 * np.hypot(*(landmarks[1] - landmarks[0]))
            left, top = np.maximum(landmarks[2] - reach, 0).astype(int)
            right, bottom = (landmarks[2] + reach).astype(int)
            picture, landmarks = picture[top:bottom, left:right], landmarks - (left, top)
            for again in range(2 if person == "collins" else 1):
                start = shrink if again == 0 else 0.5
                height, width = picture.shape[:2]
                small = (round(width * start), round(height * start))
                picture = np.asarray(Image.fromarray(picture).resize(small, Image.Resampling.LANCZOS))
                picture = enlarged(net, scale, picture)
                ratio = np.array([picture.shape[1] / width, picture.shape[0] / height])
                landmarks = (landmarks + 0.5) * ratio - 0.5
            zoom = BIG * 126 / np.hypot(*(landmarks[1] - landmarks[0]))
            if zoom < 1:  # never alias
                size = (round(picture.shape[1] * zoom), round(picture.shape[0] * zoom))
                ratio = np.array(size) / picture.shape[1::-1]
                picture = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
                landmarks = (landmarks + 0.5) * ratio - 0.5
            matrix = estimate_matrix(landmarks, 512 * BIG)
            whole = cv2.warpAffine(
                picture, matrix, (512 * BIG,) * 2, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
            )
            Image.fromarray(whole).save(ENLARGED / f"{person}_{n}.png")


if __name__ == "__main__":
    main()
