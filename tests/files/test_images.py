import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from workbench.errors import NoSettingsInPicture, UnreadablePicture
from workbench.files import figure_picture, new_figure
from workbench.files.pictures import (
    contact_sheet,
    fitted,
    infotext,
    jpeg_bytes,
    open_picture,
    pixels_sha256,
    read_settings,
    save_picture,
    to_rgb,
)
from workbench.settings import Settings


@pytest.fixture
def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8))


@pytest.mark.parametrize("prompt", ["a face", 'a face,\nwith: "quotes", ünïcode 日本'])
def test_settings_survive_the_png(tmp_path: Path, noise: Image.Image, prompt: str) -> None:
    settings = Settings(prompt=prompt, seed=5, weight=0.35)
    save_picture(tmp_path / "a.png", noise, settings)
    assert read_settings(tmp_path / "a.png") == settings
    with Image.open(tmp_path / "a.png") as image:
        assert image.text["parameters"] == infotext(settings)  # type: ignore[attr-defined]
        assert pixels_sha256(image) == pixels_sha256(noise)


def test_infotext_is_what_a1111_reads() -> None:
    lines = infotext(Settings(prompt="a, b", negative_prompt="c", vae="x,y")).splitlines()
    assert lines[:2] == ["a, b", "Negative prompt: c"]
    assert 'VAE: "x,y"' in lines[2]
    assert "Steps: 35, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 0, Size: 1024x1024" in lines[2]
    assert "Denoising strength: 0.35, Hires upscale: 1.5, Hires steps: 8, Hires upscaler: Lanczos" in lines[2]
    assert "RNG: CPU" in lines[2] and "Hires resize" not in lines[2]  # of scale and size A1111 takes only one
    odd = infotext(Settings(width=1032, hires_scale=1.3))  # A1111 rounds 1341 down to 1336
    assert "Hires resize: 1344x1328" in odd and "Hires upscale:" not in odd
    assert "Face restoration: CodeFormer, CodeFormer weight: 0.6" in lines[2]


def test_foreign_and_damaged_pictures(tmp_path: Path, noise: Image.Image) -> None:
    noise.save(tmp_path / "foreign.png")
    with pytest.raises(NoSettingsInPicture, match="foreign"):
        read_settings(tmp_path / "foreign.png")
    save_picture(tmp_path / "cut.png", noise, Settings())
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:-200])
    (tmp_path / "text.png").write_text("hello")
    for name in ("cut.png", "text.png", "none.png"):
        with pytest.raises(UnreadablePicture, match=name):
            open_picture(tmp_path / name)
    with pytest.raises(UnreadablePicture):
        open_picture(tmp_path)


def with_chunk(path: Path, text: str) -> Path:
    info = PngImagePlugin.PngInfo()
    info.add_text("workbench", text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return path


CHUNKS = [
    "", "null", "0", "1.5", "true", '"text"', "[]", "{}", "[1]", "[" * 100_000, '{"format": 1}',
    '{"format": 1, "settings": null}', '{"format": 1, "settings": []}', '{"format": "1", "settings": {}}',
    '{"format": 1, "settings": {}, "keys": 5}', '{"format": 2, "settings": {}}', '{"format": 1, "settings": {"prompt": "x"}}',
    '{"format": 1, "settings": {"prompt": "\\ud83d"}}',
]  # fmt: skip


@pytest.mark.parametrize("text", CHUNKS)
def test_a_chunk_of_another_shape_is_one_sentence(tmp_path: Path, text: str) -> None:
    with pytest.raises(NoSettingsInPicture) as said:
        read_settings(with_chunk(tmp_path / "a.png", text))
    assert "a.png" in str(said.value) and "\n" not in str(said.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"strength": None}, "strength"), ({"strength": "much"}, "strength"), ({"nonsense": 1}, "unknown setting 'nonsense'"),
        ({"seed": ...}, "does not say all that made it \\(seed is missing\\)"),
    ],
)  # fmt: skip
def test_a_chunk_with_other_settings_is_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    """One of prompt and model alone was silently filled up with defaults."""
    values = {n: v for n, v in {**Settings().model_dump(), **change}.items() if v is not ...}
    with pytest.raises(NoSettingsInPicture, match=f"a.png .*{said}"):
        read_settings(with_chunk(tmp_path / "a.png", json.dumps({"format": 1, "settings": values})))


def test_every_mode_becomes_rgb(tmp_path: Path, noise: Image.Image) -> None:
    grey16 = Image.fromarray(np.asarray(noise.convert("L")).astype(np.uint16) * 257)
    for image in (noise.convert("L"), noise.convert("P"), noise.convert("RGBA"), noise.convert("CMYK"), grey16):
        assert to_rgb(image).mode == "RGB"
    # 16 bit must be scaled, not clipped: convert("RGB") alone turned mid grey white
    assert abs(np.asarray(to_rgb(grey16), float) - np.asarray(noise.convert("L").convert("RGB"), float)).max() <= 1
    clear = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert to_rgb(clear).getpixel((0, 0)) == (255, 255, 255)


def test_exif_rotation(tmp_path: Path, noise: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    noise.save(tmp_path / "turned.jpg", exif=exif)
    assert open_picture(tmp_path / "turned.jpg").size == (24, 32)


def test_pixel_hash_sees_shape_and_values(noise: Image.Image) -> None:
    other = noise.copy()
    other.putpixel((0, 0), (1, 2, 3))
    assert len({pixels_sha256(i) for i in (noise, other, noise.transpose(Image.Transpose.ROTATE_90))}) == 3


def test_contact_sheet_shows_labels_and_failures(noise: Image.Image) -> None:
    sheet = contact_sheet([[noise, "failed: why"]], ["row"], ["a", "b"], captions=[["1.0", ""]], tile=64, title="t")
    pixels = np.asarray(sheet)
    assert sheet.width >= 2 * 64 and (pixels != 255).any()
    red = (pixels[..., 0] > 150) & (pixels[..., 1] < 60)
    assert red.any()  # the reason stands in the place of the picture


def test_a_jpeg_of_any_mode_and_with_fine_colour() -> None:
    stripes = Image.fromarray(np.tile(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8), (16, 8, 1)))

    def error(data: bytes) -> float:
        image = Image.open(io.BytesIO(data))
        assert image.format == "JPEG" and image.mode == "RGB" and image.size == (16, 16)
        return float(np.abs(np.asarray(image, float) - np.asarray(stripes, float)).mean())

    assert error(jpeg_bytes(stripes, 95, fine_colour=True)) < 10 < error(jpeg_bytes(stripes, 95))
    assert len(jpeg_bytes(stripes, 30)) < len(jpeg_bytes(stripes, 95))
    assert jpeg_bytes(stripes.convert("RGBA")) == jpeg_bytes(stripes)


def test_a_picture_is_shrunk_or_enlarged_in_its_proportions(noise: Image.Image) -> None:
    assert fitted(noise, 16).size == (16, 12) and fitted(noise, 64).size == (64, 48)


def test_a_figure_becomes_a_picture_of_its_size() -> None:
    figure = new_figure(2, 1, dpi=100)
    figure.add_subplot().plot([0, 1])
    image = figure_picture(figure)
    assert image.mode == "RGB" and image.size == (200, 100) and len(image.getcolors(20000) or []) > 2
