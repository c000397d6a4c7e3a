import json
from pathlib import Path

import pytest

from workbench.errors import BadPreset, NothingToRollBack, PresetNotFound, UsageError
from workbench.presets import (
    Preset,
    damaged_presets,
    history,
    list_presets,
    load_preset,
    presets_folder,
    roll_back,
)
from workbench.settings import Settings

SHIPPED_NAMES = ["embedded", "face-detailer", "few-step", "hires-768", "recommended", "same-checkpoint"]


@pytest.fixture
def saved(home: Path) -> Path:
    preset = Preset("mine", Settings(model="embedded", seed=4), "about", {"mean": 1.0})
    preset.save(presets_folder() / "mine.json")
    return presets_folder() / "mine.json"


def test_saved_and_loaded(saved: Path) -> None:
    by_name, by_path = load_preset("mine"), load_preset(saved)
    assert by_name.settings == by_path.settings == Settings(model="embedded", seed=4)
    assert by_name.evidence == {"mean": 1.0}
    assert [p.name for p in list_presets()] == ["mine", *SHIPPED_NAMES]


def test_your_preset_hides_a_shipped_one(home: Path) -> None:
    Preset("embedded", Settings(seed=9)).save(presets_folder() / "embedded.json")
    assert load_preset("embedded").settings.seed == 9
    assert len(list_presets()) == len(SHIPPED_NAMES)


def test_what_was_replaced_is_kept(saved: Path) -> None:
    Preset("mine", Settings(seed=5)).save(saved)
    old = [load_preset(p).settings.seed for p in (saved.parent / "history").iterdir()]
    assert (load_preset("mine").settings.seed, old) == (5, [4])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 3}, "preset version 3, this workbench reads versions 1 to 2"),
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


def put(seed: int, name: str = "mine") -> Preset:
    return Preset(name, Settings(seed=seed)).save(presets_folder() / f"{name}.json")


def seeds(name: str = "mine") -> tuple[int, list[int | None]]:
    """(seed of the preset, seeds of those it replaced, newest first)"""
    return load_preset(name).settings.seed, [k.preset and k.preset.settings.seed for k in history(name)]


def test_roll_back_and_undo(home: Path) -> None:
    for seed in (1, 2, 3):
        put(seed)
    put(7, "mine-2")
    put(8, "mine-2")  # another preset's history is not this one's
    assert seeds() == (3, [2, 1])
    before = (presets_folder() / "history" / f"mine-{history('mine')[0].stamp}.json").read_bytes()
    assert roll_back("mine").settings.seed == 2
    assert (presets_folder() / "mine.json").read_bytes() == before
    assert seeds() == (2, [3, 1])
    assert roll_back("mine").settings.seed == 3  # undone
    assert seeds() == (3, [2, 1])
    oldest = history("mine")[-1].stamp
    assert roll_back("mine", to=oldest).settings.seed == 1
    assert seeds() == (1, [3, 2])
    assert seeds("mine-2") == (8, [7])


def test_nothing_to_roll_back_to(home: Path) -> None:
    put(1)
    with pytest.raises(NothingToRollBack, match="no preset 'mine' was replaced yet"):
        roll_back("mine")
    put(2)
    with pytest.raises(NothingToRollBack, match=r"no replaced presets of 'mine' are from '1999'; there are 20"):
        roll_back("mine", to="1999")
    put(3)
    with pytest.raises(NothingToRollBack, match="2 replaced presets"):
        roll_back("mine", to="20")
    with pytest.raises(UsageError, match="cannot be a preset's name"):
        roll_back("../mine")
    assert seeds() == (3, [2, 1])


def test_a_damaged_preset_is_rolled_back_from_and_never_to(home: Path) -> None:
    put(1)
    path = put(2).path
    assert path
    path.write_text("{")
    assert roll_back("mine").settings.seed == 1
    (damaged,) = history("mine")
    assert damaged.preset is None and "not a preset file" in damaged.problem
    with pytest.raises(BadPreset, match="presets history mine"):
        roll_back("mine")
    assert load_preset("mine").settings.seed == 1


def test_a_damaged_preset_can_be_replaced(saved: Path) -> None:
    saved.write_text("{")
    Preset("mine", Settings(seed=5)).save(saved)
    assert load_preset("mine").settings.seed == 5


SHAPES: list[bytes] = [
    b"", b" ", b"null", b"0", b"1.5", b"true", b'"text"', b"[]", b"{}", b"[1]", b"[" * 100_000, b'{"a":' * 100_000,
    b"1" * 5000, b"\xff\xfe{\x00}\x00", b"{", b'{"format": "workbench-preset", "version": 1}',
]  # fmt: skip
FIELDS = ("format", "version", "name", "about", "settings", "evidence", "provenance", "licences", "checksum")
VALUES = [None, 7, 1.5, True, "text", [], [1], {"a": 1}, {"self": 1}, {"prompt": [{}]}, {"steps": 10**4000}, {"cfg": {}},
          {"seed": -(10**30)}, [[[1]]]]  # fmt: skip


def wrong_shapes() -> list[bytes]:
    """What may stand in a preset file whose writer was not the workbench; every one is refused."""
    good = {key: value for key, value in Preset("mine", Settings()).to_json().items() if key != "checksum"}
    kinds = {"name": str, "about": str, "settings": dict, "evidence": dict, "provenance": dict}
    found = [*SHAPES, json.dumps({**good, "about": "\ud83d"}).encode(), json.dumps({**good, 7: 1}).encode()]
    for key in FIELDS:
        for value in VALUES:
            allowed = type(value) is kinds.get(key) and key != "settings"
            if not allowed and value != good.get(key) and not (key == "version" and value is True) and value != []:
                found.append(json.dumps({**good, key: value}).encode())
    return found


def test_a_file_of_any_other_shape_is_named_in_a_sentence(saved: Path) -> None:
    """A preset that was `null`, of length zero or nested 100,000 deep gave a traceback; so did one whose licences were {}."""
    Preset("mine", Settings(seed=5)).save(saved)
    (kept,) = history("mine")
    shapes = wrong_shapes()
    assert len(shapes) > 100
    for shape in shapes:
        saved.write_bytes(shape)
        kept.path.write_bytes(shape)
        with pytest.raises(BadPreset) as caught:
            load_preset("mine")
        assert str(saved) in str(caught.value) and "\n" not in str(caught.value), shape[:80]
        assert [preset.name for preset in list_presets()] == SHIPPED_NAMES
        (damaged,) = damaged_presets()
        assert (damaged.name, damaged.path, damaged.problem) == ("mine", saved, str(caught.value))
        (replaced,) = history("mine")
        assert replaced.preset is None and str(kept.path) in replaced.problem
        with pytest.raises(BadPreset, match="presets history mine"):
            roll_back("mine")


def test_true_is_no_version(saved: Path) -> None:
    saved.write_text(json.dumps({"format": "workbench-preset", "version": True, "settings": {}}))
    with pytest.raises(BadPreset, match="version"):
        load_preset("mine")


def test_a_byte_order_mark_is_how_a_windows_editor_begins_a_file(saved: Path) -> None:
    data = b"\xef\xbb\xbf" + saved.read_bytes().replace(b"\n", b"\r\n")
    saved.write_bytes(data)
    assert load_preset("mine").settings.seed == 4 and damaged_presets() == []
    Preset("mine", Settings(seed=5)).save(saved)
    assert roll_back("mine").settings.seed == 4 and saved.read_bytes() == data  # byte for byte


def test_a_preset_is_listed_under_the_name_that_finds_it(saved: Path) -> None:
    """A file that was copied still has the other's name in it, which its checksum protects."""
    (saved.parent / "copy.json").write_bytes(saved.read_bytes())
    assert [preset.name for preset in list_presets()][:2] == ["copy", "mine"]
    assert load_preset("copy").settings == load_preset("mine").settings


def test_what_lies_beside_presets_is_none(saved: Path) -> None:
    """Editors and file systems leave hidden files; a folder or a dead link is no file."""
    (saved.parent / "._mine.json").write_bytes(b"\x00\x05\x16\x07")
    (saved.parent / ".#mine.json").symlink_to("somebody@somewhere")
    (saved.parent / "folder.json").mkdir()
    Preset("mine", Settings(seed=5)).save(saved)
    assert [preset.name for preset in list_presets()] == ["mine", *SHIPPED_NAMES]
    assert damaged_presets() == []
    with pytest.raises(PresetNotFound):
        load_preset("folder")


def test_a_checksum_counts_what_stands_in_the_file(home: Path) -> None:
    """Tuples and keys that are no texts become lists and texts there."""
    odd = {"sizes": (1, 2), 10: "a", 9: "b", "nan": float("nan")}
    saved = Preset("mine", Settings(), evidence=odd).save(presets_folder() / "mine.json")
    assert saved.evidence["sizes"] == [1, 2] and load_preset("mine").evidence["9"] == "b"
