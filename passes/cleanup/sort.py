"""sort: put nodes in execution order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Graph
from graphopt.ir.model import Model
from graphopt.ir.ops import Trait, traits_of
from graphopt.ir.value import Node
from graphopt.passes.base import Pass, PassContext


@dataclass(frozen=True)
class Sort(Pass):
    """Put every producer before its consumers; nodes that are in order already keep it.

    *Given*

        %y = tf.Neg(%x)
        %x = tf.Placeholder() {dtype = float32}

    *Result*

        %x = tf.Placeholder() {dtype = float32}
        %y = tf.Neg(%x)

    With `canonical`, the order follows from the outputs and targets alone, whatever order the nodes came in, and the
    functions of the library come by name: files that differ only in the order of either come out equal.

    The back edges of v1 loops are not counted. Refuses nothing; a graph with any other cycle is an error.
    """

    gives_work: ClassVar[bool] = False
    canonical: bool = False

    def run(self, model: Model, context: PassContext) -> None:
        """Sort all graphs in place, and the library by name where the order is to be canonical."""
        super().run(model, context)
        names = sorted(model.functions)
        if self.canonical and names != list(model.functions) and context.allows(self.name):
            model.functions = {name: model.functions[name] for name in names}
            context.rewrote(self.name)

    def run_graph(self, graph: Graph, context: PassContext) -> None:
        """Sort one graph in place."""
        order = graph.topological_order(canonical_roots(graph) if self.canonical else ())
        if any(left is not right for left, right in zip(order, graph, strict=True)) and context.allows(self.name):
            graph.reorder(order)
            context.rewrote(self.name)


def canonical_roots(graph: Graph) -> list[Node]:
    """Outputs, targets and inputs, then nodes with effects, each group by name."""
    groups = (
        [value.node for value in graph.outputs],
        graph.targets,
        [value.node for value in graph.inputs],
        [node for node in graph if traits_of(node.op) & Trait.STATEFUL],
        [node for node in graph if not node.has_uses],
    )
    return [node for group in groups for node in sorted(group, key=lambda node: node.name)]
