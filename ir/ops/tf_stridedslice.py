"""Operators of TensorFlow that cut out a box: Slice, StridedSlice with every mask, its gradient and its update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from graphopt.ir import dimensions
from graphopt.ir.attributes import Attributes
from graphopt.ir.dimensions import Dim, SymbolicDim
from graphopt.ir.ops.inference import InferenceContext, InferenceError
from graphopt.ir.ops.registry import register
from graphopt.ir.ops.shapes import is_non_negative, vector_length
from graphopt.ir.ops.tf_array import taken
from graphopt.ir.ops.tf_fill import shape_operand, sizes_of
from graphopt.ir.types import UNKNOWN_SHAPE, Shape

Array = np.ndarray[Any, Any]


# Slice --------------------------------------------------------------------------------------------------------


def _slice_shape(context: InferenceContext) -> Sequence[Shape]:
    dims = context.shape(0).dims
    begin, size = context.partial(1), context.partial(2)
    if dims is None:
        lengths = [n for n in (vector_length(context, 1), vector_length(context, 2)) if n is not None]
        if not lengths:
            return [UNKNOWN_SHAPE]
        dims = (None,) * lengths[0]
    begin = [None] * len(dims) if begin is None else begin
    size = [None] * len(dims) if size is None else size
    if len(begin) != len(dims) or len(size) != len(dims):
        raise InferenceError(f"{len(begin)} starts and {len(size)} sizes do not fit rank {len(dims)}")
    return [Shape(_sliced(*entry) for entry in zip(dims, begin, size, strict=True))]


def _sliced(dim: Dim, begin: Dim, size: Dim) -> Dim:
    """One dimension of `Slice`; a size of -1 takes the rest."""
    if (isinstance(begin, int) and begin < 0) or (isinstance(size, int) and size < -1):
        raise InferenceError(f"a slice from {begin} of size {size} is not possible")
    rest = dimensions.subtract(dim, begin)
    least = size if isinstance(size, int) and size > 0 else 0
    if isinstance(rest, int) and rest < least:
        raise InferenceError(f"a slice from {begin} of size {size} exceeds dimension {dim}")
    if size == -1:
        return rest
    return size if is_non_negative(size) else None


def _slice(attrs: Attributes, value: Array, begin: Array, size: Array) -> Array:
    if begin.shape != (value.ndim,) or size.shape != (value.ndim,):
        raise ValueError(f"{begin.size} starts and {size.size} sizes do not fit rank {value.ndim}")
    places = []
    for dim, start, count in zip(value.shape, begin.tolist(), size.tolist(), strict=True):
        length = _sliced(dim, start, count)
        assert isinstance(length, int)
        places.append(slice(start, start + length))
    return taken(value, places)


register("tf.Slice", shape=_slice_shape, evaluate=_slice)


# StridedSlice: the specification ------------------------------------------------------------------------------


class Span(NamedTuple):
    """One dimension of a strided slice; `begin` and `end` are None where masked out."""

    begin: Dim
    end: Dim
    stride: Dim
    begin_masked: bool = False
    end_masked: bool = False
    shrinks: bool = False


WHOLE = Span(None, None, 1, True, True)
NEW_AXIS = "new axis"


def dense_spans(
    attrs: Attributes, begin: Sequence[Dim], end: Sequence[Dim], strides: Sequence[Dim], rank: int
) -> list[Span | str]:
    """The specification with its ellipsis expanded: one `Span` for each of `rank` dimensions, `NEW_AXIS` between.

    Raises `InferenceError` for more entries than dimensions, several ellipses or a zero stride.
    """
    count = len(strides)
    if len(begin) != count or len(end) != count:
        raise InferenceError(f"{len(begin)} begins, {len(end)} ends and {count} strides do not fit together")
    ellipsis, new_axis, shrink = attrs["ellipsis_mask"], attrs["new_axis_mask"], attrs["shrink_axis_mask"]
    places = [place for place in range(count) if ellipsis >> place & 1]
    if len(places) > 1:
        raise InferenceError("only one ellipsis is allowed")
    at = places[0] if places else count
    consuming = sum(1 for place in range(count) if place != at and not new_axis >> place & 1)
    if consuming > rank:
        raise InferenceError(f"a slice of {consuming} dimensions does not fit rank {rank}")
    spans: list[Span | str] = []
    for place in range(count):
        if place == at:
            spans += [WHOLE] * (rank - consuming)
        elif new_axis >> place & 1:
            spans.append(NEW_AXIS)
        else:
            if strides[place] == 0:
                raise InferenceError("a stride cannot be zero")
            masked = bool(attrs["begin_mask"] >> place & 1), bool(attrs["end_mask"] >> place & 1)
            spans.append(Span(begin[place], end[place], strides[place], *masked, bool(shrink >> place & 1)))
    return spans + [WHOLE] * (rank - consuming) if at == count else spans


def _shrunk(span: Span, dim: Dim) -> Dim:
    """The index that a shrinking dimension takes, checked as far as it is known."""
    if isinstance(span.stride, int) and span.stride < 0:
        raise InferenceError("an index cannot have a negative stride")
    if not isinstance(span.begin, int) or not isinstance(dim, int):
        return None
    if not -dim <= span.begin < dim:
        raise InferenceError(f"index {span.begin} is out of range for a dimension of {dim}")
    return span.begin % dim


def _clamped(place: Dim, dim: Dim) -> Dim:
    """`place` of a forward slice between zero and `dim`; unknown where its sign is."""
    if isinstance(place, int) and place < 0:
        return dimensions.maximum(dimensions.add(dim, place), 0)
    return dimensions.minimum(place, dim) if is_non_negative(place) else None


def span_length(span: Span, dim: Dim) -> Dim:
    """How many elements `span` takes of a dimension."""
    if not isinstance(span.stride, int):
        return None
    if span.begin_masked and span.end_masked:
        return dimensions.ceil_divide(dim, abs(span.stride))
    if isinstance(dim, int) and not isinstance(span.begin, SymbolicDim) and not isinstance(span.end, SymbolicDim):
        bounds = _bounds(span, dim)
        return None if bounds is None else len(range(*bounds))
    if span.stride < 0:
        return None
    return dimensions.ceil_divide(_forward_length(span, dim), span.stride)


def _forward_length(span: Span, dim: Dim) -> Dim:
    end = dim if span.end_masked else _clamped(span.end, dim)
    if span.begin_masked or span.begin == 0:
        return end
    if isinstance(span.begin, int) and span.begin < 0 and span.end_masked:
        return dimensions.minimum(dim, -span.begin)
    # A start beyond the end leaves nothing, so only a start counted from the back needs clamping.
    begin = span.begin if is_non_negative(span.begin) else _clamped(span.begin, dim)
    return dimensions.maximum(dimensions.subtract(end, begin), 0)


def _bounds(span: Span, dim: int) -> tuple[int, int, int] | None:
    """Start, stop and step, as `range` counts, within a dimension of known size; None where something is unknown."""
    if not isinstance(span.stride, int):
        return None
    first, last = (0, dim) if span.stride > 0 else (dim - 1, -1)
    low, high = (0, dim) if span.stride > 0 else (-1, dim - 1)

    def canonical(place: Dim) -> int | None:
        return None if not isinstance(place, int) else min(max(place + dim if place < 0 else place, low), high)

    begin = first if span.begin_masked else canonical(span.begin)
    end = last if span.end_masked else canonical(span.end)
    return None if begin is None or end is None else (begin, end, span.stride)


# StridedSlice -------------------------------------------------------------------------------------------------


def _strided_slice_shape(context: InferenceContext) -> Sequence[Shape]:
    dims = context.shape(0).dims
    count = vector_length(context, 3)
    if dims is None or count is None:
        return [UNKNOWN_SHAPE]
    operands = [context.partial(index) for index in (1, 2, 3)]
    begin, end, strides = ([None] * count if operand is None else list(operand) for operand in operands)
    return [strided_shape(context.attrs, dims, begin, end, strides)]


def strided_shape(
    attrs: Attributes, dims: Sequence[Dim], begin: Sequence[Dim], end: Sequence[Dim], strides: Sequence[Dim]
) -> Shape:
    """The shape of a strided slice of an array with `dims`. Raises `InferenceError` where there is none."""
    result: list[Dim] = []
    place = 0
    for span in dense_spans(attrs, begin, end, strides, len(dims)):
        if isinstance(span, str):
            result.append(1)
            continue
        if span.shrinks:
            _shrunk(span, dims[place])
        else:
            result.append(span_length(span, dims[place]))
        place += 1
    return Shape(result)


def strided_index(
    attrs: Attributes, shape: tuple[int, ...], begin: Array, end: Array, strides: Array
) -> tuple[tuple[slice, ...], list[int]]:
    """The slices that a specification means for an array of `shape`, and the shape of the result.

    Raises `ValueError` where TensorFlow refuses the specification.
    """
    if begin.ndim != 1 or end.ndim != 1 or strides.ndim != 1:
        raise ValueError("begin, end and strides must be vectors")
    index: list[slice] = []
    result: list[int] = []
    for span in dense_spans(attrs, begin.tolist(), end.tolist(), strides.tolist(), len(shape)):
        if isinstance(span, str):
            result.append(1)
            continue
        dim = shape[len(index)]
        if span.shrinks:
            at = _shrunk(span, dim)
            assert isinstance(at, int)
            index.append(slice(at, at + 1))
            continue
        bounds = _bounds(span, dim)
        assert bounds is not None
        start, stop, step = bounds
        length = len(range(start, stop, step))
        index.append(slice(start, stop if stop >= 0 else None, step) if length else slice(0, 0))
        result.append(length)
    return tuple(index), result


def _strided_slice(attrs: Attributes, value: Array, begin: Array, end: Array, strides: Array) -> Array:
    index, shape = strided_index(attrs, value.shape, begin, end, strides)
    return taken(value, index).reshape(shape)


def _strided_slice_grad_shape(context: InferenceContext) -> Sequence[Shape]:
    return [shape_operand(context, 0)]


def _strided_slice_grad(attrs: Attributes, shape: Array, begin: Array, end: Array, strides: Array, dy: Array) -> Array:
    result = np.zeros(sizes_of(shape), dy.dtype)
    index, sliced = strided_index(attrs, result.shape, begin, end, strides)
    if list(dy.shape) != sliced:
        raise ValueError(f"a gradient of shape {list(dy.shape)} does not fit a slice of shape {sliced}")
    target = taken(result, index)
    target[...] = dy.reshape(target.shape)
    return result


def _strided_update_shape(context: InferenceContext) -> Sequence[Shape]:
    return [context.shape(0)]


def _strided_update(attrs: Attributes, value: Array, begin: Array, end: Array, strides: Array, update: Array) -> Array:
    index, sliced = strided_index(attrs, value.shape, begin, end, strides)
    result = value.copy()
    target = taken(result, index)
    target[...] = np.broadcast_to(update, sliced).reshape(target.shape)
    return result


register("tf.StridedSlice", shape=_strided_slice_shape, evaluate=_strided_slice)
register("tf.StridedSliceGrad", shape=_strided_slice_grad_shape, evaluate=_strided_slice_grad)
register("tf.TensorStridedSliceUpdate", shape=_strided_update_shape, evaluate=_strided_update)
