import itertools
import math
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import cv2
import dlib
import numpy as np
import pytest
import torch
from PIL import Image

from experiments.benchmarks import identity
from workbench.errors import UsageError
from workbench.models import DLIB_CHIP, load_dlib_resnet, load_retinaface, package_folder
from workbench.recipe import faces
from workbench.scores import fidelity
from workbench.scores.fidelity import identity_drift, lpips_distance, niqe, ssim
from workbench.scores.measures import FIDELITY, NotMeasured

FLAT = np.full((512, 512, 3), 90, np.uint8)


@pytest.fixture(scope="module")
def crop(hopper: Image.Image) -> np.ndarray:
    return faces.align(hopper, faces.find_faces(hopper, load_retinaface())[0])[0]


def blurred(crop: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(crop, (0, 0), sigma)


def noisy(crop: np.ndarray, sd: float) -> np.ndarray:
    field = np.random.default_rng(0).normal(0, sd, crop.shape)
    return np.clip(np.rint(crop + field), 0, 255).astype(np.uint8)


# --- SSIM


def test_ssim_falls_with_every_step_away(crop: np.ndarray) -> None:
    assert ssim(crop, crop) == pytest.approx(1)
    for ladder in ([blurred(crop, s) for s in (0.7, 1.5, 3)], [noisy(crop, s) for s in (3, 8, 20)]):
        values = [1.0, *(ssim(step, crop) for step in ladder)]
        assert all(a > b + 0.01 for a, b in itertools.pairwise(values)), values
        assert ssim(ladder[0], crop) == pytest.approx(ssim(crop, ladder[0]))


def test_ssim_of_equal_crops_is_one_without_being_computed(crop: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(np, "array_equal", lambda *_: False)
        assert [ssim(c, c.copy()) for c in (crop, noisy(crop, 20), FLAT)] == [1.0] * 3  # what is computed
    monkeypatch.setattr(fidelity, "structural_similarity", None)
    assert ssim(crop, crop.copy()) == 1.0


def test_ssim_of_flat_and_opposite_crops() -> None:
    assert ssim(FLAT, FLAT) == pytest.approx(1)
    assert 0.99 < ssim(FLAT, FLAT + np.uint8(1)) < 1
    waves = np.tile(np.arange(512) % 16 * 8, (512, 1)).astype(np.uint8)
    crops = [np.stack([w] * 3, axis=2) for w in (waves + np.uint8(60), np.uint8(180) - waves)]
    assert -1 <= ssim(crops[0], crops[1]) < -0.5


def test_ssim_is_that_of_the_paper(crop: np.ndarray) -> None:
    """Wang et al. 2004 written out: an 11x11 Gaussian window of 1.5 px, biased moments, C = (.01 and .03 x 255)^2."""
    x, y = (c.astype(np.float64) @ (0.299, 0.587, 0.114) for c in (crop, blurred(crop, 1.5)))

    def mean(plane: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(plane, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT)

    mx, my = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = 2.55**2, 7.65**2
    index = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    assert ssim(crop, blurred(crop, 1.5)) == pytest.approx(index[5:-5, 5:-5].mean(), abs=1e-6)


# --- LPIPS


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """torch's hub folder, empty."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    fidelity._lpips_net.cache_clear()
    yield tmp_path / "checkpoints"
    fidelity._lpips_net.cache_clear()


def test_lpips_is_not_measured_without_its_backbone(crop: np.ndarray, hub: Path) -> None:
    missing = lpips_distance(crop, crop)
    assert isinstance(missing, NotMeasured) and "AlexNet" in missing.reason
    assert str(hub) not in missing.reason  # it goes into reports


def test_lpips_runs_when_the_backbone_is_there(crop: np.ndarray, hub: Path) -> None:
    """The real lpips code on a random AlexNet saved where torchvision would put it: the plumbing, not the number."""
    from torchvision.models import alexnet

    torch.manual_seed(0)
    torch.save(alexnet(weights=None).state_dict(), hub / "alexnet-owt-7be5be79.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = [lpips_distance(step, crop) for step in (crop, blurred(crop, 2), blurred(crop, 6))]
    assert values[0] == 0
    assert all(isinstance(a, float) and isinstance(b, float) and a < b for a, b in itertools.pairwise(values)), values
    assert lpips_distance(FLAT, FLAT) == 0


# --- identity


@pytest.fixture(scope="module")
def other(astronaut: Image.Image) -> np.ndarray:
    return faces.align(astronaut, faces.find_faces(astronaut, load_retinaface())[0])[0]


def test_identity_is_measured_out_of_the_box(crop: np.ndarray, other: np.ndarray) -> None:
    assert identity_drift(crop, crop.copy()) == identity_drift(FLAT, FLAT) == 0
    soft, softer, mirrored = (identity_drift(c, crop) for c in (blurred(crop, 1), blurred(crop, 3), crop[:, ::-1]))
    assert 0 < soft < 0.1 and soft < softer < 0.3 and mirrored < 0.3
    assert 0.6 < identity_drift(other, crop) < 1.5
    assert identity_drift(crop, other) == pytest.approx(identity_drift(other, crop), abs=1e-5)


def test_identity_looks_at_the_face_alone(crop: np.ndarray) -> None:
    margin = crop.copy()
    margin[:130], margin[492:], margin[:, :79], margin[:, 441:] = 0, 0, 0, 0
    assert identity_drift(margin, crop) == 0  # hair, collar and background do not count


def test_the_recognition_network_is_loaded_once_by_many_threads(
    crop: np.ndarray, other: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[int] = []

    def slowly() -> torch.nn.Module:
        loaded.append(1)
        time.sleep(0.2)
        return load_dlib_resnet()

    monkeypatch.setattr(fidelity, "_recognition_net", cache(slowly))
    with ThreadPoolExecutor(4) as pool:
        drifts = list(pool.map(lambda _: identity_drift(other, crop), range(8)))
    assert loaded == [1] and len(set(drifts)) == 1


def test_the_recognition_network_sees_what_dlib_would_cut_out(crop: np.ndarray, other: np.ndarray) -> None:
    """By dlib's own detector and its five landmarks, the part is within what faces differ by, and the descriptor is near."""
    models = package_folder("face_recognition_models", "face-recognition-models") / "models"
    find = dlib.get_frontal_face_detector()  # pyright: ignore
    landmarks = dlib.shape_predictor(str(models / "shape_predictor_5_face_landmarks.dat"))  # pyright: ignore
    net, (x0, y0, x1, y1) = load_dlib_resnet(), fidelity.CHIP_BOX
    for face in (crop, other):
        shape = landmarks(face, find(face, 1)[0])
        box = dlib.get_face_chip_details(shape, DLIB_CHIP, 0.25).rect  # pyright: ignore
        assert box.left() + box.right() == pytest.approx(x0 + x1 - 1, abs=16)
        assert box.top() + box.bottom() == pytest.approx(y0 + y1 - 1, abs=16)
        assert box.width() == pytest.approx(x1 - x0, rel=0.1)
        own = dlib.get_face_chip(face, shape, DLIB_CHIP, 0.25)  # pyright: ignore
        fixed = cv2.resize(face[y0:y1, x0:x1], (DLIB_CHIP, DLIB_CHIP), interpolation=cv2.INTER_AREA)
        with torch.inference_mode():
            theirs, ours = net(torch.from_numpy(np.stack([own, fixed])).permute(0, 3, 1, 2).float())
        assert float((theirs - ours).norm()) < 0.25


@pytest.mark.slow
def test_identity_tells_a_person_from_others(shared: Path) -> None:
    """On portraits, one of each person: what is done to a picture counts less than being another person."""
    people = identity.portraits(sorted((shared / "portraits").glob("*.webp"))[::6])
    same = [identity_drift(change(one, n), one) for n, one in enumerate(people) for change in identity.CHANGES.values()]
    others = [identity_drift(one, two) for one, two in itertools.combinations(people, 2)]
    assert len(people) == 9 and len(others) == 36
    assert max(same) < 0.5 < min(others)


# --- NIQE


def test_niqe_of_a_photograph_and_of_worse_ones(crop: np.ndarray) -> None:
    natural, soft, grainy = niqe(crop), niqe(blurred(crop, 2)), niqe(noisy(crop, 25))
    assert isinstance(natural, float) and isinstance(soft, float) and isinstance(grainy, float)
    assert 2 < natural < 7
    assert soft > natural + 1 and grainy > natural + 1


def test_niqe_takes_rgb_and_not_bgr(crop: np.ndarray) -> None:
    """Its luma weighs R, G and B differently: a crop of grey noise in R alone and the same in B alone must differ."""
    field = np.random.default_rng(0).integers(0, 256, (512, 512), np.uint8)
    red, blue = (np.stack([field if i == channel else FLAT[..., 0] for i in range(3)], axis=2) for channel in (0, 2))
    values = niqe(red), niqe(blue)
    from basicsr.metrics.niqe import calculate_niqe  # only now: basicsr is broken until niqe has been called

    assert values[0] == pytest.approx(calculate_niqe(red[..., ::-1], 0))
    assert values[0] != pytest.approx(values[1])


def test_niqe_is_basicsrs_to_the_last_bit(crop: np.ndarray, astronaut: Image.Image) -> None:
    half = crop.copy()
    half[:, :300] = 90  # of its 25 blocks 15 are flat, and count for the mean alone
    small = np.asarray(astronaut.resize((512, 512)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = [niqe(c) for c in (crop, blurred(crop, 3), noisy(crop, 9), half, small)]
    from basicsr.metrics.niqe import calculate_niqe

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        theirs = [calculate_niqe(c[..., ::-1], 0) for c in (crop, blurred(crop, 3), noisy(crop, 9), half, small)]
    assert ours == theirs and len(set(ours)) == 5


def test_niqe_of_nothing_is_not_measured() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        missing = niqe(FLAT)
    assert isinstance(missing, NotMeasured) and "texture" in missing.reason


def test_niqe_says_that_it_ranks_restored_faces_backwards() -> None:
    assert "backwards" in FIDELITY["niqe"].about
    assert not FIDELITY["niqe"].fires(1e9)


# --- all


def test_another_kind_of_array_is_refused(crop: np.ndarray) -> None:
    for bad in (crop[:256], crop.astype(np.float32), crop[..., 0]):
        for measure in (ssim, lpips_distance, identity_drift):
            with pytest.raises(UsageError, match="512"):
                measure(crop, bad)
        with pytest.raises(UsageError, match="512"):
            niqe(bad)


def test_every_score_says_what_it_is() -> None:
    assert list(FIDELITY) == ["lpips", "ssim", "identity_drift", "niqe"]
    assert [score.higher_is_better for score in FIDELITY.values()] == [False, True, False, False]
    assert FIDELITY["lpips"].version == "alex-0.1" and (FIDELITY["ssim"].low, FIDELITY["ssim"].high) == (-1, 1)
    assert FIDELITY["identity_drift"].version == "dlib-resnet-1"
    for name, score in FIDELITY.items():
        assert score.name == name and score.version and score.unit and score.low < score.high
        assert math.isfinite(score.low)
