"""Operators that move elements."""

from __future__ import annotations

import numpy as np

from graphopt.backends.legalization import Array, Lowering
from graphopt.backends.onnx.rules.common import as_int64, cast, longs
from graphopt.backends.onnx.table import RULES
from graphopt.ir.types import INT64, Shape, TensorType
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
    axis = int(op.constant_input(1, "the axis").reshape(-1)[0])
    return op.emit("Unsqueeze", op.input(0), longs(op, [axis], "axes"))


@RULES.legalize("tf.Transpose")
def transposed(op: Lowering) -> Value:
    """Axes in another order."""
    order = op.constant_input(1, "the permutation")
    return op.emit("Transpose", op.input(0), perm=tuple(int(axis) for axis in order))


@RULES.legalize("tf.ConcatV2")
def concatenation(op: Lowering) -> Value:
    """Tensors joined along an axis."""
    axis = int(op.constant_input(-1, "the axis"))
    return op.emit("Concat", *op.inputs[:-1], axis=axis)


@RULES.legalize("tf.Pad", "tf.PadV2")
def pad(op: Lowering) -> Value:
    """A constant around a tensor."""
    pads = op.constant_input(1, "the padding")
    value = op.input(2) if op.node.op == "tf.PadV2" else None
    if any(user.op_type.startswith("MaxPool") for user in op.node.output.users):
        return _pad_by_axes(op, pads, value)
    flat = longs(op, [int(n) for n in pads.T.reshape(-1)], "pads")
    return op.emit("Pad", op.input(0), flat, *([value] if value is not None else []), mode=b"constant")


def _pad_by_axes(op: Lowering, pads: Array, value: Value | None) -> Value:
    """The same with the axes named: ONNX Runtime 1.31 would make zeros around a maximum its own padding, which is
    minus infinity, and only leaves margins alone that are written so."""
    axes = [axis for axis, pair in enumerate(pads) if pair.any()]
    flat = longs(op, [int(n) for n in pads[axes].T.reshape(-1)], "pads")
    zero = op.constant(np.zeros((), op.type.dtype.numpy), name=f"{op.node.name}/zero") if value is None else value
    return op.emit("Pad", op.input(0), flat, zero, longs(op, axes, "axes"), mode=b"constant")


@RULES.legalize("tf.Shape")
def shape(op: Lowering) -> Value:
    """The shape, as int64 in ONNX."""
    made = op.emit("Shape", op.input(0), type=TensorType(INT64, op.type.shape), name=f"{op.node.name}/int64")
    return cast(op, made, op.type.dtype)


@RULES.legalize("tf.Tile")
def tile(op: Lowering) -> Value:
    """A tensor repeated along its axes."""
    return op.emit("Tile", op.input(0), as_int64(op, op.input(1)))


@RULES.legalize("tf.Pack")
def pack(op: Lowering) -> Value:
    """Tensors stacked along a new axis."""
    axis = int(op.attr("axis"))
    dims = op.input(0).shape.dims
    parts = []
    for place, value in enumerate(op.inputs):
        made = TensorType(value.dtype, Shape(None))
        if dims is not None:
            at = axis if axis >= 0 else axis + len(dims) + 1
            made = TensorType(value.dtype, Shape((*dims[:at], 1, *dims[at:])))
        parts.append(
            op.emit("Unsqueeze", value, longs(op, [axis], "axes"), type=made, name=f"{op.node.name}/part_{place}")
        )
    return op.emit("Concat", *parts, axis=axis)
