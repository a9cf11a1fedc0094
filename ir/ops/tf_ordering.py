"""Operators of TensorFlow that order and count: the largest, the n-th, occurrences, histograms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphopt.ir.dimensions import Dim
from graphopt.ir.ops.inference import InferenceContext, InferenceError
from graphopt.ir.ops.registry import register
from graphopt.ir.ops.tf_elementwise import Array, is_narrow
from graphopt.ir.ops.tf_reduction import without_last
from graphopt.ir.ops.tf_windows import settled
from graphopt.ir.types import SCALAR, UNKNOWN_SHAPE, Shape


def scalar_int(array: Array, what: str) -> int:
    """The number in `array`. Raises `ValueError` unless it is a scalar."""
    if array.ndim:
        raise ValueError(f"{what} must be a scalar, not an array of shape {array.shape}")
    return int(array)


def size_of(context: InferenceContext, index: int, what: str) -> Dim:
    """The size that scalar input `index` gives, None if unknown. Raises `InferenceError` where it is absurd."""
    rank = context.shape(index).rank
    if rank not in (None, 0):
        raise InferenceError(f"{what} must be a scalar, not of rank {rank}")
    dims = context.partial(index)
    size = dims[0] if dims else None
    if isinstance(size, int) and size < 0:
        raise InferenceError(f"{what} is {size}, which is negative")
    return size


# The largest --------------------------------------------------------------------------------------------------


def _largest(array: Array, k: int, index_type: Any) -> list[Array]:
    """Values and places of the `k` largest of each row, in descending order, the first of equals first."""
    if not array.ndim:
        raise ValueError("the input must have at least one dimension")
    width = array.shape[-1]
    if not 0 <= k <= width:
        raise ValueError(f"cannot take {k} of {width} columns")
    keys = array.astype(np.float32) if is_narrow(array) else array
    if keys.dtype.kind == "f" and np.isnan(keys).any():
        raise ValueError("where NaN ranks among the largest is not defined")
    ascending = np.argsort(keys[..., ::-1], axis=-1, kind="stable")
    places = width - 1 - ascending[..., ::-1][..., :k]
    return [np.take_along_axis(array, places, -1), places.astype(index_type)]


def _unsorted(array: Array, k: int, index_type: Any) -> list[Array]:
    """The same in the order in which TensorFlow's heap holds them, where it sorts less than the whole row."""
    values, places = _largest(array, k, index_type)
    if k < 2 or k == array.shape[-1] or not places.size:
        return [values, places]
    rows, flat = array.reshape(-1, array.shape[-1]), places.reshape(-1, k)
    for row, kept in zip(rows, flat, strict=True):
        kept[:] = _heap_of_largest(row.tolist(), k)
    return [np.take_along_axis(array, places.astype(np.int64), -1), places]


def _heap_of_largest(row: list[float], k: int) -> list[int]:
    """Places of the `k` largest, the least of them first: the first `k + 1` make a heap, whose least is dropped; then
    the least makes room for each that is larger."""

    def is_before(one: int, other: int) -> bool:
        return row[one] > row[other] or (row[one] == row[other] and one < other)

    def sink(heap: list[int], place: int) -> None:
        while (child := 2 * place + 1) < len(heap):
            if child + 1 < len(heap) and is_before(heap[child], heap[child + 1]):
                child += 1
            if not is_before(heap[place], heap[child]):
                return
            heap[place], heap[child] = heap[child], heap[place]
            place = child

    def drop(heap: list[int]) -> None:
        heap[0], heap[-1] = heap[-1], heap[0]
        heap.pop()
        sink(heap, 0)

    heap = list(range(k + 1))
    for place in reversed(range(len(heap) // 2)):
        sink(heap, place)
    drop(heap)
    for other in range(k + 1, len(row)):
        if not is_before(other, heap[0]):
            continue
        drop(heap)
        heap.append(other)
        place = k - 1
        while place and is_before(heap[(place - 1) // 2], heap[place]):
            above = (place - 1) // 2
            heap[place], heap[above] = heap[above], heap[place]
            place = above
    return heap


def _top(attrs: Any, array: Array, k: int, index_type: Any) -> list[Array]:
    return (_largest if attrs.get("sorted", True) else _unsorted)(array, k, index_type)


def _top_k(attrs: Any, array: Array) -> list[Array]:
    return _top(attrs, array, attrs["k"], np.int32)


def _top_k_given(attrs: Any, array: Array, k: Array) -> list[Array]:
    return _top(attrs, array, scalar_int(k, "k"), attrs["index_type"].numpy)


@settled("k")
def _top_k_shape(context: InferenceContext) -> Sequence[Shape]:
    k = context.attrs["k"] if "k" in context.attrs else size_of(context, 1, "k")
    shape = without_last(context, k)
    width = context.shape(0)[-1]
    if isinstance(width, int) and isinstance(k, int) and k > width:
        raise InferenceError(f"cannot take {k} of {width} columns")
    return [shape, shape]


def _nth_element(attrs: Any, array: Array, n: Array) -> Array:
    place = scalar_int(n, "n")
    if not array.ndim or not 0 <= place < array.shape[-1]:
        raise ValueError(f"rows of an array of shape {array.shape} have no element {place}")
    keys = array.astype(np.float32) if is_narrow(array) else array
    if keys.dtype.kind == "f" and np.isnan(keys).any():
        raise ValueError("where NaN ranks is not defined")
    ordered = np.sort(keys, axis=-1)
    return np.array(ordered[..., -1 - place if attrs["reverse"] else place]).astype(array.dtype)


def _nth_element_shape(context: InferenceContext) -> Sequence[Shape]:
    place, shape = size_of(context, 1, "n"), without_last(context, None)
    width = context.shape(0)[-1] if shape.dims is not None else None
    if isinstance(width, int) and isinstance(place, int) and place >= width:
        raise InferenceError(f"rows of {width} elements have no element {place}")
    return [shape if shape.dims is None else Shape(shape.dims[:-1])]


# Counts -------------------------------------------------------------------------------------------------------


def _counts(values: Array, size: int, weights: Array, binary: bool) -> Array:
    """How often each of `0` to `size - 1` occurs in each row of `values`, or the sum of its weights."""
    if size < 0:
        raise ValueError(f"the number of bins is {size}, which is negative")
    if np.any(values < 0):
        raise ValueError("only numbers that are not negative can be counted")
    if weights.size and weights.size != values.size:
        raise ValueError("there must be a weight for each value, or none")
    rows = values.reshape(-1, values.shape[-1]) if values.ndim > 1 else values.reshape(1, -1)
    result = np.zeros((len(rows), size), weights.dtype)
    inside = rows < size
    places = (np.nonzero(inside)[0], rows[inside])
    if binary:
        result[places] = 1
    else:
        np.add.at(result, places, weights.reshape(rows.shape)[inside] if weights.size else weights.dtype.type(1))
    return result.reshape(*values.shape[:-1], size)


def _bincount(attrs: Any, values: Array, size: Array, weights: Array) -> Array:
    return _counts(values.reshape(-1), scalar_int(size, "size"), weights, binary=False)


def _bincount_shape(context: InferenceContext) -> Sequence[Shape]:
    return [Shape([size_of(context, 1, "size")])]


def _dense_bincount(attrs: Any, values: Array, size: Array, weights: Array) -> Array:
    if values.ndim > 2:
        raise ValueError("only vectors and matrices can be counted")
    return _counts(np.atleast_1d(values), scalar_int(size, "size"), weights, attrs["binary_output"])


def _dense_bincount_shape(context: InferenceContext) -> Sequence[Shape]:
    values, size = context.shape(0), size_of(context, 1, "size")
    if values.dims is None:
        return [UNKNOWN_SHAPE]
    if len(values.dims) > 2:
        raise InferenceError(f"only vectors and matrices can be counted, not {values}")
    return [Shape((*values.dims[:-1], size))]


def _histogram(attrs: Any, values: Array, value_range: Array, bins: Array) -> Array:
    count = scalar_int(bins, "the number of bins")
    if count <= 0:
        raise ValueError(f"a histogram cannot have {count} bins")
    if value_range.shape != (2,) or not value_range[0] < value_range[1]:
        raise ValueError(f"{value_range.tolist()} is no range of values")
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise ValueError("a histogram has no place for NaN")
    low = value_range[0]
    step = float(value_range[1] - low) / count
    with np.errstate(all="ignore"):
        places = (np.maximum(values, low) - low).astype(np.float64) / step
    places = np.minimum(places, count - 1).astype(np.int64)
    return np.bincount(places.reshape(-1), minlength=count).astype(attrs["dtype"].numpy)


def _histogram_shape(context: InferenceContext) -> Sequence[Shape]:
    bins = size_of(context, 2, "the number of bins")
    if isinstance(bins, int) and bins <= 0:
        raise InferenceError(f"a histogram cannot have {bins} bins")
    if context.shape(1).merged(Shape([2])) is None or context.shape(2).merged(SCALAR) is None:
        raise InferenceError("a histogram takes a range of two values and a number of bins")
    return [Shape([bins])]


register("tf.TopK", shape=_top_k_shape, evaluate=_top_k)
register("tf.TopKV2", shape=_top_k_shape, evaluate=_top_k_given)
register("tf.NthElement", shape=_nth_element_shape, evaluate=_nth_element)
register("tf.Bincount", shape=_bincount_shape, evaluate=_bincount)
register("tf.DenseBincount", shape=_dense_bincount_shape, evaluate=_dense_bincount)
register("tf.HistogramFixedWidth", shape=_histogram_shape, evaluate=_histogram)
