"""Operators that move elements."""

from __future__ import annotations

import numpy as np

from graphopt.backends.legalization import Array, Lowering
from graphopt.backends.onnx.rules.common import as_int64, cast, longs
from graphopt.backends.onnx.table import RULES
from graphopt.ir.types import INT64, TensorType
from graphopt.ir.value import Value


@RULES.legalize("tf.Reshape")
def reshaped(op: Lowering) -> Value:
    """The same elements in another shape; a constant one where at most one dimension is not known."""
    dims = op.type.shape.dims
    if dims is not None and sum(not isinstance(dim, int) for dim in dims) <= 1 and 0 not in dims:
        wanted = [dim if isinstance(dim, int) else -1 for dim in dims]
        return op.emit("Reshape", op.input(0), longs(op, wanted, "shape"))
    return op.emit("Reshape", op.input(0), as_int64(op, op.input(1)), allowzero=1)


@RULES.legalize("tf.Squeeze")
def squeezed(op: Lowering) -> Value:
    """Dimensions of one left out."""
    axes = op.attr("squeeze_dims") or ()
    return op.emit("Squeeze", op.input(0), longs(op, axes, "axes")) if axes else op.emit("Squeeze", op.input(0))


@RULES.legalize("tf.ExpandDims")
def expanded(op: Lowering) -> Value:
    """A dimension of one put in."""
    axis = op.whole(1, "the axis")
    return op.emit("Unsqueeze", op.input(0), longs(op, [axis], "axes"))


@RULES.legalize("tf.Transpose")
def transposed(op: Lowering) -> Value:
    """Axes in another order."""
    order, rank = op.constant_input(1, "the permutation"), len(op.constant_input(1, "the permutation"))
    return op.emit("Transpose", op.input(0), perm=tuple(int(axis) % rank for axis in order))


@RULES.legalize("tf.Pad", "tf.PadV2")
def pad(op: Lowering) -> Value:
    """A constant around a tensor."""
    pads = op.known(1)
    value = op.input(2) if op.node.op == "tf.PadV2" else None
    if pads is None:
        return _pad_computed(op, value)
    if any(user.op_type.startswith("MaxPool") for user in op.node.output.users):
        return _pad_by_axes(op, pads, value)
    flat = longs(op, [int(n) for n in pads.T.reshape(-1)], "pads")
    return op.emit("Pad", op.input(0), flat, *([value] if value is not None else []), mode=b"constant")


def _pad_computed(op: Lowering, value: Value | None) -> Value:
    """Margins that are computed: what comes before each axis, then what comes behind."""
    order = op.integers([1, 0], name=f"{op.node.name}/order")
    columns = op.step("Transpose", op.input(1), order)
    flat = op.step("Reshape", columns, op.integers([-1], name=f"{op.node.name}/flat"))
    return op.emit("Pad", op.input(0), as_int64(op, flat), *([value] if value is not None else []), mode=b"constant")


def _pad_by_axes(op: Lowering, pads: Array, value: Value | None) -> Value:
    """The same with the axes named: ONNX Runtime 1.31 would make zeros around a maximum its own padding, which is
    minus infinity, and only leaves margins alone that are written so."""
    axes = [axis for axis, pair in enumerate(pads) if pair.any()]
    flat = longs(op, [int(n) for n in pads[axes].T.reshape(-1)], "pads")
    zero = op.constant(np.zeros((), op.type.dtype.numpy), name=f"{op.node.name}/zero") if value is None else value
    return op.emit("Pad", op.input(0), flat, zero, longs(op, axes, "axes"), mode=b"constant")


@RULES.legalize("tf.Shape", "tf.ShapeN")
def shapes(op: Lowering) -> list[Value]:
    """Shapes, as int64 in ONNX."""
    return [
        cast(
            op,
            op.emit("Shape", value, type=TensorType(INT64, output.shape), name=f"{op.node.name}/int64"),
            output.dtype,
        )
        for value, output in zip(op.inputs, op.node.outputs, strict=True)
    ]


@RULES.legalize("tf.Tile")
def tile(op: Lowering) -> Value:
    """A tensor repeated along its axes."""
    return op.emit("Tile", op.input(0), as_int64(op, op.input(1)))
