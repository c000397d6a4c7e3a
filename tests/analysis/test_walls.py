import io
import itertools
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.runs import known_run, rewrite

from workbench.analysis.layout import (
    Layout,
    arrange,
    default_layout,
    dimensions,
    face_square,
    make_layout,
    number_text,
    tile,
)
from workbench.errors import LayoutError, NoPicture, UsageError
from workbench.runs import label
from workbench.runs.run import Run
from workbench.scores.measures import MEASURES

AXES: dict[str, list[Any]] = {"strength": [0.2, 0.4], "weight": [0.0, 0.5, 1.0]}


def numbered(axes: dict[str, list[Any]] = AXES, **more: Any) -> Run:
    """A run whose sharpness is the cell's number."""
    counter = itertools.count()
    return known_run(axes, lambda s: (str(s), float(next(counter))), **more)


def numbers(page: Any) -> list[list[int]]:
    return [[cell.number for cell in line] for line in page.cells]


def test_dimensions_are_in_the_order_that_numbers_the_cells(home: Path) -> None:
    assert dimensions(numbered()) == {"prompt": ["p"], "seed": [0, 1], **AXES}


@pytest.mark.parametrize(
    ("axes", "seeds", "layout"),
    [
        (AXES, 2, (["prompt", "seed"], ["strength", "weight"], [])),
        ({}, 3, (["prompt"], ["seed"], [])),
        ({"strength": [0.2, 0.4], "steps": [9], "weight": [0.0, 1.0]}, 2, (["prompt", "seed"], ["strength", "weight"], [])),
        # 5 x 3 values are more than 12 columns
        ({"refine_steps": [21, 22, 23, 24, 25], **AXES}, 2, (["prompt", "seed", "refine_steps"], ["strength", "weight"], [])),
        # 2 x 13 rows are more than 24
        ({"refine_steps": [*range(20, 33)], **AXES}, 2, (["refine_steps"], ["strength", "weight"], ["prompt", "seed"])),
        ({"strength": [0.2, 0.4], "weight": [i / 20 for i in range(21)]}, 2, (["weight"], ["strength"], ["prompt", "seed"])),
        ({"weight": [i / 40 for i in range(41)]}, 2, ([], ["seed"], ["prompt", "weight"])),
        ({"cfg": [2.0, 5.0], "width+height": [[256, 256], [512, 512]]}, 1, (["prompt", "seed"], ["cfg", "width+height"], [])),
    ],
)  # fmt: skip
def test_the_costliest_dimensions_are_outermost(home: Path, axes: Any, seeds: int, layout: Any) -> None:
    rows, columns, pages = (tuple(part) for part in layout)
    run = numbered(axes, seeds=seeds)
    assert default_layout(run) == Layout(rows, columns, pages)
    made = [n for page in range(len(arrange(run).pages)) for line in numbers(arrange(run, page=page)) for n in line]
    assert sorted(made) == list(range(run.about["cells"]))


def test_every_cell_stands_where_its_settings_say(home: Path) -> None:
    run = numbered({**AXES, "cfg": [2.0, 5.0]})
    layout = make_layout(run, rows=["weight"], columns=("cfg", "seed"), pages="strength")
    page = arrange(run, layout, page=1)
    assert page.pages == ["Strength 0.2", "Strength 0.4"]
    assert page.rows == ["CodeFormer weight 0", "CodeFormer weight 0.5", "CodeFormer weight 1"]
    assert page.columns == [f"{label('cfg')} {cfg}\nSeed {seed}" for cfg in (2, 5) for seed in (0, 1)]
    for line, weight in zip(page.cells, AXES["weight"], strict=True):
        for cell, (cfg, seed) in zip(line, itertools.product([2.0, 5.0], [0, 1]), strict=True):
            assert cell.record is not None and cell.record["cell"] == cell.number
            found = cell.record["settings"]
            assert (found["strength"], found["weight"], found["refine_cfg"], found["seed"]) == (0.4, weight, cfg, seed)


def test_labels(home: Path) -> None:
    run = numbered(
        {"width+height": [[256, 256], [512, 384]]}, prompts=["a very long prompt about a single face"], seeds=1
    )
    page = arrange(run)
    assert page.columns[1] == "Width/Height 512/384"
    assert page.rows == ["Prompt 1: a very long prompt about a si…\nSeed 0"]


def test_a_layout_names_every_dimension_once(home: Path) -> None:
    run = numbered()
    assert make_layout(run, rows="seed", columns=["strength", "weight"]).rows == ("seed",)
    with pytest.raises(LayoutError, match=r"'wieght' is no dimension .*; did you mean 'weight'"):
        make_layout(run, rows="seed", columns=["strength", "wieght"])
    with pytest.raises(LayoutError, match="it has prompt, seed, strength, weight"):
        make_layout(run, rows="xyz")
    with pytest.raises(LayoutError, match="strength and weight must be among"):
        make_layout(run, rows="seed")
    with pytest.raises(LayoutError, match="weight is named twice"):
        make_layout(run, rows=["seed", "weight"], columns=["strength", "weight"])
    with pytest.raises(LayoutError, match=r"no page 1; .* pages 0 to 0"):
        arrange(run, page=1)
    with pytest.raises(UsageError, match="'sharpnes'; did you mean 'sharpness'"):
        arrange(run, colour="sharpnes")


def test_what_is_said_of_a_cell(home: Path) -> None:
    told = {0.0: ("a", 38.84), 0.5: ("b", None), 1.0: ("failed", None)}
    run = known_run({"weight": [0.0, 0.5, 1.0]}, lambda s: told[s["weight"]])
    rewrite(run, 3, scores={"flags": ["noisy"], "sharpness": 20.0})
    fine, no_face, failed = arrange(run).cells[0]
    assert (fine.state, fine.value, fine.text, fine.shade) == ("done", 38.84, "38.8", 1.0)
    assert (no_face.state, no_face.value, no_face.text, no_face.shade) == ("no_face", None, "no face", None)
    assert (failed.state, failed.text, failed.reason, failed.record is None) == ("failed", "failed", "base: no", False)
    flagged = arrange(run).cells[1][0]
    assert (flagged.text, flagged.flags, flagged.shade) == ("20.0 !", ("noisy",), 0.0)


def test_cells_without_a_record(home: Path) -> None:
    run = numbered({"weight": [0.0, 0.5, 1.0]}, seeds=1)
    keep = run.records()[1]
    run.journal.unlink()
    run.append("cell", keep)
    assert [(c.state, c.text) for c in arrange(run).cells[0]] == [
        ("not_run", "not run yet"), ("done", "1.0"), ("not_run", "not run yet"),
    ]  # fmt: skip
    (run.path / "search.json").write_text('{"strategy": "race", "why": "", "cells": [1, 2], "notes": [], "states": []}')
    assert [c.state for c in arrange(run).cells[0]] == ["left_out", "done", "not_run"]


def test_shades_follow_the_measures_own_direction_over_the_whole_run(home: Path) -> None:
    run = numbered()
    for number in range(12):
        rewrite(run, number, scores={"noise": float(number), "yaw": number - 5.0, "ssim": 0.5})
    layout = make_layout(run, rows="strength", columns="weight", pages="seed")
    page = arrange(run, layout, 1)
    assert (page.low, page.high) == (0.0, 11.0)
    assert page.cells[1][2].shade == 1.0 and page.cells[0][0].shade == pytest.approx(6 / 11)
    assert arrange(run, layout, 1, "noise").cells[1][2].shade == 0.0
    assert arrange(run, layout, 0, "noise").cells[0][0].shade == 1.0
    assert arrange(run, layout, 1, "yaw").cells[1][2].shade == 1.0
    assert arrange(run, layout, 0, "ssim").cells[0][0].shade == 1.0  # all are equal: all are best
    assert arrange(run, layout, 0, "ssim").cells[0][0].text == "0.500"
    page = arrange(run, colour="lpips")
    assert (page.low, page.high, page.cells[0][0].text, page.cells[0][0].shade) == (None, None, "not measured", None)


def test_numbers_of_several_versions_are_not_shown_side_by_side(home: Path) -> None:
    run = numbered({"weight": [0.0, 0.5]}, seeds=1)
    rewrite(run, 0, scores={"versions": {"sharpness": "blur-0"}})
    rewrite(run, 1, scores={"versions": {"sharpness": MEASURES["sharpness"].version}})
    old, new = arrange(run).cells[0]
    assert old.value is None and new.value == 1.0 and arrange(run).low == 1.0
    rewrite(run, 1, scores={"versions": {"sharpness": "blur-0"}})
    assert [c.value for c in arrange(run).cells[0]] == [0.0, 1.0]  # all of one, if an older, version


def test_digits_that_say_something() -> None:
    told = [
        number_text(0.1234, MEASURES[name]) for name in ("sharpness", "noise", "ssim", "halo", "sigma", "smooth_skin")
    ]
    assert told == ["0.1", "0.1", "0.123", "0.123", "0.123", "0.123"]


@pytest.mark.parametrize(
    ("box", "square"),
    [
        ((40, 40, 60, 60), (39, 39, 61, 61)),
        ((40, 30, 60, 70), (28, 28, 72, 72)),  # the longer side counts
        ((0, 0, 20, 20), (0, 0, 22, 22)),  # moved into the picture
        ((90, 50, 110, 70), (78, 49, 100, 71)),
        ((0, 0, 100, 80), (10, 0, 90, 80)),  # no larger than the picture
    ],
)
def test_the_square_around_a_face(box: Any, square: Any) -> None:
    assert face_square(box, (100, 80)) == square


def test_tiles(home: Path) -> None:
    run = known_run({"weight": [0.0, 0.5, 1.0]}, lambda s: ("failed" if s["weight"] == 1 else "p", 1.0), seeds=1)
    picture = Image.new("RGB", (200, 100), "#0000ff")
    picture.paste("#ff0000", (120, 20, 180, 80))
    (run.path / "pictures").mkdir()
    rewrite(run, 0, scores={"box": [140, 40, 160, 60]})
    whole, no_box, failed = run.records()
    for record in (whole, no_box):
        picture.save(run.picture(record))

    def look(data: bytes) -> tuple[tuple[int, int], Any]:
        image = Image.open(io.BytesIO(data))
        assert image.format == "JPEG"
        return image.size, image.getpixel((2, 2))

    size, (red, _, blue) = look(tile(run, whole))
    assert size == (160, 80) and blue > 200 > red
    size, (red, _, blue) = look(tile(run, whole, 64, zoom=True))
    assert size == (64, 64) and red > 200 > blue
    assert look(tile(run, no_box, 40, zoom=True))[0] == (40, 20)
    with pytest.raises(NoPicture, match=r"cell 2 .* base: no"):
        tile(run, failed)
