"""A graph of ComfyUI's as it stands in its JSON, walked backwards along its links; the order of the nodes says nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from workbench.errors import NotUnderstood

from .json_values import shown

EXPORT = "in ComfyUI, save the workflow with Export (API), or give the picture that it made"
MOST_NODES = 5000
ENDS = ("SaveImage", "PreviewImage", "SaveImageWebsocket", "Image Save", "SaveImageAdvanced")
VALUE_INPUTS = ("value", "text", "string", "seed", "int", "float", "number", "Value", "Text", "STRING", "noise_seed")
"""Inputs in which nodes that only hold a value have it."""
CONCATENATING = re.compile(r"(string|text).{0,3}(concat|join|append)|(concat|join).{0,3}(string|text)", re.IGNORECASE)
CHANGING = re.compile(r"replace|regex|substring|truncate|translate|case ?convert", re.IGNORECASE)
"""Nodes that make another text of the one they are given."""
PARTS = re.compile(r"(string|text)[_ ]?([a-z]|\d{1,2})")


@dataclass(frozen=True)
class Node:
    """A node: its number, its class and its inputs, each a value or a link [number, output]."""

    number: str
    kind: str
    inputs: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.number} {shown(self.kind)}"

    def links(self) -> Iterator[tuple[str, str]]:
        """(input, number of the node it comes from)."""
        for name, value in self.inputs.items():
            if is_link(value):
                yield name, str(value[0])

    def first_link(self, *names: str) -> Any:
        """The first of these inputs that is a link, else any that is one; None where there is none."""
        chosen = next((self.inputs[name] for name in names if is_link(self.inputs.get(name))), None)
        return chosen or next((value for value in self.inputs.values() if is_link(value)), None)


def is_link(value: object) -> bool:
    return (
        isinstance(value, list) and len(value) == 2 and isinstance(value[0], str | int) and type(value[1]) is int
        and not isinstance(value[0], bool)
    )  # fmt: skip


class ComfyGraph:
    """The nodes of a graph. Those that something was read from are `used`."""

    def __init__(self, whole: Mapping[str, Any]) -> None:
        self.nodes = {str(number): _node(str(number), value) for number, value in _graph_in(whole).items()}
        self.used: set[str] = set()

    def at(self, link: object) -> Node | None:
        """The node that a link comes from, which is used now; behind Reroutes. None where there is none."""
        for _ in range(len(self.nodes) + 1):
            if not is_link(link):
                return None
            node = self.nodes.get(str(link[0]))  # type: ignore[index]
            if node is None:
                return None
            self.used.add(node.number)
            if not node.kind.startswith("Reroute"):
                return node
            link = node.first_link("")
        raise NotUnderstood("the graph of ComfyUI goes in a circle, which it cannot; give it as it was saved.")

    def value(self, value: Any) -> Any:
        """An input's value, also where it comes from a node that only holds it; a link where that cannot be told."""
        node = self.at(value)
        if node is None:
            return value
        for name in VALUE_INPUTS:
            if name in node.inputs and not is_link(node.inputs[name]):
                return node.inputs[name]
        return value

    def text(self, value: Any, depth: int = 0) -> str | None:
        """A text, also from nodes that hold or join texts; None where it cannot be told."""
        if isinstance(value, str) or value is None:
            return value or ""
        node = self.at(value)
        if node is None or depth > MOST_NODES // 100 or CHANGING.search(node.kind):
            return None
        if CONCATENATING.search(node.kind):
            parts = [self.text(each, depth + 1) for name, each in sorted(node.inputs.items()) if PARTS.fullmatch(name)]
            between = node.inputs.get("delimiter", "")
            between = between if isinstance(between, str) else ""
            return None if None in parts else between.join(part or "" for part in parts)
        for name in (*VALUE_INPUTS, "text_0", "prompt", "positive"):
            if name in node.inputs and (isinstance(node.inputs[name], str) or is_link(node.inputs[name])):
                return self.text(node.inputs[name], depth + 1)
        return None

    def upstream(self, start: str) -> set[str]:
        """Numbers of the nodes that a node is made of, with itself."""
        found, waiting = set[str](), [start]
        while waiting:
            number = waiting.pop()
            if number in self.nodes and number not in found:
                found.add(number)
                waiting += [source for _, source in self.nodes[number].links()]
        return found

    def ends(self) -> list[Node]:
        """The nodes that save or show pictures, those made of most nodes first."""
        found = [node for node in self.nodes.values() if _is_end(node)]
        return sorted(found, key=lambda node: (-len(self.upstream(node.number)), not node.kind.startswith("Save")))


def _is_end(node: Node) -> bool:
    saves = node.kind in ENDS or re.search(
        r"(save|preview).{0,12}image|image.{0,12}(save|preview)", node.kind, re.IGNORECASE
    )
    return bool(saves) and any(name in ("images", "image") for name, _ in node.links())


def _graph_in(whole: Mapping[str, Any]) -> Mapping[str, Any]:
    """The nodes, also of what is sent to ComfyUI's server. Raises `NotUnderstood`."""
    if isinstance(whole.get("prompt"), dict):
        whole = whole["prompt"]
    if isinstance(whole.get("nodes"), list | dict):
        raise NotUnderstood(
            f"this is ComfyUI's workflow as its editor keeps it, without the values by their names; {EXPORT}."
        )
    if not any(isinstance(each, dict) and "class_type" in each for each in whole.values()):
        raise NotUnderstood(f"the text is no graph of ComfyUI: none of its entries has a class_type; {EXPORT}.")
    if len(whole) > MOST_NODES:
        raise NotUnderstood(f"the graph of ComfyUI has more than {MOST_NODES} nodes; give one that makes one picture.")
    return whole


def _node(number: str, value: object) -> Node:
    given = value if isinstance(value, dict) else {}
    inputs, kind = given.get("inputs"), given.get("class_type")
    return Node(number, kind if isinstance(kind, str) else "", inputs if isinstance(inputs, dict) else {})
