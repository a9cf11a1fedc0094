"""Reductions over axes, and what is made of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.backends.tflite.rules.common import as_int32
from graphopt.backends.tflite.rules.kernels import compute, step, whole
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
    squares = step(op, "Square", op.input(0))
    return step(op, "Sqrt", step(op, "Sum", squares, op.input(1), keep_dims=bool(op.attr("keep_dims"))))


@RULES.legalize("tf.BiasAddGrad")
def sum_beside_channels(op: Lowering) -> Value:
    """The sum over all axes but that of the channels."""
    rank = op.rank(op.input(0))
    channels = 1 if op.text("data_format", "NHWC").startswith("NC") else rank - 1
    axes = op.integers([axis for axis in range(rank) if axis != channels], name=f"{op.node.name}/axes")
    return step(op, "Sum", op.input(0), axes, keep_dims=False)


@RULES.legalize("tf.Softmax")
def softmax(op: Lowering) -> Value:
    """Exponentials over the last axis, normalised."""
    return compute(op, "SOFTMAX", op.input(0), beta=1.0)


@RULES.legalize("tf.LogSoftmax")
def log_softmax(op: Lowering) -> Value:
    """The logarithm of exponentials over the last axis, normalised."""
    return compute(op, "LOG_SOFTMAX", op.input(0))


@RULES.legalize("tf.SoftmaxCrossEntropyWithLogits")
def cross_entropy(op: Lowering) -> list[Value]:
    """The loss of each row, and its gradient."""
    logits, labels = op.inputs
    axes = op.integers([1], name=f"{op.node.name}/axes")
    parts = step(op, "Mul", labels, step(op, "LogSoftmax", logits))
    loss = step(op, "Neg", step(op, "Sum", parts, axes, keep_dims=False))
    return [loss, step(op, "Sub", step(op, "Softmax", logits), labels)]


@RULES.legalize("tf.SparseSoftmaxCrossEntropyWithLogits")
def sparse_cross_entropy(op: Lowering) -> list[Value]:
    """The loss of each row, whose label is the number of a class, and its gradient."""
    logits, labels = op.inputs
    dtype = logits.dtype.numpy
    classes = logits.shape[-1] if logits.shape.rank else None
    if not isinstance(classes, int) or dtype is None:
        op.refuse("the number of its classes is not known", "give the inputs shapes (set-shapes)")
    depth = op.integers(classes, name=f"{op.node.name}/classes")
    on, off = (op.constant(np.asarray(number, dtype), name=f"{op.node.name}/{number}") for number in (1, 0))
    dense = step(op, "OneHot", labels, depth, on, off, axis=-1)
    node = op.edit.node("tf.SoftmaxCrossEntropyWithLogits", [logits, dense], name=f"{op.node.name}/dense")
    return node.outputs


@RULES.legalize("tf.Cumsum")
def cumulative_sum(op: Lowering) -> Value:
    """Sums of all elements up to each, along an axis."""
    attrs: dict[str, Any] = {key: bool(op.attr(key)) for key in ("exclusive", "reverse")}
    return compute(op, "CUMSUM", op.input(0), as_int32(op, op.input(1)), **attrs)


@RULES.legalize("tf.Cumprod")
def cumulative_product(op: Lowering) -> Value:
    """Products of all elements up to each, along a constant axis of known size: shifted ones are multiplied in,
    by one place, by two, by four, until all are in."""
    value, rank = op.input(0), op.rank(op.input(0))
    axis = whole(op, 1, "its axis") % rank
    size = value.shape[axis]
    if not isinstance(size, int):
        op.refuse("the size of its axis is not known", "give the inputs shapes (set-shapes)")
    backwards, places = bool(op.attr("reverse")), 1
    if op.attr("exclusive") and size:
        value = _shifted(op, value, axis, 1, backwards)
    while places < size:
        value = step(op, "Mul", value, _shifted(op, value, axis, places, backwards))
        places *= 2
    return value


@RULES.legalize("tf.CumulativeLogsumexp")
def cumulative_log_of_sums(op: Lowering) -> Value:
    """Logarithms of sums of the exponentials up to each: those of two ranges at a time, as with products."""
    value, rank = op.input(0), op.rank(op.input(0))
    axis, lowest = whole(op, 1, "its axis") % rank, float(np.finfo(np.float32).min)
    size = value.shape[axis]
    if not isinstance(size, int) or value.dtype.name != "float32":
        op.refuse("the size of its axis is not known, or it is not float32", "give the inputs shapes (set-shapes)")
    backwards, places = bool(op.attr("reverse")), 1
    if op.attr("exclusive") and size:
        value = _shifted(op, value, axis, 1, backwards, lowest)
    while places < size:
        other = _shifted(op, value, axis, places, backwards, lowest)
        distance = step(op, "Neg", step(op, "Abs", step(op, "Sub", value, other)))
        more = step(op, "Log", step(op, "AddV2", step(op, "Exp", distance), op.scalar(1, value)))
        value = step(op, "AddV2", step(op, "Maximum", value, other), more)
        places *= 2
    if not op.attr("exclusive"):
        return value
    is_nothing = step(op, "Less", value, op.scalar(lowest / 2, value))
    return step(op, "SelectV2", is_nothing, op.scalar(float("-inf"), value), value)


def _shifted(op: Lowering, value: Value, axis: int, places: int, backwards: bool, fill: float = 1) -> Value:
    """`value` moved along `axis` by some places, with `fill` where nothing comes from."""
    rank, size, dtype = op.rank(value), value.shape[axis], value.dtype.numpy
    if not isinstance(size, int) or dtype is None:
        op.refuse("the size of its axis is not known", "give the inputs shapes (set-shapes)")
    begin = [places if backwards and axis == other else 0 for other in range(rank)]
    sizes = [size - places if axis == other else -1 for other in range(rank)]
    corner, extent = op.integers(begin, name=f"{op.node.name}/begin"), op.integers(sizes, name=f"{op.node.name}/size")
    margins = np.zeros((rank, 2), np.int32)
    margins[axis, int(backwards)] = places
    around = op.constant(margins, name=f"{op.node.name}/margins")
    return step(op, "PadV2", step(op, "Slice", value, corner, extent), around, op.scalar(fill, value))


@RULES.legalize("tf.Bincount", "tf.DenseBincount")
def bin_count(op: Lowering) -> Value:
    """How often each number below a size occurs, whether it does, or the sum of its weights, in each row:
    columns of one-hot matrices."""
    numbers, _, weights = op.inputs
    rank, dtype = op.rank(numbers), op.type.dtype.numpy
    size = as_int32(op, op.input(1))
    on, off = (op.constant(np.asarray(number, dtype), name=f"{op.node.name}/{number}") for number in (1, 0))
    hot = step(op, "OneHot", numbers, size, on, off, axis=-1)
    if weights.shape.size != 0 and not op.attr("binary_output"):
        last = op.integers(-1, name=f"{op.node.name}/last")
        hot = step(op, "Mul", hot, step(op, "ExpandDims", weights, last))
    counted = range(rank) if op.node.op == "tf.Bincount" else range(max(rank - 1, 0), rank)
    axes = op.integers(list(counted), name=f"{op.node.name}/axes")
    return step(op, "Max" if op.attr("binary_output") else "Sum", hot, axes, keep_dims=False)
