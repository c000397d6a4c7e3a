"""Pictures in and out: reading any file, PNGs that carry their settings, labelled contact sheets. Knows no torch."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import warnings
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps, PngImagePlugin
from pydantic import BaseModel, ValidationError

from workbench.errors import NoSettingsInPicture, SettingsError, UnreadablePicture
from workbench.settings import Settings, knobs, stages, webui_prompt

from .atomic import write_atomic

RESAMPLERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "nearest": Image.Resampling.NEAREST,
}
CHUNK = "workbench"  # the PNG text chunk with the complete settings, as JSON
CHUNK_FORMAT = 1


def open_picture(path: Path | str) -> Image.Image:
    """A picture of whatever format as upright 8-bit RGB: EXIF rotation applied, transparency on white, 16 bit scaled down.

    Raises `UnreadablePicture` where there is no file, or none that is a whole picture.
    """
    try:
        # Pillow warns from 89 megapixels, a quarter of what a print of 24 MP enlarged four times has; from 179 it refuses
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.load()
                return to_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise UnreadablePicture(f"there is no picture {path}; give the path of a PNG, JPEG or WebP file.") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadablePicture(
            f"{path} cannot be read as a picture ({error}); give a whole PNG, JPEG or WebP file of less than 170 megapixels."
        ) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """A picture of any PIL mode as 8-bit RGB; transparency is laid on white."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        # convert("RGB") clips 16-bit values at 255 and so turns a 16-bit grey picture white
        grey = image.convert("F")
        top = 65535 if image.mode.startswith("I") else 1.0
        return grey.point(lambda v: v * (255 / top)).convert("L").convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def resize(image: Image.Image, size: tuple[int, int], resampler: str = "lanczos") -> Image.Image:
    """A picture at (width, height) px; `resampler`: a name in `RESAMPLERS`."""
    return image if image.size == size else image.resize(size, RESAMPLERS[resampler])


def pixels_sha256(image: Image.Image) -> str:
    """sha256 (hex) of mode, size and pixel bytes: equal exactly when the pictures are, whatever the file around them."""
    return hashlib.sha256(f"{image.mode} {image.width}x{image.height} ".encode() + image.tobytes()).hexdigest()


def png_bytes(image: Image.Image, chunks: dict[str, str] | None = None, *, level: int = 4) -> bytes:
    """A picture as PNG with these text chunks; `level`: of compression, 0 to 9."""
    info = PngImagePlugin.PngInfo()
    for name, text in (chunks or {}).items():
        info.add_text(name, text)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info, compress_level=level)
    return buffer.getvalue()


def jpeg_bytes(image: Image.Image, quality: int = 80, *, fine_colour: bool = False) -> bytes:
    """A picture of any mode as JPEG: small where a PNG is large, for notebooks and pages.

    Args:
        quality: 1 to 95.
        fine_colour: keep the colour of every pixel; otherwise 2 x 2 pixels share one, which nobody sees in a thumbnail.
    """
    buffer = io.BytesIO()
    to_rgb(image).save(buffer, "JPEG", quality=quality, subsampling=0 if fine_colour else -1)
    return buffer.getvalue()


def fitted(image: Image.Image, side: int) -> Image.Image:
    """A picture shrunk or enlarged, in its own proportions, to the largest that `side` x `side` px hold."""
    return ImageOps.contain(image, (side, side), Image.Resampling.LANCZOS)


def picture_chunks(
    image: Image.Image, settings: Settings, *, made_by: Settings | None = None, **more: object
) -> dict[str, str]:
    """The two text chunks of a finished picture: A1111's `parameters` line and our complete JSON.

    Args:
        made_by: the settings whose files A1111's line has names and hashes of, where `settings` has names in place of paths.
        more: JSON values that go into ours as well.
    """
    ours = {
        "format": CHUNK_FORMAT,
        "version": package_version(),
        "settings": settings.model_dump(),
        "pixels_sha256": pixels_sha256(image),
        **more,
    }
    return {"parameters": infotext(made_by or settings), CHUNK: json.dumps(ours, ensure_ascii=False)}


def save_picture(path: Path | str, image: Image.Image, settings: Settings, **more: object) -> None:
    """Write a PNG with its settings inside, whole or not at all; `more` as in `picture_chunks`."""
    write_atomic(Path(path), png_bytes(image, picture_chunks(image, settings, made_by=None, **more)))


class Chunk(BaseModel):
    """Our text chunk of a PNG. Newer versions may write more.

    Attributes:
        version: of the workbench that wrote it.
        settings: that made the picture.
        pixels_sha256: of the picture, as `pixels_sha256` gives it.
        keys: {stage: content key}; {} in a picture of one stage.
    """

    format: int
    version: str = "unknown"
    settings: dict[str, Any]
    pixels_sha256: str | None = None
    keys: dict[str, str] = {}


def read_chunk(path: Path | str) -> Chunk:
    """Our chunk of a PNG. Raises `NoSettingsInPicture` where it has none, `UnreadablePicture`."""
    open_picture(path)  # a damaged picture is reported as such first
    with Image.open(path) as image:
        return parse_chunk(getattr(image, "text", {}).get(CHUNK, ""), str(path))


def parse_chunk(text: str, where: str = "the picture") -> Chunk:
    """Our chunk from its text; `where` it was found, for messages. Raises `NoSettingsInPicture`."""
    try:
        chunk = Chunk.model_validate_json(text, strict=True)
    except ValidationError:
        raise NoSettingsInPicture(
            f"{where} carries no workbench settings; only PNGs written by the workbench (and not re-saved) can be repeated."
        ) from None
    if chunk.format != CHUNK_FORMAT:
        raise NoSettingsInPicture(
            f"{where} was written by another version of the workbench (chunk format {chunk.format}, this one reads "
            f"{CHUNK_FORMAT}); use that version ({chunk.version})."
        )
    return chunk


def read_settings(path: Path | str) -> Settings:
    """The settings that a PNG of ours was made with, as `settings_in` has them. Raises as `read_chunk`."""
    return _settings(read_chunk(path), str(path))


def settings_in(text: str, where: str = "the picture") -> Settings:
    """The settings of a text chunk of ours; `where` it was found, for messages.

    Those of stages that there were not yet when it was written are the defaults, single later settings what they were before;
    others must be there. Raises `NoSettingsInPicture`.
    """
    return _settings(parse_chunk(text, where), where)


def _settings(chunk: Chunk, where: str) -> Settings:
    found = chunk.settings
    always = [n for n, knob in knobs().items() if stages()[knob.stage].named_when_off and knob.before is None]
    if missing := [name for name in always if name not in found]:
        raise NoSettingsInPicture(
            f"{where} does not say all that made it ({', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing), "
            "so it cannot be repeated; only PNGs written by the workbench (and not edited) can."
        )
    try:
        return Settings.written(found)
    except SettingsError as error:
        raise NoSettingsInPicture(f"{where} has settings that are not allowed: {error}") from None


def infotext(settings: Settings) -> str:
    """A1111's `parameters` text, with the CodeFormer weight, which A1111 itself leaves out for txt2img."""
    s, fields = settings, dict[str, object]()
    for stage in stages().values():
        fields |= stage.infotext(s) if stage.active(s) else {}
    fields["Version"] = f"workbench {package_version()}"
    line = ", ".join(f"{name}: {_quoted(value)}" for name, value in fields.items())
    prompt, negative = (
        webui_prompt(s.prompt, s.prompt_syntax, s.loras),
        webui_prompt(s.negative_prompt, s.prompt_syntax),
    )
    return "\n".join([prompt, *([f"Negative prompt: {negative}"] if negative else []), line])


def _quoted(value: object) -> str:
    """A1111 JSON-quotes a value that holds one of its own separators; Civitai's objects stand as they are."""
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    text = str(value)
    quoted = any(c in text for c in ",\n\r:") or text.startswith('"') or text != text.strip()
    return json.dumps(text, ensure_ascii=False) if quoted else text


@cache
def package_version() -> str:
    """The version of this package, "uninstalled" where it is run from a folder only."""
    try:
        return version("sdxl-face-workbench")
    except PackageNotFoundError:
        return "uninstalled"


def data_url(image: Image.Image, chunks: dict[str, str] | None = None) -> str:
    """A picture as the PNG inside a `data:` address."""
    return "data:image/png;base64," + base64.b64encode(png_bytes(image, chunks)).decode()


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans of `size` px: it comes with matplotlib, and has more scripts than Pillow's built-in font."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def contact_sheet(
    tiles: Sequence[Sequence[Image.Image | str]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    captions: Sequence[Sequence[str]] | None = None,
    tile: int = 160,
    title: str = "",
) -> Image.Image:
    """A grid of pictures with labels above its columns and beside its rows.

    Args:
        tiles: `tiles[r][c]` is a picture, which is made to fit, or the reason why there is none, shown in its place.
        rows, columns: their labels, of one line or several.
        captions: what stands under each tile, one short line.
        tile: side of a tile in px.
        title: above the whole.
    """
    gap, small, head = 6, font(12), font(16)
    caption = 18 if captions else 0
    left = max([90, *(_text_size(small, text)[0] + 14 for text in rows)])
    lines = max((text.count("\n") + 1 for text in columns), default=1)
    top = (30 if title else 8) + 16 * lines + 6
    sheet = Image.new("RGB", (left + len(columns) * (tile + gap), top + len(rows) * (tile + caption + gap)), "#ffffff")
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((8, 6), title, fill="#111111", font=head)
    for c, text in enumerate(columns):
        x = left + c * (tile + gap) + tile // 2
        draw.multiline_text((x, top - 6), text, fill="#111111", font=small, anchor="md", align="center")
    for r, text in enumerate(rows):
        y = top + r * (tile + caption + gap)
        draw.multiline_text((8, y + tile // 2), text, fill="#111111", font=small, anchor="lm")
        for c, picture in enumerate(tiles[r]):
            x = left + c * (tile + gap)
            if isinstance(picture, str):
                draw.rectangle((x, y, x + tile - 1, y + tile - 1), fill="#f3f3f3", outline="#bbbbbb")
                draw.multiline_text(
                    (x + tile // 2, y + tile // 2), _wrapped(picture, small, tile - 12), fill="#aa2222", font=small,
                    anchor="mm", align="center",
                )  # fmt: skip
            else:
                small_picture = fitted(picture, tile)
                sheet.paste(small_picture, (x + (tile - small_picture.width) // 2, y))
            if captions:
                draw.text((x + tile // 2, y + tile + 2), captions[r][c], fill="#333333", font=small, anchor="mt")
    return sheet


def _text_size(face: ImageFont.FreeTypeFont, text: str) -> tuple[int, int]:
    box = ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox((0, 0), text, font=face)
    return int(box[2] - box[0]), int(box[3] - box[1])


def _wrapped(text: str, face: ImageFont.FreeTypeFont, width: int) -> str:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], longer] if face.getlength(longer) <= width else [*lines, word]
    return "\n".join(lines[:8])
