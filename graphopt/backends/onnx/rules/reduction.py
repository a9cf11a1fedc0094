"""Reductions, and normalisations over axes."""

from __future__ import annotations

from graphopt.backends.legalization import Lowering
from graphopt.backends.onnx.rules.common import as_int64
from graphopt.backends.onnx.table import RULES
from graphopt.ir.value import Value

REDUCTIONS = {
    "tf.Mean": "ReduceMean", "tf.Sum": "ReduceSum", "tf.Max": "ReduceMax", "tf.Min": "ReduceMin",
    "tf.Prod": "ReduceProd",
}  # fmt: skip


@RULES.legalize(*REDUCTIONS)
def reduction(op: Lowering) -> Value:
    """A reduction over some axes."""
    axes = op.constant_input(1, "which axes").reshape(-1)
    if not axes.size:
        return op.input(0)
    held = op.constant(axes.astype("int64"), name=f"{op.node.name}/axes")
    return op.emit(REDUCTIONS[op.node.op], op.input(0), held, keepdims=int(bool(op.attr("keep_dims"))))


@RULES.legalize("tf.Softmax", "tf.LogSoftmax")
def softmax(op: Lowering) -> Value:
    """Exponentials over the last axis, normalised."""
    return op.emit(op.node.op_type, op.input(0), axis=-1)


@RULES.legalize("tf.ArgMax", "tf.ArgMin")
def arg_extreme(op: Lowering) -> Value:
    """The place of the first largest or smallest element along an axis."""
    from graphopt.backends.onnx.rules.common import cast
    from graphopt.ir.types import INT64, TensorType

    axis = int(op.constant_input(1, "which axis"))
    made = op.emit(
        op.node.op_type, op.input(0), type=TensorType(INT64, op.type.shape), name=f"{op.node.name}/place", axis=axis,
        keepdims=0,
    )  # fmt: skip
    return cast(op, made, op.type.dtype) if op.type.dtype is not INT64 else made


@RULES.legalize("tf.Cumsum")
def cumsum(op: Lowering) -> Value:
    """Sums of what stands before each element."""
    return op.emit(
        "CumSum", op.input(0), as_int64(op, op.input(1)), exclusive=int(bool(op.attr("exclusive"))),
        reverse=int(bool(op.attr("reverse"))),
    )  # fmt: skip
