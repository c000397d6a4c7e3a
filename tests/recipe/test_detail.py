"""The face detailer equals a plain img2img on the crop, bit for bit, and leaves no seam."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler, StableDiffusionXLImg2ImgPipeline
from PIL import Image
from support.checkpoints import pipelines_of

from workbench.errors import Cancelled, SettingsError
from workbench.files import pixels_sha256
from workbench.files.pictures import infotext
from workbench.models import load_retinaface
from workbench.recipe import Bench, Result, notes, stage_keys
from workbench.recipe.detailing import Crop, chosen, crop_around, mask_of, paste_all
from workbench.recipe.faces import Face, find_faces
from workbench.settings import Settings, stages
from workbench.store import Artefact, Store


@pytest.fixture
def s(tiny: Settings) -> Settings:
    return tiny.replace(detail=True, detail_size=64, detail_steps=5, seed=5)


@pytest.fixture(scope="module")
def group(astronaut: Image.Image) -> Image.Image:
    """Five times the same face, of five sizes; the largest touches the left edge, and two overlap."""
    head = astronaut.crop((160, 0, 300, 180))
    sheet = Image.new("RGB", (640, 384), (96, 110, 120))
    for size, place in ((1.5, (-52, 96)), (1.0, (230, 20)), (0.9, (310, 60)), (0.7, (500, 30)), (0.6, (420, 250))):
        sheet.paste(head.resize((round(140 * size), round(180 * size)), Image.Resampling.LANCZOS), place)
    return sheet


def detailed(picture: Image.Image, s: Settings) -> Result:
    """The picture detailed as if the hires fix had made it."""
    on = Bench(Store(None))
    before(on, picture, s)
    return on.generate(s)


def before(on: Bench, picture: Image.Image, s: Settings) -> None:
    state = torch.Generator("cpu").manual_seed(1).get_state().numpy().tobytes()
    on.store.put(stage_keys(s)["refine"], Artefact(picture, state), {})


def plain(model: Path, picture: Image.Image, s: Settings, about: dict[str, Any], seed: int) -> np.ndarray:
    """A face's crop by diffusers alone."""
    pipe: Any
    base, pipe = pipelines_of(model)
    if s.refiner == "base":
        pipe = StableDiffusionXLImg2ImgPipeline.from_pipe(base)
    pipe.set_progress_bar_config(disable=True)
    kinds = {
        "DPM++ 2M Karras": (DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
        "Euler": (EulerDiscreteScheduler, {}),
    }
    kind, more = kinds[s.sampler if s.detail_sampler == "same" else s.detail_sampler]
    pipe.scheduler = kind.from_config(pipe.scheduler.config, **more)
    crop = picture.crop(tuple(about["crop"])).resize(about["size"], Image.Resampling.LANCZOS)
    made = pipe(
        s.detail_prompt or s.prompt, negative_prompt=s.detail_negative_prompt or s.negative_prompt, image=crop,
        strength=s.detail_strength, num_inference_steps=s.detail_steps, guidance_scale=s.detail_cfg or s.refine_cfg,
        generator=torch.Generator("cpu").manual_seed(seed),
    ).images[0]  # fmt: skip
    left, top, right, bottom = about["crop"]
    return np.asarray(made.resize((right - left, bottom - top), Image.Resampling.LANCZOS))


@pytest.mark.parametrize(
    "changes",
    [
        {"detail_size": 320},
        {"detail_size": 96, "detail_cfg": 1.0},  # smaller than the face, which keeps its size
        {"detail_size": 256, "detail_prompt": "wrinkles", "detail_negative_prompt": "smooth", "detail_strength": 0.7},
        {"detail_sampler": "Euler", "detail_padding": 16, "detail_steps": 9, "refiner": "base"},
    ],
)
def test_it_equals_the_plain_pipeline(
    s: Settings, tiny_model: Path, astronaut: Image.Image, changes: dict[str, Any]
) -> None:
    s = s.replace(detail_mask="box", detail_dilate=24, detail_blur=0, **changes)
    result = detailed(astronaut, s)
    (about,) = result.info["detail"]["faces"]
    left, top, right, bottom = about["crop"]
    ours = np.asarray(result.image)[top:bottom, left:right]
    theirs = plain(tiny_model, astronaut, s, about, s.seed)
    box, crop = (about["box"][0], about["box"][1], about["box"][2], about["box"][3]), (left, top, right, bottom)
    whole = mask_of(Crop(face(*box), crop, about["size"]), astronaut.size, "box", 24, 0) == 1
    assert whole.mean() > 0.4 and np.array_equal(ours[whole], theirs[whole])
    assert not np.array_equal(ours[whole], np.asarray(astronaut)[top:bottom, left:right][whole])
    outside = np.asarray(result.image).copy()
    outside[top:bottom, left:right] = np.asarray(astronaut)[top:bottom, left:right]
    assert np.array_equal(outside, np.asarray(astronaut))


def test_five_faces_the_largest_first_each_with_its_seed(s: Settings, tiny_model: Path, group: Image.Image) -> None:
    s = s.replace(detail_blur=4, detail_padding=24)
    result = detailed(group, s)
    found = find_faces(group, load_retinaface(), s.detail_confidence)
    faces = result.info["detail"]["faces"]
    assert len(found) == 5 == len(faces) and result.counters["unet_evaluations"]["detail"] == 5 * 2
    assert [face["box"] for face in faces] == [pytest.approx(f.box, abs=0.01) for f in found]
    # the same by hand: each crop is cut from the picture before, whatever the others became
    crops = [crop_around(each, group.size, s.detail_padding, s.detail_size) for each in found]
    pieces = [Image.fromarray(plain(tiny_model, group, s, a, s.seed + n)) for n, a in enumerate(faces)]
    masks = [mask_of(crop, group.size, "ellipse", s.detail_dilate, s.detail_blur) for crop in crops]
    assert pixels_sha256(paste_all(group, crops, pieces, masks)) == pixels_sha256(result.image)
    assert faces[0]["crop"][0] == 0  # at the border
    assert crops[1].box[2] > crops[2].box[0]  # these overlap
    two = detailed(group, s.replace(detail_faces=2))
    assert [f["box"] for f in two.info["detail"]["faces"]] == [f["box"] for f in faces[:2]]
    assert two.info["detail"]["found"] == 5


def test_without_a_face_the_picture_is_unchanged_and_that_is_said(s: Settings, group: Image.Image) -> None:
    grey = Image.new("RGB", (128, 128), "grey")
    result = detailed(grey, s)
    assert pixels_sha256(result.image) == pixels_sha256(grey) and result.counters["unet_evaluations"]["detail"] == 0
    assert result.info["detail"]["faces"] == [] and result.info["detail"]["found"] == 0
    assert result.notes == ("the detailer found no face, so it changed nothing",)
    small = detailed(group, s.replace(detail_min_ratio=0.9))
    assert pixels_sha256(small.image) == pixels_sha256(group) and "all 5 faces are smaller" in small.notes[0]


def test_a_mask_that_leaves_nothing_costs_nothing_and_is_said(s: Settings, group: Image.Image) -> None:
    result = detailed(group, s.replace(detail_dilate=-100))
    assert pixels_sha256(result.image) == pixels_sha256(group) and result.counters["unet_evaluations"]["detail"] == 0
    assert result.notes == ("detail_dilate leaves nothing of 5 of 5 faces, which are as before",)


def test_a_wide_mask_has_room_in_its_crop(s: Settings, astronaut: Image.Image) -> None:
    """Without padding, a mask with a wide soft edge was cut to a quarter of the face."""
    (about,) = detailed(astronaut, s.replace(detail_padding=0, detail_blur=16)).info["detail"]["faces"]
    x0, y0, x1, y1 = about["box"]
    left, top, right, bottom = about["crop"]
    assert min(x0 - left, y0 - top, right - x1, bottom - y1) >= 4 + 2.5 * 16
    mask = mask_of(Crop(face(x0, y0, x1, y1), (left, top, right, bottom), (64, 64)), astronaut.size, "ellipse", 4, 16)
    assert mask.max() > 0.98


def test_padding_that_the_mask_has_anyway_is_no_other_picture(s: Settings) -> None:
    one, two = s.replace(detail_padding=0), s.replace(detail_padding=8)
    assert stage_keys(one)["detail"] == stage_keys(two)["detail"] != stage_keys(s.replace(detail_padding=80))["detail"]


def test_what_a_plan_counts_is_what_a_wider_mask_needs(s: Settings) -> None:
    """A blur that needs a larger crop needs another encoding of it; one that has room shares it."""
    stage = stages()["detail"]
    encoded = [stage.minimum(s.replace(detail_blur=blur), "k", ("r",))["vae_encodes"] for blur in (4, 8, 40)]
    assert encoded[0] == encoded[1] != encoded[2]


def test_a_detector_that_is_exchanged_finds_anew(
    s: Settings, astronaut: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workbench.recipe import detailing

    on = Bench(Store(None))
    before(on, astronaut, s)
    assert on.generate(s).counters["calls"]["detections"] == 1
    assert on.generate(s.replace(detail_steps=9)).counters["calls"]["detections"] == 0
    monkeypatch.setattr(detailing, "detector_identity", lambda name: "another")
    assert on.generate(s.replace(detail_steps=8)).counters["calls"]["detections"] == 1


def test_what_later_stages_make_of_it_still_says_so(s: Settings) -> None:
    result = detailed(Image.new("RGB", (128, 128), "grey"), s.replace(restorer="codeformer"))
    assert result.notes == ("the detailer found no face, so it changed nothing",)


def test_the_generator_goes_on_where_the_hires_fix_left_it(s: Settings, astronaut: Image.Image) -> None:
    on = Bench(Store(None))
    before(on, astronaut, s)
    on.generate(s)
    keys = stage_keys(s)
    first, second = (on.store.get(keys[name]) for name in ("refine", "detail"))
    assert first and second and first.generator_state == second.generator_state


def test_a_weight_sweep_of_a_detailed_picture_asks_no_unet(s: Settings, group: Image.Image) -> None:
    on = Bench(Store(None))
    s = s.replace(restorer="codeformer", weight=0.2, detail_faces=1)
    before(on, group, s)
    first = on.generate(s)
    second = on.generate(s.replace(weight=0.9))
    assert first.counters["unet_evaluations"]["detail"] == 2 and second.counters["calls"]["unet_calls"] == 0
    assert pixels_sha256(first.image) != pixels_sha256(second.image)
    # restored is what was detailed, and fidelity is measured against what was there before both
    assert list(first.stages) == ["base", "refine", "detail", "faces"]


def test_every_setting_that_acts_has_a_part_in_the_key(s: Settings) -> None:
    changes = {
        "detail_strength": 0.6, "detail_steps": 9, "detail_cfg": 2.0, "detail_size": 128, "detail_sampler": "Euler",
        "detail_prompt": "a nose", "detail_negative_prompt": "a hat", "detail_faces": 1, "detail_confidence": 0.5,
        "detail_min_ratio": 0.1, "detail_padding": 8, "detail_mask": "box", "detail_dilate": 9, "detail_blur": 3,
    }  # fmt: skip
    keys = {name: stage_keys(s.replace(**{name: value})) for name, value in changes.items()}
    assert len({each["detail"] for each in keys.values()} | {stage_keys(s)["detail"]}) == len(changes) + 1
    assert {each["refine"] for each in keys.values()} == {stage_keys(s)["refine"]}
    off = s.replace(detail=False)
    assert stage_keys(off.replace(**changes)) == stage_keys(off)
    assert stage_keys(s.replace(detail_prompt=s.prompt)) == stage_keys(s)


def test_it_can_be_cancelled_within_a_step(s: Settings, group: Image.Image) -> None:
    on = Bench(Store(None))
    before(on, group, s)
    seen: list[int] = []

    def report(stage: str, done: int, total: int) -> None:
        if stage == "detail":
            seen.append(done)
            assert total == 5 * 2
            if done == 3:
                raise Cancelled("enough")

    with pytest.raises(Cancelled):
        on.generate(s, report)
    assert seen == [0, 1, 2, 3]


# --- crops and masks -------------------------------------------------------------------------------------------------


def face(*box: float) -> Face:
    return Face((box[0], box[1], box[2], box[3]), 1.0, np.zeros((5, 2)))


@pytest.mark.parametrize(
    ("box", "size", "padding", "side", "crop", "work"),
    [
        ((40, 50, 60, 80), (200, 200), 10, 1024, (24, 40, 76, 92), (1024, 1024)),  # 30 + 1 + 20 = 51 or 52: a square
        ((-20, 0, 60, 80), (200, 200), 10, 1024, (0, 0, 91, 91), (1024, 1024)),
        ((150, 150, 230, 230), (200, 200), 0, 512, (150, 150, 200, 200), (512, 512)),
        ((10, 10, 110, 90), (300, 64), 20, 512, (0, 0, 131, 64), (512, 248)),  # a picture that is lower than the square
        ((50, 50, 250, 250), (400, 400), 30, 128, (18, 18, 282, 282), (264, 264)),  # larger than asked: as it is
        ((0, 0, 400, 400), (403, 402), 30, 128, (2, 1, 402, 401), (400, 400)),
    ],
)
def test_crops(box: Any, size: Any, padding: int, side: int, crop: Any, work: Any) -> None:
    found = crop_around(face(*box), size, padding, side)
    assert found.size == work and all(each % 8 == 0 for each in found.size)
    assert found.box == pytest.approx(crop, abs=1)
    left, top, right, bottom = found.box
    assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
    width, height = found.own_size
    assert abs(work[0] / work[1] - width / height) < 0.05  # its proportions are kept


@pytest.mark.parametrize("shape", ["ellipse", "box"])
@pytest.mark.parametrize("blur", [0, 4, 16])
def test_a_mask_is_whole_on_the_face_and_nothing_at_the_crops_edges(shape: str, blur: int) -> None:
    crop = crop_around(face(100, 100, 200, 220), (400, 400), 32, 1024)
    mask = mask_of(crop, (400, 400), shape, 4, blur)
    assert mask.shape == crop.own_size[::-1] and mask.dtype == np.float32
    assert mask.max() == pytest.approx(1, abs=1e-3) and mask.min() == 0
    edges = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    assert not edges.any()
    steps = np.abs(np.diff(mask, axis=0)).max()
    assert steps <= (1 if blur == 0 else 0.7 / blur)
    if shape == "box" and blur == 0:  # 108 x 128 px: the box, and 4 px around it
        assert mask.sum() == pytest.approx(108 * 128, rel=0.02)
    if shape == "ellipse" and blur == 0:
        assert mask.sum() == pytest.approx(np.pi / 4 * 108 * 128, rel=0.02)


def test_a_mask_reaches_the_edge_of_the_picture_with_the_face() -> None:
    crop = crop_around(face(-30, 100, 70, 220), (400, 400), 32, 1024)
    mask = mask_of(crop, (400, 400), "ellipse", 4, 8)
    assert crop.box[0] == 0 and mask[:, 0].max() > 0.99 and not mask[:, -1].any()


def test_small_faces_and_more_than_are_wanted_are_left_out() -> None:
    faces = [face(0, 0, 100, 100), face(0, 0, 50, 50), face(0, 0, 10, 10), face(500, 0, 510, 10)]
    assert chosen(faces, (200, 200), 9, 0) == faces[:3]  # the last lies outside
    assert chosen(faces, (200, 200), 2, 0) == faces[:2]
    assert chosen(faces, (200, 200), 9, 0.01) == faces[:2]


def across(picture: np.ndarray, mask: np.ndarray) -> float:
    """Mean absolute gradient of a picture where a mask is half, which is the paste's border, over that around it."""
    grey = picture.astype(np.float32).mean(axis=-1)
    slope = np.abs(np.diff(grey, axis=0))[:, :-1] + np.abs(np.diff(grey, axis=1))[:-1]
    inside = mask > 0.5
    border = (inside[1:, :-1] != inside[:-1, :-1]) | (inside[:-1, 1:] != inside[:-1, :-1])
    around = cv2.dilate(border.astype(np.uint8), np.ones((31, 31), np.uint8)).astype(bool) & ~border
    return float(slope[border].mean() / slope[around].mean())


@pytest.mark.parametrize("shape", ["ellipse", "box"])
def test_no_seam_can_be_measured(astronaut: Image.Image, shape: str) -> None:
    """A detailed face of another tone (12 levels) and other texture (noise of 2 levels), over what is there already."""
    (found,) = find_faces(astronaut, load_retinaface())
    crop = crop_around(found, astronaut.size, 48, 1024)
    left, top, right, bottom = crop.box
    piece = np.asarray(astronaut.crop(crop.box), np.float32)
    noise = np.random.default_rng(0).normal(0, 2, piece.shape)
    other = Image.fromarray(np.clip(piece + 12 + noise, 0, 255).astype(np.uint8))
    ratios = {}
    for blur in (0, Settings().detail_blur):
        mask = mask_of(crop, astronaut.size, shape, Settings().detail_dilate, blur)
        pasted = np.asarray(paste_all(astronaut, [crop], [other], [mask]), np.float32)
        ratios[blur] = across(pasted[top:bottom, left:right], mask) / across(piece, mask)
    assert ratios[Settings().detail_blur] <= 1.05 and ratios[0] > 1.1


# --- what is refused or said -----------------------------------------------------------------------------------------


def test_no_step_is_refused(tiny: Settings) -> None:
    with pytest.raises(
        SettingsError, match=r"detail_strength 0.1 of 5 detail_steps is 0 denoising steps; use .*0.2 or more"
    ):
        tiny.replace(detail=True, detail_strength=0.1, detail_steps=5)
    assert tiny.replace(detail=True, detail_strength=0.1, detail_steps=5, strength_steps="fixed").detail
    with pytest.raises(SettingsError, match=r"the detailer, by .*detail_steps: .*61"):
        tiny.replace(detail=True, sampler="Euler", schedule="trailing", detail_steps=61)


def test_settings_without_effect_are_said(tiny: Settings) -> None:
    said = notes(tiny.replace(detail_size=512, detail_prompt="x"))
    assert said == ["detail_size, detail_prompt have no effect: detail is off"]
    said = notes(tiny.replace(detail=True, detail_cfg=1.0, detail_negative_prompt="x"))
    assert said == ["detail_negative_prompt has no effect: the detailer's CFG is 1"]
    assert notes(tiny) == [] == notes(tiny.replace(detail=True))


def test_the_picture_says_it_in_adetailers_words(tiny: Settings) -> None:
    text = infotext(tiny.replace(detail=True, detail_prompt="eyes, sharp", detail_sampler="Euler", detail_cfg=3.0))
    for field in (
        "ADetailer model: face_yolov8n.pt", 'ADetailer prompt: "eyes, sharp"', "ADetailer denoising strength: 0.4",
        "ADetailer inpaint padding: 48", "ADetailer mask blur: 8", "ADetailer dilate erode: 4", "ADetailer steps: 25",
        "ADetailer inpaint width: 1024", "ADetailer CFG scale: 3", "ADetailer sampler: Euler", "ADetailer mask only top k: 5",
    ):  # fmt: skip
        assert field in text
    assert "ADetailer" not in infotext(tiny)
