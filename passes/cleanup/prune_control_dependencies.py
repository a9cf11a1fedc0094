"""prune-control-dependencies: drop waits for nodes without effects."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir.graph import Graph
from graphopt.ir.ops import Trait, traits_of
from graphopt.ir.value import Node
from graphopt.passes.base import Pass, PassContext
from graphopt.passes.frames import has_v1_control_flow


@dataclass(frozen=True)
class PruneControlDependencies(Pass):
    """Drop control inputs that order nothing: those on nodes which, with all they depend on, have no effects.

    *Given*

        %w = tf.Const() {value = float32[] 1.0}
        %done = tf.NoOp() after(%w)
        %y = tf.Relu(%x) after(%done)

    *Result*

        %w = tf.Const() {value = float32[] 1.0}
        %done = tf.NoOp()
        %y = tf.Relu(%x)

    Refuses graphs with v1 control flow, where a control input also says which branch or loop a node belongs to.
    """

    def run_graph(self, graph: Graph, context: PassContext) -> None:
        """Prune one graph in place."""
        waiting = [node for node in graph if node._control_inputs]
        if not waiting:
            return
        if has_v1_control_flow(graph):
            context.refused(self.name, waiting[0], "the graph has v1 control flow")
            return
        effects: dict[Node, bool] = {}
        for node in waiting:
            for control in node.control_inputs:
                if not has_effects(control, effects) and context.allows(self.name):
                    node.remove_control_input(control)
                    context.rewrote(self.name)


def has_effects(node: Node, memo: dict[Node, bool]) -> bool:
    """`node` or something it depends on has effects or may fail. Iterative; `memo` is shared between calls."""
    stack = [(node, False)]
    while stack:
        current, expanded = stack.pop()
        if expanded:
            memo[current] = any(memo.get(producer, False) for producer in current.predecessors())
        elif current not in memo:
            traits = traits_of(current.op)
            if traits & (Trait.STATEFUL | Trait.ASSERTION) and not traits & Trait.SOURCE:
                memo[current] = True
                continue
            memo[current] = False
            stack.append((current, True))
            stack.extend((producer, False) for producer in current.predecessors() if producer not in memo)
    return memo[node]
