"""The tuner: move a control, see the picture. One worker thread renders the newest settings; callbacks only submit them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from html import escape
from typing import Any

import ipywidgets as widgets
from IPython.display import HTML, Image as Shown, Markdown, display
from PIL import Image

from workbench.analysis import face_square
from workbench.errors import SettingsError, UsageError
from workbench.models import weights
from workbench.presets import Preset, check_preset_name, list_presets, load_preset, presets_folder
from workbench.promotion import licences
from workbench.recipe import Bench, Result, bench, stage_keys
from workbench.report import jpeg, strip
from workbench.settings import Settings, knobs
from workbench.sweeps import Costs

from ..execution import headless
from ..tuning_session import TuningSession, Variant
from .controls import ABOVE, LABEL, Controls
from .latest import Latest
from .panels import sentence
from .pictures import STATIC, Alive, Strip, Viewer
from .telling import NAMES, ProgressLine, alert, changed, last_stage, score_html

FEW = 4  # refiner steps of a preview
FEW_BASE = 10  # base steps of a preview
SETTLE = 0.06  # seconds without a new value before anything is begun,
REST = 0.5  # and after which the hand rests: then the full picture is made
QUALITY = 95  # of the JPEGs looked at: at 80 the ringing around eyelashes is taken for sharpness
PIN = 240  # px of a pinned picture's tile,
LARGE = 1024  # and of its picture, which may be zoomed into
THUMB = 192  # px of the pictures in the history


@dataclass(frozen=True)
class Request:
    """What the worker is to make; `preview` first where that is quicker."""

    settings: Settings
    preview: bool = True


class Tuner:
    """A panel of controls beside the picture they make. Display it in a notebook: `Tuner("embedded")`.

    Moving a control re-runs only the stages it acts on: a preview of few steps at once, the full picture when the hand rests.
    A newer value or Cancel stops a render within one denoising step. Everything tried is in the session on disk and comes
    back after a reload or a restart. Without a browser (papermill) it shows the picture and its score instead.

    Attributes:
        result: the last full render, a `pipeline.Result`; None before the first.
        session: what was tried.
    """

    def __init__(
        self, preset: str | Settings = "embedded", *, session: str = "default", on: Bench | None = None, **settings: Any
    ) -> None:
        """Begin with a preset (name or path) and `settings` other than its own; None and "" leave the preset's.

        `Settings` themselves (`wall.selected`, a result's) are begun with as they are; their preset is the embedded one.

        A session that was begun with these very ones opens where it was left. Raises `PresetNotFound`, `BadPreset`,
        `SettingsError`, and `UsageError` for a session's name.
        """
        self._preset = "embedded" if isinstance(preset, Settings) else preset
        self.base = load_preset(self._preset).settings
        start = preset if isinstance(preset, Settings) else self.base
        start = start.replace(**{name: value for name, value in settings.items() if value not in ("", None)})
        self.session = TuningSession(session)
        self.settings = self.session.begin(start)
        self.result: Result | None = None
        self.scores: dict[str, Any] | None = None
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
        self.reload = widgets.Button(
            icon="undo", tooltip="Set all controls back to the preset", layout={"width": "38px"}
        )
        self.state = widgets.HTML("ready")
        self.message = widgets.HTML("")
        self.kept = widgets.HTML("")  # what is said of axes and presets, beside their buttons
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
        self._wire()
        first = widgets.HBox([self.presets, self.reload])
        left = widgets.VBox([first, self.controls.above, self.controls.groups], layout={"width": "400px"})
        left.layout.flex = "0 1 400px"
        left.add_class("wb-controls")
        bar = widgets.HBox([self.cancel, self.pin])
        bar.add_class("wb-controls")
        # of one height, empty or of two lines: the picture must not jump while one looks at it, nor a slider under the hand
        self.state.layout.height = "46px"
        right = widgets.VBox(
            [bar, self.state, self.message, self.viewer, self.score], layout={"flex": "1 1 420px", "min_width": "0"}
        )
        columns = widgets.HBox([left, right], layout={"align_items": "flex-start", "flex_flow": "wrap"})
        columns.add_class("wb-columns")
        keep = widgets.VBox(
            [
                widgets.HBox([self.axis, self.add_axis, self.clear_axes], layout={"flex_flow": "wrap"}), self.axes,
                widgets.HBox([self.name, self.save], layout={"flex_flow": "wrap"}), self.kept,
            ]
        )  # fmt: skip
        keep.add_class("wb-controls")
        style = widgets.HTML(f"<style>{(STATIC / 'tuner.css').read_text()}</style>", layout={"display": "none"})
        self.panel = widgets.VBox(
            [
                Alive(), style,
                columns, self.history, self.pins, keep,
            ]
        )  # fmt: skip
        self.panel.add_class("wb-tuner")
        self._show_strips()
        self._show_axes()

    def _wire(self) -> None:
        """Handlers: whatever they raise is shown, since ipywidgets shows nothing of it."""
        self._preset_chosen = self._handled(lambda change: self._load(str(change["new"])))
        self.presets.observe(self._preset_chosen, "value")
        self.reload.on_click(self._handled(lambda _: self._load(str(self.presets.value))))
        self.cancel.on_click(self._handled(lambda _: self.latest.cancel()))
        self.pin.on_click(self._handled(lambda _: self._pin()))
        self.add_axis.on_click(self._handled(lambda _: self._add_axis(), self.kept))
        self.clear_axes.on_click(self._handled(lambda _: self._clear_axes(), self.kept))
        self.save.on_click(self._handled(lambda _: self._save(), self.kept))

    def _handled(self, handler: Any, where: Any = None) -> Any:
        def safely(event: Any) -> None:
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
            self.message.value = alert(str(error))
            return
        self.message.value = ""
        self.settings = settings
        self.cancel.disabled = False
        self.latest.submit(Request(settings))

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
        name = check_preset_name(self.name.value.strip())
        if name == "production":
            raise UsageError(
                "production is only written by a promotion, with its evidence; save under another name and let it "
                "challenge the champion in 04_promote."
            )
        about = "Saved from the tuner; not measured against any other."
        settings = self.controls.settings()
        saved = Preset(name, settings, about, licences=licences(settings)).save(presets_folder() / f"{name}.json")
        if name not in self.presets.options:
            self.presets.unobserve(self._preset_chosen, "value")  # new options choose the first of them, for a moment
            self.presets.options, self.presets.value = (*self.presets.options, name), self.presets.value
            self.presets.observe(self._preset_chosen, "value")
        self.kept.value = (
            f"<p>Saved as <code>{escape(str(saved.path))}</code>. {escape('; '.join(saved.licences))}.</p>"
        )

    # --- the worker ----------------------------------------------------------------------------------------------

    def _work(self, request: Request) -> None:
        """Preview, then the full picture once the hand rests, then its score."""
        self.session.save(request.settings)
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

    def _scored(self, result: Result) -> tuple[str, dict[str, Any]]:
        from workbench.scores import cell_scores  # loads torch: the panel is there before

        return cell_scores(result.image, result.stages[last_stage(result.settings)])

    def _added(self, result: Result, status: str, scores: dict[str, Any]) -> Variant:
        """The picture in the session, on disk."""
        size, box = result.image.size, scores["box"]
        face = tuple(round(v / size[i % 2], 5) for i, v in enumerate(face_square(box, size))) if box else ()
        return self.session.add(
            result.settings, _jpeg(result.image), status=status, sharpness=scores["sharpness"],
            flags=tuple(scores["flags"]), face=face,
        )  # fmt: skip

    def _make(self, settings: Settings, what: str) -> Result:
        """One render, each stage shown as it is finished."""
        costs = Costs.at_home()
        progress = ProgressLine(settings, lambda stage: costs.seconds(stage, settings), self._tell, what)
        about = f"{what}: {changed(settings, self.base) or 'as in the preset'}; seed {settings.seed}"
        stages = {s["name"]: s | {"pending": True} for s in self.viewer.stages if s["name"] in settings.stages}
        others = self._previous()

        def report(stage: str, done: int, total: int) -> None:
            self.latest.check()
            progress.report(stage, done, total)

        def show(stage: str, artefact: Any) -> None:
            self.latest.check()
            progress.finished(stage)
            self._count += 1
            stages[stage] = _shown(str(self._count), stage, NAMES[stage], artefact.image, about, what)
            ordered = [stages[name] for name in settings.stages if name in stages]
            self.latest.show(lambda: self._paint(ordered, others, len(ordered) == len(settings.stages)))

        self.latest.show(lambda: setattr(self.viewer, "busy", True))
        result = self._at().generate(settings, report, show)
        for stage, seconds in progress.seconds.items():
            costs.learn(stage, settings, seconds)
        costs.save()
        return result

    def _paint(self, stages: list[dict[str, Any]], others: list[dict[str, Any]], whole: bool) -> None:
        """A stage's picture stays, marked as pending, until the new one is there; each says what made it."""
        names = [stage["name"] for stage in stages]
        with self.viewer.hold_sync():
            self.viewer.stages, self.viewer.others = stages, others
            if self.viewer.shown not in names:
                self.viewer.shown = ""  # the last one
            if whole and self.viewer.against not in (*names, "previous", ""):  # "" was chosen: compare with nothing
                self.viewer.against = names[-2] if len(names) > 1 else ""

    def _previous(self) -> list[dict[str, Any]]:
        """The picture that was there before, to be compared with."""
        if self._variant is None:
            return []
        number, about = self._variant.number, changed(self._variant.settings, self.base)
        image = Image.open(self._variant.picture)
        return [_shown(f"variant {number}", "previous", f"Picture {number}", image, about, "full")]

    def _tell(self, words: str) -> None:
        self.state.value = f'<span class="wb-progress">{words}</span>'

    def _idle(self, cancelled: bool) -> None:
        with self.viewer.hold_sync():
            self.viewer.busy = False
            self.viewer.stages = [stage | {"pending": False} for stage in self.viewer.stages]
        self.cancel.disabled = True
        self.pin.disabled = self._variant is None
        self._tell("cancelled; finished stages are kept" if cancelled else "ready")

    def _failed(self, error: Exception, where: Any = None) -> None:
        """An error in one sentence, where the user looks."""
        (where or self.message).value = alert(f"{sentence(error)}{self._smaller(error)}")

    def _smaller(self, error: Exception) -> str:
        """After running out of memory: the largest size that should fit."""
        if not isinstance(error, weights.OutOfMemory) or (usable := weights.usable_memory()) is None:
            return ""
        fits = Costs.at_home().fitting(self.settings, usable)
        if fits is None:
            return f" No smaller size of this model is expected to fit into {usable / 1e9:.1f} GB."
        return f" {fits.width}x{fits.height} at hires_scale {fits.hires_scale:g} is expected to fit."

    def _at(self) -> Bench:
        return self._bench or bench()

    # --- strips and axes -----------------------------------------------------------------------------------------

    def _show_strips(self) -> None:
        variants = {v.number: v for v in self.session.variants()}
        pinned = [variants[n] for n in self.session.pins if n in variants]
        self.history.items = [self._item(v, THUMB) for v in variants.values()]
        self.pins.items = [self._item(v, LARGE) | {"removable": True} for v in pinned]
        self._thumbs = {key: made for key, made in self._thumbs.items() if key[0] in variants}
        now = str(self._variant.number) if self._variant else ""
        self.history.current = self.pins.current = now

    def _item(self, variant: Variant, side: int) -> dict[str, Any]:
        """What a strip shows of a variant; its picture is shrunk once."""
        key = (variant.number, side)
        if key not in self._thumbs:
            image = Image.open(variant.picture)
            image.draft("RGB", (side, side))
            image.thumbnail((side, side))
            self._thumbs[key] = _jpeg(image, 85)
        sharp = "not measured" if variant.sharpness is None else f"{variant.sharpness:.1f}{' !' * bool(variant.flags)}"
        words = changed(variant.settings, self.base) or "as in the preset"
        title = f"Picture {variant.number}: {words}. Press to get these settings back."
        about = {"caption": f"{sharp} · {words}", "title": title, "face": list(variant.face), "removable": False}
        return {"id": str(variant.number), "picture": self._thumbs[key], **about}

    def _show_axes(self) -> None:
        if not self.session.axes:
            self.axes.value = "No axes collected yet."
            return
        spec = self.session.write_spec(self._preset, self.base, self.settings)
        axes = " × ".join(f"{name} {', '.join(f'{v}' for v in values)}" for name, values in self.session.axes.items())
        self.axes.value = f"{escape(axes)}: in 02_sweep, <code>spec = {escape(repr(str(spec)))}</code>."

    # --- without a browser ---------------------------------------------------------------------------------------

    def _report(self) -> None:
        """The picture at each stage and its score, as static outputs."""
        result = self.result = self._at().generate(self.settings)
        status, self.scores = self._scored(result)
        self._added(result, status, self.scores)
        display(Markdown(f"Preset **{self._preset}**, {changed(self.settings, self.base) or 'as it is'}"))
        display(Shown(jpeg(strip(dict(result.stages)))))
        # nobody can unfold it on a page of paper
        display(HTML(score_html(status, self.scores, None).replace("<details>", "<details open>")))


def preview_of(settings: Settings, on: Bench) -> Settings | None:
    """The same picture in few steps, without upscaling; None where all diffusion is in the store, or would be as long.

    A base picture that is in the store is used as it is. Raises `MissingWeights`.
    """
    keys = stage_keys(settings)
    changes: dict[str, Any] = {}
    if keys["base"] not in on.store:
        changes["steps"] = min(settings.steps, FEW_BASE)
    if settings.hires and ("steps" in changes or keys["refine"] not in on.store):
        changes["refine_steps"] = min(settings.refine_steps, max(1, -int(-FEW // settings.strength)))
    preview = settings.replace(**changes, **({"upscaler": "none"} if changes else {}))
    fewer = preview.steps < settings.steps or preview.refine_steps < settings.refine_steps
    return preview if fewer else None


def _shown(key: str, name: str, title: str, image: Image.Image, about: str, what: str) -> dict[str, Any]:
    """A picture as the viewer takes it."""
    size = {"width": image.width, "height": image.height}
    label = f"{title} {image.width}×{image.height}"
    said = {"id": key, "name": name, "label": label, "about": about, "what": what, "pending": False}
    return {**said, **size, "picture": _jpeg(image)}


def _jpeg(image: Image.Image, quality: int = QUALITY) -> bytes:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()
