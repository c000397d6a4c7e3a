"""A sweep from the notebook: its plan, Start and Stop, how far each stage is, the wall as it grows, and what came out.

The sweep runs in a process of its own, so that it outlives the page and the kernel; running the cell again finds it.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, TypedDict

import ipywidgets
import traitlets

from workbench.analysis import headline
from workbench.errors import Cancelled, NotFinished, NothingToPromote, UsageError, WorkbenchError
from workbench.files import LineReader
from workbench.promotion import SEEDS
from workbench.recipe import batch_of
from workbench.report import ranked_html, sheets as report
from workbench.runs import Run, begun_run, find_run, journal_line
from workbench.settings import stages
from workbench.sweeps import Attached, FinerSweep, Plan, Spec, detached, finer, finer_words, make_spec, plan

from ..front_end import headless
from .ballot import Ballot
from .outcome import OutcomePanel, static_charts
from .panels import Message, Panel, now_words, plan_words, sentence
from .scripts import script, style
from .wall import Wall
from .winner_panel import WinnerPanel

SPECS = (".toml", ".json")
FINER = "finer.toml"  # in a run's folder: the next sweep that was started from it
ENDED = ("finished", "stopped", "failed", "died")


class SweepView(TypedDict):
    """What the head of a sweep panel shows.

    `start`, `stop`: whether these buttons can be pressed; `label` is Start's. `retry`: whether Start runs failed cells again.
    `over`: whether all cells have been run; `headline`: what came out, "" before. `plan`: how much there is to do, in words;
    `now`: the step at work, in words. `bars`: name, jobs done, of how many.
    """

    title: str
    state: str
    running: bool
    start: bool
    stop: bool
    label: str
    retry: bool
    over: bool
    headline: str
    plan: str
    warnings: list[str]
    bars: list[tuple[str, int, int]]
    now: str


class StartMessage(Message):
    """Start was pressed; `retry`: with the failed cells."""

    retry: bool


class Control(Panel):
    """The head of a sweep panel, with its two buttons. `view` is a `SweepView`."""

    _esm = script("sweep_panel")
    _css = style("sweep_panel")

    view = traitlets.Dict().tag(sync=True)

    def __init__(self, panel: SweepPanel) -> None:
        self._panel = panel
        super().__init__(panel.look)

    def show(self, view: SweepView) -> None:
        self.view = view

    def _do_start(self, message: StartMessage) -> None:
        self._panel.start(retry_failed=message["retry"])

    def _do_stop(self, _: Message) -> None:
        self._panel.stop()

    def _do_propose(self, _: Message) -> None:
        """Send the next, finer sweep, as a proposal."""
        found = self._panel.finer()
        self.send({"proposal": [*finer_words(found), plan_words(plan(found.spec))]})

    def _do_finer(self, _: Message) -> None:
        self._panel.start_finer()

    def _failed(self, error: Exception) -> None:
        super()._failed(error)
        self._panel.draw()


class SweepPanel:
    """Plan, run, watch and stop a sweep; displayed as a widget, or headless as its finished wall.

    Attributes:
        run: the run on disk; None before it was begun. One that was begun before is found again.
        wall: the `Wall` of that run, which grows with it; None as long as there is no run, and headless.
        winner: its `WinnerPanel`; None before it has finished, and where nothing won.
    """

    def __init__(
        self,
        what: Spec | Run | dict[str, Any] | str | Path,
        *,
        promote_as: str = "production",
        seeds: int = SEEDS,
        upscaler: str = "none",
    ) -> None:
        """`what`: a spec (or its file), or a run (or its id, "latest", its folder). `promote_as`: the preset that its winner
        may become, "": none; `seeds`: of that duel, for each prompt; `upscaler`: of the winner's finished picture.

        A spec that cannot be run is said in the panel; headless it raises what `wb.plan` raises when it is displayed.
        """
        self.run: Run | None = None
        self.wall: Wall | None = None
        self.winner: WinnerPanel | None = None
        self._promote_as, self._seeds, self._upscaler = promote_as, seeds, upscaler
        self._headline = ""  # of a finished run
        self._below: list[SweepPanel] = []  # of finer sweeps that were started from here
        self._spec: Spec | None = None
        self._plan: Plan | None = None
        self._done: dict[str, set[str]] = {}
        self._journal: LineReader | None = None
        self._doing = "planning"
        self._drawing = threading.RLock()
        self._what = what
        self.head = Control(self)
        if headless():
            return
        self.box = ipywidgets.VBox([self.head])
        self.box.add_class("wb-sweep")
        self.draw()
        self.head.work.submit(self._prepare)

    # --- for Python

    def result(self) -> Run:
        """The finished run. Headless, the sweep is run first, in the foreground of the notebook.

        Raises `NotFinished` in JupyterLab as long as cells are missing, and headless what `wb.start` and `.wait` raise.
        """
        if headless():
            if self.run is None:
                found = self._find()
                attached = detached.start(self._spec) if self._spec else detached.attach(found or "latest")
                self.run = attached.wait(progress=False)
            return self.run
        self.head.work.settle()
        return self._finished()

    def _finished(self) -> Run:
        """The run, which has finished. Raises `NotFinished`."""
        if self.run is None:
            raise NotFinished("nothing was run yet; press Start above, and run this cell when the sweep has finished.")
        attached = Attached(self.run)
        if attached.state != "finished":
            raise NotFinished(
                f"{attached!r}; run this cell when the sweep has finished, or press Start above where it does not run."
            )
        return self.run

    def start(self, *, retry_failed: bool = False) -> None:
        """Start the sweep or continue it; returns when its process is at work. Raises what `wb.start` raises."""
        if self._spec is None:
            raise UsageError("this run was not begun from here; open the panel with its spec to go on with it.")
        self._doing = "starting"
        self.head.say("")
        self.draw()
        try:
            self._take(detached.start(self._spec, retry_failed=retry_failed).run)
        finally:
            self._doing = ""
        self.look()

    def stop(self) -> None:
        """Ask the sweep to stop, which it does within one denoising step."""
        if self.run is not None:
            Attached(self.run).stop(wait=0)
            self._doing = "stopping"
            self.look()

    def finer(self) -> FinerSweep:
        """The next, finer sweep around the winner. Raises `NothingToPromote`, `NotFinished`."""
        return finer(self._finished())

    def start_finer(self) -> None:
        """Start that sweep, whose panel then stands below; its spec is kept with this run as `finer.toml`."""
        found = self.finer()
        found.write(self._finished().path / FINER)
        run = detached.start(found.spec).run
        self.head.say(f"The finer sweep {run.id} runs; its panel is below.")
        if all(below.run is None or below.run.path != run.path for below in self._below):
            below = SweepPanel(run, promote_as=self._promote_as, seeds=self._seeds, upscaler=self._upscaler)
            self._below.append(below)
            self.box.children = (*self.box.children, below.box)

    def look(self) -> None:
        """Look at the run's folder and show what is new."""
        with self._drawing:
            if self.run is None:
                return self.draw()
            attached = Attached(self.run)
            state = attached.state
            self.head.work.watch(state == "running")
            if self._doing == "stopping" and state != "running":
                self._doing = ""
            self._follow()
            if state in ENDED and state != "finished":
                self._say_end(attached)
            elif state == "finished" and self.head.said.get("error"):
                self.head.say("")  # why it had ended before; not in `draw`, which follows every error
            self.draw()
            self._fill(state == "finished")

    # --- on the worker thread

    def _prepare(self) -> None:
        try:
            if run := self._find():
                self._take(run)
        finally:
            self._doing = ""
        self.look()

    def _find(self) -> Run | None:
        """The run, None if it was not begun yet. Also takes the spec and plans it, unless there is only a run without one."""
        what = self._what
        if isinstance(what, Run) or (isinstance(what, str | Path) and Path(what).suffix not in SPECS):
            run = find_run(what)
            request = run.path / "request.json"
            spec = make_spec(request) if request.exists() else None
        else:
            spec, run = make_spec(what), None
        if spec is not None:
            self._plan, self._spec = plan(spec), spec  # a spec that cannot be run cannot be started
            run = run or begun_run(self._plan.hash)
        return run

    def _take(self, run: Run) -> None:
        """Show this run from now on, with a wall of its own."""
        if self.run is None or self.run.path != run.path:
            self.run, self._journal, self._done = run, LineReader(run.journal, journal_line), {}
            self.wall = Wall(run)
            self._stack(self.wall)
        request = run.path / "request.json"
        if request.exists():  # with the seeds that were drawn, where one was -1
            self._spec = make_spec(request)
        batch = run.batch() or batch_of()
        if self._spec is not None and (batch != batch_of() or self._plan is None):
            self._plan = plan(self._spec, batch=batch)  # the keys of its jobs depend on it

    def _follow(self) -> None:
        """Count the jobs that were done since the last look, and show new cells on the wall."""
        lines = self._journal.new() if self._journal else []
        for line in lines:
            if line["kind"] == "stage":
                self._done.setdefault(line["stage"], set()).add(line["key"])
        if self.wall is not None and any(line["kind"] == "cell" for line in lines):
            self.wall.refresh()

    def _fill(self, finished: bool) -> None:
        """Add what came out once the run has finished; where it goes on to retry cells, take that away again."""
        if finished == bool(self._headline) or self.run is None or self.wall is None:
            return
        if not finished:
            self._headline, self.winner = "", None
            self._stack(self.wall)
            return self.draw()
        run, wall = self.run, self.wall
        self._headline = headline(run).words
        self.draw()
        wall.refresh()
        parts: list[ipywidgets.Widget] = [OutcomePanel(run, lambda cell: setattr(wall, "opened", cell)), _voting(run)]
        try:
            self.winner = WinnerPanel(run, self._promote_as, seeds=self._seeds, upscaler=self._upscaler)
        except NothingToPromote:  # the headline says why
            self.winner = None
        if self.winner is not None and self.winner.widget is not None:
            parts.append(self.winner.widget)
        self._stack(wall, *parts)

    def _stack(self, *parts: ipywidgets.Widget) -> None:
        """Show these parts below the head, and below them the panels of finer sweeps."""
        self.box.children = [self.head, *parts, *(below.box for below in self._below)]

    def _say_end(self, attached: Attached) -> None:
        """Say why the sweep ended before it was finished, in the sentence that `wait` raises."""
        try:
            attached.wait(timeout=0, progress=False)
        except WorkbenchError as error:
            self.head.say(sentence(error), error=not isinstance(error, Cancelled))

    def draw(self) -> None:
        """Send the head what it shows."""
        with self._drawing:
            attached = Attached(self.run) if self.run else None
            progress = attached.progress if attached else {"state": "not started"}
            state = self._doing or progress["state"]
            running = progress["state"] == "running"
            failed = self.run.states()["failed"] if self.run else 0
            retry = state == "finished" and failed > 0
            view = SweepView(
                title=self.run.id if self.run else self._spec.name if self._spec else "Sweep",
                state=state,
                running=running,
                start=self._spec is not None and not running and not self._doing and (retry or state != "finished"),
                stop=running and self._doing != "stopping",
                label=f"Retry {failed} failed" if retry else "Go on" if self.run else "Start",
                retry=retry,
                over=state == "finished",
                headline=self._headline,
                plan=plan_words(self._plan) if self._plan and not self.run else "",
                warnings=self._plan.warnings if self._plan else [],
                bars=self._bars(),
                now=now_words(progress) if running else "",
            )
            self.head.show(view)

    def _bars(self) -> list[tuple[str, int, int]]:
        """(name, done, of how many) of every stage with jobs, and of the cells. A search has the bar of its cells only."""
        bars: list[tuple[str, int, int]] = []
        if self._plan is not None and self._plan.spec.strategy == "grid":
            for stage in stages():
                jobs, left = self._plan.jobs[stage], self._plan.left[stage]
                if jobs:
                    missing = left.keys() - self._done.get(stage, set())
                    bars.append((stage, len(jobs) - len(missing), len(jobs)))
        if self.run is not None:
            states = self.run.states()
            total = self.run.about["cells"] - states.get("left_out", 0)
            bars.append(("cells", total - states["to_do"], total))
        return bars

    # --- where it is shown

    def _ipython_display_(self) -> None:
        from IPython.display import HTML, Image, Markdown, display

        if not headless():
            display(self.box)
            return
        run = self.result()
        display(Image(report.jpeg(report.sheet(run, tile=112)), alt=f"The pictures of {run.id}"))
        display(Markdown(f"{Attached(run)!r}. It is kept in `{run.path}`."))
        display(Markdown(f"**{headline(run).words}**"))
        for _, chart in static_charts(run):
            display(Image(report.jpeg(chart.picture(), quality=85), alt=chart.alt))
        display(HTML(ranked_html(run)))
        Ballot(run)._ipython_display_()
        try:
            winner = WinnerPanel(run, self._promote_as, seeds=self._seeds, upscaler=self._upscaler)
        except NothingToPromote as error:
            display(Markdown(sentence(error)))
        else:
            winner._ipython_display_()


def _voting(run: Run) -> ipywidgets.VBox:
    """A button that brings the ballot: most look at what came out first."""
    button = ipywidgets.Button(
        description="Vote on pairs", tooltip="Two faces, no names, no scores: does the score agree with you?"
    )
    box = ipywidgets.VBox([button])

    def bring(_: ipywidgets.Button) -> None:
        box.children = [Ballot(run)]

    button.on_click(bring)
    box.add_class("wb-controls")
    return box
