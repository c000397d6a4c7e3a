"""The texts that a picture's file carries: PNG's text chunks, and the EXIF comment, where JPEG and WebP files have them."""

from __future__ import annotations

import io

from PIL import ExifTags, Image

from workbench.errors import UnreadablePicture

PIXELS = 64_000_000  # of a picture whose texts are read: it is unpacked to see whether it is whole
PARAMETERS = "parameters"  # the chunk in which A1111 has its text
BROKEN = "the picture cannot be read; give a whole PNG, JPEG or WebP file."


def picture_texts(data: bytes) -> dict[str, str]:
    """{name of its chunk: text} of a picture's file; an EXIF comment is `parameters`, as A1111 means it.

    Raises `UnreadablePicture`: no picture, damaged, or more than 64 megapixels.
    """
    try:
        picture = Image.open(io.BytesIO(data))
    except Exception:  # Pillow's readers raise what they please on bytes that are no picture
        raise UnreadablePicture(BROKEN) from None
    with picture:
        if picture.width * picture.height > PIXELS:
            raise UnreadablePicture(f"the picture has more than {PIXELS // 1_000_000} megapixels; give a smaller one.")
        try:
            picture.load()
        except Exception:
            raise UnreadablePicture(BROKEN) from None
        texts = {str(name): text for name, text in picture.info.items() if isinstance(text, str)}
        comment = _comment(picture)
    return {PARAMETERS: comment, **texts} if comment else texts


def _comment(picture: Image.Image) -> str:
    try:
        value = picture.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment, b"")
    except Exception:  # a damaged block beside a whole picture
        return ""
    if isinstance(value, str):
        return value
    if not isinstance(value, bytes):
        return ""
    kind, text = value[:8], value[8:]
    return text.decode("utf-16-be" if kind.startswith(b"UNICODE") else "utf-8", errors="replace").strip("\0")
