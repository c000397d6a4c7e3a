"""What the tuner says, as HTML: progress with the time left, a score with its parts and how they moved, errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from tqdm import tqdm

from workbench.presets import damaged_presets
from workbench.recipe import notes, token_count
from workbench.scores import MEASURES, REPEATABILITY
from workbench.settings import Settings, knobs, stages

from .templates import render

Scores = Mapping[str, Any]  # the JSON values of `scores.cell_scores`: measures, flags, versions, not_measured

EVERY = 0.1  # seconds between two looks of a person at a bar
PARTS = (
    "sigma_eyes", "sigma_mouth", "sigma_nose", "sigma_skin", "noise", "halo", "symmetry", "ssim", "lpips", "identity_drift",
)  # fmt: skip


@dataclass(frozen=True)
class StageProgress:
    """How far one stage is, as the template `progress.html` shows it.

    Attributes:
        name: for people.
        took: how long it took, or "re-used"; None while it is not finished.
        step, steps: steps done, of how many; 0 of 0 before the first.
        left: the time it still takes, "" where that is not known.
    """

    name: str
    took: str | None
    step: int
    steps: int
    left: str


class ProgressLine:
    """How far one render is, as a line of HTML. A stage that came from the store is called re-used."""

    def __init__(
        self, settings: Settings, predicted: Callable[[str], float | None], write: Callable[[Markup], None], what: str
    ) -> None:
        """`predicted(stage)`: seconds it should take, None where it was never timed; `what`: preview or full.

        `write` is called with the line ten times a second at most, and when a stage is finished.
        """
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
        """(seconds left as far as known, whether that is all: False where a stage to come was never timed)."""
        seconds = [self.stage_left(stage) for stage in self.stages if stage not in self._done]
        return sum(s for s in seconds if s is not None), None not in seconds

    def stage_left(self, stage: str) -> float | None:
        """Seconds that an unfinished stage still takes: judged by its own steps so far, before the first as predicted."""
        done, steps = self._steps.get(stage, (0, 0))
        if done:
            return (time.monotonic() - self._began[stage]) / done * (steps - done)
        return self._predicted(stage)

    def _draw(self) -> None:
        self._written = time.monotonic()
        seconds, known = self.left()
        waiting = [s for s in self.stages if s not in self._done]
        left = f"{'' if known else 'at least '}{tqdm.format_interval(round(seconds))} left" if waiting else "scoring"
        self._write(render("progress.html", what=self._what, stages=[*map(self._stage, self.stages)], left=left))

    def _stage(self, stage: str) -> StageProgress:
        step, steps = self._steps.get(stage, (0, 0))
        if stage in self._done:
            took = f"{self.seconds[stage]:.1f} s" if stage in self.seconds else "re-used"
            return StageProgress(stages()[stage].label, took, step, steps, "")
        left = self.stage_left(stage)
        return StageProgress(stages()[stage].label, None, step, steps, "" if left is None else f"{left:.0f} s")


@dataclass(frozen=True)
class Change:
    """How a number moved since the picture before: in words, and as "better", "worse", "moved" or "same"."""

    words: str
    kind: str


@dataclass(frozen=True)
class Part:
    """A row in the table of a score's parts; `value` is None where it was not measured, and `why` says why."""

    label: str
    value: str | None
    why: str
    moved: Change | None


def score_html(
    status: str,
    scores: Scores,
    before: Scores | None,
    *,
    settings: tuple[Settings, Settings] | None = None,
    unfolded: bool = False,
) -> Markup:
    """Sharpness, its parts (behind a fold unless `unfolded`) and flags.

    `status`: as `cell_scores` gives it. `before`: the scores of the picture that this one is compared with, None without one.
    `settings`: of this picture and of that one; of another seed or prompt nothing is said to be better or worse, for those
    alone move a score by more than most settings do. Nor is it where the sharpness moved by less than `REPEATABILITY`
    points, by which it differs between copies of one picture (measured; `scores/measures.py` says how).
    """
    if scores.get("sharpness") is None:
        why = scores.get("not_measured", {}).get("sharpness", status.replace("_", " "))
        return render("score.html", sharpness=None, why=why)
    if before is not None and before.get("versions") != scores.get("versions"):
        before = None  # numbers of different versions do not compare
    moved, told = _sharper(scores, before, settings)
    before = None if moved is None or other_picture(settings) else before
    return render(
        "score.html",
        sharpness=scores["sharpness"],
        moved=moved,
        flags=scores["flags"],
        parts=[_part(name, scores, before, judged=told) for name in PARTS],
        open=unfolded,
    )


def other_picture(settings: tuple[Settings, Settings] | None) -> str:
    """In what of seed and prompt two pictures differ, in words; "" where in neither."""
    if settings is None:
        return ""
    now, then = settings
    differs = {"seed": now.seed != then.seed, "prompt": now.prompt != then.prompt}
    return " and ".join(f"another {name}" for name, differ in differs.items() if differ)


def _sharper(
    scores: Scores, before: Scores | None, settings: tuple[Settings, Settings] | None
) -> tuple[Change | None, bool]:
    """How the sharpness moved, and whether by so much that it, and its parts, may be called better or worse."""
    if other := before and before.get("sharpness") is not None and other_picture(settings):
        return Change(f"{other}: not compared", "same"), False
    found = _moved("sharpness", scores, before)
    if found is None or before is None or found.kind == "same":
        return found, False
    moved = scores["sharpness"] - before["sharpness"]
    if abs(moved) >= REPEATABILITY:
        return found, True
    return Change(
        f"{'▲' if moved > 0 else '▼'} {abs(moved):.1f}, less than the score can tell ({REPEATABILITY:g})", "same"
    ), False


def _part(name: str, scores: Scores, before: Scores | None, *, judged: bool) -> Part:
    value, unit, label = scores.get(name), MEASURES[name].unit, MEASURES[name].label
    if value is None:
        return Part(label, None, scores.get("not_measured", {}).get(name, ""), None)
    unit = f" {unit.split()[0]}" if unit.startswith("px") else ""
    return Part(label, f"{value:.3g}{unit}", "", _moved(name, scores, before, judged=judged))


def _moved(name: str, scores: Scores, before: Scores | None, *, judged: bool = True) -> Change | None:
    """How a number moved since the picture before, and where `judged` whether that is better."""
    old, new = (before or {}).get(name), scores[name]
    if old is None:
        return None
    moved, better = new - old, MEASURES[name].higher_is_better if judged else None
    if abs(moved) < (0.05 if name == "sharpness" else 0.0005 * max(1.0, abs(old))):
        return Change("unchanged", "same")
    digits = ".1f" if name == "sharpness" else ".3g"
    kind = "moved" if better is None else "better" if (moved > 0) == better else "worse"
    arrow = f"{'▲' if moved > 0 else '▼'} {abs(moved):{digits}}"
    return Change(arrow if better is None else f"{arrow} {kind}", kind)


def alert(sentence: str) -> Markup:
    """An error, which a screen reader says at once."""
    return Markup('<p class="wb-alert" role="alert">{}</p>').format(sentence)


def loading_words(seconds: float | None) -> str:
    """What to say before the first step of a model. `seconds`: what it took the last time, None where it was never timed."""
    return (
        f"loading the model, about {max(1, round(seconds))} s"
        if seconds
        else "loading the model; the first time takes longest"
    )


def damaged_html() -> Markup:
    """Why presets of yours are not on offer; nothing where all can be read."""
    return Markup("").join(alert(damaged.problem) for damaged in damaged_presets())


def changed(settings: Settings, since: Settings) -> str:
    """The settings that differ from `since`, in words: "strength 0.35, weight 0.6"; of a prompt only that it is another."""
    names = settings.diff(since)
    return ", ".join(
        f"another {knobs()[name].label.lower()}" if name.endswith("prompt") else f"{name} {_value(value)}"
        for name, (value, _) in names.items()
    )  # fmt: skip


def _value(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def reading_html(settings: Settings) -> Markup:
    """How long the prompts are for the text encoders, and what of the settings is cut or has no effect."""
    counted = [token_count(settings, name) for name in ("prompt", "negative_prompt")]
    said = [Markup('<div class="wb-note">{}.</div>').format(note) for note in notes(settings)]
    words = Markup("Tokens: {} of {}, negative {} of {}").format(*counted[0], *counted[1])
    return Markup('<div class="wb-tokens">{}</div>{}').format(words, Markup("").join(said))
