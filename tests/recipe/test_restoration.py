"""Faces: what the weights share runs once and changes no bit; a face pasted into an enlarged picture is in its place."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from workbench.errors import Cancelled, UsageError
from workbench.models import codeformer, retinaface
from workbench.recipe import faces
from workbench.recipe.restoration import Enlarge, RestoreFaces
from workbench.settings import Settings
from workbench.store.store import Artefact

SETTINGS = Settings(model="embedded", weight=0.3)
WEIGHTS = (0.3, 0.0, 1.0)


def silent(name: str, done: int, total: int) -> None:
    pass


@pytest.fixture
def restorer() -> RestoreFaces:
    return RestoreFaces(SETTINGS)


@pytest.fixture(scope="module")
def couple(astronaut: Image.Image, hopper: Image.Image) -> Artefact:
    """Two people, 768x600."""
    both = Image.new("RGB", (768, 600), "grey")
    both.paste(hopper, (0, 0))
    both.paste(astronaut.crop((100, 0, 356, 256)), (512, 100))
    return Artefact(both)


def at(weights: tuple[float, ...]) -> list[Settings]:
    return [SETTINGS.replace(weight=weight) for weight in weights]


# --- many weights -----------------------------------------------------------------------------------------------------


def test_many_weights_equal_the_plain_recipe(restorer: RestoreFaces, couple: Artefact) -> None:
    """find, align, spandrel's own forward, paste: face after face, weight after weight."""
    seen = []
    made = restorer.many(couple, at(WEIGHTS), lambda *n: seen.append(n))
    detector, net = retinaface.load_retinaface(), codeformer.load_codeformer()
    found = faces.find_faces(couple.image, detector)
    assert len(found) == 2
    for weight, artefact in zip(WEIGHTS, made, strict=True):
        expected = couple.image
        for face in found:
            crop, matrix = faces.align(couple.image, face)
            with torch.inference_mode():
                y = net((torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.5, weight=weight)[0][0]
            restored = ((y.clamp(-1, 1) + 1) / 2 * 255.0).round().byte().permute(1, 2, 0).numpy()
            expected = faces.paste(expected, restored, matrix)
        assert np.array_equal(np.asarray(artefact.image), np.asarray(expected))
        assert [about["box"] for about in artefact.info["faces"]] == [[round(v, 2) for v in f.box] for f in found]
    assert restorer.counts == {"detections": 1, "prefixes": 2, "weights": 6}
    assert seen == [("faces", n, 6) for n in range(7)]
    assert made[0].seconds == made[1].seconds > 0


def test_one_is_many_with_one(restorer: RestoreFaces, couple: Artefact) -> None:
    alone = restorer(couple, SETTINGS, silent)
    assert restorer.counts == {"detections": 1, "prefixes": 2, "weights": 2}
    among = restorer.many(couple, at((0.9, 0.3)), silent)[1]
    assert restorer.counts == {"detections": 2, "prefixes": 4, "weights": 6}
    assert np.array_equal(np.asarray(alone.image), np.asarray(among.image)) and alone.info == among.info


def test_other_networks_are_refused_and_dead_settings_are_not(restorer: RestoreFaces, couple: Artefact) -> None:
    for change, said in (
        ({"detector": "retinaface_resnet50", "weight": 0.5}, "differ in detector; restore them apart"),
        ({"restorer": "none", "model": "sdxl"}, "differ in model and restorer; restore them apart"),
    ):
        with pytest.raises(UsageError, match=said):
            restorer.many(couple, [SETTINGS, SETTINGS.replace(**change)], silent)
    assert restorer.many(couple, [], silent) == []
    assert restorer.counts == {"detections": 0, "prefixes": 0, "weights": 0}
    empty = Artefact(Image.new("RGB", (96, 64), "grey"))  # strength .36 and .37 of 25 are the same picture
    alike = [SETTINGS.replace(strength=0.36), SETTINGS.replace(strength=0.37, weight=0.6, upscale_factor=4)]
    assert len(restorer.many(empty, alike, silent)) == 2


def test_no_face_is_a_result_for_every_weight(restorer: RestoreFaces) -> None:
    empty, seen = Artefact(Image.new("RGB", (96, 64), "grey")), []
    made = restorer.many(empty, at(WEIGHTS), lambda *n: seen.append(n))
    assert [artefact.info for artefact in made] == [{"faces": []}] * 3
    assert all(np.array_equal(np.asarray(artefact.image), np.asarray(empty.image)) for artefact in made)
    assert restorer.counts == {"detections": 1, "prefixes": 0, "weights": 0} and seen == [("faces", 0, 0)]


def test_it_stops_within_a_face(restorer: RestoreFaces, couple: Artefact) -> None:
    def stop(name: str, done: int, total: int) -> None:
        if done == 2:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        restorer.many(couple, at(WEIGHTS), stop)
    assert restorer.counts == {"detections": 1, "prefixes": 1, "weights": 2}


def test_a_face_s_features_go_before_the_next_face(
    restorer: RestoreFaces, couple: Artefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[weakref.ref[Any]] = []
    prefix = codeformer.prefix

    def watched(*arguments: Any) -> codeformer.Features:
        gc.collect()
        assert not [ref for ref in alive if ref() is not None]
        features = prefix(*arguments)
        alive.append(weakref.ref(features))
        return features

    monkeypatch.setattr(codeformer, "prefix", watched)
    restorer.many(couple, [SETTINGS], silent)
    assert len(alive) == 2


def test_moving_the_weight_runs_only_what_depends_on_it(restorer: RestoreFaces, couple: Artefact) -> None:
    settings = [SETTINGS.replace(weight=weight) for weight in (0.2, 0.7)]
    afresh = restorer.many(couple, settings, silent)
    before = dict(restorer.counts)
    moved = [restorer(couple, one, silent) for one in settings]
    assert [np.asarray(m.image).tobytes() for m in moved] == [np.asarray(a.image).tobytes() for a in afresh]
    assert {name: n - before[name] for name, n in restorer.counts.items()} == {
        "detections": 1, "prefixes": 2, "weights": 4,
    }  # fmt: skip
    mirrored = Artefact(couple.image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    other = restorer(mirrored, SETTINGS, silent)
    assert restorer.counts["detections"] == before["detections"] + 2
    assert (
        np.asarray(other.image).tobytes() == np.asarray(restorer.many(mirrored, [SETTINGS], silent)[0].image).tobytes()
    )


# --- into an enlarged picture -----------------------------------------------------------------------------------------


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """A restorer that gives back what it is given; the crops it was given."""
    given = []

    def prefix(net: Any, crop: np.ndarray) -> np.ndarray:
        given.append(crop)
        return crop

    def suffix(net: Any, crop: np.ndarray, weights: list[float], progress: Callable[[int, int], None]) -> list[Any]:
        for done, _ in enumerate(weights, start=1):
            progress(done, len(weights))
        return [crop] * len(weights)

    monkeypatch.setattr(codeformer, "prefix", prefix)
    monkeypatch.setattr(codeformer, "suffix", suffix)
    return given


def larger(picture: Image.Image, zoom: int) -> Image.Image:
    size = (picture.width * zoom, picture.height * zoom)
    return Image.fromarray(cv2.resize(np.asarray(picture), size, interpolation=cv2.INTER_CUBIC))


@pytest.mark.parametrize("zoom", [1, 2, 4])
def test_an_untouched_face_lands_where_it_was(
    restorer: RestoreFaces, astronaut: Image.Image, identity: list[np.ndarray], zoom: int
) -> None:
    """Measured at zoom 1, 2, 4: 1.67, 1.72, 1.66 of 255; half a pixel of the larger picture off: 6.4, 3.6, 2.3."""
    background = larger(astronaut, zoom)
    made = restorer.many(Artefact(astronaut), at((0.1, 0.9)), silent, onto=Artefact(background))
    assert np.array_equal(np.asarray(made[0].image), np.asarray(made[1].image))
    x0, y0, x1, y1 = (round(v) for v in made[0].info["faces"][0]["box"])

    def difference(image: Image.Image) -> float:
        return float(np.abs(np.asarray(image, int) - np.asarray(background))[y0:y1, x0:x1].mean())

    assert made[0].image.size == background.size and difference(made[0].image) < 1.9
    face = faces.find_faces(astronaut, restorer.detector)[0]
    crop, matrix = faces.align(astronaut, face)
    assert len(identity) == 1 and np.array_equal(identity[0], crop)  # cut from the picture that was not enlarged
    np.testing.assert_allclose((x0, y0, x1, y1), (np.array(face.box) + 0.5) * zoom - 0.5, atol=0.51)
    for shift in (-0.5, 0.5):
        moved = faces.enlarged(matrix, zoom)
        moved[:, 2] += moved[:, :2] @ (shift, shift)
        assert difference(faces.paste(background, crop, moved)) > 1.3 * difference(made[0].image)


def test_the_picture_around_the_faces_is_the_upscaler_s(
    restorer: RestoreFaces, astronaut: Image.Image, identity: list[np.ndarray]
) -> None:
    before = Artefact(astronaut.crop((120, 20, 330, 240)))
    settings = SETTINGS.replace(upscaler="realesr-animevideov3", upscale_mode="background", upscale_factor=2)
    upscaler = Enlarge(settings)
    enlarged = upscaler(before, settings, silent)
    assert enlarged.image.size == (420, 440) and upscaler.counts == {"tiles": 1}
    # of both pictures the face is the same to a few levels: the network neither moves nor recolours it
    made = restorer(before, settings, silent, enlarged)
    x0, y0, x1, y1 = (round(v) for v in made.info["faces"][0]["box"])
    here, there = (np.asarray(image, int) for image in (made.image, enlarged.image))
    assert 0 < np.abs(here - there)[y0:y1, x0:x1].mean() < 8
    changed = (here != there).any(axis=2)
    around = cv2.dilate(changed.astype(np.uint8), np.ones((3, 3)))
    assert changed[y0:y1, x0:x1].mean() > 0.5 and 0.1 < around.mean() < 0.8  # the crop's square, and nothing else


def test_another_picture_to_paste_into_is_refused(restorer: RestoreFaces, hopper: Image.Image) -> None:
    with pytest.raises(UsageError, match="1024x600 is not one of 512x600 enlarged"):
        restorer(Artefact(hopper), SETTINGS, silent, Artefact(hopper.resize((1024, 600))))


def test_out_of_memory_names_what_ran(
    restorer: RestoreFaces, hopper: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workbench.errors import OutOfMemory

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(codeformer, "prefix", full)
    with pytest.raises(OutOfMemory, match="restoring faces"):
        restorer(Artefact(hopper), SETTINGS, silent)
