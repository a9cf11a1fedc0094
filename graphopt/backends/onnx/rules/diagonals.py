"""Diagonals of matrices, triangles and bands."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.backends.legalization import Array, Lowering
from graphopt.backends.onnx.table import RULES
from graphopt.ir.ops import find
from graphopt.ir.types import INT32, INT64
from graphopt.ir.value import Value

LARGEST = 1 << 22  # elements of a table of places


@RULES.legalize("tf.MatrixDiag", "tf.Diag")
def diagonal_matrix(op: Lowering) -> Value:
    """Square matrices with a vector on the main diagonal and zeros elsewhere."""
    value = op.input(0)
    if op.node.op == "tf.Diag" and op.rank(value) != 1:
        op.refuse("it is the diagonal of a tensor of more than two dimensions")
    row = op.step("ExpandDims", value, op.integers(-2, name=f"{op.node.name}/axis"))
    return op.step("SelectV2", _is_diagonal(op, value), row, op.scalar(0, value))


@RULES.legalize("tf.MatrixSetDiag")
def replaced_diagonal(op: Lowering) -> Value:
    """Matrices with another main diagonal; those that are longer than wide have rows below it."""
    value, diagonal = op.input(0), op.input(1)
    dims = (value.shape.dims or ())[-2:]
    if not all(isinstance(dim, int) for dim in dims):
        op.refuse("the size of its matrices is not known", "give the inputs shapes (set-shapes)")
    rows, columns = dims
    assert isinstance(rows, int)
    assert isinstance(columns, int)
    axis = op.integers(-2 if columns <= rows else -1, name=f"{op.node.name}/axis")
    kept = op.constant(np.eye(rows, columns, dtype=np.bool_), name=f"{op.node.name}/diagonal")
    return op.step("SelectV2", kept, op.step("ExpandDims", diagonal, axis), value)


def _is_diagonal(op: Lowering, value: Value) -> Value:
    """Where the number of the row is that of the column, for as many as `value` has in its last dimension."""
    size = (value.shape.dims or (None,))[-1]
    if isinstance(size, int):
        return op.constant(np.eye(size, dtype=np.bool_), name=f"{op.node.name}/diagonal")
    shape = op.step("Shape", value, out_type=INT32)
    many = op.step("GatherV2", shape, op.integers(op.rank(value) - 1), op.integers(0))
    numbers = op.step("Range", op.integers(0), many, op.integers(1))
    return op.step("Equal", numbers, op.step("ExpandDims", numbers, op.integers(1)))


@RULES.legalize(
    "tf.MatrixDiagPart", "tf.MatrixDiagPartV2", "tf.MatrixDiagPartV3", "tf.DiagPart", "tf.MatrixDiagV2",
    "tf.MatrixDiagV3", "tf.MatrixSetDiagV2", "tf.MatrixSetDiagV3",
)  # fmt: skip
def moved_by_place(op: Lowering) -> Value:
    """Any diagonals of matrices of known size, however they are aligned: each element is looked up, and what is beside
    them is the padding, which stands behind all elements."""
    is_set = op.node.op.startswith("tf.MatrixSetDiag")
    count = 2 if is_set else 1
    ranks = [2 if is_set else _inner_rank(op), _diagonal_rank(op)][:count]
    flat, sizes = [], []
    for value, rank in zip(op.inputs[:count], ranks, strict=True):
        dims = (value.shape.dims or ())[op.rank(value) - rank :]
        if not all(isinstance(dim, int) for dim in dims):
            op.refuse("the size of its matrices is not known", "give the inputs shapes (set-shapes)")
        sizes.append(tuple(int(dim) for dim in dims if isinstance(dim, int)))
        flat.append(_flattened(op, value, rank, int(np.prod(sizes[-1]))))
    others = [op.constant_input(place, "which diagonals") for place in range(count, len(op.inputs))]
    places, total = _places(op, sizes, others)
    padding = others[-1] if op.node.op in PADDED else np.zeros(())
    if (places == total).any():
        flat.append(_behind(op, flat[0], padding))
    axis = op.integers(-1, name=f"{op.node.name}/axis")
    joined = flat[0] if len(flat) == 1 else op.step("ConcatV2", *flat, axis, N=len(flat))
    return op.step("GatherV2", joined, op.integers(places, name=f"{op.node.name}/places"), axis, batch_dims=0)


PADDED = frozenset({"tf.MatrixDiagPartV2", "tf.MatrixDiagPartV3", "tf.MatrixDiagV2", "tf.MatrixDiagV3"})


def _inner_rank(op: Lowering) -> int:
    """How many of the last dimensions of the first input one result is made of."""
    if op.node.op in ("tf.MatrixDiagV2", "tf.MatrixDiagV3"):
        return _diagonal_rank(op)
    return op.rank(op.input(0)) if op.node.op == "tf.DiagPart" else 2


def _diagonal_rank(op: Lowering) -> int:
    """Diagonals are rows of a matrix where there are several."""
    if op.node.op in ("tf.MatrixDiagPart", "tf.MatrixDiagPartV2", "tf.MatrixDiagPartV3", "tf.DiagPart"):
        return 1
    bounds = op.constant_input(2 if op.node.op.startswith("tf.MatrixSetDiag") else 1, "which diagonals").reshape(-1)
    return 2 if len(bounds) == 2 and bounds[0] != bounds[1] else 1


def _flattened(op: Lowering, value: Value, rank: int, size: int) -> Value:
    if rank == 1:
        return value
    outer = (value.shape.dims or ())[: op.rank(value) - rank]
    if sum(not isinstance(dim, int) for dim in outer) > 1:
        op.refuse("more than one of its dimensions is unknown", "give the inputs shapes (set-shapes)")
    wanted = [dim if isinstance(dim, int) else -1 for dim in outer]
    return op.step("Reshape", value, op.integers([*wanted, size], name=f"{op.node.name}/flat"))


def _places(op: Lowering, sizes: list[tuple[int, ...]], others: list[Array]) -> tuple[Array, int]:
    """Where each element of the result comes from: what the operator itself makes of numbers."""
    operator, total = find(op.node.op), sum(int(np.prod(size)) for size in sizes)
    if operator is None or operator.evaluate is None or total > LARGEST:
        op.refuse("its matrices are too large, or how it moves elements is not known")
    operands: list[Any] = []
    first = 1
    for size in sizes:
        many = int(np.prod(size))
        operands.append(np.arange(first, first + many, dtype=np.int32).reshape(size))
        first += many
    held: list[Any] = [item.astype(np.int32) for item in others]
    if op.node.op in PADDED:
        held[-1] = np.zeros((), np.int32)
    made = np.asarray(operator.evaluate({**op.attrs, "T": INT32}, *operands, *held))
    return np.where(made == 0, total, made - 1).astype(np.int32), total


def _behind(op: Lowering, flat: Value, padding: Array) -> Value:
    """One element of padding for each row of `flat`."""
    number = op.constant(np.asarray(padding).reshape(()).astype(op.type.dtype.numpy), f"{op.node.name}/padding")
    outer = (flat.shape.dims or ())[:-1]
    if all(isinstance(dim, int) for dim in outer):
        return op.step("Fill", op.integers([*outer, 1]), number)
    shape = op.step("Shape", flat, out_type=INT64)
    rows = op.step("Slice", shape, op.integers([0]), op.integers([op.rank(flat) - 1]))
    one = op.constant(np.ones(1, np.int64), name=f"{op.node.name}/one")
    return op.step("Fill", op.step("ConcatV2", rows, one, op.integers(0), N=2), number)


@RULES.legalize("tf.MatrixBandPart")
def band(op: Lowering) -> Value:
    """A triangle of each matrix; other bands are two triangles."""
    lower, upper = op.whole(1, "the lower bound"), op.whole(2, "the upper bound")
    value = op.input(0)
    for width, place, name in ((lower, -lower, "upper"), (upper, upper, "lower")):
        if width >= 0:
            bound = op.constant(np.array(place, np.int64), name=f"{op.node.name}/bound")
            value = op.emit("Trilu", value, bound, name=f"{op.node.name}/{name}", upper=int(name == "upper"))
    return value


@RULES.legalize("tf.MatrixDeterminant")
def determinant(op: Lowering) -> Value:
    """Determinants of matrices."""
    return op.emit("Det", op.input(0))
