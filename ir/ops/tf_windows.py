"""Sliding windows: data formats, paddings and the sizes that follow from them, for convolutions and pools."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, NamedTuple

import numpy as np

from graphopt.ir import dimensions
from graphopt.ir.attributes import AttributePlaceholder
from graphopt.ir.dimensions import Dim
from graphopt.ir.ops.inference import InferenceContext, InferenceError
from graphopt.ir.ops.registry import ShapeFunction
from graphopt.ir.types import UNKNOWN_SHAPE, Shape

CHANNELS_FIRST = frozenset({b"NCHW", b"NCDHW", b"CHANNELS_FIRST"})
CHANNELS_LAST = frozenset({b"NHWC", b"NDHWC", b"CHANNELS_LAST"})
ELEMENT_LIMIT = 1 << 31  # elements of an intermediate result beyond which an evaluation refuses


class Layout(NamedTuple):
    """Where the channels and the spatial dimensions of a batch of images or volumes are."""

    channel: int
    spatial: tuple[int, ...]


class Extent(NamedTuple):
    """Windows along one dimension: how many there are, and the padding before and after the data."""

    places: int
    before: int
    after: int


def layout(attrs: Mapping[str, Any], rank: int) -> Layout:
    """The layout that `data_format` names. Raises `InferenceError` for one that this rank does not have."""
    name = attrs.get("data_format", b"CHANNELS_LAST")
    if name in CHANNELS_LAST:
        return Layout(rank - 1, tuple(range(1, rank - 1)))
    if name in CHANNELS_FIRST:
        return Layout(1, tuple(range(2, rank)))
    raise InferenceError(f"data format {name!r} is not supported")


def integers(attrs: Mapping[str, Any], name: str, count: int) -> tuple[int, ...]:
    """A list attribute of `count` integers. Raises `InferenceError` for anything else."""
    value = attrs.get(name)
    if not isinstance(value, tuple) or len(value) != count or not all(type(item) is int for item in value):
        raise InferenceError(f"attribute '{name}' must be a list of {count} integers, not {value!r}")
    return value


def positive(attrs: Mapping[str, Any], name: str, count: int) -> tuple[int, ...]:
    """A list attribute of `count` integers above zero."""
    value = integers(attrs, name, count)
    if min(value, default=1) <= 0:
        raise InferenceError(f"attribute '{name}' must be positive, not {value}")
    return value


def spatial_only(attrs: Mapping[str, Any], name: str, where: Layout) -> tuple[int, ...]:
    """The spatial entries of a positive list attribute whose batch and channel entries must be 1."""
    value = positive(attrs, name, len(where.spatial) + 2)
    if value[0] != 1 or value[where.channel] != 1:
        raise InferenceError(f"attribute '{name}' must be 1 for the batch and the channels, not {value}")
    return tuple(value[axis] for axis in where.spatial)


def explicit_padding(attrs: Mapping[str, Any], where: Layout) -> tuple[tuple[int, int], ...]:
    """Padding before and after each spatial dimension: what `explicit_paddings` says, else zeros."""
    if attrs.get("padding") != b"EXPLICIT":
        if attrs.get("padding") not in (b"SAME", b"VALID"):
            raise InferenceError(f"padding {attrs.get('padding')!r} is none of SAME, VALID and EXPLICIT")
        return ((0, 0),) * len(where.spatial)
    flat = integers(attrs, "explicit_paddings", 2 * (len(where.spatial) + 2))
    pairs = [(flat[2 * axis], flat[2 * axis + 1]) for axis in range(len(flat) // 2)]
    if any(pairs[0]) or any(pairs[where.channel]) or min(flat) < 0:
        raise InferenceError(f"explicit paddings {flat} must be zero for batch and channels, and nowhere negative")
    return tuple(pairs[axis] for axis in where.spatial)


def extent(
    size: int, window: int, stride: int, dilation: int = 1, padding: bytes = b"VALID", before: int = 0, after: int = 0
) -> Extent:
    """Windows of `window` elements, `dilation` apart, every `stride` along `size` elements.

    Raises `InferenceError` where the window does not fit at all.
    """
    span = (window - 1) * dilation + 1
    if padding == b"SAME":
        count = -(-size // stride)
        needed = max(0, (count - 1) * stride + span - size)
        return Extent(count, needed // 2, needed - needed // 2)
    room = size + before + after - span + stride
    count = room // stride if room >= 0 else -(-room // stride)
    if count < 0:
        raise InferenceError(f"a window spanning {span} does not fit into {size + before + after} elements")
    return Extent(count, before, after)


def window_count(
    size: Dim, window: Dim, stride: int, dilation: int = 1, padding: bytes = b"VALID", before: int = 0, after: int = 0
) -> Dim:
    """`extent(...).places` where the sizes may be symbolic or unknown."""
    if isinstance(size, int) and isinstance(window, int):
        return extent(size, window, stride, dilation, padding, before, after).places
    if padding == b"SAME":
        return dimensions.ceil_divide(size, stride)
    reach = dimensions.multiply(dimensions.subtract(window, 1), dilation)  # span - 1
    room = dimensions.subtract(dimensions.add(size, before + after), reach)
    return dimensions.ceil_divide(room, stride)


def ranked(shape: Shape, rank: int, what: str) -> Shape:
    """`shape`, or `rank` unknown dimensions. Raises `InferenceError` where it has another rank."""
    if shape.dims is None:
        return Shape((None,) * rank)
    if len(shape.dims) != rank:
        raise InferenceError(f"{what} must have rank {rank}, not shape {shape}")
    return shape


def merge_dims(left: Dim, right: Dim, what: str) -> Dim:
    """What two statements about one dimension say together. Raises `InferenceError` where they contradict."""
    if isinstance(left, int) and isinstance(right, int) and left != right:
        raise InferenceError(f"{what} is {left} in one place and {right} in another")
    return left if isinstance(left, int) or right is None else right


def settled(*names: str) -> Callable[[ShapeFunction], ShapeFunction]:
    """Answer `unknown` inside a generic function body, where an attribute in `names` is still a placeholder."""

    def wrap(function: ShapeFunction) -> ShapeFunction:
        @wraps(function)
        def infer(context: InferenceContext) -> Sequence[Shape]:
            attrs = context.attrs
            for name in names:
                if type(attrs.get(name)) is AttributePlaceholder:
                    return [UNKNOWN_SHAPE] * context.output_count
            return function(context)

        return infer

    return wrap


def channels_last(array: np.ndarray[Any, Any], where: Layout) -> np.ndarray[Any, Any]:
    """A view with the channels behind everything else."""
    return array if where.channel == array.ndim - 1 else np.moveaxis(array, where.channel, -1)


def restore_layout(array: np.ndarray[Any, Any], where: Layout) -> np.ndarray[Any, Any]:
    """The inverse of `channels_last`, contiguous."""
    return array if where.channel == array.ndim - 1 else np.ascontiguousarray(np.moveaxis(array, -1, where.channel))


def padded(
    array: np.ndarray[Any, Any], axes: Sequence[int], extents: Sequence[Extent], fill: Any = 0
) -> np.ndarray[Any, Any]:
    """`array` with each of `axes` padded as `extents` says; the array itself where nothing is to be added."""
    if not any(item.before or item.after for item in extents):
        return array
    shape, place = list(array.shape), [slice(None)] * array.ndim
    for axis, item in zip(axes, extents, strict=True):
        place[axis] = slice(item.before, item.before + shape[axis])
        shape[axis] += item.before + item.after
    check_size(shape)
    result = np.full(shape, fill, array.dtype)
    result[tuple(place)] = array
    return result


def check_size(shape: Sequence[int]) -> None:
    """Raise `ValueError` where an array of `shape` is too large to be made."""
    size = 1
    for dim in shape:
        size *= int(dim)
    if size > ELEMENT_LIMIT:
        raise ValueError(f"a result of shape {list(shape)} is too large to be computed")


def widened(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """16-bit floats as float32, in which sums of them are computed; anything else as it is."""
    if array.dtype.itemsize == 2 and array.dtype.kind not in "iub":
        return array.astype(np.float32)
    return array
