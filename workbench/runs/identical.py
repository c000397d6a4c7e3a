"""Which settings give the very same pictures: by content keys before anything runs, by hashes of the pixels after.

Pure functions of {cell: what identifies its picture}. A cell's number counts through the prompts and seeds (a *block* is one
of each), and within a block through the axes, the last of which runs fastest.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from .records import AxisValue

Name = TypeVar("Name")
Place = TypeVar("Place", bound=Hashable)


class SameValues(NamedTuple):
    """Two or more values of an axis that give equal pictures whatever the other axes say.

    `cells` are those of their pictures that are known, at least one.
    """

    axis: str
    values: list[AxisValue]
    cells: list[int]


def same_pictures(pictures: Mapping[Name, Mapping[Place, str | None]]) -> list[list[Name]]:
    """The names in groups that have equal pictures in equal places.

    `pictures`: {name: {place: what identifies its picture}}. A picture that is None is equal to nothing.
    """
    groups: dict[Hashable, list[Name]] = {}
    for number, (name, places) in enumerate(pictures.items()):
        alone = None in places.values()
        groups.setdefault(number if alone else frozenset(places.items()), []).append(name)
    return list(groups.values())


def repeated(pictures: Mapping[int, Mapping[Place, str]]) -> dict[int, int]:
    """{a block: an earlier one that shows the same pictures}, of those that do so wherever both show one.

    Such blocks, like two prompts that read alike, are no independent evidence: what they say was said before.

    `pictures`: {block: {place: what identifies its picture}}, of the pictures that are known.
    """
    found: dict[int, int] = {}
    shown: dict[tuple[Hashable, str], int] = {}  # {(place, picture): the first block that shows it there}
    for block, own in pictures.items():
        for other in sorted({shown[item] for item in own.items() if item in shown}):
            shared = own.keys() & pictures[other].keys()
            if all(own[place] == pictures[other][place] for place in shared):
                found[block] = other
                break
        else:
            for item in own.items():
                shown.setdefault(item, block)
    return found


def alike(pictures: Mapping[int, str], sizes: Sequence[int], axis: int) -> list[list[int]]:
    """The values (by number) of an axis, in groups that give equal pictures whatever the other axes say.

    `sizes`: of all axes; `axis`: which of them. Cells that are not in `pictures` are equal to those that are not there.
    """
    inner = math.prod(sizes[axis + 1 :])
    by_value: dict[int, dict[int, str | None]] = {value: {} for value in range(sizes[axis])}
    for cell, picture in pictures.items():
        value = _value(cell, sizes, axis)
        by_value[value][cell - value * inner] = picture
    return same_pictures(by_value)


def same_values(
    pictures: Mapping[int, str], blocks: int, axes: Mapping[str, Sequence[AxisValue]]
) -> Iterator[SameValues]:
    """The values of each axis that give the very same pictures, of those axes that have such.

    `pictures`: {cell: what identifies its picture}; `blocks`: prompts x seeds. Values of which no picture is known, as a
    search leaves them, are not said to be the same.
    """
    sizes = [blocks, *map(len, axes.values())]
    for place, (name, values) in enumerate(axes.items(), start=1):
        for group in alike(pictures, sizes, place):
            if len(group) == 1:
                continue
            cells = [cell for cell in pictures if _value(cell, sizes, place) in group]
            if cells:
                yield SameValues(name, [values[number] for number in group], cells)


def by_block(pictures: Mapping[int, str], axes: Mapping[str, Sequence[AxisValue]]) -> dict[int, dict[int, str]]:
    """{cell: what identifies its picture} as {block: {combination: that}}."""
    inner = math.prod(map(len, axes.values()))
    found: dict[int, dict[int, str]] = {}
    for cell, picture in sorted(pictures.items()):
        found.setdefault(cell // inner, {})[cell % inner] = picture
    return found


def same_prompts(
    pictures: Mapping[int, str], prompts: int, seeds: int, axes: Mapping[str, Sequence[AxisValue]]
) -> list[list[int]]:
    """The prompts (by number) in groups that give equal pictures at every seed; only groups of two and more."""
    again = repeated(by_block(pictures, axes))
    groups: dict[int, list[int]] = {}
    for prompt in range(prompts):
        first = {again.get(prompt * seeds + seed, -1) for seed in range(seeds)}
        # the same earlier prompt at all seeds, each with its own
        place = min(first) // seeds if first == {min(first) // seeds * seeds + seed for seed in range(seeds)} else -1
        groups.setdefault(place if place >= 0 else prompt, []).append(prompt)
    return [group for group in groups.values() if len(group) > 1]


def _value(cell: int, sizes: Sequence[int], axis: int) -> int:
    """The number of the value that an axis has in a cell."""
    return cell // math.prod(sizes[axis + 1 :]) % sizes[axis]
