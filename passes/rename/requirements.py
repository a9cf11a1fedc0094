"""Which attributes an operator cannot do without."""

from __future__ import annotations

from graphopt.ir.known import CONSTANT
from graphopt.ir.model import ARGUMENT
from graphopt.ir.ops.interfaces import Interface, interface
from graphopt.ir.value import Node


def why_required(node: Node, name: str) -> str | None:
    """Why `node` must keep its attribute `name`, or None: an interface's own attributes without a default decide."""
    if node.op == ARGUMENT or (node.op == CONSTANT and name in ("dtype", "value")):
        return f"'{name}' is what the node stands for"
    known = interface(node.op_type) if node.dialect == "tf" else None
    if known is None or name not in known.attr_kinds:
        return None
    if name not in known.defaults:
        return f"its operator requires '{name}'"
    if name in _deciding(known) and node.attrs[name] != known.defaults[name]:
        return f"'{name}' decides its element types"
    return None


def _deciding(known: Interface) -> frozenset[str]:
    """Attributes that decide number and types of inputs and outputs."""
    arguments = (*known.inputs, *known.outputs)
    return frozenset(name for a in arguments for name in (a.type_attr, a.number_attr, a.list_attr) if name)
