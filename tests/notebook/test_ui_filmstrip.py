"""The filmstrip and what is done with any picture, without a browser: asked as the script asks."""

import threading
from pathlib import Path
from typing import Any

import pytest
from support.widgets import ask, opened

from workbench.errors import NoPicture
from workbench.files import pixels_sha256, read_settings
from workbench.notebook.widgets import Tuner
from workbench.notebook.widgets.picture_files import KEPT, MadePictures
from workbench.presets import Preset, presets_folder
from workbench.recipe.pipeline import Bench
from workbench.settings import Settings


@pytest.fixture(autouse=True)
def widgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_WIDGETS", "on")


@pytest.fixture
def start(tiny: Settings) -> Settings:
    settings = tiny.replace(restorer="codeformer", steps=4, refine_steps=4, strength=0.5)
    Preset("tiny", settings).save(presets_folder() / "tiny.json")
    return settings


@pytest.fixture
def tuner(start: Settings, bench: Bench) -> Tuner:
    tuner = Tuner("tiny", on=bench)
    tuner._moved(None)
    assert tuner.latest.wait(60)
    return tuner


def move(tuner: Tuner, **values: Any) -> None:
    """Move controls, and wait for the picture."""
    for name, value in values.items():
        tuner.controls.fields[name].value = value
    assert tuner.latest.wait(60)


def test_a_picture_is_handed_over_as_the_png_that_makes_it_again(
    tuner: Tuner, start: Settings, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = []
    for part in (tuner.history, tuner.viewer):
        monkeypatch.setattr(part, "send", lambda content, buffers: answers.append((content, buffers)))
    result, before = tuner.result, bench.counters()
    assert result is not None
    refined = next(stage["id"] for stage in tuner.viewer.stages if stage["name"] == "refine")
    for panel, key, what in ((tuner.history, "1", "png"), (tuner.viewer, refined, "png"), (tuner.history, "1", "text")):
        ask(panel, do="file", id=key, what=what, token="t")
        panel.handing.settle()
    (finished, (data,)), (stage, (half,)), (said, none) = answers
    path = tmp_path / finished["name"]
    path.write_bytes(data)
    assert read_settings(path) == start and pixels_sha256(opened(data)) == pixels_sha256(result.image)
    assert opened(half).tobytes() == result.stages["refine"].tobytes() and stage["name"].startswith("refine-")
    assert said["text"].startswith(start.prompt) and none == [] and bench.counters() == before
    ask(tuner.history, do="file", id="99", what="png", token="t")
    tuner.history.handing.settle()
    assert "no longer in this session" in answers[-1][0]["error"] and answers[-1][1] == []


def test_not_every_picture_of_a_day_is_remembered(start: Settings, bench: Bench) -> None:
    made = MadePictures(lambda: bench)
    for n in range(KEPT + 5):
        made.know(str(n), start)
    assert made.file("5").name == made.file(str(KEPT + 4)).name
    with pytest.raises(NoPicture):
        made.file("4")


def test_four_more_seeds_land_beside_what_is_shown(tuner: Tuner, start: Settings) -> None:
    shown = [stage["id"] for stage in tuner.viewer.stages]
    ask(tuner.history, do="act", act="seeds", id="1")
    assert tuner.latest.wait(120)
    assert [v.settings for v in tuner.session.variants()] == [start.replace(seed=start.seed + n) for n in range(5)]
    assert len(tuner.history.items) == 5 and tuner.history.current == "1"
    assert [stage["id"] for stage in tuner.viewer.stages] == shown and tuner.controls.settings() == start
    assert tuner.cancel.disabled and "ready" in tuner.state.value


def test_more_seeds_are_cancelled_and_what_is_finished_stays(tuner: Tuner, monkeypatch: pytest.MonkeyPatch) -> None:
    until_second, added = threading.Event(), tuner._added

    def add(*arguments: Any) -> Any:
        variant = added(*arguments)
        until_second.set()
        return variant

    monkeypatch.setattr(tuner, "_added", add)
    ask(tuner.viewer, do="act", act="seeds", id="")
    assert until_second.wait(60)
    tuner.cancel.click()
    assert tuner.latest.wait(60)
    assert 2 <= len(tuner.session.variants()) < 5 and "cancelled" in tuner.state.value


def test_any_picture_of_the_history_is_the_other_side(tuner: Tuner) -> None:
    move(tuner, weight=0.9)
    move(tuner, weight=0.3)
    ask(tuner.history, do="act", act="compare", id="1")
    others = {other["name"]: other["label"] for other in tuner.viewer.others}
    assert tuner.viewer.against == "compared" and others["compared"].startswith("Picture 1 ")
    move(tuner, weight=0.2)
    assert tuner.viewer.against == "compared" and {o["name"] for o in tuner.viewer.others} == {"previous", "compared"}

    def choose(_: Any) -> None:  # one that is chosen while a render is under way is not lost with its next stage
        tuner.viewer.unobserve(choose, "busy")
        ask(tuner.history, do="act", act="compare", id="2")

    tuner.viewer.observe(choose, "busy")
    move(tuner, weight=0.1)
    compared = [other["label"] for other in tuner.viewer.others if other["name"] == "compared"]
    assert tuner.viewer.against == "compared" and [label[:9] for label in compared] == ["Picture 2"]
    ask(tuner.history, do="act", act="compare", id="99")
    assert tuner.history.said["error"] and "no longer in this session" in tuner.history.said["text"]


def test_pictures_are_starred_deleted_and_brought_back(tuner: Tuner) -> None:
    move(tuner, weight=0.9)
    for act in ("star", "pin", "delete"):
        ask(tuner.history, do="act", act=act, id="1")
        if act == "star":
            assert tuner.history.starred == ["1"]
    assert [item["id"] for item in tuner.history.items] == ["2"] and tuner.history.starred == tuner.pins.items == []
    assert "Picture 1 was deleted" in tuner.history.said["text"] and "picture 1 back" in tuner.history.undo
    ask(tuner.history, do="act", act="undo", id="")
    assert [item["id"] for item in tuner.history.items] == ["1", "2"] and tuner.history.undo == ""
    assert tuner.history.starred == ["1"] and [item["id"] for item in tuner.pins.items] == ["1"]
    assert tuner.history.items[0]["prompt"] == tuner.settings.prompt


def test_what_is_brought_back_is_seen_where_there_is_no_room_for_its_pin(tuner: Tuner) -> None:
    for act in ("pin", "delete"):
        ask(tuner.history, do="act", act=act, id="1")
    for weight in (0.2, 0.4, 0.6, 0.8):
        move(tuner, weight=weight)
        tuner.strips.pin(tuner.history.items[-1]["id"])
    ask(tuner.history, do="act", act="undo", id="")
    assert "are pinned already" in tuner.history.said["text"] and tuner.history.items[0]["id"] == "1"


def test_a_picture_that_goes_while_it_is_shown_costs_only_itself(tuner: Tuner, monkeypatch: pytest.MonkeyPatch) -> None:
    move(tuner, weight=0.9)
    both = tuner.session.variants()
    both[0].picture.unlink()  # another kernel, after this one has looked
    monkeypatch.setattr(tuner.session, "variants", lambda: both)
    tuner.strips.show()
    assert [item["id"] for item in tuner.history.items] == ["2"]
    assert tuner.strips.picture(both[0]) is tuner.strips.picture(None) is None
    assert tuner.strips.picture(both[1])
