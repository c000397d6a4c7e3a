"""Contact sheets to label by: 4 x 3 faces each, in an order and under numbers that say nothing of how they were made.

    python experiments/deformed/sheets.py DIR [--numbers 0:144] [--draw 1] [--only 40]

In DIR/sheets: `DRAW-NN.png`, and `DRAW.csv`, which says which picture is where.
"""

from __future__ import annotations

import argparse
import csv
import random
from pathlib import Path

from PIL import Image, ImageDraw

from workbench.models import load_retinaface
from workbench.recipe import faces

SIDE, COLUMNS, ROWS = 384, 4, 3


def face_of(image: Image.Image) -> Image.Image:
    """The face with some room around it; the whole picture where none is found, or only a bit that looks like one."""
    found = faces.find_faces(image, load_retinaface(), threshold=0.5)
    if found and found[0].size > 0.25 * image.width:
        x0, y0, x1, y1 = found[0].box
        half = 0.62 * found[0].size
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        image = image.crop((round(x - half), round(y - half), round(x + half), round(y + half)))
    return image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("folder", type=Path)
    asked.add_argument("--numbers", default="0:288")
    asked.add_argument("--draw", type=int, default=1)
    asked.add_argument("--only", type=int)
    given = asked.parse_args()
    first, last = map(int, given.numbers.split(":"))
    numbers = list(range(first, last))
    random.Random(given.draw).shuffle(numbers)
    numbers = numbers[: given.only]
    out = given.folder / "sheets"
    out.mkdir(exist_ok=True)
    with (out / f"{given.draw}.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["cell", "number"])
        rows.writerows(enumerate(numbers))
    for start in range(0, len(numbers), COLUMNS * ROWS):
        sheet = Image.new("RGB", (COLUMNS * SIDE, ROWS * SIDE))
        draw = ImageDraw.Draw(sheet)
        for place, number in enumerate(numbers[start : start + COLUMNS * ROWS]):
            x, y = place % COLUMNS * SIDE, place // COLUMNS * SIDE
            sheet.paste(face_of(Image.open(given.folder / f"{number:03d}.png").convert("RGB")), (x, y))
            draw.rectangle((x, y, x + 46, y + 24), fill="black")
            draw.text((x + 4, y + 2), str(start + place), fill="white", font_size=20)
        sheet.save(out / f"{given.draw}-{start // (COLUMNS * ROWS):02d}.png")


if __name__ == "__main__":
    main()
