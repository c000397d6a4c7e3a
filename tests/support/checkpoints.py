"""The tiny model in every form in which people have SDXL, and what plain diffusers loads from each."""

from __future__ import annotations

import json
import shutil
from functools import cache, partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from safetensors.torch import load_file, save_file

from experiments.benchmarks.single_files import single_file
from workbench.models.checkpoints import CONFIGS
from workbench.models.vocabulary import clip_tokenizer

d: Any = diffusers
FORMS = (
    "folder",
    "pipeline-folder",
    "folder-fp16",
    "sharded",
    "sharded-fp16",
    "single-file",
    "single-file-fp16",
    "mixed",
)


def write_form(form: str, model: Path, to: Path) -> tuple[Path, Path]:
    """(what to name as `model`, what to name as `refiner`) of a model with `base/` and `refiner/`, written in a form."""
    made = model.with_name(f"{model.name} as {form}")
    model, refiner = _made_form(form, model, made)
    shutil.copytree(made, to)
    return to / model.relative_to(made), to / refiner.relative_to(made)


@cache
def _made_form(form: str, model: Path, to: Path) -> tuple[Path, Path]:
    """The same, once for a model: to load and to write it took most of the time of many a test."""
    to.mkdir(parents=True)
    base, refiner = pipelines_of(model)
    if form.startswith("single-file") or form == "without-vae":
        dtype = torch.float16 if form.endswith("fp16") else torch.float32
        files = []
        for pipe, name in ((base, "base"), (refiner, "refiner")):
            files.append(single_file(pipe, to / f"{name}.safetensors", dtype, vae=form != "without-vae"))
            configs_beside(files[-1], model / name)
        return files[0], files[1]
    if form == "mixed":  # a checkpoint as one file, refined by a folder
        file = single_file(base, to / "base.safetensors", torch.float32)
        configs_beside(file, model / "base")
        return file, Path(shutil.copytree(model / "refiner", to / "refiner"))
    half = form.endswith("fp16")
    how: dict[str, Any] = {"variant": "fp16"} if half else {}
    how |= {"max_shard_size": "60KB"} if form.startswith("sharded") else {}
    for pipe, name in ((base, "base"), (refiner, "refiner")):
        (pipe.to(torch.float16) if half else pipe).save_pretrained(to / name, **how)
    if form == "pipeline-folder":
        return to / "base", to / "refiner"
    return to, to


def pipelines_of(model: Path, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Plain diffusers' (base, refiner) of a folder with both."""
    how: dict[str, Any] = {"local_files_only": True, "dtype": dtype}
    base = d.StableDiffusionXLPipeline.from_pretrained(model / "base", **how)
    return base, d.StableDiffusionXLImg2ImgPipeline.from_pretrained(model / "refiner", **how)


def configs_beside(file: Path, folder: Path) -> None:
    """What a file needs whose networks have other sizes than SDXL's."""
    ignored = shutil.ignore_patterns("*.safetensors", "*.bin", "*.index*.json")
    shutil.copytree(folder, file.with_suffix(".config"), ignore=ignored)


def pipes(form: str, model: Path, refiner: Path) -> tuple[Any, Any]:
    """What plain diffusers loads, in float32, from what `write_form` wrote."""
    how: dict[str, Any] = {"dtype": torch.float32, "local_files_only": True, "add_watermarker": False}
    classes = (d.StableDiffusionXLPipeline, d.StableDiffusionXLImg2ImgPipeline)
    found = []
    for cls, path, inside in zip(classes, (model, refiner), ("base", "refiner"), strict=True):
        if path.is_file():
            load = partial(cls.from_single_file, path, config=str(path.with_suffix(".config")))
        else:
            folder = path / inside if (path / inside).is_dir() else path
            load = partial(cls.from_pretrained, folder, variant="fp16" if form.endswith("fp16") else None)
        found.append(load(**how))
    return found[0], found[1]


def scaled(file: Path, factor: float) -> None:
    """Another network of the same shapes in the same file."""
    save_file({n: t * factor for n, t in load_file(file).items()}, file, metadata={"format": "pt"})


def header_only(path: Path, tensors: dict[str, tuple[int, ...]], size: int = 0, **metadata: str) -> Path:
    """A file whose header is true and whose tensors are a hole, up to `size` bytes of it in one more tensor."""
    entries: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    place = 0
    wide = {"model_ema.decay": (max(0, size // 2),)} if size else {}
    for name, shape in {**tensors, **wide}.items():
        length = 2 * int(np.prod(shape))
        entries[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [place, place + length]}
        place += length
    header = json.dumps(entries).encode()
    with open(path, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + place)
    return path


def write_configs(folder: Path) -> Path:
    """The real SDXL's `base/` and `refiner/` without their weights: configs and tokenizers."""
    for name in ("base", "refiner"):
        shutil.copytree(CONFIGS / name, folder / name)
        for part in ("tokenizer", "tokenizer_2")[name == "refiner" :]:
            clip_tokenizer(part).save_pretrained(folder / name / part)
    return folder
