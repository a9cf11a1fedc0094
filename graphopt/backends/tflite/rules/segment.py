"""Reductions over rows that belong together, by the number of the segment that each belongs to."""

from __future__ import annotations

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.backends.tflite.rules.common import as_int32
from graphopt.backends.tflite.rules.kernels import compute
from graphopt.backends.tflite.table import RULES
from graphopt.ir.known import known_array
from graphopt.ir.types import INT32
from graphopt.ir.value import Value

UNSORTED = {
    "tf.UnsortedSegmentSum": "UNSORTED_SEGMENT_SUM", "tf.UnsortedSegmentProd": "UNSORTED_SEGMENT_PROD",
    "tf.UnsortedSegmentMax": "UNSORTED_SEGMENT_MAX", "tf.UnsortedSegmentMin": "UNSORTED_SEGMENT_MIN",
}  # fmt: skip
SORTED = {
    "tf.SegmentProd": "UnsortedSegmentProd", "tf.SegmentMax": "UnsortedSegmentMax",
    "tf.SegmentMin": "UnsortedSegmentMin",
}  # fmt: skip


@RULES.legalize("tf.SegmentSum")
def segment_sum(op: Lowering) -> Value:
    """Sums of rows that follow one another. LiteRT's own operator accepts no number of a segment left out, so that it
    serves where the numbers are constant, and sums of rows in any order otherwise."""
    value, numbers = op.input(0), as_int32(op, op.input(1))
    held = known_array(numbers)
    if held is not None and held.size and not held[0] and set(np.diff(held).tolist()) <= {0, 1}:
        return compute(op, "SEGMENT_SUM", value, numbers)
    return op.step("UnsortedSegmentSum", value, numbers, _segments(op, numbers))


@RULES.legalize(*UNSORTED)
def unsorted_segments(op: Lowering) -> Value:
    """Sums, products or extrema of rows in any order."""
    return compute(op, UNSORTED[op.node.op], op.input(0), as_int32(op, op.input(1)), as_int32(op, op.input(2)))


@RULES.legalize(*SORTED)
def sorted_segments(op: Lowering) -> Value:
    """Products or extrema of rows that follow one another; segments without rows have extrema of zero."""
    value, numbers = op.input(0), as_int32(op, op.input(1))
    found = op.step(SORTED[op.node.op], value, numbers, _segments(op, numbers))
    if op.node.op == "tf.SegmentProd":
        return found
    counts = _counts(op, value, numbers)
    return op.step("SelectV2", op.step("Equal", counts, op.scalar(0, counts)), op.scalar(0, value), found)


@RULES.legalize("tf.SegmentMean")
def segment_mean(op: Lowering) -> Value:
    """Means of rows that follow one another; of no rows it is zero."""
    value, numbers = op.input(0), as_int32(op, op.input(1))
    counts = _counts(op, value, numbers)
    counts = op.step("Maximum", counts, op.scalar(1, counts))
    total = op.step("SegmentSum", value, numbers)
    if value.dtype is not INT32:
        counts = op.step("Cast", counts, SrcT=INT32, DstT=value.dtype, Truncate=False)
    return op.step("RealDiv" if value.dtype.is_float else "TruncateDiv", total, counts)


@RULES.legalize("tf.SparseSegmentSum", "tf.SparseSegmentMean", "tf.SparseSegmentSqrtN")
def picked_segments(op: Lowering) -> Value:
    """Sums or means of rows that indices pick; or sums divided by the root of their count."""
    value, numbers = op.input(0), op.input(2)
    rows = op.step("GatherV2", value, op.input(1), op.integers(0, name=f"{op.node.name}/axis"))
    if op.node.op != "tf.SparseSegmentSqrtN":
        return op.step(op.node.op_type.removeprefix("Sparse"), rows, numbers)
    counts = _counts(op, value, as_int32(op, numbers))
    counts = op.step("Cast", op.step("Maximum", counts, op.scalar(1, counts)), SrcT=INT32, DstT=value.dtype)
    return op.step("RealDiv", op.step("SegmentSum", rows, numbers), op.step("Sqrt", counts))


def _segments(op: Lowering, numbers: Value) -> Value:
    """How many segments there are: one more than the largest number."""
    axes = op.integers([0], name=f"{op.node.name}/axes")
    one = op.integers(1, name=f"{op.node.name}/one")
    return op.step("AddV2", op.step("Max", numbers, axes, keep_dims=False), one)


def _counts(op: Lowering, value: Value, numbers: Value) -> Value:
    """How many rows each segment has, with axes of size one for the other dimensions of `value`."""
    shape = op.step("Shape", numbers, out_type=INT32)
    ones = op.step("Fill", shape, op.integers(1, name=f"{op.node.name}/one"))
    counts = op.step("SegmentSum", ones, numbers)
    if op.rank(value) == 1:
        return counts
    wanted = op.integers([-1, *[1] * (op.rank(value) - 1)], name=f"{op.node.name}/rows")
    return op.step("Reshape", counts, wanted)
