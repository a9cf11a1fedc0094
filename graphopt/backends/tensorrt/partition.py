"""What TensorRT would take of a model that it cannot take as a whole: connected parts, and the tensors between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from graphopt.backends.base import Finding
from graphopt.ir.errors import printable
from graphopt.ir.known import known_tensor
from graphopt.ir.model import Model
from graphopt.ir.value import Node, Value

SHOWN = 6  # parts, and tensors at each end of one, that are printed
_PARTS = ("Input", "Initializer")


@dataclass
class Part:
    """Nodes that would be one engine; what goes in and comes out, by name."""

    nodes: int
    operators: dict[str, int]
    inputs: list[str]
    outputs: list[str]


@dataclass
class Partition:
    """The engines that would be left, largest first, and what stays outside, by operator."""

    parts: list[Part] = field(default_factory=list)
    outside: dict[str, int] = field(default_factory=dict)

    @property
    def taken(self) -> int:
        """How many nodes TensorRT would take."""
        return sum(part.nodes for part in self.parts)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"taken": self.taken, "outside": self.outside, "parts": [vars(part) for part in self.parts]}

    def lines(self) -> list[str]:
        """For people."""
        outside = ", ".join(f"{count} {printable(name)}" for name, count in self.outside.items())
        taken = f"TensorRT would take {self.taken} nodes in {len(self.parts)} engines"
        lines = [f"{taken}; {sum(self.outside.values())} stay in TensorFlow: {outside or 'none'}"]
        for part in self.parts[:SHOWN]:
            lines.append(f"  {part.nodes} nodes, from {_listed(part.inputs)} to {_listed(part.outputs)}")
        if len(self.parts) > SHOWN:
            lines.append(f"  and {len(self.parts) - SHOWN} smaller ones")
        return lines


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(printable, names[:SHOWN])) + more if names else "constants"


def partition_of(model: Model, findings: Iterable[Finding]) -> Partition:
    """Of the main graph of `model`, lowered as far as it goes, with what was found in it.

    Two nodes are in one part where one reads the other's result and as many refused nodes at most lie before both:
    then no part waits for itself. What is wrong with an input, a missing profile say, is no matter of parts.
    """
    refused = {item.node for item in findings if item.graph == model.graph.name}
    nodes = [node for node in model.graph.topological_order() if node.op_type not in _PARTS and not _is_idle(node)]
    taken = [node for node in nodes if node.name not in refused]
    numbers = _numbered(nodes, dict.fromkeys(taken))
    grouped: dict[int, list[Node]] = {}
    for node in taken:
        grouped.setdefault(numbers[node], []).append(node)
    parts = [_part(group) for group in grouped.values()]
    outside = Counter(node.op for node in nodes if node.name in refused)
    return Partition(sorted(parts, key=lambda part: -part.nodes), dict(outside.most_common()))


def _is_idle(node: Node) -> bool:
    """Nothing that runs: what is fed and what is known beforehand."""
    return (
        not node.outputs or node.outputs[0].is_input or all(known_tensor(value) is not None for value in node.outputs)
    )


def _numbered(nodes: list[Node], taken: dict[Node, None]) -> dict[Node, int]:
    """The part of each taken node, counted from its first node."""
    level: dict[Node, int] = {}
    before: dict[Node, Node] = {}

    def first(node: Node) -> Node:
        while before.get(node, node) is not node:
            before[node] = before.get(before[node], before[node])
            node = before[node]
        return node

    for node in nodes:
        made = [value.node for value in node.inputs if value is not None and value.node in level]
        level[node] = max((level[other] + (other not in taken) for other in made), default=0)
        if node in taken:
            for other in made:
                if other in taken and level[other] == level[node]:
                    before[first(other)] = first(node)
    numbers: dict[Node, int] = {}
    return {node: numbers.setdefault(first(node), len(numbers)) for node in nodes if node in taken}


def _part(nodes: list[Node]) -> Part:
    inside = dict.fromkeys(nodes)
    inputs = [v for n in nodes for v in n.inputs if v is not None and v.node not in inside and known_tensor(v) is None]
    outputs = [value for node in nodes for value in node.outputs if value.is_output or _is_read(value, inside)]
    operators = dict(Counter(node.op for node in nodes).most_common())
    return Part(len(nodes), operators, _names(inputs), _names(outputs))


def _is_read(value: Value, inside: dict[Node, None]) -> bool:
    """Something outside reads the value."""
    return any(user not in inside for user in value.users)


def _names(values: list[Value]) -> list[str]:
    return list(dict.fromkeys(value.name for value in values))
