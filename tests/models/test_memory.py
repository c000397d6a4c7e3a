"""What the networks need is known from headers: SDXL at its full size, as a file that is nearly all hole."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.checkpoints import header_only

import workbench as wb
from experiments.benchmarks.full_size import single_file_tensors
from workbench.models import Sdxl, sdxl_memory

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
    first, alive = sdxl_memory(sdxl, "base", 1, 1.0)
    second, _ = sdxl_memory(sdxl, "refiner", 1, 1.0)
    # the projection's scale is in the file, not in the network; position_ids are in neither
    assert {name.rpartition(": ")[2]: size for name, size in first.items()} == {
        name: (count + (name == "text_encoder_2")) * item for name, count in PARAMETERS.items()
    }
    assert first | second == first and alive >= 3 * 2**30  # the VAE's, in float32


def test_another_refiner_adds_what_it_does_not_share(tiny_model: Path) -> None:
    sdxl = Sdxl(str(tiny_model), "", "auto", "auto")
    base, refiner = (sdxl_memory(sdxl, part, 1, 1.0)[0] for part in ("base", "refiner"))
    assert {name.rpartition(": ")[2] for name in refiner.keys() - base.keys()} == {"unet"}
    assert all(size > 0 for size in (base | refiner).values())


def test_a_batch_needs_more_beside_the_weights(full: Path) -> None:
    sdxl = Sdxl(str(full), "", "base", "float16")
    assert sdxl_memory(sdxl, "base", 16, 1.0)[1] > sdxl_memory(sdxl, "base", 1, 1.0)[1]
