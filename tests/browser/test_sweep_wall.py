"""The sweep notebook as a person uses it: start, watch, stop, reload, restart, look at the wall, promote, vote."""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from browser.conftest import SLOW, Lab, accessibility, open_and_run, output, restart_kernel, shot
from workbench.analysis import favourites, votes
from workbench.files import open_picture, read_settings
from workbench.recipe import Bench
from workbench.runs.run import Run
from workbench.settings import Settings
from workbench.store import Store
from workbench.sweeps import attach, sweep

SPEC = """
name = "{name}"
preset = "embedded"
prompts = ["portrait photo of Grace Hopper, sharp focus"]
seeds = [{seed}]
[axes]
strength = {strengths}
weight = [0.2, 1.0]
"""
expect.set_options(timeout=SLOW)  # a busy machine may take seconds for anything
GONE = "The kernel was restarted: run this cell again; everything made so far is on disk."
MADE = ".wb-wall .wb-value:not(:empty)"  # cells with a picture, seen or not


TOLD = """
window.told = [];
window.Notification = class {
  static permission = "granted";
  static requestPermission() { return Promise.resolve("granted"); }
  constructor(_, { body }) { window.told.push(body); }
};
"""  # what the browser would have shown


def dark(page: Any) -> None:
    page.evaluate("() => window.jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' })")
    page.wait_for_function("document.body.dataset.jpThemeLight === 'false'")


def write_spec(lab: Lab, name: str, seed: int, strengths: list[float]) -> Path:
    path = lab.root / f"{name}.toml"
    path.write_text(SPEC.format(name=name, seed=seed, strengths=strengths))
    return path


@pytest.fixture(scope="module")
def swept(lab: Lab) -> Run:
    """A finished run of six pictures in the kernels' home."""
    path = write_spec(lab, "wall", 1, [0.25, 0.3, 0.35])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_HOME", str(lab.home))
        return sweep(path, on=Bench(Store.at_home()), quiet=True)


def state(page: Any, text: str) -> None:
    expect(output(page, ".wb-state")).to_have_text(text)


def button(page: Any, name: str) -> Any:
    return output(page).get_by_role("button", name=name, exact=True)


def test_a_sweep_is_started_watched_stopped_and_found_again(lab: Lab, page: Any) -> None:
    spec = write_spec(lab, "live", 3, [0.3, 0.4, 0.5, 0.6])
    name = lab.copy("02_sweep.ipynb", spec=str(spec), upscaler="none")
    page.set_viewport_size({"width": 1280, "height": 720})
    page.add_init_script(TOLD)
    open_and_run(page, lab, name)
    state(page, "not started")
    expect(output(page, ".wb-panel")).to_contain_text("8 pictures (1 base, 4 refine, 8 faces)")
    button(page, "Start").click()
    expect(output(page, ".wb-wall")).to_be_visible(timeout=SLOW)
    state(page, "running")
    button(page, "Tell me").click()
    expect(button(page, "Tell me")).to_have_attribute("aria-pressed", "true")
    output(page, ".wb-wall").scroll_into_view_if_needed()
    expect(output(page, ".wb-wall .wb-tile img").first).to_be_visible(timeout=SLOW)
    state(page, "running")
    title = output(page, ".wb-panel h3").text_content()
    expect(output(page, ".wb-word").first).to_have_text("not run yet")
    shot(page, "sweep_running")
    button(page, "Stop").click()
    state(page, "stopped")
    expect(output(page, ".wb-panel .wb-status")).to_contain_text("what was finished is kept")
    assert page.title().startswith("● stopped: ") and page.evaluate("told") == [f"{title}: stopped"]
    made = output(page, MADE).count()
    assert 1 <= made < 8
    assert accessibility(page, ".wb-panel") == []

    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_timeout(1000)
    page.goto(lab.notebook_url(name, reset=False))  # reloaded: nothing is run again
    state(page, "stopped")
    expect(output(page, MADE)).to_have_count(made)
    output(page, ".wb-wall").scroll_into_view_if_needed()  # pictures that nobody sees are not asked for
    expect(output(page, ".wb-wall .wb-tile img").first).to_be_visible(timeout=SLOW)

    button(page, "Go on").click()
    state(page, "running")
    restart_kernel(page)
    expect(output(page, ".wb-panel [role=alert]")).to_have_text(GONE)
    expect(output(page, ".wb-wall [role=alert]")).to_have_text(GONE)
    assert output(page, ".wb-panel button:enabled, .wb-wall button:enabled, .wb-wall select:enabled").count() == 0
    shot(page, "sweep_kernel_restarted")
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    state(page, "finished")  # it went on meanwhile
    expect(output(page, MADE)).to_have_count(8)
    came_out(page)
    assert page.errors == []


def came_out(page: Any) -> None:
    """What came out stands below the wall without another press: headline, charts whose dots open their cell, ranking,
    winner."""
    expect(output(page, ".wb-headline")).to_contain_text("Winner: Strength ")
    outcome = output(page, ".wb-outcome")
    expect(outcome.get_by_role("table")).to_contain_text("CodeFormer weight 1")
    expect(outcome.locator("svg.wb-chart")).to_have_count(5)
    outcome.scroll_into_view_if_needed()
    shot(page, "sweep_outcome_light")
    assert accessibility(page, ".wb-outcome") == [] and accessibility(page, ".wb-panel") == []
    first = outcome.locator("svg [data-cell][tabindex='0']").first
    first.focus()
    stood = page.evaluate("document.activeElement.dataset.cell")
    page.keyboard.press("ArrowDown")
    cell = page.evaluate("document.activeElement.dataset.cell")
    assert cell is not None and cell != stood
    page.keyboard.press("Enter")  # the large view has the focus, and Escape leaves it
    detail = output(page, ".wb-wall .wb-detail")
    expect(detail).to_contain_text(f"cell {cell}")
    expect(detail.locator(":focus")).to_have_count(1)
    shot(page, "sweep_dot_opened")
    page.keyboard.press("Escape")
    expect(detail).to_be_hidden()
    button(page, "Make the finished picture").click()
    made = output(page).get_by_alt_text("The winner's finished picture")
    expect(made).to_be_visible()
    made.scroll_into_view_if_needed()
    shot(page, "sweep_winner")
    button(page, "Finer around the winner …").click()
    proposal = output(page).get_by_role("group", name="Finer sweep")
    expect(proposal).to_contain_text("around Strength ")
    shot(page, "sweep_finer")
    page.keyboard.press("Escape")
    expect(proposal).to_be_hidden()
    expect(button(page, "Finer around the winner …")).to_be_focused()
    dark(page)
    output(page, ".wb-outcome").scroll_into_view_if_needed()
    shot(page, "sweep_outcome_dark")
    assert accessibility(page, ".wb-outcome") == [] and accessibility(page, ".wb-panel") == []


def test_the_wall_by_mouse_and_by_keys(lab: Lab, page: Any, swept: Run) -> None:
    page.set_viewport_size({"width": 1280, "height": 720})
    open_and_run(
        page,
        lab,
        lab.write("wall.ipynb", f"from workbench.notebook.widgets import Wall\nwall = Wall({swept.id!r})\nwall"),
    )
    wall = output(page, ".wb-wall")
    expect(wall.locator(".wb-tile img").first).to_be_visible(timeout=SLOW)
    table = wall.get_by_role("grid")

    def first() -> str:
        return wall.locator(".wb-cell").first.get_attribute("data-cell") or ""

    # other rows
    wall.locator("[data-control=strength]").select_option("rows")
    expect(table.get_by_role("rowheader")).to_have_count(3)

    # pin a column, then a row: they move to the front, and back
    head = table.locator(".wb-head", has_text="weight 1")
    head.click()
    expect(head).to_have_attribute("aria-pressed", "true")
    assert first() == "1"
    row = table.locator(".wb-head", has_text="Strength 0.35")
    row.press("Enter")
    expect(row).to_have_attribute("aria-pressed", "true")
    assert first() == "5"
    shot(page, "wall_pinned")
    row.press("Enter")
    head.press("Enter")
    expect(head).to_have_attribute("aria-pressed", "false")
    assert first() == "0"

    # pages
    wall.locator("[data-control=weight]").select_option("pages")
    expect(table.get_by_role("columnheader")).to_have_count(1)
    wall.get_by_role("button", name="next page").click()
    expect(wall.locator(".wb-cell").first).to_have_attribute("data-cell", "1")
    wall.locator("[data-control=weight]").select_option("columns")
    expect(table.get_by_role("columnheader")).to_have_count(2)

    # every picture is cut to its face at once
    before = wall.locator(".wb-tile img").evaluate_all("images => images.map(image => image.src)")
    wall.get_by_label("zoom on faces").check()
    page.wait_for_function(
        "before => [...document.querySelectorAll('.wb-tile img')].every(image => !before.includes(image.src))",
        arg=before,
    )
    wall.locator("[data-control=colour]").select_option("ssim")
    expect(wall.locator(".wb-value").first).to_have_text(re.compile(r"0\.\d\d\d"))

    # arrows walk, Enter opens, Escape closes; JupyterLab's own keys keep out
    cells = page.locator(".jp-Notebook .jp-Cell").count()
    wall.locator(".wb-cell").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("() => document.activeElement.dataset.cell") == "3"
    page.keyboard.press("b")
    page.keyboard.press("Enter")
    detail = wall.locator(".wb-detail")
    expect(detail.locator("img.wb-large")).to_be_visible()
    expect(detail.get_by_role("heading")).to_contain_text("Strength 0.3 · CodeFormer weight 1 cell 3, sharpness")
    box = detail.locator("img.wb-large").evaluate("i => [i.naturalWidth / i.naturalHeight, i.width / i.height]")
    assert abs(box[0] - box[1]) < 0.02  # not stretched
    shot(page, "wall_large_view")
    assert accessibility(page, ".wb-wall") == []

    # favourites and rejects by keys and buttons; they are kept with the run
    page.keyboard.press("f")
    expect(detail.get_by_role("button", name="★ Favourite")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("x")
    expect(wall.locator(".wb-cell[data-cell='3'] .wb-mark")).to_have_text("✕")
    detail.get_by_role("button", name="★ Favourite").click()
    expect(wall.locator(".wb-cell[data-cell='3'] .wb-mark")).to_have_text("★")
    assert favourites(swept) == {3: "favourite"}

    # looking closer
    look = detail.locator(".wb-look")
    look.focus()
    page.keyboard.press("1")
    expect(detail.locator(".wb-percent")).to_have_text("100 %")
    for _ in range(3):
        page.keyboard.press("+")
    page.wait_for_function("() => document.querySelector('.wb-wall').wbView.zoom > 1.5")
    wide = look.locator("img").evaluate("i => i.clientWidth / i.closest('.wb-look').clientHeight")
    assert wide > 1.5
    shot(page, "wall_closer")
    page.keyboard.press("0")

    # pictures to keep, and on to the tuner
    with page.expect_download() as saved:
        detail.get_by_role("button", name="Save PNG").click()
    assert read_settings(saved.value.path()) == Settings(**swept.records()[3]["settings"])
    wall.get_by_role("button", name="Save the wall").press("Enter")
    with page.expect_download() as saved:
        wall.get_by_role("menuitem", name="This page as PNG").press("Enter")
    assert open_picture(saved.value.path()).width > 2 * 288
    detail.get_by_role("button", name="Open in tuner").click()
    expect(wall.locator(".wb-line pre")).to_have_text(re.compile(r"Tuner\(wall\.selected\)"))
    assert accessibility(page, ".wb-wall") == []
    wall.locator(".wb-cell[data-cell='3']").focus()
    for width in (1280, 1440):  # little of the width stays empty
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(300)
        used = "w => Math.max(...[...w.querySelectorAll('.wb-main > *')].map(e => e.getBoundingClientRect().right))"
        left, right = wall.evaluate("w => [w.getBoundingClientRect().left, w.getBoundingClientRect().right]")
        assert (wall.evaluate(used) - left) / (right - left) > 0.8
    page.keyboard.press("Escape")
    expect(detail).to_be_hidden()
    assert page.evaluate("() => document.activeElement.dataset.cell") == "3"
    assert page.locator(".jp-Notebook .jp-Cell").count() == cells
    assert page.errors == []


def test_a_cell_is_promoted_from_the_wall(lab: Lab, page: Any, swept: Run) -> None:
    open_and_run(
        page,
        lab,
        lab.write("promote.ipynb", f"from workbench.notebook.widgets import Wall\nwall = Wall({swept.id!r})\nwall"),
    )
    wall = output(page, ".wb-wall")
    wall.locator("[data-cell='2']").click()
    form = wall.get_by_role("form", name="Promote this cell")
    form.get_by_label("preset").fill("chosen")
    form.get_by_label("note").fill("calm skin")
    form.get_by_role("button", name="Promote …").click()
    expect(form.locator("pre")).to_contain_text("Strength = 0.3")
    path = lab.home / "presets" / "chosen.json"
    assert not path.exists()  # asked once more
    shot(page, "wall_promote")
    expect(form).to_contain_text("It meets preset embedded first: 32 pictures")
    form.get_by_role("button", name="Run the duel").click()
    expect(wall.locator("p.wb-status")).to_contain_text("The duel with preset embedded runs", timeout=SLOW)
    (duel,) = (folder for folder in (lab.home / "runs").iterdir() if "challenge" in folder.name)
    attach(duel).stop(wait=60)
    expect(wall.locator(".wb-ask")).to_be_focused()
    expect(wall.get_by_role("alert")).to_contain_text("Not promoted: ", timeout=SLOW)
    expect(wall.get_by_role("alert")).to_contain_text("was stopped")
    assert not path.exists()
    form = wall.get_by_role("form", name="Promote this cell")
    form.get_by_label("preset").fill("Not A Name")
    form.get_by_role("button", name="Promote …").click()
    expect(wall.get_by_role("alert")).to_contain_text("cannot be a preset's name")
    assert page.errors == []


def test_votes_by_keys(lab: Lab, page: Any, swept: Run) -> None:
    open_and_run(
        page, lab, lab.write("vote.ipynb", f"from workbench.notebook.widgets import Ballot\nBallot({swept.id!r})")
    )
    ballot = output(page, ".wb-ballot")
    expect(ballot.get_by_alt_text("Face A")).to_be_visible(timeout=SLOW)
    sizes = ballot.locator("img").evaluate_all("images => images.map(image => [image.width, image.height])")
    assert sizes[0] == sizes[1] and sizes[0][0] == sizes[0][1] > 200
    cells = page.locator(".jp-Notebook .jp-Cell").count()
    ballot.get_by_alt_text("Face A").click()
    page.keyboard.press("Tab")  # the keys work from its buttons, too
    page.keyboard.press("+")
    widths = ballot.locator("img").evaluate_all("images => images.map(image => image.style.width)")
    assert widths[0] == widths[1] == "125%"  # both at once
    page.keyboard.press("0")
    for number, key in enumerate("abt", 1):
        page.keyboard.press(key)
        expect(ballot.locator(".wb-count")).to_contain_text(f"{number} vote")
    assert [vote.choice for vote in votes.read(swept)] == ["a", "b", "tie"]
    page.keyboard.press("u")
    expect(ballot.locator(".wb-count")).to_have_text("2 votes")
    assert ballot.get_by_role("table").count() == 0
    ballot.get_by_role("button", name="Show how the score agrees").click()
    expect(ballot.get_by_role("table")).to_contain_text("all")
    assert page.locator(".jp-Notebook .jp-Cell").count() == cells  # A, B: JupyterLab would have inserted some
    shot(page, "ballot")
    assert accessibility(page, ".wb-ballot") == [] and page.errors == []
