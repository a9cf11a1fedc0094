"""Slices written to index vectors."""

from __future__ import annotations

from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand
from graphopt.backends.xla.rules.slicing import element
from graphopt.backends.xla.table import RULES

UPDATES = {
    "tf.TensorScatterUpdate": "", "tf.TensorScatterAdd": "add", "tf.TensorScatterSub": "subtract",
    "tf.TensorScatterMax": "maximum", "tf.TensorScatterMin": "minimum",
}  # fmt: skip


@RULES.lower(*UPDATES)
def tensor_scatter(op: Emission) -> Operand:
    """A copy with slices replaced, or changed by a function."""
    x, vectors, updates = op.input(0), op.input(1), op.input(2)
    kind = UPDATES[op.node.op]
    if not kind and vectors.dims == (1, vectors.dims[-1]):
        return _one_slice(op, x, vectors, updates)
    return emit_scatter(op, x, vectors, updates, kind)


def _one_slice(op: Emission, x: Operand, vectors: Operand, updates: Operand) -> Operand:
    """One slice: the form that XLA updates in place."""
    b = op.build
    flat = b.flat(vectors)
    width = flat.static[0]
    starts = [element(op, flat, place) for place in range(width)]
    starts += [b.full(0, vectors.dtype)] * (x.rank - width)
    part = b.reshape(updates, (*[1] * width, *x.dims[width:]))
    value = b.hlo.dynamic_update_slice(x.value, part.value, [start.value for start in starts])
    return b.made(value, x.dtype, x.dims)


def emit_scatter(op: Emission, x: Operand, vectors: Operand, updates: Operand, kind: str) -> Operand:
    """StableHLO's scatter: the last dimension of `vectors` indexes the first axes of `x`."""
    b = op.build
    width = vectors.dims[-1]
    if not isinstance(width, int):
        op.refuse("the length of its index vectors is not known", "specialise the inputs (--unknown)")
    windows = list(range(vectors.rank - 1, updates.rank))
    picked = list(range(width))
    numbers = b.hlo.ScatterDimensionNumbers.get(windows, picked, [], [], picked, vectors.rank - 1)
    operation = b.hlo.ScatterOp([b.type(x.dtype, x.dims)], [x.value], vectors.value, [updates.value], numbers)
    b.scalar_region(operation, (x.dtype, x.dtype), lambda old, new: [b.binary(kind, old, new) if kind else new])
    return b.made(operation.results[0], x.dtype, x.dims)


@RULES.lower("tf.ScatterNd")
def scatter_nd(op: Emission) -> Operand:
    """Slices added up in zeros."""
    vectors, updates = op.input(0), op.input(1)
    return emit_scatter(op, op.build.full(0, updates.dtype, op.dims()), vectors, updates, "add")


@RULES.lower("tf.InplaceUpdate", "tf.InplaceAdd", "tf.InplaceSub")
def in_place(op: Emission) -> Operand:
    """A copy with rows replaced, added to or subtracted from."""
    indices = op.build.flat(op.input(1))
    vectors = op.build.reshape(indices, (*indices.dims, 1))
    kind = {"tf.InplaceUpdate": "", "tf.InplaceAdd": "add", "tf.InplaceSub": "subtract"}[op.node.op]
    return emit_scatter(op, op.input(0), vectors, op.input(2), kind)
