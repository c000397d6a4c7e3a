"""How far a sharpness score can be trusted: known blurs, nuisances and attacks on face portraits, and a table of scores.

The truth is blur that we add ourselves: Gaussian, its sigma in pixels of the 512 FFHQ frame. A good score ranks it right
within one face and between faces of any size, and neither noise nor anything else that is not focus lifts it.

    LAD     one face at growing blur: share of neighbouring steps ranked right (LADall: of all pairs); SOFT: other blurs
    X       different faces at different blur, sigma at least x1.5 apart (Xadj: neighbouring steps); Xscale: resized too
    ATK     a softer picture with a nuisance must stay below the sharper clean one; HARD: the same with unusual attacks
    FSR     false-sharper rate: share of ATK's nuisances that claim more than .15 px less blur would give, at equal blur
    BIAS    |blur read off the score's own clean ladder of that face - true blur| under nuisances, px
    REG     blur of eyes, mouth or face must lower the score, blur behind it must not (by over a quarter of the eyes')
    TRUST = LAD' REG' mean(X', Xscale', ATK', 1 - 2 FSR), where a' = max(0, 2a - 1)

ATK, HARD, REG and SOFT are means over kinds, however many strengths each has. Ties count half, so that a constant or random
score has TRUST 0. A score that says None or NaN is wrong in every comparison that asks for that picture. All of it is
simulated blur on a few faces, no human judgement.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.optimize import isotonic_regression
from tqdm.auto import tqdm

from workbench.errors import UsageError
from workbench.files import open_picture
from workbench.recipe import faces
from workbench.scores import distortions, sharpness

from . import attacks
from .attacks import Portrait
from .classics import CropMetric, Metric, baselines

ALL = frozenset({"SOFT", "XSCALE", "ATK", "HARD", "REG"})
"""What can be left out; LAD and X come from the clean ladder, which every run has, and FSR and BIAS with ATK."""

LADDER = (0.0, 0.5, 0.8, 1.2, 1.8, 2.6, 3.8, 5.5)
CROSS = LADDER[2:]  # below that a face's own softness is larger than what was added
PAIRS = ((0.7, 1.5), (1.0, 2.0), (1.5, 3.0))  # sharper clean, softer attacked
SCALES = (0.5, 0.75, 1.25, 1.6)
SCALE_SIGMAS = (1.2, 1.8, 3.0, 3.8)
REGION_SIGMAS = (1.5, 3.0)
SIZES = {"large": 1.6, "small": 0.7}  # the nuisance of kind "size"

QUICK_LADDER = (0.0, 0.7, 1.5, 3.0, 5.5)
QUICK = {
    ("noise", "rgb 10"), ("noise", "grey 4"), ("jpeg", "50"), ("contrast", "1.3"), ("usm", "usual"),
    ("background", "lines"), ("size", "large"),
    ("film", "8"), ("checker", "4"), ("salt, pepper", "1.5 %"), ("mosaic", "4"), ("strokes", "dark"), ("webp", "15"),
}  # fmt: skip

TOLERANCE = 0.15  # px of blur; a claim smaller than that is not called false
BACKGROUND_SHARE = 0.25  # of what blurring the eyes costs
PIXEL_SIGMA = 0.5  # blur of a pixel grid itself, px: a face of fewer pixels than the 512 frame is that much softer
SMALLEST = 40.0  # eye distance in px down to which faces are shrunk


# --- the pictures


@dataclass(frozen=True)
class Shot:
    """One variant of a portrait: blurred by sigma (px of the 512 frame), then resized, then attacked."""

    group: str  # clean, scale, soft, atk, hard, reg
    sigma: float
    kind: str = ""
    name: str = ""
    scale: float = 1.0

    def make(self, portrait: Portrait, seed: int = 0) -> Portrait:
        """The variant. The same shot of the same portrait is always the same picture."""
        rng = np.random.default_rng([seed, zlib.crc32(f"{portrait.name} {self}".encode())])
        pixels = np.asarray(portrait.image)
        if self.sigma:
            pixels = np.rint(attacks.blur(pixels, self.sigma * portrait.px)).astype(np.uint8)
        if attack := self._attack():
            pixels = attack(pixels, portrait, rng)
        return Portrait(portrait.name, Image.fromarray(pixels), portrait.landmarks).scaled(self.scale)

    def _attack(self) -> attacks.Attack | None:
        if self.group in ("clean", "scale") or self.kind == "size":
            return None
        if self.group == "soft":
            return attacks.SOFTENERS[self.kind][int(self.name)]
        if self.group == "reg":
            outside = self.kind == "background"
            region = "hull" if outside else self.kind
            return partial(attacks.region_blur, region=region, sigma=float(self.name), outside=outside)
        return (attacks.NUISANCES if self.group == "atk" else attacks.HARD)[self.kind][self.name]


@dataclass(frozen=True)
class Plan:
    """Which shots, by group, and at which levels (sigma) they are compared."""

    ladder: tuple[float, ...]
    cross: tuple[float, ...]
    pairs: Mapping[str, Sequence[tuple[float, float]]]
    groups: Mapping[str, tuple[Shot, ...]]

    @property
    def shots(self) -> tuple[Shot, ...]:
        return tuple(shot for shots in self.groups.values() for shot in shots)


def plan(groups: Iterable[str] = ALL, quick: bool = False) -> Plan:
    """The full test (269 pictures a face) or the quick one (24 of them)."""
    groups = set(groups)
    if groups - ALL:
        raise UsageError(f"the groups of the trust test are {', '.join(sorted(ALL))}, not {sorted(groups - ALL)}.")
    pairs = {"ATK": PAIRS[:1], "HARD": PAIRS[:1]} if quick else {"ATK": PAIRS, "HARD": PAIRS[::2]}
    ladder = QUICK_LADDER if quick else LADDER
    # the sharpest level has no pair to lose, but false claims count there too
    attacked = sorted({softer for _, softer in pairs["ATK"]} | (set() if quick else {PAIRS[0][0]}))
    scales, scale_sigmas = ((0.75,), (1.2, 3.0)) if quick else (SCALES, SCALE_SIGMAS)
    region_sigmas = REGION_SIGMAS[1:] if quick else REGION_SIGMAS

    def each(group: str, catalogue: Mapping[str, Iterable[str]], sigmas: Iterable[float]) -> Iterator[Shot]:
        for kind, names in catalogue.items():
            for name in names:
                if not quick or (kind, name) in QUICK:
                    scale = SIZES[name] if kind == "size" else 1.0
                    yield from (Shot(group, sigma, kind, name, scale) for sigma in sigmas)

    softer = {kind: [str(i) for i in range(len(steps))] for kind, steps in attacks.SOFTENERS.items()}
    regions = {kind: [str(sigma) for sigma in region_sigmas] for kind in ("eyes", "mouth", "face", "background")}
    found = {
        "SOFT": [] if quick else each("soft", softer, [0.0]),
        "XSCALE": (Shot("scale", sigma, scale=scale) for scale in scales for sigma in scale_sigmas),
        "ATK": each("atk", {**attacks.NUISANCES, "size": SIZES}, attacked),
        "HARD": each("hard", attacks.HARD, [softer for _, softer in pairs["HARD"]]),
        "REG": (Shot("reg", 0.0, kind, name) for kind, names in regions.items() for name in names),
    }
    clean = tuple(Shot("clean", sigma) for sigma in sorted({*ladder, *(() if quick else sum(PAIRS, ()))}))
    return Plan(
        ladder, QUICK_LADDER[1:] if quick else CROSS, pairs,
        {"CLEAN": clean, **{name: tuple(shots) if name in groups else () for name, shots in found.items()}},
    )  # fmt: skip


# --- the judgement

Values = Mapping[Shot, float | None]  # what one metric said about one portrait's shots
SHARES = ("LAD", "LADall", "Xall", "Xadj", "Xscale", "BIAS")
KINDS = ("soft", "atk", "fsr", "reg", "hard")


def _right(sharper: float | None, softer: float | None) -> float:
    """1 when ranked right, .5 for a tie, 0 when wrong or when either is missing."""
    if sharper is None or softer is None:
        return 0.0
    return 1.0 if sharper > softer else 0.5 if sharper == softer else 0.0


def _mean(values: Iterable[float]) -> float | None:
    """None for nothing: a term that was not asked for, or that one face alone cannot have."""
    values = list(values)
    return float(np.mean(values)) if values else None


def _pixel_sigma(portrait: Portrait, shot: Shot) -> float:
    """Blur of the pixels that the face was ever reduced to, px of the 512 frame."""
    return PIXEL_SIGMA * max(1.0, 1 / (portrait.px * min(shot.scale, 1)))


def fits(portrait: Portrait, shot: Shot) -> bool:
    """Whether a face is large enough to be resized so: `SMALLEST` is left, and the added blur exceeds the pixels'."""
    large = portrait.eye_distance * shot.scale >= SMALLEST and shot.sigma >= _pixel_sigma(portrait, shot)
    return shot.group != "scale" or large


def _cross_pairs(portraits: Sequence[Portrait], values: Sequence[Values], test: Plan) -> Iterator[tuple[str, float]]:
    """Different faces at different blur: (column, right or not). A smaller face's pixels add to its blur."""
    at = [(i, shot, math.hypot(shot.sigma, _pixel_sigma(portrait, shot)), values[i][shot])
          for i, portrait in enumerate(portraits) for shot in (*test.groups["CLEAN"], *test.groups["XSCALE"])
          if shot in values[i] and shot.sigma >= test.cross[0]]  # fmt: skip
    neighbours = set(zip(test.cross, test.cross[1:], strict=False))
    for i, one, sharper, high in at:
        for j, two, softer, low in at:
            if i == j or softer <= sharper:
                continue
            if one.scale != two.scale:
                if softer >= 1.5 * sharper:
                    yield "Xscale", _right(high, low)
            elif one.scale == 1 and one.sigma in test.cross and two.sigma in test.cross:
                if softer >= 1.5 * sharper:
                    yield "Xall", _right(high, low)
                if (one.sigma, two.sigma) in neighbours and softer >= 1.2 * sharper:
                    yield "Xadj", _right(high, low)


def _claims(said: Values, test: Plan) -> Iterator[tuple[str, float, float]]:
    """Per nuisance: kind, 1 if it claims more than TOLERANCE px less blur would give, px by which the blur is misread.

    Scores become blur, and blur scores, by that face's own clean ladder, made monotone (isotonic regression).
    """
    known = {shot.sigma: value for shot in test.groups["CLEAN"] if (value := said[shot]) is not None}
    sigmas, ladder = list(known), isotonic_regression(list(known.values()), increasing=False).x if known else []
    tiny = 1e-9 * max(map(abs, ladder), default=0.0)  # both ends of a plateau, so that the middle of it is read
    for shot in test.groups["ATK"]:
        value, before = said[shot], said[Shot("clean", shot.sigma)]
        if value is None or before is None:  # as wrong as can be
            yield shot.kind, 1.0, max(shot.sigma, test.ladder[-1] - shot.sigma)
            continue
        sharper, here = np.interp([shot.sigma - TOLERANCE, shot.sigma], sigmas, ladder)
        read = np.interp([-value - tiny, -value + tiny], -np.asarray(ladder), sigmas).mean()
        yield shot.kind, float(value - before > sharper - here), float(abs(read - shot.sigma))


def _region_checks(said: Values, shots: Sequence[Shot]) -> Iterator[tuple[str, float]]:
    sharp = said[Shot("clean", 0.0)]
    for shot in shots:
        value, eyes = said[shot], said[Shot("reg", 0.0, "eyes", shot.name)]
        if shot.kind != "background":
            yield shot.kind, _right(sharp, value)
        elif sharp is None or eyes is None:
            yield shot.kind, 0.0
        else:
            yield shot.kind, _right(value, sharp - BACKGROUND_SHARE * max(sharp - eyes, 0))


def judge(portraits: Sequence[Portrait], values: Sequence[Values], test: Plan) -> dict[str, Any]:
    """One metric's row: what it said about every prepared portrait's shots (those that `fits`), against the truth.

    Numbers by column, None where nothing was compared; under "soft", "atk", "hard", "fsr" and "reg" the same by kind.
    """
    compared: dict[str, list[tuple[str, float]]] = {name: [] for name in (*SHARES, *KINDS)}
    for column, right in _cross_pairs(portraits, values, test):
        compared[column].append(("", right))
    for said in values:
        clean = {shot.sigma: said[shot] for shot in test.groups["CLEAN"]}
        for i, sharper in enumerate(test.ladder):
            for j, softer in enumerate(test.ladder[i + 1 :]):
                right = ("", _right(clean[sharper], clean[softer]))
                compared["LADall"].append(right)
                if j == 0:
                    compared["LAD"].append(right)
        for kind in dict.fromkeys(shot.kind for shot in test.groups["SOFT"]):
            run = [clean[0.0], *(said[shot] for shot in test.groups["SOFT"] if shot.kind == kind)]
            compared["soft"] += [(kind, _right(one, two)) for i, one in enumerate(run) for two in run[i + 1 :]]
        for name, pairs in test.pairs.items():
            for shot in test.groups[name]:
                against = [clean[sharper] for sharper, softer in pairs if softer == shot.sigma]
                compared[name.lower()] += [(shot.kind, _right(best, said[shot])) for best in against]
        for kind, false, off in _claims(said, test):
            compared["fsr"].append((kind, false))
            compared["BIAS"].append((kind, off))
        compared["reg"] += _region_checks(said, test.groups["REG"])
    row: dict[str, Any] = {name: _mean(n for _, n in compared[name]) for name in SHARES}
    for part in KINDS:
        row[part] = {kind: _mean(n for k, n in compared[part] if k == kind) for kind, _ in compared[part]}
        row[part.upper()] = _mean(row[part].values())
    row["FSR"] = _mean(
        false for _, false in compared["fsr"]
    )  # of all claims, so that most of it is noise, USM and JPEG
    return {"TRUST": _trust(row), **row}


def _trust(row: Mapping[str, Any]) -> float | None:
    """The formula at the top; the mean is over those of its terms that there are, None without ladder or regions."""
    honest = None if row["FSR"] is None else 1 - row["FSR"]
    shares = [row["LAD"], row["REG"], row["Xall"], row["Xscale"], row["ATK"], honest]
    ladder, regions, *terms = [None if share is None else max(0.0, 2 * share - 1) for share in shares]
    terms = [term for term in terms if term is not None]
    return None if ladder is None or regions is None or not terms else ladder * regions * float(np.mean(terms))


# --- the run

COLUMNS = ("TRUST", "HARD", "LAD", "SOFT", "Xall", "Xadj", "Xscale", "ATK", "noise", "jpeg", "usm", "background", "size",
           "FSR", "FSRnoise", "FSRusm", "BIAS", "REG", "none", "ms")  # fmt: skip


@dataclass(frozen=True)
class TrustReport:
    """Rows by metric, best first, and what they were measured on."""

    rows: dict[str, dict[str, Any]]
    portraits: list[str]
    pictures: int
    seed: int
    quick: bool

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def table(self) -> str:
        """Aligned text, one line a metric."""
        head = ["metric", *("bg" if name == "background" else name for name in COLUMNS)]
        lines = [[name, *(_cell(column, row) for column in COLUMNS)] for name, row in self.rows.items()]
        size = "quick" if self.quick else "full"
        return f"{size} test, {len(self.portraits)} faces, {self.pictures} pictures\n" + _text([head, *lines])

    def breakdown(self) -> str:
        """Per kind, one column a metric: share ranked right (SOFT, ATK, REG, HARD) or falsely lifted (FSR)."""
        lines = [["", *self.rows]]
        for part in KINDS:
            for kind in dict.fromkeys(kind for row in self.rows.values() for kind in row[part]):
                lines.append([f"{part.upper()} {kind}", *(f"{row[part][kind]:.3f}" for row in self.rows.values())])
        return _text(lines)


def _text(lines: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in lines)
    return "\n".join("  ".join(line) for line in padded)


def _cell(column: str, row: Mapping[str, Any]) -> str:
    part, kind = ("fsr", column[3:]) if column[:3] == "FSR" and column != "FSR" else ("atk", column)
    value = row.get(column, row[part].get(kind))
    return "-" if value is None else str(round(value)) if column in ("none", "ms") else f"{value:.3f}"


def run_trust(
    portraits: Sequence[Portrait],
    metrics: Mapping[str, Metric],
    *,
    crop_metrics: Mapping[str, CropMetric] = {},
    groups: Iterable[str] = ALL,
    seed: int = 0,
    quick: bool = False,
    progress: tqdm | None = None,
) -> TrustReport:
    """Test metrics on portraits. Every picture is made once and shown to all; only their numbers are kept.

    Args:
        portraits: faces to test with; X and Xscale need two.
        metrics, crop_metrics: by name. A crop metric gets the aligned face at its known landmarks, as from a perfect
            detector; a metric has to find the face itself.
        groups: what to measure besides the ladder (`ALL`); without REG there is no TRUST.
        seed: of noise, strokes and the like.
        quick: 24 pictures a face instead of 269: for slow metrics, and to see that all works.
        progress: a bar to move, one step a picture.
    """
    test = plan(groups, quick)
    if twice := set(metrics) & set(crop_metrics):
        raise UsageError(f"two metrics have the name {min(twice)}; give each its own.")
    prepared = [portrait.prepared() for portrait in portraits]
    todo = [(i, shot) for i, portrait in enumerate(prepared) for shot in test.shots if fits(portrait, shot)]
    if progress is not None:
        progress.reset(total=len(todo))
    said: dict[str, list[dict[Shot, float | None]]] = {n: [{} for _ in prepared] for n in (*metrics, *crop_metrics)}
    missing: dict[str, list[str]] = {name: [] for name in said}
    seconds = dict.fromkeys(said, 0.0)
    for i, shot in todo:
        seen = shot.make(prepared[i], seed)
        calls = {name: partial(metric, seen.image) for name, metric in metrics.items()}
        if crop_metrics:
            crop, _ = faces.measure_crop(seen.image, faces.Face((0, 0, *seen.image.size), 1.0, seen.landmarks))
            calls |= {name: partial(metric, crop) for name, metric in crop_metrics.items()}
        for name, call in calls.items():
            start = time.perf_counter()
            value = call()
            seconds[name] += time.perf_counter() - start
            said[name][i][shot] = number = float(value) if value is not None and math.isfinite(value) else None
            missing[name] += [f"{seen.name}: {shot}"] if number is None else []
        if progress is not None:
            progress.update()
    rows = {name: judge(prepared, values, test) for name, values in said.items()}
    for name, row in rows.items():
        row |= {"none": len(missing[name]), "missing": missing[name], "ms": 1000 * seconds[name] / max(len(todo), 1)}
    best_first = dict(sorted(rows.items(), key=lambda item: -(item[1]["TRUST"] or 0)))
    return TrustReport(best_first, [portrait.name for portrait in portraits], len(todo), seed, quick)


SLOW = ("cpbd_F", "niqe_F")  # 0.15 s a picture and more, each


def compare(
    portraits: Sequence[Portrait], *, quick: bool = False, fast: bool = False, progress: tqdm | None = None
) -> TrustReport:
    """Our score, which finds the faces itself, beside the classic ones; `fast` leaves CPBD and NIQE out."""
    whole, crops = baselines()
    crops = {name: metric for name, metric in crops.items() if not (fast and name in SLOW)}
    return run_trust(portraits, {"workbench": sharpness, **whole}, crop_metrics=crops, quick=quick, progress=progress)


def portraits_of(paths: Sequence[Path]) -> list[Portrait]:
    """The largest face of every picture; of a folder with a faces.json, with its landmarks; of nothing, our two portraits.

    Raises:
        UnreadablePicture, UsageError: a picture without a face.
    """
    found: list[Portrait | None] = []
    for path in paths:
        if path.is_dir():
            found += attacks.evaluation_portraits(path)
        else:
            found.append(distortions.portrait_of(path.stem, open_picture(path)))
            if found[-1] is None:
                raise UsageError(f"there is no face in {path}; give portraits.")
    if not paths:
        found = [distortions.portrait_of(name, image) for name, image in public_portraits().items()]
    return [portrait for portrait in found if portrait is not None]


def public_portraits() -> dict[str, Image.Image]:
    """The two public-domain portraits that come with scikit-image and matplotlib."""
    import matplotlib
    import skimage.data

    hopper = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    return {"collins": Image.fromarray(skimage.data.astronaut()), "hopper": open_picture(hopper)}
