"""The server's page as a person uses it, in a real browser, behind a token that the browser itself asks for."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from PIL import Image
from playwright.sync_api import expect
from support.servers import free_port

from browser.conftest import accessibility, shot
from workbench.files.pictures import CHUNK
from workbench.presets import Preset
from workbench.serve import Access, InForce, create_app
from workbench.settings import Settings

TOKEN = "a token of this test"
WORDS = "Better: weight=0.6 is sharper than embedded by 3.1 points"
NO_STORAGE = "Object.defineProperty(window, 'indexedDB', {get() { throw new DOMException('no', 'SecurityError') }})"
OPEN_ALL = "document.querySelectorAll('details').forEach((each) => (each.open = true))"


@dataclass(frozen=True)
class Serving:
    url: str
    app: Any

    def left(self) -> int:
        return self.app.state.service.queue.counts["left"]


@pytest.fixture(scope="module")
def serving(tiny: Settings) -> Iterator[Serving]:
    evidence = {
        "verdict": {"words": WORDS},
        "mean": 61.402,
        "n": 24,
        "guards": {"halo": 1},
        "keys": {"base": "another"},
    }
    allow = ("prompt", "negative_prompt", "seed", "steps", "hires", "sampler")
    licences = ["CodeFormer: S-Lab License 1.0, non-commercial use only"]
    preset = Preset("production", tiny, "The winner.", evidence, {}, licences, allow=allow)
    app = create_app(InForce((), given=[preset, Preset("plain", tiny)]), access=Access(TOKEN), warm=True)
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield Serving(f"http://127.0.0.1:{port}", app)
    server.should_exit = True
    thread.join(20)


@dataclass(frozen=True)
class Visit:
    """A page that a browser has open, which collects what goes wrong and what leaves the machine."""

    page: Any
    wrong: list[str]

    def by_keys(self, name: str) -> Any:
        """Tab on until the element with this id has the focus, which has to be seen."""
        for _ in range(40):
            self.page.keyboard.press("Tab")
            if self.page.evaluate("document.activeElement.id") == name:
                assert self.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
                return self.page.locator(f"#{name}")
        raise AssertionError(f"no key leads to {name}")

    def place(self) -> Any:
        return self.page.evaluate("['history', 'preset', 'news'].map((id) => document.getElementById(id).offsetTop)")


@pytest.fixture
def visit(browser: Any, serving: Serving) -> Iterator[Visit]:
    context = browser.new_context(
        viewport={"width": 1280, "height": 720}, http_credentials={"username": "", "password": TOKEN}
    )
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if "Content Security" in message.text else None)
    context.on("request", lambda r: None if r.url.startswith((serving.url, "data:", "blob:")) else wrong.append(r.url))
    yield Visit(page, wrong)
    context.close()
    assert wrong == []


def test_making_pictures(visit: Visit, serving: Serving, tmp_path: Path) -> None:
    page = visit.page
    status, problem = page.get_by_role("status"), page.get_by_role("alert")
    page.goto(serving.url)
    # the preset in force
    words = page.locator("#preset-words")
    expect(words).to_contain_text(WORDS)
    expect(words).to_contain_text("Not for commercial use")
    expect(words).to_contain_text("no longer gives exactly its winner's pixels")
    expect(words).to_contain_text("61.4 on average over 24 pictures")
    expect(words).not_to_contain_text("{")
    expect(page.get_by_role("button", name="Generate")).to_be_enabled()
    # a blank prompt is said, where it is typed
    prompt = page.get_by_label("Prompt", exact=True)
    prompt.fill("  ")
    prompt.press("Control+Enter")
    expect(problem).to_contain_text("prompt is blank")
    expect(prompt).to_be_focused()
    # so is what the server refuses
    prompt.fill("<lora:../x:1> a face")
    prompt.press("Control+Enter")
    expect(problem).to_contain_text("not open to requests")
    # a picture, with nothing moving when it comes, by keys alone
    before = visit.place()
    page.evaluate(
        "new MutationObserver(() => (window.told ??= []).push(document.getElementById('news').innerText))"
        ".observe(document.getElementById('news'), {subtree: true, childList: true})"
    )
    prompt.fill("a face, smiling")
    prompt.press("Control+Enter")
    expect(status).to_have_text("Done.", timeout=60_000)
    told = " ".join(page.evaluate("window.told"))
    assert "Base: 1 of 4" in told and "left" in told and visit.place() == before
    assert problem.text_content() == ""
    picture = page.get_by_role("img", name="Picture of: a face, smiling")
    expect(picture).to_be_visible()
    assert picture.evaluate("(image) => image.naturalWidth") == 128
    expect(page.locator("#caption")).to_contain_text("Seed 42")
    visit.by_keys("download")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename == "production-42.png"
    download.value.save_as(tmp_path / "a.png")
    assert "a face, smiling" in Image.open(tmp_path / "a.png").text[CHUNK]  # type: ignore[attr-defined]
    shot(page, "server-1-made")


def test_waiting_and_cancelling(visit: Visit, serving: Serving) -> None:
    page = visit.page
    status, generate = page.get_by_role("status"), page.get_by_role("button", name="Generate")
    page.goto(serving.url)
    page.get_by_text("More settings").click()
    page.get_by_label("Base steps").fill("150")
    page.get_by_label("Pictures").select_option("4")  # or it is over before it is cancelled
    left = serving.left()
    page.evaluate(
        "window.other = new AbortController();"
        "void fetch('/generate?prompt=a&steps=150&n=4', {method: 'POST', signal: other.signal}).catch(() => 0)"
    )
    page.wait_for_timeout(100)
    generate.click()
    expect(status).to_have_text("One picture is before yours.")
    page.evaluate("window.other.abort()")
    expect(page.locator("#steps")).to_contain_text("of 150")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("alert")).to_contain_text("Esc stops it")
    page.get_by_role("spinbutton", name="Seed").focus()
    page.keyboard.press("Escape")
    expect(status).to_have_text("Cancelled.")
    _until(lambda: serving.left() == left + 2)
    generate.click()
    expect(page.locator("#steps")).to_contain_text("of 150")
    cancel = page.get_by_role("button", name="Cancel")
    cancel.click()
    expect(status).to_have_text("Cancelled.")
    expect(generate).to_be_focused()
    expect(cancel).to_be_disabled()
    _until(lambda: serving.left() == left + 3)


def test_refusals_and_a_server_that_is_gone_are_said_in_words(
    visit: Visit, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = visit.page
    problem, generate = page.get_by_role("alert"), page.get_by_role("button", name="Generate")
    page.goto(serving.url)
    with monkeypatch.context() as patch:
        patch.setattr(serving.app.state.service.queue, "limit", 0)
        generate.click()
        expect(problem).to_contain_text("pictures wait already; ask again in")
    page.context.set_offline(True)
    generate.click()
    expect(problem).to_contain_text("does not answer")
    page.context.set_offline(False)
    generate.click()
    expect(page.get_by_role("status")).to_have_text("Done.", timeout=60_000)
    expect(problem).to_be_empty()


def _until(true: Any) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_this_browser_remembers(visit: Visit, serving: Serving) -> None:
    page = visit.page
    page.goto(serving.url)
    page.get_by_label("Pictures").select_option("2")
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("status")).to_have_text("Done: 2 pictures.", timeout=60_000)
    page.reload()
    remembered = page.get_by_role("button", name="Show seed")
    expect(remembered).to_have_count(2)
    remembered.last.press("Enter")
    expect(page.locator("#caption")).to_contain_text("Seed 42")
    remembered.first.press("Enter")
    expect(page.locator("#caption")).to_contain_text("Seed 43")
    expect(remembered.first).to_be_focused()
    page.get_by_role("button", name="Use these settings").click()
    expect(page.get_by_role("spinbutton", name="Seed")).to_have_value("43")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete all").click()
    expect(remembered).to_have_count(0)
    page.reload()
    expect(page.get_by_text("The picture appears here.")).to_be_visible()
    expect(remembered).to_have_count(0)
    # another preset opens other settings
    page.get_by_label("Preset", exact=True).select_option("plain")
    expect(page.get_by_text("More settings")).to_be_hidden()
    expect(page.locator("#preset-words")).to_contain_text("nobody has measured")


def test_it_is_accessible_and_fits(visit: Visit, serving: Serving) -> None:
    page = visit.page
    page.add_init_script(NO_STORAGE)
    page.goto(serving.url)
    expect(page.locator("#history-note")).to_contain_text("keeps nothing for this page")
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("status")).to_have_text("Done.", timeout=60_000)
    expect(page.get_by_role("button", name="Show seed")).to_have_count(1)
    page.evaluate(OPEN_ALL)
    assert accessibility(page, "html") == []
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert accessibility(page, "html") == []
    shot(page, "server-2-phone")


def test_the_addresses_are_described_without_internet(visit: Visit, serving: Serving) -> None:
    page = visit.page
    page.goto(f"{serving.url}/docs")
    page.get_by_text("Make pictures: by query").click()
    expect(page.get_by_text("What guidance moves away from").first).to_be_visible()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_placeholder("prompt", exact=True).fill("a face")
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table .response-col_status").last).to_have_text("200", timeout=60_000)
    assert "Could not render" not in page.locator("main").inner_text()
