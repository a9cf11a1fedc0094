"""remove-attribute: drop an attribute."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir.errors import UsageError
from graphopt.ir.graph import Graph
from graphopt.passes.base import Pass, PassContext
from graphopt.passes.rename.naming import operator_named
from graphopt.passes.rename.requirements import why_required


@dataclass(frozen=True)
class RemoveAttribute(Pass):
    """Drop the attribute `attribute` from all nodes, or from those of one operator.

    *Given* `remove-attribute{attribute=foo,operator=Mul}`

        %y = tf.Mul(%a, %b) {foo = 23, bar = "kept"}
        %z = tf.Add(%y, %c) {foo = 46}

    *Result*

        %y = tf.Mul(%a, %b) {bar = "kept"}
        %z = tf.Add(%y, %c) {foo = 46}

    `operator` is a name without dialect, or `*` for all. An attribute that the operator has a default for falls back
    to it.

    Refuses attributes that the operator cannot do without, and those whose value decides element types.
    """

    attribute: str = ""
    operator: str = "*"

    def run_graph(self, graph: Graph, context: PassContext) -> None:
        """Drop in one graph."""
        if not self.attribute:
            raise UsageError(f"{self.name}: 'attribute' must name what to remove")
        wanted = None if self.operator == "*" else operator_named(self.operator, self.name)
        for node in graph:
            if self.attribute not in node.attrs or (wanted is not None and node.op != wanted):
                continue
            reason = why_required(node, self.attribute)
            if reason is not None:
                context.refused(self.name, node, reason)
            elif context.allows(self.name):
                del node.attrs[self.attribute]
                context.rewrote(self.name, removed=(node,), added=(node,))
