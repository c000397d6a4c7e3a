"""The promotion notebook as a person uses it: a challenge, its verdict, promote, roll back."""

import re
from typing import Any

from playwright.sync_api import expect

from browser.conftest import SLOW, Lab, accessibility, open_and_run, output, shot
from workbench.presets import Preset, load_preset
from workbench.settings import Settings


def test_promote_and_roll_back(lab: Lab, page: Any) -> None:
    folder = lab.home / "presets"
    embedded: Settings = load_preset("embedded").settings
    # 1.0 against 0.6 is 1.3 points, which four pairs do not prove; against 0.2 it is more than 4
    Preset("mine", embedded.replace(weight=0.2)).save(folder / "mine.json")
    prompt = "portrait photo of Grace Hopper"
    name = lab.copy(
        "04_promote.ipynb", champion="mine", challenger="weight=1.0", prompt=prompt, seeds=4, promote_as="mine"
    )
    open_and_run(page, lab, name)
    panel = output(page, ".wb-promotion")
    promote = panel.get_by_role("button", name="Promote", exact=True)
    back = panel.get_by_role("button", name="Roll back", exact=True)
    status = panel.get_by_role("status")
    expect(promote).to_be_enabled(timeout=2 * SLOW)  # which says that the verdict is better
    expect(back).to_be_disabled()
    expect(panel).to_contain_text("CodeFormer weight: 0.2 → 1")
    said = output(page, ".wb-shown")
    expect(said.first.get_by_role("columnheader").nth(1)).to_contain_text("champion: preset mine")
    expect(output(page, ".wb-chip")).to_have_text("Better")
    expect(output(page, "svg.wb-chart")).to_have_attribute("aria-label", re.compile("4 pairs: "))
    challenger = output(page).get_by_label("Challenger", exact=True)
    expect(challenger.locator("option:checked")).to_have_text("weight=1.0")
    output(page, ".wb-chip").scroll_into_view_if_needed()
    shot(page, "promote-0-verdict")
    assert accessibility(page, ".wb-shown") == []
    panel.scroll_into_view_if_needed()
    shot(page, "promote-1-before")
    panel.get_by_label("Note").fill("from the browser")
    promote.click()
    expect(status).to_contain_text("mine is the champion with weight 1 now", timeout=SLOW)
    expect(back).to_be_enabled()
    expect(panel).to_contain_text("CodeFormer weight: 1 → 0.2")  # what rolling back would do
    promoted = load_preset(folder / "mine.json")
    assert promoted.settings.weight == 1.0 and promoted.evidence["note"] == "from the browser"
    assert promoted.evidence["verdict"]["decision"] == "better"
    shot(page, "promote-2-promoted")
    back.click()
    expect(status).to_contain_text("mine is what it was before", timeout=SLOW)
    assert load_preset(folder / "mine.json").settings.weight == 0.2
    # something that nobody foresaw is said, not swallowed
    (folder / "mine.json").unlink()
    (folder / "history" / next((folder / "history").glob("mine-*.json")).name).write_text("{")
    back.click()
    expect(status).to_contain_text("is not a preset file", timeout=SLOW)
    shot(page, "promote-3-said")
    assert accessibility(page, ".wb-promotion") == [] and page.errors == []
