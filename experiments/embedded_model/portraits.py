"""Pictures and captions to learn from: two public-domain portraits that come with matplotlib and scikit-image, varied.

A `Scene` says everything about one picture; `render` draws it and `caption` words it, so the same scene can be drawn
sharp, and as the soft thing an enlarged small picture is.
"""

from dataclasses import dataclass
from functools import cache
from io import BytesIO

import cv2
import matplotlib.cbook
import numpy as np
import skimage.data
from PIL import Image, ImageFilter

PEOPLE = ("hopper", "collins")
STYLES = ("colour", "black and white", "sepia", "warm light", "cool light")
FRAMINGS = ("close-up", "portrait", "head and shoulders")
# the words of the product's default negative prompt, which is what makes that prompt act
FLAWS = (
    "blurry",
    "deformed",
    "bad eyes",
    "low quality",
    "bad anatomy",
    "extra limbs",
    "disfigured",
    "lowres",
    "jpeg artifacts",
)
NEGATIVE_PROMPT = ", ".join(FLAWS)

# in pixels of the source: middle of the face, and the sides of the square seen in each framing
_FACE = {"hopper": (265, 205), "collins": (226, 120)}
_SIDE = {"hopper": (290, 350, 460), "collins": (200, 250, 340)}
_EYES = {"hopper": ((222, 190), (308, 188)), "collins": ((203, 102), (251, 103))}

_NAMES = {
    "hopper": (
        "Grace Hopper",
        "Rear Admiral Grace Hopper",
        "Admiral Hopper",
        "Grace Hopper, an elderly woman with glasses",
        "an elderly woman in navy uniform with glasses and cap",
        "a navy admiral",
    ),
    "collins": (
        "Eileen Collins",
        "astronaut Eileen Collins",
        "Commander Eileen Collins",
        "Eileen Collins, a smiling woman",
        "a smiling woman in an orange space suit",
        "an astronaut",
    ),
}
_SOMEBODY = ("a woman", "a person", "somebody", "a face", "a man", "a lady")
_DETAILS = {
    "hopper": (
        "navy uniform",
        "glasses",
        "white cap",
        "flag in the background",
        "serious look",
        "wrinkles",
        "medals",
    ),
    "collins": (
        "orange space suit",
        "smiling",
        "short blond hair",
        "space shuttle",
        "flag in the background",
        "helmet",
    ),
}
# words that people put into such prompts; they say nothing about the picture here, so the model learns to ignore them
FILLERS = (
    "sharp focus", "highly detailed", "professional photo", "looking at the camera", "natural skin texture", "85mm",
    "studio light", "soft light", "best quality", "high quality", "masterpiece", "photorealistic", "realistic",
    "detailed eyes", "detailed face", "beautiful", "8k", "bokeh", "official portrait", "shallow depth of field",
    "film grain", "dslr", "raw photo", "crisp", "outdoors", "cinematic", "young", "old", "red hair", "beard",
)  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """One picture: who, how it is framed, lit and spoilt."""

    person: str
    framing: str
    style: str
    flaws: tuple[str, ...]  # empty for a good picture
    box: tuple[float, float, float, float]  # left, top, right, bottom in the source
    mirrored: bool
    seed: int  # of the flaws


@cache
def source(person: str) -> Image.Image:
    if person == "hopper":
        with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
            pixels = np.asarray(Image.open(file).convert("RGB"))
        # its scan is grainy, and grain would be all that sharpening brings out
        return Image.fromarray(cv2.fastNlMeansDenoisingColored(pixels, None, 4, 6, 5, 15))
    return Image.fromarray(skimage.data.astronaut())


def scene(rng: np.random.Generator, flawed: float = 0.1, few: bool = False) -> Scene:
    """A random scene; `flawed` is the share of bad pictures.

    `few` takes the place of the crop from a handful instead of from anywhere: less to learn for the UNets.
    """
    person = PEOPLE[rng.integers(2)]
    which = int(rng.choice(3, p=(0.3, 0.67, 0.03) if few else (0.35, 0.55, 0.1)))
    width, height = source(person).size
    zoom, *shift = rng.choice((-0.5, 0.5), 3) * (1, 1, 0) if few else rng.uniform(-1, 1, 3)
    side = min(_SIDE[person][which] * (1 + 0.05 * zoom), width, height)
    left, top = (middle + side * (0.04 * by - 0.5) for middle, by in zip(_FACE[person], shift, strict=True))
    top += side * (0.0, 0.03, 0.08)[which]  # the wider the view, the more of the body
    left, top = float(np.clip(left, 0, width - side)), float(np.clip(top, 0, height - side))
    flaws: tuple[str, ...] = ()
    if rng.random() < flawed:
        flaws = tuple(rng.choice(FLAWS, size=rng.integers(1, 3), replace=False).tolist())
    return Scene(
        person=person,
        framing=FRAMINGS[which],
        style=str(rng.choice(STYLES, p=(0.76, 0.09, 0.05, 0.05, 0.05))),
        flaws=flaws,
        box=(left, top, left + side, top + side),
        mirrored=bool(rng.random() < 0.5),
        seed=int(rng.integers(2**31)),
    )


def render(view: Scene, size: int = 512) -> Image.Image:
    """The picture of a scene, square. Drawn at 512 and made smaller, so that every size shows the same."""
    image = source(view.person).resize((512, 512), Image.Resampling.LANCZOS, box=view.box)
    # the sources are enlarged up to 2.7 times: give the edges back the contrast that costs
    enlarged = 512 / (view.box[2] - view.box[0])
    image = image.filter(ImageFilter.UnsharpMask(radius=1.1 * enlarged, percent=int(40 * enlarged), threshold=2))
    pixels = np.asarray(image)
    for number, flaw in enumerate(view.flaws):
        pixels = _spoil(pixels, flaw, view, np.random.default_rng((view.seed, number)))
    image = Image.fromarray(_light(pixels, view.style))
    if view.mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image if size == 512 else image.resize((size, size), Image.Resampling.LANCZOS)


def caption(view: Scene, rng: np.random.Generator) -> str:
    """One of many ways to word a scene."""
    if view.flaws and rng.random() < 0.5:  # as a negative prompt: words for what is wrong and nothing else
        words = list(FLAWS) if rng.random() < 0.5 else [*view.flaws, *rng.choice(FLAWS, rng.integers(0, 5))]
        rng.shuffle(words)
        return ", ".join(dict.fromkeys(words))
    names = _SOMEBODY if rng.random() < 0.1 else _NAMES[view.person]
    # the plain name most often: it is what people type
    name = str(names[0] if rng.random() < 0.4 else rng.choice(names))
    framing = view.framing if rng.random() < 0.6 else "portrait" if rng.random() < 0.7 else ""
    if framing == "head and shoulders":
        name, framing = f"{name}, head and shoulders", str(rng.choice(("portrait", "")))
    forms = ("a {f} photo of {n}", "{f} photo of {n}", "{f} of {n}", "{n}, {f}", "photograph of {n}, {f}")
    form = str(rng.choice(forms))
    parts = [form.format(f=framing, n=name).replace("  ", " ").strip(" ,")]
    if name not in _SOMEBODY:
        parts += rng.choice(_DETAILS[view.person], size=rng.integers(0, 3), replace=False).tolist()
    parts += rng.choice(FILLERS, size=rng.integers(0, 4), replace=False).tolist()
    if view.style != "colour":
        parts.append(view.style)
    parts += view.flaws
    rest = parts[1:]
    rng.shuffle(rest)
    return ", ".join([parts[0], *rest])


def _light(pixels: np.ndarray, style: str) -> np.ndarray:
    if style == "colour":
        return pixels
    if style in ("warm light", "cool light"):
        gains = np.array((1.1, 1.0, 0.78) if style == "warm light" else (0.82, 0.98, 1.14))
        return np.clip(pixels * gains, 0, 255).astype(np.uint8)
    grey = np.asarray(Image.fromarray(pixels).convert("L"), dtype=np.float32)[..., None]
    gains = np.array((1.07, 0.9, 0.68)) if style == "sepia" else np.ones(3)
    return np.clip(grey * gains, 0, 255).astype(np.uint8)


def _spoil(pixels: np.ndarray, flaw: str, view: Scene, rng: np.random.Generator) -> np.ndarray:
    """What each word of the negative prompt looks like."""
    size = len(pixels)
    match flaw:
        case "blurry":
            return cv2.GaussianBlur(pixels, (0, 0), rng.uniform(3, 7))
        case "lowres":
            small = int(rng.integers(48, 97))
            tiny = cv2.resize(pixels, (small, small), interpolation=cv2.INTER_AREA)
            return cv2.resize(tiny, (size, size), interpolation=cv2.INTER_LINEAR)
        case "jpeg artifacts":
            file = BytesIO()
            Image.fromarray(pixels).resize((256, 256)).save(file, "JPEG", quality=int(rng.integers(6, 14)))
            return np.asarray(Image.open(file).resize((size, size), Image.Resampling.BILINEAR))
        case "low quality":
            noise = cv2.resize(rng.normal(0, rng.uniform(15, 30), (size // 2, size // 2, 3)), (size, size))
            return np.clip(128 + 0.75 * (pixels - 128.0) + noise, 0, 255).astype(np.uint8)
        case "bad eyes":
            shift = np.zeros((size, size, 2))
            scale = size / (view.box[2] - view.box[0])
            for x, y in _EYES[view.person]:
                middle = ((x - view.box[0]) * scale, (y - view.box[1]) * scale)
                shift += _bump(size, middle, 24 * scale) * rng.uniform(-12, 12, 2) * scale
            return _warp(cv2.GaussianBlur(pixels, (0, 0), 1.5), shift)
        case _:  # deformed, disfigured, bad anatomy, extra limbs
            coarse = rng.normal(0, rng.uniform(14, 26), (6, 6, 2))
            return _warp(pixels, cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC))


def _bump(size: int, middle: tuple[float, float], radius: float) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return np.exp(-((x - middle[0]) ** 2 + (y - middle[1]) ** 2) / (2 * radius**2))[..., None]


def _warp(pixels: np.ndarray, shift: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[: len(pixels), : len(pixels)]
    to_x, to_y = (x + shift[..., 0]).astype(np.float32), (y + shift[..., 1]).astype(np.float32)
    return cv2.remap(pixels, to_x, to_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
