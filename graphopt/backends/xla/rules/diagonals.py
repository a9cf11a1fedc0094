"""Diagonals: taken out, put in, and matrices made of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.backends.xla.emission import Emission, reference
from graphopt.backends.xla.operand import Operand
from graphopt.backends.xla.rules.indexing import take
from graphopt.backends.xla.table import RULES
from graphopt.ir.types import INT32, INT64

Array = np.ndarray[Any, Any]
OLD = ("tf.MatrixDiag", "tf.BatchMatrixDiag", "tf.MatrixDiagPart", "tf.BatchMatrixDiagPart")


@RULES.lower("tf.MatrixBandPart", "tf.BatchMatrixBandPart")
def band_part(op: Emission) -> Operand:
    """Zero outside a band around the diagonal; a negative width keeps that whole triangle."""
    b, x = op.build, op.input(0)
    rows, columns = (b.iota(INT64, x.dims, axis) for axis in (x.rank - 2, x.rank - 1))
    kept: Operand | None = None
    for place, distance in ((1, b.sub(rows, columns)), (2, b.sub(columns, rows))):
        width = b.convert(op.input(place), INT64)
        inside = b.binary("or_", b.broadcast(b.compare("LT", width, 0), x.dims), b.compare("LE", distance, width))
        kept = inside if kept is None else b.binary("and_", kept, inside)
    assert kept is not None
    return b.select(kept, x, b.like(0, x))


@RULES.lower("tf.MatrixDiag", "tf.BatchMatrixDiag", "tf.MatrixDiagV2", "tf.MatrixDiagV3")
def matrix_diag(op: Emission) -> Operand:
    """Matrices with these diagonals, and one value elsewhere."""
    b, x = op.build, op.input(0)
    if op.node.op in OLD or (not op.constant_input(1, "k").any() and op.dims() == (*x.dims, x.dims[-1])):
        dims = (*x.dims, x.dims[-1])
        hit = b.compare("EQ", b.iota(INT32, dims, x.rank - 1), b.iota(INT32, dims, x.rank))
        other = b.full(0, x.dtype) if op.node.op in OLD else op.input(4)
        return b.select(hit, b.broadcast(x, dims, range(x.rank)), b.broadcast(other, dims))
    k = op.constant_input(1, "k")
    own = 2 if k.size > 1 and k.reshape(-1)[0] != k.reshape(-1)[-1] else 1
    numbers = [op.constant_input(place, "its size") for place in (2, 3)]
    packed = _numbered(x.static[x.rank - own :])
    places = reference(op)(packed, k, *numbers, np.asarray(0, np.int32))
    return _picked(op, x, own, op.input(4), places)


@RULES.lower("tf.MatrixDiagPart", "tf.BatchMatrixDiagPart", "tf.MatrixDiagPartV2", "tf.MatrixDiagPartV3")
def diag_part(op: Emission) -> Operand:
    """Diagonals of matrices, side by side where there are several."""
    b, x = op.build, op.input(0)
    if op.node.op not in OLD and op.constant_input(1, "k").any():
        places = reference(op)(_numbered(x.static[-2:]), op.constant_input(1, "k"), np.asarray(0, np.int32))
        return _picked(op, x, 2, op.input(2), places)
    hit = b.compare("EQ", b.iota(INT32, x.dims, x.rank - 2), b.iota(INT32, x.dims, x.rank - 1))
    kept = b.reduce("add", b.select(hit, x, b.like(0, x)), [x.rank - (1 if _is_tall(x) else 2)])
    axis = kept.rank - 1
    return b.slice(kept, [0] * kept.rank, [*kept.dims[:axis], op.dims()[-1]])


def _is_tall(x: Operand) -> bool:
    rows, columns = x.dims[-2:]
    return not (isinstance(rows, int) and isinstance(columns, int) and rows < columns) or rows == columns


@RULES.lower("tf.MatrixSetDiag", "tf.BatchMatrixSetDiag", "tf.MatrixSetDiagV2", "tf.MatrixSetDiagV3")
def set_diag(op: Emission) -> Operand:
    """Matrices with other diagonals."""
    b, x, diagonal = op.build, op.input(0), op.input(1)
    arguments = [] if len(op.node.inputs) < 3 else [op.constant_input(2, "k")]
    size = int(np.prod(x.static[-2:]))
    packed = _numbered(diagonal.static[x.rank - 2 :]) + size
    places = reference(op)(_numbered(x.static[-2:]), packed, *arguments)
    batch = x.dims[:-2]
    both = b.concatenate([b.reshape(x, (*batch, size)), b.reshape(diagonal, (*batch, packed.size))], len(batch))
    picked = take(op, both, b.integers((places.reshape(-1) - 1).tolist()), len(batch))
    return b.reshape(picked, x.dims)


@RULES.lower("tf.Diag", "tf.DiagPart")
def tensor_diag(op: Emission) -> Operand:
    """A tensor and the diagonal of one with each dimension twice, as if all dimensions were one."""
    b, x = op.build, op.input(0)
    count = int(np.prod(op.static() if op.node.op == "tf.DiagPart" else x.static))
    hit = b.compare("EQ", b.iota(INT32, (count, count), 0), b.iota(INT32, (count, count), 1))
    if op.node.op == "tf.Diag":
        wide = b.broadcast(b.flat(x), (count, count), (0,))
        return b.reshape(b.select(hit, wide, b.like(0, wide)), op.dims())
    square = b.reshape(x, (count, count))
    return b.reshape(b.reduce("add", b.select(hit, square, b.like(0, square)), [1]), op.dims())


def _numbered(dims: tuple[int, ...]) -> Array:
    """The places of elements, from 1 on: 0 stands for none of them."""
    return np.arange(1, int(np.prod(dims)) + 1, dtype=np.int32).reshape(dims)


def _picked(op: Emission, x: Operand, own: int, other: Operand, places: Array) -> Operand:
    """Elements of the last `own` dimensions by place, `other` for places of 0."""
    b, batch = op.build, x.dims[: x.rank - own]
    flat = b.reshape(x, (*batch, int(np.prod(x.static[x.rank - own :]))))
    held = b.concatenate([b.broadcast(other, (*batch, 1)), flat], len(batch))
    picked = take(op, held, b.integers(np.asarray(places).reshape(-1).tolist()), len(batch))
    return b.reshape(picked, (*batch, *np.asarray(places).shape))
