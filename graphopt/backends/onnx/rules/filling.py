"""Tensors of a given shape, sizes and shapes."""

from __future__ import annotations

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.backends.onnx.rules.common import as_int64, cast, longs
from graphopt.backends.onnx.table import RULES
from graphopt.ir.tensors import tensor
from graphopt.ir.types import INT64, Shape, TensorType
from graphopt.ir.value import Value

UNKNOWN = TensorType(INT64, Shape(None))


@RULES.legalize("tf.Fill")
def fill(op: Lowering) -> Value:
    """One value throughout a shape."""
    value, shape = op.known(1), as_int64(op, op.input(0))
    if value is not None:
        return op.emit("ConstantOfShape", shape, value=tensor(value.reshape(1)))
    return op.emit("Expand", op.input(1), shape)


@RULES.legalize("tf.ZerosLike", "tf.OnesLike")
def same_shape(op: Lowering) -> Value:
    """Zeros or ones in the shape of another tensor."""
    number = np.full(1, op.node.op == "tf.OnesLike", op.type.dtype.numpy)
    kind = TensorType(INT64, Shape((len(op.type.shape.dims),) if op.type.shape.dims is not None else None))
    shape = op.emit("Shape", op.input(0), type=kind, name=f"{op.node.name}/shape")
    return op.emit("ConstantOfShape", shape, value=tensor(number))


@RULES.legalize("tf.BroadcastTo")
def broadcast(op: Lowering) -> Value:
    """A tensor stretched to a shape."""
    return op.emit("Expand", op.input(0), as_int64(op, op.input(1)))


@RULES.legalize("tf.Empty")
def zeros(op: Lowering) -> Value:
    """A tensor whose elements do not matter: zeros."""
    number = np.zeros(1, op.type.dtype.numpy)
    return op.emit("ConstantOfShape", as_int64(op, op.input(0)), value=tensor(number))


@RULES.legalize("tf.BroadcastArgs")
def broadcast_shapes(op: Lowering) -> Value:
    """The shape that two shapes broadcast to: that of ones stretched to both."""
    first, second = (as_int64(op, value) for value in op.inputs)
    held = tensor(np.ones(1, np.int64))
    ones = op.emit("ConstantOfShape", first, value=held, type=UNKNOWN, name=f"{op.node.name}/ones")
    both = op.emit("Expand", ones, second, type=UNKNOWN, name=f"{op.node.name}/both")
    made = op.emit("Shape", both, type=TensorType(INT64, op.type.shape), name=f"{op.node.name}/int64")
    return cast(op, made, op.type.dtype)


@RULES.legalize("tf.Range")
def numbers(op: Lowering) -> Value:
    """Numbers from one to another."""
    return op.emit("Range", *op.inputs)


@RULES.legalize("tf.Size")
def size(op: Lowering) -> Value:
    """The number of elements."""
    made = op.emit("Size", op.input(0), type=TensorType(INT64, Shape(())), name=f"{op.node.name}/int64")
    return made if op.type.dtype is INT64 else cast(op, made, op.type.dtype)


@RULES.legalize("tf.Rank")
def rank(op: Lowering) -> Value:
    """The number of dimensions, where it is known."""
    return op.constant(np.array(op.rank(op.input(0)), op.type.dtype.numpy))


@RULES.legalize("tf.MirrorPad")
def mirror_pad(op: Lowering) -> Value:
    """Margins that repeat what they border on; a symmetric one, with the border itself, is put together of slices."""
    pads = op.constant_input(1, "the padding")
    if not pads.any():
        return op.input(0)
    if op.text("mode") == "REFLECT":
        return op.emit("Pad", op.input(0), longs(op, [int(n) for n in pads.T.reshape(-1)], "pads"), mode=b"reflect")
    value = op.input(0)
    for axis, (before, after) in enumerate(pads.tolist()):
        if before or after:
            value = _mirrored(op, value, axis, int(before), int(after))
    return op.emit("Identity", value)


def _mirrored(op: Lowering, value: Value, axis: int, before: int, after: int) -> Value:
    open_type = TensorType(op.type.dtype, Shape(None))
    limit = int(np.iinfo(np.int64).max)

    def part(first: int, last: int) -> Value:
        return op.emit(
            "Slice", value, longs(op, [first], "starts"), longs(op, [last], "ends"), longs(op, [axis], "axes"),
            longs(op, [-1], "steps"), type=open_type, name=f"{op.node.name}/margin",
        )  # fmt: skip

    parts = [value]
    if before:
        parts.insert(0, part(before - 1, -limit))
    if after:
        parts.append(part(limit, -after - 1))
    return op.emit("Concat", *parts, type=open_type, name=f"{op.node.name}/mirrored", axis=axis)
