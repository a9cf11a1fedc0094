"""freeze-variables: make constants of variables that nothing changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.known_variables import forget
from graphopt.ir.model import Model
from graphopt.ir.value import Node
from graphopt.ir.variable_flow import ModelFlow
from graphopt.passes.base import Pass, PassContext
from graphopt.passes.freeze.contexts import Contexts
from graphopt.passes.freeze.selection import Selection, variable_nodes


@dataclass(frozen=True)
class FreezeVariables(Pass):
    """Replace variables by constants of the same names, and what reads them by what reads constants.

    *Given* a variable `w` whose value is `[1.0, 2.0]`

        function @f(%a: float32[2], %h: resource[]) -> (%b) {
          %r = tf.ReadVariableOp(%h) {dtype = float32}
          %b = tf.Mul(%a, %r)
        }
        %w = tf.VarHandleOp() {dtype = float32, shape = shape[2], shared_name = b"w"}
        %y = tf.StatefulPartitionedCall(%x, %w) {f = @f}

    *Result*

        function @f(%a: float32[2], %h: float32[2]) -> (%b) {
          %r = tf.Identity(%h)
          %b = tf.Mul(%a, %r)
        }
        %w = tf.Const() {value = float32[2] [1.0, 2.0]}
        %y = tf.StatefulPartitionedCall(%x, %w) {f = @f}

    Reference variables and resources, through functions, `If`, `Case`, `While` and v1 control flow: what passed a
    handle passes the value. A function called both ways, or with values of different types, is copied. Nodes keep
    their names, a variable is one constant in each graph, and its bytes stay where they are. Savers and initialisers
    that no output needs lose what would write to a constant.

    `names` are patterns (`dense/*`) of the variables to freeze, all by default; `exceptions` of those to leave.

    Refuses variables that something changes which an output, target or signature needs, naming the node; variables
    without a value; and those that one value may stand for together with one that stays a variable.
    """

    name: ClassVar[str] = "freeze-variables"
    names: tuple[str, ...] = ()
    exceptions: tuple[str, ...] = ()

    def run(self, model: Model, context: PassContext) -> None:
        """Freeze in place, in all graphs at once."""
        flow = ModelFlow(model)
        selection = Selection(flow, self.names, self.exceptions)
        for name, refusal in selection.refused.items():
            context.refused(self.name, refusal.node, f"variable '{name}' stays one: {refusal.reason}")
        for node in model.graph:
            if node.op == "tf.TemporaryVariable" and node in flow.needed:
                context.refused(self.name, node, "it is scratch memory, which is written anew in every run")
        for name in list(selection.frozen):
            if not context.allows(self.name):
                del selection.frozen[name]
                continue
            context.rewrote(self.name, removed=tuple(selection.nodes[name]), added=tuple(selection.nodes[name]))
        if not selection.frozen:
            return
        doomed = _doomed(flow, selection)
        Contexts(flow, selection).run(doomed)
        _remove(model, doomed)
        left = variable_nodes(model)
        for name in selection.frozen:
            if name not in left:
                model.variables.pop(name, None)
        forget(model)


def _doomed(flow: ModelFlow, selection: Selection) -> dict[Node, None]:
    """Nodes of the main graph that no output needs and that cannot stay: they write to what is now constant."""
    main, frozen = flow.main, selection.frozen
    doomed: dict[Node, None] = {}
    users = dict.fromkeys(user for value in main.tokens for user in value.users)
    for node in users:
        if node in flow.needed or (node in flow.initial and not flow.is_initialisation(node)):
            continue
        joins = flow.joins_at(main, node)
        mixed = any(len({token in frozen for token in tokens}) == 2 for tokens in joins)
        if mixed or any(token in frozen for token, _ in flow.offences_at(main, node)):
            doomed[node] = None
    pending = list(doomed)
    while pending:
        for value in pending.pop().outputs:
            for user in value.users:
                if user not in doomed:
                    doomed[user] = None
                    pending.append(user)
    return doomed


def _remove(model: Model, doomed: dict[Node, None]) -> None:
    """Remove nodes; what waited for one waits for it no longer, and a target does nothing from now on."""
    targets = [node for node in doomed if node in model.graph.targets]
    for node in targets:
        node.set_inputs(())
        node.op, node.attrs, node.extras = "tf.NoOp", {}, None
        del doomed[node]
    for node in doomed:
        for user in node.control_users:
            if user not in doomed:
                user.remove_control_input(node)
    model.graph.remove_all(doomed)
    for node in targets:
        node.outputs.clear()
