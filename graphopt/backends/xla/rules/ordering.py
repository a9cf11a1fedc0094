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
    starts, limits = [0] * x.rank, [*x.dims[:-1], count]
    values, found = (b.slice(part, starts, limits) for part in b.sort("GT", x, [places], axis))
    return [values, b.convert(found, op.node.outputs[1].dtype)]


@RULES.lower("tf.NthElement")
def nth_element(op: Emission) -> Operand:
    """The element that n others along the last axis are below, or above."""
    b, x = op.build, op.input(0)
    place = int(op.constant_input(1, "n").reshape(-1)[0])
    (ordered,) = b.sort("GT" if op.attr("reverse") else "LT", x, [], x.rank - 1)
    part = b.slice(ordered, [0] * (x.rank - 1) + [place], [*x.dims[:-1], place + 1])
    return b.reshape(part, x.dims[:-1])


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
