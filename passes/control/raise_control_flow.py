"""raise-control-flow: v1 conditionals and loops in functional form."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir.graph import Graph
from graphopt.ir.model import Model
from graphopt.passes.base import Pass, PassContext
from graphopt.passes.control.raise_branches import raise_branches
from graphopt.passes.control.raise_loops import raise_loops
from graphopt.passes.frames import forget_v1_control_flow, has_v1_control_flow


@dataclass(frozen=True)
class RaiseControlFlow(Pass):
    """Replace v1 conditionals (`Switch`, `Merge`) and loops (`Enter`, `Exit`, `NextIteration`) by `If` and `While`.

    *Given*

        %data = tf.Switch(%x, %c)
        %then = tf.Neg(%data:1)
        %else = tf.Abs(%data)
        %y = tf.Merge(%else, %then)

    *Result*

        function @y_if_true(%x: float32) -> (%then) { %then = tf.Neg(%x) }
        function @y_if_false(%x: float32) -> (%else) { %else = tf.Abs(%x) }
        %if = tf.StatelessIf(%c, %x) {then_branch = @y_if_true, else_branch = @y_if_false}
        %y = tf.Identity(%if)

    Nested ones are raised from the inside out. A value that enters a loop and does not change becomes a variable that
    passes from iteration to iteration. Where a body has effects or reads state, the stateful `If` or `While` is made.
    `lower-control-flow` is the way back.

    Refuses what is not of the form that TensorFlow's own functions build, and says why: a `Merge` that does not
    join the two branches of one predicate, a branch that nothing closes, a loop with several conditions or with other
    ways in or out, references to v1 variables, nodes inside that callers name, and operators that are in no table.
    """

    def run(self, model: Model, context: PassContext) -> None:
        """Raise in the main graph and in every function body."""
        for graph in model.graphs:
            self._raise(graph, model, context)

    def _raise(self, graph: Graph, model: Model, context: PassContext) -> None:
        while has_v1_control_flow(graph):
            branches, refused = raise_branches(graph, model, self.name, context)
            loops, more = raise_loops(graph, model, self.name, context)
            forget_v1_control_flow(graph)
            if not branches + loops or not context.allows(self.name):
                for node, reason in {**refused, **more}.items():
                    context.refused(self.name, node, reason)
                return
