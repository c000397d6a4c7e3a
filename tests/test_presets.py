import json
from pathlib import Path

import pytest

from workbench.presets import BadPreset, Preset, PresetNotFound, list_presets, load_preset, presets_folder
from workbench.settings import Settings


@pytest.fixture
def saved(home: Path) -> Path:
    preset = Preset("mine", Settings(model="embedded", seed=4), "about", {"mean": 1.0})
    preset.save(presets_folder() / "mine.json")
    return presets_folder() / "mine.json"


def test_saved_and_loaded(saved: Path) -> None:
    by_name, by_path = load_preset("mine"), load_preset(saved)
    assert by_name.settings == by_path.settings == Settings(model="embedded", seed=4)
    assert by_name.evidence == {"mean": 1.0}
    assert [p.name for p in list_presets()] == ["mine", "embedded", "hires-768", "recommended"]


def test_your_preset_hides_a_shipped_one(home: Path) -> None:
    Preset("embedded", Settings(seed=9)).save(presets_folder() / "embedded.json")
    assert load_preset("embedded").settings.seed == 9
    assert len(list_presets()) == 3


def test_what_was_replaced_is_kept(saved: Path) -> None:
    Preset("mine", Settings(seed=5)).save(saved)
    old = [load_preset(p).settings.seed for p in (saved.parent / "history").iterdir()]
    assert (load_preset("mine").settings.seed, old) == (5, [4])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 2}, "preset version 2, this workbench reads version 1"),
        ({"format": "other"}, "does not say"),
        ({"about": "better"}, "altered after it was written"),
        ({"settings": {"strenght": 1}, "checksum": None}, "did you mean 'strength'"),
        ({"settings": {"strength": 7}, "checksum": None}, "strength = 7"),
        ({"settings": None, "checksum": None}, "settings"),
        ({"extra": 1, "checksum": None}, "unknown entries: extra"),
    ],
)
def test_bad_presets(saved: Path, change: dict, said: str) -> None:
    data = {**json.loads(saved.read_text()), **change}
    saved.write_text(json.dumps({k: v for k, v in data.items() if not (k == "checksum" and v is None)}))
    with pytest.raises(BadPreset) as caught:
        load_preset("mine")
    assert said in str(caught.value) and "mine.json" in str(caught.value)


def test_a_file_that_is_no_json(saved: Path) -> None:
    saved.write_bytes(b"\xff\xfe")
    with pytest.raises(BadPreset, match="not a preset file"):
        load_preset("mine")


def test_missing() -> None:
    with pytest.raises(PresetNotFound, match="did you mean 'recommended'"):
        load_preset("recomended")
    with pytest.raises(PresetNotFound, match="promote a sweep first"):
        load_preset("production")
    with pytest.raises(PresetNotFound, match="no preset file"):
        load_preset("nowhere/a.json")
