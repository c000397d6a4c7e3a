"""What may stand in a preset file: the schema that others read, the types, twice given keys, older versions, weights."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from workbench.errors import BadPreset
from workbench.files import hash_json
from workbench.models import model_path
from workbench.presets import (
    SHIPPED,
    Preset,
    list_presets,
    load_preset,
    other_models,
    preset_schema,
    presets_folder,
    roll_back,
)
from workbench.recipe import UsedModel, used_models
from workbench.settings import Settings


def path(name: str = "mine") -> Path:
    return presets_folder() / f"{name}.json"


def by_hand(**entries: Any) -> Path:
    path().parent.mkdir(parents=True, exist_ok=True)
    path().write_text(json.dumps({"format": "workbench-preset", "version": 2, "settings": {}, **entries}))
    return path()


def test_the_schema_is_one_and_all_presets_follow_it(home: Path) -> None:
    schema: Any = preset_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    Preset("mine", Settings(), "about", {"mean": 1.0, "more": [1]}, allow=("prompt", "steps")).save(path())
    files = [
        *SHIPPED.glob("*.json"),
        path(),
        by_hand(settings={"cfg": 3.0, "lora:detail": 0.5}, **{"$schema": "x.json"}),
    ]
    assert len(files) > 6
    for file in files:
        check.validate(json.loads(file.read_text()))
        load_preset(file)
    for wrong in (
        {"settings": {"strenght": 1}},
        {"settings": {"strength": 7}},
        {"settings": {"sampler": "none"}},
        {"evidence": {"used": 5}},
        {"models": {"model": {"name": "x", "digest": "short"}}},
        {"allow": ["strenght"]},
        {"extra": 1},
        {"version": 3},
    ):
        file = by_hand(**wrong)
        assert not check.is_valid(json.loads(file.read_text()))
        with pytest.raises(BadPreset):
            load_preset(file)


def test_every_setting_is_in_the_schema_with_its_range(home: Path) -> None:
    settings: Any = preset_schema()["properties"]
    own = settings["settings"]["properties"]
    assert {*own} == {*Settings.model_fields, "cfg"} and own["strength"]["maximum"] == own["weight"]["maximum"] == 1
    assert "DPM++ 2M" in own["sampler"]["enum"] and "items" not in own["loras"]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('{"format": "workbench-preset", "version": 2, "settings": {"seed": 1, "seed": 2}}', "seed"),
        ('{"format": "workbench-preset", "version": 2, "settings": {"seed": 1, "s\\u0065ed": 1}}', "seed"),
        ('{"format": "workbench-preset", "version": 2, "settings": {}, "settings": {}}', "settings"),
        ('{"format": "workbench-preset", "version": 2, "settings": {}, "evidence": {"x": [{"a": 1, "a": 1}]}}', "a"),
    ],
)
def test_a_key_given_twice_is_refused_by_name(home: Path, text: str, key: str) -> None:
    """The second value of two was taken, without a word."""
    by_hand()
    path().write_text(text)
    with pytest.raises(BadPreset, match=rf"mine\.json gives '{key}' twice"):
        load_preset("mine")


@pytest.mark.parametrize(
    "evidence",
    [
        {"used": 5}, {"used": [{"run": 1}]}, {"used": [{"run": "r", "prompts": ["x"], "seeds": [1.5]}]}, {"used": None},
        {"verdict": "won"}, {"verdict": {"words": 5}}, {"verdict": {}}, {"keys": {"base": 5}}, {"batch": {"base": 0}},
        {"batch": {"base": "4"}}, {"guards": ["noise"]}, {"mean": "high"}, {"n": 1.5}, {"chosen": {"steps": [1]}},
        {"run": "../../elsewhere"}, {"run": "\0"}, {"run": "x" * 5000}, {"caveat": 1}, {"forced": None},
    ],
)  # fmt: skip
def test_evidence_of_a_wrong_type_is_refused_where_it_is_read(home: Path, evidence: dict[str, Any]) -> None:
    with pytest.raises(BadPreset, match=r"wrong entry \(evidence"):
        load_preset(by_hand(evidence=evidence))


def test_numbers_that_json_has_not_are_refused_and_were_null_before(home: Path) -> None:
    """A sweep in which a setting showed no face wrote its mean as NaN, and the server could not send that."""
    text = by_hand(evidence={"mean": float("nan")}).read_text()
    with pytest.raises(BadPreset, match="NaN or Infinity"):
        load_preset("mine")
    path().write_text(text.replace("NaN", "1e999"))
    with pytest.raises(BadPreset, match="NaN or Infinity"):
        load_preset("mine")
    old = {
        "format": "workbench-preset",
        "version": 1,
        "settings": {},
        "evidence": {"ranking": [{"mean": float("nan")}]},
    }
    path().write_text(json.dumps({**old, "checksum": hash_json(old)}))
    assert load_preset("mine").evidence == {"ranking": [{"mean": None}]}


def test_version_1_is_read_and_rolled_back_to_byte_for_byte(home: Path) -> None:
    """As the workbench wrote it before there were digests."""
    body = {"format": "workbench-preset", "version": 1, "name": "mine", "about": "old", "settings": {"seed": 3}}
    body |= {"evidence": {"mean": 1.5}, "provenance": {"promoted": "2026-11-26T18:28:43+00:00"}, "licences": ["x"]}
    by_hand()
    path().write_text(json.dumps({**body, "checksum": hash_json(body)}, indent=2))
    data, old = path().read_bytes(), load_preset("mine")
    assert (old.settings.seed, old.about, old.parent, old.models) == (3, "old", None, {})
    saved = Preset("mine", Settings(seed=4)).save(path())
    assert saved.parent == old.digest and json.loads(path().read_text())["version"] == 2
    assert roll_back("mine").settings.seed == 3 and path().read_bytes() == data


def test_the_digest_is_that_of_the_settings(home: Path) -> None:
    saved = Preset("mine", Settings(seed=4)).save(path())
    written = json.loads(path().read_text())
    assert (
        written["digest"] == saved.digest == hash_json(Settings(seed=4).model_dump()) == hash_json(written["settings"])
    )
    del written["checksum"]
    written["settings"]["seed"] = 5
    path().write_text(json.dumps(written))
    with pytest.raises(BadPreset, match='"digest" that is not that of its settings'):
        load_preset("mine")
    del written["digest"]
    path().write_text(json.dumps(written))
    assert load_preset("mine").settings.seed == 5


def test_an_editors_schema_entry_alters_nothing(home: Path) -> None:
    Preset("mine", Settings(), evidence={"mean": 1.0}).save(path())
    path().write_text(json.dumps({"$schema": "./preset.schema.json", **json.loads(path().read_text())}))
    assert load_preset("mine").evidence == {"mean": 1.0}


def test_a_file_is_called_by_its_own_name(home: Path) -> None:
    Preset("other", Settings()).save(path())
    assert load_preset("mine").name == "mine" and load_preset("mine").name_inside == ""
    path("copy").write_bytes(path().read_bytes())
    copy = load_preset("copy")
    assert (copy.name, copy.name_inside) == ("copy", "mine") and [p.name for p in list_presets()][:2] == [
        "copy",
        "mine",
    ]


def test_weights_are_known_by_digest_and_never_by_a_path(home: Path) -> None:
    (home / "models").mkdir(parents=True)
    (home / "models" / "open").symlink_to(model_path("embedded"))
    s = Settings(model=str(home / "models" / "open"), hires=False, restorer="none")
    used = used_models(s)
    assert {component: model.name for component, model in used.items()} == {"model": "open"}
    assert used_models(s.replace(model="open")) == used and used_models(s.replace(model="gone")) == {}
    embedded = load_preset("embedded")
    assert {*used_models(embedded.settings)} == {"model", "refiner", "restorer"}
    preset = Preset("mine", s.replace(model="open"), models=used).save(path())
    assert other_models(preset) == [] and other_models(embedded) == []
    other = UsedModel(name="open", digest="0" * 64)
    (said,) = other_models(Preset("mine", s.replace(model="open"), models={"model": other}))
    assert "model 'open' is another one here" in said and "000000000000" in said
