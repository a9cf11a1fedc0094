"""Names that people type: tensors with or without `:0`, and what they meant when there is no such name."""

from __future__ import annotations

from collections.abc import Iterable

from graphopt.ir.errors import UsageError, printable
from graphopt.ir.graph import Graph
from graphopt.ir.value import Value

CALL = "PartitionedCall"  # calls of functions are named so, numbers aside
COMPARED = 2000  # names compared with a misspelt one; all of a large graph would take seconds


def find_value(graph: Graph, name: str) -> Value:
    """The value called `name`: `conv`, `conv:0`, `split:1`, or a name of its own.

    Raises `UsageError` with the name that was probably meant.
    """
    base, colon, port = name.rpartition(":")
    if not colon or not port.isdecimal():
        base, port = name, "0"
    node = graph.find(base)
    if node is None:
        raise UsageError(f"there is no tensor '{printable(name)}' in the graph{close_names(base, _names(graph))}")
    if int(port) < len(node.outputs):
        return node.outputs[int(port)]
    count = len(node.outputs)
    has = "no outputs" if not count else "one output" if count == 1 else f"{count} outputs"
    raise UsageError(f"there is no tensor '{printable(name)}': node '{printable(base)}' ({node.op}) has {has}")


def tensor_name(value: Value) -> str:
    """The name with its port, always: `conv:0`."""
    return f"{value.node.name}:{value.index}"


def without_calls(name: str) -> str:
    """The name of a node without the calls of functions that led to it: `PartitionedCall_1/net/add` is `net/add`."""
    if CALL not in name:
        return name
    parts = name.split("/")
    while len(parts) > 1 and (not parts[0] or CALL in parts[0]):
        del parts[0]
    return "/".join(parts)


def close_names(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing if no known name is close."""
    import difflib

    names = list(known)
    if len(names) > COMPARED:
        last = name.rpartition("/")[2]
        alike = (k for k in names if k[:3] == name[:3] or (last and last in k) or k.rpartition("/")[2] in name)
        names = [known_name for _, known_name in zip(range(COMPARED), alike, strict=False)]
    close = difflib.get_close_matches(name, names, 1)
    return f"; did you mean '{printable(close[0])}'?" if close else ""


def _names(graph: Graph) -> list[str]:
    return [node.name for node in graph]
