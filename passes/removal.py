"""Taking out what nothing needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from graphopt.ir.graph import Graph
from graphopt.ir.known import CONSTANTS
from graphopt.ir.ops import Trait, traits_of
from graphopt.ir.value import Node

COLOCATED = b"loc:@"  # prefix of a node's name in the attribute `_class`


def remove_dead(graph: Graph, candidates: Iterable[Node]) -> list[Node]:
    """Remove those candidates that nothing needs, and producers that become useless; returns producers kept."""
    pending = list(candidates)
    kept: dict[Node, None] = {}
    while pending:
        node = pending.pop()
        if node.graph is not graph or node.has_uses or not is_removable(node):
            kept[node] = None
            continue
        producers = list(dict.fromkeys(node.predecessors()))
        graph.remove(node)
        if node.op in CONSTANTS:
            node.attrs = {}  # a node lives until the next collection of cycles: its weights need not
        pending.extend(producers)
    return [node for node in kept if node.graph is graph]


def drop_dangling_colocations(graph: Graph) -> None:
    """Forget `_class` constraints that name nodes which are no longer there; TensorFlow refuses those."""
    for node in graph:
        listed = node.attrs.get("_class")
        if not isinstance(listed, tuple):
            continue
        kept = tuple(item for item in listed if not _is_dangling(item, graph))
        if len(kept) != len(listed):
            if kept:
                node.attrs["_class"] = kept
            else:
                del node.attrs["_class"]


def _is_dangling(item: Any, graph: Graph) -> bool:
    if not isinstance(item, bytes) or not item.startswith(COLOCATED):
        return False
    return graph.find(item[len(COLOCATED) :].decode("utf-8", "replace")) is None


def is_removable(node: Node) -> bool:
    """Without effects: removing it when nothing reads it changes nothing. Drawing random numbers is no effect."""
    traits = traits_of(node.op)
    return not traits & Trait.SOURCE and (not traits & Trait.STATEFUL or bool(traits & Trait.RANDOM))
