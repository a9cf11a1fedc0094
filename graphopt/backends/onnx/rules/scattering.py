"""Elements put into places that indices name, and reductions over rows that belong together."""

from __future__ import annotations

import numpy as np

from graphopt.backends.legalization import Array, Lowering, shaped
from graphopt.backends.onnx.rules.common import as_int64, cast
from graphopt.backends.onnx.table import RULES
from graphopt.ir.known import known_array
from graphopt.ir.tensors import tensor
from graphopt.ir.types import BOOL, INT64, TensorType
from graphopt.ir.value import Value

SCATTERS = {
    "tf.TensorScatterUpdate": b"none", "tf.TensorScatterAdd": b"add", "tf.TensorScatterMax": b"max",
    "tf.TensorScatterMin": b"min",
}  # fmt: skip
SEGMENTS = {"Sum": b"add", "Prod": b"mul", "Max": b"max", "Min": b"min"}


@RULES.legalize(*SCATTERS)
def scatter(op: Lowering) -> Value:
    """A tensor with some slices replaced, added to, or compared with."""
    return op.emit("ScatterND", op.input(0), as_int64(op, op.input(1)), op.input(2), reduction=SCATTERS[op.node.op])


@RULES.legalize("tf.TensorScatterSub")
def scatter_difference(op: Lowering) -> Value:
    """A tensor with something taken from some slices."""
    return op.step("TensorScatterAdd", op.input(0), op.input(1), op.step("Neg", op.input(2)))


@RULES.legalize("tf.ScatterNd")
def scatter_into_zeros(op: Lowering) -> Value:
    """Slices added to a tensor of zeros."""
    value = _filled(op, as_int64(op, op.input(2)), np.zeros(1, op.type.dtype.numpy), op.type)
    kind = b"none" if op.type.dtype is BOOL or op.type.dtype.name == "string" else b"add"
    return op.emit("ScatterND", value, as_int64(op, op.input(0)), op.input(1), reduction=kind)


@RULES.legalize("tf.SparseToDense")
def sparse_to_dense(op: Lowering) -> Value:
    """Values at the places that indices name, and a default elsewhere."""
    indices, shape, values, default = op.inputs
    base = op.step("Fill", shape, default)
    rank = shape.shape[0] if shape.shape.dims else None
    if not isinstance(rank, int):
        op.refuse("the rank of its result is not known", "give the inputs shapes (set-shapes)")
    if op.rank(indices) < 2:
        indices = op.step("Reshape", indices, op.integers([-1, rank], name=f"{op.node.name}/rows"))
    if op.rank(values) == 0:
        many = op.step("Shape", indices, out_type=INT64)
        count = op.step("Slice", many, op.integers([0]), op.integers([1]))
        values = op.step("BroadcastTo", values, count)
    return op.emit("ScatterND", base, as_int64(op, indices), values, type=op.type, reduction=b"none")


@RULES.legalize("tf.UnsortedSegmentSum", "tf.UnsortedSegmentProd", "tf.UnsortedSegmentMax", "tf.UnsortedSegmentMin")
def unsorted_segments(op: Lowering) -> Value:
    """Sums, products or extrema of rows in any order; rows of a segment below zero go into one more, which is cut
    off."""
    value, numbers, many = op.inputs
    kind = op.node.op_type.removeprefix("UnsortedSegment")
    count, held = cast(op, many, INT64), known_array(numbers)
    if known_array(many) is not None:
        count = as_int64(op, many)
    places = as_int64(op, numbers)
    is_spare = held is None or bool((held < 0).any())
    rows = count
    if is_spare:
        rows = op.step("AddV2", count, op.scalar(1, count))
        places = op.step("SelectV2", op.step("Less", places, op.scalar(0, places)), count, places)
    inner = _inner_sizes(op, value, op.rank(numbers))
    first = op.step("Reshape", rows, op.integers([1], name=f"{op.node.name}/vector"))
    shape = first if inner is None else op.step("ConcatV2", first, inner, op.integers(0), N=2)
    dims = (None, *(value.shape.dims or ())[op.rank(numbers) :])
    base = _filled(op, shape, np.array([_neutral(kind, value)], value.dtype.numpy), shaped(value.dtype, dims))
    column = op.step("ExpandDims", places, op.integers(-1, name=f"{op.node.name}/last"))
    name = f"{op.node.name}/scattered"
    made = op.emit("ScatterND", base, column, value, type=base.type, name=name, reduction=SEGMENTS[kind])
    if not is_spare:
        return made
    zero, end = op.constant(np.array([0]), f"{op.node.name}/first"), op.step("Reshape", count, op.integers([1]))
    return op.emit("Slice", made, zero, end, zero)


def _inner_sizes(op: Lowering, value: Value, outer: int) -> Value | None:
    """The sizes of what a segment's rows are made of, None where they are single elements."""
    if op.rank(value) == outer:
        return None
    dims = (value.shape.dims or ())[outer:]
    if all(isinstance(dim, int) for dim in dims):
        return op.constant(np.array(dims, np.int64), name=f"{op.node.name}/inner")
    shape = op.step("Shape", value, out_type=INT64)
    return op.step("Slice", shape, op.integers([outer]), op.integers([-1]))


def _neutral(kind: str, value: Value) -> float | int:
    """What TensorFlow has for a segment without rows."""
    if kind in ("Sum", "Prod"):
        return int(kind == "Prod")
    limits = np.iinfo(value.dtype.numpy) if value.dtype.is_integer else np.finfo(value.dtype.numpy)
    return limits.min if kind == "Max" else limits.max


def _filled(op: Lowering, shape: Value, number: Array, kind: TensorType) -> Value:
    return op.emit("ConstantOfShape", shape, value=tensor(number), type=kind, name=f"{op.node.name}/filled")


@RULES.legalize("tf.SegmentSum", "tf.SegmentProd", "tf.SegmentMax", "tf.SegmentMin")
def sorted_segments(op: Lowering) -> Value:
    """Reductions of rows that follow one another; of no rows, extrema are zero."""
    value, numbers = op.input(0), op.input(1)
    found = op.step(f"Unsorted{op.node.op_type}", value, numbers, _segments(op, numbers))
    if op.node.op in ("tf.SegmentSum", "tf.SegmentProd"):
        return found
    counts = _counts(op, value, numbers)
    return op.step("SelectV2", op.step("Equal", counts, op.scalar(0, counts)), op.scalar(0, value), found)


@RULES.legalize("tf.SegmentMean")
def segment_mean(op: Lowering) -> Value:
    """Means of rows that follow one another; of no rows it is zero."""
    value, numbers = op.input(0), op.input(1)
    counts = _counts(op, value, numbers)
    counts = op.step("Maximum", counts, op.scalar(1, counts))
    total = op.step("SegmentSum", value, numbers)
    counts = op.step("Cast", counts, SrcT=counts.dtype, DstT=value.dtype)
    return op.step("RealDiv" if value.dtype.is_float else "TruncateDiv", total, counts)


def _segments(op: Lowering, numbers: Value) -> Value:
    """How many segments there are: one more than the largest number."""
    return op.step("AddV2", op.step("Max", numbers, op.integers([0]), keep_dims=False), op.scalar(1, numbers))


def _counts(op: Lowering, value: Value, numbers: Value) -> Value:
    """How many rows each segment has, with axes of size one for the other dimensions of `value`."""
    ones = op.step("OnesLike", numbers)
    counts = op.step("SegmentSum", ones, numbers)
    if op.rank(value) == 1:
        return counts
    return op.step("Reshape", counts, op.integers([-1, *[1] * (op.rank(value) - 1)], name=f"{op.node.name}/rows"))
