"""Operators of TensorFlow that reduce the rows of each segment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphopt.ir.dimensions import Dim
from graphopt.ir.ops.inference import InferenceContext, InferenceError
from graphopt.ir.ops.registry import Evaluation, register
from graphopt.ir.ops.tf_elementwise import Array, float_limits, is_narrow
from graphopt.ir.ops.tf_ordering import scalar_int, size_of
from graphopt.ir.ops.traits import Trait
from graphopt.ir.types import UNKNOWN_SHAPE, Shape

Initial = Callable[[np.dtype[Any]], Any]


def _zero(dtype: np.dtype[Any]) -> Any:
    return 0


def _one(dtype: np.dtype[Any]) -> Any:
    return 1


def _least(dtype: np.dtype[Any]) -> Any:
    return (np.iinfo(dtype) if dtype.kind in "iu" else float_limits(dtype)).min


def _greatest(dtype: np.dtype[Any]) -> Any:
    return (np.iinfo(dtype) if dtype.kind in "iu" else float_limits(dtype)).max


REDUCTIONS: dict[str, tuple[Any, Initial]] = {
    "Sum": (np.add, _zero),
    "Prod": (np.multiply, _one),
    "Max": (np.maximum, _least),
    "Min": (np.minimum, _greatest),
}


def reduce_rows(ufunc: Any, initial: Any, rows: Array, ids: Array, count: int) -> Array:
    """`count` rows, each the reduction of those rows of `rows` whose id is its place; negative ids are left out."""
    if not rows.size:
        return np.full((count, *rows.shape[1:]), initial, rows.dtype)
    wide = rows.astype(np.float32) if is_narrow(rows) else rows
    result = np.full((count, *rows.shape[1:]), initial, wide.dtype)
    kept = ids >= 0
    with np.errstate(all="ignore"):
        if kept.all():
            ufunc.at(result, ids, wide)
        else:
            ufunc.at(result, ids[kept], wide[kept])
        return np.asarray(result).astype(rows.dtype)


def _sizes(ids: Array, count: int) -> Array:
    return np.asarray(np.bincount(ids, minlength=count))[:count]


def _divided(total: Array, divisor: Array) -> Array:
    """`total` over `divisor`, row by row, in the type of `total`; integers are truncated."""
    column = divisor.reshape(divisor.shape + (1,) * (total.ndim - 1))
    if total.dtype.kind in "iu":
        quotient: Array = np.abs(total) // column.astype(total.dtype)
        return np.asarray(np.where(total < 0, -quotient, quotient)).astype(total.dtype)
    wide = total.astype(np.float32) if is_narrow(total) else total
    return np.asarray(wide / column).astype(total.dtype)


# Sorted segments ----------------------------------------------------------------------------------------------


def _sorted_count(ids: Array, rows: int) -> int:
    """Number of segments. Raises `ValueError` unless `ids` is one non-negative, ascending id for each row."""
    if ids.ndim != 1 or len(ids) != rows:
        raise ValueError(f"{rows} rows need a vector of as many segment ids, not shape {ids.shape}")
    if len(ids) and (ids[0] < 0 or np.any(ids[1:] < ids[:-1])):
        raise ValueError("segment ids must not be negative and must ascend")
    return int(ids[-1]) + 1 if len(ids) else 0


def _segment(name: str) -> Evaluation:
    """`SegmentSum` and so on; a segment without rows is zero, or one for products."""

    def evaluate(attrs: Any, data: Array, ids: Array) -> Array:
        if not data.ndim:
            raise ValueError("a scalar has no rows")
        count = _sorted_count(ids, len(data))
        ufunc, initial = REDUCTIONS["Sum" if name == "Mean" else name]
        wide = data.astype(np.float32) if is_narrow(data) else data
        result = reduce_rows(ufunc, initial(wide.dtype), wide, ids, count)
        sizes = _sizes(ids, count)
        if name == "Mean":
            result = _divided(result, np.maximum(sizes, 1))
        elif name in ("Max", "Min"):
            result[sizes == 0] = 0
        return result.astype(data.dtype)

    return evaluate


def _segment_shape(context: InferenceContext) -> Sequence[Shape]:
    data, ids = context.shape(0), context.constant(1)
    _check_vector(context.shape(1))
    if data.dims is None:
        return [UNKNOWN_SHAPE]
    if not data.dims:
        raise InferenceError("a scalar has no rows")
    count: Dim = None
    if context.input_count > 2:
        count = size_of(context, 2, "the number of segments")
    elif ids is not None:
        count = max(int(ids[-1]) + 1, 0) if ids.size else 0
    return [Shape((count, *data.dims[1:]))]


def _check_vector(shape: Shape) -> None:
    if shape.rank not in (None, 1):
        raise InferenceError(f"segment ids must be a vector, not of shape {shape}")


# Unsorted segments --------------------------------------------------------------------------------------------


def _unsorted_segment(name: str) -> Evaluation:
    ufunc, initial = REDUCTIONS[name]

    def evaluate(attrs: Any, data: Array, ids: Array, num_segments: Array) -> Array:
        count = scalar_int(num_segments, "the number of segments")
        if count < 0:
            raise ValueError(f"the number of segments is {count}, which is negative")
        if data.shape[: ids.ndim] != ids.shape:
            raise ValueError(f"data of shape {data.shape} do not begin with the shape of their ids, {ids.shape}")
        if data.size and np.any(ids >= count):
            raise ValueError(f"a segment id is beyond {count}, the number of segments")
        rows = data.reshape(ids.size, *data.shape[ids.ndim :])
        return reduce_rows(ufunc, initial(data.dtype), rows, ids.reshape(-1), count)

    return evaluate


def _unsorted_segment_shape(context: InferenceContext) -> Sequence[Shape]:
    data, ids = context.shape(0), context.shape(1)
    count = size_of(context, 2, "the number of segments")
    if data.dims is None or ids.dims is None:
        return [UNKNOWN_SHAPE]
    if Shape(data.dims[: len(ids.dims)]).merged(ids) is None:
        raise InferenceError(f"data of shape {data} do not begin with the shape of their ids, {ids}")
    return [Shape((count, *data.dims[len(ids.dims) :]))]


# Rows picked by index -----------------------------------------------------------------------------------------


def _scale(kind: str, sizes: Array) -> Array:
    """What a segment's sum is divided by."""
    sizes = np.maximum(sizes, 1)
    return np.sqrt(sizes) if kind == "SqrtN" else sizes


def _sparse_segment(kind: str) -> Evaluation:
    """`SparseSegmentSum` and so on: segments of the rows that `indices` picks."""

    def evaluate(attrs: Any, data: Array, indices: Array, ids: Array, num_segments: Array | None = None) -> Array:
        if not data.ndim or indices.ndim != 1:
            raise ValueError("rows are picked from an array by a vector of indices")
        if np.any((indices < 0) | (indices >= len(data))):
            raise ValueError(f"an index is outside the {len(data)} rows")
        count = _sorted_count(ids, len(indices))
        if num_segments is not None:
            given = scalar_int(num_segments, "the number of segments")
            if given < count:
                raise ValueError(f"a segment id is beyond {given}, the number of segments")
            count = given
        wide = data.astype(np.float32) if is_narrow(data) else data
        result = reduce_rows(np.add, 0, wide[indices], ids, count)
        if kind != "Sum":
            result = _divided(result, _scale(kind, _sizes(ids, count)))
        return result.astype(data.dtype)

    return evaluate


def _sparse_segment_shape(context: InferenceContext) -> Sequence[Shape]:
    data, ids = context.shape(0), context.constant(2)
    if context.shape(1).merged(context.shape(2)) is None:
        raise InferenceError("there must be a segment id for each index")
    _check_vector(context.shape(2))
    if data.dims is None:
        return [UNKNOWN_SHAPE]
    if not data.dims:
        raise InferenceError("a scalar has no rows")
    count: Dim = None
    if context.input_count > 3:
        count = size_of(context, 3, "the number of segments")
    elif ids is not None:
        count = max(int(ids[-1]) + 1, 0) if ids.size else 0
    return [Shape((count, *data.dims[1:]))]


def _sparse_segment_gradient(kind: str) -> Evaluation:
    def evaluate(attrs: Any, gradient: Array, indices: Array, ids: Array, rows: Array) -> Array:
        count = scalar_int(rows, "the number of rows")
        if ids.shape != indices.shape or ids.ndim != 1:
            raise ValueError("there must be a segment id for each index")
        if np.any((indices < 0) | (indices >= count)) or np.any((ids < 0) | (ids >= len(gradient))):
            raise ValueError("an index or a segment id is out of range")
        wide = gradient.astype(np.float32) if is_narrow(gradient) else gradient
        if kind != "Sum":
            wide = _divided(wide, _scale(kind, _sizes(ids, len(gradient))))
        return reduce_rows(np.add, 0, wide[ids], indices, count).astype(gradient.dtype)

    return evaluate


def _gradient_shape(context: InferenceContext) -> Sequence[Shape]:
    gradient, rows = context.shape(0), size_of(context, 3, "the number of rows")
    if gradient.dims is None:
        return [UNKNOWN_SHAPE] * context.output_count
    if not gradient.dims:
        raise InferenceError("a scalar has no rows")
    if context.output_count > 1:  # only the rows that occur, and which they are
        return [Shape((None, *gradient.dims[1:])), Shape([None])]
    return [Shape((rows, *gradient.dims[1:]))]


def _register() -> None:
    for name in ("Sum", "Prod", "Max", "Min", "Mean"):
        register(f"tf.Segment{name}", shape=_segment_shape, evaluate=_segment(name))
    for name in ("Sum", "Prod", "Max", "Min"):
        register(f"tf.Segment{name}V2", shape=_segment_shape)  # for devices other than the CPU
        register(f"tf.UnsortedSegment{name}", shape=_unsorted_segment_shape, evaluate=_unsorted_segment(name))
    for kind in ("Sum", "Mean", "SqrtN"):
        evaluate, base = _sparse_segment(kind), f"tf.SparseSegment{kind}"
        register((base, f"{base}WithNumSegments"), shape=_sparse_segment_shape, evaluate=evaluate)
        gradient = _sparse_segment_gradient(kind)
        register(f"{base}Grad", traits=Trait.TRAINING, shape=_gradient_shape, evaluate=gradient)
        register(f"{base}GradV2", traits=Trait.TRAINING, shape=_gradient_shape)


_register()
