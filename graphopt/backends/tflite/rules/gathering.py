"""Elements found by indices."""

from __future__ import annotations

import numpy as np

from graphopt.backends.legalization import Array, Lowering
from graphopt.backends.tflite.rules.common import as_int32
from graphopt.backends.tflite.rules.kernels import move
from graphopt.backends.tflite.rules.reshaping import reshaped
from graphopt.backends.tflite.table import RULES
from graphopt.ir.known import known_array
from graphopt.ir.types import INT32, INT64
from graphopt.ir.value import Value


@RULES.legalize("tf.GatherV2", "tf.Gather")
def gather(op: Lowering) -> Value:
    """Slices along a constant axis, for each member of the batch its own where there are batch dimensions."""
    axis = op.whole(2, "its axis") if op.node.op == "tf.GatherV2" else 0
    value, indices = op.input(0), _indices(op, op.input(1))
    batch = int(op.attr("batch_dims", 0) or 0)
    if axis < 0:
        axis += op.rank(value)
    if batch < 0:
        batch += op.rank(indices)
    held = known_array(indices, limit=8)
    dims = value.shape.dims
    if held is not None and held.ndim == 0 and dims is not None and dims[axis] == 1:
        found = reshaped(op, value, op.type.shape.dims)
        if found is not None:
            return found
    return move(op, "GATHER", value, indices, axis=axis, batch_dims=batch)


@RULES.legalize("tf.GatherNd")
def gather_nd(op: Lowering) -> Value:
    """Slices that indices of several axes name."""
    return move(op, "GATHER_ND", op.input(0), _indices(op, op.input(1)))


@RULES.legalize("tf.DynamicStitch", "tf.ParallelDynamicStitch")
def stitch(op: Lowering) -> Value:
    """Rows interleaved by constant indices: all of them joined, and gathered in their order."""
    count = len(op.inputs) // 2
    places = [op.constant_input(number, "an index") for number in range(count)]
    order = _last_row_for_each_place(op, np.concatenate([item.reshape(-1) for item in places]))
    rows = []
    for item, data in zip(places, op.inputs[count:], strict=True):
        if item.ndim == 1:
            rows.append(data)
        elif item.size:
            flat = reshaped(op, data, (item.size, *(data.shape.dims or ())[item.ndim :]), name=f"{op.node.name}/rows")
            if flat is None:
                op.refuse("the shape of its rows is not known", "give the inputs shapes (set-shapes)")
            rows.append(flat)
    axis = op.integers(0, name=f"{op.node.name}/axis")
    joined = rows[0] if len(rows) == 1 else op.step("ConcatV2", *rows, axis, N=len(rows))
    if order.tolist() == list(range(sum(item.size for item in places))):
        return joined
    return op.step("GatherV2", joined, op.integers(order, name=f"{op.node.name}/order"), axis, batch_dims=0)


def _last_row_for_each_place(op: Lowering, places: Array) -> Array:
    order = np.full(int(places.max()) + 1 if places.size else 0, -1)
    order[places] = np.arange(places.size)
    if (order < 0).any():
        op.refuse("no row is given for some of its places")
    return order


def _indices(op: Lowering, value: Value) -> Value:
    """Indices in a type that the kernels take; constants as int32."""
    if value.dtype is INT64 and known_array(value) is not None:
        return as_int32(op, value)
    if value.dtype not in (INT32, INT64) and value.dtype.is_integer:
        return op.step("Cast", value, SrcT=value.dtype, DstT=INT32, Truncate=False)
    return value
