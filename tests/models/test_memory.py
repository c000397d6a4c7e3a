"""What the networks need is known from headers: SDXL at its full size, as a file that is nearly all hole."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.checkpoints import header_only

import workbench as wb
from experiments.benchmarks.full_size import single_file_tensors
from workbench.models import DeviceUse, Residency, Role, Sdxl, fitting, peak, residency_words, sdxl_uses

PARAMETERS = {"unet": 2_567_463_684, "text_encoder": 123_060_480, "text_encoder_2": 694_659_840, "vae": 83_653_863}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shapes = {name: tuple(tensor.shape) for name, tensor in single_file_tensors().items()}
    return header_only(tmp_path_factory.mktemp("full") / "full.safetensors", shapes)


def test_a_file_of_full_size_is_usable_by_its_header(full: Path) -> None:
    info = wb.inspect_model(full)
    assert (info.kind, info.usable) == ("sdxl-base", True) and 6.93e9 < info.bytes < 6.95e9


@pytest.mark.parametrize(("dtype", "item"), [("float16", 2), ("bfloat16", 2), ("float32", 4)])
def test_the_base_that_refines_is_counted_once(full: Path, dtype: str, item: int) -> None:
    sdxl = Sdxl(str(full), "", "base", dtype)
    first, alive = together(sdxl_uses(sdxl, "base", 1, 1.0))
    second, _ = together(sdxl_uses(sdxl, "refiner", 1, 1.0))
    # the projection's scale is in the file, not in the network; position_ids are in neither
    assert {name.rpartition(": ")[2]: size for name, size in first.items()} == {
        name: (count + (name == "text_encoder_2")) * item for name, count in PARAMETERS.items()
    }
    assert first | second == first and alive >= 3 * 2**30  # the VAE's, in float32


def test_another_refiner_adds_what_it_does_not_share(tiny_model: Path) -> None:
    sdxl = Sdxl(str(tiny_model), "", "auto", "auto")
    base, refiner = (together(sdxl_uses(sdxl, part, 1, 1.0))[0] for part in ("base", "refiner"))
    assert {name.rpartition(": ")[2] for name in refiner.keys() - base.keys()} == {"unet"}
    assert all(size > 0 for size in (base | refiner).values())


def test_a_batch_needs_more_beside_the_weights(full: Path) -> None:
    sdxl = Sdxl(str(full), "", "base", "float16")
    assert together(sdxl_uses(sdxl, "base", 16, 1.0))[1] > together(sdxl_uses(sdxl, "base", 1, 1.0))[1]


# GiB of SDXL with its refiner in float16, at 1536 px
FULL: list[tuple[Role, dict[str, float], float]] = [
    (("base", "text encoders"), {"te": 0.23, "te2": 1.29}, 0.0),
    (("base", "unet"), {"unet": 4.78}, 0.17),
    (("base", "vae"), {"vae": 0.16}, 1.7),
    (("refiner", "text encoders"), {"te2": 1.29}, 0.0),
    (("refiner", "unet"), {"refiner unet": 4.21}, 0.83),
    (("refiner", "vae"), {"vae": 0.16}, 6.75),
    (("faces", "other"), {"codeformer": 0.35}, 0.55),
]
IN_BYTES = [
    DeviceUse(role, {name: int(size * 2**30) for name, size in networks.items()}, alive * 2**30)
    for role, networks, alive in FULL
]


@pytest.mark.parametrize(
    ("residency", "gib"),
    [
        (Residency.ALL, 10.67 + 0.35 + 6.75),
        (Residency.ENCODERS_LEAVE, 10.67 - 1.52 + 0.35 + 6.75),
        (Residency.ONE_PART, 4.21 + 0.16 + 0.35 + 6.75),
        (Residency.ONE_NETWORK, 0.16 + 0.35 + 6.75),
    ],
)
def test_each_arrangement_takes_less(residency: Residency, gib: float) -> None:
    assert peak(residency, IN_BYTES) == pytest.approx(gib * 2**30, rel=1e-6)


@pytest.mark.parametrize(
    ("usable", "chosen"),
    [
        (None, Residency.ALL), (24.0, Residency.ALL), (20.0, Residency.ENCODERS_LEAVE), (16.0, Residency.ONE_PART),
        (12.0, Residency.ONE_NETWORK), (4.0, Residency.ONE_NETWORK),
    ],
)  # fmt: skip
def test_the_first_arrangement_that_fits_is_chosen_and_explained(usable: float | None, chosen: Residency) -> None:
    size = None if usable is None else int(usable * 2**30)
    assert fitting(IN_BYTES, size) is chosen
    if size is not None:
        said = residency_words(chosen, IN_BYTES, size)
        assert chosen.words in said and "\n" not in said and ("may not be enough" in said) == (usable == 4.0)


def together(uses: list[DeviceUse]) -> tuple[dict[str, int], float]:
    """({network: bytes}, the most bytes alive beside them)."""
    return {n: size for use in uses for n, size in use.networks.items()}, max(use.alive for use in uses)
