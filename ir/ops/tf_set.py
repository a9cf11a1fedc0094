"""Operators of TensorFlow on values as sets: Unique, ListDiff, DenseToDenseSetOperation."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from graphopt.ir.attributes import Attributes
from graphopt.ir.ops.inference import InferenceContext, InferenceError, normalized_axis
from graphopt.ir.ops.registry import register
from graphopt.ir.ops.shapes import at_least_rank, merged, unknown_of_rank
from graphopt.ir.types import UNKNOWN_SHAPE, Shape

Array = np.ndarray[Any, Any]
VECTOR = Shape((None,))


# Unique -------------------------------------------------------------------------------------------------------


def _unique_shape(context: InferenceContext) -> Sequence[Shape]:
    """Values, the place of each element among them and, for some, their counts."""
    source = merged((context.shape(0), VECTOR))
    constant = context.constant(0)
    count = len(_distinct(constant.tolist())[0]) if constant is not None else None
    return [Shape((count,)), source, Shape((count,))][: context.output_count]


def _unique_v2_shape(context: InferenceContext) -> Sequence[Shape]:
    source = context.shape(0)
    axes = context.constant_ints(1)
    if source.dims is None or axes is None:
        return [unknown_of_rank(source.rank), VECTOR, VECTOR][: context.output_count]
    axis = _unique_axis(axes, len(source.dims))
    constant = context.constant(0)
    count = len(_distinct(_slices(constant, axis))[0]) if constant is not None else None
    values = Shape((*source.dims[:axis], count, *source.dims[axis + 1 :]))
    return [values, Shape((source.dims[axis],)), Shape((count,))][: context.output_count]


def _unique_axis(axes: Sequence[int], rank: int) -> int:
    if len(axes) > 1:
        raise InferenceError(f"{len(axes)} axes where there may be one")
    if not axes and rank != 1:
        raise InferenceError(f"without an axis the input must be a vector, not of rank {rank}")
    return normalized_axis(axes[0], rank) if axes else 0


def _distinct(items: Sequence[Hashable]) -> tuple[list[int], list[int]]:
    """The place where each distinct item first stands, and for each item its number among them.

    Zeros are equal whatever their sign, no NaN equals another: the equality of floats.
    """
    numbers: dict[Hashable, int] = {}
    places: list[int] = []
    found = []
    for place, item in enumerate(items):
        number = numbers.get(item)
        if number is None:
            number = numbers[item] = len(places)
            places.append(place)
        found.append(number)
    return places, found


def _slices(value: Array, axis: int) -> list[Hashable]:
    rows = np.moveaxis(value, axis, 0)
    return [tuple(row) for row in rows.reshape(len(rows), -1 if rows.size else 0).tolist()]


def _unique_outputs(attrs: Attributes, items: Sequence[Hashable]) -> tuple[Array, Array, Array]:
    places, found = _distinct(items)
    dtype = attrs["out_idx"].numpy
    counts = np.bincount(found, minlength=len(places)) if found else np.zeros(0)
    return np.array(places, np.intp), np.array(found, dtype), counts.astype(dtype)


def _unique(attrs: Attributes, value: Array) -> list[Array]:
    if value.ndim != 1:
        raise ValueError("the input must be a vector")
    places, found, _ = _unique_outputs(attrs, value.tolist())
    return [value[places], found]


def _unique_with_counts(attrs: Attributes, value: Array) -> list[Array]:
    if value.ndim != 1:
        raise ValueError("the input must be a vector")
    places, found, counts = _unique_outputs(attrs, value.tolist())
    return [value[places], found, counts]


def _unique_with_counts_v2(attrs: Attributes, value: Array, axes: Array) -> list[Array]:
    if axes.ndim != 1:
        raise ValueError("the axis must be a vector of one or no element")
    axis = _unique_axis(axes.tolist(), value.ndim)
    places, found, counts = _unique_outputs(attrs, _slices(value, axis))
    return [np.take(value, places, axis), found, counts]


def _unique_v2(attrs: Attributes, value: Array, axes: Array) -> list[Array]:
    return _unique_with_counts_v2(attrs, value, axes)[:2]


register("tf.Unique", shape=_unique_shape, evaluate=_unique)
register("tf.UniqueV2", shape=_unique_v2_shape, evaluate=_unique_v2)
register("tf.UniqueWithCounts", shape=_unique_shape, evaluate=_unique_with_counts)
register("tf.UniqueWithCountsV2", shape=_unique_v2_shape, evaluate=_unique_with_counts_v2)


# ListDiff -----------------------------------------------------------------------------------------------------


def _list_diff_shape(context: InferenceContext) -> Sequence[Shape]:
    left, right = context.constant(0), context.constant(1)
    if left is None or right is None or left.ndim != 1 or right.ndim != 1:
        return [VECTOR, VECTOR]
    count = len(_remaining(left, right))
    return [Shape((count,)), Shape((count,))]


def _remaining(left: Array, right: Array) -> list[int]:
    taken = dict.fromkeys(right.tolist())
    return [place for place, item in enumerate(left.tolist()) if item not in taken]


def _list_diff(attrs: Attributes, left: Array, right: Array) -> list[Array]:
    if left.ndim != 1 or right.ndim != 1:
        raise ValueError("both lists must be vectors")
    places = _remaining(left, right)
    return [left[np.array(places, np.intp)], np.array(places, attrs["out_idx"].numpy)]


register(("tf.ListDiff", "tf.SetDiff1D"), shape=_list_diff_shape, evaluate=_list_diff)


# DenseToDenseSetOperation -------------------------------------------------------------------------------------

SET_OPERATIONS = (b"a-b", b"b-a", b"intersection", b"union")


def _set_operation_shape(context: InferenceContext) -> Sequence[Shape]:
    """Indices, values and shape of a sparse tensor."""
    left, right = at_least_rank(context, 0, 2), at_least_rank(context, 1, 2)
    if left is not None and right is not None:
        merged((Shape(left[:-1]), Shape(right[:-1])))
    known = left if left is not None else right
    rank = None if known is None else len(known)
    arrays = [context.constant(0), context.constant(1)]
    count = None
    if arrays[0] is not None and arrays[1] is not None:
        count = len(_set_operation(context.attrs, arrays[0], arrays[1])[1])
    return [Shape((count, rank)), Shape((count,)), Shape((rank,))]


def _combined(operation: bytes, left: set[Any], right: set[Any]) -> list[Any]:
    """Elements of the result, in ascending order."""
    if operation == b"a-b":
        return sorted(left - right)
    if operation == b"b-a":
        return sorted(right - left)
    return sorted(left & right) if operation == b"intersection" else sorted(left | right)


def _set_operation(attrs: Attributes, left: Array, right: Array) -> list[Array]:
    operation = attrs["set_operation"].lower()
    if operation not in SET_OPERATIONS:
        raise ValueError(f"there is no set operation {attrs['set_operation']!r}")
    if left.ndim < 2 or left.shape[:-1] != right.shape[:-1]:
        raise ValueError(f"sets of shapes {list(left.shape)} and {list(right.shape)} do not fit together")
    indices: list[tuple[int, ...]] = []
    values: list[Any] = []
    longest = 0
    for group in np.ndindex(left.shape[:-1]):
        items = _combined(operation, set(left[group].tolist()), set(right[group].tolist()))
        indices += [(*group, place) for place in range(len(items))]
        values += items
        longest = max(longest, len(items))
    return [
        np.array(indices, np.int64).reshape(len(indices), left.ndim),
        np.array(values, left.dtype),
        np.array([*left.shape[:-1], longest], np.int64),
    ]


def _set_size_shape(context: InferenceContext) -> Sequence[Shape]:
    sizes = context.constant_ints(2)
    return [UNKNOWN_SHAPE if not sizes else Shape(sizes[:-1])]


register("tf.DenseToDenseSetOperation", shape=_set_operation_shape, evaluate=_set_operation)
register("tf.SetSize", shape=_set_size_shape)


def _other_set_operation_shape(context: InferenceContext) -> Sequence[Shape]:
    rank = context.shape(0).rank if context.node.op == "tf.DenseToSparseSetOperation" else None
    return [Shape((None, rank)), VECTOR, Shape((rank,))]


register(("tf.DenseToSparseSetOperation", "tf.SparseToSparseSetOperation"), shape=_other_set_operation_shape)
