"""Which networks stay on the device beside the one at work: the first arrangement whose estimate fits.

No arrangement changes a pixel: a network computes the same wherever it was before. Nothing here touches a network.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from workbench.store import size_words

FILL = 0.85  # share of the usable memory that an estimate may fill

Kind = Literal["text encoders", "unet", "vae", "other"]
Role = tuple[str, Kind]
"""(part or stage, what of it): ("base", "unet"), ("refiner", "vae"), ("faces", "other"). A shared network has several."""


class Residency(IntEnum):
    """From what is quickest to what takes least memory."""

    ALL = 0
    ENCODERS_LEAVE = 1
    ONE_PART = 2
    ONE_NETWORK = 3

    @property
    def words(self) -> str:
        return WORDS[self]

    @property
    def further(self) -> Residency | None:
        """The next one, which takes less; None after the last."""
        return None if self is Residency.ONE_NETWORK else Residency(self + 1)


WORDS = {
    Residency.ALL: "all networks stay on the device",
    Residency.ENCODERS_LEAVE: "the text encoders leave the device once the prompts are read",
    Residency.ONE_PART: "base, refiner and what mends faces take turns on the device, and the VAE is there only at work",
    Residency.ONE_NETWORK: "one network at a time is on the device",
}


@dataclass(frozen=True)
class DeviceUse:
    """One thing that a stage does on the device.

    Attributes:
        networks: {network: bytes of its weights} at work; a network that several uses share has one name.
        alive: bytes beside all weights.
    """

    role: Role
    networks: Mapping[str, int]
    alive: float = 0.0


def stays(residency: Residency, roles: Collection[Role], at_work: Role) -> bool:
    """Whether a network of these roles is on the device while `at_work` is done.

    Networks of other stages than SDXL's are small (0.4 GB for faces) and stay.
    """
    kinds = {kind for _, kind in roles}
    if residency is Residency.ALL or at_work in roles or "other" in kinds:
        return True
    if residency is Residency.ENCODERS_LEAVE:
        return "text encoders" not in kinds
    return residency is Residency.ONE_PART and (at_work[0], "unet") in roles


def peak(residency: Residency, uses: Sequence[DeviceUse]) -> int:
    """The most bytes that are on the device at once."""
    roles: dict[str, set[Role]] = defaultdict(set)
    for use in uses:
        for name in use.networks:
            roles[name].add(use.role)
    sizes = {name: size for use in uses for name, size in use.networks.items()}
    return int(
        max(
            (
                sum(size for name, size in sizes.items() if stays(residency, roles[name], use.role)) + use.alive
                for use in uses
            ),
            default=0,
        )
    )


def fitting(uses: Sequence[DeviceUse], usable: int | None) -> Residency:
    """The first that fits into `usable` bytes (None: any number), else the last, which takes least."""
    if usable is None:
        return Residency.ALL
    return next((each for each in Residency if peak(each, uses) <= FILL * usable), Residency.ONE_NETWORK)


def residency_words(residency: Residency, uses: Sequence[DeviceUse], usable: int) -> str:
    """A sentence on what was chosen and why, without its full stop."""
    most = f"about {size_words(peak(residency, uses))} of {size_words(usable)}"
    if residency is Residency.ALL:
        return f"memory: {residency.words}, {most}"
    all_of_it = f"all at once would take about {size_words(peak(Residency.ALL, uses))}"
    fits = "" if peak(residency, uses) <= FILL * usable else ", which may not be enough"
    return f"memory: {residency.words}, {most}{fits}; {all_of_it}"
