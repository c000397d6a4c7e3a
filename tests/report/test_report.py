from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.runs import known_run, rewrite

from workbench.analysis.layout import arrange
from workbench.report import sheets as report
from workbench.report.sheets import sheet
from workbench.runs.run import Run


def painted(run: Run, side: int = 32) -> Run:
    """Every cell a plain red picture that tells its number."""
    (run.path / "pictures").mkdir()
    for record in run.records():
        if record["status"] != "failed":
            Image.new("RGB", (side, side), (10 * record["cell"], 0, 0)).save(run.picture(record))
    return run


def reds(picture: Image.Image) -> list[int]:
    """The cells in a sheet, each line of pixels from left to right, top to bottom."""
    found: list[int] = []
    for y in range(picture.height):
        for x in range(picture.width):
            pixel: Any = picture.getpixel((x, y))
            if pixel[1:] == (0, 0) and pixel[0] and pixel[0] // 10 not in found:
                found.append(pixel[0] // 10)
    return found


def test_sheet_of_a_known_run(home: Path) -> None:
    axes = {"strength": [0.2, 0.4], "weight": [0.0, 1.0]}
    run = painted(known_run(axes, lambda s: (str(s), 50 + s["weight"] + s["strength"])))
    # 2 rows (seeds), 4 columns (strength x weight)
    assert reds(sheet(run, tile=40)) == [1, 2, 3, 4, 5, 6, 7]


def test_a_sheet_has_all_pages_of_the_wall(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    axes: dict[str, list[Any]] = {"refine_steps": [*range(20, 33)], "strength": [0.2, 0.4], "weight": [0.0, 0.5, 1.0]}
    run = painted(known_run(axes, lambda s: (str(s), 50.0)), side=8)
    assert len(arrange(run).pages) == 2
    rows, columns = labels(run, monkeypatch)
    assert len(rows) == 26 and rows[13] == "Prompt 1: p\nSeed 1\nRefine steps 20"
    assert len(columns) == 6 and columns[1] == "Strength 0.2\nCodeFormer weight 0.5"


def test_what_is_said_in_place_of_a_picture_and_under_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {0.0: ("a", 38.84), 0.5: ("b", None), 1.0: ("failed", None)}
    run = painted(known_run({"weight": [0.0, 0.5, 1.0]}, lambda s: told[s["weight"]], seeds=1))
    rewrite(run, 0, scores={"flags": ["noisy"]})
    seen = drawn(run, monkeypatch)
    assert seen["captions"] == [["38.8 !", "no face", ""]] and seen["tiles"][0][2] == "failed: base: no"
    run.journal.unlink()
    seen = drawn(run, monkeypatch)
    assert seen["tiles"] == [["not run yet"] * 3] and seen["captions"] == [["", "", ""]]


def test_the_sheet_never_holds_a_full_size_picture(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = painted(known_run({"weight": [0.0, 0.5, 1.0]}, lambda s: (str(s), 50.0)), side=600)
    held: list[tuple[int, int]] = []
    draw = report.contact_sheet

    def spy(tiles: Any, *arguments: Any, **more: Any) -> Image.Image:
        held.extend(tile.size for line in tiles for tile in line)
        return draw(tiles, *arguments, **more)

    monkeypatch.setattr(report, "contact_sheet", spy)
    sheet(run, tile=100)
    assert held == [(100, 100)] * 6
    monkeypatch.setattr(report, "MAX_PIXELS", 6 * 70**2)
    held.clear()
    sheet(run, tile=100)
    assert held == [(70, 70)] * 6
    monkeypatch.setattr(report, "MAX_PIXELS", 6)
    assert sheet(run, tile=100).height > 2 * report.MIN_TILE


def drawn(run: Run, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a sheet is drawn from."""
    seen: dict[str, Any] = {}

    def spy(tiles: Any, rows: Any, columns: Any, **more: Any) -> Image.Image:
        seen.update(tiles=tiles, rows=rows, columns=columns, **more)
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr(report, "contact_sheet", spy)
    sheet(run)
    return seen


def labels(run: Run, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], list[str]]:
    seen = drawn(run, monkeypatch)
    return seen["rows"], seen["columns"]


def test_settings_that_vary_together_are_one_axis(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    axes = {"width+height": [[256, 256], [512, 384]], "cfg": [2.0, 5.0]}
    run = painted(known_run(axes, lambda s: (str(s), s["base_cfg"])))
    rows, columns = labels(run, monkeypatch)
    assert columns[1] == "Width/Height 256/256\nBase CFG/Refine CFG 5" and rows[0] == "Prompt 1: p\nSeed 0"


def test_a_search_shows_only_what_it_made(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for strategy, shown in (("grid", 3), ("random", 1)):
        axes = {"strength": [0.2, 0.4], "steps": [1, 2], "weight": [0.0, 1.0]}
        run = known_run(axes, lambda s: (str(s), 1.0), seeds=3, strategy=strategy)
        painted_record = run.records()[9]
        run.journal.unlink()
        run.append("cell", painted_record)
        (run.path / "pictures").mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(run.picture(painted_record))
        rows, _ = labels(run, monkeypatch)
        assert len(rows) == shown
