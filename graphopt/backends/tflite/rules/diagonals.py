"""Diagonals of matrices, and bands around them."""

from __future__ import annotations

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.backends.tflite.rules.kernels import move
from graphopt.backends.tflite.rules.reshaping import reshaped
from graphopt.backends.tflite.table import RULES
from graphopt.ir.types import INT32
from graphopt.ir.value import Value


@RULES.legalize("tf.MatrixDiag", "tf.MatrixDiagV2", "tf.MatrixDiagV3")
def diagonal_matrix(op: Lowering) -> Value:
    """Matrices with a vector on one diagonal, and zeros elsewhere: rows and columns are put around those that have it
    on the main one."""
    if op.node.op == "tf.MatrixDiag":
        return move(op, "MATRIX_DIAG", op.input(0))
    place = _diagonal(op, 1)
    size = op.input(0).shape[-1] if op.rank(op.input(0)) else None
    rows, columns = (op.whole(index, "the size of the matrix") for index in (2, 3))
    if op.constant_input(4, "the padding").any():
        op.refuse("there is something other than zeros beside the diagonal")
    if not place and {rows, columns} <= {-1, size}:
        return move(op, "MATRIX_DIAG", op.input(0))
    if not isinstance(size, int):
        op.refuse("the length of its diagonal is not known", "give the inputs shapes (set-shapes)")
    above, left = max(-place, 0), max(place, 0)
    needed = (above + size, left + size)
    if rows == -1 and columns == -1:
        rows = columns = max(needed)
    wanted = [least if given == -1 else given for given, least in zip((rows, columns), needed, strict=True)]
    margins = [[0, 0]] * (op.rank(op.input(0)) - 1)
    margins += [[above, wanted[0] - needed[0]], [left, wanted[1] - needed[1]]]
    return op.step("Pad", op.step("MatrixDiag", op.input(0)), op.integers(margins, name=f"{op.node.name}/margins"))


@RULES.legalize("tf.MatrixSetDiag", "tf.MatrixSetDiagV2", "tf.MatrixSetDiagV3")
def replaced_diagonal(op: Lowering) -> Value:
    """Matrices with another diagonal: where it is not the main one, a matrix that has it and zeros is chosen there."""
    place = _diagonal(op, 2) if op.node.op != "tf.MatrixSetDiag" else 0
    if not place:
        return move(op, "MATRIX_SET_DIAG", op.input(0), op.input(1))
    rows, columns = _sides(op)
    held = [op.integers(number, name=f"{op.node.name}/{name}") for name, number in (
        ("k", place), ("rows", rows), ("columns", columns))]  # fmt: skip
    zero = op.scalar(0, op.input(1))
    other = op.step("MatrixDiagV2", op.input(1), *held, zero)
    mask = op.constant(np.eye(rows, columns, place, dtype=bool), name=f"{op.node.name}/mask")
    return op.step("SelectV2", mask, other, op.input(0))


@RULES.legalize("tf.MatrixDiagPart", "tf.MatrixDiagPartV2", "tf.MatrixDiagPartV3", "tf.DiagPart")
def diagonal_part(op: Lowering) -> Value:
    """One diagonal each of matrices of known size: every so many elements of the matrix written out in a row."""
    place = _diagonal(op, 1) if op.node.op[-2:] in ("V2", "V3") else 0
    value = op.input(0)
    if op.node.op == "tf.DiagPart" and op.rank(value) != 2:
        op.refuse("it is the diagonal of a tensor of more than two dimensions")
    rows, columns = _sides(op)
    dims = value.shape.dims or ()
    flat = reshaped(op, value, (*dims[:-2], rows * columns), name=f"{op.node.name}/flat")
    if flat is None:
        op.refuse("more than one of its dimensions is unknown", "give the inputs shapes (set-shapes)")
    outer = len(dims) - 2
    begin = place if place >= 0 else -place * columns
    count = min(rows + min(place, 0), columns - max(place, 0))
    end = begin + (count - 1) * (columns + 1) + 1
    vectors = ([0] * outer + [begin], [0] * outer + [end], [1] * outer + [columns + 1])
    operands = (op.integers(numbers, name=f"{op.node.name}/slice") for numbers in vectors)
    all_of_batch = (1 << outer) - 1
    return op.step("StridedSlice", flat, *operands, begin_mask=all_of_batch, end_mask=all_of_batch)


@RULES.legalize("tf.Diag")
def diagonal_of_tensor(op: Lowering) -> Value:
    """A matrix with a vector on its diagonal; what has more dimensions is written out in a row first."""
    value = op.input(0)
    if op.rank(value) == 1:
        return op.step("MatrixDiag", value)
    row = op.step("Reshape", value, op.integers([-1], name=f"{op.node.name}/row"))
    wanted = op.integers([*op.static(value), *op.static(value)], name=f"{op.node.name}/shape")
    return op.step("Reshape", op.step("MatrixDiag", row), wanted)


@RULES.legalize("tf.MatrixBandPart")
def band(op: Lowering) -> Value:
    """Matrices with zeros beyond a constant number of diagonals: a mask, which is a constant where their size is
    known."""
    value = op.input(0)
    rows, columns = (value.shape.dims or ())[-2:] if op.rank(value) > 1 else (None, None)
    below, above = (op.whole(place, "the width of the band") for place in (1, 2))
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
    return op.step("SelectV2", mask, value, zero)


def _computed_band(op: Lowering, value: Value, below: int, above: int) -> Value:
    """Where the number of the column is near enough to that of the row."""
    shape = op.step("Shape", value, out_type=INT32)
    zero, one = (op.integers(number, name=f"{op.node.name}/{number}") for number in (0, 1))
    counted = []
    for place in (-2, -1):
        size = op.step("GatherV2", shape, op.integers(place + op.rank(value), name=f"{op.node.name}/place"), zero)
        counted.append(op.step("Range", zero, size, one))
    distance = op.step("Sub", counted[1], op.step("ExpandDims", counted[0], one))
    bounds = (("GreaterEqual", -below), ("LessEqual", above))
    kept = [
        op.step(kind, distance, op.integers(bound, name=f"{op.node.name}/bound"))
        for (kind, bound), width in zip(bounds, (below, above), strict=True)
        if width >= 0
    ]
    return kept[0] if len(kept) == 1 else op.step("LogicalAnd", *kept)


def _diagonal(op: Lowering, index: int) -> int:
    """Which diagonal an operand names; above the main one it is positive. Refuses bands of several."""
    held = op.constant_input(index, "which diagonal it takes")
    if held.size < 1 or (held != held.reshape(-1)[0]).any():
        op.refuse("it takes several diagonals")
    return int(held.reshape(-1)[0])


def _sides(op: Lowering) -> tuple[int, int]:
    """Rows and columns of the matrices. Refuses where they are not known."""
    dims = op.input(0).shape.dims or ()
    if op.rank(op.input(0)) < 2 or not isinstance(dims[-2], int) or not isinstance(dims[-1], int):
        op.refuse("the size of its matrices is not known", "give the inputs shapes (set-shapes)")
    return dims[-2], dims[-1]
