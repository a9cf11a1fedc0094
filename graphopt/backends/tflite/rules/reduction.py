"""Reductions over axes, and what is made of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.backends.tflite.rules.common import as_int32
from graphopt.backends.tflite.rules.kernels import compute
from graphopt.backends.tflite.table import RULES
from graphopt.ir.value import Value

REDUCTIONS = {
    "tf.Mean": "MEAN", "tf.Sum": "SUM", "tf.Prod": "REDUCE_PROD", "tf.Max": "REDUCE_MAX", "tf.Min": "REDUCE_MIN",
    "tf.Any": "REDUCE_ANY", "tf.All": "REDUCE_ALL",
}  # fmt: skip


@RULES.legalize(*REDUCTIONS)
def reduction(op: Lowering) -> Value:
    """The mean, sum, product, extremum, disjunction or conjunction over some axes."""
    value, held = op.input(0), op.known(1)
    keep = bool(op.attr("keep_dims"))
    if held is None:
        return compute(op, REDUCTIONS[op.node.op], value, as_int32(op, op.input(1)), keep_dims=keep)
    if not held.size:
        return value
    rank = value.shape.rank
    axes = held.reshape(-1).tolist() if rank is None else sorted({int(axis) % rank for axis in held.reshape(-1)})
    if not axes:
        return value
    vector = op.integers(axes, name=f"{op.node.name}/axes")
    return compute(op, REDUCTIONS[op.node.op], value, vector, keep_dims=keep)


@RULES.legalize("tf.EuclideanNorm")
def euclidean_norm(op: Lowering) -> Value:
    """The root of the sum of squares."""
    squares = op.step("Square", op.input(0))
    return op.step("Sqrt", op.step("Sum", squares, op.input(1), keep_dims=bool(op.attr("keep_dims"))))


@RULES.legalize("tf.Softmax")
def softmax(op: Lowering) -> Value:
    """Exponentials over the last axis, normalised."""
    return compute(op, "SOFTMAX", op.input(0), beta=1.0)


@RULES.legalize("tf.LogSoftmax")
def log_softmax(op: Lowering) -> Value:
    """The logarithm of exponentials over the last axis, normalised."""
    return compute(op, "LOG_SOFTMAX", op.input(0))


@RULES.legalize("tf.Cumsum")
def cumulative_sum(op: Lowering) -> Value:
    """Sums of all elements up to each, along an axis."""
    attrs: dict[str, Any] = {key: bool(op.attr(key)) for key in ("exclusive", "reverse")}
    return compute(op, "CUMSUM", op.input(0), as_int32(op, op.input(1)), **attrs)


@RULES.legalize("tf.Bincount", "tf.DenseBincount")
def bin_count(op: Lowering) -> Value:
    """How often each number below a size occurs, whether it does, or the sum of its weights, in each row:
    columns of one-hot matrices."""
    numbers, _, weights = op.inputs
    rank, dtype = op.rank(numbers), op.type.dtype.numpy
    size = as_int32(op, op.input(1))
    on, off = (op.constant(np.asarray(number, dtype), name=f"{op.node.name}/{number}") for number in (1, 0))
    hot = op.step("OneHot", numbers, size, on, off, axis=-1)
    if weights.shape.size != 0 and not op.attr("binary_output"):
        last = op.integers(-1, name=f"{op.node.name}/last")
        hot = op.step("Mul", hot, op.step("ExpandDims", weights, last))
    counted = range(rank) if op.node.op == "tf.Bincount" else range(max(rank - 1, 0), rank)
    axes = op.integers(list(counted), name=f"{op.node.name}/axes")
    return op.step("Max" if op.attr("binary_output") else "Sum", hot, axes, keep_dims=False)
