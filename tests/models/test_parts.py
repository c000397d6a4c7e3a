"""Keys depend on exactly the files that are read, through links too."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from workbench.errors import CorruptWeights
from workbench.files import pixels_sha256
from workbench.models import Sdxl, parts, pipelines
from workbench.models.checkpoints import DiffusersFolder
from workbench.recipe import Bench, stage_keys
from workbench.settings import Settings
from workbench.store import Store

_opened: list[str] = []
sys.addaudithook(lambda event, args: _opened.append(str(args[0])) if event == "open" else None)


@contextmanager
def opened(folder: Path) -> Iterator[set[Path]]:
    """The files below `folder` that Python opens inside. (Rust opens the weights: Python does not see that.)"""
    found: set[Path] = set()
    _opened.clear()
    yield found
    found |= {Path(path) for path in _opened if path.startswith(str(folder))}


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def listed(model: Path) -> set[Path]:
    folders = [DiffusersFolder(model / name) for name in ("base", "refiner")]
    return {file for folder in folders for file in folder.files(folder.parts)}


def identity(model: Path) -> list[str]:
    sdxl = Sdxl(str(model), "", "auto", "auto")
    return [*sdxl.identity("base"), *sdxl.identity("refiner")]


def test_what_is_opened_is_what_is_listed(model: Path) -> None:
    for tokenizer in model.glob("*/tokenizer*"):
        for name in parts.TOKENIZER:
            if name.endswith(".json") and not (tokenizer / name).exists():
                (tokenizer / name).write_text("{}")
    with opened(model) as seen:
        sdxl = Sdxl(str(model), "", "auto", "auto")
        pipelines.load_refiner(sdxl, pipelines.load_base(sdxl))
    weights = {path for path in listed(model) if path.suffix == ".safetensors"}
    assert {path for path in seen if path.is_file()} | weights == listed(model)
    assert len(weights) == 7  # the refiner's own second encoder and VAE are compared with the base's


def test_what_is_not_listed_may_be_anything(model: Path, tiny: Settings, tiny_model: Path) -> None:
    before, read = identity(model), listed(model)
    others = [p for p in model.glob("*/*/*") if p not in read and p.parts[-3] != "restorer"]
    assert {p.name for p in others} <= {"merges.txt", "vocab.json"}  # where there is a tokenizer.json
    for path in others:
        path.write_bytes(b"not what it was")
    for name in ("base/unet/diffusion_pytorch_model.fp16.safetensors", "base/unet/notes.txt", "base/extra/config.json"):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_bytes(b"{}")
    assert identity(model) == before
    made = Bench(Store(None)).generate(tiny.replace(model=str(model)))
    assert pixels_sha256(made.image) == pixels_sha256(Bench(Store(None)).generate(tiny).image)


@pytest.mark.parametrize("linked", ["base/unet", "refiner", "base/unet/diffusion_pytorch_model.safetensors"])
def test_a_link_that_leads_elsewhere_is_another_key(model: Path, tiny: Settings, tmp_path: Path, linked: str) -> None:
    """Folders that are links were left out of the key: the picture of another UNet was served."""
    other = Path(shutil.copytree(model, tmp_path / "other"))
    for part in ("base", "refiner"):
        file = other / part / "unet" / "diffusion_pytorch_model.safetensors"
        save_file({name: tensor * 1.01 for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})
    place, settings = model / linked, tiny.replace(model=str(model))
    plain = stage_keys(settings)
    place.rename(tmp_path / "first")
    place.symlink_to(tmp_path / "first")
    assert stage_keys(settings) == plain  # where a file lies does not count
    bench = Bench(Store(None))
    before = bench.generate(settings)
    place.unlink()
    place.symlink_to(other / linked)
    after = bench.generate(settings)
    assert stage_keys(settings)["refine"] != plain["refine"] and pixels_sha256(after.image) != pixels_sha256(
        before.image
    )


def test_with_another_vae_the_models_own_does_not_count(model: Path, tiny: Settings, tmp_path: Path) -> None:
    shutil.copytree(model / "base" / "vae", tmp_path / "vae")
    settings = tiny.replace(model=str(model), vae=str(tmp_path / "vae"))
    before = stage_keys(settings)
    (model / "base" / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"another")
    assert stage_keys(settings) == before
    file = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor * 1.01 for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})
    assert stage_keys(settings)["base"] != before["base"]


def test_shards_are_read_through_their_index(model: Path, tiny: Settings) -> None:
    unet = model / "base" / "unet"
    whole = load_file(unet / "diffusion_pytorch_model.safetensors")
    names = sorted(whole)
    halves = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for file, half in halves.items():
        save_file({name: whole[name] for name in half}, unet / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, half in halves.items() for name in half}}
    (unet / parts.WEIGHTS[0]).write_text(json.dumps(index))
    (unet / "diffusion_pytorch_model.safetensors").write_bytes(b"not read where there is an index")
    assert [path.name for path in parts.weight_files(unet)] == [parts.WEIGHTS[0], "one.safetensors", "two.safetensors"]
    made = Bench(Store(None)).generate(tiny.replace(model=str(model)))
    assert pixels_sha256(made.image) == pixels_sha256(Bench(Store(None)).generate(tiny).image)
    (unet / "two.safetensors").unlink()
    with pytest.raises(CorruptWeights, match=r"two\.safetensors is missing"):
        stage_keys(tiny.replace(model=str(model)))


NO_UNET = '{"_class_name": "StableDiffusionXLPipeline", "text_encoder": ["", ""], "unet": [1, 2, 3]}'


@pytest.mark.parametrize("content", ["", "[]", "null", "[" * 100_000, "{", NO_UNET])
def test_an_index_of_another_shape_is_one_sentence(model: Path, content: str) -> None:
    (model / "base" / "model_index.json").write_text(content)
    shutil.rmtree(model / "base" / "unet")
    with pytest.raises(CorruptWeights, match="fetch the model again"):
        identity(model)
