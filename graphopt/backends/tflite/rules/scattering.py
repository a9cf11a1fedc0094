"""Elements put into places that indices name."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.backends.tflite.rules.common import as_int32
from graphopt.backends.tflite.rules.kernels import compute, move
from graphopt.backends.tflite.table import RULES
from graphopt.ir.known import known_array
from graphopt.ir.types import INT32, Shape, TensorType
from graphopt.ir.value import Value


@RULES.legalize("tf.ScatterNd")
def scatter(op: Lowering) -> Value:
    """Zeros, and updates added up at the places that indices name."""
    indices, updates, shape = op.inputs
    static = op.type.shape.static
    sizes = as_int32(op, shape) if static is None else op.integers(list(static), name=f"{op.node.name}/shape")
    return move(op, "SCATTER_ND", as_int32(op, indices), updates, sizes)


@RULES.legalize("tf.TensorScatterAdd", "tf.TensorScatterSub")
def scatter_into_sum(op: Lowering) -> Value:
    """Updates added to, or taken from, a tensor: those alone are scattered into zeros."""
    kind = "AddV2" if op.node.op == "tf.TensorScatterAdd" else "Sub"
    return op.step(kind, op.input(0), _scattered(op, op.input(2)))


@RULES.legalize("tf.TensorScatterUpdate")
def scatter_into(op: Lowering) -> Value:
    """A tensor with some slices replaced: updates are scattered into zeros, and chosen where ones scattered likewise
    are not zero. Where indices name a place twice, the result is not one of the updates but their sum."""
    indices = known_array(op.input(1))
    if indices is not None:
        places = indices.reshape(-1, indices.shape[-1])
        if len(np.unique(places, axis=0)) < len(places):
            op.refuse("it names a place twice")
    updates = op.input(2)
    ones = op.step("OnesLike", _as_int32(op, updates))
    is_updated = op.step("Greater", _scattered(op, ones), op.scalar(0, ones))
    return op.step("SelectV2", is_updated, _scattered(op, updates), op.input(0))


@RULES.legalize("tf.XlaDynamicUpdateSlice")
def update_slice(op: Lowering) -> Value:
    """A box of a tensor replaced, moved inside where it would reach beyond."""
    return move(op, "DYNAMIC_UPDATE_SLICE", op.input(0), op.input(1), as_int32(op, op.input(2)))


@RULES.legalize("tf.SparseToDense")
def sparse_to_dense(op: Lowering) -> Value:
    """Values at the places that indices name, and a default elsewhere."""
    indices, shape, values, default = op.inputs
    if indices.dtype is not shape.dtype:
        indices, shape = as_int32(op, indices), as_int32(op, shape)
    attrs: dict[str, Any] = {"validate_indices": bool(op.attr("validate_indices"))}
    return compute(op, "SPARSE_TO_DENSE", indices, shape, values, default, **attrs)


def _scattered(op: Lowering, updates: Value) -> Value:
    """`updates` at the places of the node's indices in a tensor of the node's shape."""
    value = op.input(0)
    static = value.shape.static
    indices = as_int32(op, op.input(1))
    if static is not None:
        shape = op.integers(list(static), name=f"{op.node.name}/shape")
    else:
        shape = op.step("Shape", value, out_type=INT32)
    made = op.step("ScatterNd", indices, updates, shape)
    made.type = TensorType(updates.dtype, Shape(value.shape.dims))
    return made


def _as_int32(op: Lowering, value: Value) -> Value:
    if value.dtype is INT32:
        return value
    return op.step("Cast", value, SrcT=value.dtype, DstT=INT32, Truncate=False)
