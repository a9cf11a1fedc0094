"""Linear algebra on the last two dimensions: what StableHLO has, and elimination, column by column, for the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand
from graphopt.backends.xla.table import RULES
from graphopt.ir.types import INT32, DType

DECOMPOSITION = "compute it outside of the model, or let TensorFlow run this part"


def _real(op: Emission) -> DType:
    dtype = op.input(0).dtype
    if not dtype.is_float:
        op.refuse(f"it computes with {dtype.name}", "use real numbers")
    return dtype


@RULES.lower("tf.Cholesky")
def cholesky(op: Emission) -> Operand:
    """The lower triangle whose product with itself, turned over, is the matrix."""
    b, x = op.build, op.input(0)
    made = b.made(b.hlo.cholesky(x.value, lower=True), x.dtype, x.dims)
    rows, columns = (b.iota(INT32, x.dims, axis) for axis in (x.rank - 2, x.rank - 1))
    return b.select(b.compare("GE", rows, columns), made, b.like(0, made))


@RULES.lower("tf.MatrixTriangularSolve")
def triangular_solve(op: Emission) -> Operand:
    """What a triangle times gives the right-hand side."""
    b, matrix, right = op.build, op.input(0), op.input(1)
    batch = op.dims()[:-2]
    matrix, right = (b.broadcast(x, (*batch, *x.dims[-2:])) for x in (matrix, right))
    turned = ("ADJOINT" if not matrix.dtype.is_float else "TRANSPOSE") if op.attr("adjoint") else "NO_TRANSPOSE"
    value = b.hlo.triangular_solve(
        matrix.value, right.value, left_side=True, lower=bool(op.attr("lower", True)), unit_diagonal=False,
        transpose_a=b.hlo.TransposeAttr.get(turned),
    )  # fmt: skip
    return b.made(value, right.dtype, right.dims)


# Elimination ---------------------------------------------------------------------------------------------------


class _Eliminated(NamedTuple):
    """The right-hand side times the inverse; sign and logarithm of the determinant's magnitude, its value."""

    solution: Operand
    sign: Operand
    logarithm: Operand
    determinant: Operand


def _eliminate(op: Emission, matrix: Operand, right: Operand) -> _Eliminated:
    """Gauss and Jordan's elimination; the pivot is the largest element of its column."""
    b, rank = op.build, matrix.rank
    size = matrix.static[-1]
    batch = matrix.dims[:-2]
    places = b.iota(INT32, (*batch, size, 1), rank - 2)

    def column(number: Operand, state: list[Operand]) -> list[Operand]:
        left, side, sign, logarithm, determinant = state
        own = b.compare("EQ", places, number)
        entries = b.picked(b.compare("EQ", b.iota(INT32, left.dims, rank - 1), number), left, rank - 1)
        ranked = b.select(b.compare("LT", places, number), b.like(-1, entries), b.unary("abs", entries))
        _, place, best = b.first_largest(ranked, rank - 2)
        left, top = _swapped(op, left, own, best)
        side, side_top = _swapped(op, side, own, best)
        entries = b.select(
            own, b.picked(best, entries, rank - 2), b.select(best, b.picked(own, entries, rank - 2), entries)
        )
        pivot = b.picked(own, entries, rank - 2)
        rest = b.select(own, b.like(0, entries), entries)
        left = _reduced(op, left, own, rest, b.div(top, pivot))
        side = _reduced(op, side, own, rest, b.div(side_top, pivot))
        pivot, place = b.reshape(pivot, batch), b.reshape(place, batch)
        turn = b.select(b.compare("EQ", place, number), b.like(1, pivot), b.like(-1, pivot))
        sign = b.mul(b.mul(sign, turn), b.unary("sign", pivot))
        logarithm = b.add(logarithm, b.unary("log", b.unary("abs", pivot)))
        return [left, side, sign, logarithm, b.mul(b.mul(determinant, turn), pivot)]

    ones = b.full(1, matrix.dtype, batch)
    made = b.repeat(size, [matrix, right, ones, b.like(0, ones), ones], column)
    return _Eliminated(*made[1:])


def _swapped(op: Emission, x: Operand, own: Operand, best: Operand) -> tuple[Operand, Operand]:
    """Two rows changed places, and what is now the first of them."""
    b, axis = op.build, x.rank - 2
    own, best = b.broadcast(own, x.dims), b.broadcast(best, x.dims)
    mine, other = b.picked(own, x, axis), b.picked(best, x, axis)
    return b.select(own, b.broadcast(other, x.dims), b.select(best, b.broadcast(mine, x.dims), x)), other


def _reduced(op: Emission, x: Operand, own: Operand, rest: Operand, row: Operand) -> Operand:
    b = op.build
    return b.select(b.broadcast(own, x.dims), b.broadcast(row, x.dims), b.sub(x, b.mul(rest, row)))


def _unit(op: Emission, x: Operand) -> Operand:
    b = op.build
    hit = b.compare("EQ", b.iota(INT32, x.dims, x.rank - 2), b.iota(INT32, x.dims, x.rank - 1))
    return b.convert(hit, x.dtype)


@RULES.lower("tf.MatrixInverse", "tf.MatrixSolve")
def solve(op: Emission) -> Operand:
    """The inverse of a matrix, or what the matrix times gives the right-hand side."""
    b, matrix = op.build, op.input(0)
    _real(op)
    if op.attr("adjoint"):
        matrix = b.transpose(matrix, (*range(matrix.rank - 2), matrix.rank - 1, matrix.rank - 2))
    is_solve = op.node.op == "tf.MatrixSolve"
    return _eliminate(op, matrix, op.input(1) if is_solve else _unit(op, matrix)).solution


@RULES.lower("tf.MatrixDeterminant", "tf.LogMatrixDeterminant")
def determinant(op: Emission) -> list[Operand | None]:
    """The determinant, or its sign and the logarithm of its magnitude."""
    _real(op)
    matrix = op.input(0)
    made = _eliminate(op, matrix, op.build.slice(matrix, [0] * matrix.rank, [*matrix.dims[:-1], 1]))
    return [made.determinant] if op.node.op == "tf.MatrixDeterminant" else [made.sign, made.logarithm]


@RULES.lower("tf.Qr")
def qr(op: Emission) -> list[Operand | None]:
    """Householder's reflections, column by column."""
    b, x = op.build, op.input(0)
    _real(op)
    rows, columns = x.static[-2:]
    batch, rank = x.dims[:-2], x.rank
    square = (*batch, rows, rows)
    whole = b.repeat(min(rows, columns), [x, _unit(op, b.full(0, x.dtype, square))], _reflection(op, rows))
    upper, product = whole
    kept = rows if op.attr("full_matrices") else min(rows, columns)
    below = b.compare("GT", b.iota(INT32, upper.dims, rank - 2), b.iota(INT32, upper.dims, rank - 1))
    upper = b.select(below, b.like(0, upper), upper)
    starts = [0] * rank
    return [b.slice(product, starts, [*batch, rows, kept]), b.slice(upper, starts, [*batch, kept, columns])]


def _reflection(op: Emission, rows: int) -> Callable[[Operand, list[Operand]], list[Operand]]:
    b = op.build

    def reflect(number: Operand, state: list[Operand]) -> list[Operand]:
        upper, product = state
        rank, places = upper.rank, b.iota(INT32, (*upper.dims[:-1], 1), upper.rank - 2)
        column = b.picked(b.compare("EQ", b.iota(INT32, upper.dims, rank - 1), number), upper, rank - 1)
        below = b.select(b.compare("GT", places, number), column, b.like(0, column))
        first = b.picked(b.compare("EQ", places, number), column, rank - 2)
        rest = b.reduce("add", b.mul(below, below), [rank - 2], keep=True)
        norm = b.unary("sqrt", b.add(b.mul(first, first), rest))
        is_flat = b.compare("EQ", rest, 0)
        beta = b.select(b.compare("LT", first, 0), norm, b.unary("negate", norm))
        share = b.select(is_flat, b.like(1, beta), b.sub(first, beta))
        one = b.convert(b.compare("EQ", places, number), upper.dtype)
        mirror = b.add(b.div(below, share), one)
        tau = b.select(is_flat, b.like(0, beta), b.div(b.sub(beta, first), b.select(is_flat, b.like(1, beta), beta)))
        along = b.reduce("add", b.mul(mirror, upper), [rank - 2], keep=True)
        upper = b.sub(upper, b.mul(b.mul(mirror, tau), along))
        turned = b.transpose(mirror, (*range(rank - 2), rank - 1, rank - 2))
        across = b.reduce("add", b.mul(product, turned), [rank - 1], keep=True)
        return [upper, b.sub(product, b.mul(b.mul(across, tau), turned))]

    return reflect


@RULES.lower("tf.SelfAdjointEigV2", "tf.Svd", "tf.Eig", "tf.Lu", "tf.MatrixSquareRoot", "tf.MatrixLogarithm")
def decompositions(op: Emission) -> Operand:
    """Decompositions that StableHLO has no operation for."""
    op.refuse("StableHLO has no such decomposition", DECOMPOSITION)


@RULES.lower("tf.Cross")
def cross(op: Emission) -> Operand:
    """The vector that stands upright on two others."""
    b, x, y = op.build, op.input(0), op.input(1)

    def turned(z: Operand, by: int) -> Operand:
        starts, wide = [0] * z.rank, b.concatenate([z, z], z.rank - 1)
        starts[-1] = by
        return b.slice(wide, starts, [*z.dims[:-1], by + 3])

    return b.sub(b.mul(turned(x, 1), turned(y, 2)), b.mul(turned(x, 2), turned(y, 1)))


@RULES.lower("tf.SparseMatMul")
def sparse_matmul(op: Emission) -> Operand:
    """A product of matrices that may hold many zeros."""
    b, x, y = op.build, op.input(0), op.input(1)
    left, right = 0 if op.attr("transpose_a") else 1, 1 if op.attr("transpose_b") else 0
    return b.dot_general(b.convert(x, op.dtype), b.convert(y, op.dtype), ((), ()), ((left,), (right,)))
