"""What the score says of a face that is blurred, or that somebody tries to make look sharper: for the notebook on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from workbench.errors import NoFace
from workbench.files import Chart, contact_sheet, new_figure

from . import distortions
from .measures import SHARPNESS, SIGMA
from .scoring import FaceScores, Picture, crop_of, score

SHOWN = (96, 128, 416, 448)  # of the 512 face: eyes, nose and mouth, large enough to be seen in a tile
LADDER = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
TRICKS: dict[str, distortions.Attack] = {
    "noise, 16 levels": lambda p, face, rng: distortions.noise(p, face, rng, 16.0),
    "sharpened, 150 %": lambda p, face, rng: distortions.usm(p, face, rng, 2.0, 1.5),
    "sharpened, 500 %": lambda p, face, rng: distortions.usm(p, face, rng, 2.0, 5.0),
    "JPEG, quality 12": lambda p, face, rng: distortions.coded(p, face, rng, "JPEG", 12),
    "mosaic, 6 px": lambda p, face, rng: distortions.mosaic(p, face, rng, 6.0),
    "contrast, x 1.8": lambda p, face, rng: distortions.tone(p, face, rng, contrast=1.8),
}


@dataclass(frozen=True, eq=False)
class Lesson:
    """A face that something was done to, and what the score says of it.

    Attributes:
        sigma: by how many px of the 512 face it was blurred; None where something else was done.
    """

    name: str
    face: Image.Image
    result: FaceScores
    sigma: float | None = None


def face_of(image: Picture, result: FaceScores | None = None) -> Image.Image:
    """The largest face of a picture, aligned: 512 x 512 RGB. Raises `NoFace`."""
    result = result or score(image)
    if result.sharpness is None:
        raise NoFace(
            f"there is no face to measure in this picture ({result.reason or result.status.replace('_', ' ')}); give one "
            "with a face that is at least 12 px from eye to eye."
        )
    return Image.fromarray(crop_of(image, result.faces[0]))


def ladder(face: Image.Image, sigmas: Iterable[float] = LADDER) -> list[Lesson]:
    """An aligned face blurred by `sigmas` px, each scored; 0 is the face as it is."""
    found = []
    for sigma in sigmas:
        blurred = _bytes(distortions.blur(np.asarray(face), sigma))
        found.append(Lesson(f"blurred by {sigma:g} px" if sigma else "as it is", blurred, score(blurred), sigma))
    return found


def tricks(face: Image.Image, seed: int = 0) -> list[Lesson]:
    """An aligned face as it is, blurred by 2 px, and then that with each of `TRICKS`: none makes it sharp again."""
    soft = _bytes(distortions.blur(np.asarray(face), 2.0))
    portrait = distortions.portrait_of("soft", soft)
    if portrait is None:
        raise NoFace("the face cannot be found any more once it is blurred; take a larger one.")
    rows = [("as it is", face), ("blurred by 2 px", soft)]
    rng = np.random.default_rng(seed)
    rows += [(f"then {name}", _tried(trick, soft, portrait, rng)) for name, trick in TRICKS.items()]
    return [Lesson(name, picture, score(picture)) for name, picture in rows]


def _tried(
    trick: Callable[..., np.ndarray], picture: Image.Image, portrait: distortions.Portrait, rng: np.random.Generator
) -> Image.Image:
    return Image.fromarray(trick(np.asarray(picture), portrait, rng))


def _bytes(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def gains(lessons: list[Lesson], least: float = 2.0) -> str:
    """Which tricks gained more than `least` points over the blurred face, and what the guards said, as a sentence."""
    soft = lessons[1].result.sharpness
    if soft is None:
        return "The blurred face has no score, so that nothing can be said of what was gained over it."
    gained = {lesson: lesson.result.sharpness - soft for lesson in lessons[2:] if lesson.result.sharpness is not None}
    said = [
        f"{lesson.name.removeprefix('then ')} {gain:+.1f} ({', '.join(lesson.result.flags) or 'no guard fired'})"
        for lesson, gain in gained.items()
        if gain > least
    ]
    return f"More than {least:g} points were gained by: {'; '.join(said) or 'none of them'}."


def lesson_sheet(lessons: list[Lesson], tile: int = 132) -> Image.Image:
    """The faces in a row, each with its score and the guards that fired."""
    captions = [_number(lesson.result) for lesson in lessons]
    columns = ["\n".join([*_broken(lesson.name), *(f"! {flag}" for flag in lesson.result.flags)]) for lesson in lessons]
    return contact_sheet(
        [[lesson.face.crop(SHOWN) for lesson in lessons]], ["sharpness"], columns, captions=[captions], tile=tile
    )


def _number(result: FaceScores) -> str:
    return result.status.replace("_", " ") if result.sharpness is None else f"{result.sharpness:.1f}"


def _broken(name: str) -> list[str]:
    return [part.strip() for part in name.split(",")]


def ladder_chart(lessons: list[Lesson]) -> Chart:
    """Two curves over the blur that was added: the sharpness, and the blur the score thinks there is."""
    figure = new_figure(8.4, 3.0, dpi=100)
    left, right = figure.subplots(1, 2)
    rungs = [lesson for lesson in lessons if lesson.sigma is not None and lesson.result.sharpness is not None]
    added = [lesson.sigma for lesson in rungs]
    left.plot(added, [lesson.result.sharpness for lesson in rungs], "o-", color="#0072b2")
    left.set_ylim(SHARPNESS.low, SHARPNESS.high)
    left.set_ylabel("sharpness, higher is sharper" if SHARPNESS.higher_is_better else "sharpness, lower is sharper")
    measured = [lesson.result.faces[0].sigma or 0.0 for lesson in rungs]
    right.plot(added, measured, "o-", color="#d55e00", label="what the score says")
    if rungs and rungs[0].sigma == 0:  # blurs add up as their squares do
        expected = [float(np.hypot(measured[0], sigma)) for sigma in added if sigma is not None]
        right.plot(added, expected, "--", color="black", linewidth=1, label="its own blur and the added one")
    right.set_ylabel(f"blur, {SIGMA.unit}")
    right.legend(frameon=False, fontsize=8)
    for ax in (left, right):
        ax.set_xlabel("blur that was added, px of the 512 face")
        ax.grid(alpha=0.3)
    ends = f"from {rungs[0].result.sharpness:.1f} to {rungs[-1].result.sharpness:.1f}" if rungs else "not measured"
    return Chart(figure, f"Sharpness, and the blur that is measured, as blur is added: sharpness {ends}.")
