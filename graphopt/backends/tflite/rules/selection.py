"""Elements chosen by conditions, and where conditions hold."""

from __future__ import annotations

from graphopt.backends.legalization import Lowering
from graphopt.backends.tflite.rules.broadcasting import stretched
from graphopt.backends.tflite.rules.kernels import MOVEMENT, compute, move
from graphopt.backends.tflite.rules.reshaping import reshaped
from graphopt.backends.tflite.table import RULES
from graphopt.ir.types import BOOL, INT64, Shape, TensorType
from graphopt.ir.value import Value


@RULES.legalize("tf.Select")
def select(op: Lowering) -> Value:
    """One of two tensors of one shape, element by element; a condition of one dimension chooses whole rows."""
    condition, value = op.input(0), op.input(1)
    rank = condition.shape.rank
    if rank == 1 and value.shape.rank not in (None, 1):
        rows = reshaped(op, condition, (condition.shape[0], *(1,) * (op.rank(value) - 1)), name=f"{op.node.name}/rows")
        if rows is None:
            op.refuse("the number of its rows is not known", "give the inputs shapes (set-shapes)")
        return move(op, "SELECT_V2", rows, value, op.input(2))
    return move(op, "SELECT" if rank else "SELECT_V2", condition, value, op.input(2))


@RULES.legalize("tf.SelectV2")
def select_broadcasting(op: Lowering) -> Value:
    """One of two values, element by element, with broadcasting."""
    return stretched(op, "SELECT_V2", *op.inputs, wider=MOVEMENT)


@RULES.legalize("tf.Where")
def places(op: Lowering) -> Value:
    """The places where a condition holds, or numbers are not zero."""
    value = op.input(0)
    if value.dtype is BOOL:
        return compute(op, "WHERE", value)
    zero = op.step("ZerosLike", value)
    return op.step("Where", op.step("NotEqual", value, zero), T=BOOL)


@RULES.legalize("tf.DynamicPartition")
def partition(op: Lowering) -> list[Value]:
    """Rows by the number of the part that each belongs to: for every part, where its rows are, and those."""
    data, parts = op.input(0), op.input(1)
    inner = (data.shape.dims or ())[op.rank(parts) :]
    if op.rank(parts) != 1:
        flat = reshaped(op, data, (None, *inner), name=f"{op.node.name}/rows")
        numbers = reshaped(op, parts, (None,), name=f"{op.node.name}/parts")
        if flat is None or numbers is None:
            op.refuse("the shape of its rows is not known", "give the inputs shapes (set-shapes)")
        data, parts = flat, numbers
    axis = op.integers(0, name=f"{op.node.name}/axis")
    found = []
    for place in range(len(op.node.outputs)):
        number = op.integers(place, name=f"{op.node.name}/{place}")
        where = op.step("Where", op.step("Equal", parts, number))
        where.type = TensorType(INT64, Shape((None, 1)))
        chosen = op.step("Squeeze", where, squeeze_dims=(1,))
        found.append(op.step("GatherV2", data, chosen, axis, batch_dims=0))
    return found
