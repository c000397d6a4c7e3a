from pathlib import Path
from typing import Any

from test_promotion import make_run


def test_heat_map_and_sheet_of_a_known_run(home: Path, tmp_path: Path) -> None:
    from PIL import Image

    from workbench.report import heat_map, sheet

    run = make_run({(0.2, 0.0): [50, 52], (0.2, 1.0): [99, None], (0.4, 0.0): [60, 50], (0.4, 1.0): [40, 41]})
    (run.path / "pictures").mkdir()
    for record in run.records():
        Image.new("RGB", (32, 32), (10 * record["cell"], 0, 0)).save(run.picture(record))
    picture = sheet(run, tile=40)
    # 2 rows (seeds), 4 columns (strength x weight): cell 5 is row 1, column 1
    colours: Any = picture.getcolors(100000)
    colours = {colour[0] for _, colour in colours if colour[1:] == (0, 0)}
    assert {10, 20, 30, 40, 50, 60, 70} <= colours
    assert heat_map(run, tmp_path / "map.png").stat().st_size > 5000
