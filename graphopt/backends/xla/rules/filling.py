"""Tensors made of numbers: filled and counted."""

from __future__ import annotations

from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand
from graphopt.backends.xla.table import RULES


@RULES.lower("tf.Fill")
def fill(op: Emission) -> Operand:
    """One value everywhere."""
    return op.build.broadcast(op.input(1), op.dims())


@RULES.lower("tf.Empty")
def empty(op: Emission) -> Operand:
    """Whatever: zeros."""
    return op.build.full(0, op.dtype, op.dims())


@RULES.lower("tf.Range")
def range_(op: Emission) -> Operand:
    """Start, start + delta, and so on."""
    b = op.build
    counts = b.iota(op.dtype, op.dims(), 0)
    return b.add(b.mul(counts, op.input(2)), op.input(0))


@RULES.lower("tf.LinSpace")
def linspace(op: Emission) -> Operand:
    """So many numbers from start to stop."""
    b, start, stop = op.build, op.input(0), op.input(1)
    dims = op.static()
    counts = b.iota(op.dtype, dims, 0)
    step = b.div(b.sub(stop, start), max(dims[0] - 1, 1))
    made = b.add(b.mul(counts, step), start)
    return made if dims[0] < 2 else b.select(b.compare("EQ", counts, dims[0] - 1), b.broadcast(stop, dims), made)
