"""Products of matrices."""

from __future__ import annotations

from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand, broadcast_dims
from graphopt.backends.xla.rules.products import product
from graphopt.backends.xla.table import RULES


@RULES.lower("tf.MatMul")
def matmul(op: Emission) -> Operand:
    """A product of two matrices, either of which may be given transposed."""
    left = 0 if op.attr("transpose_a") else 1
    right = 1 if op.attr("transpose_b") else 0
    return product(op, op.input(0), lambda x, y: op.build.dot_general(x, y, ((), ()), ((left,), (right,))), 1)


@RULES.lower("tf.BatchMatMul", "tf.BatchMatMulV2", "tf.BatchMatMulV3")
def batch_matmul(op: Emission) -> Operand:
    """Products of many matrices, batch dimensions broadcast."""

    def emit(x: Operand, y: Operand) -> Operand:
        return _many(op, x, y)

    return product(op, op.input(0), emit, max(op.input(0).rank, op.value(1).shape.rank or 0) - 1)


def _many(op: Emission, x: Operand, y: Operand) -> Operand:
    b = op.build
    if op.node.op == "tf.BatchMatMulV3":
        x, y = b.convert(x, op.dtype), b.convert(y, op.dtype)
    rows = x.rank - (1 if op.attr("adj_x") else 2)
    inner_x = 2 * x.rank - 3 - rows
    inner_y = y.rank - (1 if op.attr("adj_y") else 2)
    if y.rank == 2 and x.rank > 2:
        return _with_matrix(op, x, y, inner_x, inner_y)
    batch = broadcast_dims(x.dims[:-2], y.dims[:-2]) if x.rank > 2 or y.rank > 2 else ()
    wide_x, wide_y = b.broadcast(x, (*batch, *x.dims[-2:])), b.broadcast(y, (*batch, *y.dims[-2:]))
    axes, grown = range(len(batch)), len(batch)
    sum_over = ((inner_x - x.rank + 2 + grown,), (inner_y - y.rank + 2 + grown,))
    return b.dot_general(wide_x, wide_y, (axes, axes), sum_over)


def _with_matrix(op: Emission, x: Operand, y: Operand, inner_x: int, inner_y: int) -> Operand:
    """One matrix for all: one product, without a batch."""
    made = op.build.dot_general(x, y, ((), ()), ((inner_x,), (inner_y,)))
    return made
