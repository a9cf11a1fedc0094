"""Decompositions and triangular systems."""

from __future__ import annotations

from graphopt.importers.stablehlo.operand import Operand
from graphopt.importers.stablehlo.operation import Operation
from graphopt.importers.stablehlo.table import RULES


@RULES.translate("stablehlo.cholesky")
def cholesky(op: Operation) -> Operand:
    """The lower triangle; that of the other triangle is its transpose's."""
    if not op.flag("lower"):
        op.refuse("it reads the upper triangle")
    return op.made(op.build.value("Cholesky", op.full(0)))


@RULES.translate("stablehlo.triangular_solve")
def triangular_solve(op: Operation) -> Operand:
    """Systems of equations with a triangular matrix on the left."""
    transposed = op.keyword("transpose_a", "TransposeAttr", "NO_TRANSPOSE")
    if not op.flag("left_side") or op.flag("unit_diagonal"):
        op.refuse("its matrix is on the right, or its diagonal is left out")
    adjoint = transposed != "NO_TRANSPOSE"
    return op.made(
        op.build.value("MatrixTriangularSolve", op.full(0), op.full(1), lower=op.flag("lower"), adjoint=adjoint)
    )
