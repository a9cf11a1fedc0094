"""Operators of TensorFlow: convolution, forward and transposed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from graphopt.ir.dimensions import Dim, multiply
from graphopt.ir.ops import tf_convolution_kernels as kernels
from graphopt.ir.ops.inference import InferenceContext, InferenceError
from graphopt.ir.ops.registry import Evaluation, ShapeFunction, register
from graphopt.ir.ops.tf_windows import (
    Extent,
    Layout,
    channels_last,
    explicit_padding,
    extent,
    layout,
    merge_dims,
    ranked,
    restore_layout,
    settled,
    spatial_only,
    widened,
    window_count,
)
from graphopt.ir.ops.traits import Trait
from graphopt.ir.types import UNKNOWN_SHAPE, Shape

Array = np.ndarray[Any, Any]
Attrs = Mapping[str, Any]
ATTRIBUTES = ("strides", "padding", "explicit_paddings", "data_format", "dilations")


class Geometry(NamedTuple):
    """How a convolution slides, spatial dimensions only."""

    where: Layout
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    padding: bytes
    paddings: tuple[tuple[int, int], ...]

    def extents(self, sizes: Sequence[int], window: Sequence[int]) -> list[Extent]:
        """Counts and paddings for static sizes. Raises `InferenceError` where a window does not fit."""
        return [
            extent(size, width, stride, dilation, self.padding, *pads)
            for size, width, stride, dilation, pads in zip(
                sizes, window, self.strides, self.dilations, self.paddings, strict=True
            )
        ]

    def counts(self, sizes: Sequence[Dim], window: Sequence[Dim]) -> list[Dim]:
        """The output's spatial dimensions, as far as they are known."""
        return [
            window_count(size, width, stride, dilation, self.padding, *pads)
            for size, width, stride, dilation, pads in zip(
                sizes, window, self.strides, self.dilations, self.paddings, strict=True
            )
        ]


def geometry(attrs: Attrs, spatial: int) -> Geometry:
    """Read strides, dilations and paddings. Raises `InferenceError` (a `ValueError`) where they make no sense."""
    where = layout(attrs, spatial + 2)
    dilations = (1,) * spatial
    if attrs.get("dilations"):
        dilations = spatial_only(attrs, "dilations", where)
    paddings = explicit_padding(attrs, where)
    return Geometry(where, spatial_only(attrs, "strides", where), dilations, attrs["padding"], paddings)


# Shapes -------------------------------------------------------------------------------------------------------


def convolution_shape(spatial: int) -> ShapeFunction:
    """`[n, *sizes, in]` by `[*window, in / groups, out]`."""

    @settled(*ATTRIBUTES)
    def infer(context: InferenceContext) -> Sequence[Shape]:
        slide = geometry(context.attrs, spatial)
        images = ranked(context.shape(0), spatial + 2, "the input")
        filters = ranked(context.shape(1), spatial + 2, "the filter")
        _check_groups(images[slide.where.channel], filters[-2], filters[-1])
        counts = slide.counts([images[axis] for axis in slide.where.spatial], (filters.dims or ())[:spatial])
        return [_assembled(slide.where, images[0], counts, filters[-1])]

    return infer


@settled(*ATTRIBUTES)
def depthwise_shape(context: InferenceContext) -> Sequence[Shape]:
    """`[n, rows, columns, in]` by `[*window, in, multiplier]`."""
    slide = geometry(context.attrs, 2)
    images = ranked(context.shape(0), 4, "the input")
    filters = ranked(context.shape(1), 4, "the filter")
    depth = merge_dims(images[slide.where.channel], filters[2], "the number of channels")
    counts = slide.counts([images[axis] for axis in slide.where.spatial], (filters.dims or ())[:2])
    return [_assembled(slide.where, images[0], counts, multiply(depth, filters[3]))]


@settled(*ATTRIBUTES, "batch_dims")
def general_convolution_shape(context: InferenceContext) -> Sequence[Shape]:
    """`Conv`: two or three spatial dimensions behind any number of batch dimensions."""
    filters, images = context.shape(1), context.shape(0)
    batch_dims = context.attrs.get("batch_dims")
    if filters.dims is None or images.dims is None or type(batch_dims) is not int:
        return [UNKNOWN_SHAPE]
    spatial = len(filters.dims) - 2
    if spatial < 1 or len(images.dims) != batch_dims + spatial + 1 or batch_dims < 1:
        raise InferenceError(f"input {images} with {batch_dims} batch dimensions and filter {filters} do not fit")
    slide = geometry(context.attrs, spatial)
    inner = Shape((None, *images.dims[batch_dims:]))
    _check_groups(inner[slide.where.channel], filters[-2], filters[-1])
    counts = slide.counts([inner[axis] for axis in slide.where.spatial], filters.dims[:spatial])
    result = _assembled(slide.where, None, counts, filters[-1])
    return [Shape((*images.dims[:batch_dims], *(result.dims or ())[1:]))]


def transposed_shape(spatial: int) -> ShapeFunction:
    """The result is shaped as input 0 says; where that is unknown, what filter and gradient tell."""

    @settled("data_format")
    def infer(context: InferenceContext) -> Sequence[Shape]:
        where = layout(context.attrs, spatial + 2)
        filters = ranked(context.shape(1), spatial + 2, "the filter")
        gradients = ranked(context.shape(2), spatial + 2, "the gradient")
        sizes = context.as_shape(0)
        if sizes.dims is not None and len(sizes.dims) == spatial:
            return [_assembled(where, gradients[0], sizes.dims, filters[-2])]
        sizes = ranked(sizes, spatial + 2, "the result")
        batch = merge_dims(sizes[0], gradients[0], "the batch")
        return [Shape((batch, *(sizes.dims or ())[1:]))]

    return infer


def shaped_like_input(index: int, spatial: int) -> ShapeFunction:
    """Shaped as input `index`, a tensor, is."""

    def infer(context: InferenceContext) -> Sequence[Shape]:
        return [ranked(context.shape(index), spatial + 2, f"input {index}")] * context.output_count

    return infer


def filter_gradient_shape(spatial: int) -> ShapeFunction:
    """Shaped as input 1, a list of sizes, says."""

    def infer(context: InferenceContext) -> Sequence[Shape]:
        return [ranked(context.as_shape(1), spatial + 2, "the filter")]

    return infer


def _check_groups(channels: Dim, depth: Dim, outputs: Dim) -> None:
    if not isinstance(channels, int) or not isinstance(depth, int):
        return
    if depth == 0 or channels % depth:
        raise InferenceError(f"{channels} channels are no multiple of the {depth} that the filter reads")
    if isinstance(outputs, int) and channels and outputs % (channels // depth):
        raise InferenceError(f"{outputs} outputs cannot be divided into {channels // depth} groups")


def _assembled(where: Layout, batch: Dim, sizes: Sequence[Dim], channels: Dim) -> Shape:
    inner = (*sizes, channels) if where.channel != 1 else (channels, *sizes)
    return Shape((batch, *inner))


# Evaluation ---------------------------------------------------------------------------------------------------


def evaluate_convolution(attrs: Attrs, images: Array, filters: Array) -> Array:
    """`Conv2D`, `Conv3D`: see `convolution_shape`."""
    spatial = filters.ndim - 2
    slide = geometry(attrs, spatial)
    _check_rank(images, spatial + 2, "the input")
    data = channels_last(images, slide.where)
    _check_groups(data.shape[-1], filters.shape[-2], filters.shape[-1])
    if filters.size == 0:
        raise ValueError(f"the filter {list(filters.shape)} has no elements")
    extents = slide.extents(data.shape[1:-1], filters.shape[:-2])
    result = kernels.convolve(widened(data), widened(filters), slide.strides, slide.dilations, extents)
    return restore_layout(result.astype(images.dtype, copy=False), slide.where)


def evaluate_depthwise(attrs: Attrs, images: Array, filters: Array) -> Array:
    """`DepthwiseConv2dNative`: see `depthwise_shape`."""
    slide = geometry(attrs, 2)
    _check_rank(images, 4, "the input")
    _check_rank(filters, 4, "the filter")
    data = channels_last(images, slide.where)
    if data.shape[-1] != filters.shape[2]:
        raise ValueError(f"the input has {data.shape[-1]} channels, the filter {filters.shape[2]}")
    if filters.size == 0:
        raise ValueError(f"the filter {list(filters.shape)} has no elements")
    extents = slide.extents(data.shape[1:-1], filters.shape[:-2])
    result = kernels.convolve_depthwise(widened(data), widened(filters), slide.strides, slide.dilations, extents)
    return restore_layout(result.astype(images.dtype, copy=False), slide.where)


def evaluate_general(attrs: Attrs, images: Array, filters: Array) -> Array:
    """`Conv`: see `general_convolution_shape`."""
    batch_dims = attrs["batch_dims"]
    if batch_dims < 1 or images.ndim != batch_dims + filters.ndim - 1:
        raise ValueError(f"an input of rank {images.ndim} does not have {batch_dims} batch dimensions")
    batch = images.shape[:batch_dims]
    result = evaluate_convolution(attrs, images.reshape(-1, *images.shape[batch_dims:]), filters)
    return result.reshape(*batch, *result.shape[1:])


def evaluate_transposed(attrs: Attrs, sizes: Array, filters: Array, gradients: Array) -> Array:
    """`Conv2DBackpropInput`, `Conv3DBackpropInputV2`: the transposed convolution."""
    spatial = filters.ndim - 2
    slide = geometry(attrs, spatial)
    _check_rank(gradients, spatial + 2, "the gradient")
    back = channels_last(gradients, slide.where)
    wanted = [int(size) for size in sizes]
    if len(wanted) == spatial and spatial == 2:
        wanted = [back.shape[0], *wanted, filters.shape[-2]]
    elif len(wanted) == spatial + 2:
        wanted = [wanted[0], *(wanted[axis] for axis in slide.where.spatial), wanted[slide.where.channel]]
    else:
        raise ValueError(f"input sizes {wanted} do not fit a filter of rank {filters.ndim}")
    extents = _checked_extents(slide, wanted, filters.shape, back.shape)
    result = kernels.transpose_convolution(
        widened(back), widened(filters), wanted[-1], wanted[1:-1], slide.strides, slide.dilations, extents
    )
    return restore_layout(result.astype(gradients.dtype, copy=False), slide.where)


def evaluate_transposed_like(attrs: Attrs, images: Array, filters: Array, gradients: Array) -> Array:
    """`Conv2DBackpropInputV2`, `Conv3DBackpropInput`: the sizes are those of a tensor."""
    return evaluate_transposed(attrs, np.array(images.shape), filters, gradients)


def evaluate_depthwise_transposed(attrs: Attrs, sizes: Array, filters: Array, gradients: Array) -> Array:
    """`DepthwiseConv2dNativeBackpropInput`."""
    slide = geometry(attrs, 2)
    _check_rank(gradients, 4, "the gradient")
    back = channels_last(gradients, slide.where)
    wanted = [int(size) for size in sizes]
    if len(wanted) != 4:
        raise ValueError(f"input sizes {wanted} must have four elements")
    wanted = [wanted[0], *(wanted[axis] for axis in slide.where.spatial), wanted[slide.where.channel]]
    extents = _checked_depthwise(slide, wanted, filters.shape, back.shape)
    result = kernels.transpose_depthwise(
        widened(back), widened(filters), wanted[1:-1], slide.strides, slide.dilations, extents
    )
    return restore_layout(result.astype(gradients.dtype, copy=False), slide.where)


def evaluate_filter_gradient(attrs: Attrs, images: Array, sizes: Array, gradients: Array) -> Array:
    """`Conv2DBackpropFilter`, `Conv3DBackpropFilterV2`."""
    shape = tuple(int(size) for size in sizes)
    slide = geometry(attrs, len(shape) - 2)
    _check_rank(images, len(shape), "the input")
    _check_rank(gradients, len(shape), "the gradient")
    data, back = channels_last(images, slide.where), channels_last(gradients, slide.where)
    extents = _checked_extents(slide, data.shape, shape, back.shape)
    result = kernels.filter_gradient(widened(data), widened(back), shape, slide.strides, slide.dilations, extents)
    return result.astype(images.dtype, copy=False)


def evaluate_filter_gradient_like(attrs: Attrs, images: Array, filters: Array, gradients: Array) -> Array:
    """`Conv2DBackpropFilterV2`, `Conv3DBackpropFilter`: the sizes are those of a tensor."""
    return evaluate_filter_gradient(attrs, images, np.array(filters.shape), gradients)


def evaluate_depthwise_filter_gradient(attrs: Attrs, images: Array, sizes: Array, gradients: Array) -> Array:
    """`DepthwiseConv2dNativeBackpropFilter`."""
    shape = tuple(int(size) for size in sizes)
    slide = geometry(attrs, 2)
    _check_rank(images, 4, "the input")
    data, back = channels_last(images, slide.where), channels_last(gradients, slide.where)
    extents = _checked_depthwise(slide, data.shape, shape, back.shape)
    result = kernels.depthwise_filter_gradient(
        widened(data), widened(back), shape, slide.strides, slide.dilations, extents
    )
    return result.astype(images.dtype, copy=False)


def _check_rank(array: Array, rank: int, what: str) -> None:
    if array.ndim != rank:
        raise ValueError(f"{what} must have rank {rank}, not shape {list(array.shape)}")


def _checked_extents(
    slide: Geometry, images: Sequence[int], filters: Sequence[int], gradients: Sequence[int]
) -> list[Extent]:
    """Extents of the forward convolution `images` by `filters`, which must have given `gradients`' shape."""
    if min((*images, *filters), default=0) < 0 or len(filters) != len(images):
        raise ValueError(f"images {list(images)} and filters {list(filters)} do not fit")
    _check_groups(images[-1], filters[-2], filters[-1])
    extents = slide.extents(images[1:-1], filters[:-2])
    expected = [images[0], *(item.places for item in extents), filters[-1]]
    if list(gradients) != expected:
        raise ValueError(f"a gradient of shape {list(gradients)} does not fit; it should be {expected}")
    return extents


def _checked_depthwise(
    slide: Geometry, images: Sequence[int], filters: Sequence[int], gradients: Sequence[int]
) -> list[Extent]:
    if len(filters) != 4 or min((*images, *filters)) < 0 or images[-1] != filters[2]:
        raise ValueError(f"images {list(images)} and filters {list(filters)} do not fit")
    extents = slide.extents(images[1:-1], filters[:2])
    expected = [images[0], *(item.places for item in extents), filters[2] * filters[3]]
    if list(gradients) != expected:
        raise ValueError(f"a gradient of shape {list(gradients)} does not fit; it should be {expected}")
    return extents


def _declare(name: str, shape: ShapeFunction, evaluate: Evaluation, traits: Trait = Trait.NONE) -> None:
    register(f"tf.{name}", traits=traits, shape=shape, evaluate=evaluate)


_declare("Conv", general_convolution_shape, evaluate_general)
_declare("Conv2D", convolution_shape(2), evaluate_convolution)
_declare("Conv3D", convolution_shape(3), evaluate_convolution)
_declare("DepthwiseConv2dNative", depthwise_shape, evaluate_depthwise)
_declare("Conv2DBackpropInput", transposed_shape(2), evaluate_transposed)
_declare("Conv2DBackpropInputV2", shaped_like_input(0, 2), evaluate_transposed_like)
_declare("Conv3DBackpropInput", shaped_like_input(0, 3), evaluate_transposed_like)
_declare("Conv3DBackpropInputV2", transposed_shape(3), evaluate_transposed)
_declare("DepthwiseConv2dNativeBackpropInput", transposed_shape(2), evaluate_depthwise_transposed)
_declare("Conv2DBackpropFilter", filter_gradient_shape(2), evaluate_filter_gradient, Trait.TRAINING)
_declare("Conv2DBackpropFilterV2", shaped_like_input(1, 2), evaluate_filter_gradient_like, Trait.TRAINING)
_declare("Conv3DBackpropFilter", shaped_like_input(1, 3), evaluate_filter_gradient_like, Trait.TRAINING)
_declare("Conv3DBackpropFilterV2", filter_gradient_shape(3), evaluate_filter_gradient, Trait.TRAINING)
_declare(
    "DepthwiseConv2dNativeBackpropFilter",
    filter_gradient_shape(2),
    evaluate_depthwise_filter_gradient,
    Trait.TRAINING,
)
