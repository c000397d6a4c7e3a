"""A duel that is begun in a widget: it runs in a process of its own, and the widget says how far it is and what came out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import ipywidgets as widgets
from markupsafe import Markup

from workbench.errors import WorkbenchError
from workbench.presets import RunSample
from workbench.promotion import Candidate, candidate, has_preset
from workbench.settings import Settings
from workbench.sweeps import Attached, detached

from ..tuning_session import TuningSession
from .panels import ERROR_STYLE, Background, now_words, plan_words, sentence


class Say(Protocol):
    """Shows a sentence until the next one."""

    def __call__(self, text: str, *, error: bool = False) -> None: ...


class Duelling:
    """At most one duel at a time; whoever wins it becomes the preset that its candidate names."""

    def __init__(self, say: Say, done: Callable[[], None] = lambda: None) -> None:
        """`done` is called when a duel was settled."""
        self.work = Background(self._failed, self._look)
        self._say, self._done = say, done
        self._duel: tuple[Candidate, Attached] | None = None
        self._told: Candidate | None = None

    def begin(self, make: Callable[[], Candidate]) -> None:
        """Start the duel of the candidate that `make` makes on the worker thread; returns at once."""
        self.work.submit(self._begin, make, True)

    def ask(self, make: Callable[[], Candidate]) -> None:
        """As `begin`, but the first time it only says whom the candidate has to beat, and at what cost."""
        self.work.submit(self._begin, make, False)

    def _begin(self, make: Callable[[], Candidate], at_once: bool) -> None:
        wanted = make()
        if not at_once and wanted != self._told:
            self._told = wanted
            self._say(f"{' '.join(duel_lines(wanted))} Press Promote again to run it.")
            return
        self._told = None
        self._duel = wanted, detached.start(wanted.challenge.spec)
        self.work.watch(True)
        self._look()

    def _look(self) -> None:
        if self._duel is None:
            return
        wanted, attached = self._duel
        if attached.state == "running":
            self._say(f"The duel with {wanted.challenge.champion} runs: {now_words(attached.progress)}.")
            return
        self.work.watch(False)
        self._duel = None
        try:
            run = attached.wait(timeout=0, progress=False)  # raises what ended it before it was finished
            found, preset = wanted.settle(run)
        except WorkbenchError as error:
            self._say(f"Not promoted: {sentence(error)} Promoting it again goes on from there.", error=True)
            return
        if preset is None:
            self._say(f"Not promoted. {found.words}", error=True)
        else:
            self._say(f"Promoted: it is the preset '{preset.name}' now. {found.words}")
        self._done()

    def _failed(self, error: Exception) -> None:
        self.work.watch(False)
        self._say(sentence(error), error=True)


def session_candidate(session: TuningSession, settings: Settings, started: str) -> Candidate:
    """Settings of a tuner's session, to become production; before there is one they meet the preset `started`.

    What was tried in the session chose them: its seeds are no test.
    """
    tried = [variant.settings for variant in session.variants()] or [settings]
    name = f"tuner session {session.path.name}"
    prompts, seeds = sorted({each.prompt for each in tried}), sorted({each.seed for each in tried})
    started = "" if has_preset("production") else started
    return candidate(settings, against=started, note=name, chosen_on=RunSample(run=name, prompts=prompts, seeds=seeds))


def said_in(place: widgets.HTML) -> Say:
    """Says things in `place`, as a status that a screen reader reads out."""

    def say(text: str, *, error: bool = False) -> None:
        place.value = Markup('<p role="status" style="{}">{}</p>').format(ERROR_STYLE if error else "", text)

    return say


def duel_lines(wanted: Candidate) -> list[str]:
    """Whom a candidate meets, on what and at what cost."""
    return [f"It meets {wanted.challenge.champion} first: {plan_words(wanted.plan())}", *wanted.challenge.notes]
