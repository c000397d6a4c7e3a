"""What the tuner says in HTML: progress with the time left, a score with its parts and how it moved, errors."""

from __future__ import annotations

import time
from collections.abc import Callable
from html import escape
from typing import Any

from tqdm import tqdm

from workbench.scores import MEASURES
from workbench.settings import STAGES, Settings

NAMES = {"base": "Base", "refine": "Refiner", "faces": "Faces", "upscale": "Upscaler"}
EVERY = 0.1  # seconds between two looks of a person at a bar
PARTS = {
    "sigma_eyes": "blur of the eyes", "sigma_mouth": "blur of the mouth", "sigma_nose": "blur of the nose",
    "sigma_skin": "blur of the skin", "noise": "noise", "halo": "halo", "symmetry": "symmetry",
    "ssim": "SSIM to the unrestored", "lpips": "LPIPS to the unrestored", "identity_drift": "identity drift",
}  # fmt: skip


class ProgressLine:
    """How far one render is. Stages that are re-used are said to be; `write(html)` is called ten times a second at most."""

    def __init__(
        self, settings: Settings, predicted: Callable[[str], float | None], write: Callable[[str], None], what: str
    ) -> None:
        """`predicted(stage)`: seconds it should take, None where it was never timed; `what`: preview or full."""
        self.stages = settings.stages
        self._predicted, self._write, self._what = predicted, write, what
        self._steps: dict[str, tuple[int, int]] = {}
        self._began: dict[str, float] = {}
        self.seconds: dict[str, float] = {}  # {stage: what it took}, of those that ran
        self._done: set[str] = set()
        self._written = 0.0

    def report(self, stage: str, done: int, total: int) -> None:
        self._began.setdefault(stage, time.monotonic())
        self._steps[stage] = (done, total)
        if time.monotonic() - self._written > EVERY:
            self._draw()

    def finished(self, stage: str) -> None:
        self._done.add(stage)
        if stage in self._began:
            self.seconds[stage] = time.monotonic() - self._began[stage]
        self._draw()

    def left(self) -> tuple[float, bool]:
        """(seconds left, whether that is all of it: False where a stage to come was never timed)."""
        seconds = [self.stage_left(stage) for stage in self.stages if stage not in self._done]
        return sum(s for s in seconds if s is not None), None not in seconds

    def stage_left(self, stage: str) -> float | None:
        """Seconds a stage that is not finished still takes: from its steps so far, before those from earlier renders."""
        done, steps = self._steps.get(stage, (0, 0))
        if done:
            return (time.monotonic() - self._began[stage]) / done * (steps - done)
        return self._predicted(stage)

    def _draw(self) -> None:
        self._written = time.monotonic()
        seconds, known = self.left()
        waiting = [s for s in self.stages if s not in self._done]
        left = f"{'' if known else 'at least '}{tqdm.format_interval(round(seconds))} left" if waiting else "scoring"
        self._write(f"<b>{escape(self._what)}</b> {''.join(map(self._stage, self.stages))} <span>{left}</span>")

    def _stage(self, stage: str) -> str:
        name = NAMES[stage]
        if stage in self._done:
            took = f"{self.seconds[stage]:.1f} s" if stage in self.seconds else "re-used"
            return f'<span class="wb-done">{name} ✓ {took}</span>'
        done, total = self._steps.get(stage, (0, 0))
        left = self.stage_left(stage)
        about = "" if left is None else f" {left:.0f} s"
        if not total:
            return f'<span class="wb-waiting">{name}{about}</span>'
        bar = f'<progress aria-label="{name}" value="{done}" max="{total}"></progress>'
        return f"<span>{name} {done}/{total} {bar}{about}</span>"


def score_html(status: str, scores: dict[str, Any], before: dict[str, Any] | None) -> str:
    """Sharpness, its parts and flags; `before`: the scores of the picture it is compared with, of the same versions."""
    if scores.get("sharpness") is None:
        why = scores.get("not_measured", {}).get("sharpness", status.replace("_", " "))
        return f"<p class='wb-score'>Sharpness: <b>not measured</b> ({escape(str(why))})</p>"
    if before is not None and before.get("versions") != scores.get("versions"):
        before = None  # numbers of different versions do not compare
    flags = ", ".join(scores["flags"])
    said = f"<p class='wb-flags'>! {escape(flags)}: its sharpness may be fooled</p>" if flags else ""
    rows = "".join(_row(name, label, scores, before) for name, label in PARTS.items())
    moved = _moved("sharpness", scores, before)
    return (
        f"<p class='wb-score'>Sharpness <b>{scores['sharpness']:.1f}</b> of 100 {moved}</p>{said}"
        "<details><summary>Parts</summary><table><thead><tr><th scope='col'>part</th><th scope='col'>now</th>"
        f"<th scope='col'>moved</th></tr></thead><tbody>{rows}</tbody></table></details>"
    )


def _row(name: str, label: str, scores: dict[str, Any], before: dict[str, Any] | None) -> str:
    value, unit = scores.get(name), MEASURES[name].unit
    if value is None:
        why = scores.get("not_measured", {}).get(name, "")
        return f"<tr><th scope='row'>{label}</th><td title='{escape(why, True)}'>not measured</td><td></td></tr>"
    unit = f" {unit.split()[0]}" if unit.startswith("px") else ""
    return f"<tr><th scope='row'>{label}</th><td>{value:.3g}{unit}</td><td>{_moved(name, scores, before)}</td></tr>"


def _moved(name: str, scores: dict[str, Any], before: dict[str, Any] | None) -> str:
    """How a number moved since the picture before, and whether that is better."""
    old, new = (before or {}).get(name), scores[name]
    if old is None:
        return ""
    moved, better = new - old, MEASURES[name].higher_is_better
    if abs(moved) < (0.05 if name == "sharpness" else 0.0005 * max(1.0, abs(old))):
        return "<span class='wb-same'>unchanged</span>"
    digits = ".1f" if name == "sharpness" else ".3g"
    word = "" if better is None else " better" if (moved > 0) == better else " worse"
    return f"<span class='wb-{word.strip() or 'moved'}'>{'▲' if moved > 0 else '▼'} {abs(moved):{digits}}{word}</span>"


def alert(sentence: str) -> str:
    """An error, or "" to take it away."""
    return f'<p class="wb-alert" role="alert">{escape(sentence)}</p>' if sentence else ""


def changed(settings: Settings, since: Settings) -> str:
    """What differs, in words: "strength 0.35, weight 0.6"; prompts are only named."""
    names = settings.diff(since)
    return ", ".join(
        "another prompt" if name == "prompt" else "another negative prompt" if name == "negative_prompt"
        else f"{name} {_value(value)}"
        for name, (value, _) in names.items()
    )  # fmt: skip


def _value(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def last_stage(settings: Settings) -> str:
    """The last stage before faces are restored or the picture enlarged: what fidelity is measured against."""
    return next(stage for stage in reversed(STAGES[:2]) if stage in settings.stages)
