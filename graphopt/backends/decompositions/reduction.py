"""Sums, losses and running products, written with plainer reductions."""

from __future__ import annotations

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.ir.value import Value


def sum_beside_channels(op: Lowering) -> Value:
    """The sum over all axes but that of the channels."""
    rank = op.rank(op.input(0))
    channels = 1 if op.text("data_format", "NHWC").startswith("NC") else rank - 1
    axes = op.integers([axis for axis in range(rank) if axis != channels], name=f"{op.node.name}/axes")
    return op.step("Sum", op.input(0), axes, keep_dims=False)


def cross_entropy(op: Lowering) -> list[Value]:
    """The loss of each row, and its gradient."""
    logits, labels = op.inputs
    axes = op.integers([1], name=f"{op.node.name}/axes")
    parts = op.step("Mul", labels, op.step("LogSoftmax", logits))
    loss = op.step("Neg", op.step("Sum", parts, axes, keep_dims=False))
    return [loss, op.step("Sub", op.step("Softmax", logits), labels)]


def sparse_cross_entropy(op: Lowering) -> list[Value]:
    """The loss of each row, whose label is the number of a class, and its gradient."""
    logits, labels = op.inputs
    dtype = logits.dtype.numpy
    classes = logits.shape[-1] if logits.shape.rank else None
    if not isinstance(classes, int) or dtype is None:
        op.refuse("the number of its classes is not known", "give the inputs shapes (set-shapes)")
    depth = op.integers(classes, name=f"{op.node.name}/classes")
    on, off = (op.constant(np.asarray(number, dtype), name=f"{op.node.name}/{number}") for number in (1, 0))
    dense = op.step("OneHot", labels, depth, on, off, axis=-1)
    node = op.edit.node("tf.SoftmaxCrossEntropyWithLogits", [logits, dense], name=f"{op.node.name}/dense")
    return node.outputs


def cumulative_product(op: Lowering) -> Value:
    """Products of all elements up to each, along a constant axis of known size: shifted ones are multiplied in,
    by one place, by two, by four, until all are in."""
    value, rank = op.input(0), op.rank(op.input(0))
    axis = op.whole(1, "its axis") % rank
    size = value.shape[axis]
    if not isinstance(size, int):
        op.refuse("the size of its axis is not known", "give the inputs shapes (set-shapes)")
    backwards, places = bool(op.attr("reverse")), 1
    if op.attr("exclusive") and size:
        value = _shifted(op, value, axis, 1, backwards)
    while places < size:
        value = op.step("Mul", value, _shifted(op, value, axis, places, backwards))
        places *= 2
    return value


def cumulative_log_of_sums(op: Lowering) -> Value:
    """Logarithms of sums of the exponentials up to each: those of two ranges at a time, as with products."""
    value, rank = op.input(0), op.rank(op.input(0))
    axis, lowest = op.whole(1, "its axis") % rank, float(np.finfo(np.float32).min)
    size = value.shape[axis]
    if not isinstance(size, int) or value.dtype.name != "float32":
        op.refuse("the size of its axis is not known, or it is not float32", "give the inputs shapes (set-shapes)")
    backwards, places = bool(op.attr("reverse")), 1
    if op.attr("exclusive") and size:
        value = _shifted(op, value, axis, 1, backwards, lowest)
    while places < size:
        other = _shifted(op, value, axis, places, backwards, lowest)
        distance = op.step("Neg", op.step("Abs", op.step("Sub", value, other)))
        more = op.step("Log", op.step("AddV2", op.step("Exp", distance), op.scalar(1, value)))
        value = op.step("AddV2", op.step("Maximum", value, other), more)
        places *= 2
    if not op.attr("exclusive"):
        return value
    is_nothing = op.step("Less", value, op.scalar(lowest / 2, value))
    return op.step("SelectV2", is_nothing, op.scalar(float("-inf"), value), value)


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
    return op.step("PadV2", op.step("Slice", value, corner, extent), around, op.scalar(fill, value))
