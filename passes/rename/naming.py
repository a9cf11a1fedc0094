"""Giving nodes other names, with all that refers to them by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from graphopt.ir.errors import UsageError, printable
from graphopt.ir.graph import Graph
from graphopt.ir.value import Node
from graphopt.passes.removal import COLOCATED

_NODE_NAME = re.compile(r"[A-Za-z0-9._][A-Za-z0-9_.\\/>-]*\Z")
_ATTRIBUTE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*\Z")


def check_node_name(name: str, owner: str) -> None:
    """Raise `UsageError`, in the name of the pass `owner`, for what TensorFlow takes for no node's name."""
    if not _NODE_NAME.match(name):
        raise UsageError(
            f"{owner}: '{printable(name)}' cannot be a node's name: letters, digits, '_', '.', '/', '>' and '-' can"
        )


def check_attribute_name(name: str, owner: str) -> None:
    """Raise `UsageError`, in the name of the pass `owner`, for what cannot be an attribute's name."""
    if not _ATTRIBUTE_NAME.match(name):
        raise UsageError(f"{owner}: '{printable(name)}' cannot be an attribute's name: letters, digits and '_' can")


def operator_named(name: str, owner: str) -> str:
    """`Conv2D` as `tf.Conv2D`. Raises `UsageError`, in the name of the pass `owner`, for what names no operator."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_>.]*", name):
        raise UsageError(f"{owner}: '{printable(name)}' cannot be an operator's name: letters, digits and '_' can")
    return f"tf.{name}"


def rename_nodes(graph: Graph, names: Mapping[Node, str]) -> None:
    """Give each node its new name; two may exchange theirs. Origins keep the old ones, colocations follow.

    The names must differ from one another and from those of all other nodes.
    """
    changed = {node: name for node, name in names.items() if node.name != name}
    followed = {node.name.encode(): name.encode() for node, name in changed.items()}
    for node in changed:
        node.origins = node.source_names
        graph.rename(node, graph.unique_name(f"{node.name}/renamed"))
    for node, name in changed.items():
        graph.rename(node, name)
    for node in graph:
        listed = node.attrs.get("_class")
        if isinstance(listed, tuple):
            moved = tuple(_followed(item, followed) for item in listed)
            if moved != listed:
                node.attrs["_class"] = moved


def _followed(item: Any, followed: Mapping[bytes, bytes]) -> Any:
    if not isinstance(item, bytes) or not item.startswith(COLOCATED):
        return item
    name = followed.get(item[len(COLOCATED) :])
    return item if name is None else COLOCATED + name
