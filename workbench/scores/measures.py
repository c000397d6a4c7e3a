"""What every number of a score means: its direction, range, unit and version, and the limit beyond which a guard fires.

This is the one list from which run tables, records, reports and `workbench score` take their columns. Numbers of different
versions are never compared: a sweep scores anew what an older version had scored. Knows no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

LABELS = {
    "sigma": "blur", "sigma_eyes": "blur of the eyes", "sigma_mouth": "blur of the mouth", "sigma_nose": "blur of the nose",
    "sigma_skin": "blur of the skin", "eye_distance": "distance of the eyes", "chroma_noise": "colour noise",
    "impulses": "specks", "jpeg_blocks": "JPEG blocks", "deformed": "deformation", "yaw": "turn of the head",
    "ssim": "SSIM to the unrestored", "lpips": "LPIPS to the unrestored", "niqe": "NIQE",
}  # fmt: skip


@dataclass(frozen=True)
class Measure:
    """What a number means.

    Attributes:
        higher_is_better: None where neither direction is better.
        low, high: range of the number; `high` may be infinite.
        flag: what is said of a picture whose number is beyond `limit` in the bad direction; None where nothing is said.
        blocks: whether settings whose pictures fire this are not promoted.
    """

    name: str
    version: str
    higher_is_better: bool | None
    low: float
    high: float
    unit: str
    about: str
    flag: str | None = None
    limit: float | None = None
    blocks: bool = True

    @property
    def label(self) -> str:
        """Its name for people: "blur of the eyes"."""
        return LABELS.get(self.name, self.name.replace("_", " "))

    def fires(self, value: float | None) -> bool:
        """Whether a number is beyond the limit; never for None (not measured), NaN or a measure without a limit."""
        if value is None or self.limit is None or self.higher_is_better is None:
            return False
        return value < self.limit if self.higher_is_better else value > self.limit


@dataclass(frozen=True)
class NotMeasured:
    """Stands in the place of a number, and says why there is none."""

    reason: str


BLUR = "blur-2"  # raised with every change of blur_network.py or of its weights; a test holds the two together
SHARPNESS = Measure(
    "sharpness", BLUR, True, 0.0, 100.0, "points",
    "Of the largest face, from the equivalent blur of its regions, eyes most: 84 at 0.5 px of the 512 face, 63 at 1, 36 "
    "at 2, 16 at 4.",
)  # fmt: skip
# The same picture mirrored, or with 3 x 5 px cut off its top left corner, has another sharpness by 2.0 points (root mean
# square of 14 such changes to 7 pictures of the embedded model, sharpness 35 to 41, largest 3.8; light, 3 % up or down, and
# JPEG 95 move it by less): what differs by less on one picture may be how its face happens to lie on the pixels.
REPEATABILITY = 2.0
SIGMA = Measure(
    "sigma", BLUR, False, 0.0, math.inf, "px of the 512 face",
    "Equivalent Gaussian blur of the face: the sigma of the Gaussian that would make a crisp face as soft.",
)  # fmt: skip
EYE_DISTANCE = Measure(
    "eye_distance", "px-1", True, 0.0, math.inf, "px of the picture",
    "How large the face is in the picture; the 512 face has 126, so that one below 63 is called small.", "small", 63.0,
    blocks=False,  # a picture of a whole person is no fault
)  # fmt: skip


# --- guards: how the score may have been fooled, or what else is wrong


def _guard(
    name: str, high: float, unit: str, about: str, flag: str | None, limit: float | None,
    *, higher_is_better: bool | None = False, low: float = 0.0, blocks: bool = True,
    version: int = 1,
) -> Measure:  # fmt: skip
    return Measure(name, f"{name}-{version}", higher_is_better, low, high, unit, about, flag, limit, blocks)


# Above each guard are the numbers between which its limit stands. "natural" are portraits, also blurred, as JPEG 80, with
# contrast x1.3, and with gamma .65 and 1.5
_GUARDS = (
    # natural portraits up to 4.3 (after JPEG 95), an AI face full of glitter 4.5; noise of 8 levels 7.6
    _guard("noise", 255.0, "8-bit levels", "Standard deviation of pixel-to-pixel noise (mean over R, G, B) on the flatter "
           "parts of the face.", "noisy", 6.0),
    # natural up to 2.2 (contrast raised), noise of 4 levels 4.3; coloured noise of 8 levels 7.6
    _guard("chroma_noise", 255.0, "8-bit levels", "The same for Cb and Cr, scaled so that independent noise of n levels in "
           "R, G and B reads n, and grey noise 0.", "colour noise", 5.0),
    # natural up to 5.1 (gamma 1.5); film grain of 16 levels 6.2, grey noise of 12 levels blurred by 1 px 5.0
    _guard("grain", 255.0, "8-bit levels", "Noise coarser than a pixel (film grain, blurred noise), read after 2x2 "
           "averaging. Sharp wrinkled skin reads up to 4.7, so weak grain is not told from it.", "grainy", 5.5),
    # natural up to .001, glitter on an AI face .004; salt and pepper on 1.5 % of the pixels .011
    _guard("impulses", 1.0, "share of face pixels", "Single pixels at least 32 levels outside the range of their eight "
           "neighbours (salt and pepper).", "specks", 0.006),
    # of 54 natural portraits 8 are beyond .09 (press photographs, 7 of them plainly sharpened, beyond .11), and 48 of them
    # after an unsharp mask of 2 px and 100 %; with the limit at .11 those were 7 and 43, at .07 11 and 51, but there a sound
    # portrait with its contrast raised, or after JPEG 20, was called haloed, too
    _guard("halo", 1.0, "share of the edge's contrast", "Overshoot on both sides of strong edges (unsharp mask, "
           "oversharpening): of the median edge, on the side where it is smaller. Not measured under a mosaic.", "haloed",
           0.09),
    # natural up to .20, AI faces that were JPEGs .24, JPEG 80 .40; JPEG 20 .59
    _guard("jpeg_blocks", 8.0, "relative step", "Extra step between pixels at the 8x8 JPEG grid, relative to the mean step. "
           "Not measured under a mosaic, whose steps hide it.", "JPEG blocks", 0.55),
    # natural, AI and embedded up to .11, JPEG of quality 5 .41; a 4 px mosaic through JPEG 60 .47, plain .82
    _guard("mosaic", 1.0, "share", "Share of the steps between pixels that fall on a regular grid of 2 to 24 px: mosaic, "
           "nearest-neighbour enlargement.", "mosaic", 0.43),
    # natural and AI up to .28, one AI face blurred by 1.5 px .56, embedded model .596; skin blurred by 3 px .75 to 1.4
    _guard("smooth_skin", 6.0, "octaves", "How much faster skin loses detail towards fine scales than the eyes do: blur "
           "takes from both alike, airbrushing from the skin alone. Scaled down for soft eyes.", "plastic skin", 0.6,
           low=-4.0),
    # contrast x1.3 .038; exposure x1.6 .29
    _guard("clipped_highlights", 1.0, "share of face pixels", "Burnt out: at least two of R, G, B at 250 or more.",
           "burnt out", 0.08),
    # natural and AI up to .02
    _guard("clipped_shadows", 1.0, "share of face pixels", "Drowned: R, G and B all at 8 of 255 or less.",
           "drowned shadows", 0.1),
    # 54 natural portraits: 93, 81 and 54 (95, 50 and 5 % have more); with an eye .27 eye distances too low 22 in the median.
    # It blocks nothing: what it fires on in natural ones are turned heads and crooked smiles
    _guard("symmetry", 100.0, "points", "How near each piece of the face lies to where the mirrored other half has it, once "
           "the pose is taken out: 100 = there, 81 as in the median portrait, 37 at 10 px of the 512 face. A nose moved "
           "sideways looks like a turned head and does not count.",
           "asymmetric", 50.0, higher_is_better=True, blocks=False, version=2),
    # 91 pictures labelled whole by eye up to .128 (97 % have up to .117), 99 torn ones from .09 (90 % have .175 or more);
    # 54 portraits whose every part was shifted by 8 px (root mean square): 97 % up to .135, one .146
    _guard("deformed", 1.0, "share", "How much of the coarse shape of eyes, nose and mouth was not there, or 8 px of the 512 "
           "face beside it, in the picture before it was refined: whole faces have .05, torn ones .3 in the median. It needs "
           "that picture: sweeps have it, wb.score takes it as reference. Look at the face; lower the strength or the CFG.",
           "deformed", 0.14),
    _guard("yaw", 90.0, "degrees", "Turn of the head by five landmarks and a mean nose, positive towards the picture's "
           "right; good to about 10 degrees. A nose moved sideways looks the same.", None, None,
           higher_is_better=None, low=-90.0),
)  # fmt: skip
GUARDS = {guard.name: guard for guard in _GUARDS}

# --- how far a face moved from another picture of it

LPIPS = Measure(
    "lpips", "alex-0.1", False, 0.0, 1.0, "distance",
    "Perceptual distance between two faces (0 = equal; may pass 1): AlexNet features, weighted as people judged.",
)  # fmt: skip
SSIM = Measure(
    "ssim", "ssim-1", True, -1.0, 1.0, "similarity",
    "Structural similarity of the luma of two faces (1 = equal). A moved edge costs as much as a lost one, so that new "
    "detail lowers it whether it is right or wrong.",
)  # fmt: skip
IDENTITY = Measure(
    "identity_drift", "dlib-resnet-1", False, 0.0, math.inf, "distance",
    "Distance between two faces to dlib's recognition network: 0 = the same face to it. dlib takes two pictures within "
    ".6 for one person; a blur of 3 px moves a face by .17, mirroring it too.",
)  # fmt: skip
NIQE = Measure(
    "niqe", "basicsr-1.4.2", False, 0.0, math.inf, "distance",
    "Distance from the statistics of natural pictures. For reference only: on restored faces it ranks backwards (rank "
    "correlation with people about -.4, arXiv 2404.19500), so that nothing is chosen or blocked by it.",
)  # fmt: skip
FIDELITY = {measure.name: measure for measure in (LPIPS, SSIM, IDENTITY, NIQE)}

REGION_SIGMA = {
    f"sigma_{region}": Measure(
        f"sigma_{region}", BLUR, False, 0.0, math.inf, "px of the 512 face", f"Blur of the {region}."
    )
    for region in ("eyes", "mouth", "nose", "skin")
}
MEASURES = {measure.name: measure for measure in (SHARPNESS, SIGMA)} | REGION_SIGMA | {EYE_DISTANCE.name: EYE_DISTANCE}
MEASURES |= GUARDS | FIDELITY
"""Every number of a score by its name, in the order of the columns."""
