"""Vectors brought to length one, however a graph spells it. It comes before the rules for products."""

from __future__ import annotations

from graphopt.backends.legalization import Lowering
from graphopt.backends.tflite.rules.common import NO_ACTIVATION
from graphopt.backends.tflite.rules.kernels import compute
from graphopt.backends.tflite.table import RULES
from graphopt.ir.known import known_array
from graphopt.ir.types import FLOAT32
from graphopt.ir.value import Node, Value

EPSILON = 1e-12  # of squared norms, where the kernel of L2_NORMALIZATION stops, too


@RULES.legalize("tf.Mul", "tf.RealDiv")
def l2_normalisation(op: Lowering) -> Value | None:
    """`x * rsqrt(max(sum(square(x)), 1e-12))` over the last axis, in whatever spelling, is L2_NORMALIZATION."""
    if op.type.dtype is not FLOAT32:
        return None
    pairs = [(op.input(0), op.input(1))]
    if op.node.op == "tf.Mul":
        pairs.append((op.input(1), op.input(0)))
    for value, norm in pairs:
        if _is_norm(norm.node, value, "tfl.RSQRT" if op.node.op == "tf.Mul" else "tfl.SQRT"):
            return compute(op, "L2_NORMALIZATION", value, fused_activation_function=NO_ACTIVATION)
    return None


def _is_norm(node: Node, value: Value, root: str) -> bool:
    """`node` is the (inverse) root of the squares of `value` added up over its last axis, and not below `EPSILON`."""
    if node.op != root or node.input(0).node.op != "tfl.MAXIMUM":
        return False
    first, second = node.input(0).node.input(0), node.input(0).node.input(1)
    for total, least in ((first, second), (second, first)):
        number = known_array(least, limit=8)
        if number is not None and number.size == 1 and abs(float(number.reshape(())) / EPSILON - 1) < 1e-3:
            return total.node.op == "tfl.SUM" and _is_sum_of_squares(total.node, value)
    return False


def _is_sum_of_squares(node: Node, value: Value) -> bool:
    squares, axes, rank = node.input(0).node, known_array(node.input(1)), value.shape.rank
    if rank is None or axes is None or not node.attrs.get("keep_dims"):
        return False
    if [int(axis) % rank for axis in axes.reshape(-1)] != [rank - 1]:
        return False
    if squares.op == "tfl.SQUARE":
        return squares.input(0) is value
    return squares.op == "tfl.MUL" and squares.input(0) is value and squares.input(1) is value
