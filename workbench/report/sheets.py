"""Sheets of pictures with labels: all cells of a run, the stages of one cell."""

from __future__ import annotations

from PIL import Image

from workbench.analysis import Page, Tile, arrange, face_square, measure_named, one_page
from workbench.files import contact_sheet, fitted, jpeg_bytes as jpeg, open_picture
from workbench.runs import DONE, Run

__all__ = ["jpeg", "page_sheet", "sheet", "strip"]  # notebooks know `jpeg_bytes` by the shorter name

MAX_PIXELS = 40e6  # of a contact sheet's tiles: 10,000 of 128 px would be 200 megapixels, 600 MB
MIN_TILE = 48


def sheet(run: Run, tile: int = 128) -> Image.Image:
    """Every cell of a run in its place, with its sharpness, and with the reason where there is no picture.

    Rows and columns are those of the wall, with all its pages on one sheet. `tile` is the side of a tile in px; where there
    are very many they get smaller, down to 48 px. Of a search, which leaves most cells out, only rows with a recorded cell
    are shown.
    """
    about, page = run.about, arrange(run, one_page(run))
    whole = about["spec"].get("strategy", "grid") == "grid"
    shown = [r for r, line in enumerate(page.cells) if whole or any(cell.record for cell in line)]
    title = f"{about['name']}: sharpness of the face under each picture, ! where a guard fired"
    return _drawn(run, page, shown, tile, title)


def page_sheet(run: Run, page: Page, tile: int = 128, *, faces: bool = False) -> Image.Image:
    """One page of the wall as it is laid out, with the numbers of its measure. `faces`: only the squares around them."""
    of = page.pages[page.number].replace("\n", ", ")
    title = f"{run.about['name']}{f', {of}' if of else ''}: {measure_named(page.measure).label} under each picture"
    return _drawn(run, page, [*range(len(page.rows))], tile, title, faces=faces)


def _drawn(run: Run, page: Page, shown: list[int], tile: int, title: str, *, faces: bool = False) -> Image.Image:
    """The rows `shown` of a page."""
    tile = min(tile, max(MIN_TILE, int((MAX_PIXELS / max(1, len(shown) * len(page.columns))) ** 0.5)))
    return contact_sheet(
        [[_picture(run, cell, tile, faces) for cell in page.cells[r]] for r in shown],
        [page.rows[r] for r in shown],
        page.columns,
        captions=[[cell.text if _has_picture(cell) else "" for cell in page.cells[r]] for r in shown],
        tile=tile,
        title=title,
    )


def _has_picture(cell: Tile) -> bool:
    return cell.state in DONE


def _picture(run: Run, cell: Tile, side: int, faces: bool) -> Image.Image | str:
    """What stands in a cell's place: its picture, or why there is none."""
    if cell.record is None or not _has_picture(cell):
        return f"{cell.text}: {cell.reason}" if cell.reason else cell.text
    # shrunk as it is read: 1,000 pictures of 1536 px are 7 GB
    picture, box = open_picture(run.picture(cell.record)), cell.record["scores"].get("box")
    return fitted(picture.crop(face_square(box, picture.size)) if faces and box else picture, side)


def strip(stages: dict[str, Image.Image], tile: int = 320) -> Image.Image:
    """One picture's stages side by side, labelled with their sizes."""
    columns = [f"{name} {image.width}x{image.height}" for name, image in stages.items()]
    return contact_sheet([list(stages.values())], [""], columns, tile=tile)
