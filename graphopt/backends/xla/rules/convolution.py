"""Convolutions, depthwise ones by what suits the target, and transposed ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from graphopt.backends.xla.builder import size_of
from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand
from graphopt.backends.xla.rules.products import product
from graphopt.backends.xla.rules.windows import fixed_pads, geometry, is_channels_first, padded, space, spatial
from graphopt.backends.xla.rules.winograd import suits_winograd, winograd
from graphopt.backends.xla.table import RULES
from graphopt.ir.dimensions import KnownDim

SLICES = 64  # window positions up to which a depthwise convolution is expressed by slices
ROWS = 64  # windows up to which a convolution is a product of a matrix that has a row for each
CHANNELS = 32  # of the image, from which on such rows are long enough


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

    if suits_winograd(op, images):
        return winograd(op, images)

    def emit(x: Operand, kernel: Operand, zero: Operand | None = None) -> Operand:
        return convolve_windows(op, x, kernel, channels // kernel.static[-2], strides, dilations, zero=zero)

    return product(op, images, emit, feature, emit)


@RULES.lower("tf.DepthwiseConv2dNative")
def depthwise(op: Emission) -> Operand:
    """Each channel by itself: a convolution with as many groups, or shifted slices times weights."""
    x, kernel = op.input(0), op.input(1)
    height, width, channels, multiplier = kernel.static
    fits = height * width <= SLICES and not is_channels_first(op)

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
    symbols, sizes = geometry(op, [x.dims[axis] for axis in axes], extent, strides)
    if zero is not None:
        x, symbols = padded(op, x, axes, symbols, zero), [(0, 0)] * len(axes)
    x, pads = fixed_pads(op, x, axes, symbols, 0)

    def convolved() -> Operand:
        return emit_convolution(op, x, kernel, groups, sizes, pads, strides=strides, rhs_dilation=dilations, full=full)

    def multiplied() -> Operand:
        return _as_product(op, x, kernel, Windows(sizes, pads, strides, dilations))

    fits = op.options.convolutions == "auto" and groups == 1 and x.dtype.is_float and not full
    fits = fits and _is_better_as_product(op, x, kernel, sizes, pads)
    if not fits:
        return convolved()
    return op.by_platform(lambda platform: multiplied if platform == "cpu" else convolved)


def _is_better_as_product(
    op: Emission, x: Operand, kernel: Operand, sizes: Sequence[KnownDim], pads: Sequence[tuple[int, int]]
) -> bool:
    """XLA's code for CPUs is slower at this convolution than at one product of matrices."""
    *window, channels, _ = kernel.static
    if is_channels_first(op) or x.rank != 4 or not all(isinstance(size, int) for size in sizes):
        return False
    if window == [1, 1] and not any(map(any, pads)):
        return True
    rows = size_of([x.dims[0], *sizes])
    return isinstance(rows, int) and rows <= ROWS and channels >= CHANNELS


class Windows(NamedTuple):
    """Where a kernel lies on an image of two dimensions: how often, and with what padding, strides and dilations."""

    sizes: Sequence[KnownDim]
    pads: Sequence[tuple[int, int]]
    strides: Sequence[int]
    dilations: Sequence[int]


def _shifted(op: Emission, x: Operand, windows: Windows, kernel: Operand) -> Iterator[tuple[int, int, Operand]]:
    """Row and column of the kernel, and the part of the image that lies under that place in all windows."""
    b, channels = op.build, x.dims[-1]
    (top, bottom), (left, right) = windows.pads
    wide = b.pad(x, [0, top, left, 0], [0, bottom, right, 0])
    ends = [(size - 1) * stride + 1 for size, stride in zip(windows.sizes, windows.strides, strict=True)]
    for row in range(kernel.static[0]):
        for column in range(kernel.static[1]):
            down, across = row * windows.dilations[0], column * windows.dilations[1]
            limits = [x.dims[0], down + ends[0], across + ends[1], channels]
            yield row, column, b.slice(wide, [0, down, across, 0], limits, [1, *windows.strides, 1])


def _as_product(op: Emission, x: Operand, kernel: Operand, windows: Windows) -> Operand:
    """A convolution as one product: what lies under the kernel, place after place, times the kernel as a matrix."""
    b = op.build
    under = b.concatenate([part for _, _, part in _shifted(op, x, windows, kernel)], 3)
    matrix = b.reshape(kernel, (int(np.prod(kernel.static[:-1])), kernel.static[-1]))
    return b.dot_general(under, matrix, ((), ()), ((3,), (0,)))


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
    height, width, channels, multiplier = kernel.static
    strides, dilations = spatial(op, "strides", 2), spatial(op, "dilations", 2)
    extent = [(height - 1) * dilations[0] + 1, (width - 1) * dilations[1] + 1]
    symbols, sizes = geometry(op, x.dims[1:3], extent, strides)
    if not all(isinstance(size, int) for size in sizes):
        return convolve(op, x, b.reshape(kernel, (height, width, 1, channels * multiplier)), channels)
    x, pads = fixed_pads(op, x, (1, 2), symbols, 0)
    total: Operand | None = None
    for row, column, part in _shifted(op, x, Windows(sizes, pads, strides, dilations), kernel):
        weights = b.slice(kernel, [row, column, 0, 0], [row + 1, column + 1, channels, multiplier])
        dims = part.dims if multiplier == 1 else (*part.dims, multiplier)
        factors = b.broadcast(b.reshape(weights, dims[3:]), dims)
        product = b.mul(b.broadcast(part, dims, range(4)), factors)
        total = product if total is None else b.add(total, product)
    assert total is not None
    return b.reshape(total, (x.dims[0], *sizes, channels * multiplier))


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
    before, _ = geometry(op, sizes, extent, strides)
    pads = []
    for axis, size, window, stride, (low, _) in zip(axes, sizes, extent, strides, before, strict=True):
        wanted = size - ((x.dims[axis] - 1) * stride + 1) + window - 1
        begin = window - 1 - low
        end = wanted - begin
        if not isinstance(begin, int) or not isinstance(end, int):
            op.refuse("its padding follows from a size that is not known", "specialise the inputs (--unknown)")
        pads.append((begin, end))
    turned = b.made(b.hlo.reverse(kernel.value, list(range(kernel.rank - 2))), kernel.dtype, kernel.dims)
    return emit_convolution(
        op, x, turned, groups, sizes, pads,
        strides=[1] * len(axes), rhs_dilation=dilations, lhs_dilation=strides, swap_channels=True,
    )  # fmt: skip
