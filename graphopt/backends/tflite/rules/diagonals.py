"""Diagonals of matrices, and bands around them."""

from __future__ import annotations

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.backends.tflite.rules.kernels import move, step, whole
from graphopt.backends.tflite.rules.reshaping import reshaped
from graphopt.backends.tflite.table import RULES
from graphopt.ir.types import INT32
from graphopt.ir.value import Value


@RULES.legalize("tf.MatrixDiag", "tf.MatrixDiagV2", "tf.MatrixDiagV3")
def diagonal_matrix(op: Lowering) -> Value:
    """Square matrices with a vector on the main diagonal and zeros elsewhere."""
    if op.node.op != "tf.MatrixDiag":
        _only_main_diagonal(op)
        size = op.input(0).shape[-1] if op.rank(op.input(0)) else None
        for place in (2, 3):
            number = whole(op, place, "the size of the matrix")
            if number not in (-1, size):
                op.refuse("its matrices are not square")
        if op.constant_input(4, "the padding").any():
            op.refuse("there is something other than zeros beside the diagonal")
    return move(op, "MATRIX_DIAG", op.input(0))


@RULES.legalize("tf.MatrixSetDiag", "tf.MatrixSetDiagV2", "tf.MatrixSetDiagV3")
def replaced_diagonal(op: Lowering) -> Value:
    """Matrices with another main diagonal."""
    if op.node.op != "tf.MatrixSetDiag":
        _only_main_diagonal(op, 2)
    return move(op, "MATRIX_SET_DIAG", op.input(0), op.input(1))


@RULES.legalize("tf.MatrixDiagPart", "tf.MatrixDiagPartV2", "tf.MatrixDiagPartV3", "tf.DiagPart")
def diagonal_part(op: Lowering) -> Value:
    """The main diagonals of matrices of known size: every so many elements of the matrix written out in a row."""
    if op.node.op[-2:] in ("V2", "V3"):
        _only_main_diagonal(op)
    value = op.input(0)
    if op.node.op == "tf.DiagPart" and op.rank(value) != 2:
        op.refuse("it is the diagonal of a tensor of more than two dimensions")
    dims = value.shape.dims or ()
    if op.rank(value) < 2 or not isinstance(dims[-2], int) or not isinstance(dims[-1], int):
        op.refuse("the size of its matrices is not known", "give the inputs shapes (set-shapes)")
    rows, columns = dims[-2], dims[-1]
    flat = reshaped(op, value, (*dims[:-2], rows * columns), name=f"{op.node.name}/flat")
    if flat is None:
        op.refuse("more than one of its dimensions is unknown", "give the inputs shapes (set-shapes)")
    outer = len(dims) - 2
    end = (min(rows, columns) - 1) * (columns + 1) + 1
    vectors = ([0] * (outer + 1), [0] * outer + [end], [1] * outer + [columns + 1])
    operands = (op.integers(numbers, name=f"{op.node.name}/slice") for numbers in vectors)
    all_of_batch = (1 << outer) - 1
    return step(op, "StridedSlice", flat, *operands, begin_mask=all_of_batch, end_mask=all_of_batch)


@RULES.legalize("tf.Diag")
def diagonal_of_vector(op: Lowering) -> Value:
    """A matrix with a vector on its diagonal."""
    if op.rank(op.input(0)) != 1:
        op.refuse("it is the diagonal of a tensor of more than two dimensions")
    return step(op, "MatrixDiag", op.input(0))


@RULES.legalize("tf.MatrixBandPart")
def band(op: Lowering) -> Value:
    """Matrices with zeros beyond a constant number of diagonals: a mask, which is a constant where their size is
    known."""
    value = op.input(0)
    rows, columns = (value.shape.dims or ())[-2:] if op.rank(value) > 1 else (None, None)
    below, above = (whole(op, place, "the width of the band") for place in (1, 2))
    if below < 0 and above < 0:
        return value
    if isinstance(rows, int) and isinstance(columns, int):
        distance = np.arange(columns)[None, :] - np.arange(rows)[:, None]
        kept = ((below < 0) | (-distance <= below)) & ((above < 0) | (distance <= above))
        if kept.all():
            return value
        mask = op.constant(kept, name=f"{op.node.name}/band")
    else:
        mask = _computed_band(op, value, below, above)
    zero = op.constant(np.zeros((), value.dtype.numpy), name=f"{op.node.name}/zero")
    return step(op, "SelectV2", mask, value, zero)


def _computed_band(op: Lowering, value: Value, below: int, above: int) -> Value:
    """Where the number of the column is near enough to that of the row."""
    shape = step(op, "Shape", value, out_type=INT32)
    zero, one = (op.integers(number, name=f"{op.node.name}/{number}") for number in (0, 1))
    counted = []
    for place in (-2, -1):
        size = step(op, "GatherV2", shape, op.integers(place + op.rank(value), name=f"{op.node.name}/place"), zero)
        counted.append(step(op, "Range", zero, size, one))
    distance = step(op, "Sub", counted[1], step(op, "ExpandDims", counted[0], one))
    bounds = (("GreaterEqual", -below), ("LessEqual", above))
    kept = [
        step(op, kind, distance, op.integers(bound, name=f"{op.node.name}/bound"))
        for (kind, bound), width in zip(bounds, (below, above), strict=True)
        if width >= 0
    ]
    return kept[0] if len(kept) == 1 else step(op, "LogicalAnd", *kept)


def _only_main_diagonal(op: Lowering, place: int = 1) -> None:
    if op.constant_input(place, "which diagonal it takes").any():
        op.refuse("it takes other diagonals than the main one")
