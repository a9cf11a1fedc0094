"""Reductions, and normalisations over axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.backends.onnx.rules.common import as_int64, cast
from graphopt.backends.onnx.table import RULES
from graphopt.ir.types import BOOL, INT32, INT64, TensorType
from graphopt.ir.value import Value

REDUCTIONS = {
    "tf.Mean": "ReduceMean", "tf.Sum": "ReduceSum", "tf.Max": "ReduceMax", "tf.Min": "ReduceMin",
    "tf.Prod": "ReduceProd", "tf.EuclideanNorm": "ReduceL2",
}  # fmt: skip


@RULES.legalize(*REDUCTIONS)
def reduction(op: Lowering) -> Value:
    """A reduction over some axes, which may be computed; over none it is what it gets."""
    axes = _axes(op)
    if axes is None:
        return op.step("Abs", op.input(0)) if op.node.op == "tf.EuclideanNorm" else op.input(0)
    return op.emit(REDUCTIONS[op.node.op], op.input(0), axes, **_attributes(op))


@RULES.legalize("tf.Any", "tf.All")
def logical_reduction(op: Lowering) -> Value:
    """Any or all of some axes: the largest or smallest of zeros and ones."""
    axes = _axes(op)
    if axes is None:
        return op.input(0)
    numbers = cast(op, op.input(0), INT32)
    reduce = "ReduceMax" if op.node.op == "tf.Any" else "ReduceMin"
    kind = TensorType(INT32, op.type.shape)
    made = op.emit(reduce, numbers, axes, type=kind, name=f"{op.node.name}/reduced", **_attributes(op))
    return op.emit("Cast", made, to=BOOL)


def _axes(op: Lowering) -> Value | None:
    """The axes as a vector of int64; None where there are none."""
    held = op.known(1)
    if held is not None:
        axes = list(dict.fromkeys(_counted(op, int(axis)) for axis in held.reshape(-1)))
        return op.constant(np.array(axes, np.int64), name=f"{op.node.name}/axes") if axes else None
    given = op.input(1)
    if given.shape.rank != 1:
        given = op.step("Reshape", given, op.integers([-1], name=f"{op.node.name}/vector"))
    return as_int64(op, given)


def _counted(op: Lowering, axis: int) -> int:
    rank = op.input(0).shape.rank
    return axis % rank if rank else axis


def _attributes(op: Lowering) -> dict[str, Any]:
    attrs: dict[str, Any] = {"keepdims": int(bool(op.attr("keep_dims")))}
    return attrs if op.known(1) is not None else attrs | {"noop_with_empty_axes": 1}


@RULES.legalize("tf.Softmax", "tf.LogSoftmax")
def softmax(op: Lowering) -> Value:
    """Exponentials over the last axis, normalised."""
    return op.emit(op.node.op_type, op.input(0), axis=-1)


@RULES.legalize("tf.ArgMax", "tf.ArgMin")
def arg_extreme(op: Lowering) -> Value:
    """The place of the first largest or smallest element along an axis."""
    kind = TensorType(INT64, op.type.shape)
    attrs: dict[str, Any] = {"axis": op.whole(1, "which axis"), "keepdims": 0}
    if op.type.dtype is INT64:
        return op.emit(op.node.op_type, op.input(0), **attrs)
    made = op.emit(op.node.op_type, op.input(0), type=kind, name=f"{op.node.name}/place", **attrs)
    return cast(op, made, op.type.dtype)


@RULES.legalize("tf.Cumsum")
def cumulative_sum(op: Lowering) -> Value:
    """Sums of what stands before each element."""
    flags: dict[str, Any] = {name: int(bool(op.attr(name))) for name in ("exclusive", "reverse")}
    return op.emit("CumSum", op.input(0), as_int64(op, op.input(1)), **flags)
