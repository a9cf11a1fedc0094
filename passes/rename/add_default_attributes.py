"""add-default-attributes: write down the defaults that a node leaves unsaid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphopt.ir.graph import Graph
from graphopt.ir.ops.interfaces import interface
from graphopt.ir.types import UNKNOWN_DTYPE
from graphopt.passes.base import Pass, PassContext


@dataclass(frozen=True)
class AddDefaultAttributes(Pass):
    """Give every node the attributes that it leaves out and its operator has defaults for.

    *Given*

        %y = tf.LRN(%x) {bias = 2.0}

    *Result*

        %y = tf.LRN(%x) {bias = 2.0, depth_radius = 5, alpha = 1.0, beta = 0.5, T = float32}

    For readers of graphs that know no defaults, or other ones. What a node says itself stays.

    Refuses nothing; operators that are not known have no defaults.
    """

    def run_graph(self, graph: Graph, context: PassContext) -> None:
        """Fill in one graph."""
        defaults: dict[str, Mapping[str, Any]] = {}
        for node in graph:
            found = defaults.get(node.op)
            if found is None:
                found = defaults[node.op] = _defaults(node.op)
            missing = {name: value for name, value in found.items() if name not in node.attrs}
            if missing and context.allows(self.name):
                node.attrs.update(missing)
                context.rewrote(self.name, removed=(node,), added=(node,))


def _defaults(op: str) -> Mapping[str, Any]:
    dialect, _, op_type = op.partition(".")
    known = interface(op_type) if dialect == "tf" else None
    if known is None:
        return {}
    return {name: value for name, value in known.defaults.items() if value is not None and value is not UNKNOWN_DTYPE}
