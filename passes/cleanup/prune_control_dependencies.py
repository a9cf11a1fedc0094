"""prune-control-dependencies: drop waits for nodes without effects."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from graphopt.ir.graph import Graph
from graphopt.ir.known_variables import READ, read_variable
from graphopt.ir.ops import Trait, traits_of
from graphopt.ir.value import Node
from graphopt.passes.base import Pass, PassContext
from graphopt.passes.frames import has_v1_control_flow

NOTHING = "tf.NoOp"
LOOKED_BACK = 16  # producers of a producer beyond which it is not asked what it waits for
# They run although not everything they read did.
_UNCONDITIONAL = frozenset({"tf.Merge", "tf.RefMerge", "tf.ControlTrigger"})
_EFFECTS = Trait.STATEFUL | Trait.ASSERTION | Trait.CALL
_ORDERING = Trait.STATEFUL | Trait.ASSERTION | Trait.CONTROL_FLOW


@dataclass(frozen=True)
class PruneControlDependencies(Pass):
    """Drop control inputs that order nothing.

    *Given*

        %w = tf.Const() {value = float32[] 1.0}
        %first = tf.PrintV2(%message)
        %done = tf.NoOp() after(%w, %first)
        %y = tf.Relu(%x) after(%done)

    *Result*

        %w = tf.Const() {value = float32[] 1.0}
        %first = tf.PrintV2(%message)
        %done = tf.NoOp() after(%first)
        %y = tf.Relu(%x) after(%first)

    Those on nodes which, with all they depend on, have no effects are dropped. Who waits for a `NoOp` waits for what
    that waits for, where this makes no more control inputs; so does who waits for a read of a variable that nothing
    changes, if the value read is not used.

    Refuses those on nodes of v1 branches and loops, which also say where a node belongs, but for those that say it
    again: on a node without effects that one of the inputs is, or waits for.
    """

    def run_graph(self, graph: Graph, context: PassContext) -> None:
        """Prune one graph in place."""
        waiting = [node for node in graph if node._control_inputs]
        if not waiting:
            return
        has_frames = has_v1_control_flow(graph)
        effects: dict[Node, bool] = {}
        for node in waiting:
            for control in node.control_inputs:
                if not has_effects(control, effects):
                    self._drop(node, control, context)
                elif not has_frames and is_idle_read(control) and self._drop(node, control, context):
                    for earlier in control.control_inputs:
                        if earlier is not node:
                            node.add_control_input(earlier)
        queue = dict.fromkeys(waiting)
        while queue:
            node = next(iter(queue))
            del queue[node]
            if has_frames:
                queue.update(self._drop_repeated(node, context))
            if node.op == NOTHING and node not in graph._targets:
                queue.update(self._go_round(node, context))

    def _drop(self, node: Node, control: Node, context: PassContext) -> bool:
        if not context.allows(self.name):
            return False
        node.remove_control_input(control)
        context.rewrote(self.name)
        return True

    def _drop_repeated(self, node: Node, context: PassContext) -> dict[Node, None]:
        """Drop what `node` waits for anyway; returns nodes to look at again."""
        again: dict[Node, None] = {}
        awaited = awaited_anyway(node) if node.control_inputs else {}
        for control in node.control_inputs:
            if control in awaited and not traits_of(control.op) & _EFFECTS and self._drop(node, control, context):
                again.update(dict.fromkeys((control, *node.control_users)))
        return again

    def _go_round(self, nothing: Node, context: PassContext) -> dict[Node, None]:
        """Let all who wait for `nothing` wait for what it waits for; returns nodes to look at again."""
        users, controls = nothing.control_users, nothing.control_inputs
        if not users or len(users) * len(controls) > len(users) + len(controls) or not context.allows(self.name):
            return {}
        for user in users:
            user.remove_control_input(nothing)
            for control in controls:
                user.add_control_input(control)
        context.rewrote(self.name)
        return dict.fromkeys((*controls, *users))


def is_idle_read(node: Node) -> bool:
    """`node` reads a variable that nothing in the model changes, and nobody uses what it reads."""
    if node.op != READ or node.output.use_count or node.output.is_output or node.output.is_input:
        return False
    variable = read_variable(node)
    return variable is not None and variable.value is not None


def awaited_anyway(node: Node) -> dict[Node, None]:
    """Nodes that run before `node`, and without which it does not run, because its inputs say so.

    These are the producers of its data, and what they and its control inputs read and wait for.
    """
    if node.op in _UNCONDITIONAL:
        return {}
    read = [value.node for value in node._inputs if value is not None and not value.is_input]
    found = dict.fromkeys(read)
    for producer in (*read, *node.control_inputs):
        if traits_of(producer.op) & Trait.CONTROL_FLOW or any(value.is_input for value in producer.outputs):
            continue
        further = list(islice(producer.predecessors(), LOOKED_BACK + 1))
        if len(further) <= LOOKED_BACK:
            found.update(dict.fromkeys(further))
    return found


def has_effects(node: Node, memo: dict[Node, bool]) -> bool:
    """`node` or something it depends on has effects, may fail, or may not run: it is of a v1 branch or loop.

    Iterative; `memo` is shared between calls.
    """
    stack = [(node, False)]
    while stack:
        current, expanded = stack.pop()
        if expanded:
            memo[current] = any(memo.get(producer, False) for producer in current.predecessors())
        elif current not in memo:
            traits = traits_of(current.op)
            if traits & _ORDERING and not traits & Trait.SOURCE:
                memo[current] = True
                continue
            memo[current] = False
            stack.append((current, True))
            stack.extend((producer, False) for producer in current.predecessors() if producer not in memo)
    return memo[node]
