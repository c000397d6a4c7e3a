"""Put the trained parts together as the two diffusers folders that the product loads."""

import argparse
import json
import shutil
from pathlib import Path

from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from text import load

ROOT = Path(__file__).parents[2]
WORK = ROOT / "build" / "embedded_model"
TARGET = ROOT / "workbench" / "models" / "embedded"


def export(work: Path, target: Path) -> None:
    tokenizers, encoders = load(work)
    # half the size on disk. diffusers loads these as float32 unless told otherwise;
    # transformers would keep float16, so the text encoders stay as they are
    vae = AutoencoderKL.from_pretrained(work / "vae").half()
    unets = {kind: UNet2DConditionModel.from_pretrained(work / f"unet-{kind}").half() for kind in ("base", "refiner")}
    # SDXL's own
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        prediction_type="epsilon",
        steps_offset=1,
        timestep_spacing="leading",
    )
    shared = {"vae": vae, "text_encoder_2": encoders[1], "tokenizer_2": tokenizers[1], "scheduler": scheduler}
    pipelines = {
        "base": StableDiffusionXLPipeline(
            text_encoder=encoders[0], tokenizer=tokenizers[0], unet=unets["base"], **shared, add_watermarker=False
        ),
        "refiner": StableDiffusionXLImg2ImgPipeline(
            text_encoder=None,
            tokenizer=None,
            unet=unets["refiner"],
            **shared,
            requires_aesthetics_score=True,
            force_zeros_for_empty_prompt=False,
            add_watermarker=False,
        ),
    }
    for kind, pipeline in pipelines.items():
        fresh, final, old = (target / name for name in (f".{kind}.new", kind, f".{kind}.old"))
        shutil.rmtree(fresh, ignore_errors=True)
        pipeline.save_pretrained(fresh, safe_serialization=True)
        for file in fresh.rglob("*.json"):
            _forget_paths(file)
        for folder in fresh.glob("tokenizer*"):
            _add_slow_files(folder)
        if final.exists():
            final.rename(old)
        fresh.rename(final)
        shutil.rmtree(old, ignore_errors=True)
        size = sum(file.stat().st_size for file in final.rglob("*") if file.is_file())
        print(f"{kind}: {size / 1e6:.1f} MB")


def _forget_paths(file: Path) -> None:
    """diffusers notes where a part was loaded from, which means nothing elsewhere."""
    content = json.loads(file.read_text())
    if content.pop("_name_or_path", None) is not None:
        file.write_text(json.dumps(content, indent=2) + "\n")


def _add_slow_files(folder: Path) -> None:
    """vocab.json and merges.txt, which transformers 4 reads instead of tokenizer.json."""
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=WORK, help="where the trained parts are")
    parser.add_argument("--target", type=Path, default=TARGET, help="where base/ and refiner/ go")
    options = parser.parse_args()
    export(options.work, options.target)
