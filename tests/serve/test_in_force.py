"""The presets that are served, and what of them others may know."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workbench.errors import BadRequest, NotServed, UsageError
from workbench.presets import Preset, make_alias, presets_folder
from workbench.recipe import UsedModel, used_models
from workbench.serve import InForce
from workbench.serve.app import Service
from workbench.serve.asking import asked
from workbench.serve.in_force import public_settings, public_words, without_paths
from workbench.settings import Settings

SMALL = Settings(width=64, height=64, model="embedded")


def test_a_preset_of_yours_takes_the_place_of_a_shipped_one() -> None:
    served = InForce(["hires-768"])
    assert served.get().preset.settings.width == 768
    Preset("hires-768", SMALL).save(presets_folder() / "hires-768.json")
    assert served.get().preset.settings.width == 64


def test_an_alias_is_served_under_its_own_name_and_followed() -> None:
    folder = presets_folder()
    Preset("production", SMALL.replace(steps=5)).save(folder / "production.json")
    Preset("other", SMALL.replace(steps=7)).save(folder / "other.json")
    make_alias("best", "production")
    served = InForce(["best"])
    assert served.names == ["best"] and served.get().preset.settings.steps == 5
    Preset("production", SMALL.replace(steps=6)).save(folder / "production.json")
    assert (served.get("best").preset.name, served.get().preset.settings.steps) == ("best", 6)
    make_alias("best", "other")
    assert served.get().preset.settings.steps == 7


def test_other_weights_than_a_preset_was_made_with_are_not_served_unasked() -> None:
    path = presets_folder() / "production.json"
    good = Preset("production", SMALL, models=used_models(SMALL)).save(path)
    served = InForce(["production"])
    assert served.get().others == [] and served.get().digest == good.digest
    other = {**good.models, "model": UsedModel(name="embedded", digest="0" * 64)}
    Preset("production", SMALL.replace(steps=9), models=other).save(path)
    assert served.get().preset.settings.steps == SMALL.steps  # what was in force stays
    with pytest.raises(NotServed, match=r"model 'embedded' is another one here .* --accept-other-models"):
        InForce(["production"])
    accepted = InForce(["production"], accept_other_models=True).get()
    assert accepted.preset.settings.steps == 9 and "another one here" in accepted.others[0]


def test_monitors_do_not_wait_for_a_promotions_weights() -> None:
    """Those of a new model are read when it is picked up: 7 GB, on the thread that `/health` answers on."""
    path = presets_folder() / "production.json"
    Preset("other name", SMALL.replace(steps=5)).save(path)
    served = InForce(["production"])
    Preset("production", SMALL.replace(steps=6)).save(path)
    assert served.current().preset.settings.steps == 5
    assert served.get().preset.settings.steps == served.current().preset.settings.steps == 6
    assert served.get().preset.name == "production"


def test_what_is_written_while_it_is_read_is_read_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    path = presets_folder() / "production.json"
    Preset("production", SMALL.replace(steps=5)).save(path)
    served = InForce(["production"])
    from workbench.serve import in_force

    real = in_force.load_preset

    def load(source: str) -> Preset:
        found = real(source)
        if found.settings.steps == 6:
            Preset("production", SMALL.replace(steps=7)).save(path)
        return found

    Preset("production", SMALL.replace(steps=6)).save(path)
    monkeypatch.setattr(in_force, "load_preset", load)
    assert served.get().preset.settings.steps == 6
    assert served.get().preset.settings.steps == 7


def test_a_request_does_not_get_round_a_licence(home: Path, tiny_model: Path) -> None:
    models = home / "models"
    models.mkdir(parents=True)
    (models / "open").symlink_to(tiny_model)
    closed = models / "closed"
    closed.mkdir()
    for entry in tiny_model.iterdir():
        (closed / entry.name).symlink_to(entry)
    (closed / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    preset = Preset("p", SMALL.replace(model="open", hires=False, restorer="none"), allow=("prompt", "seed", "model"))
    with pytest.raises(NotServed):
        InForce((), given=[Preset("q", SMALL.replace(model="closed"))])
    for accept, ends in ((False, NotServed), (True, None)):
        served = InForce((), given=[preset], accept_licences=accept)
        service = Service(served)
        request = asked({"prompt": "x", "model": "closed"}, preset.allow)
        if ends:
            with pytest.raises(ends, match="cc-by-nc"):
                service.wanted(served.get(), request)
        else:
            assert service.wanted(served.get(), request)[0].model == "closed"
        with pytest.raises(BadRequest, match="'nope' is not there"):
            service.wanted(served.get(), asked({"prompt": "x", "model": "nope"}, preset.allow))
        service.queue.close()


def test_a_name_that_no_header_can_have_is_no_presets(home: Path) -> None:
    Preset("x", SMALL).save(presets_folder() / "Größe.json")
    with pytest.raises(UsageError, match="cannot be a preset's name"):
        InForce([str(presets_folder() / "Größe.json")])


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("there is no /home/joe/models/a.safetensors; look", "there is no a.safetensors; look"),
        ("at /secret and /root.", "at secret and root."),
        ("x:/home/joe/m.safetensors", "x:m.safetensors"),
        ("file:///home/joe/x.json", "x.json"),
        (r"C:\Users\joe\x.pth", "x.pth"),
        ("~/models/a, ../b/c", "a, c"),
        ("3/4 of 1024x1024 px/s", "3/4 of 1024x1024 px/s"),
    ],
)
def test_a_path_is_shown_as_its_name(said: str, shown: str) -> None:
    assert public_words(said) == shown


def test_no_value_and_no_key_has_a_path(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/joe smith")
    assert without_paths({"/etc/abc/def": ["/home/joe smith/run1/x.json", 1]}) == {"def": ["x.json", 1]}
    loras = "/home/joe/l/a.safetensors:0.5, /home/joe/l/b.safetensors:1, c:0.2"
    shown = public_settings(SMALL.replace(loras=loras, model=os.path.join("/home/joe", "x.safetensors")))
    assert (shown["loras"], shown["model"]) == ("a:0.5, b:1, c:0.2", "x")
