"""What becomes of ONNX's operators whose operands' axes are permuted; see `permuting`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphopt.ir.known import known_tensor
from graphopt.ir.value import Node
from graphopt.passes.rules.permuting import Permutation, Plan, constant_vector, elementwise, inverse, replace_constant

_ELEMENTWISE = """
    Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast Ceil Celu Clip
    Cos Cosh Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN
    LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Shrink
    Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor
"""
_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
ELEMENTWISE = frozenset(f"onnx.{name}" for name in _ELEMENTWISE.split())
REDUCTIONS = frozenset(f"onnx.Reduce{name}" for name in _REDUCTIONS)
BY_AXIS = frozenset({"onnx.Concat", "onnx.Softmax", "onnx.LogSoftmax", "onnx.Hardmax", "onnx.Split"})
QUANTIZED = frozenset({"onnx.QuantizeLinear", "onnx.DequantizeLinear"})


def plan_for(node: Node, rank: int) -> Plan | None:
    """How to permute a node whose results are of `rank`, or None where it is not permutable."""
    if node.control_inputs or node.control_users or any(value.is_input for value in node.outputs):
        return None
    if any(value.shape.rank != rank for value in node.outputs):
        return None
    if node.op in ELEMENTWISE:
        return elementwise(node, rank)
    if node.op in BY_AXIS:
        return _by_axis(node)
    make = _OTHERS.get(node.op)
    if make is not None:
        return make(node, rank)
    if node.op in REDUCTIONS and node.attrs.get("keepdims", 1) and constant_vector(node, 1) is not None:
        return Plan((0,), lambda one, order: _renumber(one, 1, order))
    return None


def absorbs(node: Node, order: Permutation) -> bool:
    """A reduction of all the axes that `order` moves: what is left is in the order it was."""
    if node.op not in REDUCTIONS or node.attrs.get("keepdims", 1) or node.control_inputs:
        return False
    axes = constant_vector(node, 1)
    if axes is None:
        return False
    reduced = {int(axis) % len(order) for axis in axes.reshape(-1)}
    left = [order[place] for place in range(len(order)) if place not in reduced]
    return left == sorted(left)


def absorb(node: Node, order: Permutation) -> None:
    """Renumber the axes of an absorbing reduction for what it reads before the permutation."""
    _renumber(node, 1, order)


def _renumber(node: Node, index: int, order: Permutation) -> None:
    replace_constant(node, index, lambda array: np.array([order[int(axis) % len(order)] for axis in array.reshape(-1)]))


def _by_axis(node: Node) -> Plan:
    """The axis is an attribute; a split's sizes are no data."""
    count = 1 if node.op == "onnx.Split" else node.input_count
    return Plan(range(count), _renumber_attribute)


def _renumber_attribute(node: Node, order: Permutation) -> None:
    axis = int(node.attrs.get("axis", 0 if node.op == "onnx.Split" else -1))
    node.attrs = {**node.attrs, "axis": order[axis % len(order)]}


def _pad(node: Node, rank: int) -> Plan | None:
    pads = constant_vector(node, 1)
    if node.input_count == 4 and node.inputs[3] is not None:
        if constant_vector(node, 3) is None:
            return None
        return Plan((0,), lambda one, order: _renumber(one, 3, order))
    if pads is None or len(pads) != 2 * rank:
        return None

    def change(one: Node, order: Permutation) -> None:
        back = list(inverse(order))
        replace_constant(one, 1, lambda array: array.reshape(2, -1)[:, back].reshape(-1))

    return Plan((0,), change)


def _slice(node: Node, rank: int) -> Plan | None:
    """Bounds stay as they are where the axes are named: those are renumbered."""
    if node.input_count < 4 or node.inputs[3] is None or constant_vector(node, 3) is None:
        return None
    return Plan((0,), lambda one, order: _renumber(one, 3, order))


def _tile(node: Node, rank: int) -> Plan | None:
    if constant_vector(node, 1) is None:
        return None
    return Plan((0,), lambda one, order: replace_constant(one, 1, lambda array: array[list(inverse(order))]))


def _extreme(node: Node, rank: int) -> Plan | None:
    return Plan((0,), _renumber_attribute) if node.attrs.get("keepdims", 1) and "axis" in node.attrs else None


def _gather(node: Node, rank: int) -> Plan | None:
    """A vector of places along an axis."""
    indices = node.input(1)
    if node.input(0).shape.rank != rank or indices.shape.rank != 1 or "axis" not in node.attrs:
        return None
    return Plan((0,), _renumber_attribute)


def _quantized(node: Node, rank: int) -> Plan | None:
    """Scales of the whole tensor, or of an axis."""
    scale = known_tensor(node.input(1))
    if scale is None or len(scale.shape) > 1 or node.attrs.get("block_size"):
        return None
    return Plan((0,), _renumber_attribute if scale.size > 1 else _nothing)


def _nothing(node: Node, order: Permutation) -> None:
    """Nothing of the node itself depends on the order of axes."""


_OTHERS: dict[str, Callable[[Node, int], Plan | None]] = {
    "onnx.Pad": _pad,
    "onnx.Slice": _slice,
    "onnx.Tile": _tile,
    "onnx.ArgMax": _extreme,
    "onnx.ArgMin": _extreme,
    "onnx.Gather": _gather,
    **dict.fromkeys(QUANTIZED, _quantized),
}
