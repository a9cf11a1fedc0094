"""Tensors made of several, and parts put in another order."""

from __future__ import annotations

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.backends.onnx.rules.common import as_int64, longs, transpose
from graphopt.backends.onnx.table import RULES
from graphopt.ir.types import Shape, TensorType
from graphopt.ir.value import Value

LIMIT = int(np.iinfo(np.int64).max)


@RULES.legalize("tf.ConcatV2", "tf.Concat", "tf.ParallelConcat")
def concatenation(op: Lowering) -> Value:
    """Tensors joined along an axis; what is known to be empty is left out."""
    place = {"tf.ConcatV2": len(op.inputs) - 1, "tf.Concat": 0}.get(op.node.op)
    axis = 0 if place is None else op.whole(place, "the axis")
    values = [value for number, value in enumerate(op.inputs) if number != place]
    filled = [value for value in values if value.shape.static is None or value.shape.size] or values[:1]
    if len(filled) == 1 and filled[0].shape.merged(op.type.shape) is not None:
        return filled[0]
    return op.emit("Concat", *filled, axis=axis)


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
        held = op.known(place)
        if held is not None:
            parts.append(op.constant(np.expand_dims(held, axis), name=f"{op.node.name}/part_{place}"))
            continue
        name = f"{op.node.name}/part_{place}"
        parts.append(op.emit("Unsqueeze", value, longs(op, [axis], "axes"), type=made, name=name))
    return parts[0] if len(parts) == 1 else op.emit("Concat", *parts, axis=axis)


@RULES.legalize("tf.ReverseV2")
def reversed_axes(op: Lowering) -> Value:
    """Axes read from their ends."""
    axes = [int(axis) for axis in op.constant_input(1, "which axes").reshape(-1)]
    if not axes:
        return op.input(0)
    count = len(axes)
    return op.emit(
        "Slice", op.input(0), longs(op, [-1] * count, "starts"), longs(op, [-LIMIT] * count, "ends"),
        longs(op, axes, "axes"), longs(op, [-1] * count, "steps"),
    )  # fmt: skip


@RULES.legalize("tf.ReverseSequence")
def reverse_sequence(op: Lowering) -> Value:
    """The beginning of each sequence backwards; batch and time come first for it."""
    value, rank = op.input(0), op.rank(op.input(0))
    batch, time = (int(op.attr(name)) % rank for name in ("batch_dim", "seq_dim"))
    order = list(range(rank)) if {batch, time} == {0, 1} else [batch, time]
    order += [axis for axis in range(rank) if axis not in order]
    moved = transpose(op, value, order, "batch_first")
    made = op.emit(
        "ReverseSequence", moved, as_int64(op, op.input(1)), type=moved.type, name=f"{op.node.name}/reversed",
        batch_axis=order.index(batch), time_axis=order.index(time),
    )  # fmt: skip
    return transpose(op, made, [order.index(axis) for axis in range(rank)], "back")
