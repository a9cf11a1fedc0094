"""Rows put together by segment, counted, or put in places that are known."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from graphopt.backends.xla.builder import neutral
from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand
from graphopt.backends.xla.rules.indexing import take
from graphopt.backends.xla.rules.scattering import emit_scatter
from graphopt.backends.xla.table import RULES
from graphopt.ir.dimensions import KnownDim
from graphopt.ir.types import BOOL, INT32

UNSORTED = {
    "tf.UnsortedSegmentSum": "add", "tf.UnsortedSegmentMax": "maximum", "tf.UnsortedSegmentMin": "minimum",
    "tf.UnsortedSegmentProd": "multiply",
}  # fmt: skip
SORTED = {"tf.SegmentSum": "add", "tf.SegmentMax": "maximum", "tf.SegmentMin": "minimum", "tf.SegmentProd": "multiply"}
COUNTED = {f"{op}V2": kind for op, kind in SORTED.items()}
SPARSE = tuple(
    f"tf.SparseSegment{kind}{suffix}" for kind in ("Sum", "Mean", "SqrtN") for suffix in ("", "WithNumSegments")
)
FIXED = "make the segments constants, or use the unsorted form with a number of segments"


@RULES.lower(*UNSORTED)
def unsorted_segments(op: Emission) -> Operand:
    """Rows of one segment put together; a segment without rows has what changes nothing."""
    x, kind = op.input(0), UNSORTED[op.node.op]
    number = neutral(kind, x.dtype)
    if kind in ("maximum", "minimum") and x.dtype.is_float:
        limits = ml_dtypes.finfo(x.dtype.numpy)
        number = limits.min if kind == "maximum" else limits.max
    start = op.build.broadcast(op.build.constant(number, x.dtype), op.dims())
    return _gathered(op, start, x, op.input(1), kind)


def _gathered(op: Emission, start: Operand, x: Operand, owners: Operand, kind: str) -> Operand:
    vectors = op.build.reshape(owners, (*owners.dims, 1))
    return emit_scatter(op, start, vectors, x, kind)


def _count(op: Emission, place: int) -> KnownDim:
    """The number of segments: one more than the last of them. Refuses where that is no constant."""
    owners = op.known(place)
    if owners is None:
        op.refuse("how many segments there are depends on data", FIXED)
    return int(owners.reshape(-1)[-1]) + 1 if owners.size else 0


@RULES.lower(*SORTED, *COUNTED, "tf.SegmentMean")
def sorted_segments(op: Emission) -> Operand:
    """Rows of one segment put together, or their mean; a segment without rows is zero, for products one."""
    b, x, owners = op.build, op.input(0), op.input(1)
    is_counted = op.node.op in COUNTED
    count = op.dims()[0] if is_counted else _count(op, 1)
    kind = (SORTED | COUNTED).get(op.node.op, "add")
    start = b.broadcast(b.constant(neutral(kind, x.dtype), x.dtype), (count, *x.dims[1:]))
    made = _gathered(op, start, x, owners, kind)
    if kind in ("add", "multiply") and op.node.op != "tf.SegmentMean":
        return made
    sizes = _sizes(op, owners, count)
    if op.node.op == "tf.SegmentMean":
        return b.div(made, b.broadcast(b.convert(b.max(sizes, 1), x.dtype), made.dims, (0,)))
    if is_counted:
        return made
    return b.select(b.broadcast(b.compare("GT", sizes, 0), made.dims, (0,)), made, b.like(0, made))


def _sizes(op: Emission, owners: Operand, count: KnownDim) -> Operand:
    b = op.build
    return _gathered(op, b.full(0, INT32, (count,)), b.full(1, INT32, owners.dims), owners, "add")


@RULES.lower(*SPARSE)
def sparse_segments(op: Emission) -> Operand:
    """Rows picked by index and put together: sums, means, sums over the root of their number."""
    b, x, owners = op.build, op.input(0), op.input(2)
    is_counted = op.node.op.endswith("WithNumSegments")
    count = op.sizes(3, "the number of segments")[0] if is_counted else _count(op, 2)
    made = _gathered(op, b.full(0, x.dtype, (count, *x.dims[1:])), take(op, x, op.input(1), 0), owners, "add")
    if "Sum" in op.node.op:
        return made
    sizes = b.convert(b.max(_sizes(op, owners, count), 1), x.dtype)
    divisor = sizes if "Mean" in op.node.op else b.unary("sqrt", sizes)
    return b.div(made, b.broadcast(divisor, made.dims, (0,)))


# Counting ------------------------------------------------------------------------------------------------------


@RULES.lower("tf.Bincount", "tf.DenseBincount")
def bincount(op: Emission) -> Operand:
    """How often each number occurs, or the sum of its weights; numbers too large count nowhere."""
    b, x, dims = op.build, op.input(0), op.dims()
    weights = op.input(2)
    if op.node.op == "tf.Bincount":
        x = b.flat(x)
    is_weighted = weights.dims != (0,)
    given = b.reshape(weights, x.dims) if is_weighted else b.full(1, op.dtype, x.dims)
    if op.attr("binary_output"):
        given = b.full(1, op.dtype, x.dims)
    counts = b.iota(x.dtype, x.dims, 0)
    parts = [b.reshape(part, (*x.dims, 1)) for part in ([x] if x.rank == 1 else [counts, x])]
    kind = "maximum" if op.attr("binary_output") else "add"
    return emit_scatter(op, b.full(0, op.dtype, dims), b.concatenate(parts, x.rank), given, kind)


@RULES.lower("tf.HistogramFixedWidth")
def histogram(op: Emission) -> Operand:
    """How many numbers lie in each of equal parts of a range; what lies outside counts at its ends."""
    b, x, bounds = op.build, op.build.flat(op.input(0)), op.input(1)
    (count,) = op.static()
    low, high = (b.reshape(b.slice(bounds, [place], [place + 1]), ()) for place in range(2))
    step = b.div(b.sub(high, low), count)
    places = b.convert(b.unary("floor", b.div(b.sub(x, low), step)), INT32)
    places = b.min(b.max(places, 0), count - 1)
    return _gathered(op, b.full(0, op.dtype, (count,)), b.full(1, op.dtype, x.dims), places, "add")


# Places that are known -----------------------------------------------------------------------------------------


@RULES.lower("tf.DynamicStitch", "tf.ParallelDynamicStitch")
def stitch(op: Emission) -> Operand:
    """Rows of several tensors, each where its number says."""
    b, count = op.build, len(op.node.inputs) // 2
    known = [op.known(place) for place in range(count)]
    if any(array is None for array in known):
        op.refuse("how long its result is depends on data", "make the places constants")
    rows, places = [], []
    for place, array in enumerate(known):
        assert array is not None
        x = op.input(count + place)
        rows.append(b.reshape(x, (array.size, *x.dims[array.ndim :])))
        places.append(array.reshape(-1))
    order = np.concatenate(places)
    size = int(order.max()) + 1 if order.size else 0
    last = np.zeros(size, np.int32)
    last[order] = np.arange(order.size)  # of equal places the last one counts
    made = take(op, b.concatenate(rows, 0), b.integers(last.tolist()), 0)
    missing = np.setdiff1d(np.arange(size), order)
    if not missing.size:
        return made
    there = b.constant(~np.isin(np.arange(size), missing), BOOL)
    return b.select(b.broadcast(there, made.dims, (0,)), made, b.like(0, made))


@RULES.lower("tf.SparseToDense")
def sparse_to_dense(op: Emission) -> Operand:
    """Values at their places, another value everywhere else."""
    b, places, values = op.build, op.input(0), op.input(2)
    dims = op.dims()
    rows = 1 if places.rank == 0 else places.dims[0]
    width = places.dims[1] if places.rank == 2 else 1
    vectors = b.reshape(places, (rows, width))
    return emit_scatter(op, b.broadcast(op.input(3), dims), vectors, b.broadcast(values, (rows,)), "")


@RULES.lower("tf.SparseTensorDenseMatMul")
def sparse_dense_matmul(op: Emission) -> Operand:
    """A sparse matrix times a dense one: rows picked, weighted, and summed where they belong."""
    b, places, values, right = op.build, op.input(0), op.input(1), op.input(3)
    if op.attr("adjoint_b"):
        right = b.transpose(right, (1, 0))
    pair = [b.reshape(b.slice(places, [0, side], [places.dims[0], side + 1]), places.dims[:1]) for side in range(2)]
    rows, columns = reversed(pair) if op.attr("adjoint_a") else pair
    parts = take(op, right, columns, 0)
    weighted = b.mul(parts, b.broadcast(values, parts.dims, (0,)))
    return _gathered(op, b.full(0, right.dtype, op.dims()), weighted, rows, "add")
