"""Convolutions, depthwise ones by what suits the target, and transposed ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand
from graphopt.backends.xla.rules.products import product
from graphopt.backends.xla.rules.windows import is_channels_first, paddings, space, spatial, windows_over
from graphopt.backends.xla.table import RULES
from graphopt.ir.dimensions import KnownDim

SLICES = 64  # window positions up to which a depthwise convolution is expressed by slices


@RULES.lower("tf.Conv2D", "tf.Conv3D")
def convolution(op: Emission) -> Operand:
    """Convolutions over images and volumes, grouped ones too: their kernels have fewer input channels."""
    images = op.input(0)
    feature = 1 if is_channels_first(op) else images.rank - 1
    channels = images.dims[feature]
    if not isinstance(channels, int):
        op.refuse("the number of channels is not known", "give the inputs shapes (set-shapes)")
    count = images.rank - 2
    strides, dilations = spatial(op, "strides", count), spatial(op, "dilations", count)

    def emit(x: Operand, kernel: Operand, zero: Operand | None = None) -> Operand:
        return convolve_windows(op, x, kernel, channels // kernel.static[-2], strides, dilations, zero=zero)

    return product(op, images, emit, feature, emit)


@RULES.lower("tf.DepthwiseConv2dNative")
def depthwise(op: Emission) -> Operand:
    """Each channel by itself: a convolution with as many groups, or shifted slices times weights."""
    x, kernel = op.input(0), op.input(1)
    height, width, channels, multiplier = kernel.static
    fits = multiplier == 1 and height * width <= SLICES and not is_channels_first(op)

    def sliced() -> Operand:
        return _slices(op, x, kernel)

    def grouped() -> Operand:
        return convolve(op, x, op.build.reshape(kernel, (height, width, 1, channels * multiplier)), channels)

    return op.by_platform(lambda platform: sliced if fits and op.options.slices_depthwise(platform) else grouped)


def convolve(op: Emission, x: Operand, kernel: Operand, groups: int) -> Operand:
    """A convolution with the node's own strides, dilations and padding; `kernel` ends in (input, output) channels."""
    count = x.rank - 2
    return convolve_windows(op, x, kernel, groups, spatial(op, "strides", count), spatial(op, "dilations", count))


def convolve_windows(
    op: Emission,
    x: Operand,
    kernel: Operand,
    groups: int,
    strides: Sequence[int],
    dilations: Sequence[int],
    full: bool = False,
    zero: Operand | None = None,
) -> Operand:
    """A convolution with the node's own padding, with `zero` if it is given."""
    axes = space(op, x.rank)
    extent = [(size - 1) * gap + 1 for size, gap in zip(kernel.static[:-2], dilations, strict=True)]
    pads = paddings(op, [x.dims[axis] for axis in axes], extent, strides)
    sizes = [
        windows_over(x.dims[axis], window, stride, pad)
        for axis, window, stride, pad in zip(axes, extent, strides, pads, strict=True)
    ]
    if zero is not None:
        edges = [[0] * x.rank, [0] * x.rank]
        for axis, pair in zip(axes, pads, strict=True):
            edges[0][axis], edges[1][axis] = pair
        x, pads = op.build.pad(x, *edges, zero), [(0, 0)] * len(axes)
    return emit_convolution(op, x, kernel, groups, sizes, pads, strides=strides, rhs_dilation=dilations, full=full)


def emit_convolution(
    op: Emission,
    x: Operand,
    kernel: Operand,
    groups: int,
    sizes: Sequence[KnownDim],
    pads: Sequence[tuple[int, int]],
    *,
    strides: Sequence[int],
    rhs_dilation: Sequence[int],
    lhs_dilation: Sequence[int] | None = None,
    swap_channels: bool = False,
    full: bool = False,
) -> Operand:
    """StableHLO's convolution in the node's data format. `swap_channels`: the kernel ends in (output, input);
    `full` keeps the operands' own precision, whatever products have otherwise."""
    b = op.build
    axes, first = space(op, x.rank), is_channels_first(op)
    feature = 1 if first else x.rank - 1
    inner, outer = kernel.rank - 2, kernel.rank - 1
    if swap_channels:
        inner, outer = outer, inner
    window = list(range(kernel.rank - 2))
    numbers = b.hlo.ConvDimensionNumbers.get(0, feature, axes, inner, outer, window, 0, feature, axes)
    made_dims: list[KnownDim] = [x.dims[0]] * x.rank
    made_dims[feature] = kernel.dims[outer]
    for axis, size in zip(axes, sizes, strict=True):
        made_dims[axis] = size
    padding = b.ir.DenseElementsAttr.get(np.asarray(pads, np.int64).reshape(len(axes), 2))
    x, kernel, dtype = (x, kernel, x.dtype) if full else b.operands_of_product(x, kernel)
    value = b.hlo.convolution(
        b.type(dtype, made_dims), x.value, kernel.value, numbers, groups, 1,
        window_strides=list(strides), padding=padding,
        lhs_dilation=list(lhs_dilation or [1] * len(axes)), rhs_dilation=list(rhs_dilation),
    )  # fmt: skip
    return b.made(value, dtype, made_dims)


def _slices(op: Emission, x: Operand, kernel: Operand) -> Operand:
    """The sum over window positions of a shifted slice of the image times the weights there."""
    b = op.build
    height, width, channels, _ = kernel.static
    strides, dilations = spatial(op, "strides", 2), spatial(op, "dilations", 2)
    extent = [(height - 1) * dilations[0] + 1, (width - 1) * dilations[1] + 1]
    pads = paddings(op, x.dims[1:3], extent, strides)
    rows, columns = (windows_over(x.dims[1 + place], extent[place], strides[place], pads[place]) for place in range(2))
    if not isinstance(rows, int) or not isinstance(columns, int):
        grouped = b.reshape(kernel, (height, width, 1, channels))
        return convolve(op, x, grouped, channels)
    padded = b.pad(x, [0, pads[0][0], pads[1][0], 0], [0, pads[0][1], pads[1][1], 0])
    total: Operand | None = None
    for row in range(height):
        for column in range(width):
            top, left = row * dilations[0], column * dilations[1]
            part = b.slice(
                padded,
                [0, top, left, 0],
                [x.dims[0], top + (rows - 1) * strides[0] + 1, left + (columns - 1) * strides[1] + 1, channels],
                [1, *strides, 1],
            )
            weights = b.slice(kernel, [row, column, 0, 0], [row + 1, column + 1, channels, 1])
            product = b.mul(part, b.broadcast(b.reshape(weights, (channels,)), part.dims, (3,)))
            total = product if total is None else b.add(total, product)
    assert total is not None
    return total


@RULES.lower("tf.Conv2DBackpropInput", "tf.Conv3DBackpropInputV2")
def transposed(op: Emission) -> Operand:
    """A transposed convolution: the image spread out by the strides, under the kernel turned around."""
    b, kernel = op.build, op.input(1)
    made = op.dims()[1 if is_channels_first(op) else -1]
    groups = made // kernel.static[-2] if isinstance(made, int) else 1
    if groups > 1:
        *window, inner, outer = kernel.static
        axes = len(window)
        split = b.reshape(kernel, (*window, inner, groups, outer // groups))
        moved = b.transpose(split, (*range(axes), axes + 1, axes, axes + 2))
        kernel = b.reshape(moved, (*window, groups * inner, outer // groups))
    return _transposed(op, op.input(2), kernel, groups)


@RULES.lower("tf.DepthwiseConv2dNativeBackpropInput")
def depthwise_transposed(op: Emission) -> Operand:
    """A transposed convolution of each channel by itself."""
    return _transposed(op, op.input(2), op.input(1), op.input(1).static[2])


def _transposed(op: Emission, x: Operand, kernel: Operand, groups: int) -> Operand:
    """`kernel` ends in the channels of the result and those of `x` that one of them reads."""
    b = op.build
    axes = space(op, x.rank)
    strides, dilations = spatial(op, "strides", len(axes)), spatial(op, "dilations", len(axes))
    extent = [(size - 1) * gap + 1 for size, gap in zip(kernel.static[:-2], dilations, strict=True)]
    sizes = [op.dims()[axis] for axis in axes]
    before = paddings(op, sizes, extent, strides)
    pads = []
    for axis, size, window, stride, (low, _) in zip(axes, sizes, extent, strides, before, strict=True):
        wanted = size - ((x.dims[axis] - 1) * stride + 1) + window - 1
        begin = window - 1 - low
        end = wanted - begin
        if not isinstance(end, int):
            op.refuse("its padding follows from a size that is not known", "specialise the inputs (--unknown)")
        pads.append((begin, end))
    turned = b.made(b.hlo.reverse(kernel.value, list(range(kernel.rank - 2))), kernel.dtype, kernel.dims)
    return emit_convolution(
        op, x, turned, groups, sizes, pads,
        strides=[1] * len(axes), rhs_dilation=dilations, lhs_dilation=strides, swap_channels=True,
    )  # fmt: skip
