"""Sums, means, extremes and their places, running sums."""

from __future__ import annotations

import math

from graphopt.backends.xla.builder import neutral, size_of
from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand
from graphopt.backends.xla.rules.pooling import reduce_window
from graphopt.backends.xla.table import RULES
from graphopt.ir.types import BOOL, FLOAT32, INT32, INT64

REDUCTIONS = {
    "tf.Sum": "add", "tf.Prod": "multiply", "tf.Max": "maximum", "tf.Min": "minimum", "tf.All": "and_", "tf.Any": "or_",
}  # fmt: skip


def axes_of(op: Emission, rank: int) -> list[int]:
    """The axes to reduce, counted from the front."""
    return [int(number) % rank for number in op.constant_input(1, "the axes").reshape(-1)]


@RULES.lower(*REDUCTIONS)
def reduction(op: Emission) -> Operand:
    """Reductions that StableHLO has as they are."""
    b, x = op.build, op.input(0)
    narrow = x.dtype.is_float and x.dtype.bits < 32 and op.node.op in ("tf.Sum", "tf.Prod")
    wide = b.convert(x, FLOAT32) if narrow else x
    return b.convert(b.reduce(REDUCTIONS[op.node.op], wide, axes_of(op, x.rank), bool(op.attr("keep_dims"))), x.dtype)


@RULES.lower("tf.Mean")
def mean(op: Emission) -> Operand:
    """A sum over the number of elements; narrow floats are summed in float32."""
    b, x = op.build, op.input(0)
    axes = axes_of(op, x.rank)
    wide = b.convert(x, FLOAT32) if x.dtype.is_float and x.dtype.bits < 32 else x
    total = b.reduce("add", wide, axes, bool(op.attr("keep_dims")))
    count = size_of([x.dims[axis] for axis in dict.fromkeys(axes)])
    divisor = count if isinstance(count, int) else b.convert(b.sizes.scalar(count), wide.dtype)
    return b.convert(b.div(total, divisor), x.dtype)


@RULES.lower("tf.EuclideanNorm")
def euclidean_norm(op: Emission) -> Operand:
    """The root of the sum of squares."""
    b, x = op.build, op.input(0)
    return b.unary("sqrt", b.reduce("add", b.mul(x, x), axes_of(op, x.rank), bool(op.attr("keep_dims"))))


@RULES.lower("tf.ArgMax", "tf.ArgMin")
def arg_extreme(op: Emission) -> Operand:
    """The first place of the largest or smallest element along an axis."""
    b, x = op.build, op.input(0)
    axis = op.axis(1, x.rank)
    if x.dtype is BOOL:
        x = b.convert(x, INT32)
    direction = "GT" if op.node.op == "tf.ArgMax" else "LT"
    extreme = "maximum" if op.node.op == "tf.ArgMax" else "minimum"
    dims = tuple(dim for place, dim in enumerate(x.dims) if place != axis)
    index = INT64 if op.dtype is INT64 else INT32
    places = b.iota(index, x.dims, axis)
    start, zero = b.constant(neutral(extreme, x.dtype), x.dtype), b.full(0, index)
    operation = b.hlo.ReduceOp(
        [b.type(x.dtype, dims), b.type(index, dims)], [x.value, places.value], [start.value, zero.value], [axis]
    )

    def better(a: Operand, i: Operand, c: Operand, j: Operand) -> list[Operand]:
        wins = b.binary("or_", b.compare(direction, a, c), b.compare("NE", a, a))
        ties = b.binary("and_", b.compare("EQ", a, c), b.compare("LT", i, j))
        first = b.binary("or_", wins, ties)
        return [b.select(first, a, c), b.select(first, i, j)]

    b.scalar_region(operation, (x.dtype, index, x.dtype, index), better)
    return b.convert(b.made(operation.results[1], index, dims), op.dtype)


@RULES.lower("tf.Cumsum", "tf.Cumprod", "tf.CumulativeLogsumexp")
def running(op: Emission) -> Operand:
    """Sums or products of all elements so far: windows that reach back to the start."""
    x = op.input(0)
    axis = op.axis(1, x.rank)
    size = x.dims[axis]
    if not isinstance(size, int):
        op.refuse(f"it runs along the dimension {size}, which is not known", "specialise the inputs (--unknown)")
    if size == 0:
        return x
    pads = (0, size - 1) if op.attr("reverse") else (size - 1, 0)
    if op.attr("exclusive"):
        pads = (pads[0] - 1, pads[1] + 1) if op.attr("reverse") else (pads[0] + 1, pads[1] - 1)
    if op.node.op != "tf.CumulativeLogsumexp":
        return reduce_window(op, "add" if op.node.op == "tf.Cumsum" else "multiply", x, [axis], [size], [1], [pads])
    return reduce_window(op, "maximum", x, [axis], [size], [1], [pads], lambda left, right: _log_add(op, left, right))


def _log_add(op: Emission, x: Operand, y: Operand) -> Operand:
    """`log(exp(x) + exp(y))`, without overflow."""
    b = op.build
    high, apart = b.max(x, y), b.unary("negate", b.unary("abs", b.sub(x, y)))
    is_empty = b.compare("EQ", high, -math.inf)
    made = b.add(high, b.unary("log_plus_one", b.unary("exponential", apart)))
    return b.select(is_empty, high, made)
