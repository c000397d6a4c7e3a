from __future__ import annotations

import pytest

from workbench.errors import UsageError
from workbench.machine import CARDS, card_named, same_card


@pytest.mark.parametrize(
    ("name", "card"),
    [
        ("RTX 3090 Ti", "RTX 3090 Ti"),
        ("rtx3090ti", "RTX 3090 Ti"),
        ("NVIDIA GeForce RTX 3090 Ti", "RTX 3090 Ti"),
        ("3090", "RTX 3090"),
        ("NVIDIA A100-SXM4-80GB", "A100 80GB"),
        ("NVIDIA A100-PCIE-40GB", "A100 40GB"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("Tesla T4", "T4"),
        ("Tesla V100-SXM2-32GB", "V100"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"),
    ],
)
def test_a_card_is_known_however_it_is_written(name: str, card: str) -> None:
    assert card_named(name) is CARDS[card]
    assert same_card(f"{name} float16", CARDS[card])


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
