"""obfuscate-names: short names that tell nothing."""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import dataclass

from graphopt.ir.graph import Graph
from graphopt.ir.model import Function
from graphopt.ir.ops.interfaces import interface
from graphopt.ir.value import Node
from graphopt.passes.base import Pass, PassContext
from graphopt.passes.rename.naming import rename_nodes

DIGITS = string.digits + string.ascii_lowercase + string.ascii_uppercase


@dataclass(frozen=True)
class ObfuscateNames(Pass):
    """Give every node but inputs and outputs the shortest name that is free: `0`, `1`, … `Z`, `00` and on.

    *Given* the input `x` and the output `y`

        %secret/layer = tf.Relu(%x)
        %y = tf.Neg(%secret/layer)

    *Result*

        %0 = tf.Relu(%x)
        %y = tf.Neg(%0)

    Debugging information, which repeats the original names, goes too. Names of functions and of their arguments and
    results stay.

    Refuses inputs, outputs and targets of the main graph, and nodes whose name says which variable or table they
    stand for, since nothing else does.
    """

    def run_graph(self, graph: Graph, context: PassContext) -> None:
        """Rename in one graph."""
        kept = self._kept(graph, context)
        free = _short_names({node.name for node in kept})
        names = {node: next(free) for node in graph if node not in kept}
        changed = {node: name for node, name in names.items() if node.name != name}
        telling = [node for node in graph if getattr(node.extras, "raw", b"")]
        if (changed or telling) and context.allows(self.name):
            rename_nodes(graph, changed)
            for node in telling:
                node.extras = node.extras._replace(raw=b"")
            context.rewrote(self.name, added=tuple(changed), count=len(changed) or len(telling))

    def _kept(self, graph: Graph, context: PassContext) -> dict[Node, None]:
        """Nodes that keep their names."""
        kept = dict.fromkeys(value.node for value in graph.inputs)
        if not isinstance(graph, Function):
            kept.update(dict.fromkeys(value.node for value in graph.outputs))
            kept.update(dict.fromkeys(graph.targets))
        resources: dict[str, bool] = {}
        for node in graph:
            named = resources.get(node.op)
            if named is None:
                known = interface(node.op_type)
                named = resources[node.op] = known is not None and "shared_name" in known.attr_kinds
            if named and not node.attrs.get("shared_name"):
                context.refused(self.name, node, "its name says which variable or table it stands for")
                kept[node] = None
        return kept


def _short_names(taken: set[str]) -> Iterator[str]:
    """All names of one digit, of two, and so on, without those `taken`."""
    previous = [""]
    while True:
        names = [prefix + digit for prefix in previous for digit in DIGITS]
        yield from (name for name in names if name not in taken)
        previous = names
