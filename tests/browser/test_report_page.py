"""The report in a real browser: accessible and legible in light, in dark and on a phone, without a script."""

from pathlib import Path
from typing import Any

import pytest
from support.runs import broken, known, painted

from browser.conftest import accessibility
from workbench.analysis import votes
from workbench.report.page import write_report


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report that only is looked at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_HOME", str(tmp_path_factory.mktemp("report")))
        run = painted(broken(known()))
        votes.record(run, votes.Pair(1, 2), "a")
        return write_report(run)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_it_is_accessible_and_fits(browser: Any, report: Path, width: int, scheme: Any) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    try:
        page, asked = context.new_page(), []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(report.as_uri())
        assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
        assert page.evaluate("document.documentElement.scrollWidth") <= width  # wide things scroll on their own
        assert page.locator("header .headline").inner_text().startswith("Winner: Strength ")
        box = page.locator("header .headline").bounding_box()
        assert box is not None and box["y"] < 120 and box["width"] <= width  # what one came for stands first
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert accessibility(page, "html") == []
    finally:
        context.close()


def test_faces_are_enlarged_without_a_script(browser: Any, home: Path) -> None:
    path = write_report(painted(known({"weight": [0.0, 1.0]})))
    context = browser.new_context(java_script_enabled=False)
    try:
        page = context.new_page()
        page.goto(path.as_uri())
        whole, face = page.locator(".wall img.whole").first, page.locator(".wall img.face").first
        assert whole.is_visible() and not face.is_visible()
        page.get_by_label("whole pictures").focus()
        page.keyboard.press("ArrowRight")
        assert face.is_visible() and not whole.is_visible()
    finally:
        context.close()
