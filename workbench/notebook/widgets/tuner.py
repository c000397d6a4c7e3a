"""The tuner: move a control, see the picture. One worker thread renders the newest settings; callbacks only submit them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from IPython.display import HTML, Image as Shown, Markdown, display
from markupsafe import Markup
from PIL import Image
from traitlets import Bunch

from workbench.analysis import face_square
from workbench.errors import SettingsError, UsageError
from workbench.presets import list_presets, load_preset
from workbench.recipe import Bench, Result, bench, first_made, last_made, unused_settings
from workbench.report import jpeg, strip
from workbench.settings import MAX_SEED, Settings, Value, stages
from workbench.store import Artefact
from workbench.sweeps import Costs

from ..front_end import headless
from ..tuning_session import TuningSession, Variant
from .controls import ABOVE, Controls
from .dropping import DropZone
from .fields import on_this_machine
from .filmstrip import Filmstrip
from .freshness import Freshness
from .keeping import KeepBox, StartAndNow
from .latest import Latest
from .live import LivePicture
from .open_tuners import tuner_opened
from .panels import Background, sentence, shown_in
from .picture_files import MadePictures
from .pictures import Viewer, ViewerPicture, fine_jpeg, shown_picture
from .preview_settings import preview_of
from .still import Still
from .telling import ProgressLine, Scores, alert, changed, loading_words, reading_html, score_html, smaller_words
from .tuner_panel import TunerPanel

E = TypeVar("E")

SETTLE = 0.06  # seconds without a new value before anything is begun,
REST = 0.5  # and after which the hand rests: then the full picture is made
MORE_SEEDS = 4  # pictures that one press makes of other seeds
STILL = 384  # px of the picture that stays in the notebook's file


@dataclass(frozen=True)
class Request:
    """What the worker is to make; `preview`: a quick one first, where there is a quicker one.

    `beside`: pictures for the filmstrip instead, one after another, while the viewer shows what it shows.
    """

    settings: Settings
    preview: bool = True
    beside: tuple[Settings, ...] = ()


class Tuner(TunerPanel):
    """A panel of controls beside the picture they make. Display it in a notebook: `Tuner("embedded")`.

    Moving a control runs only the stages that it acts on: a preview of few steps at once, the full picture when no control
    has been moved for a moment. A newer value or Cancel stops a render within one denoising step. Everything tried is in the
    session on disk and comes back after a reload or a restart. Without a browser (papermill) it shows the picture and its
    score instead.

    Attributes:
        result: the last full render; None before the first.
        scores: of that render.
        session: what was tried.
    """

    def __init__(
        self,
        preset: str | Settings = "embedded",
        *,
        session: str = "default",
        on: Bench | None = None,
        **settings: Value | None,
    ) -> None:
        """Begin with `preset`: the name or path of one, or `Settings` (`wall.selected`), whose preset is then "embedded".

        `settings` replace some of its values; None and "" leave them. `session` names the session: one that was begun with
        the same settings before opens where it was left. `on`: the bench that renders, else the process's own. Raises
        `PresetNotFound`, `BadPreset`, `SettingsError`, and `UsageError` for a session's name.
        """
        self._preset = "embedded" if isinstance(preset, Settings) else preset
        self.base = load_preset(self._preset).settings
        start = preset if isinstance(preset, Settings) else self.base
        start = start.replace(**{name: value for name, value in settings.items() if value not in ("", None)})
        self.session = TuningSession(session)
        self.settings = self.session.begin(start)
        self.result: Result | None = None
        self.scores: Scores | None = None
        self._bench = on
        self._count = 0  # makes ids of pictures
        self._variant: Variant | None = None  # what the viewer shows, once it is in the filmstrip
        self._made = MadePictures(self._at)
        self._fresh = Freshness()
        self._still = Still()
        self._loaded: set[str] = set()  # models that have made a step in this process
        self._dimmed: tuple[str, ...] = ()  # the stages whose controls' dimming is up to date
        self._failing = False  # the render that ended last failed
        if not headless():
            self._build()

    def _ipython_display_(self) -> None:
        if headless():
            self._report()
        else:
            last = self._variant
            self._still.show(self.strips.picture(last, STILL), self._about(last) if last else "")
            display(self.panel)
            tuner_opened(self.controls.show)
            self._moved(None)

    # --- the panel -----------------------------------------------------------------------------------------------

    def _build(self) -> None:
        names = [preset.name for preset in list_presets()]
        names += [] if self._preset in names else [self._preset]
        self.controls = Controls(self.settings, self._moved, reset_to=self.base)  # what is kept asks them
        self.keep = KeepBox(self.session, self._start_and_now, self._saved)
        viewer = Viewer(
            files=self._made.file, acts={"seeds": lambda _: self._seeds(self.settings)},
            menu=[("seeds", f"{MORE_SEEDS} more seeds")],
        )  # fmt: skip
        self.strips = Filmstrip(
            self.session, self._made, lambda: self.base,
            {"choose": self._chosen, "seeds": self._seeds_of, "compare": self._compare},
        )  # fmt: skip
        self.dropping = DropZone(self.controls.show)
        strips = (self.strips.history, self.strips.pins)
        presets = (names, self._preset)
        super().__init__(self.controls, presets, viewer, self.dropping, strips, self.keep, self._render)
        self.latest: Latest[Request] = Latest(self._work, self._render_failed, self._idle, SETTLE)
        self._wire()
        self._open_last()
        self._show_strips()
        Background(self._failed).submit(lambda: self.controls.offer(on_this_machine()))

    def _open_last(self) -> None:
        """Show the session's picture of the settings it was left at, else its newest: there is something to look at."""
        made = self.session.variants()
        same = [variant for variant in made if variant.settings == self.settings]
        if not made:
            return
        last = self._variant = (same or made)[-1]
        stage = last.settings.stages[-1]
        self._fresh.shown_alone(stage, last.settings)
        self._made.know(f"{stage} {last.number}", last.settings)
        self.viewer.stages = [self._other(last, stage)]
        self.viewer.face = list(last.face)
        self._age(self.settings)

    def _wire(self) -> None:
        self._preset_chosen = self._handled(self._other_preset)
        self.presets.observe(self._preset_chosen, "value")
        self.reload.on_click(self._handled(lambda _: self._load(str(self.presets.value))))
        self.render.on_click(lambda _: self._render())
        self.cancel.on_click(self._handled(lambda _: self.latest.cancel()))
        self.pin.on_click(self._handled(lambda _: self._pin()))

    def _handled(self, handler: Callable[[E], object]) -> Callable[[E], None]:
        """`handler`, with what it raises shown beside the picture."""
        return shown_in(self.message, handler, self._failed)

    # --- callbacks: they return at once --------------------------------------------------------------------------

    def _moved(self, name: str | None) -> None:
        """A control was moved: hand the newest settings to the worker."""
        if name is not None and name not in ABOVE:
            self.keep.axis.value = name
        try:
            settings = self.controls.settings()
        except SettingsError as error:
            self.latest.cancel()
            self.message.value, self.controls.tokens.value = alert(str(error)), ""
            self._age(None)
            return
        self._ask(Request(settings))

    def _render(self) -> None:
        """Make the full picture at once, without a preview."""
        self._handled(lambda _: self._ask(Request(self.controls.settings(), preview=False)))(None)

    def _ask(self, request: Request) -> None:
        self.message.value, self._failing = "", False
        self.settings = request.settings
        self._age(request.settings)
        self.cancel.disabled = False
        if request.settings.model not in self._loaded:
            self._tell(loading_words(self.session.loading.get(request.settings.model)))
        self.latest.submit(request)

    def _age(self, now: Settings | None) -> None:
        """Dim what is not of the settings `now`, which None is of values that do not go together."""
        self.viewer.stale = self._fresh.stale(now)
        self.pin.disabled = now is None or self._variant is None or self._variant.settings != now
        (self.score.remove_class if now and self._fresh.whole(now) else self.score.add_class)("wb-stale")

    def _other_preset(self, change: Bunch) -> None:
        self._load(str(change["new"]))

    def _load(self, name: str) -> None:
        self._preset, self.base = name, load_preset(name).settings
        self.controls.show(self.base, as_start=True)

    def _chosen(self, number: str) -> None:
        """A thumbnail was pressed: its settings come back, and so does its picture, from the store."""
        self._handled(lambda _: self.controls.show(self.session.variant(int(number)).settings))(None)

    def _compare(self, number: str) -> None:
        """A picture of the history is the other side of the slider from now on."""
        chosen = self._other(self.session.variant(int(number)), "compared")
        others = [picture for picture in self.viewer.others if picture["name"] != "compared"]
        with self.viewer.hold_sync():
            self.viewer.others, self.viewer.against = [*others, chosen], "compared"

    def _seeds_of(self, number: str) -> None:
        self._seeds(self.session.variant(int(number)).settings)

    def _seeds(self, settings: Settings) -> None:
        """Make the pictures of the seeds that follow this one."""
        seeds = [(settings.seed + n) % (MAX_SEED + 1) for n in range(1, MORE_SEEDS + 1)]
        self._failing, self.cancel.disabled = False, False
        self.latest.submit(Request(settings, beside=tuple(settings.replace(seed=seed) for seed in seeds)))

    def _pin(self) -> None:
        if self._variant is None or self._variant.settings != self.controls.settings():
            raise UsageError("the picture of these settings is not made yet; press Render, then Pin.")
        self.strips.pin(str(self._variant.number))

    # --- the worker ----------------------------------------------------------------------------------------------

    def _work(self, request: Request) -> None:
        """Make a preview, then the full picture when no control has been moved for `REST` seconds, then its score."""
        if request.beside:
            return self._make_beside(request.beside)
        began = time.monotonic()
        self.session.save(request.settings)
        words = reading_html(request.settings)
        self.latest.show(lambda: setattr(self.controls.tokens, "value", words))
        if request.settings.stages != self._dimmed:  # 0.1 s: else when the picture is there
            self._dim(request.settings)
        if request.preview and (preview := preview_of(request.settings, self._at())):
            self._make(preview, "preview", request.settings, began)
            self.latest.rest(REST)
        result = self._make(request.settings, "full", request.settings, began)
        scored = self._scored(result)
        self.latest.check()
        before, then = self.scores, self.result
        variant = self._added(result, *scored)
        self.strips.picture(variant)  # shrunk before the lock is taken: callbacks wait for it

        def paint() -> None:
            self.result, self.scores, self._variant = result, scored[1], variant
            self.viewer.face = list(variant.face)
            self.score.value = score_html(*scored, before, settings=(result.settings, then.settings) if then else None)
            self._show_strips(variant)
            self._age(request.settings)

        self.latest.show(paint)
        self._dim(request.settings)
        self._still.renew(self.strips.picture(variant, STILL), self._about(variant))

    def _dim(self, settings: Settings) -> None:
        """Dim the controls of settings that do nothing."""
        unused = unused_settings(settings)
        self.latest.show(lambda: self.controls.dim(unused))
        self._dimmed = settings.stages

    def _make_beside(self, wanted: tuple[Settings, ...]) -> None:
        """Make pictures for the filmstrip alone; those that are finished stay there when it is cancelled."""
        costs = Costs.at_home()
        for number, settings in enumerate(wanted, 1):
            seconds = partial(costs.seconds, s=settings)
            what = f"seed {settings.seed}, {number} of {len(wanted)}"
            progress = ProgressLine(settings, seconds, self._tell, what)

            def report(stage: str, done: int, total: int, progress: ProgressLine = progress) -> None:
                self.latest.check()
                progress.report(stage, done, total)

            result = self._at().generate(settings, report, lambda stage, _, done=progress: done.finished(stage))
            scored = self._scored(result)
            self.latest.check()
            self.strips.picture(self._added(result, *scored))
            self.latest.show(self.strips.show)

    def _scored(self, result: Result) -> tuple[str, Scores]:
        from workbench.scores import cell_scores  # loads torch: the panel is there before

        before = (result.stages[stage(result.settings)] for stage in (last_made, first_made))
        return cell_scores(result.image, *before)

    def _added(self, result: Result, status: str, scores: Scores) -> Variant:
        """Put the picture into the session on disk; return it as a variant."""
        size, box = result.image.size, scores["box"]
        face = tuple(round(v / size[i % 2], 5) for i, v in enumerate(face_square(box, size))) if box else ()
        return self.session.add(
            result.settings, fine_jpeg(result.image), status=status, sharpness=scores["sharpness"],
            flags=tuple(scores["flags"]), face=face,
        )  # fmt: skip

    def _make(self, settings: Settings, what: str, asked: Settings, began: float) -> Result:
        """Render, and show each stage as soon as it is finished.

        `asked`: the settings that a preview stands for; `began`: when the work on them was begun.
        """
        costs = Costs.at_home()
        progress = ProgressLine(settings, lambda stage: costs.seconds(stage, settings), self._tell, what)
        about = f"{what}: {changed(settings, self.base) or 'as in the preset'}; seed {settings.seed}"
        pictures: dict[str, ViewerPicture] = {
            stage["name"]: stage | {"pending": True} for stage in self.viewer.stages if stage["name"] in settings.stages
        }
        others, live = self._previous(), LivePicture(self.viewer, about, what)

        def look(stage: str, step: int, steps: int, image: Image.Image) -> None:
            self.latest.check()
            live.denoising(stage, step, steps, image)
            self.latest.show(live.paint)

        def report(stage: str, done: int, total: int) -> None:
            self.latest.check()
            self._stepped(settings.model, began)
            progress.report(stage, done, total)

        def show(stage: str, artefact: Artefact) -> None:
            self.latest.check()
            progress.finished(stage)
            self._count += 1
            self._made.know(str(self._count), settings, stage)
            pictures[stage] = shown_picture(str(self._count), stage, stages()[stage].label, artefact.image, about, what)
            ordered = [pictures[name] for name in settings.stages if name in pictures]
            live.finished(pictures[stage], last=stage == settings.stages[-1])

            def paint() -> None:
                with self.viewer.hold_sync():
                    self._fresh.painted(stage, asked, what)
                    self._paint(ordered, others, len(ordered) == len(settings.stages))
                    self._age(asked)
                    live.paint()

            self.latest.show(paint)

        self.latest.show(lambda: setattr(self.viewer, "busy", True))
        result = self._at().generate(settings, report, show, keep=what != "preview", preview=look)
        for stage, seconds in progress.seconds.items():
            costs.learn(stage, settings, seconds)
        costs.save()
        return result

    def _stepped(self, model: str, began: float) -> None:
        """A denoising step was made; what was before the first one of this process, was loading."""
        if model not in self._loaded:
            self._loaded.add(model)
            self.session.loading[model] = round(time.monotonic() - began, 1)
            self.session.save()

    def _paint(self, stages: list[ViewerPicture], others: list[ViewerPicture], whole: bool) -> None:
        """Show these pictures. `whole`: each stage is new; else some are of the render before, marked as pending."""
        names = [stage["name"] for stage in stages]
        # what a person chose to compare with stays, also where that was since the render began
        others = [*others, *(other for other in self.viewer.others if other["name"] == "compared")]
        with self.viewer.hold_sync():
            self.viewer.stages, self.viewer.others = stages, others
            if self.viewer.shown not in names:
                self.viewer.shown = ""  # the last one
            kept = (*names, *(other["name"] for other in others), "previous", "")
            if whole and self.viewer.against not in kept:  # "" was chosen: compare with nothing
                self.viewer.against = names[-2] if len(names) > 1 else ""

    def _previous(self) -> list[ViewerPicture]:
        """The picture that was shown last, to be compared with; [] before the first."""
        shown = self._variant
        return [self._other(shown, "previous")] if shown and shown.picture.exists() else []

    def _other(self, variant: Variant, name: str) -> ViewerPicture:
        about, image = f"full: {self._about(variant)}; seed {variant.settings.seed}", Image.open(variant.picture)
        return shown_picture(f"{name} {variant.number}", name, f"Picture {variant.number}", image, about, "full")

    def _about(self, variant: Variant) -> str:
        return changed(variant.settings, self.base) or "as in the preset"

    def _tell(self, words: str | Markup) -> None:
        self.state.value = Markup('<span class="wb-progress">{}</span>').format(words)

    def _idle(self, cancelled: bool) -> None:
        with self.viewer.hold_sync():
            self.viewer.busy = False
            self.viewer.live = []
            self.viewer.stages = [stage | {"pending": False} for stage in self.viewer.stages]
        self.cancel.disabled = True
        how = "failed" if self._failing else "cancelled" if cancelled else ""
        self._tell(self._fresh.ended(how, self.settings) if how else "ready")

    def _render_failed(self, error: Exception) -> None:
        self._failing = True
        self._failed(error)

    def _failed(self, error: Exception) -> None:
        """Show an error in one sentence, beside the picture."""
        self.message.value = alert(f"{sentence(error)}{smaller_words(error, self.settings)}")

    def _at(self) -> Bench:
        return self._bench or bench()

    def _show_strips(self, current: Variant | None = None) -> None:
        """Look at the session again; `current`: the picture that the viewer shows, the one of before if left out."""
        self.strips.show(current)
        self.controls.offer_prompts([variant.settings.prompt for variant in self.session.variants()[::-1]])

    # --- what is kept --------------------------------------------------------------------------------------------

    def _start_and_now(self) -> StartAndNow:
        return StartAndNow(self._preset, self.base, self.controls.settings())

    def _saved(self, name: str) -> None:
        """A preset was saved: it is on offer from now on."""
        if name not in self.presets.options:
            self.presets.unobserve(self._preset_chosen, "value")  # new options choose the first of them, for a moment
            self.presets.options, self.presets.value = (*self.presets.options, name), self.presets.value
            self.presets.observe(self._preset_chosen, "value")

    # --- without a browser ---------------------------------------------------------------------------------------

    def _report(self) -> None:
        """Render, and display the picture at each stage and its score as static outputs."""
        result = self.result = self._at().generate(self.settings)
        status, self.scores = self._scored(result)
        self._added(result, status, self.scores)
        display(Markdown(f"Preset **{self._preset}**, {changed(self.settings, self.base) or 'as it is'}"))
        display(Shown(jpeg(strip(dict(result.stages)))))
        # nobody can unfold it on a page of paper
        display(HTML(score_html(status, self.scores, None, unfolded=True)))
