"""Elements moved, counted out, and looked up in sorted rows."""

from __future__ import annotations

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.ir.value import Value


def roll(op: Lowering) -> Value:
    """Elements moved along constant axes by constant numbers of places, those at the end to the front."""
    shifts = op.constant_input(1, "the shift").reshape(-1).tolist()
    axes = op.constant_input(2, "its axis").reshape(-1).tolist()
    value = op.input(0)
    for shift, axis in zip(shifts, axes, strict=True):
        rank = op.rank(value)
        axis %= rank
        size = value.shape[axis]
        if not isinstance(size, int):
            op.refuse("the size of the axis along which it rolls is not known", "give the inputs shapes (set-shapes)")
        places = shift % size if size else 0
        if places:
            value = _rolled(op, value, axis, size - places, rank)
    return value


def _rolled(op: Lowering, value: Value, axis: int, cut: int, rank: int) -> Value:
    ends = []
    for begin, size in ((cut, -1), (0, cut)):
        corner = op.integers([begin if axis == other else 0 for other in range(rank)], name=f"{op.node.name}/begin")
        extent = op.integers([size if axis == other else -1 for other in range(rank)], name=f"{op.node.name}/size")
        ends.append(op.step("Slice", value, corner, extent))
    return op.step("ConcatV2", *ends, op.integers(axis, name=f"{op.node.name}/axis"), N=2)


def reverse_flagged(op: Lowering) -> Value:
    """Backwards along the axes that have a flag."""
    axes = [axis for axis, flag in enumerate(op.constant_input(1, "which axes to reverse").reshape(-1)) if flag]
    if not axes:
        return op.input(0)
    return op.step("ReverseV2", op.input(0), op.integers(axes, name=f"{op.node.name}/axes"))


def batches_of_squares(op: Lowering) -> Value:
    """Square blocks of height and width moved into the batch, or back."""
    size = int(op.attr("block_size") or 0)
    block = op.integers([size, size], name=f"{op.node.name}/block")
    return op.step(f"{op.node.op_type}ND", op.input(0), block, op.input(1))


def evenly_spaced(op: Lowering) -> Value:
    """A known count of numbers at equal distances, the bounds among them."""
    many = op.whole(2, "the count of numbers")
    start, stop = op.input(0), op.input(1)
    dtype = op.type.dtype.numpy
    if many < 2 or dtype is None:
        shape = op.integers([many], name=f"{op.node.name}/shape")
        return op.step("Fill", shape, start)
    places = op.constant(np.arange(many).astype(dtype) / (many - 1), name=f"{op.node.name}/places")
    return op.step("AddV2", start, op.step("Mul", places, op.step("Sub", stop, start)))


def nth_element(op: Lowering) -> Value:
    """The element along the last axis that so many others come before: the last of the smallest or largest."""
    place = op.whole(1, "its place")
    value = op.input(0)
    if not op.attr("reverse"):
        value = op.step("Neg", value)
    many = op.integers(place + 1, name=f"{op.node.name}/count")
    found = op.step("TopKV2", value, many, sorted=True)
    last, axis = op.integers(place, name=f"{op.node.name}/place"), op.integers(-1, name=f"{op.node.name}/axis")
    chosen = op.step("GatherV2", found, last, axis, batch_dims=0)
    return chosen if op.attr("reverse") else op.step("Neg", chosen)


def bound(op: Lowering) -> Value:
    """Where numbers belong in sorted rows: how many elements of the row are smaller, or not larger."""
    rows, numbers = op.inputs
    middle, last = (op.integers(axis, name=f"{op.node.name}/axis") for axis in (1, 2))
    kind = "Less" if op.node.op == "tf.LowerBound" else "LessEqual"
    before = op.step(kind, op.step("ExpandDims", rows, middle), op.step("ExpandDims", numbers, last))
    dtype = op.type.dtype
    counted = op.step("Cast", before, SrcT=before.dtype, DstT=dtype, Truncate=False)
    return op.step("Sum", counted, op.integers([2], name=f"{op.node.name}/axes"), keep_dims=False)
