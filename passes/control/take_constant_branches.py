"""take-constant-branches: keep of each conditional the branch that is known to be taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphopt.ir.attributes import FunctionRef
from graphopt.ir.errors import printable
from graphopt.ir.graph import Graph
from graphopt.ir.known import known_tensor
from graphopt.ir.model import ARGUMENT, Function, Model
from graphopt.ir.value import Node
from graphopt.passes.base import Pass, PassContext
from graphopt.passes.control.dead_branches import resolve_switches
from graphopt.passes.control.evaluation import Evaluation, truth, truth_of
from graphopt.passes.removal import is_removable, remove_dead

LOWERING = "_lower_using_switch_merge"  # asks TensorFlow to lower an If or While; means nothing for a call
_CALLS = {
    "tf.If": "tf.StatefulPartitionedCall",
    "tf.StatelessIf": "tf.PartitionedCall",
    "tf.Case": "tf.StatefulPartitionedCall",
    "tf.StatelessCase": "tf.PartitionedCall",
}
_LOOPS = frozenset({"tf.While", "tf.StatelessWhile"})


@dataclass(frozen=True)
class TakeConstantBranches(Pass):
    """Replace conditionals whose condition is known by a call of the branch that is taken, and drop the others.

    *Given*

        %true = tf.Const() {value = bool[] true}
        %y = tf.StatelessIf(%true, %x) {then_branch = @f, else_branch = @g}

    *Result*

        %y = tf.PartitionedCall(%x) {f = @f}

    That is for `If` and `Case`; `inline-functions` then puts the branch in place of the call. A `While` that is known
    to end before its first iteration passes its inputs on. Of a v1 conditional with a known predicate, the `Switch`
    becomes an identity, what can never run is removed, and a `Merge` with one input left is an identity too.

    Refuses a `While` whose condition has effects. In v1 form: where an output, input or target of the graph lies in
    the branch not taken, where only a part of a loop would never run, and where the number that a `Merge` says its
    input has would change.
    """

    def run(self, model: Model, context: PassContext) -> None:
        """Take branches in all graphs."""
        for graph in model.graphs:
            for node in graph:
                if node.op in _CALLS:
                    self._take(graph, node, context)
                elif node.op in _LOOPS:
                    self._skip(graph, node, model, context)
            resolve_switches(graph, self.name, context)

    def _take(self, graph: Graph, node: Node, context: PassContext) -> None:
        """Make a call of a conditional with a known condition."""
        branch = chosen_branch(node)
        if branch is None or not context.allows(self.name):
            return
        condition = node.input(0).node
        attrs: dict[str, Any] = {key: value for key, value in node.attrs.items() if key[:1] == "_" and key != LOWERING}
        operands = node.inputs[1:]
        attrs["Tin"] = node.attrs.get("Tin", tuple(value.dtype for value in operands if value is not None))
        attrs["Tout"] = node.attrs.get("Tout", tuple(value.dtype for value in node.outputs))
        attrs["f"] = branch
        attrs |= {"config": b"", "config_proto": b"", "executor_type": b""}
        node.origins = node.source_names
        node.op, node.attrs = _CALLS[node.op], attrs
        node.set_inputs(operands)
        remove_dead(graph, [condition])
        context.rewrote(self.name, removed=(node,), added=(node,))

    def _skip(self, graph: Graph, node: Node, model: Model, context: PassContext) -> None:
        """Let a loop that never turns pass its inputs on."""
        reference = node.attrs.get("cond")
        condition = model.functions.get(reference.name) if isinstance(reference, FunctionRef) else None
        if condition is None or entry_condition(node, condition) is not False:
            return
        if has_effects(condition):
            context.refused(self.name, node, f"its condition '{printable(condition.name)}' has effects")
        elif context.allows(self.name):
            pass_inputs_on(node)
            context.rewrote(self.name, removed=(node,), added=(node,))


def chosen_branch(node: Node) -> FunctionRef | None:
    """The branch that an `If` or `Case` is known to take, None where that is open."""
    if not node._inputs or node._inputs[0] is None:
        return None
    if node.op in ("tf.If", "tf.StatelessIf"):
        taken = truth_of(node.input(0))
        branch = None if taken is None else node.attrs.get("then_branch" if taken else "else_branch")
    else:
        held, branches = known_tensor(node.input(0)), node.attrs.get("branches")
        if held is None or held.size != 1 or not isinstance(branches, tuple) or not branches:
            return None
        index = int(held.numpy().reshape(-1)[0])
        branch = branches[index if 0 <= index < len(branches) else -1]
    return branch if isinstance(branch, FunctionRef) else None


def entry_condition(loop: Node, condition: Function) -> bool | None:
    """Whether `loop` turns at least once, None where that is open."""
    if len(condition.inputs) != len(loop.inputs) or len(condition.outputs) != 1:
        return None
    known = {}
    for argument, value in zip(condition.inputs, loop.inputs, strict=True):
        held = known_tensor(value)
        if held is not None:
            known[argument] = held
    return truth(Evaluation(condition, condition.outputs).run(known)[0])


def has_effects(function: Function) -> bool:
    """Running `function` does more than computing its outputs."""
    return any(node.op != ARGUMENT and not is_removable(node) for node in function)


def pass_inputs_on(node: Node) -> None:
    """Make an identity of `node`, whose inputs and outputs correspond; name, control inputs and readers stay."""
    node.origins = node.source_names
    dtypes = tuple(value.dtype for value in node.outputs)
    if len(dtypes) == 1:
        node.op, node.attrs = "tf.Identity", {"T": dtypes[0]}
    elif dtypes:
        node.op, node.attrs = "tf.IdentityN", {"T": dtypes}
    else:
        node.op, node.attrs = "tf.NoOp", {}
    node.extras = None
