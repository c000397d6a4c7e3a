"""What only computing can tell: that the libraries load, and that a picture comes out with a sharp face in it."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from workbench.presets import load_preset
from workbench.store import size_words

from .findings import Finding, Status, found, ok, trouble

STEPS = 10  # of base and refiner, instead of 25: of 16 s of CPU they took 8
SHARP_ENOUGH = 28.0
"""Least sharpness of the trial's face: it has 34.3 on the CPU that this was chosen on, blurred by 2 px 30.7, by 3 px 26.1."""


def trial_findings() -> list[Finding]:
    """Device, libraries, and the picture. Imports torch; takes 16 s of CPU, of which 8 are imports."""
    looks: list[tuple[str, Status, Callable[[], str]]] = [
        ("device", "failed", _device),
        ("libraries", "failed", _libraries),
        ("identity drift", "warning", _identity),
    ]
    return [*(found(*look) for look in looks), *_picture()]


def _device() -> str:
    from workbench.models import begin, hardware

    begin()
    free = hardware.free_memory()
    return hardware.backend() + (f", {size_words(free)} of its memory free" if free is not None else "")


def _libraries() -> str:
    """basicsr imports a module that torchvision 0.17 has removed; opencv-python needs a libGL that servers lack."""
    import cv2

    from workbench.models import import_basicsr

    import_basicsr()
    return f"basicsr and realesrgan load beside today's torchvision, and OpenCV {cv2.__version__}"


def _identity() -> str:
    from workbench.models import load_dlib_resnet

    load_dlib_resnet()
    return "dlib's recognition network loads"


def _picture() -> list[Finding]:
    """The embedded model's picture through every stage, nothing of it from the store, and the score of its face."""
    from workbench.recipe import Bench
    from workbench.scores import score
    from workbench.store import Store

    times: OrderedDict[str, float] = OrderedDict()
    last = begun = time.perf_counter()

    def finished(stage: str, *_: object) -> None:
        nonlocal last
        last, times[stage] = time.perf_counter(), time.perf_counter() - last

    try:
        settings = load_preset("embedded").settings.replace(steps=STEPS, refine_steps=STEPS)
        result = Bench(Store(None)).generate(settings, show=finished)
        width, height = result.image.size
        parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in times.items())
        made = ok(
            "picture", f"{width} x {height} px by the embedded model in {last - begun:.1f} s with loading ({parts})"
        )
        return [made, _face(score(result.image).sharpness)]
    except Exception as error:  # whatever a driver or a library says
        return [trouble("picture", "failed", error)]


def _face(sharpness: float | None) -> Finding:
    remedy = (
        "run workbench doctor --anew, then with WORKBENCH_DEVICE=cpu: if only the device fails, its driver is at fault"
    )
    if sharpness is None:
        return Finding("face", "failed", "no face is found in the picture", remedy)
    if sharpness < SHARP_ENOUGH:
        return Finding("face", "failed", f"sharpness {sharpness:.1f}, and {SHARP_ENOUGH:.0f} is the least", remedy)
    return ok("face", f"found, sharpness {sharpness:.1f} ({SHARP_ENOUGH:.0f} is enough of the embedded model)")
