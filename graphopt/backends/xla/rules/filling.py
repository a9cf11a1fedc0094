"""Tensors made of numbers: filled, counted, diagonals and bands."""

from __future__ import annotations

from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand
from graphopt.backends.xla.table import RULES
from graphopt.ir.types import INT32, INT64


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


@RULES.lower("tf.MatrixBandPart")
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


@RULES.lower("tf.MatrixDiag", "tf.Diag", "tf.MatrixDiagV2", "tf.MatrixDiagV3")
def matrix_diag(op: Emission) -> Operand:
    """A matrix with this diagonal."""
    b, x = op.build, op.input(0)
    if op.node.op == "tf.Diag" and x.rank != 1:
        op.refuse("it makes a diagonal of a matrix", "use MatrixDiag")
    dims = (*x.dims, x.dims[-1])
    is_general = op.node.op in ("tf.MatrixDiagV2", "tf.MatrixDiagV3")
    if is_general and (op.dims() != dims or op.constant_input(1, "k").any()):
        op.refuse("its diagonal is not the main one of a square matrix", "use tf.linalg.set_diag")
    hit = b.compare("EQ", b.iota(INT32, dims, x.rank - 1), b.iota(INT32, dims, x.rank))
    wide = b.broadcast(x, dims, range(x.rank))
    return b.select(hit, wide, b.like(0, wide))


@RULES.lower("tf.MatrixDiagPart", "tf.DiagPart", "tf.MatrixDiagPartV2", "tf.MatrixDiagPartV3")
def diag_part(op: Emission) -> Operand:
    """The main diagonal of matrices."""
    b, x = op.build, op.input(0)
    if op.node.op == "tf.DiagPart" and x.rank != 2:
        op.refuse("it takes the diagonal of more than a matrix", "use MatrixDiagPart")
    if op.node.op in ("tf.MatrixDiagPartV2", "tf.MatrixDiagPartV3") and op.constant_input(1, "k").any():
        op.refuse("it takes another diagonal than the main one", "use tf.linalg.diag_part without k")
    hit = b.compare("EQ", b.iota(INT32, x.dims, x.rank - 2), b.iota(INT32, x.dims, x.rank - 1))
    kept = b.reduce("add", b.select(hit, x, b.like(0, x)), [x.rank - (1 if _is_tall(x) else 2)])
    axis = kept.rank - 1
    size = op.dims()[-1]
    return b.slice(kept, [0] * kept.rank, [*kept.dims[:axis], size])


def _is_tall(x: Operand) -> bool:
    rows, columns = x.dims[-2:]
    return not (isinstance(rows, int) and isinstance(columns, int) and rows < columns) or rows == columns
