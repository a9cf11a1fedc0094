"""remove-control-dependencies: let nothing wait."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir.graph import Graph
from graphopt.passes.base import Pass, PassContext
from graphopt.passes.frames import has_v1_control_flow


@dataclass(frozen=True)
class RemoveControlDependencies(Pass):
    """Drop every control input, those on nodes with effects included.

    *Given*

        %check = tf.Assert(%is_positive, %x)
        %y = tf.Sqrt(%x) after(%check)

    *Result*

        %check = tf.Assert(%is_positive, %x)
        %y = tf.Sqrt(%x)

    Outputs stay the same unless they depend on state that the effects change: what asserts, prints or assigns may
    then run later, or not at all. `prune-control-dependencies` drops only what is safe to drop.

    Refuses nodes without data inputs in a graph with v1 control flow, where what they wait for says which branch or
    loop they belong to.
    """

    def run_graph(self, graph: Graph, context: PassContext) -> None:
        """Drop in one graph."""
        waiting = [node for node in graph if node._control_inputs]
        anchored = bool(waiting) and has_v1_control_flow(graph)
        for node in waiting:
            if anchored and not node._inputs:
                context.refused(self.name, node, "it would leave its v1 branch or loop")
            elif context.allows(self.name):
                node.set_control_inputs(())
                context.rewrote(self.name, removed=(node,), added=(node,))
