"""Rows of a tensor that loops write one by one: what becomes of lists and arrays of tensors."""

from __future__ import annotations

from graphopt.backends.legalization import Lowering, shaped
from graphopt.backends.tflite.rules.common import NO_ACTIVATION, as_int32, reshape
from graphopt.backends.tflite.table import RULES
from graphopt.ir.known import known_array
from graphopt.ir.types import INT32
from graphopt.ir.value import Value

RESHAPES = frozenset({"tf.Reshape", "tfl.RESHAPE", "tf.ExpandDims", "tfl.EXPAND_DIMS"})


@RULES.legalize("tf.TensorScatterUpdate")
def row_update(op: Lowering) -> Value:
    """One row written into a tensor is a dynamic update of a slice; a tensor of one row becomes that row."""
    tensor, indices, updates = op.input(0), op.input(1), op.input(2)
    rank = op.rank(tensor)
    if indices.shape.static != (1, 1) or updates.shape.rank != rank or rank == 0:
        op.refuse("it writes more than one row")
    dims = tensor.shape.dims or ()
    place = known_array(indices)
    if dims[0] == 1 and (place is None or int(place.reshape(())) == 0):
        return updates
    return op.emit("DYNAMIC_UPDATE_SLICE", tensor, updates, _starts(op, indices, rank))


def _starts(op: Lowering, indices: Value, rank: int) -> Value:
    """The index of the row, and zeros for the other axes."""
    place = known_array(indices)
    if place is not None:
        return op.integers([int(place.reshape(())), *[0] * (rank - 1)], name=f"{op.node.name}/starts")
    index = indices
    while index.node.op in RESHAPES and index.shape.rank != 0:
        index = index.node.input(0)
    index = as_int32(op, index)
    made = shaped(INT32, [rank])
    if index.shape.rank == 0:
        zero = op.integers(0, name=f"{op.node.name}/zero")
        return op.emit(
            "PACK", index, *[zero] * (rank - 1), type=made, name=f"{op.node.name}/starts", values_count=rank, axis=0
        )
    first = reshape(op, as_int32(op, indices), [1], "index")
    rest = op.integers([0] * (rank - 1), name=f"{op.node.name}/zeros")
    return op.emit(
        "CONCATENATION", first, rest, type=made, name=f"{op.node.name}/starts", axis=0,
        fused_activation_function=NO_ACTIVATION,
    )  # fmt: skip
