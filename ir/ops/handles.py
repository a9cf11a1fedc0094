"""Following a handle (of a variable, table, queue, tensor array) to the node that made it."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.ir.types import UNKNOWN_SHAPE, Shape
from graphopt.ir.value import Node, Value

# Operators whose outputs, when they yield anything, are the handle they were given.
CARRIERS = frozenset(
    {"tf.Identity", "tf.RefIdentity", "tf.Enter", "tf.RefEnter", "tf.Switch", "tf.RefSwitch", "tf.StopGradient"}
)
LIMIT = 64  # carriers looked through


def maker(value: Value | None) -> Node | None:
    """The node that made the handle `value`; None where it comes out of an argument's or a merge's hands."""
    for _ in range(LIMIT):
        if value is None or value._inputs:
            return None
        node = value.node
        if node.op not in CARRIERS:
            return node
        value = node._inputs[0] if node._inputs else None
    return None


def declared_shape(value: Value | None, attribute: str = "shape") -> Shape:
    """The shape that the handle's maker, or the argument it comes in by, declares for what it refers to."""
    node = maker(value)
    if node is None:
        return UNKNOWN_SHAPE
    shape = node.attrs.get(attribute)
    if isinstance(shape, Shape):
        return shape
    shapes = node.attrs.get("_handle_shapes")
    if isinstance(shapes, tuple) and len(shapes) == 1 and isinstance(shapes[0], Shape):
        return shapes[0]
    return UNKNOWN_SHAPE


def listed_shapes(declared: object, count: int) -> Sequence[Shape]:
    """The `count` shapes that a list attribute declares; unknown ones where it does not."""
    if isinstance(declared, tuple) and len(declared) == count and all(isinstance(item, Shape) for item in declared):
        return declared
    return [UNKNOWN_SHAPE] * count
