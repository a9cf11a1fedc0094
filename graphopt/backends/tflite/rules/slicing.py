"""Parts of tensors: slices, strided ones too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from graphopt.backends.legalization import Array, Lowering
from graphopt.backends.tflite.rules.common import as_int32
from graphopt.backends.tflite.rules.kernels import move
from graphopt.backends.tflite.rules.reshaping import constant_shape, reshaped
from graphopt.backends.tflite.table import RULES
from graphopt.ir.dimensions import Dim
from graphopt.ir.types import Shape, TensorType
from graphopt.ir.value import Value

MASKS = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
LIMITS = np.iinfo(np.int32)


class Masks(NamedTuple):
    """Bits for the entries of a strided slice."""

    begin: int
    end: int
    ellipsis: int
    new_axis: int
    shrink: int

    def attributes(self) -> dict[str, Any]:
        """As the schema calls them."""
        return dict(zip(MASKS, self, strict=True))

    def opened(self, place: int, count: int) -> Masks:
        """With the entry at `place`, which is an ellipsis, replaced by `count` entries that take everything."""
        low = (1 << place) - 1
        taken = ((1 << count) - 1) << place
        spread = [(bits & low) | ((bits >> (place + 1)) << (place + count)) for bits in self]
        return Masks(spread[0] | taken, spread[1] | taken, 0, spread[3], spread[4])


@RULES.legalize("tf.Slice")
def slice_elements(op: Lowering) -> Value:
    """A box of a tensor, given by its corner and its sizes."""
    return move(op, "SLICE", op.input(0), as_int32(op, op.input(1)), as_int32(op, op.input(2)))


@RULES.legalize("tf.StridedSlice")
def strided_slice(op: Lowering) -> Value:
    """A part of a tensor, every so many elements. An ellipsis, which LiteRT miscounts, is written out; what only
    adds or drops axes of size one becomes a reshape."""
    value = op.input(0)
    masks = Masks(*(int(op.attr(name)) for name in MASKS))
    count = _entries(op)
    bits = (1 << count) - 1
    masks = Masks(*(mask & bits for mask in masks))
    known = [op.known(place) for place in (1, 2, 3)]
    if all(item is not None for item in known):
        return _constant(op, value, [item for item in known if item is not None], masks, count)
    vectors = [as_int32(op, op.input(place)) for place in (1, 2, 3)]
    if masks.ellipsis:
        place = masks.ellipsis.bit_length() - 1
        many = op.rank(value) - _taken(masks, count)
        masks = masks.opened(place, many)
        vectors = [_spread(op, vector, place, many, int(index == 2)) for index, vector in enumerate(vectors)]
    return move(op, "STRIDED_SLICE", value, *vectors, **_settled(masks).attributes())


def _entries(op: Lowering) -> int:
    for place in (1, 2, 3):
        shape = op.input(place).shape.static
        if shape is not None:
            return shape[0]
    op.refuse("the number of axes that it slices is not known", "give the inputs shapes (set-shapes)")


def _taken(masks: Masks, count: int) -> int:
    """How many axes of the operand the entries beside the ellipsis are for."""
    added = (masks.new_axis & ~masks.ellipsis).bit_count() if masks.new_axis else 0
    return count - added - 1


def _settled(masks: Masks) -> Masks:
    """An entry that adds an axis does nothing else."""
    return masks._replace(shrink=masks.shrink & ~masks.new_axis)


def _constant(op: Lowering, value: Value, vectors: Sequence[Array], masks: Masks, count: int) -> Value:
    begin, end, strides = ([int(number) for number in vector.reshape(-1)] for vector in vectors)
    if masks.ellipsis:
        place = masks.ellipsis.bit_length() - 1
        many = op.rank(value) - _taken(masks, count)
        masks = masks.opened(place, many)
        for numbers, filling in ((begin, 0), (end, 0), (strides, 1)):
            numbers[place : place + 1] = [filling] * many
    masks = _settled(masks)
    if _takes_all(value.shape.dims, begin, end, strides, masks):
        found = reshaped(op, value, op.type.shape.dims)
        if found is not None:
            return found
    if masks.new_axis:
        return _with_new_axes(op, value, (begin, end, strides), masks)
    return _sliced(op, value, (begin, end, strides), masks, op.type)


def _sliced(
    op: Lowering, value: Value, vectors: Sequence[list[int]], masks: Masks, type: TensorType, name: str | None = None
) -> Value:
    made = [
        op.integers(np.clip(numbers, LIMITS.min, LIMITS.max).astype(np.int32), name=f"{op.node.name}/{label}")
        for numbers, label in zip(vectors, ("begin", "end", "strides"), strict=True)
    ]
    return move(op, "STRIDED_SLICE", value, *made, type=type, name=name, **masks.attributes())


def _with_new_axes(op: Lowering, value: Value, vectors: Sequence[list[int]], masks: Masks) -> Value:
    """A slice without the new axes, which few kernels are fast at, and a reshape where that has a constant shape."""
    dims = op.type.shape.dims
    entries = [place for place in range(len(vectors[0])) if not masks.new_axis >> place & 1]
    if dims is None or constant_shape(dims) is None:
        return _sliced(op, value, vectors, masks, op.type)
    kept = [
        place for place in range(len(vectors[0])) if not masks.shrink >> place & 1
    ]  # entries with an axis in `dims`
    inner = [dim for place, dim in zip(kept, dims, strict=False) if not masks.new_axis >> place & 1]
    inner += dims[len(kept) :]
    plain = Masks(*(sum(1 << new for new, old in enumerate(entries) if bits >> old & 1) for bits in masks))
    rest = [[numbers[place] for place in entries] for numbers in vectors]
    type = TensorType(value.dtype, Shape(inner))
    part = _sliced(op, value, rest, plain._replace(new_axis=0), type, name=f"{op.node.name}/part")
    found = reshaped(op, part, dims)
    assert found is not None  # the shape is a constant one
    return found


def _takes_all(
    dims: tuple[Dim, ...] | None, begin: list[int], end: list[int], strides: list[int], masks: Masks
) -> bool:
    """Nothing is left out: every axis is taken whole, or has one element."""
    if dims is None:
        return False
    axis = 0
    for place, stride in enumerate(strides):
        bit = 1 << place
        if masks.new_axis & bit:
            continue
        if axis >= len(dims):
            return False
        size = dims[axis]
        axis += 1
        if masks.shrink & bit:
            if size != 1:
                return False
            continue
        from_start = masks.begin & bit or begin[place] == 0 or (isinstance(size, int) and begin[place] == -size)
        to_end = masks.end & bit or (isinstance(size, int) and end[place] >= size)
        if stride != 1 or not from_start or not to_end:
            return False
    return True


def _spread(op: Lowering, vector: Value, place: int, many: int, filling: int) -> Value:
    """Run-time entries with the one at `place` replaced by `many` times `filling`."""
    static = vector.shape.static
    count = 0 if static is None else static[0]
    parts = []
    axis = op.integers(0, name=f"{op.node.name}/axis")
    for start, stop in ((0, place), (place + 1, count)):
        if start < stop:
            corner, size = (op.integers([n], name=f"{op.node.name}/part") for n in (start, stop - start))
            parts.append(op.step("Slice", vector, corner, size))
    parts.insert(1 if place else 0, op.integers([filling] * many, name=f"{op.node.name}/ellipsis"))
    if len(parts) == 1:
        return parts[0]
    return op.step("ConcatV2", *parts, axis, N=len(parts))
