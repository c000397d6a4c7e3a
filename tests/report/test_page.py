import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.figures import covered
from support.runs import CASES, broken, known, known_run, painted, rewrite
from typer.testing import CliRunner

from workbench.analysis import mark_cell, votes
from workbench.analysis.votes import Pair
from workbench.cli.commands import app
from workbench.errors import MixedScores, RunNotFound
from workbench.files import Chart, new_figure
from workbench.promotion.promoting import write_promoted
from workbench.report import page, page_parts, page_wall, plots
from workbench.report.page import ranked_html, report_html, write_report
from workbench.scores.measures import MEASURES

PLOTS = ("ranking", "heat_maps", "main_effects", "pareto_front", "stage_times")  # of a page, in its order
VOID = {"meta", "img", "input", "br"}


class Reader(HTMLParser):
    """What is in a page: its elements with their attributes, the text of each section, and whether all of them close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, Any]]] = []
        self.open: list[str] = []
        self.sections: dict[str, str] = {}
        self.here = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found.append((tag, dict(attrs)))
        self.here = dict(attrs)["id"] if tag == "section" else self.here
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.sections[self.here] = self.sections.get(self.here, "") + data + " "

    def all(self, tag: str) -> list[dict[str, Any]]:
        return [attrs for name, attrs in self.found if name == tag]


def pixel(source: str) -> Any:
    image = Image.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/jpeg;base64,"))))
    return image.getpixel((2, 2))


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages whose plots are blank: they are nine tenths of a page's time, and `test_a_page_of_any_run` looks at them."""
    for name in PLOTS:
        monkeypatch.setattr(plots, name, lambda run: Chart(new_figure(1, 1), "blank"))


def test_the_page_needs_nothing_else_and_can_be_read_by_everyone(home: Path) -> None:
    text = report_html(painted(known()))
    read = Reader(text)
    assert read.all("html")[0]["lang"] == "en" and not read.all("script") and not read.all("link")
    assert all(image["src"].startswith("data:image/") and image["alt"] for image in read.all("img"))
    assert (
        not re.search(r"(?:src|href)=(?!\"data:|\"#)", text)
        and not re.search(r"url\((?!#)", text)
        and "@import" not in text
    )
    assert all(header["scope"] in ("row", "col") for header in read.all("th")) and len(read.all("table")) > 3
    ids = [attrs["id"] for _, attrs in read.found if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = [attrs["href"][1:] for attrs in read.all("a")] + [a["aria-labelledby"] for a in read.all("section")]
    assert set(targets) <= set(ids) and {label["for"] for label in read.all("label")} <= set(ids)
    assert (
        read.all("meta")[1]["content"] == "width=device-width,initial-scale=1" and "prefers-color-scheme:dark" in text
    )
    assert all(a.get("aria-label") and a["tabindex"] == "0" for a in read.all("div") if a.get("class") == "scroll")


@pytest.mark.parametrize("case", CASES)
def test_a_page_of_any_run(home: Path, figures: list[Any], case: str) -> None:
    """In its plots no text covers another and none is cut."""
    run = painted(CASES[case]())
    for stage, seconds in (("base", 12.0), ("faces", 0.01)):
        run.append("stage", {"stage": stage, "key": "k", "seconds": seconds, "pid": 1})
    read = Reader(report_html(run))
    wall = [image for image in read.all("img") if image.get("class") == "whole"]
    assert len(wall) == sum(record["status"] != "failed" for record in run.records())
    assert set(read.sections) >= {"asked", "state", "ranking", "wall", "effects", "time", "votes", "notes", "made"}
    for name, figure in zip(PLOTS, figures, strict=True):
        assert figure.picture.mode == "RGB" and 300 < figure.picture.width <= 1700, name
        figure.canvas.draw()  # the drawing has left the labels in places of its own resolution
        assert covered(figure) == [] and figure.alt.endswith("."), name


def test_what_people_typed_is_text(home: Path) -> None:
    evil = '</style><script>alert("1")</script> & <b>bold</b>'
    run = painted(known({"weight": [0.0, 1.0]}, name=evil, strategy="grid"))
    about = run.about
    about["spec"]["prompts"], about["name"] = [evil], evil
    (run.path / "run.json").write_text(json.dumps(about))
    for number in range(4):
        old = run.records()[number]
        rewrite(run, number, settings={**old["settings"], "prompt": evil})
    rewrite(run, 1, status="failed", reason=evil, scores={"sharpness": None, "ssim": None})
    whole = report_html(run)
    for text in (whole, ranked_html(run)):
        assert "<script" not in text and "<b>" not in text and 'alert("' not in text
    assert "&lt;script&gt;alert(&#34;1&#34;)" in whole


EVIL = "<script>alert(\"x\")</script> & 'y'"


@pytest.mark.parametrize(
    "call",
    ["bullets([evil])", "pairs([(evil, evil)])", "table([evil], [[evil]], evil)", "image(picture)", "figure(plot)"],
)
def test_text_is_escaped_wherever_it_is_put(call: str) -> None:
    plot = page_parts.page_plot(Chart(new_figure(1, 1), EVIL.replace("'", "")), EVIL)
    picture = page_parts.Picture("data:", 4, 2, EVIL)
    source = f'{{% import "macros.html" as macros %}}{{{{ macros.{call} }}}}'
    found = page._templates().from_string(source).render(evil=EVIL, plot=plot, picture=picture)
    assert "<script" not in found and '"x"' not in found and "'y'" not in found
    assert "&lt;script&gt;alert(&#34;x&#34;)" in found


def test_a_table_has_headers_for_rows_and_columns() -> None:
    source = '{% import "macros.html" as macros %}{{ macros.table(head, rows, "all", [1]) }}'
    found = page._templates().from_string(source).render(head=["setting", "mean"], rows=[["a", "1"], ["c", "2"]])
    assert '<th scope="col">setting</th><th scope="col" class="n">mean</th>' in found
    assert '<tr><th scope="row">a</th><td class="n">1</td></tr>' in found
    assert "<caption>all</caption>" in found and 'role="region" tabindex="0" aria-label="all"' in found


def test_pictures_are_inside_the_page() -> None:
    data = io.BytesIO()
    Image.new("RGB", (40, 20)).save(data, "JPEG")
    picture = page_parts.page_picture(data.getvalue(), "red")
    assert (picture.width, picture.height, picture.alt) == (40, 20, "red")
    assert picture.source == "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()


def test_a_chart_takes_the_colours_of_the_page_and_says_what_it_shows(home: Path) -> None:
    chart = plots.ranking(broken(known()))
    drawn = chart.svg()
    (root,) = [attrs for tag, attrs in Reader(drawn).found if tag == "svg"]
    assert root["role"] == "img" and root["aria-label"] == chart.alt and root["fill"] == "currentColor"
    assert chart.alt.startswith(
        "The best settings with their intervals. Winner: Strength 0.4, Refine CFG 2, CodeFormer"
    )
    assert "var(--wb-blue" in drawn and "stroke: currentColor" in drawn and "#ffffff" not in drawn
    assert "data-cell" not in drawn and "<title" not in drawn
    ids = re.findall(r' id="([^"]+)"', drawn + plots.pareto_front(known()).svg())
    assert len(ids) == len(set(ids))


def test_what_stands_for_a_cell_can_be_pressed(home: Path) -> None:
    run = known()
    for name in ("ranking", "pareto_front"):
        drawn = getattr(plots, name)(run).svg({17: "the best", 3: "another"})
        found = [attrs for _, attrs in Reader(drawn).found if "data-cell" in attrs]
        assert {attrs["data-cell"] for attrs in found} <= {"17", "3"} and found, name
        assert all(attrs["role"] == "button" and attrs["aria-label"] for attrs in found)


@pytest.mark.usefixtures("no_plots")
def test_the_wall_shows_everything_in_its_place(home: Path) -> None:
    run = painted(broken(known()))
    read = Reader(report_html(run))
    wall = read.sections["wall"]
    assert "failed: base: no" in wall and "no face" in wall and "not run" in wall and " !" in wall
    values = [record["scores"]["sharpness"] for record in run.records() if record["scores"].get("sharpness")]
    assert all(f"{value:.1f}" in wall for value in values)
    whole = [image for image in read.all("img") if image.get("class") == "whole"]
    faces = [image for image in read.all("img") if image.get("class") == "face"]
    assert len(whole) == len(faces) == 34 and "cell" not in whole[0]["alt"]
    assert pixel(whole[0]["src"])[0] > 200 and pixel(faces[0]["src"])[2] > 200  # zoomed into the blue square
    assert "Strength 0.2, Refine CFG 2, CodeFormer weight 0.5, prompt 1, seed 0: sharpness" in whole[0]["alt"]
    assert "1 failed" in read.sections["state"] and "base: no" in read.sections["state"]


@pytest.mark.usefixtures("no_plots")
def test_every_page_of_the_wall(home: Path) -> None:
    axes: dict[str, list[Any]] = {"refine_steps": [*range(20, 33)], "strength": [0.2, 0.4], "weight": [0.0, 1.0]}
    read = Reader(report_html(painted(known(axes), 8)))
    assert all(f"Prompt 1: p, Seed {seed}" in read.sections["wall"] for seed in (0, 1))
    assert len([image for image in read.all("img") if image.get("class") == "whole"]) == 104


@pytest.mark.usefixtures("no_plots")
def test_rows_that_a_search_left_out_are_not_on_the_wall(home: Path) -> None:
    run = CASES["search"]()
    kept = [{n: v for n, v in r.items() if n != "kind"} for r in run.records() if r["settings"]["strength"] == 0.2]
    run.journal.unlink()
    for record in kept:
        run.append("cell", record)
    search = {"strategy": "race", "why": "Dropped <most>.", "cells": [record["cell"] for record in kept]}
    search |= {"notes": [], "states": []}
    (run.path / "search.json").write_text(json.dumps(search))
    read = Reader(report_html(painted(run)))
    assert "left out" in read.sections["wall"] and "Search by race: Dropped <most>." in read.sections["state"]
    assert "Strength 0.2" in read.sections["wall"] and "Strength 0.4" not in read.sections["wall"]


@pytest.mark.usefixtures("no_plots")
def test_colours_follow_the_score_and_can_be_read(home: Path) -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        return sum(w * (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4)
                   for w, v in zip((0.2126, 0.7152, 0.0722), parts, strict=True))  # fmt: skip

    for step in range(101):
        light, dark = sorted(map(luminance, plots.on_cividis(step / 100)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2.2 AA
    run = known_run({"weight": [0.0, 1.0]}, lambda s: (str(s), s["weight"]), seeds=1)
    text = report_html(run)
    assert f'style="{page_wall._style(0)}">0.0<' in text and f'style="{page_wall._style(1)}">1.0<' in text


def test_the_ranking_has_intervals_flags_and_the_way_to_production(home: Path) -> None:
    run = painted(known())
    rewrite(run, 17, scores={"flags": ["haloed"]})
    found = ranked_html(run, top=2)
    read = Reader(found)
    text = " ".join(read.sections[""].split())
    table: Any = page.effects.ranked(run)
    first, second = table.iloc[0], table.iloc[1]
    sure = f"{first['mean']:.1f} {first['low']:.1f} to {first['high']:.1f}"
    assert f"1. Strength 0.4, Refine CFG 2, CodeFormer weight 1 on the Pareto front {sure}" in text
    assert f"{second['difference_low']:+.1f} to {second['difference_high']:+.1f}" in text
    assert "production (there is none yet)" in text and "on the Pareto front" in text and "3. " not in text
    assert len(read.all("img")) == 4 and found.startswith("<style>") and "! haloed" not in text
    assert "! haloed" in ranked_html(run, top=18)
    write_promoted(run)
    text = " ".join(Reader(ranked_html(run, top=2)).sections[""].split())
    assert "the same" in text and "Refine CFG 5 (production 2)" in text and "against production" in text
    (home / "presets" / "production.json").write_text("{")
    assert "its file is damaged" in ranked_html(run, top=2)


@pytest.mark.usefixtures("no_plots")
def test_favourites_and_rejects_are_shown(home: Path) -> None:
    run = painted(known({"weight": [0.0, 1.0]}))
    mark_cell(run, 1, "favourite")
    mark_cell(run, 3, "favourite")
    mark_cell(run, 0, "reject")
    read = Reader(report_html(run))
    assert "★ 2 favourites" in read.sections["ranking"] and "✕ 1 reject" in read.sections["ranking"]
    values = [f"{r['scores']['sharpness']:.1f}" for r in run.records()]
    wall = read.sections["wall"]
    assert f"{values[1]} ★" in wall and f"{values[0]} ✕" in wall and f"{values[2]} ★" not in wall


@pytest.mark.usefixtures("no_plots")
def test_identical_settings_and_aliases_are_told(home: Path) -> None:
    run = known_run({"strength": [0.36, 0.37], "weight": [0.0, 1.0]}, lambda s: (f"{s['weight']} {s['seed']}", 50.0))
    read = Reader(report_html(run))
    assert "identical: strength 0.36 = 0.37" in read.sections["ranking"]
    assert "strength 0.36 and 0.37 gave pixel-identical pictures" in read.sections["notes"]
    assert "same work" not in read.sections["notes"]
    for number, record in enumerate(run.records()):
        rewrite(run, number, key=f"{record['settings']['weight']} {record['settings']['seed']}")
    assert "Strength 0.36 and 0.37 ask for the same work" in Reader(report_html(run)).sections["notes"]


@pytest.mark.usefixtures("no_plots")
def test_votes_are_told_with_their_intervals(home: Path) -> None:
    run = known()
    assert "There are no votes yet" in Reader(report_html(run)).sections["votes"]
    rewrite(run, 17, scores={"flags": ["noisy"]})
    votes.record(run, Pair(0, 2), "b")
    votes.record(run, Pair(17, 0), "b")
    votes.record(run, Pair(0, 1), "tie")
    said = " ".join(Reader(report_html(run)).sections["votes"].split())
    assert "all votes 2 1 50% 9% to 91% 1" in said and "noisy: fired on one of the two 1 0 0% 0% to 79% 0" in said


@pytest.mark.usefixtures("no_plots")
def test_notes_caveats_licences_and_versions(home: Path) -> None:
    run = known({"weight": [0.0]})
    rewrite(run, 0, scores={"not_measured": {"lpips": "no AlexNet"}, "versions": {"sharpness": "blur-1"}})
    run.append("batch", {"size": {"base": 1, "refine": 4}})
    read = Reader(report_html(run))
    assert "not measured, lpips: no AlexNet" in read.sections["notes"]
    assert "refine ran with 4 pictures" in read.sections["notes"] and "base ran" not in read.sections["notes"]
    assert "no judge of beauty" in read.sections["notes"] and "seeds that it has not seen" in read.sections["notes"]
    assert "CodeFormer: S-Lab License 1.0, non-commercial" in read.sections["made"]
    assert "sharpness blur-1" in read.sections["made"] and "diffusers" in read.sections["made"]


@pytest.mark.usefixtures("no_plots")
def test_the_file_stays_small(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = painted(known({"weight": [0.0, 0.5, 1.0]}), 200)
    sizes = {}
    for room in (2_000_000, 17_000, 6_000, 100):
        monkeypatch.setattr(page_wall, "ROOM", room)
        wall = [i for i in Reader(report_html(run)).all("img") if i.get("class") in ("whole", "face")]
        sizes[room] = {int(image["width"]) for image in wall}
        assert sum(len(image["src"]) for image in wall) < 1.3 * room or not wall
    assert sizes[2_000_000] == {160} and max(sizes[17_000]) < 160 and sizes[100] == set()
    assert "too many pictures" in report_html(run)


@pytest.mark.usefixtures("no_plots")
def test_writing_it(home: Path, tmp_path: Path) -> None:
    run = painted(known({"weight": [0.0, 1.0]}))
    assert (
        write_report(run.id) == run.path / "report.html" and write_report("latest", tmp_path / "a" / "b.html").exists()
    )
    (run.path / "report.html").write_text("old")
    rewrite(run, 0, scores={"versions": {"sharpness": "blur-0"}})
    rewrite(run, 1, scores={"versions": {"sharpness": MEASURES["sharpness"].version}})
    with pytest.raises(MixedScores):
        write_report(run)
    assert (run.path / "report.html").read_text() == "old"
    with pytest.raises(RunNotFound):
        write_report("nothing")


@pytest.mark.usefixtures("no_plots")
def test_the_command(home: Path, tmp_path: Path) -> None:
    run = painted(known({"weight": [0.0, 1.0]}))
    done = CliRunner().invoke(app, ["report", "latest", "--json"])
    about = json.loads(done.stdout)
    path = run.path / "report.html"
    assert about == {"run": run.id, "report": str(path), "bytes": path.stat().st_size}
    done = CliRunner().invoke(app, ["report", run.id, "-o", str(tmp_path / "mine.html")])
    assert (
        done.exit_code == 0 and "mine.html" in done.stdout and (tmp_path / "mine.html").read_text().startswith("<!doc")
    )


def test_next_to_nothing_has_no_minus() -> None:
    assert [page_parts.number_words(value, sign=True) for value in (-0.04, 0.04, -0.06)] == ["+0.0", "+0.0", "-0.1"]
