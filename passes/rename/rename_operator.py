"""rename-operator: call an operator by another name."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir.errors import UsageError, printable
from graphopt.ir.graph import Graph
from graphopt.ir.model import Function, Model
from graphopt.ir.ops.interfaces import Interface, interface
from graphopt.ir.types import DType
from graphopt.ir.value import Node
from graphopt.passes.base import Pass, PassContext
from graphopt.passes.rename.naming import operator_named


@dataclass(frozen=True)
class RenameOperator(Pass):
    """Make every node of operator `old` one of operator `new`; inputs, attributes and names stay.

    *Given* `rename-operator{old=Mul,new=Multiply}`

        %y = tf.Mul(%a, %b)
        %z = tf.Add(%y, %c)

    *Result*

        %y = tf.Multiply(%a, %b)
        %z = tf.Add(%y, %c)

    For operators of one's own, that were registered under another name. What the graph computes is then what the
    new operator computes.

    Refuses nodes that do not fit a new operator which is known: other numbers or types of inputs and outputs, a
    missing or differing attribute. In function bodies, which name outputs as the operator does, an unknown new
    operator is refused. It is an error to rename calls of the library's functions this way.
    """

    old: str = ""
    new: str = ""

    def run(self, model: Model, context: PassContext) -> None:
        """Rename in all graphs."""
        for name in (self.old, self.new):
            operator_named(name, self.name)
            if name in model.functions:
                raise UsageError(f"{self.name}: '{printable(name)}' is a function of the library, not an operator")
        super().run(model, context)

    def run_graph(self, graph: Graph, context: PassContext) -> None:
        """Rename in one graph."""
        old, new = operator_named(self.old, self.name), operator_named(self.new, self.name)
        if old == new:
            return
        known = interface(self.new)
        for node in graph:
            if node.op != old:
                continue
            reason = _misfit(node, known, isinstance(graph, Function))
            if reason is not None:
                context.refused(self.name, node, reason)
            elif context.allows(self.name):
                before = f"{node.name}={node.op}"
                node.origins, node.op = node.source_names, new
                if known is not None:
                    _adopt(node, known)
                context.rewrote(self.name, added=(node,))
                if context.log.journal:
                    context.log.journal[-1] = context.log.journal[-1]._replace(removed=(before,))


def _misfit(node: Node, known: Interface | None, in_function: bool) -> str | None:
    """Why `node` cannot be one of the operator that `known` describes, or None."""
    if known is None:
        has_ports = bool(getattr(node.extras, "ports", ()))
        return "how the new operator names its outputs is not known" if in_function and not has_ports else None
    missing = [name for name in known.attr_kinds if name not in known.defaults and name not in node.attrs]
    if missing:
        return f"the new operator requires attribute '{printable(missing[0])}'"
    try:
        inputs = known.input_types(node.attrs)
        outputs = [type.dtype for type in known.output_types(node.attrs)]
    except ValueError as error:
        return f"its attributes do not suit the new operator: {error}"
    if len(inputs) != node.input_count or not _agree(inputs, [value.dtype for value in node.inputs if value]):
        return "the new operator takes other inputs"
    if len(outputs) < len(node.outputs) or not _agree(outputs, [value.dtype for value in node.outputs]):
        return "the new operator has other outputs"
    return None


def _agree(wanted: tuple[DType, ...] | list[DType], found: list[DType]) -> bool:
    return all(not want.code or not have.code or want is have for want, have in zip(wanted, found, strict=False))


def _adopt(node: Node, known: Interface) -> None:
    """Let `node` have the outputs that its new operator declares."""
    types = known.output_types(node.attrs)
    for value, type in zip(node.outputs, types, strict=False):
        if not value.dtype.code:
            value.type = type
    for type in types[len(node.outputs) :]:
        node.add_output(type)
    if getattr(node.extras, "ports", ()):
        node.extras = node.extras._replace(ports=())
