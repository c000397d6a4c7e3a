"""Detection, alignment and paste-back, on the two public-domain portraits that ship with dependencies."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch
from matplotlib import cbook
from PIL import Image
from skimage import data

from workbench.errors import DegenerateFace
from workbench.models.retinaface import load_retinaface
from workbench.recipe import faces
from workbench.recipe.faces import TEMPLATE_512, THRESHOLD, Face, align, find_faces, measure_crop, paste

EYES_NOSE_MOUTH = [[204.8, 100.8], [247.4, 103.4], [223.6, 129.2], [202.5, 138.2], [244.2, 140.6]]


@pytest.fixture(scope="module")
def detector():
    return load_retinaface()


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return data.astronaut()


@pytest.fixture(scope="module")
def hopper() -> np.ndarray:
    return np.array(Image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)).convert("RGB"))


@pytest.fixture(scope="module")
def face(astronaut, detector) -> Face:
    (found,) = find_faces(astronaut, detector)
    return found


def core(face: Face, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape[:2], bool)
    x0, y0, x1, y1 = (round(value) for value in face.box)
    mask[y0:y1, x0:x1] = True
    return mask


# --- find ----------------------------------------------------------------------------------------------------------


def test_one_face_in_the_astronaut(face: Face) -> None:
    assert np.abs(face.landmarks - EYES_NOSE_MOUTH).max() < 1.5
    assert face.score > 0.99
    assert face.eye_distance == pytest.approx(42.7, abs=1.5)
    assert face.size == pytest.approx(120, abs=4)
    assert face.landmarks[0, 0] < face.landmarks[1, 0], "the eye at the picture's left comes first"


def test_one_face_in_hopper(hopper, detector) -> None:
    (found,) = find_faces(hopper, detector)
    assert found.score > 0.99
    assert 160 < found.landmarks[:2, 1].mean() < 210


def test_no_face_is_an_empty_list(detector) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    for picture in (noise, np.zeros((64, 64, 3), np.uint8), data.brick(), data.coffee(), data.chelsea(), data.gravel()):
        assert find_faces(picture, detector) == []


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (3, 2), (17, 900)])
def test_tiny_and_thin_pictures(detector, size) -> None:
    assert find_faces(np.full((*size, 3), 90, np.uint8), detector) == []


@pytest.mark.parametrize("longer", [48, 128, 320, 1300, 2400])
def test_the_same_face_at_any_size(astronaut, face, detector, longer) -> None:
    zoom = longer / 512
    how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    (found,) = find_faces(cv2.resize(astronaut, (longer, longer), interpolation=how), detector)
    middle = (found.landmarks.mean(0) + 0.5) / zoom - 0.5
    # measured: up to 0.104 of the eye distance, at 48 px; a forgotten scale factor is off by whole faces
    assert np.abs(middle - face.landmarks.mean(0)).max() < 0.15 * face.eye_distance


def test_grey_and_transparent_pictures(astronaut, face, detector) -> None:
    alpha = np.dstack([astronaut, np.full(astronaut.shape[:2], 255, np.uint8)])
    grey = cv2.cvtColor(astronaut, cv2.COLOR_RGB2GRAY)
    pictures = [alpha, grey, grey[..., None], Image.fromarray(alpha), Image.fromarray(grey), Image.fromarray(astronaut)]
    for picture in pictures:
        (found,) = find_faces(picture, detector)
        assert np.abs(found.landmarks - face.landmarks).max() < 2


def test_deterministic_and_largest_first(astronaut, detector) -> None:
    small = cv2.resize(astronaut, (256, 256), interpolation=cv2.INTER_AREA)
    both = np.zeros((512, 768, 3), np.uint8)
    both[:256, :256], both[:, 256:] = small, astronaut
    first, second = find_faces(both, detector)
    assert first.size > 1.5 * second.size
    assert first.box[0] > 256 > second.box[0]
    again = find_faces(both, detector)
    assert [f.box for f in again] == [first.box, second.box]
    assert np.array_equal(again[0].landmarks, first.landmarks)


@pytest.mark.parametrize(("height", "width"), [(512, 512), (320, 250), (33, 1000), (511, 700)])
def test_detection_is_facexlibs(astronaut, detector, height, width) -> None:
    """Bit for bit its `detect_faces`, anchors too, also where many boxes overlap, where there are none, and at odd sizes."""
    from facexlib.detection.retinaface_utils import PriorBox

    picture = cv2.resize(astronaut, (width, height), interpolation=cv2.INTER_AREA)
    anchors = faces._anchors(height, width, detector.cfg["min_sizes"], detector.cfg["steps"])
    assert torch.equal(anchors, PriorBox(detector.cfg, image_size=(height, width)).forward())
    for threshold in (0.02, 0.97, 1.0):
        with torch.inference_mode():
            theirs = detector.detect_faces(np.ascontiguousarray(picture[..., ::-1]), conf_threshold=threshold)
        ours = faces._rows(picture, detector, threshold)
        assert ours.shape[1:] == (15,) and np.array_equal(ours, theirs)


def test_threads_share_a_detector(astronaut, detector) -> None:
    """facexlib's keeps the size of the picture it looks at in its attributes."""
    pictures = [cv2.resize(astronaut, (side, side)) for side in (330, 400, 470, 540)] * 6
    alone = [find_faces(picture, detector)[0].box for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda picture: find_faces(picture, detector)[0].box, pictures))
    assert together == alone


def test_landmarks_of_a_close_portrait(hopper, detector) -> None:
    """Its face outgrows the detector's anchors at 1024 px, so it is looked at again, smaller."""
    (small,) = find_faces(hopper, detector)
    x0, y0, x1, y1 = (round(value) for value in small.box)
    part = hopper[y0 - 20 : y1 + 20, x0 - 20 : x1 + 20]
    close = cv2.resize(part, None, fx=5, fy=5, interpolation=cv2.INTER_CUBIC)
    (found,) = find_faces(close, detector)
    expected = (small.landmarks - (x0 - 20, y0 - 20) + 0.5) * 5 - 0.5
    # measured: 0.05 of the eye distance, 0.16 without the second look
    assert np.abs(found.landmarks - expected).mean() < 0.08 * 5 * small.eye_distance


# --- align ---------------------------------------------------------------------------------------------------------


def test_align_is_facexlibs(astronaut, face) -> None:
    """Bit for bit the crop of facexlib's align_warp_face, whose pictures are BGR."""
    crop, matrix = align(astronaut, face)
    expected = cv2.estimateAffinePartial2D(face.landmarks, TEMPLATE_512, method=cv2.LMEDS)[0]
    bgr = np.ascontiguousarray(astronaut[..., ::-1])
    theirs = cv2.warpAffine(bgr, expected, (512, 512), borderMode=cv2.BORDER_CONSTANT, borderValue=(135, 133, 132))
    assert crop.dtype == np.uint8 and crop.shape == (512, 512, 3)
    assert np.array_equal(matrix, expected)
    assert np.array_equal(crop, theirs[..., ::-1])


def test_align_puts_the_landmarks_on_the_template(astronaut, face) -> None:
    for size in (256, 512):
        _, matrix = align(astronaut, face, size)
        placed = face.landmarks @ matrix[:, :2].T + matrix[:, 2]
        # a similarity cannot fit five points exactly: her mouth is 25 px off at 512, her eyes 10
        assert np.abs(placed - TEMPLATE_512 * size / 512).mean() < 12 * size / 512


def test_align_beyond_the_picture_is_grey(astronaut, face) -> None:
    moved = Face(face.box, face.score, face.landmarks - (190, 90))
    crop, _ = align(astronaut, moved)
    assert tuple(crop[2, 2]) == (132, 133, 135)


@pytest.mark.parametrize("landmarks", [np.full((5, 2), 7.0), np.full((5, 2), np.nan)])
def test_degenerate_landmarks_are_named(astronaut, landmarks) -> None:
    with pytest.raises(DegenerateFace):
        align(astronaut, Face((0, 0, 9, 9), 1.0, landmarks))


def test_an_enlarged_picture_s_matrix_is_where_its_own_alignment_is(astronaut, face) -> None:
    for zoom in (1, 2, 4, 1.5):
        moved = Face(face.box, face.score, (face.landmarks + 0.5) * zoom - 0.5)
        expected = align(cv2.resize(astronaut, None, fx=zoom, fy=zoom), moved)[1]
        np.testing.assert_allclose(faces.enlarged(align(astronaut, face)[1], zoom), expected, atol=1e-3)


# --- paste ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zoom", [1.0, 2.0, 4.0])
def test_pasting_the_untouched_crop_changes_nearly_nothing(astronaut, detector, zoom) -> None:
    size = round(512 * zoom)
    picture = cv2.resize(astronaut, (size, size), interpolation=cv2.INTER_CUBIC)
    (found,) = find_faces(picture, detector)
    crop, matrix = align(picture, found)
    inside = core(found, picture.shape)

    def difference(offset: float) -> float:
        moved = matrix.copy()
        moved[:, 2] += offset * np.hypot(*matrix[0, :2])  # in pixels of the picture
        return float(np.abs(np.asarray(paste(picture, crop, moved), int) - picture)[inside].mean())

    # measured: 1.7 / 0.7 / 0.4 of 255; half a pixel off: 6.4 / 3.4 / 1.7
    assert difference(0) < (2.0, 0.9, 0.6)[int(np.log2(zoom))]
    assert min(difference(0.5), difference(-0.5)) > 2 * difference(0)


def test_outside_the_mask_every_bit_stays(astronaut, face) -> None:
    crop, matrix = align(astronaut, face)
    before, crop_before, matrix_before = astronaut.copy(), crop.copy(), matrix.copy()
    result = np.asarray(paste(astronaut, 255 - crop, matrix))
    assert np.array_equal(astronaut, before) and np.array_equal(crop, crop_before)
    assert np.array_equal(matrix, matrix_before), "facexlib's helper moves its matrix at every paste"
    corners = cv2.transform(
        np.array([[[0, 0], [511, 0], [511, 511], [0, 511]]], float), cv2.invertAffineTransform(matrix)
    )
    square = cv2.fillConvexPoly(np.zeros(astronaut.shape[:2], np.uint8), np.ceil(corners[0]).astype(int), 1)
    outside = cv2.dilate(square, np.ones((5, 5))) == 0
    assert outside.mean() > 0.5
    assert np.array_equal(result[outside], astronaut[outside])
    assert np.abs(result.astype(int) - astronaut)[core(face, astronaut.shape)].mean() > 50


def test_pasting_twice_is_the_same_as_once(astronaut, face) -> None:
    crop, matrix = align(astronaut, face)
    first, second = (np.asarray(paste(astronaut, crop, matrix)) for _ in range(2))
    assert np.array_equal(first, second)


def test_the_edge_of_the_mask_is_soft(astronaut, face) -> None:
    grey = np.full_like(astronaut, 100)
    _, matrix = align(grey, face)
    result = np.asarray(paste(grey, np.full((512, 512, 3), 200, np.uint8), matrix))[..., 0]
    assert result.max() == 200 and result.min() == 100
    steps = np.abs(np.diff(result.astype(int), axis=1)).max()
    assert steps < 40, "a hard edge is one step of 100"


def test_rounds_to_nearest(astronaut, face) -> None:
    """A flat crop of the picture's own value must not lose a level, as cutting off does."""
    flat = np.full_like(astronaut, 137)
    _, matrix = align(flat, face)
    assert np.array_equal(np.asarray(paste(flat, np.full((512, 512, 3), 137, np.uint8), matrix)), flat)


def test_a_face_at_the_edge_and_one_outside(astronaut, face) -> None:
    crop, matrix = align(astronaut, face)
    cut = astronaut[:, 210:]
    shifted = matrix.copy()
    shifted[:, 2] += matrix[:, :2] @ (210, 0)
    whole = np.asarray(paste(astronaut, crop, matrix))[:, 210:]
    assert np.abs(np.asarray(paste(cut, crop, shifted), int) - whole).max() <= 1  # warpAffine's own rounding
    away = matrix.copy()
    away[:, 2] += 1e6
    assert np.array_equal(np.asarray(paste(astronaut, crop, away)), astronaut)


def test_a_matrix_without_inverse_is_named(astronaut) -> None:
    with pytest.raises(DegenerateFace):
        paste(astronaut, np.zeros((512, 512, 3), np.uint8), np.zeros((2, 3)))


def test_a_large_face_is_looked_at_again_before_it_is_given_up(hopper: np.ndarray, detector) -> None:
    """Blurred and under scan lines, at 560 px: the first look scores below the threshold, the second at 280 px above it."""
    face = find_faces(hopper, detector)[0]
    zoom = 560 / face.size
    size = (round(512 * zoom), round(600 * zoom))
    large = np.asarray(Image.fromarray(hopper).resize(size, Image.Resampling.BICUBIC))
    x, y = (face.landmarks[2] * zoom).astype(int)
    lined = cv2.GaussianBlur(large[max(y - 448, 0) : y + 448, max(x - 448, 0) : x + 448], (0, 0), 5).astype(np.float32)
    lined[::4] *= 0.6
    found = find_faces(lined.astype(np.uint8), detector)
    assert [round(f.size / 560) for f in found] == [1] and found[0].score >= THRESHOLD


def test_measuring_a_large_face_does_not_alias() -> None:
    """Noise of a picture three times the template averages out; plain sampling, which `align` does, keeps most of it."""
    noise = np.clip(np.random.default_rng(0).normal(128, 40, (1536, 1536, 3)), 0, 255).astype(np.uint8)
    large = Face((0, 0, 1536, 1536), 1.0, TEMPLATE_512 * 3)
    crop, zoom = measure_crop(noise, large)
    assert zoom == pytest.approx(1 / 3, rel=1e-3) and crop.shape == (512, 512, 3)
    assert crop.std() < 17 < 25 < align(noise, large)[0].std()


def test_measuring_shows_what_align_shows(hopper: np.ndarray, detector) -> None:
    """The same face in the same place, for faces that are enlarged, shrunk, or at the picture's edge."""
    for pixels in (hopper, cv2.resize(hopper, None, fx=2.5, fy=2.5), hopper[120:, 150:]):
        face = find_faces(pixels, detector)[0]
        aligned, crop = align(pixels, face)[0], measure_crop(pixels, face)[0]
        assert np.abs(cv2.blur(aligned, (9, 9)).astype(float) - cv2.blur(crop, (9, 9))).mean() < 1.5
