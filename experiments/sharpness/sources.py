"""Crisp material to blur: faces of people (`experiments/people.py`), drawn faces, and leaves of all sizes.

What is drawn is (512, 512, 3) float32 0..255 in the frame of the FFHQ template.
"""

from __future__ import annotations

import cv2
import numpy as np

from experiments.people import Person
from workbench.recipe.faces import TEMPLATE_512, Face, measure_crop

OWN_SIGMA = 0.3  # px: what a portrait that was shrunk to the template is blurred by its own pixels
BIG = 2  # everything is drawn at twice the size and made smaller, which is what makes it crisp


def smooth_noise(rng: np.random.Generator, size: int, sigma: float, channels: int = 1) -> np.ndarray:
    """(size, size[, channels]) float32 of standard deviation 1, coarser than sigma pixels."""
    step = max(1, int(sigma / 2))
    coarse = rng.normal(size=(-(-size // step) + 8, -(-size // step) + 8, channels)).astype(np.float32)
    coarse = cv2.GaussianBlur(coarse, (0, 0), sigma / step)
    fine = cv2.resize(coarse, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)[:size, :size]
    fine = fine.reshape(size, size, -1)
    return np.squeeze((fine - fine.mean()) / (fine.std() + 1e-6))


def power_noise(rng: np.random.Generator, size: int, slope: float) -> np.ndarray:
    """(size, size) noise of spectrum 1/f^slope, standard deviation 1."""
    fy, fx = np.meshgrid(np.fft.fftfreq(size), np.fft.rfftfreq(size), indexing="ij")
    f = np.hypot(fy, fx)
    f[0, 0] = 1
    white = np.fft.rfft2(rng.normal(size=(size, size)))
    noise = np.fft.irfft2(white / f**slope, s=(size, size))
    return ((noise - noise.mean()) / noise.std()).astype(np.float32)


def shrink(canvas: np.ndarray) -> np.ndarray:
    return cv2.resize(canvas, (512, 512), interpolation=cv2.INTER_AREA)


# --- leaves ---------------------------------------------------------------------------------------------------------


def leaves(rng: np.random.Generator) -> np.ndarray:
    """Dead leaves (Lee, Mumford & Huang 2001): shapes that hide each other, sizes by a power law, as in photographs."""
    size = 512 * BIG
    canvas = np.full((size, size, 3), rng.uniform(30, 220), np.float32)
    base = rng.uniform(60, 200, 3)
    spread = rng.uniform(15, 60)
    smallest, largest = rng.uniform(4, 20), rng.uniform(150, 400)
    count = int(rng.integers(250, 1600))
    u = rng.random(count)
    power = rng.uniform(1.6, 2.6)
    radii = (smallest ** (1 - power) + u * (largest ** (1 - power) - smallest ** (1 - power))) ** (1 / (1 - power))
    texture = power_noise(rng, size, rng.uniform(0.9, 1.8)) * rng.uniform(0, 14)
    soft = rng.random() < 0.5
    # large ones first in half of the pictures, so that small ones stay in sight
    for radius in np.sort(radii)[::-1] if rng.random() < 0.6 else radii:
        x, y = rng.uniform(0, size, 2)
        corners = int(rng.integers(3, 9))
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
        points = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1)
        colour = tuple(np.clip(rng.normal(base, spread), 5, 250).tolist())
        if rng.random() < 0.6:
            axes = (int(radius * 16), int(radius * 16 * rng.uniform(0.3, 1)))
            cv2.ellipse(
                canvas, (int(x * 16), int(y * 16)), axes, rng.uniform(0, 180), 0, 360, colour, -1, cv2.LINE_AA, 4
            )
        else:
            cv2.fillPoly(canvas, [(points * 16).astype(np.int32)], colour, cv2.LINE_AA, 4)
    if soft:  # some edges of the world are soft however sharp the picture is
        mask = np.clip(smooth_noise(rng, size, rng.uniform(40, 160)) * 1.5 + rng.uniform(-1, 0.6), 0, 1)[..., None]
        canvas = canvas * (1 - mask) + cv2.GaussianBlur(canvas, (0, 0), rng.uniform(4, 24)) * mask
    shade = 1 + 0.25 * smooth_noise(rng, size, 200)
    return shrink(canvas * shade[..., None] + texture[..., None])


# --- what faces have -----------------------------------------------------------------------------------------------


def pores(rng: np.random.Generator, size: int) -> np.ndarray:
    """(size, size, 1) of skin texture: band-limited noise, uneven over the face."""
    texture = power_noise(rng, size, rng.uniform(0.3, 1.3))
    texture -= cv2.GaussianBlur(texture, (0, 0), rng.uniform(4, 14))
    texture /= texture.std() + 1e-6
    uneven = np.clip(1 + 0.6 * smooth_noise(rng, size, rng.uniform(40, 150)), 0.1, 3)
    return (texture * uneven * rng.choice((0.0, rng.uniform(0, 3), rng.uniform(2, 9))))[..., None]


# --- drawn faces ----------------------------------------------------------------------------------------------------


def curve(rng: np.random.Generator, start: np.ndarray, end: np.ndarray, bow: float, points: int = 12) -> np.ndarray:
    t = np.linspace(0, 1, points)[:, None]
    normal = np.array([-(end - start)[1], (end - start)[0]])
    return start * (1 - t) + end * t + normal * bow * 4 * t * (1 - t) + rng.normal(0, 0.3, (points, 2))


def line(canvas: np.ndarray, points: np.ndarray, colour: tuple[float, ...], width: int) -> None:
    cv2.polylines(canvas, [(points * 16).astype(np.int32)], False, colour, max(1, width), cv2.LINE_AA, 4)


def strokes(rng: np.random.Generator, canvas: np.ndarray, count: int) -> None:
    """Hairs, wrinkles, freckles anywhere."""
    size = len(canvas)
    middle, length = rng.uniform(0.2, 0.8, 2) * size, rng.uniform(20, 300)
    heading, spread = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.8)
    tone = rng.choice((rng.uniform(0, 60), rng.uniform(180, 250)))
    for _ in range(count):
        start = rng.normal(middle, rng.uniform(40, 260), 2)
        angle = rng.normal(heading, spread)
        end = start + length * rng.uniform(0.4, 1.2) * np.array([np.cos(angle), np.sin(angle)])
        colour = tuple(np.clip(rng.normal(tone, 15) + rng.normal(0, 8, 3), 0, 255).tolist())
        line(canvas, curve(rng, start, end, rng.normal(0, 0.12)), colour, int(rng.choice((1, 1, 2, 2, 3, 4))))


def brows_and_lashes(rng: np.random.Generator, canvas: np.ndarray) -> None:
    dark = rng.uniform(5, 110)
    density = rng.uniform(0.3, 1.5)
    for side, (x, y) in ((-1, TEMPLATE_512[0] * BIG), (1, TEMPLATE_512[1] * BIG)):
        for _ in range(int(150 * density)):  # the brow
            t = rng.uniform(-1, 1)
            root = np.array([x + t * 90, y - 88 + 24 * t * t * rng.uniform(0.6, 1.4) + rng.normal(0, 8)])
            tip = root + np.array([side * rng.uniform(8, 34), rng.normal(-6, 8)])
            shade = np.clip(rng.normal(dark, 14), 0, 255)
            line(
                canvas,
                curve(rng, root, tip, rng.normal(0, 0.1), 5),
                (shade, shade * 0.9, shade * 0.8),
                int(rng.integers(1, 4)),
            )
        for lower in (-1, 1):  # the lashes
            for _ in range(int(rng.uniform(8, 60) * density * (1 if lower < 0 else 0.5))):
                t = rng.uniform(-1, 1)
                root = np.array([x + t * 66, y + lower * (26 * (1 - t * t) + 2)])
                tip = root + np.array([t * rng.uniform(4, 18), lower * rng.uniform(6, 26)])
                line(canvas, curve(rng, root, tip, rng.normal(0, 0.15), 6), (dark * 0.4,) * 3, int(rng.integers(1, 3)))


def blob(
    canvas: np.ndarray, centre: np.ndarray, axes: tuple[float, float], colour: np.ndarray, soft: float, by: float = 1.0
) -> None:
    """Blend a filled ellipse in, with an edge `soft` pixels wide."""
    pad = int(3 * soft + 2)
    x0, y0 = (int(max(0, centre[i] - axes[i] - pad)) for i in (0, 1))
    x1, y1 = (int(min(len(canvas), centre[i] + axes[i] + pad + 1)) for i in (0, 1))
    if x1 <= x0 or y1 <= y0:
        return
    mask = np.zeros((y1 - y0, x1 - x0), np.float32)
    at = (int((centre[0] - x0) * 16), int((centre[1] - y0) * 16))
    cv2.ellipse(mask, at, (int(axes[0] * 16), int(axes[1] * 16)), 0, 0, 360, by, -1, cv2.LINE_AA, 4)
    if soft > 0.3:
        mask = cv2.GaussianBlur(mask, (0, 0), soft)
    place = canvas[y0:y1, x0:x1]
    place += mask[..., None] * (colour - place)


def drawn(rng: np.random.Generator) -> np.ndarray:
    """A face drawn in the template: no portrait, but its edges are where a face has them, and of a face's softness."""
    size = 512 * BIG
    skin = np.array([1.0, rng.uniform(0.68, 0.85), rng.uniform(0.5, 0.78)]) * rng.uniform(60, 235)
    canvas = np.empty((size, size, 3), np.float32)
    canvas[:] = skin
    canvas *= (1 + rng.uniform(0.05, 0.2) * smooth_noise(rng, size, rng.uniform(60, 200)))[..., None]
    side = np.linspace(-1, 1, size, dtype=np.float32)[None, :, None] * rng.uniform(-0.35, 0.35)
    canvas *= 1 + side

    def soft() -> float:  # the softness of a thing itself: shading is soft, lids and lips are not
        return float(rng.choice((0.0, rng.uniform(0, 2), rng.uniform(1, 10))))

    eyes = TEMPLATE_512[:2] * BIG + rng.normal(0, 6, (2, 2))
    nose = TEMPLATE_512[2] * BIG + rng.normal(0, 10, 2)
    mouth = TEMPLATE_512[3:].mean(axis=0) * BIG + rng.normal(0, 10, 2)
    for x in (-1, 1):  # shade beside the nose, in the sockets, under the lip
        blob(
            canvas,
            nose + (x * rng.uniform(30, 60), -60),
            (rng.uniform(10, 30), 90),
            skin * rng.uniform(0.6, 0.95),
            rng.uniform(8, 25),
            0.6,
        )
        blob(
            canvas,
            nose + (x * rng.uniform(24, 40), 8),
            (rng.uniform(8, 18), rng.uniform(5, 12)),
            skin * rng.uniform(0.1, 0.5),
            rng.uniform(1.5, 8),
            0.9,
        )
        line(
            canvas,
            curve(rng, nose + (x * 58, -20), nose + (x * 50, 26), 0.3 * x),
            tuple(skin * rng.uniform(0.4, 0.9)),
            int(rng.integers(1, 6)),
        )
        if rng.random() < 0.6:  # the fold from nose to mouth
            line(
                canvas,
                curve(rng, nose + (x * 80, 0), mouth + (x * 140, 10), 0.15 * x),
                tuple(skin * rng.uniform(0.6, 0.95)),
                int(rng.integers(1, 8)),
            )
    blob(
        canvas,
        nose + (rng.uniform(-8, 8), -14),
        (rng.uniform(6, 20), rng.uniform(6, 20)),
        skin * 0.3 + 175,
        rng.uniform(2, 10),
        rng.uniform(0, 0.7),
    )
    canvas[:] = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.5, 5))
    canvas += pores(rng, size)
    iris = np.array(
        rng.choice(((70, 45, 25), (90, 110, 140), (80, 100, 60), (40, 25, 15), (120, 90, 50)))
    ) * rng.uniform(0.6, 1.6)
    opened, wide = rng.uniform(18, 40), rng.uniform(52, 76)
    for centre in eyes:
        blob(canvas, centre - (0, 4), (wide * 1.25, opened * 2.2), skin * rng.uniform(0.5, 0.95), 14, 0.6)
        eye = canvas.copy()
        blob(eye, centre, (wide, opened), np.array((205, 200, 196)) * rng.uniform(0.6, 1.1), soft() * 0.3)
        radius = rng.uniform(24, 34)
        blob(eye, centre, (radius, radius), iris * 0.45, soft() * 0.4)
        blob(eye, centre, (radius * 0.86,) * 2, iris, soft() * 0.4)
        for _ in range(int(rng.integers(0, 90))):
            angle = rng.uniform(0, 2 * np.pi)
            ray = np.array([np.cos(angle), np.sin(angle)])
            ends = np.stack([centre + ray * radius * 0.35, centre + ray * radius * rng.uniform(0.6, 0.9)])
            line(eye, ends, tuple(np.clip(iris * rng.uniform(0.5, 1.8), 0, 255)), int(rng.integers(1, 3)))
        blob(eye, centre, (radius * rng.uniform(0.3, 0.5),) * 2, np.array((8.0, 8, 8)), soft() * 0.3)
        for _ in range(int(rng.integers(0, 4))):
            at = centre + rng.uniform(-0.6, 0.6, 2) * radius
            blob(eye, at, (rng.uniform(2, 8), rng.uniform(2, 8)), np.array((250.0,) * 3), rng.choice((0, 1.0)))
        lid = np.zeros((size, size), np.float32)
        cv2.ellipse(
            lid,
            (int(centre[0] * 16), int(centre[1] * 16)),
            (int(wide * 16), int(opened * 16)),
            0,
            0,
            360,
            1,
            -1,
            cv2.LINE_AA,
            4,
        )
        canvas[:] = canvas * (1 - lid[..., None]) + eye * lid[..., None]
        dark = tuple(skin * rng.uniform(0.1, 0.5))
        for lower, width in ((-1, int(rng.integers(1, 7))), (1, int(rng.integers(1, 4)))):
            line(canvas, curve(rng, centre - (wide, 0), centre + (wide, 0), lower * opened / wide / 2), dark, width)
        if rng.random() < 0.7:
            fold = opened + rng.uniform(8, 20)
            line(
                canvas,
                curve(rng, centre - (wide, 4), centre + (wide, -4), -fold / wide / 2),
                tuple(skin * rng.uniform(0.4, 0.9)),
                int(rng.integers(1, 5)),
            )
    lips, width, tall = (
        skin * (0.85, rng.uniform(0.5, 0.85), rng.uniform(0.5, 0.85)),
        rng.uniform(95, 130),
        rng.uniform(14, 36),
    )
    blob(canvas, mouth - (0, tall * 0.4), (width, tall * 0.8), lips, rng.choice((1.0, 3.0, 6.0)))
    blob(
        canvas, mouth + (0, tall * 0.6), (width * 0.8, tall), lips * rng.uniform(0.95, 1.2), rng.choice((1.0, 3.0, 6.0))
    )
    if rng.random() < 0.35:
        blob(canvas, mouth, (width * 0.8, tall * 0.5), np.array((215.0, 210, 200)), 1)
        for x in np.arange(-0.7, 0.75, 0.2):
            line(
                canvas,
                curve(rng, mouth + (x * width, -tall * 0.4), mouth + (x * width, tall * 0.4), 0.02, 4),
                (150, 140, 130),
                1,
            )
    for _ in range(int(rng.integers(0, 40))):
        at = mouth + rng.uniform(-0.8, 0.8, 2) * (width, tall)
        line(canvas, curve(rng, at, at + rng.normal(0, (3, 10)), 0.05, 4), tuple(lips * rng.uniform(0.7, 1.2)), 1)
    line(
        canvas,
        curve(rng, mouth - (width, 0), mouth + (width, 0), rng.normal(0, 0.05)),
        tuple(lips * rng.uniform(0.2, 0.7)),
        int(rng.integers(1, 6)),
    )
    brows_and_lashes(rng, canvas)
    for _ in range(int(rng.integers(0, 25))):  # wrinkles
        at = np.array([rng.uniform(300, 730), rng.uniform(280, 860)])
        line(
            canvas,
            curve(rng, at, at + rng.normal(0, (50, 12)), rng.normal(0, 0.1)),
            tuple(skin * rng.uniform(0.6, 1.05)),
            int(rng.integers(1, 4)),
        )
    if rng.random() < 0.3:
        for _ in range(int(rng.integers(5, 120))):
            at = np.array([rng.uniform(250, 770), rng.uniform(280, 900)])
            blob(canvas, at, (rng.uniform(1.5, 6),) * 2, skin * rng.uniform(0.4, 0.9), rng.uniform(0, 2))
    if rng.random() < 0.15:
        for centre in eyes:
            cv2.ellipse(
                canvas,
                (int(centre[0]), int(centre[1] + 10)),
                (105, 85),
                0,
                0,
                360,
                tuple(rng.uniform(0, 90, 3)),
                int(rng.integers(3, 14)),
                cv2.LINE_AA,
            )
    if rng.random() < 0.25:
        strokes(rng, canvas, int(rng.integers(5, 120)))
    uneven = np.clip(1 + 0.08 * smooth_noise(rng, size, 90), 0.4, 1.6)
    return shrink(canvas * uneven[..., None])


KINDS = ("drawn", "leaves")


def draw(rng: np.random.Generator, kind: str) -> np.ndarray:
    """One of KINDS: a picture (512, 512, 3) uint8 RGB, perfectly crisp."""
    return np.clip(np.rint({"drawn": drawn, "leaves": leaves}[kind](rng)), 0, 255).astype(np.uint8)


def crop_of(person: Person) -> np.ndarray:
    """A portrait's face in the template, (512, 512, 3) uint8 RGB, as the score sees it."""
    return measure_crop(person.pixels, Face((0, 0, 1, 1), 1.0, person.landmarks))[0]
