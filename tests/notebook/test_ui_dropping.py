"""A dropped picture without a browser: its bytes come as the script sends them, in parts."""

from pathlib import Path

import pytest
from PIL import Image
from support.widgets import opened

from workbench.files import png_bytes, save_picture
from workbench.notebook.widgets import dropping
from workbench.notebook.widgets.dropping import DropZone
from workbench.presets.formats import Imported
from workbench.settings import Settings

SETTINGS = Settings(model="embedded", prompt="a face", strength=0.4, seed=7)


@pytest.fixture(autouse=True)
def widgets(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("WORKBENCH_WIDGETS", "on")


def drop(zone: DropZone, data: bytes, name: str = "face.png", part: int = 1000) -> None:
    for at in range(0, max(1, len(data)), part):
        message = {"do": "part", "name": name, "first": at == 0, "last": at + part >= len(data)}
        zone._received(zone, message, [memoryview(data[at : at + part])])
    zone.work.settle()


@pytest.fixture
def own(tmp_path: Path) -> bytes:
    save_picture(tmp_path / "face.png", Image.radial_gradient("L").convert("RGB"), SETTINGS)
    return (tmp_path / "face.png").read_bytes()


def test_our_own_picture_is_loaded_to_the_last_setting(own: bytes) -> None:
    loaded: list[Settings] = []
    zone = DropZone(loaded.append)
    drop(zone, own)
    drop(zone, own)
    assert loaded == [SETTINGS, SETTINGS] and len(own) > 2000  # in several parts
    assert zone.view["title"] == "Loaded the settings of face.png, written by workbench."
    assert zone.view["guessed"] == zone.view["unmapped"] == [] and zone.said == {"text": "", "error": False}


def test_a_locked_seed_is_not_called_the_same_picture(own: bytes) -> None:
    zone = DropZone(lambda settings: settings.replace(seed=3))
    drop(zone, own)
    assert zone.view["notes"] == ["The seed is locked and stays at 3; unlock it and set 7 for the same picture."]
    zone = DropZone(lambda settings: settings)
    drop(zone, own)
    assert zone.view["notes"] == [dropping.EXACT]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"no picture at all", "The picture cannot be read"),
        (b"", "The picture cannot be read"),
        (png_bytes(Image.new("RGB", (8, 8))), "The picture carries no settings"),
        (png_bytes(Image.new("RGB", (8, 8)), {"workbench": "[]"}), "The picture carries no workbench settings"),
    ],
    ids=["text", "nothing", "a foreign PNG", "a damaged chunk"],
)
def test_what_cannot_be_loaded_is_said_and_nothing_changes(data: bytes, said: str) -> None:
    loaded: list[Settings] = []
    zone = DropZone(loaded.append)
    drop(zone, data) if data else zone._received(
        zone, {"do": "part", "name": "face.png", "first": True, "last": True}, []
    )
    zone.work.settle()
    assert zone.said["error"] and zone.said["text"].startswith(said) and loaded == [] and zone.view == {}


def test_a_cut_or_oversized_file_is_refused(own: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    zone = DropZone(lambda _: None)
    drop(zone, own[: len(own) // 2])
    assert "cannot be read" in zone.said["text"]
    monkeypatch.setattr(dropping, "MOST", 1500)
    drop(zone, own)
    assert "drop a smaller file" in zone.said["text"] and zone.view == {}


def test_what_was_read_guessed_and_left_out_is_listed(own: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Imported(
        "A1111", SETTINGS, {"steps": "Steps: 35"}, {"sampler": "Euler, since it names none"},
        {"Clip skip: 2": "the workbench has no such setting"}, ("The same seed gives another picture.",),
    )  # fmt: skip
    monkeypatch.setattr(dropping, "read_picture", lambda data: found)
    zone = DropZone(lambda _: None)
    drop(zone, png_bytes(opened(own)))
    assert zone.view["title"].endswith("written by A1111.")
    assert zone.view["read"] == [["Base steps", str(SETTINGS.steps), "Steps: 35"]]
    assert zone.view["guessed"] == [["Sampler", "Euler, since it names none"]]
    assert zone.view["unmapped"] == [["Clip skip: 2", "the workbench has no such setting"]]
    assert zone.view["notes"] == ["The same seed gives another picture."]
