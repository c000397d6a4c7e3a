"""The tuner without a browser: its controls are moved as a front end would, by setting their values."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.runs import met
from support.widgets import ask
from traitlets import TraitError

from workbench.errors import Cancelled, OutOfMemory
from workbench.models import hardware
from workbench.notebook.tuning_session import TuningSession
from workbench.notebook.widgets import Tuner, tuner as tuner_module
from workbench.notebook.widgets.controls import Controls
from workbench.notebook.widgets.latest import Latest
from workbench.notebook.widgets.preview_settings import preview_of
from workbench.notebook.widgets.telling import ProgressLine, changed, score_html
from workbench.presets import Preset, load_preset, presets_folder
from workbench.recipe.denoising import Diffusion
from workbench.recipe.pipeline import Bench
from workbench.settings import Settings, knobs
from workbench.sweeps.planning import plan


@pytest.fixture(autouse=True)
def widgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_WIDGETS", "on")


@pytest.fixture
def start(tiny: Settings) -> Settings:
    settings = tiny.replace(restorer="codeformer", steps=12, refine_steps=30, strength=0.5)
    Preset("tiny", settings).save(presets_folder() / "tiny.json")
    Preset("another", settings.replace(weight=0.1)).save(presets_folder() / "another.json")  # first in the drop-down
    return settings


@pytest.fixture
def tuner(start: Settings, bench: Bench) -> Tuner:
    tuner = Tuner("tiny", on=bench)
    tuner._moved(None)
    assert tuner.latest.wait(60)
    return tuner


def move(tuner: Tuner, **values: Any) -> None:
    for name, value in values.items():
        tuner.controls.fields[name].value = value


def until(condition: Callable[[], bool], what: str = "it") -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.005)


# --- controls --------------------------------------------------------------------------------------------------------


def test_every_setting_has_a_control_with_its_range_and_words() -> None:
    settings = load_preset("embedded").settings
    controls = Controls(settings, lambda name: None)
    assert controls.settings() == settings
    for name, knob in knobs().items():
        field: Any = controls.fields[name]  # a slider, a list, a box
        assert knob.label in field.description and knob.help in field.tooltip and knob.allowed in field.tooltip
        if knob.choices:
            assert field.options == knob.choices
        elif knob.kind in ("int", "float"):
            assert (field.minimum, field.maximum, field.step) == (knob.minimum, knob.maximum, knob.step)
            assert (field.low, field.high) == knob.useful and field.whole == (knob.kind == "int")
            assert field.minimum <= field.low < field.high <= field.maximum
            assert field.slider == (knob.name != "seed")


def test_a_number_is_taken_as_it_was_typed() -> None:
    """It was rounded to the slider's step, and brought into its range, in silence."""
    fields = Controls(load_preset("embedded").settings, lambda name: None).fields
    strength, cfg, seed = fields["strength"], fields["base_cfg"], fields["seed"]
    strength.value = 0.37
    cfg.value = 25  # beyond the slider, as JavaScript sends it
    assert strength.value == 0.37 and cfg.value == 25.0 and type(cfg.value) is float
    with pytest.raises(TraitError, match="no whole number"):
        seed.value = 1.5
    seed.value = 7.0
    assert type(seed.value) is int


def test_reset_is_offered_only_where_it_would_do_something() -> None:
    settings = load_preset("embedded").settings
    moved: list[str | None] = []
    controls = Controls(settings, moved.append)
    assert all(button.disabled for button in controls._resets.values())
    controls.fields["weight"].value = 0.9
    assert [name for name, button in controls._resets.items() if not button.disabled] == ["weight"]
    assert "0.6" in str(controls._resets["weight"].tooltip)
    controls._resets["weight"].click()
    assert controls.settings() == settings and moved == ["weight", "weight"]
    assert controls._resets["weight"].disabled


def test_a_locked_seed_stays_and_the_dice_draw_another() -> None:
    settings = load_preset("embedded").settings
    moved: list[str | None] = []
    controls = Controls(settings, moved.append)
    controls.dice.click()
    drawn = controls.fields["seed"].value
    assert drawn != settings.seed and moved == ["seed"]
    controls.lock.value = True
    assert controls.dice.disabled
    controls.show(settings.replace(weight=0.1, seed=3))
    assert controls.settings() == settings.replace(weight=0.1, seed=drawn)
    controls.lock.value = False
    controls.show(settings.replace(seed=3))
    assert controls.settings().seed == 3
    assert moved == ["seed", None, None]  # many at once are one change


# --- the newest request wins -----------------------------------------------------------------------------------------


def test_latest_drops_what_is_older_and_shows_nothing_stale() -> None:
    shown, gate = [], threading.Event()

    def work(n: int) -> None:
        gate.wait(10)
        latest.show(lambda: shown.append(n))

    latest: Latest[int] = Latest(work, lambda error: None, lambda cancelled: None)
    latest.submit(0)
    until(lambda: latest.started == 1)
    for n in range(1, 20):
        latest.submit(n)
    gate.set()
    assert latest.wait(10)
    assert shown == [19] and latest.started == 2


def test_latest_tells_of_errors_and_goes_on() -> None:
    errors: list[Exception] = []
    idle: list[bool] = []

    def work(n: int) -> None:
        if n == 1:
            raise ValueError("one")

    latest: Latest[int] = Latest(work, errors.append, idle.append)
    latest.submit(1)
    assert latest.wait(10) and [str(error) for error in errors] == ["one"]
    latest.submit(2)
    assert latest.wait(10) and len(errors) == 1 and latest.started == 2 and idle == [False, False]


def test_an_error_of_what_nobody_asks_for_any_more_is_not_told() -> None:
    errors: list[Exception] = []
    gate = threading.Event()

    def work(n: int) -> None:
        gate.wait(10)
        if n == 1:
            raise ValueError("one")

    latest: Latest[int] = Latest(work, errors.append, lambda cancelled: None)
    latest.submit(1)
    until(lambda: latest.started == 1)
    latest.submit(2)
    gate.set()
    assert latest.wait(10) and latest.started == 2 and errors == []


def test_nothing_is_begun_while_values_still_come() -> None:
    worked: list[int] = []
    latest: Latest[int] = Latest(worked.append, lambda error: None, lambda cancelled: None, settle=0.3)
    for n in range(6):
        latest.submit(n)
        time.sleep(0.05)
    assert latest.wait(10) and worked == [5] and latest.started == 1


def test_rest_waits_for_the_hand_and_gives_way_to_a_newer_value() -> None:
    ended: list[str] = []

    def work(n: int) -> None:
        try:
            latest.rest(0.3)
            ended.append(f"{n} rested")
        except Cancelled:
            ended.append(f"{n} gave way")
            raise

    latest: Latest[int] = Latest(work, lambda error: None, lambda cancelled: None)
    latest.submit(1)
    until(lambda: latest.started == 1)
    began = time.monotonic()
    latest.submit(2)
    assert latest.wait(10)
    assert ended == ["1 gave way", "2 rested"] and time.monotonic() - began >= 0.3


# --- the tuner -------------------------------------------------------------------------------------------------------


def test_it_shows_every_stage_the_score_and_the_history(tuner: Tuner, start: Settings) -> None:
    assert [stage["name"] for stage in tuner.viewer.stages] == ["base", "refine", "faces"]
    assert not any(stage["pending"] for stage in tuner.viewer.stages)
    assert all(stage["what"] == "full" for stage in tuner.viewer.stages)
    assert tuner.viewer.against == "refine" and not tuner.viewer.busy and tuner.cancel.disabled
    assert "not measured" in tuner.score.value and "no face" in tuner.score.value
    assert len(tuner.history.items) == 1 and tuner.result is not None
    assert tuner.result.settings == start
    assert tuner.result.image.tobytes() == Bench().generate(start).image.tobytes()


def test_moving_the_weight_never_runs_diffusion(tuner: Tuner, bench: Bench) -> None:
    before = bench.counters()
    whats: list[set[str]] = []
    tuner.viewer.observe(lambda change: whats.append({stage["what"] for stage in change["new"]}), "stages")
    move(tuner, weight=0.9)
    assert tuner.latest.wait(60)
    after = bench.counters()
    assert after["unet_evaluations"] == before["unet_evaluations"]
    assert after["stages"]["faces"] == before["stages"]["faces"] + 1
    assert all(what == {"full"} for what in whats)
    assert tuner.result is not None and tuner.result.settings.weight == 0.9
    assert tuner.keep.axis.value == "weight"


def test_a_preview_comes_first_and_the_full_picture_when_the_hand_rests(tuner: Tuner, start: Settings) -> None:
    fresh: list[tuple[str, str]] = []
    tuner.viewer.observe(
        lambda change: fresh.append([(s["what"], s["name"]) for s in change["new"] if not s["pending"]][-1]), "stages"
    )
    move(tuner, strength=0.6)
    assert tuner.latest.wait(60)
    order = [what for what, name in fresh if name == "faces"]
    assert order[0] == "preview" and order[-1] == "full"
    assert tuner.result is not None and tuner.result.settings == start.replace(strength=0.6)
    assert "strength 0.6" in tuner.viewer.stages[-1]["about"]
    assert [v.settings.strength for v in tuner.session.variants()] == [0.5, 0.6]  # previews are not kept


def test_ten_fast_moves_start_five_renders_at_most_and_paint_nothing_stale(tuner: Tuner, bench: Bench) -> None:
    stale: list[str] = []

    def painted(change: Any) -> None:
        now = f"weight {tuner.controls.fields['weight'].value:g};"
        stale.extend(s["about"] for s in change["new"] if not s["pending"] and now not in s["about"])

    before = tuner.latest.started
    tuner.viewer.observe(painted, "stages")
    for i in range(10):
        move(tuner, weight=round(0.05 * (i + 1), 2))
        time.sleep(0.02)
    assert tuner.latest.wait(60)
    assert tuner.latest.started - before <= 5
    assert stale == []
    assert tuner.result is not None and tuner.result.settings.weight == 0.5


def test_cancel_is_idle_within_one_step(tuner: Tuner, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate, steps, go_on = Diffusion.evaluate, [], threading.Event()

    def slow(self: Any, *arguments: Any) -> Any:
        steps.append(1)
        if len(steps) == 3:
            go_on.wait(20)
        return evaluate(self, *arguments)

    monkeypatch.setattr(Diffusion, "evaluate", slow)
    before = [stage["id"] for stage in tuner.viewer.stages]
    move(tuner, strength=0.9)
    until(lambda: len(steps) == 3, "the third step")
    began = time.monotonic()
    tuner.cancel.click()
    assert time.monotonic() - began < 0.5  # the click does not wait for the worker
    go_on.set()
    assert tuner.latest.wait(20)
    assert len(steps) == 3  # the step in hand was the last
    assert "cancelled at strength 0.9; showing strength 0.5" in tuner.state.value
    assert tuner.cancel.disabled and not tuner.viewer.busy
    assert tuner.viewer.stale == ["refine", "faces"] and tuner.pin.disabled  # the base is the same at any strength
    assert [stage["id"] for stage in tuner.viewer.stages][1:] == before[1:]
    assert not any(stage["pending"] for stage in tuner.viewer.stages)


def test_what_is_not_of_the_controls_is_dimmed_and_cannot_be_pinned(tuner: Tuner) -> None:
    assert tuner.viewer.stale == [] and not tuner.pin.disabled
    tuner.latest.cancel()
    tuner.latest.submit = lambda request: None  # type: ignore[method-assign]  # the worker has not come to it yet
    move(tuner, weight=0.9)
    assert tuner.viewer.stale == ["faces"] and tuner.pin.disabled and "wb-stale" in tuner.score._dom_classes
    tuner._handled(lambda _: tuner._pin())(None)  # a click that was under way
    assert tuner.session.pins == [] and "not made yet" in tuner.message.value
    move(tuner, weight=0.6)
    assert tuner.viewer.stale == [] and not tuner.pin.disabled and "wb-stale" not in tuner.score._dom_classes
    move(tuner, strength=0.01)  # these do not go together
    assert tuner.viewer.stale == ["base", "refine", "faces"] and tuner.pin.disabled


def test_render_makes_the_full_picture_without_a_preview(tuner: Tuner) -> None:
    whats: list[set[str]] = []
    tuner.viewer.observe(lambda change: whats.append({s["what"] for s in change["new"] if not s["pending"]}), "stages")
    tuner.latest.submit, submit = lambda request: None, tuner.latest.submit  # type: ignore[method-assign]
    move(tuner, strength=0.6)
    tuner.latest.submit = submit  # type: ignore[method-assign]
    tuner.render.click()
    assert tuner.latest.wait(60)
    assert all(what <= {"full"} for what in whats) and tuner.viewer.stale == [] and "ready" in tuner.state.value


def test_a_newer_value_stops_the_render_in_flight_within_one_step(
    tuner: Tuner, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate, steps, go_on = Diffusion.evaluate, [], threading.Event()

    def slow(self: Any, *arguments: Any) -> Any:
        steps.append(1)
        if len(steps) == 2:
            go_on.wait(20)
        return evaluate(self, *arguments)

    monkeypatch.setattr(Diffusion, "evaluate", slow)
    move(tuner, strength=0.9)
    until(lambda: len(steps) == 2, "the second step")
    move(tuner, strength=0.5)  # what was there at the start: nothing is left to run
    go_on.set()
    assert tuner.latest.wait(20)
    assert len(steps) == 2
    assert tuner.result is not None and tuner.result.settings.strength == 0.5


def test_a_thumbnail_brings_its_settings_and_picture_back(tuner: Tuner, start: Settings, bench: Bench) -> None:
    move(tuner, weight=0.9)
    assert tuner.latest.wait(60)
    before = bench.counters()
    tuner._chosen(tuner.history.items[0]["id"])
    assert tuner.latest.wait(60)
    assert tuner.controls.settings() == start and bench.counters() == before
    assert tuner.result is not None and tuner.result.settings == start
    assert tuner.history.current == "1"
    assert [item["id"] for item in tuner.history.items] == ["1", "2"]  # it stays where it was


def test_pins_are_kept_and_the_fifth_is_refused_in_words(tuner: Tuner) -> None:
    for n in range(5):
        move(tuner, weight=round(0.1 * (n + 1), 1))
        assert tuner.latest.wait(60)
        tuner.pin.click()
    assert len(tuner.pins.items) == 4 and "take one out first" in tuner.message.value
    ask(tuner.pins, do="act", act="unpin", id=tuner.pins.items[0]["id"])
    assert len(tuner.pins.items) == 3
    assert TuningSession().pins == [int(item["id"]) for item in tuner.pins.items]


def test_settings_from_elsewhere_are_begun_with_as_they_are(start: Settings, bench: Bench) -> None:
    selected = start.replace(weight=0.2, negative_prompt="")  # of a cell of the wall
    tuner = Tuner(selected, on=bench)
    assert tuner.settings == selected == tuner.controls.settings()
    assert tuner.presets.value == "embedded" and tuner.base == load_preset("embedded").settings


def test_it_opens_beside_a_damaged_preset(start: Settings, bench: Bench) -> None:
    """One preset file that could not be read kept the panel from opening."""
    bad, marked = presets_folder() / "bad.json", presets_folder() / "win.json"
    bad.write_bytes(b"[" * 100_000)
    marked.write_bytes(b"\xef\xbb\xbf" + (presets_folder() / "tiny.json").read_bytes())
    tuner = Tuner("tiny", on=bench)
    assert tuner.presets.options[:3] == ("another", "tiny", "win")
    assert "bad.json is not a preset file" in tuner.keep.said.value and tuner.keep.said.value.count("role=") == 1
    bad.unlink()
    assert Tuner("win", on=bench).keep.said.value == ""


def test_it_opens_where_the_session_was_left(tuner: Tuner, bench: Bench, start: Settings) -> None:
    move(tuner, weight=0.85)
    assert tuner.latest.wait(60)
    again = Tuner("tiny", on=bench)
    assert again.controls.settings() == start.replace(weight=0.85)
    assert [item["id"] for item in again.history.items] == ["1", "2"]
    (last,) = again.viewer.stages  # at once: no model is loaded
    assert last["name"] == "faces" and "full: weight 0.85" in last["about"]
    assert again.viewer.stale == [] and not again.pin.disabled
    again._moved(None)
    assert "loading the model, about" in again.state.value
    assert again.latest.wait(60) and "ready" in again.state.value
    other = Tuner("another", on=bench)
    assert other.viewer.stale == ["faces"] and other.pin.disabled
    assert Tuner("tiny", on=bench, strength=0.3).controls.settings() == start.replace(strength=0.3)


def test_values_that_do_not_go_together_are_said_in_words(tuner: Tuner) -> None:
    started = tuner.latest.started
    move(tuner, strength=0.01)
    assert "use strength 0.0333 or more" in tuner.message.value and 'role="alert"' in tuner.message.value
    move(tuner, strength=0.3)
    assert tuner.message.value == "" and tuner.latest.wait(60)
    assert tuner.latest.started == started + 1


def test_errors_of_the_worker_are_sentences(tuner: Tuner) -> None:
    move(tuner, model="nowhere")
    assert tuner.latest.wait(60)
    assert "nowhere" in tuner.message.value and "Traceback" not in tuner.message.value
    assert not tuner.viewer.busy and len(tuner.viewer.stages) == 3  # the last good picture stays, dimmed
    assert tuner.viewer.stale == ["base", "refine", "faces"] and tuner.pin.disabled
    assert "failed at model nowhere; showing model" in tuner.state.value


def test_out_of_memory_names_the_size_that_fits(
    tuner: Tuner, bench: Bench, monkeypatch: pytest.MonkeyPatch, start: Settings
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OutOfMemory("out of device memory while denoising 128x128; lower width.")

    monkeypatch.setattr(Bench, "generate", full)
    costs = tuner_module.Costs.at_home()
    move(tuner, width=2048, height=2048)
    smaller = tuner.settings.replace(weight=0.9, hires_scale=1.25)
    room = (costs.peak_memory(smaller)[0] or 0) + 1
    monkeypatch.setattr(hardware, "usable_memory", lambda: room)
    move(tuner, weight=0.9)
    assert tuner.latest.wait(60)
    assert "With hires_scale 1.25 it is expected to fit" in tuner.message.value
    monkeypatch.setattr(hardware, "usable_memory", lambda: 1)
    move(tuner, weight=0.8)
    assert tuner.latest.wait(60)
    assert "No smaller size of this model" in tuner.message.value


def test_what_nobody_foresaw_is_said_and_logged(tuner: Tuner, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise KeyError("<b>oops</b>")

    monkeypatch.setattr(Bench, "generate", broken)
    move(tuner, weight=0.9)
    assert tuner.latest.wait(60)
    assert "KeyError" in tuner.message.value and "<b>oops" not in tuner.message.value
    assert "Traceback" in (home / "errors.log").read_text() and str(home) in tuner.message.value


def test_a_preset_is_loaded_and_saved(tuner: Tuner, start: Settings) -> None:
    move(tuner, weight=0.9)
    assert tuner.latest.wait(60)
    tuner.keep.name.value = "mine"
    tuner.keep.save.click()
    saved = load_preset("mine")
    assert saved.settings == start.replace(weight=0.9) and saved.evidence == {}
    assert any("CodeFormer" in licence for licence in saved.licences) and "non-commercial" in tuner.keep.said.value
    assert tuner.presets.value == "tiny" and tuner.controls.settings() == saved.settings  # nothing else was loaded
    tuner.presets.value = "mine"
    assert tuner.latest.wait(60) and tuner.base.weight == 0.9
    assert tuner.controls._resets["weight"].disabled  # a reset goes to the preset that was loaded last
    move(tuner, weight=0.2, strength=0.5)
    tuner.reload.click()
    assert tuner.controls.settings() == saved.settings
    for name, words in (("production", "only written by a promotion"), ("Bad Name", "cannot be a preset")):
        tuner.keep.name.value = name
        tuner.keep.save.click()
        assert words in tuner.keep.said.value
    assert not (presets_folder() / "production.json").exists()


def test_promote_lets_it_meet_production_on_seeds_that_were_not_tried(
    tuner: Tuner, start: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []

    class Ended:
        state = "finished"

        def wait(self, timeout: float, progress: bool) -> Any:
            return met(SimpleNamespace(spec=begun[-1]))

    monkeypatch.setattr(
        "workbench.notebook.widgets.duelling.detached",
        SimpleNamespace(start=lambda spec: begun.append(spec) or Ended()),
    )
    Preset("production", start).save(presets_folder() / "production.json")
    move(tuner, weight=0.9, seed=5)
    assert tuner.latest.wait(60)
    tuner.keep.promote.click()
    tuner.keep.duelling.work.settle()
    assert (
        begun == [] and "It meets preset production first: 384 pictures" in tuner.keep.said.value
    )  # 24 portraits x 8 x 2
    assert "Press Promote again to run it." in tuner.keep.said.value
    tuner.keep.promote.click()
    tuner.keep.duelling.work.settle()
    (spec,) = begun
    assert not {5, start.seed} & {*spec.seeds} and len(spec.prompts) == 24
    assert "Promoted: it is the preset" in tuner.keep.said.value and load_preset("production").settings.weight == 0.9
    tuner.keep.promote.click()
    tuner.keep.duelling.work.settle()
    assert "equal settings" in tuner.keep.said.value and len(begun) == 1


def test_axes_become_a_spec_of_the_same_pictures(tuner: Tuner, bench: Bench) -> None:
    move(tuner, weight=0.9)
    assert tuner.latest.wait(60)
    tuner.keep.add_axis.click()
    assert tuner.session.axes == {"weight": [0.6, 0.9]}
    path = tuner.session.path / "sweep.toml"
    assert str(path) in tuner.keep.axes.value and "CodeFormer weight 0.6, 0.9: in" in tuner.keep.axes.value
    assert [cell.settings.weight for cell in plan(path).cells] == [0.6, 0.9] * 3
    assert TuningSession().axes == {"weight": [0.6, 0.9]}
    assert str(path) in Tuner("tiny", on=bench).keep.axes.value
    tuner.keep.axis.value = "detector"
    tuner.keep.add_axis.click()
    assert "one value only" in tuner.keep.said.value and tuner.message.value == ""
    tuner.keep.clear_axes.click()
    assert tuner.keep.axes.value == "No axes collected yet." and not path.exists()


def test_a_still_picture_stays_in_the_file_and_is_renewed(tuner: Tuner, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[str, str, bool]] = []

    def display(html: Any, *, display_id: str, update: bool) -> None:
        shown.append((html.data, display_id, update))

    monkeypatch.setattr("workbench.notebook.widgets.still.display", display)
    monkeypatch.setattr(tuner_module, "display", lambda panel: None)
    tuner._ipython_display_()
    move(tuner, weight=0.9)
    assert tuner.latest.wait(60)
    (first, one, new), *_, (last, other, renewed) = shown
    assert one == other and not new and renewed
    assert "Run this cell" in first and "as in the preset" in first and "data:image/jpeg;base64," in first
    assert "weight 0.9" in last and len(last) < 200_000
    tuner.session.remove(
        2
    )  # what the viewer shows; displaying the panel again, in another cell, puts an output there, too
    tuner._ipython_display_()
    assert shown[-1][1:] == (one, False) and "Run this cell" in shown[-1][0] and "<img" not in shown[-1][0]


def test_without_a_browser_it_shows_pictures(start: Settings, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_WIDGETS", "off")
    shown: list[Any] = []
    monkeypatch.setattr(tuner_module, "display", shown.append)
    tuner = Tuner("tiny", on=bench, weight=0.3)
    tuner._ipython_display_()
    assert [type(one).__name__ for one in shown] == ["Markdown", "Image", "HTML"]
    assert "weight 0.3" in shown[0].data and shown[1].data[:2] == b"\xff\xd8" and "not measured" in shown[2].data
    assert tuner.session.table().shape[0] == 1


# --- preview and words -----------------------------------------------------------------------------------------------


def test_a_preview_has_fewer_steps_only_where_something_has_to_run(bench: Bench, start: Settings) -> None:
    preview = preview_of(start, bench)
    assert preview is not None
    assert start.diff(preview) == {"steps": (12, 10), "refine_steps": (30, 8)}
    assert preview.refine_evaluations == 4
    bench.generate(start)
    assert preview_of(start, bench) is None
    assert preview_of(start.replace(weight=0.1, upscaler="realesrgan-x4plus"), bench) is None
    moved = preview_of(start.replace(strength=0.6), bench)
    assert moved is not None and moved.steps == 12  # the base picture is there
    assert preview_of(start.replace(seed=1, steps=5, refine_steps=8), bench) is None  # few steps as they are
    other = preview_of(start.replace(seed=1, upscaler="realesrgan-x4plus"), bench)
    assert other is not None and other.upscaler == "none"


def test_progress_says_what_was_reused_and_what_is_left(start: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    written: list[str] = []
    predicted = {"faces": 7.0}
    progress = ProgressLine(start, predicted.get, written.append, "full")
    progress.finished("base")
    assert "Base ✓ re-used" in written[-1] and "at least 00:07 left" in written[-1]  # the refiner was never timed
    progress.report("refine", 0, 8)
    now[0] += 4
    progress.report("refine", 2, 8)
    assert progress.left() == (4 / 2 * 6 + 7, True) and "Refiner 2/8" in written[-1] and "00:19 left" in written[-1]
    assert "</progress> 12 s</span>" in written[-1] and "Faces 7 s</span>" in written[-1]  # of each stage
    now[0] += 12
    progress.finished("refine")
    assert progress.seconds == {"refine": 16.0} and "Refiner ✓ 16.0 s" in written[-1]
    progress.finished("faces")
    assert "scoring" in written[-1]


def test_a_score_says_how_it_moved_and_whether_that_is_better() -> None:
    versions = {"sharpness": "blur-1"}
    old = {"sharpness": 40.0, "sigma_eyes": 2.0, "ssim": 0.9, "flags": [], "versions": versions}
    new = {"sharpness": 42.5, "sigma_eyes": 2.5, "ssim": 0.9, "flags": ["haloed"], "versions": versions,
           "not_measured": {"lpips": "no <weights>"}}  # fmt: skip
    said = score_html("ok", new, old)
    assert "▲ 2.5 better" in said and "▲ 0.5 worse" in said and "unchanged" in said
    assert "! haloed" in said and "no &lt;weights&gt;" in said and "not measured" in said
    assert "better" not in score_html("ok", new, {**old, "versions": {"sharpness": "blur-0"}})
    assert "no face" in score_html("no_face", {"sharpness": None, "flags": []}, old)


def test_noise_is_not_called_worse_and_other_pictures_are_not_compared(start: Settings) -> None:
    versions = {"sharpness": "blur-2"}
    old = {"sharpness": 40.2, "sigma_eyes": 2.0, "flags": [], "versions": versions, "not_measured": {}}
    new = {**old, "sharpness": 40.0, "sigma_eyes": 2.1}
    said = score_html("ok", new, old, settings=(start.replace(strength=0.25), start))
    assert "▼ 0.2, less than the score can tell (2)" in said and "worse" not in said and "▲ 0.1" in said
    assert "▼ 7.0 worse" in score_html("ok", {**new, "sharpness": 33.2}, old, settings=(start, start))
    for other, words in (
        ({"seed": 99}, "another seed"),
        ({"seed": 99, "prompt": "x"}, "another seed and another prompt"),
    ):
        said = score_html("ok", {**new, "sharpness": 20.0}, old, settings=(start.replace(**other), start))
        assert f"{words}: not compared" in said and "worse" not in said and "▲" not in said


def test_what_changed_is_named_without_the_prompt(start: Settings) -> None:
    other = start.replace(prompt="someone else", strength=0.25, steps=3)
    assert changed(other, start) == "another prompt, steps 3, strength 0.25"


def test_sizes_are_named_as_people_use_them(tuner: Tuner) -> None:
    size, fields = tuner.controls.together["Size"], tuner.controls.fields
    assert "832x1216 portrait" in size.options and size.value == "other"
    before = tuner.latest
    size.value = "832x1216 portrait"
    assert (fields["width"].value, fields["height"].value) == (832, 1216)
    assert (tuner.settings.width, tuner.settings.height) == (832, 1216) and tuner.latest is before
    fields["width"].value = 840
    assert size.value == "other" and tuner.settings.width == 840
    move(tuner, height=1024, width=1024)
    assert size.value == "1024x1024 square"
    tuner.latest.cancel()
    tuner.controls.show(tuner.base)
    assert size.value == "other"
    assert tuner.latest.wait(60)


def test_controls_that_do_nothing_are_dimmed_and_say_why(tuner: Tuner) -> None:
    def dimmed() -> set[str]:
        return {name for name, row in tuner.controls._rows.items() if "wb-unused" in row._dom_classes}

    assert "detail_strength" in dimmed() and not {"strength", "weight", "detail"} & dimmed()
    assert "No effect (Face detailer is off): Detail strength" in tuner.controls._notes["detail"].value
    move(tuner, hires=False, restorer="none")
    assert tuner.latest.wait(60)
    assert {"strength", "refine_cfg", "weight"} <= dimmed() and not {"hires", "restorer", "seed"} & dimmed()
    assert tuner.controls._rows["strength"].tooltip == "No effect: Hires fix and refiner is off"
    move(tuner, hires=True)
    assert tuner.latest.wait(60) and "strength" not in dimmed() and tuner.controls._rows["strength"].tooltip is None


def test_a_prompt_of_the_session_is_taken_again(tuner: Tuner, start: Settings) -> None:
    move(tuner, prompt="someone else")
    assert tuner.latest.wait(60)
    earlier = tuner.controls.earlier
    assert [prompt for _, prompt in earlier.options] == ["", "someone else", start.prompt]
    earlier.value = start.prompt
    assert tuner.controls.settings() == start and earlier.value == ""
    assert tuner.latest.wait(60)


def test_files_are_picked_or_typed(tuner: Tuner) -> None:
    until(lambda: bool(tuner.controls.fields["model"].options), "what is on this machine")  # type: ignore[union-attr]
    fields: Any = tuner.controls.fields
    assert fields["model"].options == ["embedded"] and fields["refiner"].options == ["auto", "base"]
    assert fields["loras"].listed and not fields["vae"].listed
    tuner.controls.offer({"model": ["mine"], "refiner": ["polish"], "vae": ["fix"], "lora": ["skin"]})
    assert fields["model"].options == ["embedded", "mine"] and fields["vae"].options == ["fix"]
    assert fields["refiner"].options == ["auto", "base", "polish", "mine"] and fields["loras"].options == ["skin"]


def test_the_tokens_are_counted_and_what_is_cut_is_said(tuner: Tuner) -> None:
    """Of the tiny model each letter is a token."""
    until(lambda: "Tokens: 5 of 75, negative 6 of 75" in tuner.controls.tokens.value, tuner.controls.tokens.value)
    move(tuner, prompt="abcde " * 16)
    until(lambda: "Tokens: 80 of 150" in tuner.controls.tokens.value)
    assert "wb-note" not in tuner.controls.tokens.value
    move(tuner, prompt_syntax="plain")
    until(lambda: "80 of 75" in tuner.controls.tokens.value and "the end is cut" in tuner.controls.tokens.value)
    move(tuner, prompt="a (face:1.2", prompt_syntax="webui")
    until(lambda: "never closed" in tuner.controls.tokens.value)
    move(tuner, prompt="a [cat|dog]")
    assert "alternating words" in tuner.message.value
    assert tuner.latest.wait(60)
