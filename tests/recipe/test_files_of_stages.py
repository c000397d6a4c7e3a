"""Restorers, upscalers and resamplers by file, through the stages: keys, notes, and what they do to a picture."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from support.models import EMBEDDED_RESTORER
from support.networks import restore_former, write_network

from workbench.errors import CorruptWeights, MissingWeights, WrongModel
from workbench.files import pixels_sha256, resize
from workbench.files.pictures import infotext
from workbench.models.upscalers import load_upscaler
from workbench.recipe import Bench, notes, restoration, stage_keys
from workbench.recipe.restoration import RestoreFaces, keep_grey
from workbench.settings import Settings, short_name
from workbench.store import Artefact, Store
from workbench.sweeps import plan, sweep

SETTINGS = Settings(model="embedded")


def silent(name: str, done: int, total: int) -> None:
    """A report that shows nothing."""


@pytest.fixture
def models(home: Path) -> Path:
    folder = home / "models"
    restore_former(folder / "restorers" / "former.pth")
    shutil.copy(EMBEDDED_RESTORER / "codeformer.safetensors", folder / "restorers" / "mine.safetensors")
    write_network(folder / "upscalers" / "2x-Span.pth", "SPAN")
    write_network(folder / "upscalers" / "4x-Sharp.pth", "ESRGAN")
    return folder


# --- restorers -------------------------------------------------------------------------------------------------------


def test_the_weight_of_a_restorer_without_one_is_dead_and_said_so(models: Path, tiny: Settings, spec: Any) -> None:
    without = tiny.replace(restorer="former", weight=0.2)
    assert stage_keys(without)["faces"] == stage_keys(without.replace(weight=0.9))["faces"]
    assert notes(without) == ["weight has no effect: RestoreFormer has none"]
    assert notes(without.replace(weight=0.6)) == []
    fixed = {**spec["fixed"], "restorer": "former", "strength": 0.3, "refine_cfg": 2.0}
    planned = plan({**spec, "axes": {"weight": [0.0, 0.5, 1.0]}, "fixed": fixed}, Store(None))
    assert planned.warnings[0].startswith(
        "axis weight is dead: all its values (0, 0.5 and 1) give the same picture (RestoreFormer has no"
    )
    assert len(planned.jobs["faces"]) == 2
    del fixed["restorer"]
    both = plan(
        {**spec, "axes": {"weight": [0.0, 1.0], "restorer": ["codeformer", "former"]}, "fixed": fixed}, Store(None)
    )
    assert "weight has no effect in 4 of 8 cells: RestoreFormer has none." in both.warnings
    assert len(both.jobs["faces"]) == 2 * (2 + 1)


def test_a_file_is_known_by_its_content(models: Path, tiny: Settings) -> None:
    mine = tiny.replace(restorer="mine")
    assert stage_keys(mine)["faces"] != stage_keys(tiny.replace(restorer="former"))["faces"]
    # the very file that `codeformer` is of this model, under another name
    assert stage_keys(mine)["faces"] == stage_keys(tiny.replace(restorer="codeformer"))["faces"]
    path = models / "restorers" / "mine.safetensors"
    assert stage_keys(tiny.replace(restorer=str(path))) == stage_keys(mine)
    with pytest.raises(MissingWeights, match="the face restorer 'other' is not there"):
        stage_keys(tiny.replace(restorer="other"))


def test_what_a_picture_says_of_its_restorer(models: Path, tiny: Settings) -> None:
    text = infotext(tiny.replace(restorer=str(models / "restorers" / "former.pth"), restore_visibility=0.5))
    assert "Face restoration: RestoreFormer, Face restorer file: former, RestoreFormer visibility: 0.5" in text
    assert "CodeFormer weight" not in text
    text = infotext(tiny.replace(restorer="mine", weight=0.3))
    assert "Face restoration: CodeFormer, Face restorer file: mine, CodeFormer weight: 0.3" in text
    assert "Face restoration: gone" in infotext(tiny.replace(restorer="gone"))


def test_restore_visibility_blends(astronaut: Image.Image) -> None:
    restorer = RestoreFaces(SETTINGS)
    at = {v: SETTINGS.replace(restore_visibility=v) for v in (0.0, 0.5, 1.0)}
    made = restorer.many(Artefact(astronaut), [*at.values()], silent)
    none, half, whole = (np.asarray(each.image, np.float32) for each in made)
    assert restorer.counts["weights"] == 1  # the network ran once for all three
    assert np.array_equal(none, np.asarray(astronaut)) and not np.array_equal(whole, none)
    assert np.abs(half - (none + whole) / 2).max() <= 1
    keys = {stage_keys(SETTINGS.replace(restore_visibility=v))["faces"] for v in (0.5, 1.0)}
    assert len(keys) == 2 and Settings.written({"model": "embedded"}) == SETTINGS.replace(prompt_syntax="plain")


def test_a_visibility_costs_no_restoration(tiny: Settings, spec: Any) -> None:
    fixed = {**spec["fixed"], "strength": 0.3, "refine_cfg": 2.0}
    axes = {"restore_visibility": [0.25, 0.5, 1.0], "weight": [0.0, 1.0]}
    planned = plan({**spec, "axes": axes, "fixed": fixed}, Store(None))
    minimum = planned.minimum()
    assert len(planned.jobs["faces"]) == 2 * 6 and (minimum["prefixes"], minimum["weights"]) == (2, 2 * 2)


# --- grey stays grey -------------------------------------------------------------------------------------------------


def sepia(picture: Image.Image) -> Image.Image:
    grey = np.asarray(picture.convert("L"), np.float32)[..., None]
    return Image.fromarray(np.clip(grey * [1.0, 0.86, 0.68] + [8, 4, 0], 0, 255).astype(np.uint8))


def tint(image: Any) -> float:
    """Mean distance of a and b (CIELAB) from those of a sepia picture of the same lightness."""
    lab = cv2.cvtColor(np.asarray(image, np.float32) / 255, cv2.COLOR_RGB2LAB)
    like = cv2.cvtColor(np.asarray(sepia(Image.fromarray(np.asarray(image))), np.float32) / 255, cv2.COLOR_RGB2LAB)
    return float(np.abs(lab[..., 1:] - like[..., 1:]).mean())


@pytest.mark.parametrize("left", [0, 190])  # in the middle, and at the border: what lies outside is not quite grey
def test_a_grey_picture_stays_grey(astronaut: Image.Image, left: int) -> None:
    grey = astronaut.convert("L").convert("RGB").crop((left, 0, 512, 400))
    made = RestoreFaces(SETTINGS)(Artefact(grey), SETTINGS, silent)
    pixels = np.asarray(made.image)
    assert made.info["faces"] and not np.array_equal(pixels, np.asarray(grey))
    assert (pixels == pixels[..., :1]).all()


def test_a_sepia_picture_stays_sepia_and_a_coloured_one_coloured(astronaut: Image.Image) -> None:
    restorer = RestoreFaces(SETTINGS)
    old = restorer(Artefact(sepia(astronaut)), SETTINGS, silent).image
    coloured = restorer(Artefact(astronaut), SETTINGS, silent)
    x0, y0, x1, y1 = map(int, coloured.info["faces"][0]["box"])
    inside = (x0, y0, x1, y1)
    assert tint(old.crop(inside)) < 1.2 and tint(coloured.image.crop(inside)) > 4
    with pytest.MonkeyPatch.context() as without:
        without.setattr(restoration, "keep_grey", lambda crop, restored, **_: restored)
        assert tint(restorer(Artefact(sepia(astronaut)), SETTINGS, silent).image.crop(inside)) > 1.8
    rng = np.random.default_rng(0)
    crop, restored = (rng.integers(0, 256, (512, 512, 3), dtype=np.uint8) for _ in range(2))
    assert keep_grey(crop, restored, grey=False) is restored


def test_nothing_changes_outside_the_pasted_face(astronaut: Image.Image) -> None:
    made = RestoreFaces(SETTINGS)(Artefact(astronaut), SETTINGS, silent)
    (x0, y0, x1, y1) = made.info["faces"][0]["box"]
    size = max(x1 - x0, y1 - y0)
    near = np.zeros(astronaut.size[::-1], bool)
    near[max(int(y0 - size), 0) : int(y1 + size), max(int(x0 - size), 0) : int(x1 + size)] = True
    assert np.array_equal(np.asarray(made.image)[~near], np.asarray(astronaut)[~near])


# --- upscalers and resamplers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "scale"), [("2x-Span", 2), ("4x-Sharp", 4)])
@pytest.mark.parametrize("factor", [1, 2, 1.5, 3, 8])
def test_any_factor(models: Path, tiny: Settings, bench: Bench, name: str, scale: int, factor: float) -> None:
    result = bench.generate(tiny.replace(upscaler=name, upscale_factor=factor))
    before = result.stages["refine"]
    size = (round(before.width * factor), round(before.height * factor))
    upscaler = load_upscaler(name)
    whole = Image.fromarray(upscaler(np.asarray(before)))
    assert upscaler.scale == scale and result.image.size == size
    assert pixels_sha256(result.image) == pixels_sha256(resize(whole, size))


def test_a_whole_factor_is_a_whole_number(tiny: Settings) -> None:
    """Runs and keys of before have 2, not 2.0."""
    assert type(tiny.replace(upscale_factor=2.0).upscale_factor) is int
    assert tiny.replace(upscale_factor=2.0) == tiny.replace(upscale_factor=2)
    assert tiny.replace(upscale_factor=1.5).upscale_factor == 1.5


def test_the_hires_fix_enlarges_by_a_file(models: Path, tiny: Settings, bench: Bench) -> None:
    plain, by_file = bench.generate(tiny), bench.generate(tiny.replace(resampler="4x-Sharp"))
    assert pixels_sha256(plain.image) != pixels_sha256(by_file.image)
    assert by_file.image.size == plain.image.size and by_file.counters["calls"]["tiles"] == 1
    # the same as if somebody had enlarged the base picture by hand and refined it
    base = by_file.stages["base"]
    by_hand = resize(Image.fromarray(load_upscaler("4x-Sharp")(np.asarray(base))), tiny.hires_size)
    keys = stage_keys(tiny.replace(resampler="nearest"))
    on = Bench(Store(None))
    first = bench.store.get(stage_keys(tiny)["base"])
    assert first is not None
    on.store.put(keys["base"], Artefact(by_hand, first.generator_state), {})
    assert pixels_sha256(on.generate(tiny.replace(resampler="nearest")).image) == pixels_sha256(by_file.image)
    another = stage_keys(tiny.replace(resampler="4x-Sharp"))
    write_network(models / "upscalers" / "4x-Sharp.pth", "SPAN")  # exchanged while the bench is open
    assert stage_keys(tiny.replace(resampler="4x-Sharp"))["refine"] != another["refine"]
    exchanged = bench.generate(tiny.replace(resampler="4x-Sharp"))
    fresh = Bench(Store(None)).generate(tiny.replace(resampler="4x-Sharp"))
    assert pixels_sha256(exchanged.image) == pixels_sha256(fresh.image) != pixels_sha256(by_file.image)
    assert "Hires upscaler: 4x-Sharp" in infotext(tiny.replace(resampler=str(models / "upscalers" / "4x-Sharp.pth")))


def test_a_sweep_of_resampler_files_makes_the_pictures_of_generate(models: Path, tiny: Settings, spec: Any) -> None:
    fixed = {**spec["fixed"], "restorer": "none", "strength": 0.3}
    axes = {"resampler": ["2x-Span", "4x-Sharp", "realesr-animevideov3"], "refine_cfg": [2.0, 6.0]}
    run = sweep({**spec, "prompts": ["a face"], "axes": axes, "fixed": fixed}, on=Bench(Store(None)), quiet=True)
    for record in run.records():
        alone = Bench(Store(None)).generate(Settings(**record["settings"]))
        assert pixels_sha256(alone.image) == record["pixels_sha256"]
    assert len({record["pixels_sha256"] for record in run.records()}) == 6


def test_a_wrong_or_broken_upscaler_is_refused_by_the_plan(models: Path, tiny: Settings, spec: Any) -> None:
    shutil.copy(models / "restorers" / "former.pth", models / "upscalers" / "former.pth")
    (models / "upscalers" / "broken.pth").write_bytes(b"PK")
    fixed = {**spec["fixed"], "strength": 0.3, "refine_cfg": 2.0}
    for setting in ("upscaler", "resampler"):
        for name, kind, said in (
            ("former", WrongModel, "restores faces"),
            ("broken", CorruptWeights, "not a usable weights file"),
            ("gone", MissingWeights, "the upscaler 'gone' is not there"),
        ):
            with pytest.raises(kind, match=said):
                plan({**spec, "axes": {"weight": [0.0]}, "fixed": {**fixed, setting: name}}, Store(None))
    winners = {**spec, "axes": {"weight": [0.0]}, "fixed": {**fixed, "upscaler": "gone"}, "upscale_winners": 1}
    with pytest.raises(MissingWeights, match="the upscaler 'gone' is not there"):
        plan(winners, Store(None))


def test_the_licence_beside_a_restorer_is_told(models: Path, tiny: Settings) -> None:
    from workbench.settings import stages

    s = tiny.replace(restorer="former")
    assert stages()["faces"].licences(s) == ["RestoreFormer: Apache-2.0"]
    (models / "restorers" / "former.license").write_text("CC-BY-NC-4.0")
    assert (
        stages()["faces"]
        .licences(s)[1]
        .startswith("face restorer former: CC-BY-NC-4.0; must not be put behind a service")
    )


def test_models_list_shows_them_and_survives_what_is_odd(models: Path) -> None:
    from workbench.models import list_models

    (models / "restorers" / "dangling.pth").symlink_to(models / "nowhere.pth")
    (models / "upscalers" / "folder.pth").mkdir()
    (models / "upscalers" / "broken.pth").write_bytes(b"PK")
    found = {info.path.name: (info.kind, info.usable) for info in list_models()}
    assert found == {
        "former.pth": ("restorer", True), "mine.safetensors": ("restorer", True), "2x-Span.pth": ("upscaler", True),
        "4x-Sharp.pth": ("upscaler", True), "broken.pth": ("upscaler", False),
    }  # fmt: skip


def test_a_picker_of_files_takes_what_a_preset_names(models: Path, tiny: Settings) -> None:
    from workbench.notebook.widgets.controls import Controls
    from workbench.notebook.widgets.fields import on_this_machine

    path = str(models / "upscalers" / "4x-Sharp.pth")
    controls = Controls(tiny.replace(upscaler=path), lambda name: None)
    field: Any = controls.fields["upscaler"]
    assert field.value == path and field.options[0] == "none"
    controls.offer(on_this_machine())
    assert {"4x-Sharp", "2x-Span", "realesrgan-x4plus"} <= {*field.options}
    assert {"codeformer", "former", "mine"} <= {*controls.fields["restorer"].options}  # type: ignore[union-attr]
    controls.show(tiny.replace(upscaler="/elsewhere/x.pth"))
    assert controls.settings().upscaler == "/elsewhere/x.pth"
    controls._reset("upscaler")
    assert controls.settings().upscaler == path


def test_several_files_are_an_axis_and_are_loaded_once(
    models: Path, tiny: Settings, spec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workbench.recipe import restoration

    loaded: list[str] = []
    real = restoration.load_upscaler
    monkeypatch.setattr(restoration, "load_upscaler", lambda name, where: loaded.append(name) or real(name, where))
    paths = [str(models / "upscalers" / "2x-Span.pth"), "4x-Sharp"]
    fixed = {**spec["fixed"], "restorer": "none", "strength": 0.3, "refine_cfg": 2.0, "upscale_factor": 2}
    asked = {**spec, "axes": {"upscaler": paths}, "fixed": fixed}
    run = sweep(asked, on=Bench(Store(None)), quiet=True)
    assert sorted(loaded) == sorted(paths)
    assert [short_name(row) for row in run.table()["upscaler"]] == ["2x-Span", "4x-Sharp"] * 2
    from workbench.analysis import arrange

    page = arrange(run)
    assert page.columns == ["Upscaler 2x-Span", "Upscaler 4x-Sharp"]


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("/models/4x-UltraSharp.pth", "4x-UltraSharp"), ("4x-A.safetensors", "4x-A"), ("lanczos", "lanczos"),
        ("~/models/realvis", "realvis"), ("./a.b/v5.1", "v5.1"), ("a face/a lake", "a face/a lake"), ("", ""),
    ],
)  # fmt: skip
def test_short_names(text: str, short: str) -> None:
    assert short_name(text) == short
