"""Operators of TensorFlow that reduce axes: sums, means, extremes, norms, positions of extremes, running totals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphopt.ir.dimensions import Dim
from graphopt.ir.ops.inference import InferenceContext, InferenceError, normalized_axis, same_as, scalar
from graphopt.ir.ops.registry import Evaluation, register
from graphopt.ir.ops.tf_elementwise import Array, float_limits, is_narrow
from graphopt.ir.ops.tf_windows import settled
from graphopt.ir.types import UNKNOWN_SHAPE, Shape

sum_along: Any = np.add.reduce  # called with types that are only known as they run
product_along: Any = np.multiply.reduce

# Axes ---------------------------------------------------------------------------------------------------------


def reduced_axes(axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """`axes` counted from the front. Raises `InferenceError` where one is out of range or listed twice."""
    normalized = []
    for axis in axes:
        if not -rank <= axis < rank:
            raise InferenceError(f"axis {axis} is out of range for rank {rank}")
        normalized.append(axis % rank)
    if len(dict.fromkeys(normalized)) != len(normalized):
        raise InferenceError(f"an axis is listed twice in {list(axes)}")
    return tuple(normalized)


@settled("keep_dims")
def reduction_shape(context: InferenceContext) -> Sequence[Shape]:
    """Input 0 without the axes that input 1 lists, or with 1 in their place."""
    shape, axes = context.shape(0), context.partial(1)
    if shape.dims is None:
        return [UNKNOWN_SHAPE]
    rank, keep = len(shape.dims), context.attrs["keep_dims"]
    numbers = context.constant_ints(1)
    if numbers is not None:
        reduced = reduced_axes(numbers, rank)
        if keep:
            return [Shape(1 if place in reduced else dim for place, dim in enumerate(shape.dims))]
        return [Shape(dim for place, dim in enumerate(shape.dims) if place not in reduced)]
    if keep:
        return [Shape([None] * rank)]
    if axes is None:
        return [UNKNOWN_SHAPE]
    if len(axes) > rank:
        raise InferenceError(f"{len(axes)} axes cannot be reduced of rank {rank}")
    return [shape if not axes else Shape([None] * (rank - len(axes)))]


# Reductions ---------------------------------------------------------------------------------------------------


def _reduction(reduce: Callable[[Array, tuple[int, ...], bool], Any]) -> Evaluation:
    """An evaluation that calls `reduce(array, axes, keep_dims)` and gives the input's type back."""

    def evaluate(attrs: Any, array: Array, axes: Array) -> Array:
        places = reduced_axes([int(axis) for axis in axes.reshape(-1)], array.ndim)
        with np.errstate(all="ignore"):
            result = reduce(array, places, attrs["keep_dims"])
        return np.array(result, dtype=array.dtype)

    return evaluate


def _accumulator(array: Array) -> Any:
    """The type to add up in: double precision for floats, so that the order of adding does not show."""
    if array.dtype.kind in "iu":
        return array.dtype
    return np.complex128 if array.dtype.kind == "c" else np.float64


def _sum(array: Array, axes: tuple[int, ...], keep: bool) -> Any:
    return sum_along(_widened(array), axis=axes, dtype=_accumulator(array), keepdims=keep)


def _product(array: Array, axes: tuple[int, ...], keep: bool) -> Any:
    return product_along(_widened(array), axis=axes, dtype=_accumulator(array), keepdims=keep)


def _mean(array: Array, axes: tuple[int, ...], keep: bool) -> Any:
    count = int(np.prod([array.shape[axis] for axis in axes], dtype=np.int64))
    if array.dtype.kind in "iu":
        wide = np.uint64 if array.dtype.kind == "u" else np.int64
        total = sum_along(array, axis=axes, dtype=wide, keepdims=keep)
        quotient = np.abs(total) // wide(max(count, 1))
        return np.where(total < 0, -quotient, quotient) if wide is np.int64 else quotient
    total = _sum(array, axes, keep)
    return total / count if count or array.dtype.kind != "c" else total


def _extreme(ufunc: Any, highest: bool) -> Callable[[Array, tuple[int, ...], bool], Any]:
    """`ufunc`, which for nothing at all gives the least or the greatest value there is."""

    def reduce(array: Array, axes: tuple[int, ...], keep: bool) -> Any:
        wide = _widened(array)
        if wide.dtype.kind == "f":
            empty = wide.dtype.type(-np.inf if highest else np.inf)
        else:
            limits = np.iinfo(wide.dtype)
            empty = wide.dtype.type(limits.min if highest else limits.max)
        return ufunc.reduce(wide, axis=axes, keepdims=keep, initial=empty)

    return reduce


def _euclidean_norm(array: Array, axes: tuple[int, ...], keep: bool) -> Any:
    squares = array * np.conj(array) if array.dtype.kind == "c" else np.square(_widened(array))
    total = sum_along(squares, axis=axes, dtype=_accumulator(array), keepdims=keep)
    if array.dtype.kind in "iu":
        return np.sqrt(total.astype(np.float64))
    return np.sqrt(total)


def _widened(array: Array) -> Array:
    return array.astype(np.float32) if is_narrow(array) else array


def _logical(ufunc: Any) -> Callable[[Array, tuple[int, ...], bool], Any]:
    return lambda array, axes, keep: ufunc.reduce(array, axis=axes, keepdims=keep)


def _half_of_squares(attrs: Any, array: Array) -> Array:
    wide = array.astype(np.float64)
    with np.errstate(all="ignore"):
        return np.asarray(np.sum(wide * wide) / 2).astype(array.dtype)


# Positions of extremes ----------------------------------------------------------------------------------------


def _position(find: Any, highest: bool) -> Evaluation:
    """`argmax` or `argmin`: the first of equals.

    TensorFlow starts from the least finite value at place 0 and moves on only to what is greater, so NaN and the
    least infinity count as that value.
    """

    def evaluate(attrs: Any, array: Array, dimension: Array) -> Array:
        if dimension.ndim:
            raise ValueError("the axis must be a scalar")
        if not array.ndim:
            raise ValueError("a scalar has no axis to search")
        axis = normalized_axis(int(dimension), array.ndim)
        if not array.shape[axis]:
            raise ValueError(f"axis {axis} of shape {array.shape} is empty")
        wide = _widened(array)
        if wide.dtype.kind == "f":
            limits = float_limits(array.dtype)
            start = wide.dtype.type(limits.min if highest else limits.max)
            wide = np.fmax(wide, start) if highest else np.fmin(wide, start)
        return np.asarray(find(wide, axis=axis)).astype(attrs["output_type"].numpy)

    return evaluate


def _position_shape(context: InferenceContext) -> Sequence[Shape]:
    shape, axis = context.shape(0), context.constant_int(1)
    if shape.dims is None:
        return [UNKNOWN_SHAPE]
    rank = len(shape.dims)
    if rank == 0:
        raise InferenceError("a scalar has no axis to search")
    if axis is None:
        return [Shape([None] * (rank - 1))]
    place = normalized_axis(axis, rank)
    return [Shape(shape.dims[:place] + shape.dims[place + 1 :])]


# Running totals -----------------------------------------------------------------------------------------------


def _running(ufunc: Any, neutral: float) -> Evaluation:
    """The running result of `ufunc` along an axis; exclusive ones start with `neutral`."""

    def evaluate(attrs: Any, array: Array, axis: Array) -> Array:
        if axis.ndim:
            raise ValueError("the axis must be a scalar")
        if not array.ndim:
            raise ValueError("a scalar has no axis to run along")
        place = normalized_axis(int(axis), array.ndim)
        source = np.flip(array, place) if attrs["reverse"] else array
        with np.errstate(all="ignore"):
            total = _accumulate(ufunc, source, place)
        if attrs["exclusive"]:
            total = _shifted(total, place, array.dtype.type(neutral))
        return np.ascontiguousarray(np.flip(total, place) if attrs["reverse"] else total)

    return evaluate


def _accumulate(ufunc: Any, array: Array, axis: int) -> Array:
    if ufunc is np.logaddexp and is_narrow(array):
        return np.asarray(ufunc.accumulate(array.astype(np.float32), axis=axis)).astype(array.dtype)
    return np.asarray(ufunc.accumulate(array, axis=axis, dtype=array.dtype))


def _shifted(array: Array, axis: int, first: Any) -> Array:
    """`array` moved one step along `axis`, with `first` at the beginning."""
    rows = np.moveaxis(array, axis, 0)
    moved = np.empty_like(rows)
    moved[:1] = first
    moved[1:] = rows[:-1]
    return np.moveaxis(moved, 0, axis)


def running_shape(context: InferenceContext) -> Sequence[Shape]:
    """Input 0, along an axis that must exist."""
    shape, axis = context.shape(0), context.constant_int(1)
    if shape.dims is not None and axis is not None:
        normalized_axis(axis, len(shape.dims))
    return same_as()(context)


def without_last(context: InferenceContext, last: Dim) -> Shape:
    """Input 0 with another last dimension. Raises `InferenceError` for a scalar."""
    shape = context.shape(0)
    if shape.dims is None:
        return UNKNOWN_SHAPE
    if not shape.dims:
        raise InferenceError("the input must have at least one dimension")
    return Shape((*shape.dims[:-1], last))


def _register() -> None:
    reductions: dict[str, Callable[[Array, tuple[int, ...], bool], Any]] = {
        "Sum": _sum,
        "Prod": _product,
        "Mean": _mean,
        "Max": _extreme(np.maximum, highest=True),
        "Min": _extreme(np.minimum, highest=False),
        "All": _logical(np.logical_and),
        "Any": _logical(np.logical_or),
        "EuclideanNorm": _euclidean_norm,
    }
    for name, reduce in reductions.items():
        register(f"tf.{name}", shape=reduction_shape, evaluate=_reduction(reduce))
    register("tf.L2Loss", shape=scalar, evaluate=_half_of_squares)
    register("tf.ArgMax", shape=_position_shape, evaluate=_position(np.argmax, highest=True))
    register("tf.ArgMin", shape=_position_shape, evaluate=_position(np.argmin, highest=False))
    register("tf.Cumsum", shape=running_shape, evaluate=_running(np.add, 0))
    register("tf.Cumprod", shape=running_shape, evaluate=_running(np.multiply, 1))
    register("tf.CumulativeLogsumexp", shape=running_shape, evaluate=_running(np.logaddexp, -np.inf))


_register()
