from __future__ import annotations

import pytest

from workbench.errors import UsageError
from workbench.machine import CARDS, card_named, same_card


@pytest.mark.parametrize("name", ["RTX 3090 Ti", "rtx3090ti", "NVIDIA GeForce RTX 3090 Ti", "rtx-3090-ti"])
def test_a_card_is_known_however_it_is_written(name: str) -> None:
    assert card_named(name) is CARDS["RTX 3090 Ti"]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("GTX 1080", "RTX 3080, RTX 4080, RTX 5080"),
        ("A100", "A100 40GB, A100 80GB"),
        ("xyz", "RTX 3060, .*H200"),
    ],
)
def test_another_one_gets_the_nearest_names(name: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"'{name}' is no card of the table; the nearest (is|are) .*{near}"):
        card_named(name)


def test_a_device_is_a_card_by_its_whole_name_and_precision() -> None:
    assert same_card("NVIDIA GeForce RTX 3090 Ti float16", CARDS["RTX 3090 Ti"])
    assert not same_card("NVIDIA GeForce RTX 3090 Ti float16", CARDS["RTX 3090"])
    assert not same_card("NVIDIA GeForce RTX 3090 float32", CARDS["RTX 3090"])
