"""The two buttons, with handlers as plain functions and the worker waited for."""

import threading
import time
from pathlib import Path

import pytest
from support.runs import duel, scored

from workbench.errors import UsageError
from workbench.notebook.widgets import Challengers, Promotion, show_chart, show_verdict
from workbench.notebook.widgets.showing import challenger_options
from workbench.presets import Preset, load_preset, presets_folder
from workbench.promotion.judging import verdict
from workbench.settings import Settings

BETTER = [(50, 52), (40, 43), (60, 64), (50, 53), (50, 53.5), (41, 43.5), (50, 52), (40, 43)]


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in JupyterLab."""
    monkeypatch.setenv("WORKBENCH_WIDGETS", "on")


def present() -> Path:
    path = presets_folder() / "production.json"
    Preset("production", Settings(model="embedded", prompt="p", seed=7, strength=0.2, weight=0.0)).save(path)
    return path


def test_promote_and_roll_back_by_their_buttons(home: Path, looked_at: None) -> None:
    present()
    panel = Promotion(verdict(duel(BETTER)))
    panel._work.settle()
    assert panel.promotion_lines() == ["Strength: 0.2 → 0.4", "CodeFormer weight: 0 → 1"]
    assert "Strength: 0.2 → 0.4" in panel._changes.value and "was not replaced yet" in panel._changes.value
    assert not panel._promote.disabled and panel._roll_back.disabled
    panel._note.value = "why"
    panel._promote.click()
    panel._work.settle()
    assert load_preset("production").settings.weight == 1.0 and load_preset("production").evidence["note"] == "why"
    assert "production is the challenger now" in panel.said and panel.said in panel._status.value
    assert panel.promotion_lines() == ["'production' has these settings already; its evidence would be replaced."]
    assert (
        panel.roll_back_lines()[-2:] == ["Strength: 0.4 → 0.2", "CodeFormer weight: 1 → 0"]
        and not panel._roll_back.disabled
    )
    panel._roll_back.click()
    panel._work.settle()
    assert load_preset("production").settings.weight == 0.0 and "what it was before" in panel.said


def test_a_click_returns_at_once(home: Path, looked_at: None, monkeypatch: pytest.MonkeyPatch) -> None:
    panel = Promotion(verdict(duel(BETTER)))
    panel._work.settle()
    threads = []
    monkeypatch.setattr(panel, "promote", lambda note: (threads.append(threading.current_thread()), time.sleep(0.5)))
    started = time.perf_counter()
    panel._promote.click()
    assert time.perf_counter() - started < 0.05
    assert panel._promote.disabled  # a second click would promote twice
    panel._work.settle()
    assert threads[0] is not threading.main_thread() and not panel._promote.disabled


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UsageError("the moon is full; wait."), "The moon is full; wait."),
        (ZeroDivisionError("oops"), "Something went wrong that should not (ZeroDivisionError: oops)"),
    ],
)
def test_what_a_handler_raises_is_said(
    home: Path, looked_at: None, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    panel = Promotion(verdict(duel(BETTER)))
    panel._work.settle()

    def fail(note: str) -> None:
        raise error

    monkeypatch.setattr(panel, "promote", fail)
    panel._promote.click()
    panel._work.settle()
    assert said in panel._status.value and not panel._promote.disabled


def test_a_verdict_that_is_not_better_promotes_nothing(home: Path, looked_at: None) -> None:
    panel = Promotion(verdict(duel(BETTER, flags={n: ["noisy"] for n in range(1, 16, 2)})))
    panel._work.settle()
    assert panel._promote.disabled and panel.promotion_lines()[0].startswith("Nothing is promoted: ")
    assert panel.promote() is None and "Flagged" in panel.said
    assert panel.roll_back() is None and "nothing to roll back to" in panel.said.lower()
    assert not (presets_folder() / "production.json").exists()


def test_what_is_shown_of_odd_presets(home: Path) -> None:
    panel = Promotion(verdict(duel(BETTER)))
    assert panel.promotion_lines() == ["'production' would be a new preset:", "Strength 0.4", "CodeFormer weight 1"]
    path = present()
    path.write_text("{")
    assert panel.promote() is None and "whom it has to beat cannot be read" in panel.said
    path.unlink()
    assert panel.promote()
    (path.parent / "history").mkdir()
    (path.parent / "history" / "production-20200101T000000.000000.json").write_text("{")
    assert "not a preset file" in panel.roll_back_lines()[0]
    with pytest.raises(UsageError, match="cannot be a preset's name"):
        Promotion(verdict(duel(BETTER)), "../evil")


def test_a_verdict_is_a_chip_and_three_rows(home: Path, looked_at: None, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr("workbench.notebook.widgets.showing.display", lambda what: shown.append(what.data))
    found = verdict(duel(BETTER))
    show_verdict(found)
    show_chart(found.chart())
    assert '<span class="wb-chip" data-kind="better">Better</span>' in shown[0]
    assert [*found.rows] == ["Sharpness", "Guards", "Also"] and found.rows["Guards"] == "No guard fired."
    assert all(said in found.words or said[1:-1] in found.words for said in found.rows.values())
    assert 'role="img"' in shown[1] and "8 pairs: 8 won, 0 lost" in shown[1]
    monkeypatch.setenv("WORKBENCH_WIDGETS", "off")
    monkeypatch.setattr("workbench.notebook.widgets.showing.display", lambda what: shown.append(what.alt))
    show_chart(found.chart())
    assert shown[2] == found.chart().alt


def test_who_could_be_the_challenger_is_listed(home: Path, looked_at: None, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[object] = []
    monkeypatch.setattr("workbench.notebook.widgets.showing.display", shown.append)
    run = scored()
    chosen = Challengers("weight=1.0")
    assert chosen.value == "weight=1.0" and run.id in [value for _, value in challenger_options()]
    chosen._list.value = run.id
    assert chosen.value == run.id and "All Below" in chosen._said.value
    monkeypatch.setenv("WORKBENCH_WIDGETS", "off")
    assert Challengers("latest").value == "latest" and len(shown) == 1


def test_headless_it_is_words(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_WIDGETS", "off")
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda what: shown.append(what.data))
    panel = Promotion(verdict(duel(BETTER)))
    assert panel.widget is None
    panel.promote()
    panel._ipython_display_()
    (text,) = shown
    assert "production is the challenger now" in text and "its evidence would be replaced" in text
