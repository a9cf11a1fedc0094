"""Sorting, the largest elements, places in sorted tables."""

from __future__ import annotations

import numpy as np

from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand
from graphopt.backends.xla.table import RULES
from graphopt.ir.types import BOOL, INT32


@RULES.lower("tf.TopKV2", "tf.TopK")
def top_k(op: Emission) -> list[Operand | None]:
    """The k largest along the last axis, in order, the first of equals first."""
    b, x = op.build, op.input(0)
    axis = x.rank - 1
    count = int(op.constant_input(1, "k").reshape(-1)[0]) if op.node.op == "tf.TopKV2" else int(op.attr("k"))
    places = b.iota(INT32, x.dims, axis)
    operation = b.hlo.SortOp(
        [b.type(x.dtype, x.dims), b.type(INT32, x.dims)], [x.value, places.value], dimension=axis, is_stable=True
    )
    b.scalar_region(
        operation, (x.dtype, x.dtype, INT32, INT32), lambda left, right, i, j: [b.compare("GT", left, right)]
    )
    starts, limits = [0] * x.rank, [*x.dims[:-1], count]
    values = b.slice(b.made(operation.results[0], x.dtype, x.dims), starts, limits)
    found = b.slice(b.made(operation.results[1], INT32, x.dims), starts, limits)
    return [values, b.convert(found, op.node.outputs[1].dtype)]


@RULES.lower("tf.LowerBound", "tf.UpperBound")
def bound(op: Emission) -> Operand:
    """How many elements of each sorted row are below, or not above, each value."""
    b, rows, values = op.build, op.input(0), op.input(1)
    batch, wide, count = rows.dims[0], rows.dims[1], values.dims[1]
    left = b.broadcast(rows, (batch, count, wide), (0, 2))
    right = b.broadcast(values, (batch, count, wide), (0, 1))
    below = b.compare("LT" if op.node.op == "tf.LowerBound" else "LE", left, right)
    return b.reduce("add", b.convert(below, op.dtype), [2])


@RULES.lower("tf.Bucketize")
def bucketize(op: Emission) -> Operand:
    """The number of boundaries that are not above."""
    b, x = op.build, op.input(0)
    edges = np.asarray(op.attr("boundaries"), np.float32)
    wide = b.constant(edges, x.dtype if x.dtype.is_float else INT32)
    given = x if x.dtype.is_float else b.convert(x, INT32)
    grown = (*x.dims, len(edges))
    above = b.compare("GE", b.broadcast(given, grown, range(x.rank)), b.broadcast(wide, grown))
    return b.reduce("add", b.convert(above, INT32), [x.rank])


@RULES.lower("tf.InTopK", "tf.InTopKV2")
def in_top_k(op: Emission) -> Operand:
    """Fewer than k predictions are above that of the target."""
    b, predictions, targets = op.build, op.input(0), op.input(1)
    count = int(op.attr("k")) if op.node.op == "tf.InTopK" else int(op.constant_input(2, "k").reshape(-1)[0])
    dims = predictions.dims
    hit = b.compare("EQ", b.broadcast(targets, dims, (0,)), b.iota(targets.dtype, dims, 1))
    own = b.reduce("add", b.select(hit, predictions, b.like(0, predictions)), [1])
    above = b.compare("GT", predictions, b.broadcast(own, dims, (0,)))
    fewer = b.compare("LT", b.reduce("add", b.convert(above, INT32), [1]), count)
    finite = b.made(b.hlo.is_finite(own.value), BOOL, own.dims)
    return b.binary("and_", fewer, finite)
