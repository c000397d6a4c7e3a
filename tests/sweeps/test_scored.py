"""Equal pictures have one measurement, and each cell the scores that it would have had alone."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image

from workbench import scores
from workbench.files import open_picture, pixels_sha256
from workbench.recipe import Bench
from workbench.sweeps import scored
from workbench.sweeps.scored import ScoredOnce
from workbench.sweeps.session import sweep

RED, BLUE = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The pictures that were really scored; their scores say which they were."""
    found: list[tuple[str, str]] = []

    def score(*pictures: Image.Image) -> tuple[str, dict[str, Any]]:
        found.append((pixels_sha256(pictures[0]), pixels_sha256(pictures[1])))
        return "ok", {"of": found[-1]}

    monkeypatch.setattr(scores, "cell_scores", score)
    return found


def test_a_sweep_measures_equal_pictures_once(spec: dict, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = scores.cell_scores, []

    def score(*pictures: Image.Image) -> tuple[str, dict[str, Any]]:
        asked.append(pixels_sha256(pictures[0]))
        return real(*pictures)

    monkeypatch.setattr(scores, "cell_scores", score)
    run = sweep(spec, on=bench, quiet=True)
    shown = Counter(record["pixels_sha256"] for record in run.records())
    assert set(shown.values()) == {3}  # no face: all weights look the same
    assert Counter(asked) == dict.fromkeys(shown, 1)
    for record in run.records()[::5]:
        picture = open_picture(run.picture(record))
        assert (record["status"], record["scores"]) == real(picture, picture)


def test_the_reference_counts_too(asked: list[tuple[str, str]]) -> None:
    once = ScoredOnce()
    pairs = [(RED, RED), (RED, BLUE), (BLUE, BLUE), (RED.copy(), RED.copy()), (RED, BLUE.copy())]
    found = [once.of(*pair, pair[0]) for pair in pairs]
    assert [now for _, _, now in found] == [True, True, True, False, False] and len(asked) == 3
    assert found[3][:2] == found[0][:2] and found[4][:2] == found[1][:2] != found[0][:2]


def test_the_first_picture_counts_too(asked: list[tuple[str, str]]) -> None:
    once = ScoredOnce()
    assert [once.of(RED, RED, first)[2] for first in (RED, BLUE, BLUE.copy())] == [True, True, False] and len(
        asked
    ) == 2


def test_threads_wait_for_who_scores_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    both, calls = threading.Barrier(2, timeout=20), []

    def score(image: Image.Image, *_: Image.Image) -> tuple[str, dict[str, Any]]:
        calls.append(image)
        both.wait()  # red and blue are scored side by side
        return "ok", {}

    monkeypatch.setattr(scores, "cell_scores", score)
    once = ScoredOnce()
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda picture: once.of(picture, picture, picture)[2], [RED, RED, RED, BLUE, BLUE, BLUE]))
    assert len(calls) == 2 and Counter(found) == {True: 2, False: 4} and once._locks == {}


def test_a_failure_is_not_remembered(asked: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    once = ScoredOnce()
    with monkeypatch.context() as broken:
        broken.setattr(scores, "cell_scores", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            once.of(RED, RED, RED)
    assert once.of(RED, RED, RED)[2] and not once.of(RED, RED, RED)[2] and len(asked) == 1


def test_not_everything_is_kept(asked: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scored, "KEPT", 2)
    once = ScoredOnce()
    for shade in (1, 2, 3, 3, 1):
        picture = Image.new("RGB", (8, 8), (shade, 0, 0))
        once.of(picture, picture, picture)
    assert len(asked) == 4 and len(once._known) == 2
