"""rename-attribute: call an attribute by another name."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir.attributes import kind
from graphopt.ir.errors import UsageError, printable
from graphopt.ir.graph import Graph
from graphopt.ir.ops.interfaces import interface
from graphopt.ir.value import Node
from graphopt.passes.base import Pass, PassContext
from graphopt.passes.rename.naming import check_attribute_name, operator_named
from graphopt.passes.rename.requirements import why_required

# The kinds of `attributes.kind` where an interface calls them otherwise.
_DECLARED = {"function": "func"}


@dataclass(frozen=True)
class RenameAttribute(Pass):
    """Rename the attribute `old` to `new`, in all nodes or in those of one operator; its value stays.

    *Given* `rename-attribute{old=foo,new=baz,operator=Mul}`

        %y = tf.Mul(%a, %b) {foo = 23}
        %z = tf.Add(%y, %c) {foo = 46}

    *Result*

        %y = tf.Mul(%a, %b) {baz = 23}
        %z = tf.Add(%y, %c) {foo = 46}

    `operator` is a name without dialect, or `*` for all.

    Refuses an attribute that the node's operator cannot do without, a new name that the node has already, and one
    that its operator declares for values of another kind.
    """

    old: str = ""
    new: str = ""
    operator: str = "*"

    def run_graph(self, graph: Graph, context: PassContext) -> None:
        """Rename in one graph."""
        if not self.old:
            raise UsageError(f"{self.name}: 'old' must name the attribute to rename")
        check_attribute_name(self.new, self.name)
        wanted = None if self.operator == "*" else operator_named(self.operator, self.name)
        if self.old == self.new:
            return
        for node in graph:
            if self.old not in node.attrs or (wanted is not None and node.op != wanted):
                continue
            reason = self._refusal(node)
            if reason is not None:
                context.refused(self.name, node, reason)
            elif context.allows(self.name):
                node.attrs = {self.new if name == self.old else name: value for name, value in node.attrs.items()}
                context.rewrote(self.name, removed=(node,), added=(node,))

    def _refusal(self, node: Node) -> str | None:
        if self.new in node.attrs:
            return f"it has an attribute '{printable(self.new)}' already"
        known = interface(node.op_type) if node.dialect == "tf" else None
        declared = known.attr_kinds.get(self.new) if known is not None else None
        found = kind(node.attrs[self.old])
        if declared is not None and declared != _DECLARED.get(found, found):
            return f"its operator declares '{printable(self.new)}' as {declared}"
        return why_required(node, self.old)
