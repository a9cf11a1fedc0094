"""Elements found by indices, chosen by conditions, put together from parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.backends.legalization import Lowering, shaped
from graphopt.backends.onnx.rules.common import as_int64, transpose
from graphopt.backends.onnx.table import RULES
from graphopt.ir.types import BOOL, INT32, INT64, STRING, Shape, TensorType
from graphopt.ir.value import Value


@RULES.legalize("tf.GatherV2", "tf.Gather", "tf.ResourceGather")
def gather(op: Lowering) -> Value:
    """Slices along an axis, chosen by indices; where they differ from batch to batch, elements of each batch."""
    axis = op.whole(2, "the axis") if op.node.op == "tf.GatherV2" else 0
    batch = int(op.attr("batch_dims") or 0)
    if not batch:
        return op.emit("Gather", op.input(0), _indices(op, op.input(1)), axis=axis)
    value, indices = op.input(0), op.input(1)
    rank, places = op.rank(value), op.rank(indices)
    batch += places if batch < 0 else 0
    axis += rank if axis < 0 else 0
    first = transpose(op, value, (*range(batch), axis, *range(batch, axis), *range(axis + 1, rank)), "axis_first")
    column = op.step("ExpandDims", as_int64(op, indices), op.integers(-1, name=f"{op.node.name}/last"))
    between, chosen = axis - batch, places - batch
    dims = (*(indices.shape.dims or ()), *(first.shape.dims or ())[batch + 1 :])
    kind = TensorType(op.type.dtype, Shape(dims))
    found = op.emit("GatherND", first, column, type=kind, name=f"{op.node.name}/found", batch_dims=batch)
    moved = (*range(places, places + between), *range(batch, places))
    order = (*range(batch), *moved, *range(batch + chosen + between, len(dims)))
    return transpose(op, found, order, "axis_back")


def _indices(op: Lowering, value: Value) -> Value:
    return value if value.dtype in (INT32, INT64) else as_int64(op, value)


@RULES.legalize("tf.GatherNd")
def gather_nd(op: Lowering) -> Value:
    """Elements or slices, each chosen by a vector of indices."""
    return op.emit("GatherND", op.input(0), as_int64(op, op.input(1)))


@RULES.legalize("tf.Where")
def where(op: Lowering) -> Value:
    """Places of elements that are not zero, one row each."""
    kind = shaped(INT64, [op.input(0).shape.rank, None])
    found = op.emit("NonZero", op.input(0), type=kind, name=f"{op.node.name}/columns")
    return op.emit("Transpose", found, perm=(1, 0))


@RULES.legalize("tf.DynamicPartition")
def partition(op: Lowering) -> list[Value]:
    """Rows by the number of the part that each belongs to."""
    value, numbers = op.inputs
    if op.rank(numbers) != 1:
        inner = (value.shape.dims or ())[op.rank(numbers) :]
        if not all(isinstance(dim, int) for dim in inner):
            op.refuse("the shape of its rows is not known", "give the inputs shapes (set-shapes)")
        value = op.step("Reshape", value, op.integers([-1, *inner], name=f"{op.node.name}/rows"))
        numbers = op.step("Reshape", numbers, op.integers([-1], name=f"{op.node.name}/vector"))
    return [
        op.emit(
            "Compress", value, op.step("Equal", numbers, op.scalar(place, numbers)), type=output.type,
            name=f"{op.node.name}/{place}", axis=0,
        )
        for place, output in enumerate(op.node.outputs)
    ]  # fmt: skip


@RULES.legalize("tf.DynamicStitch", "tf.ParallelDynamicStitch")
def stitch(op: Lowering) -> Value:
    """Rows put where indices say, a later one over an earlier one."""
    count = len(op.inputs) // 2
    axis = op.integers(0, name=f"{op.node.name}/axis")
    inner = list((op.type.shape.dims or ())[1:])
    if op.type.shape.dims is None or not all(isinstance(dim, int) for dim in inner):
        op.refuse("the shape of its rows is not known", "give the inputs shapes (set-shapes)")
    places = [op.step("Reshape", value, op.integers([-1, 1])) for value in op.inputs[:count]]
    rows = [op.step("Reshape", value, op.integers([-1, *inner])) for value in op.inputs[count:]]
    index = places[0] if count == 1 else op.step("ConcatV2", *places, axis, N=count)
    data = rows[0] if count == 1 else op.step("ConcatV2", *rows, axis, N=count)
    size = op.step("AddV2", op.step("Max", index, op.integers([0, 1]), keep_dims=False), op.integers(1))
    return op.step("ScatterNd", index, data, op.step("Pack", size, *map(op.integers, inner), axis=0, N=1 + len(inner)))


@RULES.legalize("tf.OneHot")
def one_hot(op: Lowering) -> Value:
    """One value at the place that an index names, another one elsewhere; an index out of bounds names none."""
    indices, depth, on, off = op.inputs
    axis = op.integers(int(op.attr("axis")), name=f"{op.node.name}/axis")
    if indices.dtype not in (INT32, INT64):
        indices = op.step("Cast", indices, SrcT=indices.dtype, DstT=INT64)
    many = op.known(1)
    if many is not None:
        numbers = op.constant(np.arange(int(many.reshape(()))).astype(indices.dtype.numpy), f"{op.node.name}/numbers")
    else:
        limit = op.step("Cast", depth, SrcT=depth.dtype, DstT=indices.dtype)
        numbers = op.step("Range", op.scalar(0, indices), limit, op.scalar(1, indices))
    behind = op.rank(indices) - int(op.attr("axis")) if int(op.attr("axis")) >= 0 else 0
    if behind:
        numbers = op.step("Reshape", numbers, op.integers([-1, *[1] * behind], name=f"{op.node.name}/column"))
    is_equal = op.step("Equal", op.step("ExpandDims", indices, axis), numbers)
    return _chosen(op, is_equal, on, off)


def _chosen(op: Lowering, condition: Value, on: Value, off: Value) -> Value:
    """Of two scalars the one that the condition says: ones and zeros are truth values of another type."""
    first, second = op.known(2), op.known(3)
    is_plain = first is not None and second is not None and op.type.dtype is not STRING
    if is_plain and first == 1 and second == 0:
        return condition if op.type.dtype is BOOL else op.step("Cast", condition, SrcT=BOOL, DstT=op.type.dtype)
    return op.emit("Where", condition, on, off)


@RULES.legalize("tf.InvertPermutation")
def inverted(op: Lowering) -> Value:
    """Where each place stands: the order in which the places come when they are sorted."""
    value = op.input(0)
    many = op.step("Reshape", op.step("Size", value, out_type=INT64), op.integers([1], name=f"{op.node.name}/one"))
    kinds: Sequence[TensorType] = [value.type, TensorType(INT64, value.shape)]
    attrs = {"axis": 0, "largest": 0, "sorted": 1}
    _, order = op.emit_node("TopK", (value, many), kinds, f"{op.node.name}/sorted", attrs).outputs
    return op.emit("Cast", order, to=op.type.dtype) if op.type.dtype is not INT64 else order
