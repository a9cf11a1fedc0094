"""Elements found by indices."""

from __future__ import annotations

import numpy as np

from graphopt.backends.legalization import Array, Lowering
from graphopt.backends.tflite.rules.common import as_int32
from graphopt.backends.tflite.rules.kernels import move, step
from graphopt.backends.tflite.rules.reshaping import reshaped
from graphopt.backends.tflite.table import RULES
from graphopt.ir.known import known_array
from graphopt.ir.types import INT32, INT64
from graphopt.ir.value import Value


@RULES.legalize("tf.GatherV2", "tf.Gather")
def gather(op: Lowering) -> Value:
    """Slices along a constant axis, for each member of the batch its own where there are batch dimensions."""
    axis = int(op.constant_input(2, "its axis").reshape(())) if op.node.op == "tf.GatherV2" else 0
    value, indices = op.input(0), _indices(op, op.input(1))
    batch = int(op.attr("batch_dims", 0) or 0)
    if axis < 0:
        axis += op.rank(value)
    if batch < 0:
        batch += op.rank(indices)
    held = known_array(indices, limit=8)
    dims = value.shape.dims
    if held is not None and held.ndim == 0 and dims is not None and dims[axis] == 1:
        found = reshaped(op, value, op.type.shape.dims)
        if found is not None:
            return found
    return move(op, "GATHER", value, indices, axis=axis, batch_dims=batch)


@RULES.legalize("tf.GatherNd")
def gather_nd(op: Lowering) -> Value:
    """Slices that indices of several axes name."""
    return move(op, "GATHER_ND", op.input(0), _indices(op, op.input(1)))


@RULES.legalize("tf.DynamicStitch", "tf.ParallelDynamicStitch")
def stitch(op: Lowering) -> Value:
    """Rows interleaved by constant indices: all of them joined, and gathered in their order."""
    count = len(op.inputs) // 2
    places = [op.constant_input(number, "an index") for number in range(count)]
    order = _last_row_for_each_place(op, np.concatenate([item.reshape(-1) for item in places]))
    rows = []
    for item, data in zip(places, op.inputs[count:], strict=True):
        if item.ndim == 1:
            rows.append(data)
        elif item.size:
            flat = reshaped(op, data, (item.size, *(data.shape.dims or ())[item.ndim :]), name=f"{op.node.name}/rows")
            if flat is None:
                op.refuse("the shape of its rows is not known", "give the inputs shapes (set-shapes)")
            rows.append(flat)
    axis = op.integers(0, name=f"{op.node.name}/axis")
    joined = rows[0] if len(rows) == 1 else step(op, "ConcatV2", *rows, axis, N=len(rows))
    if order.tolist() == list(range(sum(item.size for item in places))):
        return joined
    return step(op, "GatherV2", joined, op.integers(order, name=f"{op.node.name}/order"), axis, batch_dims=0)


def _last_row_for_each_place(op: Lowering, places: Array) -> Array:
    order = np.full(int(places.max()) + 1 if places.size else 0, -1)
    order[places] = np.arange(places.size)
    if (order < 0).any():
        op.refuse("no row is given for some of its places")
    return order


@RULES.legalize("tf.MatrixDiag", "tf.MatrixDiagV2", "tf.MatrixDiagV3")
def diagonal_matrix(op: Lowering) -> Value:
    """Square matrices with a vector on the main diagonal and zeros elsewhere."""
    if op.node.op != "tf.MatrixDiag":
        _only_main_diagonal(op)
        size = op.input(0).shape[-1] if op.rank(op.input(0)) else None
        for place in (2, 3):
            number = int(op.constant_input(place, "the size of the matrix").reshape(()))
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
    """Matrices of known size with zeros beyond a constant number of diagonals."""
    value = op.input(0)
    dims = value.shape.dims or ()
    if op.rank(value) < 2 or not isinstance(dims[-2], int) or not isinstance(dims[-1], int):
        op.refuse("the size of its matrices is not known", "give the inputs shapes (set-shapes)")
    below, above = (int(op.constant_input(place, "the width of the band").reshape(())) for place in (1, 2))
    distance = np.arange(dims[-1])[None, :] - np.arange(dims[-2])[:, None]
    kept = ((below < 0) | (-distance <= below)) & ((above < 0) | (distance <= above))
    if kept.all():
        return value
    mask = op.constant(kept, name=f"{op.node.name}/band")
    dtype = value.dtype.numpy
    return step(op, "SelectV2", mask, value, op.constant(np.zeros((), dtype), name=f"{op.node.name}/zero"))


def _only_main_diagonal(op: Lowering, place: int = 1) -> None:
    if op.constant_input(place, "which diagonal it takes").any():
        op.refuse("it takes other diagonals than the main one")


def _indices(op: Lowering, value: Value) -> Value:
    """Indices in a type that the kernels take; constants as int32."""
    if value.dtype is INT64 and known_array(value) is not None:
        return as_int32(op, value)
    if value.dtype not in (INT32, INT64) and value.dtype.is_integer:
        return step(op, "Cast", value, SrcT=value.dtype, DstT=INT32, Truncate=False)
    return value
