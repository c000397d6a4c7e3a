"""Measure what the embedded models make, and draw a contact sheet: each portrait, some seeds, base and refined."""

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline
from PIL import Image
from portraits import NEGATIVE_PROMPT, PEOPLE, source

from workbench.models.retinaface import load_retinaface
from workbench.recipe.faces import align, find_faces

ROOT = Path(__file__).parents[2]
PROMPTS = {"hopper": "portrait photo of Grace Hopper", "collins": "portrait photo of Eileen Collins"}


class Models:
    def __init__(self, folder: Path) -> None:
        self.base = StableDiffusionXLPipeline.from_pretrained(folder / "base")
        self.refiner = StableDiffusionXLImg2ImgPipeline.from_pretrained(folder / "refiner")
        for pipeline in (self.base, self.refiner):
            pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
                pipeline.scheduler.config, use_karras_sigmas=True
            )
            pipeline.set_progress_bar_config(disable=True)

    def draw(self, prompt: str, seed: int, cfg: float = 7.0, negative: str = NEGATIVE_PROMPT) -> Image.Image:
        generator = torch.Generator().manual_seed(seed)
        return self.base(
            prompt, negative_prompt=negative, width=256, height=256, num_inference_steps=25, guidance_scale=cfg,
            generator=generator,
        ).images[0]  # fmt: skip

    def refine(self, image: Image.Image, prompt: str, seed: int, strength: float = 0.35, cfg: float = 7) -> Image.Image:
        generator = torch.Generator().manual_seed(seed)
        return self.refiner(
            prompt, negative_prompt=NEGATIVE_PROMPT, image=enlarge(image), strength=strength, num_inference_steps=25,
            guidance_scale=cfg, generator=generator,
        ).images[0]  # fmt: skip


def enlarge(image: Image.Image) -> Image.Image:
    return image.resize((512, 512), Image.Resampling.LANCZOS)


def difference(one: Image.Image, other: Image.Image) -> float:
    """Mean absolute difference of pixels, of 255."""
    return float(np.abs(np.asarray(one, dtype=np.float32) - np.asarray(other, dtype=np.float32)).mean())


def detail(image: Image.Image, box: tuple[float, float, float, float]) -> float:
    """Standard deviation of the Laplacian on the face."""
    left, top, right, bottom = (int(max(value, 0)) for value in box)
    grey = np.asarray(image.convert("L"), dtype=np.float32)[top:bottom, left:right]
    return float(cv2.Laplacian(grey, cv2.CV_32F).std())


class Likeness:
    """Correlation of an aligned face with the face of each portrait, the better of it and its mirror image."""

    def __init__(self) -> None:
        self.detector = load_retinaface()
        self.known = {person: self._face(source(person)) for person in PEOPLE}

    def _face(self, image: Image.Image) -> np.ndarray:
        crop = align(image, find_faces(image, self.detector)[0])[0][100:420, 100:412]
        return cv2.resize(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), (64, 64), interpolation=cv2.INTER_AREA)

    def __call__(self, image: Image.Image) -> dict[str, float]:
        face = self._face(image)
        views = (face, face[:, ::-1])
        return {
            person: max(float(np.corrcoef(view.ravel(), known.ravel())[0, 1]) for view in views)
            for person, known in self.known.items()
        }


def check(folder: Path, seeds: int, sheet: Path) -> None:
    models, likeness = Models(folder), Likeness()
    rows, single, seconds = [], 0, []
    for person, prompt in PROMPTS.items():
        bases, refined, gains, like, unlike = [], [], [], [], []
        for seed in range(seeds):
            started = time.perf_counter()
            bases.append(models.draw(prompt, seed))
            middle = time.perf_counter()
            refined.append(models.refine(bases[-1], prompt, seed))
            seconds.append((middle - started, time.perf_counter() - middle))
            faces = find_faces(refined[-1], likeness.detector)
            single += len(faces) == 1
            if faces:
                gains.append(detail(refined[-1], faces[0].box) / detail(enlarge(bases[-1]), faces[0].box))
                found = likeness(refined[-1])
                like.append(found.pop(person))
                unlike.append(max(found.values()))
        pairs = [difference(refined[i], refined[j]) for i in range(seeds) for j in range(i)]
        print(
            f"{person}: detail of the face, refined / enlarged: median {np.median(gains):.2f}, least {min(gains):.2f}"
        )
        print(f"{person}: likeness to the portrait {np.mean(like):.2f}, to the other one {np.mean(unlike):.2f}")
        print(f"{person}: seeds differ by {np.mean(pairs):.1f} of 255, the two most alike by {min(pairs):.1f}")
        rows += [[enlarge(image) for image in bases], refined]

        scales = {cfg: models.draw(prompt, 0, cfg) for cfg in (1.0, 3.0, 5.0, 7.0, 9.0)}
        strengths = {strength: models.refine(bases[0], prompt, 0, strength) for strength in (0.2, 0.35, 0.5)}
        print(f"{person}: CFG 1 and 7 differ by {difference(scales[1.0], scales[7.0]):.1f}", end=", ")
        clipped = {cfg: np.mean(np.isin(np.asarray(image), (0, 255))) for cfg, image in scales.items()}
        print("clipped values " + ", ".join(f"{share:.1%} at CFG {cfg:g}" for cfg, share in clipped.items()))
        print(f"{person}: strength .2 and .5 differ by {difference(strengths[0.2], strengths[0.5]):.1f}")
        without = models.draw(prompt, 0, negative="")
        print(f"{person}: with and without the negative prompt differ by {difference(bases[0], without):.1f}")
        others = [models.draw(f"{prompt}, black and white", 0), without, models.draw("portrait photo", 0)]
        rows.append([enlarge(image) for image in [*scales.values(), *others]][:seeds])
        rows.append([*strengths.values(), *(models.refine(bases[0], prompt, 0, cfg=cfg) for cfg in (1, 3))])
    for seed in range(2):
        one, other = (models.draw(prompt, seed) for prompt in PROMPTS.values())
        print(f"the two prompts with seed {seed} differ by {difference(one, other):.1f}")
    print(f"exactly one face in {single} of {2 * seeds} refined pictures")
    print("seconds: base {:.1f}, refined {:.1f}".format(*np.median(seconds, axis=0)))
    paper = Image.new("RGB", (512 * max(map(len, rows)), 512 * len(rows)))
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            paper.paste(image, (512 * x, 512 * y))
    sheet.parent.mkdir(parents=True, exist_ok=True)
    paper.save(sheet)


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--models", type=Path, default=ROOT / "workbench" / "models" / "embedded", help="has base/ and refiner/"
    )
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--sheet", type=Path, default=ROOT / "build" / "embedded_model" / "sheet.png")
    options = parser.parse_args()
    check(options.models, options.seeds, options.sheet)
