"""The tuner: move a control, see the picture. One worker thread renders the newest settings; callbacks only submit them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import ipywidgets as widgets
from IPython.display import HTML, Image as Shown, Markdown, display
from markupsafe import Markup
from PIL import Image
from traitlets import Bunch

from workbench.analysis import face_square
from workbench.errors import OutOfMemory, SettingsError, UsageError
from workbench.files import jpeg_bytes
from workbench.models import hardware
from workbench.presets import Preset, check_replaceable, licences, list_presets, load_preset, presets_folder
from workbench.recipe import Bench, Result, bench, first_made, last_made
from workbench.report import jpeg, strip
from workbench.settings import Settings, Value, knobs, stages
from workbench.store import Artefact
from workbench.sweeps import Costs

from ..front_end import headless
from ..tuning_session import TuningSession, Variant
from .controls import ABOVE, LABEL, Controls
from .duelling import Duelling, said_in, session_candidate
from .latest import Latest
from .live import LivePicture
from .panels import sentence
from .pictures import Alive, Strip, StripItem, Viewer, ViewerPicture, fine_jpeg, shown_picture
from .preview_settings import preview_of
from .scripts import style
from .telling import ProgressLine, Scores, alert, changed, damaged_html, reading_html, score_html

E = TypeVar("E")  # the event that a handler takes

SETTLE = 0.06  # seconds without a new value before anything is begun,
REST = 0.5  # and after which the hand rests: then the full picture is made
PIN = 240  # px of a pinned picture's tile,
LARGE = 1024  # and of its picture, which may be zoomed into
THUMB = 192  # px of the pictures in the history


@dataclass(frozen=True)
class Request:
    """What the worker is to make; `preview`: a quick one first, where there is a quicker one."""

    settings: Settings
    preview: bool = True


class Tuner:
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
        self._thumbs: dict[tuple[int, int], bytes] = {}  # {(number, side in px): JPEG}
        if not headless():
            self._build()

    def _ipython_display_(self) -> None:
        if headless():
            self._report()
        else:
            display(self.panel)
            self._moved(None)

    # --- the panel -----------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.controls = Controls(self.settings, self._moved, reset_to=self.base)
        self.latest: Latest[Request] = Latest(self._work, self._failed, self._idle, SETTLE)
        names = [preset.name for preset in list_presets()]
        self.presets = widgets.Dropdown(
            options=[*names, *([] if self._preset in names else [self._preset])], value=self._preset,
            description="Preset", tooltip="Load the settings of a preset", style={"description_width": LABEL},
            layout={"width": "auto", "flex": "1 1 auto", "min_width": "0"},
        )  # fmt: skip
        self.reload = widgets.Button(icon="undo", tooltip="Set all controls to the preset's", layout={"width": "38px"})
        self.state = widgets.HTML("ready")
        self.message = widgets.HTML("")
        self.kept = widgets.HTML(damaged_html())  # what is said of axes and presets, beside their buttons
        self.cancel = widgets.Button(
            description="Cancel", icon="stop", disabled=True, tooltip="Stop within one denoising step"
        )
        self.pin = widgets.Button(description="Pin", icon="thumb-tack", disabled=True, tooltip="Keep beside the others")
        self.viewer = Viewer()
        self.score = widgets.HTML("")
        self.pins = Strip(label="Pinned pictures", chosen=self._chosen, removed=self._unpinned, tile=PIN)
        self.history = Strip(label="History", chosen=self._chosen, newest_last=True)
        widgets.jslink((self.viewer, "zoom"), (self.pins, "zoom"))
        self.axis = widgets.Dropdown(
            options=[(k.label, n) for n, k in knobs().items() if n != "seed"], value="strength", description="Axis",
            tooltip="The setting to sweep", layout={"width": "260px"},
        )  # fmt: skip
        self.add_axis = widgets.Button(
            description="Add to sweep as axis",
            icon="plus",
            tooltip="With the values tried here",
            layout={"width": "auto"},
        )
        self.clear_axes = widgets.Button(description="Clear", tooltip="Forget the axes", layout={"width": "auto"})
        self.axes = widgets.HTML("")
        self.name = widgets.Text(description="Name", placeholder="my-preset", layout={"width": "240px"},
                                 tooltip="Lower-case letters, digits, '.', '_' and '-'")  # fmt: skip
        self.save = widgets.Button(description="Save as preset", icon="save", layout={"width": "auto"})
        self.promote = widgets.Button(
            description="Promote", icon="trophy", tooltip="Let it meet production on new seeds"
        )
        self._duelling = Duelling(said_in(self.kept))
        self._wire()
        first = widgets.HBox([self.presets, self.reload])
        left = widgets.VBox([first, self.controls.above, self.controls.groups], layout={"width": "400px"})
        left.layout.flex = "0 1 400px"
        left.add_class("wb-controls")
        bar = widgets.HBox([self.cancel, self.pin])
        bar.add_class("wb-controls")
        # of the same height with no line and with two, so that neither the picture nor a slider moves while it is used
        self.state.layout.height = "46px"
        right = widgets.VBox(
            [bar, self.state, self.message, self.viewer, self.score], layout={"flex": "1 1 420px", "min_width": "0"}
        )
        columns = widgets.HBox([left, right], layout={"align_items": "flex-start", "flex_flow": "wrap"})
        columns.add_class("wb-columns")
        keep = widgets.VBox(
            [
                widgets.HBox([self.axis, self.add_axis, self.clear_axes], layout={"flex_flow": "wrap"}), self.axes,
                widgets.HBox([self.name, self.save, self.promote], layout={"flex_flow": "wrap"}), self.kept,
            ]
        )  # fmt: skip
        keep.add_class("wb-controls")
        sheet = widgets.HTML(f"<style>{style('tuner')}</style>", layout={"display": "none"})
        self.panel = widgets.VBox([Alive(), sheet, columns, self.history, self.pins, keep])
        self.panel.add_class("wb-tuner")
        self._show_strips()
        self._show_axes()

    def _wire(self) -> None:
        """Connect the handlers. What they raise is shown, since ipywidgets shows nothing of it."""
        self._preset_chosen = self._handled(self._other_preset)
        self.presets.observe(self._preset_chosen, "value")
        self.reload.on_click(self._handled(lambda _: self._load(str(self.presets.value))))
        self.cancel.on_click(self._handled(lambda _: self.latest.cancel()))
        self.pin.on_click(self._handled(lambda _: self._pin()))
        self.add_axis.on_click(self._handled(lambda _: self._add_axis(), self.kept))
        self.clear_axes.on_click(self._handled(lambda _: self._clear_axes(), self.kept))
        self.save.on_click(self._handled(lambda _: self._save(), self.kept))
        self.promote.on_click(self._handled(lambda _: self._promote(), self.kept))

    def _handled(self, handler: Callable[[E], None], where: widgets.HTML | None = None) -> Callable[[E], None]:
        """`handler`, with what it raises shown in `where`; left out: beside the picture."""

        def safely(event: E) -> None:
            try:
                (where or self.message).value = ""
                handler(event)
            except Exception as error:
                self._failed(error, where)

        return safely

    # --- callbacks: they return at once --------------------------------------------------------------------------

    def _moved(self, name: str | None) -> None:
        """A control was moved: hand the newest settings to the worker."""
        if name is not None and name not in ABOVE:
            self.axis.value = name
        try:
            settings = self.controls.settings()
        except SettingsError as error:
            self.latest.cancel()
            self.message.value, self.controls.tokens.value = alert(str(error)), ""
            return
        self.message.value = ""
        self.settings = settings
        self.cancel.disabled = False
        self.latest.submit(Request(settings))

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
        self._keep()

    def _pin(self) -> None:
        if self._variant is not None:
            self.session.pin(self._variant.number)
            self._keep()

    def _keep(self) -> None:
        self.session.save()
        self._show_strips()

    def _add_axis(self) -> None:
        self.session.add_axis(str(self.axis.value), self.settings)
        self.session.save()
        self._show_axes()

    def _clear_axes(self) -> None:
        self.session.clear_axes()
        self.session.save()
        self._show_axes()

    def _save(self) -> None:
        name = check_replaceable(self.name.value.strip())
        if name == "production":
            raise UsageError("production is only written by a promotion: press Promote, or take another name.")
        about = "Saved from the tuner; not measured against any other."
        settings = self.controls.settings()
        saved = Preset(name, settings, about, licences=licences(settings)).save(presets_folder() / f"{name}.json")
        if name not in self.presets.options:
            self.presets.unobserve(self._preset_chosen, "value")  # new options choose the first of them, for a moment
            self.presets.options, self.presets.value = (*self.presets.options, name), self.presets.value
            self.presets.observe(self._preset_chosen, "value")
        licence = "; ".join(saved.licences)
        self.kept.value = Markup("<p>Saved as <code>{}</code>. {}.</p>").format(saved.path, licence)

    def _promote(self) -> None:
        settings, started = self.controls.settings(), self._preset
        self._duelling.ask(lambda: session_candidate(self.session, settings, started))

    # --- the worker ----------------------------------------------------------------------------------------------

    def _work(self, request: Request) -> None:
        """Make a preview, then the full picture when no control has been moved for `REST` seconds, then its score."""
        self.session.save(request.settings)
        words = reading_html(request.settings)
        self.latest.show(lambda: setattr(self.controls.tokens, "value", words))
        if request.preview and (preview := preview_of(request.settings, self._at())):
            self._make(preview, "preview")
            self.latest.rest(REST)
        result = self._make(request.settings, "full")
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

        self.latest.show(paint)

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

    def _make(self, settings: Settings, what: str) -> Result:
        """Render, and show each stage as soon as it is finished."""
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
            progress.report(stage, done, total)

        def show(stage: str, artefact: Artefact) -> None:
            self.latest.check()
            progress.finished(stage)
            self._count += 1
            pictures[stage] = shown_picture(str(self._count), stage, stages()[stage].label, artefact.image, about, what)
            ordered = [pictures[name] for name in settings.stages if name in pictures]
            live.finished(pictures[stage], last=stage == settings.stages[-1])

            def paint() -> None:
                with self.viewer.hold_sync():
                    self._paint(ordered, others, len(ordered) == len(settings.stages))
                    live.paint()

            self.latest.show(paint)

        self.latest.show(lambda: setattr(self.viewer, "busy", True))
        result = self._at().generate(settings, report, show, keep=what != "preview", preview=look)
        for stage, seconds in progress.seconds.items():
            costs.learn(stage, settings, seconds)
        costs.save()
        return result

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
        number, about = self._variant.number, changed(self._variant.settings, self.base)
        image = Image.open(self._variant.picture)
        return [shown_picture(f"variant {number}", "previous", f"Picture {number}", image, about, "full")]

    def _tell(self, words: str | Markup) -> None:
        self.state.value = Markup('<span class="wb-progress">{}</span>').format(words)

    def _idle(self, cancelled: bool) -> None:
        with self.viewer.hold_sync():
            self.viewer.busy = False
            self.viewer.live = []
            self.viewer.stages = [stage | {"pending": False} for stage in self.viewer.stages]
        self.cancel.disabled = True
        self.pin.disabled = self._variant is None
        self._tell("cancelled; finished stages are kept" if cancelled else "ready")

    def _failed(self, error: Exception, where: widgets.HTML | None = None) -> None:
        """Show an error in one sentence, in `where`; left out: beside the picture."""
        (where or self.message).value = alert(f"{sentence(error)}{self._smaller(error)}")

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

    # --- strips and axes -----------------------------------------------------------------------------------------

    def _show_strips(self) -> None:
        variants = {v.number: v for v in self.session.variants()}
        pinned = [variants[n] for n in self.session.pins if n in variants]
        self.history.items = [self._item(v, THUMB) for v in variants.values()]
        self.pins.items = [self._item(v, LARGE, removable=True) for v in pinned]
        self._thumbs = {key: made for key, made in self._thumbs.items() if key[0] in variants}
        now = str(self._variant.number) if self._variant else ""
        self.history.current = self.pins.current = now

    def _item(self, variant: Variant, side: int, *, removable: bool = False) -> StripItem:
        """What a strip shows of a variant. `side`: of its picture in px, which is shrunk once and kept."""
        key = (variant.number, side)
        if key not in self._thumbs:
            image = Image.open(variant.picture)
            image.draft("RGB", (side, side))
            image.thumbnail((side, side))
            self._thumbs[key] = jpeg_bytes(image, 85, fine_colour=True)
        sharp = "not measured" if variant.sharpness is None else f"{variant.sharpness:.1f}{' !' * bool(variant.flags)}"
        words = changed(variant.settings, self.base) or "as in the preset"
        title = f"Picture {variant.number}: {words}. Press to get these settings back."
        return StripItem(
            id=str(variant.number),
            picture=self._thumbs[key],
            caption=f"{sharp} · {words}",
            title=title,
            face=list(variant.face),
            removable=removable,
        )

    def _show_axes(self) -> None:
        if not self.session.axes:
            self.axes.value = "No axes collected yet."
            return
        spec = self.session.write_spec(self._preset, self.base, self.settings)
        axes = " × ".join(f"{name} {', '.join(f'{v}' for v in values)}" for name, values in self.session.axes.items())
        self.axes.value = Markup("{}: in 02_sweep, <code>spec = {}</code>.").format(axes, repr(str(spec)))

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
