"""Convolutions with NumPy, channels last, over any number of spatial dimensions.

Windows are gathered into blocks of a bounded size and multiplied by the filter as a matrix, so that nothing larger
than the input, the output and one block exists at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from graphopt.ir.ops.tf_windows import Extent, check_size, padded

Array = np.ndarray[Any, Any]
QUIET = np.errstate(all="ignore")  # infinities and NaN are values like any other
BLOCK_BYTES = 4 << 20  # of gathered windows: stays in the cache between gathering and multiplying
DEPTHWISE_BYTES = 256 << 10  # of output rows worked on at once


@QUIET
def convolve(
    images: Array, filters: Array, strides: Sequence[int], dilations: Sequence[int], extents: Sequence[Extent]
) -> Array:
    """Cross-correlation of `[n, *sizes, in]` with `[*window, in / groups, out]`; gives `[n, *counts, out]`."""
    groups = images.shape[-1] // filters.shape[-2]
    counts = tuple(item.places for item in extents)
    shape = (images.shape[0], *counts, filters.shape[-1])
    check_size(shape)
    result = np.empty(shape, images.dtype)
    if result.size == 0:
        return result
    source = np.ascontiguousarray(padded(images, range(1, images.ndim - 1), extents))
    depth, outputs = filters.shape[-2], filters.shape[-1] // groups
    for group in range(groups):
        columns = slice(group * outputs, (group + 1) * outputs)
        matrix = filters[..., columns].reshape(-1, outputs)
        part = source[..., group * depth : (group + 1) * depth]
        _multiply_windows(part, matrix, filters.shape[:-2], strides, dilations, result[..., columns])
    return result


def _multiply_windows(
    source: Array,
    matrix: Array,
    window: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    result: Array,
) -> None:
    """`result[n, *place] = windows[n, *place] @ matrix`, one block of places after another."""
    windows = _windows(source, window, strides, dilations, result.shape[1:-1])
    for block in _blocks(result.shape[:-1], matrix.shape[0] * source.itemsize):
        rows = windows[block].reshape(-1, matrix.shape[0])
        target = result[block]
        if target.flags.c_contiguous:
            np.matmul(rows, matrix, out=target.reshape(-1, matrix.shape[1]))
        else:
            target[...] = np.matmul(rows, matrix).reshape(target.shape)


def _windows(
    source: Array, window: Sequence[int], strides: Sequence[int], dilations: Sequence[int], counts: Sequence[int]
) -> Array:
    """A view `[n, *counts, *window, channels]` of `[n, *sizes, channels]`."""
    steps = source.strides[1:-1]
    for size, count, width, stride, dilation in zip(
        source.shape[1:-1], counts, window, strides, dilations, strict=True
    ):
        if (count - 1) * stride + (width - 1) * dilation >= size:  # reading past the end would be a wild read
            raise ValueError(f"{count} windows of {width} elements do not fit into {size}")
    return np.lib.stride_tricks.as_strided(
        source,
        (source.shape[0], *counts, *window, source.shape[-1]),
        (
            source.strides[0],
            *(step * stride for step, stride in zip(steps, strides, strict=True)),
            *(step * dilation for step, dilation in zip(steps, dilations, strict=True)),
            source.strides[-1],
        ),
        writeable=False,
    )


def _blocks(shape: Sequence[int], bytes_each: int, budget: int = BLOCK_BYTES) -> Iterator[tuple[slice, ...]]:
    """Cut an array of `shape`, `bytes_each` an element, into runs along as few leading axes as the budget allows."""
    axis, inner = 0, math.prod(shape[1:]) * bytes_each
    while axis + 1 < len(shape) and inner > budget:
        axis += 1
        inner //= max(1, shape[axis])
    run = max(1, budget // max(1, inner))
    for leading in product(*(range(size) for size in shape[:axis])):
        fixed = tuple(slice(place, place + 1) for place in leading)
        for start in range(0, shape[axis], run):
            yield (*fixed, slice(start, start + run))


@QUIET
def convolve_depthwise(
    images: Array, filters: Array, strides: Sequence[int], dilations: Sequence[int], extents: Sequence[Extent]
) -> Array:
    """Each channel of `[n, rows, columns, in]` by its own `[*window, in, m]`; gives `[n, *counts, in * m]`."""
    multiplier, channels = filters.shape[-1], filters.shape[-2]
    counts = tuple(item.places for item in extents)
    shape = (images.shape[0], *counts, channels, multiplier)
    check_size(shape)
    result = np.empty(shape, images.dtype)
    if result.size:
        source = padded(images, range(1, images.ndim - 1), extents)
        for index in range(multiplier):
            weights = np.ascontiguousarray(filters[..., index])
            _depthwise(source, weights, strides, dilations, result[..., index])
    return result.reshape(*shape[:-2], channels * multiplier)


def _depthwise(source: Array, weights: Array, strides: Sequence[int], dilations: Sequence[int], result: Array) -> None:
    """Sum of shifted products, a few output rows at a time so that they stay in the cache."""
    windows = _windows(source, weights.shape[:-1], strides, dilations, result.shape[1:-1])
    window = list(product(*(range(extent) for extent in weights.shape[:-1])))
    shifts: list[Any] = [(..., *offset, slice(None)) for offset in window]
    for block in _blocks(result.shape[:-1], source.shape[-1] * source.itemsize, DEPTHWISE_BYTES):
        view = windows[block]
        total = view[shifts[0]] * weights[window[0]]
        scratch = np.empty_like(total)
        for offset, shift in zip(window[1:], shifts[1:], strict=True):
            np.multiply(view[shift], weights[offset], out=scratch)
            total += scratch
        result[block] = total


@QUIET
def transpose_convolution(
    gradients: Array,
    filters: Array,
    channels: int,
    sizes: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    extents: Sequence[Extent],
) -> Array:
    """The gradient of `convolve` with respect to its images, shaped `[n, *sizes, channels]`."""
    depth = filters.shape[-2]
    groups = channels // depth
    outputs = filters.shape[-1] // groups
    frame = [size + item.before + item.after for size, item in zip(sizes, extents, strict=True)]
    check_size((gradients.shape[0], *frame, channels))
    result = np.zeros((gradients.shape[0], *frame, channels), gradients.dtype)
    for group in range(groups):
        part = np.ascontiguousarray(gradients[..., group * outputs : (group + 1) * outputs])
        flat = part.reshape(-1, outputs)
        for offset in product(*(range(extent) for extent in filters.shape[:-2])):
            matrix = filters[offset][:, group * outputs : (group + 1) * outputs]
            spread = np.matmul(flat, matrix.T).reshape(*part.shape[:-1], depth)
            place = _shifted(offset, strides, dilations, part.shape[1:-1])
            result[(slice(None), *place, slice(group * depth, (group + 1) * depth))] += spread
    return _trimmed(result, sizes, extents)


@QUIET
def transpose_depthwise(
    gradients: Array,
    filters: Array,
    sizes: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    extents: Sequence[Extent],
) -> Array:
    """The gradient of `convolve_depthwise` with respect to the images."""
    channels, multiplier = filters.shape[-2:]
    frame = [size + item.before + item.after for size, item in zip(sizes, extents, strict=True)]
    check_size((gradients.shape[0], *frame, channels))
    result = np.zeros((gradients.shape[0], *frame, channels), gradients.dtype)
    split = gradients.reshape(*gradients.shape[:-1], channels, multiplier)
    for offset in product(*(range(extent) for extent in filters.shape[:-2])):
        place = _shifted(offset, strides, dilations, gradients.shape[1:-1])
        result[(slice(None), *place)] += (split * filters[offset]).sum(-1, dtype=gradients.dtype)
    return _trimmed(result, sizes, extents)


@QUIET
def filter_gradient(
    images: Array,
    gradients: Array,
    filter_shape: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    extents: Sequence[Extent],
) -> Array:
    """The gradient of `convolve` with respect to the filters, shaped `filter_shape`."""
    check_size(filter_shape)
    result = np.zeros(tuple(filter_shape), gradients.dtype)
    depth = filter_shape[-2]
    groups = images.shape[-1] // depth
    outputs = filter_shape[-1] // groups
    source = padded(images, range(1, images.ndim - 1), extents)
    for offset in product(*(range(extent) for extent in filter_shape[:-2])):
        place = _shifted(offset, strides, dilations, gradients.shape[1:-1])
        seen = source[(slice(None), *place)].reshape(-1, images.shape[-1])
        for group in range(groups):
            columns = slice(group * outputs, (group + 1) * outputs)
            back = gradients[..., columns].reshape(-1, outputs)
            result[offset][:, columns] = np.matmul(seen[:, group * depth : (group + 1) * depth].T, back)
    return result


@QUIET
def depthwise_filter_gradient(
    images: Array,
    gradients: Array,
    filter_shape: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    extents: Sequence[Extent],
) -> Array:
    """The gradient of `convolve_depthwise` with respect to the filters, shaped `filter_shape`."""
    check_size(filter_shape)
    result = np.zeros(tuple(filter_shape), gradients.dtype)
    channels, multiplier = filter_shape[-2:]
    source = padded(images, range(1, images.ndim - 1), extents)
    split = gradients.reshape(-1, channels, multiplier)
    for offset in product(*(range(extent) for extent in filter_shape[:-2])):
        place = _shifted(offset, strides, dilations, gradients.shape[1:-1])
        seen = source[(slice(None), *place)].reshape(-1, channels, 1)
        result[offset] = (seen * split).sum(0, dtype=gradients.dtype)
    return result


def _shifted(
    offset: Sequence[int], strides: Sequence[int], dilations: Sequence[int], counts: Sequence[int]
) -> tuple[slice, ...]:
    """Where the window's element `offset` lies for each of `counts` windows."""
    return tuple(
        slice(place * dilation, place * dilation + max(0, (count - 1) * stride + 1), stride)
        for place, stride, dilation, count in zip(offset, strides, dilations, counts, strict=True)
    )


def _trimmed(array: Array, sizes: Sequence[int], extents: Sequence[Extent]) -> Array:
    place = tuple(slice(item.before, item.before + size) for item, size in zip(extents, sizes, strict=True))
    return np.ascontiguousarray(array[(slice(None), *place)])
