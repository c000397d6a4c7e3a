"""The tuner: move a control, see the picture. One worker thread renders the newest settings; callbacks only submit them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from IPython.display import HTML, Image as Shown, Markdown, display
from markupsafe import Markup
from PIL import Image
from traitlets import Bunch

from workbench.analysis import face_square
from workbench.errors import OutOfMemory, SettingsError, UsageError
from workbench.models import hardware
from workbench.presets import list_presets, load_preset
from workbench.recipe import Bench, Result, bench, first_made, last_made, unused_settings
from workbench.report import jpeg, strip
from workbench.settings import Settings, Value, stages
from workbench.store import Artefact
from workbench.sweeps import Costs

from ..front_end import headless
from ..tuning_session import TuningSession, Variant
from .controls import ABOVE, Controls
from .fields import on_this_machine
from .freshness import Freshness
from .keeping import KeepBox, StartAndNow
from .latest import Latest
from .panels import Background, sentence, shown_in
from .pictures import Strip, StripItem, Thumbnails, ViewerPicture, fine_jpeg, viewer_picture
from .preview_settings import preview_of
from .still import Still
from .telling import ProgressLine, Scores, alert, changed, loading_words, reading_html, score_html
from .tuner_panel import TunerPanel

E = TypeVar("E")

SETTLE = 0.06  # seconds without a new value before anything is begun,
REST = 0.5  # and after which the hand rests: then the full picture is made
PIN = 240  # px of a pinned picture's tile,
LARGE = 1024  # and of its picture, which may be zoomed into
THUMB = 192  # px of the pictures in the history,
STILL = 384  # and of the one that stays in the notebook's file


@dataclass(frozen=True)
class Request:
    """What the worker is to make; `preview`: a quick one first, where there is a quicker one."""

    settings: Settings
    preview: bool = True


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
        self._thumbs = Thumbnails()
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
            self._still.show(last and self._thumbs(last, STILL), self._about(last) if last else "")
            display(self.panel)
            self._moved(None)

    # --- the panel -----------------------------------------------------------------------------------------------

    def _build(self) -> None:
        names = [preset.name for preset in list_presets()]
        names += [] if self._preset in names else [self._preset]
        self.controls = Controls(self.settings, self._moved, reset_to=self.base)  # what is kept asks them
        self.keep = KeepBox(self.session, self._start_and_now, self._saved)
        strips = (
            Strip(label="History", chosen=self._chosen, newest_last=True),
            Strip(label="Pinned pictures", chosen=self._chosen, removed=self._unpinned, tile=PIN),
        )
        super().__init__(self.controls, (names, self._preset), strips, self.keep, self._render)
        self.latest: Latest[Request] = Latest(self._work, self._render_failed, self._idle, SETTLE)
        self._wire()
        self._open_last()
        self._show_strips()
        Background(self._failed).submit(lambda: self.controls.offer(on_this_machine()))

    def _open_last(self) -> None:
        """Show the session's picture of the settings it was left at, else its newest: there is something to look at."""
        made = self.session.variants()
        last = next(
            (variant for variant in made[::-1] if variant.settings == self.settings), made[-1] if made else None
        )
        if last is None:
            return
        stage, about = last.settings.stages[-1], f"full: {self._about(last)}; seed {last.settings.seed}"
        image = Image.open(last.picture)
        self._variant = last
        self._fresh.shown_alone(stage, last.settings)
        self.viewer.stages = [
            viewer_picture(f"variant {last.number}", stage, stages()[stage].label, image, about, "full")
        ]
        self.viewer.face = list(last.face)
        self._age(self.settings)

    def _wire(self) -> None:
        self._preset_chosen = self._handled(self._other_preset)
        self.presets.observe(self._preset_chosen, "value")
        self.reload.on_click(self._handled(lambda _: self._load(str(self.presets.value))))
        self.render.on_click(lambda _: self._render())
        self.cancel.on_click(self._handled(lambda _: self.latest.cancel()))
        self.pin.on_click(self._handled(lambda _: self._pin()))

    def _handled(self, handler: Callable[[E], None]) -> Callable[[E], None]:
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

    def _unpinned(self, number: str) -> None:
        self.session.unpin(int(number))
        self._show_strips()

    def _pin(self) -> None:
        if self._variant is None or self._variant.settings != self.controls.settings():
            raise UsageError("the picture of these settings is not made yet; press Render, then Pin.")
        self.session.pin(self._variant.number)
        self._show_strips()

    # --- the worker ----------------------------------------------------------------------------------------------

    def _work(self, request: Request) -> None:
        """Make a preview, then the full picture when no control has been moved for `REST` seconds, then its score."""
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
        before = self.scores
        variant = self._added(result, *scored)
        self._item(variant, THUMB)  # shrunk before the lock is taken: callbacks wait for it

        def paint() -> None:
            self.result, self.scores, self._variant = result, scored[1], variant
            self.viewer.face = list(variant.face)
            self.score.value = score_html(*scored, before)
            self._show_strips()
            self._age(request.settings)

        self.latest.show(paint)
        self._dim(request.settings)
        self._still.renew(self._thumbs(variant, STILL), self._about(variant))

    def _dim(self, settings: Settings) -> None:
        """Dim the controls of settings that do nothing."""
        unused = unused_settings(settings)
        self.latest.show(lambda: self.controls.dim(unused))
        self._dimmed = settings.stages

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
        others = self._previous()

        def report(stage: str, done: int, total: int) -> None:
            self.latest.check()
            self._stepped(settings.model, began)
            progress.report(stage, done, total)

        def show(stage: str, artefact: Artefact) -> None:
            self.latest.check()
            progress.finished(stage)
            self._count += 1
            pictures[stage] = viewer_picture(
                str(self._count), stage, stages()[stage].label, artefact.image, about, what
            )
            ordered = [pictures[name] for name in settings.stages if name in pictures]

            def paint() -> None:
                self._fresh.painted(stage, asked, what)
                self._paint(ordered, others, len(ordered) == len(settings.stages))
                self._age(asked)

            self.latest.show(paint)

        self.latest.show(lambda: setattr(self.viewer, "busy", True))
        result = self._at().generate(settings, report, show, keep=what != "preview")
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
        with self.viewer.hold_sync():
            self.viewer.stages, self.viewer.others = stages, others
            if self.viewer.shown not in names:
                self.viewer.shown = ""  # the last one
            if whole and self.viewer.against not in (*names, "previous", ""):  # "" was chosen: compare with nothing
                self.viewer.against = names[-2] if len(names) > 1 else ""

    def _previous(self) -> list[ViewerPicture]:
        """The picture that was shown last, to be compared with; [] before the first."""
        if self._variant is None:
            return []
        number, about = self._variant.number, f"full: {self._about(self._variant)}"
        try:
            image = Image.open(self._variant.picture)
        except FileNotFoundError:  # another kernel has made it again, under another number
            return []
        return [viewer_picture(f"variant {number}", "previous", f"Picture {number}", image, about, "full")]

    def _about(self, variant: Variant) -> str:
        return changed(variant.settings, self.base) or "as in the preset"

    def _tell(self, words: str | Markup) -> None:
        self.state.value = Markup('<span class="wb-progress">{}</span>').format(words)

    def _idle(self, cancelled: bool) -> None:
        with self.viewer.hold_sync():
            self.viewer.busy = False
            self.viewer.stages = [stage | {"pending": False} for stage in self.viewer.stages]
        self.cancel.disabled = True
        how = "failed" if self._failing else "cancelled" if cancelled else ""
        self._tell(self._fresh.ended(how, self.settings) if how else "ready")

    def _render_failed(self, error: Exception) -> None:
        self._failing = True
        self._failed(error)

    def _failed(self, error: Exception) -> None:
        """Show an error in one sentence, beside the picture."""
        self.message.value = alert(f"{sentence(error)}{self._smaller(error)}")

    def _smaller(self, error: Exception) -> str:
        """The largest size that should fit, in a sentence; "" where memory was not the trouble."""
        if not isinstance(error, OutOfMemory) or (usable := hardware.usable_memory()) is None:
            return ""
        fits = Costs.at_home().fitting(self.settings, usable)
        if fits is None:
            return f" No smaller size of this model is expected to fit into {usable / 1e9:.1f} GB."
        return f" With {changed(fits, self.settings)} it is expected to fit."

    def _at(self) -> Bench:
        return self._bench or bench()

    # --- strips ----------------------------------------------------------------------------------------------------

    def _show_strips(self) -> None:
        variants = {v.number: v for v in self.session.variants()}
        pinned = [variants[n] for n in self.session.pins if n in variants]
        self.history.items = [self._item(v, THUMB) for v in variants.values()]
        self.pins.items = [self._item(v, LARGE, removable=True) for v in pinned]
        self._thumbs.keep(variants)
        now = str(self._variant.number) if self._variant else ""
        self.history.current = self.pins.current = now
        self.controls.offer_prompts([variant.settings.prompt for variant in reversed(variants.values())])

    def _item(self, variant: Variant, side: int, *, removable: bool = False) -> StripItem:
        """What a strip shows of a variant. `side`: of its picture in px, which is shrunk once and kept."""
        sharp = "not measured" if variant.sharpness is None else f"{variant.sharpness:.1f}{' !' * bool(variant.flags)}"
        words = self._about(variant)
        title = f"Picture {variant.number}: {words}. Press to get these settings back."
        return StripItem(
            id=str(variant.number),
            picture=self._thumbs(variant, side),
            caption=f"{sharp} · {words}",
            title=title,
            face=list(variant.face),
            removable=removable,
        )

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
