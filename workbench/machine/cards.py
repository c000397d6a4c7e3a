"""A small table of GPUs, for estimates before one is rented: memory, and what SDXL gets out of their matmul rate.

`rate` is the makers' public figure: dense float16 matmuls that accumulate in float32, which torch does unless told
otherwise. `share` is how much of it SDXL in float16 gets with plain diffusers, by public timings of a 1024 px picture: RTX
3090 54 TFLOP/s of 71 (siliconflow/onediff), RTX 4090 114 of 165 (same), A100 126 of 312 (diffusers' docs), H100 201 of 989
(stable-fast), A10 51 of 125 (TensorRT's model card). Of the others it is that of their like. Nothing was measured by us.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from workbench.errors import UsageError

GEFORCE, DATACENTRE, HOPPER = (0.50, 0.80), (0.30, 0.55), (0.18, 0.32)


@dataclass(frozen=True)
class CardModel:
    """Attributes: memory: GiB; rate: TFLOP/s; share: (low, high) of it that SDXL gets."""

    name: str
    memory: int
    rate: float
    share: tuple[float, float]

    @property
    def speed(self) -> tuple[float, float]:
        """(low, high) TFLOP/s of SDXL."""
        return self.rate * self.share[0], self.rate * self.share[1]


CARDS = {
    card.name: card
    for card in (
        CardModel("RTX 3060", 12, 25.6, GEFORCE),
        CardModel("RTX 3080", 10, 59.5, GEFORCE),
        CardModel("RTX 3090", 24, 71.0, GEFORCE),
        CardModel("RTX 3090 Ti", 24, 80.0, GEFORCE),
        CardModel("RTX 4070 Ti SUPER", 16, 88.2, GEFORCE),
        CardModel("RTX 4080", 16, 97.5, GEFORCE),
        CardModel("RTX 4090", 24, 165.2, GEFORCE),
        CardModel("RTX 5080", 16, 112.6, GEFORCE),
        CardModel("RTX 5090", 32, 209.5, GEFORCE),
        CardModel("RTX A5000", 24, 111.1, DATACENTRE),
        CardModel("RTX A6000", 48, 154.8, DATACENTRE),
        CardModel("RTX 6000 Ada", 48, 364.2, DATACENTRE),
        CardModel("T4", 16, 65.0, DATACENTRE),
        CardModel("V100", 32, 125.0, DATACENTRE),
        CardModel("A10", 24, 125.0, DATACENTRE),
        CardModel("L4", 24, 121.0, DATACENTRE),
        CardModel("L40S", 48, 362.0, DATACENTRE),
        CardModel("A100 40GB", 40, 312.0, DATACENTRE),
        CardModel("A100 80GB", 80, 312.0, DATACENTRE),
        CardModel("H100", 80, 989.0, HOPPER),
        CardModel("H200", 141, 989.0, HOPPER),
    )
}


def card_named(name: str) -> CardModel:
    """A card of the table, however it is written (`rtx3090ti`, `NVIDIA GeForce RTX 3090 Ti`).

    Raises `UsageError`, which names the nearest ones.
    """
    wanted = _plain(name)
    for card in CARDS.values():
        if _same(wanted, card):
            return card
    like = [_plain(each) for each in CARDS if wanted and _plain(each).startswith(wanted)]
    near = like or difflib.get_close_matches(wanted, map(_plain, CARDS), n=3, cutoff=0.4)
    names = [each for each in CARDS if _plain(each) in near] or list(CARDS)
    raise UsageError(
        f"'{name}' is no card of the table; the nearest {'is' if len(names) == 1 else 'are'} {', '.join(names)}."
    )


def same_card(device: str, card: CardModel) -> bool:
    """Whether torch's name of a device (and its precision) is that of a card: 'NVIDIA GeForce RTX 3090 Ti float16'."""
    return device.endswith("float16") and _same(_plain(device.rpartition(" ")[0]), card)


def _same(plain: str, card: CardModel) -> bool:
    """By its plain name, with or without its memory ("H100 80GB HBM3") and "RTX" ("3090")."""
    return _plain(card.name) in (plain, re.sub(r"\d\dgb$", "", plain), f"rtx{plain}")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]|nvidia|geforce|tesla|sxm\d?|pcie|hbm\d?e?|generation", "", name.lower())
