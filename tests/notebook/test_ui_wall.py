import json
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from support.runs import SCORES, known_run, met, rewrite
from support.widgets import ask, opened, picture

from workbench.analysis import favourites
from workbench.errors import RunFailed, UsageError
from workbench.notebook.widgets import Wall, open_tuners
from workbench.notebook.widgets.panels import Background, Panel, jpeg, sentence
from workbench.notebook.widgets.wall import TILE, CellView
from workbench.presets import load_preset, presets_folder
from workbench.runs.run import Run
from workbench.settings import Settings

AXES: dict[str, list[Any]] = {"strength": [0.2, 0.4], "weight": [0.0, 0.5, 1.0]}


@pytest.fixture(autouse=True)
def looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in JupyterLab."""
    monkeypatch.setenv("WORKBENCH_WIDGETS", "on")


@pytest.fixture
def run(home: Path) -> Run:
    """12 cells, 10 + seed + strength + weight sharp; the first failed and the last shows no face."""

    def tell(s: dict[str, Any]) -> tuple[str, float | None]:
        if s["seed"] == 0 and s["strength"] == 0.2 and s["weight"] == 0.0:
            return "failed", None
        if s["seed"] == 1 and s["strength"] == 0.4 and s["weight"] == 1.0:
            return "nobody", None
        return f"pixels {s['seed']} {s['strength']} {s['weight']}", 10 + s["seed"] + s["strength"] + s["weight"]

    run = known_run(AXES, tell)
    for cell in range(1, 12):
        picture(run, cell)
    rewrite(run, 1, scores={"box": [280, 100, 380, 200], "flags": ["noisy"], "noise": 9.0})
    return run


def sent(wall: Panel, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """What the widget sends to its page from now on."""
    messages: list[tuple[Any, Any]] = []
    monkeypatch.setattr(wall, "send", lambda content, buffers=None: messages.append((content, buffers)))
    return messages


def flat(wall: Wall) -> dict[int, CellView]:
    return {cell["cell"]: cell for row in wall.view["cells"] for cell in row}


def test_every_cell_has_its_place_state_and_shade(run: Run) -> None:
    wall = Wall(run)
    assert wall.roles == {"seed": "rows", "strength": "columns", "weight": "columns"}
    assert wall.view["dimensions"] == {"seed": "Seed", "strength": "Strength", "weight": "CodeFormer weight"}
    cells = flat(wall)
    assert sorted(cells) == list(range(12))
    assert cells[0]["text"] == "failed" and cells[0]["reason"] == "base: no" and not cells[0]["picture"]
    assert cells[11]["text"] == "no face" and cells[11]["picture"] and cells[11]["shade"] is None
    assert cells[1]["text"] == "10.7 !" and cells[1]["flags"] == ["noisy"]
    assert cells[8]["shade"] == 1.0 and cells[8]["text"] == "12.2"
    assert cells[2]["shade"] is not None and 0 < cells[2]["shade"] < 1
    assert (wall.view["low"], wall.view["high"]) == ("10.4", "12.2")
    json.dumps(wall.view)


def test_rows_columns_pages_and_colour_are_chosen(run: Run) -> None:
    wall = Wall(run)
    wall.roles = {**wall.roles, "weight": "pages"}
    wall.page = 2
    wall.work.settle()
    assert wall.view["pages"] == [f"CodeFormer weight {w}" for w in ("0", "0.5", "1")] and wall.view["page"] == 2
    assert sorted(flat(wall)) == [2, 5, 8, 11]
    wall.roles = {**wall.roles, "weight": "rows"}  # there is no third page any more
    wall.work.settle()
    assert wall.view["page"] == 0 and len(wall.view["rows"]) == 6
    assert wall.view["measures"] == [
        ("Score", [("sharpness", "sharpness (points, higher is better)")]),
        ("Guards", [("noise", "noise (8-bit levels, lower is better)")]),
    ]
    rewrite(run, 2, scores={"noise": 3.0})
    wall.colour = "noise"
    wall.work.settle()
    assert (wall.view["low"], wall.view["high"]) == ("9", "3")  # the worst first, as the ramp has it
    assert flat(wall)[2]["shade"] == 1.0 and flat(wall)[1]["shade"] == 0.0


def test_it_is_no_wider_than_a_notebook(home: Path) -> None:
    axes: dict[str, list[Any]] = {"strength": [0.2, 0.3, 0.4], "refine_cfg": [2.0, 3.0, 4.0], "weight": [0.0, 0.5, 1.0]}
    wall = Wall(known_run(axes, lambda s: (str(s), 1.0), seeds=6))
    assert wall.roles == {"seed": "pages", "strength": "rows", "refine_cfg": "rows", "weight": "columns"}
    assert len(wall.view["pages"]) == 6 and len(wall.view["rows"]) == 9
    wide = Wall(known_run({"weight": [i / 10 for i in range(9)]}, lambda s: (str(s), 1.0)))
    assert wide.roles == {"seed": "rows", "weight": "columns"}  # an axis is never taken apart


def test_roles_that_do_not_fit_are_said_and_nothing_is_lost(run: Run) -> None:
    wall = Wall(run)
    before = wall.view
    wall.roles = {"seed": "rows", "strength": "columns"}
    wall.work.settle()
    assert wall.said["error"] and "eight must be among" in wall.said["text"] and wall.view is before
    wall.roles = {**wall.roles, "weight": "pages"}
    wall.work.settle()
    assert not wall.said["text"] and len(wall.view["pages"]) == 3
    with pytest.raises(UsageError):
        Wall(run, colour="sharpnes")


def test_new_cells_come_and_what_was_chosen_stays(run: Run) -> None:
    wall = Wall(run, pinned={"rows": ["Seed 1"], "columns": []})
    wall.opened = 3
    wall.work.settle()
    rewrite(
        run,
        0,
        status="done",
        reason=None,
        scores=SCORES | {"sharpness": 30.0},
        pixels_sha256="new",
        picture="pictures/0000.png",
        seconds=1.0,
    )
    wall.refresh()
    assert flat(wall)[0]["text"] == "30.0" and flat(wall)[0]["picture"] and flat(wall)[0]["version"]
    assert wall.opened == 3 and wall.detail["cell"] == 3 and wall.pinned["rows"] == ["Seed 1"]
    before = flat(wall)[2]["version"]  # names the tile: the page asks again for one that has changed
    rewrite(run, 2, scores={"box": [0, 0, 50, 50]})  # scored anew: the same picture, the face elsewhere
    wall.refresh()
    assert flat(wall)[2]["version"] != before


def test_tiles_are_small_and_only_what_was_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    wall = Wall(run)
    messages = sent(wall, monkeypatch)
    ask(wall, do="tiles", cells=[0, 1, 2], zoom=False)
    ((about, buffers),) = messages
    version = flat(wall)[1]["version"]
    assert about["tiles"][0] == f"1:false:{version}" and len(about["tiles"]) == 2 and about["missing"] == {}
    assert [opened(b).size for b in buffers] == [(288, 216)] * 2 and max(map(len, buffers)) < 10_000
    ask(wall, do="tiles", cells=[1, 2], zoom=True)
    faces = messages[1][1]
    assert opened(faces[0]).size == (288, 288) and opened(faces[0]).getpixel((144, 144))[0] > 200  # pyright: ignore
    assert opened(faces[1]).size == (288, 216)  # where no face is known, the whole picture


def test_a_picture_that_is_gone_is_no_error_of_the_others(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    wall = Wall(run)
    messages = sent(wall, monkeypatch)
    run.picture(run.records()[4]).unlink()
    ask(wall, do="tiles", cells=[3, 4, 5], zoom=False)
    about, buffers = messages[0]
    assert [name.split(":")[0] for name in about["tiles"]] == ["3", "5"] and len(buffers) == 2
    ((name, why),) = about["missing"].items()
    assert name.startswith("4:") and "there is no picture" in why
    for cell in (3, 4):
        wall.opened = cell
        wall.work.settle()
    assert wall.detail["number"].startswith("cell 4") and wall.picture == b""  # not cell 3, which keys would mark as 4
    assert wall.said["error"] and "here is no picture" in wall.said["text"]


def test_the_large_view_says_everything(run: Run) -> None:
    picture(run, 1, (2000, 1500))
    rewrite(run, 1, scores={"lpips": None, "ssim": 0.5, "not_measured": {"lpips": "no weights"}, "box": None})
    rewrite(run, 1, notes=["the detailer found no face, so it changed nothing"])
    wall = Wall(run, opened=1)
    assert opened(wall.picture).size == (1024, 768)
    assert wall.detail["words"] == "the detailer found no face, so it changed nothing"
    assert wall.detail["title"] == "Strength 0.2 · CodeFormer weight 0.5 · Seed 0"
    assert wall.detail["number"] == "cell 1, sharpness 10.7" and wall.detail["flags"] == ["noisy"]
    assert wall.detail["size"] == [2000, 1500] and wall.detail["face"] == []
    parts = {row[0]: row[1:] for _, rows in wall.detail["parts"] for row in rows}
    assert parts["noise"][0] == "9 8-bit levels ! noisy" and parts["SSIM to the unrestored"][0] == "0.5 similarity"
    assert parts["LPIPS to the unrestored"] == ["not measured", "no weights"] and parts["NIQE"][0] == "not measured"
    assert ["CodeFormer weight", "0.5"] in wall.detail["settings"]
    assert isinstance(wall.selected, Settings) and (wall.selected.weight, wall.selected.strength) == (0.5, 0.2)
    assert wall.detail["against"] == "There is no production preset yet."
    wall.opened = 0
    wall.work.settle()
    assert wall.picture == b"" and wall.detail["words"] == "failed: base: no" and not wall.detail["promotable"]
    wall.opened = -1
    wall.work.settle()
    assert wall.detail == {} and wall.selected is None


def test_the_large_view_knows_where_the_face_is(run: Run) -> None:
    wall = Wall(run, opened=1)
    assert opened(wall.picture).size == (400, 300) and wall.detail["size"] == [400, 300]
    x0, y0, x1, y1 = wall.detail["face"]
    assert 0.6 < x0 < 0.75 and x1 <= 1 and 300 * (y1 - y0) == pytest.approx(400 * (x1 - x0), abs=0.1)  # a square


def test_a_cell_without_a_record_can_be_opened(home: Path) -> None:
    run = known_run(AXES, lambda s: ("p", 1.0))
    lines = run.journal.read_text().splitlines()
    run.journal.write_text("\n".join(lines[:-1]) + "\n")
    wall = Wall(run, opened=11)
    assert "not run" in wall.detail["words"] and wall.selected is None
    assert flat(wall)[11]["state"] == "not_run" and flat(wall)[11]["version"] == ""


def test_favourites_and_rejects_are_marked_and_kept(run: Run) -> None:
    wall = Wall(run)
    ask(wall, do="mark", cell=4, mark="favourite")
    ask(wall, do="mark", cell=2, mark="reject")
    assert {n: c["mark"] for n, c in flat(wall).items() if c["mark"]} == {2: "reject", 4: "favourite"}
    assert favourites(run) == {2: "reject", 4: "favourite"}
    ask(wall, do="mark", cell=4, mark=None)
    assert flat(Wall(run))[4]["mark"] == "" and flat(Wall(run))[2]["mark"] == "reject"
    ask(wall, do="mark", cell=0, mark="reject")
    assert wall.said["error"] and "Cell 0 of" in wall.said["text"]


def test_pictures_and_sheets_are_handed_over(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    wall = Wall(run)
    messages = sent(wall, monkeypatch)

    def handed(key: str, what: str = "png") -> tuple[Any, Any]:
        ask(wall, do="file", id=key, what=what, token="t")
        wall.handing.settle()
        return messages[-1]

    about, (data,) = handed("1")
    assert data == run.picture(run.records()[1]).read_bytes() and about["name"] == f"{run.id}-0001.png"
    assert handed("1", "text")[0]["text"].startswith("p\n") and handed("1", "text")[1] == []
    assert "has no picture: base: no" in handed("0")[0]["error"] and "not run" in handed("99")[0]["error"]
    whole = opened(handed("sheet")[1][0])
    assert whole.width > 6 * TILE
    wall.roles = {**wall.roles, "weight": "pages"}
    wall.zoom = True
    wall.work.settle()
    page = opened(handed("page")[1][0])
    assert 2 * TILE < page.width < 4 * TILE and page.height < whole.height


def test_a_cell_opens_in_the_tuner_that_is_there_or_says_how(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_tuners, "_newest", None)
    wall = Wall(run, opened=3)
    messages = sent(wall, monkeypatch)
    shell = SimpleNamespace(user_ns={"_": wall, "panel": SimpleNamespace(wall=wall)})
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: shell)
    ask(wall, do="tune", cell=3)
    assert messages[-1][0] == {"line": "from workbench.notebook.widgets import Tuner\nTuner(panel.wall.selected)"}
    assert wall.said["text"].startswith("No tuner is open")

    loaded: list[tuple[str, Settings]] = []
    for tuner in ("older", "newer"):
        open_tuners.tuner_opened(lambda settings, tuner=tuner: loaded.append((tuner, settings)))
    ask(wall, do="tune", cell=3)
    assert loaded == [("newer", wall.selected)] and messages[-1][0] == {"line": ""}
    assert "shows Strength 0.4 · CodeFormer weight 0 · Seed 0 now" in wall.said["text"]


def test_against_production(run: Run) -> None:
    settings = Settings(**run.records()[2]["settings"])
    from workbench.presets import Preset

    Preset("production", settings.replace(seed=99, weight=0.25)).save(presets_folder() / "production.json")
    wall = Wall(run, opened=2)
    assert wall.detail["diff"] == [["CodeFormer weight", "0.25", "1"]]
    Preset("production", settings.replace(seed=99)).save(presets_folder() / "production.json")
    wall = Wall(run, opened=2)
    assert wall.detail["diff"] == [] and "same settings as production" in wall.detail["against"]
    (presets_folder() / "production.json").write_text("{")
    assert "cannot be read" in Wall(run, opened=2).detail["against"]


@pytest.fixture
def duels(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a duel ends with, in place of the process that runs it."""
    outcome: dict[str, Any] = {"by": 5.0, "challenges": []}

    class Ended:
        state = "finished"

        def __init__(self, duel: Any) -> None:
            outcome["challenges"].append(duel)
            self.duel = duel

        def wait(self, timeout: float, progress: bool) -> Run:
            if isinstance(outcome["by"], Exception):
                raise outcome["by"]
            return met(self.duel, by=outcome["by"])

    class Started:
        def start(self, spec: Any) -> Ended:
            return Ended(SimpleNamespace(spec=spec))

    monkeypatch.setattr("workbench.notebook.widgets.duelling.detached", Started())
    return outcome


def test_a_cell_is_promoted_after_it_has_beaten_the_champion(
    run: Run, monkeypatch: pytest.MonkeyPatch, duels: dict[str, Any]
) -> None:
    wall = Wall(run, opened=4)
    messages = sent(wall, monkeypatch)
    ask(wall, do="preview", cell=4, name="mine")
    about = messages[0][0]
    assert (
        about["name"] == "mine"
        and about["preview"][0] == "a new preset:"
        and "CodeFormer weight = 0.5" in about["preview"]
    )
    assert about["duel"][0].startswith("It meets preset embedded first: 32 pictures (")
    assert "new to both" in about["duel"][1] and duels["challenges"] == []
    assert not (presets_folder() / "mine.json").exists()  # nothing is written yet
    ask(wall, do="promote", cell=4, name="mine", note="the calmest")
    wall._duelling.work.settle()
    preset, chosen = load_preset("mine"), Settings(**run.records()[4]["settings"])
    assert {name for name in preset.settings.diff(chosen)} <= {"prompt", "seed"}
    assert preset.evidence["note"] == "the calmest" and preset.evidence["verdict"]["decision"] == "better"
    assert not wall.said["error"] and wall.said["text"].startswith("Promoted: it is the preset 'mine' now. Better: ")
    ask(wall, do="preview", cell=3, name="mine")
    assert messages[-1][0]["preview"] == ["CodeFormer weight: 0.5 -> 0"]
    assert messages[-1][0]["duel"][0].startswith("It meets preset mine first")
    ask(wall, do="preview", cell=4, name="mine")
    assert "equal settings" in wall.said["text"]


@pytest.mark.parametrize(
    ("by", "said"),
    [
        (0.0, "Not promoted. "),
        (-5.0, "Not promoted. Worse: "),
        (RunFailed("it broke."), "Not promoted: It broke. Promoting"),
    ],
)
def test_who_does_not_win_is_not_promoted(run: Run, duels: dict[str, Any], by: Any, said: str) -> None:
    duels["by"] = by
    wall = Wall(run, opened=4)
    ask(wall, do="promote", cell=4, name="production", note="")
    wall._duelling.work.settle()
    assert wall.said["error"] and wall.said["text"].startswith(said)
    assert not (presets_folder() / "production.json").exists()


def test_what_cannot_be_promoted_is_said_in_the_panel(run: Run) -> None:
    wall = Wall(run, opened=1)
    ask(wall, do="promote", cell=1, name="production", note="")
    wall._duelling.work.settle()
    assert wall.said["error"] and "a guard fired" in wall.said["text"].lower()
    ask(wall, do="preview", cell=2, name="No Name")
    assert "cannot be a preset's name" in wall.said["text"]
    ask(wall, do="preview", cell=2, name="embedded")
    assert "shipped preset" in wall.said["text"]
    assert not (presets_folder() / "production.json").exists()


def test_whatever_raises_is_said_and_logged(run: Run, home: Path) -> None:
    wall = Wall(run)
    (run.path / "run.json").write_text("{")
    wall.page = 1
    wall.work.settle()
    assert wall.said["error"] and "is no whole run" in wall.said["text"]
    assert not (home / "errors.log").exists()
    ask(wall, do="nothing")
    assert "AttributeError" in wall.said["text"] and "should not" in wall.said["text"]
    assert str(home / "errors.log") in wall.said["text"]
    assert "Traceback" in (home / "errors.log").read_text()
    assert sentence(UsageError("no such thing.")) == "No such thing."


def test_a_handler_only_hands_over(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    wall = Wall(run)
    go = threading.Event()
    monkeypatch.setattr(wall, "_open", go.wait)
    begun = time.perf_counter()
    wall.opened = 2
    wall.page = 0
    wall._received(wall, {"do": "tiles", "cells": [1], "zoom": False}, [])
    assert time.perf_counter() - begun < 0.05
    go.set()


def test_the_background_works_in_order_and_looks_while_watching() -> None:
    done: list[Any] = []
    looked = threading.Event()
    background = Background(done.append, looked.set)
    background.submit(done.append, 1)
    background.submit([].pop)
    background.submit(done.append, 2)
    background.settle()
    assert done[0] == 1 and isinstance(done[1], IndexError) and done[2] == 2
    assert not looked.wait(1.3)
    background.watch(True)
    assert looked.wait(3)


def test_headless_it_is_a_picture_without_a_comm(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Wall(run).comm is not None
    monkeypatch.setenv("WORKBENCH_WIDGETS", "off")
    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.display", lambda *what, **how: shown.append(what[0]))
    wall = Wall(run)
    wall._ipython_display_()
    assert wall.comm is None and opened(shown[0].data).width > 500


def test_pictures_are_never_enlarged() -> None:
    assert opened(jpeg(Image.new("RGB", (30, 20)), 100)).size == (30, 20)
    assert opened(jpeg(Image.new("RGB", (3000, 1000)), 1024)).size == (1024, 341)
