"""The finished picture of a winner: made only when it is asked for, with how far it is, since Real-ESRGAN takes minutes."""

from __future__ import annotations

import threading

import ipywidgets as widgets
from markupsafe import Markup

from workbench.errors import Cancelled
from workbench.files import data_url, fitted
from workbench.recipe import Result, generate
from workbench.runs import Run
from workbench.settings import Settings, short_name
from workbench.sweeps import Costs

from .panels import Background, sentence
from .telling import ProgressLine, alert

SHOWN = 1024  # px of the longer side of what is shown; the file has all of them


class Finishing:
    """A button that makes a picture and keeps it with the run, its progress, and the picture.

    Attributes:
        widget: all of it.
    """

    def __init__(self, run: Run, settings: Settings) -> None:
        self._run, self._settings = run, settings
        self._stop = threading.Event()
        self._work = Background(self._failed)
        upscaler = "" if settings.upscaler == "none" else f", {short_name(settings.upscaler)}"
        self._make = widgets.Button(
            description="Make the finished picture",
            tooltip=f"The winner's picture{upscaler}; it is kept with the run",
            layout={"width": "auto"},
        )
        self._cancel = widgets.Button(description="Cancel", disabled=True, tooltip="Finished stages are kept")
        self._state, self._shown = widgets.HTML(), widgets.HTML()
        self._make.on_click(lambda _: self._begin())
        self._cancel.on_click(lambda _: self._stop.set())
        self.widget = widgets.VBox([widgets.HBox([self._make, self._cancel]), self._state, self._shown])

    def _begin(self) -> None:
        self._make.disabled = True
        self._stop.clear()
        self._work.submit(self._work_on)

    def _work_on(self) -> None:
        costs = Costs.at_home()
        self._cancel.disabled = False
        progress = ProgressLine(self._settings, lambda stage: costs.seconds(stage, self._settings), self._tell, "")
        stages: list[str] = []

        def report(stage: str, done: int, total: int) -> None:
            if self._stop.is_set():
                raise Cancelled("it was cancelled.")
            for before in stages:
                if before != stage:
                    progress.finished(before)
            stages[:] = [stage]
            progress.report(stage, done, total)

        try:
            result = generate(self._settings, report)
        except Cancelled:
            self._tell(Markup("Cancelled; finished stages are kept."))
        else:
            path = finished_picture(self._run, result)
            self._tell(Markup("{} × {} px, in <code>{}</code>").format(*result.image.size, path))
            self._shown.value = Markup('<img src="{}" alt="{}" style="max-width:100%;max-height:480px">').format(
                data_url(fitted(result.image, SHOWN)), "The winner's finished picture"
            )
        finally:
            self._make.disabled, self._cancel.disabled = False, True

    def _tell(self, words: Markup) -> None:
        self._state.value = Markup('<div role="status" class="wb-progress">{}</div>').format(words)

    def _failed(self, error: Exception) -> None:
        self._state.value = alert(sentence(error))


def finished_picture(run: Run, result: Result) -> str:
    """Keep a finished picture with its run; where. `workbench generate --from` makes it again from the file."""
    return str(result.save(run.path / "winner.png"))
