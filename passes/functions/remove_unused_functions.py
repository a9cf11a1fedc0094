"""remove-unused-functions: drop functions that nothing refers to."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir.model import Model
from graphopt.ir.variable_flow import state_functions
from graphopt.passes.base import Pass, PassContext
from graphopt.passes.functions.call_graph import called_functions


@dataclass(frozen=True)
class RemoveUnusedFunctions(Pass):
    """Drop from the library every function that the main graph does not reach.

    *Given*

        function @used(%a: float32) -> (%b) { %b = tf.Neg(%a) }
        function @unused(%a: float32) -> (%b) { %b = tf.Abs(%a) }
        %y = tf.PartitionedCall(%x) {f = @used}

    *Result*

        function @used(%a: float32) -> (%b) { %b = tf.Neg(%a) }
        %y = tf.PartitionedCall(%x) {f = @used}

    A function counts as reached through any attribute of a node, as a node's own operator, and as the gradient of a
    function that is reached, and where a SavedModel makes a table with it. Refuses functions named in `keep`.
    """

    keep: tuple[str, ...] = ()

    def run(self, model: Model, context: PassContext) -> None:
        """Drop functions in place."""
        pending = called_functions(model.graph, model)
        kept = (*self.keep, *state_functions(model))
        pending += [model.functions[name] for name in kept if name in model.functions]
        reached = dict.fromkeys(pending)
        while pending:
            for function in called_functions(pending.pop(), model):
                if function not in reached:
                    reached[function] = None
                    pending.append(function)
        for name, function in list(model.functions.items()):
            if function not in reached and context.allows(self.name):
                del model.functions[name]
                context.rewrote(self.name)
