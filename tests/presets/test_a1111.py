import hashlib
import io
import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from safetensors.numpy import save_file
from support.infotexts import SAMPLES, Sample, hires, line
from support.random_settings import random_settings

from workbench.errors import NotUnderstood
from workbench.files import infotext, png_bytes, save_picture
from workbench.presets.formats import FORMATS, Imported, effect, lost, read_picture, read_text
from workbench.settings import Settings

A1111 = FORMATS["a1111"]


def write_lora(path: Path) -> None:
    path.parent.mkdir(parents=True)
    module = "lora_unet_mid_block_attentions_0_proj_in"
    save_file({f"{module}.lora_{half}.weight": np.ones((2, 2), np.float32) for half in ("down", "up")}, path)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_what_others_write_is_read(sample: Sample) -> None:
    found = read_text(sample.text)
    assert {name: getattr(found.settings, name) for name in sample.expected} == sample.expected
    assert [words for words in sample.unmapped if not any(name.startswith(words) for name in found.unmapped)] == []
    assert len(found.unmapped) == len(sample.unmapped), found.unmapped
    assert sorted(found.guessed) == sorted(sample.guessed), found.guessed
    assert all(found.unmapped.values()) and all(found.guessed.values())


@pytest.mark.parametrize("seed", range(24))
def test_settings_come_back_but_for_what_is_named(seed: int) -> None:
    s = random_settings(random.Random(seed))
    written = A1111.write(s)
    back = A1111.read(written.text)
    assert not back.unmapped
    assert effect(back.settings.replace(**{name: getattr(s, name) for name in written.unmapped})) == effect(s)


def test_what_a1111_can_say_comes_back_whole() -> None:
    s = Settings(
        model="realvis5", refiner="base", prompt='two\nlines: "quoted", (soft:1.2)', negative_prompt="cgi: x",
        loras="skin:0.35", hires_prompt="sharp", strength_steps="fixed", refine_steps=8, hires_sampler="Euler",
        hires_schedule="Exponential", upscaler="realesrgan-x4plus", weight=0.35,
    )  # fmt: skip
    written = A1111.write(s)
    back = A1111.read(written.text).settings
    assert dict(written.unmapped) == {} and lost(s, back) == {} and s.diff(back) == {}
    assert "Hires steps: 8" in written.text and 'Hires prompt: "sharp <lora:skin:0.35>"' in written.text
    assert any("seed" in note for note in written.notes) and any("weight to 0.35" in note for note in written.notes)


def test_a_share_of_steps_is_named_and_written_as_the_steps_that_run() -> None:
    written = A1111.write(Settings(refiner="base", strength=0.35, refine_steps=25))
    assert "Hires steps: 8," in written.text
    assert (
        written.unmapped.keys() == {"refine_steps", "strength_steps"} and "8 of 22" in written.unmapped["refine_steps"]
    )


def test_what_acts_and_has_no_place_is_named() -> None:
    s = Settings(
        refiner="base", strength_steps="fixed", dtype="float32", vae_tiling=True, detail=True, detail_confidence=0.9,
        upscaler="realesrgan-x4plus", upscale_mode="background", resampler="bicubic", refine_cfg=3.0,
    )  # fmt: skip
    named = A1111.write(s).unmapped
    assert named.keys() >= {"dtype", "vae_tiling", "detail_confidence", "detail_mask", "upscale_mode", "resampler"}
    assert "Forge" in named["refine_cfg"]
    assert "restore_visibility" not in named and "detail_steps" not in named
    off = s.replace(detail=False, upscaler="none", hires=False)
    assert A1111.write(off).unmapped.keys() == {"dtype", "vae_tiling"}


def test_files_have_their_hashes_and_no_paths(home: Path, tmp_path: Path) -> None:
    models = home / "models"
    write_lora(models / "loras" / "skin.safetensors")
    vae, model = tmp_path / "secret" / "soft.safetensors", tmp_path / "secret" / "mine.safetensors"
    vae.parent.mkdir()
    for file in (vae, model):
        file.write_bytes(file.stem.encode())
    s = Settings(model=str(model), vae=str(vae), refiner=str(vae), loras="skin:0.5")
    text = infotext(s)
    assert "secret" not in text
    digest = hashlib.sha256(b"mine").hexdigest()[:10]
    assert f"Model hash: {digest}, Model: mine, VAE hash: " in text and "VAE: soft.safetensors" in text
    assert "Hires checkpoint: soft [" in text and 'Lora hashes: "skin: ' in text
    hashes = json.loads(text.partition("Hashes: ")[2].partition("}")[0] + "}")
    assert hashes.keys() == {"model", "vae", "lora:skin"} and hashes["model"] == digest
    again = A1111.read(text)
    assert again.settings.loras == "skin:0.5" and not any("skin" in note for note in again.notes)


def test_a_model_of_another_name_is_found_by_its_hash(home: Path) -> None:
    write_lora(home / "models" / "loras" / "better.safetensors")
    text = infotext(Settings(loras="better:0.5")).replace("better", "skin")
    found = A1111.read(text)
    assert found.settings.loras == "better:0.5" and any("same sha256" in note for note in found.notes)


@pytest.mark.parametrize("order", ["utf-16-be", "utf-16-le"])
def test_a_jpeg_carries_it_in_its_comment(order: str) -> None:
    picture, file = Image.new("RGB", (8, 8)), io.BytesIO()
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"UNICODE\0" + f"顔, a face\n{line()}".encode(order)
    picture.save(file, "JPEG", exif=exif)
    found = read_picture(file.getvalue())
    assert (found.tool, found.settings.prompt, found.settings.steps) == ("A1111", "顔, a face", 20)


def test_a_picture_of_ours_without_our_chunk_is_read_by_its_text(tmp_path: Path) -> None:
    s = Settings(model="embedded", strength_steps="fixed", seed=6)
    save_picture(tmp_path / "a.png", Image.new("RGB", (8, 8)), s)
    assert read_picture((tmp_path / "a.png").read_bytes()) == Imported("workbench", s)
    data = png_bytes(Image.new("RGB", (8, 8)), {"parameters": infotext(s)})
    found = read_picture(data)
    assert found.tool == "the workbench" and lost(s, found.settings) == {} and not found.unmapped


@pytest.mark.parametrize(
    "text", ["", "a face", "Steps: 20", "a, b: c", "\n\n", '{"prompt": 1}', "x\nSteps: 20, Seed: 3"]
)
def test_a_text_that_says_no_settings_is_refused(text: str) -> None:
    with pytest.raises(NotUnderstood):
        read_text(text)
    with pytest.raises(NotUnderstood, match="copy all of it"):
        read_text(text, "a1111")


def mutated(draw: random.Random, text: str) -> str:
    """A text with letters changed, taken out, doubled, and pieces exchanged."""
    for _ in range(draw.randint(1, 6)):
        at, end = sorted(draw.randint(0, len(text)) for _ in range(2))
        odd = draw.choice(['"', ",", ":", "\\", "\n", "<lora:", "<", ">", "(", "[", "{", "|", "9" * 30, "-", "nan", "\0",
                           "\ud800", "Size: 8x", "0x0", "1e999", "Negative prompt:", "é", "", "Steps: ", "True"])  # fmt: skip
        text = draw.choice([
            text[:at] + odd + text[at:], text[:at] + text[at + 1 :], text[:at] + odd + text[end:], text + text[at:end],
            text[:at] + text[at:end] * 2 + text[end:],
        ])[:5000]  # fmt: skip
    return text


def test_whatever_is_damaged_is_read_or_refused_in_words() -> None:
    draw, texts = random.Random(1), [sample.text for sample in SAMPLES]
    for _ in range(300):
        try:
            A1111.read(mutated(draw, draw.choice(texts)))
        except NotUnderstood:
            continue


def test_what_cannot_run_together_is_left_out_and_told() -> None:
    found = read_text(f"x\n{hires(**{'Denoising strength': 0.01, 'Hires steps': 100})}")
    assert found.settings.hires and found.settings.refine_steps == 25
    assert "at most 499" in found.unmapped["Hires steps: 100"]


def test_styles_are_written_and_read() -> None:
    styles = FORMATS["styles"]
    s = Settings(prompt='a "face",\nsoft', negative_prompt="cgi", loras="skin:0.5")
    written = styles.write(s, "mine")
    assert written.text == '\ufeffname,prompt,negative_prompt\nmine,"a ""face"",\nsoft <lora:skin:0.5>",cgi\n'
    assert "steps" in written.unmapped and "prompt" not in written.unmapped and "detail_size" not in written.unmapped
    back = read_text(written.text).settings
    assert (back.prompt, back.negative_prompt, back.loras) == (s.prompt, s.negative_prompt, s.loras)
    several = read_text('name,prompt,negative_prompt\n-- heading --,,\nsoft,"{prompt}, soft light",cgi\nhard,x,\n')
    assert several.settings.prompt == "soft light" and several.guessed.keys() == {"prompt"}
    assert several.unmapped.keys() == {"style hard"}
    for text in ("name,prompt\n", "name,text\na,b\n"):
        with pytest.raises(NotUnderstood):
            read_text(text, "styles")


def test_steps_of_a_detailer_that_are_too_many_are_told() -> None:
    own = {"ADetailer steps": 9000, "ADetailer use separate steps": True}
    found = read_text(f"x\n{hires(**{'ADetailer model': 'face_yolov8n.pt'}, **own)}")
    assert "ADetailer steps: 9000" in found.unmapped and "detail_steps" not in found.guessed
