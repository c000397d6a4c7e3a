"""A model's licence comes with it, or nobody here knows it; one that forbids serving is told wherever it is used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from workbench.errors import NotServed
from workbench.files import write_json
from workbench.models.licences import licence_of
from workbench.presets import licences, load_preset
from workbench.settings import Settings


def file(path: Path, **metadata: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"a": np.zeros(1)}, path, metadata=metadata or None)
    return path


def test_from_the_metadata_of_a_file(tmp_path: Path) -> None:
    path = file(
        tmp_path / "face.safetensors", **{"modelspec.license": "CreativeML Open RAIL++-M", "modelspec.title": "Face"}
    )
    assert licence_of("face", path) == "face: CreativeML Open RAIL++-M (Face)"
    assert licence_of("face", file(tmp_path / "plain.safetensors")) == "face: ask whoever published it"
    assert licence_of("face", None) == "face: ask whoever published it"


def test_from_a_file_beside_it(tmp_path: Path) -> None:
    path = file(tmp_path / "face.safetensors")
    path.with_suffix(".licence.txt").write_text("\n# My own licence\nsays a lot")
    assert licence_of("face", path) == "face: My own licence"


@pytest.mark.parametrize(
    ("allowed", "said"),
    [
        ([], "Civitai: non-commercial use only; must not be put behind a service without its publisher's leave"),
        (
            ["Image", "Sell"],
            "Civitai: commercial use allowed for Image, Sell, not for generation services; must not be put",
        ),
        (["Image", "RentCivit", "Rent"], "Civitai: commercial use allowed for Image, RentCivit, Rent"),
        ("{Image,Rent}", "Civitai: commercial use allowed for Image, Rent"),
    ],
)
def test_from_what_civitai_says_beside_it(allowed: object, said: str, tmp_path: Path) -> None:
    path = file(tmp_path / "face.safetensors")
    path.with_suffix(".civitai.info").write_text(json.dumps({"model": {"allowCommercialUse": allowed}}))
    found = licence_of("face", path)
    assert found.startswith(f"face: {said}") and ("service" in found) == ("Rent" not in str(allowed))


def test_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: other\nlicense_name: cc-by-nc-nd-4.0\n---\n")
    found = licence_of("face", tmp_path)
    assert found == "face: cc-by-nc-nd-4.0; must not be put behind a service without its publisher's leave"
    (tmp_path / "README.md").unlink()
    (tmp_path / "LICENSE").write_text("Fair AI Public License 1.0-SD\n\nlong")
    assert licence_of("face", tmp_path) == "face: Fair AI Public License 1.0-SD"


@pytest.mark.parametrize("name", ["juggernautXL_juggXIByRundiffusion", "Juggernaut-XI-v11", "juggernaut_xl_v11"])
def test_what_is_known_to_forbid_serving(name: str, tmp_path: Path) -> None:
    assert "not permitted behind API services" in licence_of(name, file(tmp_path / f"{name}.safetensors"))


@pytest.mark.parametrize("name", ["juggernautXL_v9", "RealVisXL_V5.0", "juggernaut_reborn"])
def test_others_are_not_taken_for_it(name: str, tmp_path: Path) -> None:
    assert "service" not in licence_of(name, file(tmp_path / f"{name}.safetensors"))


def test_a_picture_comes_under_all_that_made_it(home: Path) -> None:
    for name in ("one", "two", "three"):
        file(home / "models" / f"{name}.safetensors", **{"modelspec.license": f"licence of {name}"})
    found = licences(Settings(model="one", refiner="two", vae="three", restorer="none"))
    assert found == ["one: licence of one", "three: licence of three", "two: licence of two"]
    assert licences(Settings(model="one", refiner="base", restorer="none")) == ["one: licence of one"]
    assert licences(Settings(model="one", refiner="two", hires=False, restorer="none")) == ["one: licence of one"]
    assert licences(Settings(restorer="none")) == ["SDXL 1.0 base and refiner: CreativeML Open RAIL++-M"]


def test_whoever_shows_promotes_or_serves_a_preset_is_told(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also of a preset that was written by hand, which names no licence."""
    from workbench.cli.presets import presets_show
    from workbench.cli.server import serve

    file(home / "models" / "Juggernaut-XI.safetensors")
    write_json(home / "presets" / "mine.json", {
        "format": "workbench-preset", "version": 1, "name": "mine", "settings": {"model": "Juggernaut-XI"},
    })  # fmt: skip
    presets_show("mine")
    assert (
        "licence: Juggernaut-XI: ask whoever published it; must not be put behind a service" in capsys.readouterr().out
    )
    monkeypatch.setattr("workbench.serve.serve", lambda *_, **__: None)
    with pytest.raises(NotServed, match=r"preset mine is not served: Juggernaut-XI: .* --accept-licences"):
        serve(["mine"])
    serve(["mine"], accept_licences=True)
    assert "you may serve what these licences forbid to serve" in capsys.readouterr().err
    assert any("not permitted behind API services" in text for text in licences(load_preset("mine").settings))
