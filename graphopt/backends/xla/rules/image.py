"""Colours, and images cut out of images."""

from __future__ import annotations

import numpy as np

from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import SPECIALISE, Operand
from graphopt.backends.xla.rules.convolution import convolve_windows
from graphopt.backends.xla.rules.indexing import emit_gather
from graphopt.backends.xla.table import RULES
from graphopt.ir.types import FLOAT32, INT32


def _channels(op: Emission, images: Operand) -> list[Operand]:
    b = op.build
    starts, axis = [0] * images.rank, images.rank - 1
    parts = []
    for place in range(3):
        starts[axis] = place
        parts.append(b.reshape(b.slice(images, starts, [*images.dims[:-1], place + 1]), images.dims[:-1]))
    return parts


def _stacked(op: Emission, channels: list[Operand]) -> Operand:
    parts = [op.build.reshape(channel, (*channel.dims, 1)) for channel in channels]
    return op.build.concatenate(parts, channels[0].rank)


def _to_hsv(op: Emission, images: Operand) -> list[Operand]:
    """Hue, saturation and value, all between 0 and 1."""
    b = op.build
    red, green, blue = _channels(op, images)
    value = b.max(b.max(red, green), blue)
    spread = b.sub(value, b.min(b.min(red, green), blue))
    is_grey = b.compare("LE", spread, 0)
    unit = b.div(b.like(1 / 6, spread), b.select(is_grey, b.like(1, spread), spread))
    hue = b.select(
        b.compare("EQ", red, value),
        b.mul(unit, b.sub(green, blue)),
        b.select(
            b.compare("EQ", green, value),
            b.add(b.mul(unit, b.sub(blue, red)), 2 / 6),
            b.add(b.mul(unit, b.sub(red, green)), 4 / 6),
        ),
    )
    hue = b.select(is_grey, b.like(0, hue), hue)
    hue = b.select(b.compare("LT", hue, 0), b.add(hue, 1), hue)
    is_lit = b.compare("GT", value, 0)
    saturation = b.select(is_lit, b.div(spread, b.select(is_lit, value, b.like(1, value))), b.like(0, value))
    return [hue, saturation, value]


def _shades(op: Emission, sixths: Operand) -> list[Operand]:
    """How much of red, green and blue a hue between 0 and 6 has."""
    b = op.build
    ramps = [b.unary("abs", b.sub(sixths, middle)) for middle in (3, 2, 4)]
    shades = [b.sub(ramps[0], 1), b.sub(b.like(2, ramps[1]), ramps[1]), b.sub(b.like(2, ramps[2]), ramps[2])]
    return [b.min(b.max(shade, 0), 1) for shade in shades]


def _to_rgb(op: Emission, hue: Operand, saturation: Operand, value: Operand) -> Operand:
    b = op.build
    pale = b.sub(b.like(1, saturation), saturation)
    shades = _shades(op, b.mul(hue, 6))
    return _stacked(op, [b.mul(b.add(pale, b.mul(saturation, shade)), value) for shade in shades])


@RULES.lower("tf.RGBToHSV")
def rgb_to_hsv(op: Emission) -> Operand:
    """Hue, saturation and value of red, green and blue."""
    return op.build.convert(_stacked(op, _to_hsv(op, op.build.convert(op.input(0), FLOAT32))), op.dtype)


@RULES.lower("tf.HSVToRGB")
def hsv_to_rgb(op: Emission) -> Operand:
    """Red, green and blue of hue, saturation and value."""
    channels = _channels(op, op.build.convert(op.input(0), FLOAT32))
    return op.build.convert(_to_rgb(op, *channels), op.dtype)


@RULES.lower("tf.AdjustSaturation")
def adjust_saturation(op: Emission) -> Operand:
    """The saturation times a factor, at most 1."""
    b = op.build
    hue, saturation, value = _to_hsv(op, b.convert(op.input(0), FLOAT32))
    scaled = b.min(b.max(b.mul(saturation, b.convert(op.input(1), FLOAT32)), 0), 1)
    return b.convert(_to_rgb(op, hue, scaled, value), op.dtype)


@RULES.lower("tf.AdjustHue")
def adjust_hue(op: Emission) -> Operand:
    """The hue turned by a part of the circle."""
    b = op.build
    images = b.convert(op.input(0), FLOAT32)
    hue, _, high = _to_hsv(op, images)
    red, green, blue = _channels(op, images)
    low = b.min(b.min(red, green), blue)
    turned = b.add(b.mul(hue, 6), b.mul(b.convert(op.input(1), FLOAT32), 6))
    turned = b.select(b.compare("LT", turned, 0), b.add(turned, 6), turned)
    turned = b.select(b.compare("GT", turned, 6), b.sub(turned, 6), turned)
    spread = b.sub(high, low)
    return b.convert(_stacked(op, [b.add(low, b.mul(spread, shade)) for shade in _shades(op, turned)]), op.dtype)


@RULES.lower("tf.AdjustContrastv2")
def adjust_contrast(op: Emission) -> Operand:
    """Each channel of each image stretched about its mean."""
    b, x = op.build, op.build.convert(op.input(0), FLOAT32)
    axes = [x.rank - 3, x.rank - 2]
    count = b.convert(b.sizes.scalar(x.dims[axes[0]] * x.dims[axes[1]]), FLOAT32)
    mean = b.div(b.reduce("add", x, axes, keep=True), count)
    return b.convert(b.add(b.mul(b.sub(x, mean), b.convert(op.input(1), FLOAT32)), mean), op.dtype)


# Cutting out ---------------------------------------------------------------------------------------------------


@RULES.lower("tf.CropAndResize")
def crop_and_resize(op: Emission) -> Operand:
    """Boxes cut out of images and brought to one size; what lies outside of an image has one value."""
    b, images, boxes = op.build, op.build.convert(op.input(0), FLOAT32), op.input(1)
    owners, dims = op.input(2), op.dims()
    rows, row_inside = _places(op, boxes, 0, dims[1], images.static[1])
    columns, column_inside = _places(op, boxes, 1, dims[2], images.static[2])
    grid = dims[:3]
    inside = b.binary("and_", b.broadcast(row_inside, grid, (0, 1)), b.broadcast(column_inside, grid, (0, 2)))

    def at(row: Operand, column: Operand) -> Operand:
        parts = [
            b.broadcast(b.convert(owners, INT32), grid, (0,)),
            b.broadcast(b.convert(row, INT32), grid, (0, 1)),
            b.broadcast(b.convert(column, INT32), grid, (0, 2)),
        ]
        vectors = b.concatenate([b.reshape(part, (*grid, 1)) for part in parts], 3)
        return emit_gather(op, images, vectors, (0, 1, 2), (1, 1, 1, images.dims[3]), (3,), dims)

    if op.text("method", "bilinear") == "nearest":
        made = at(b.unary("round_nearest_afz", rows), b.unary("round_nearest_afz", columns))
    else:
        top, left = b.unary("floor", rows), b.unary("floor", columns)
        bottom, right = b.unary("ceil", rows), b.unary("ceil", columns)
        down = b.broadcast(b.sub(rows, top), dims, (0, 1))
        across = b.broadcast(b.sub(columns, left), dims, (0, 2))
        upper = _between(op, at(top, left), at(top, right), across)
        made = _between(op, upper, _between(op, at(bottom, left), at(bottom, right), across), down)
    outside = b.full(float(op.attr("extrapolation_value", 0.0)), FLOAT32, dims)
    return b.select(b.broadcast(inside, dims, (0, 1, 2)), made, outside)


def _places(op: Emission, boxes: Operand, side: int, count: object, size: int) -> tuple[Operand, Operand]:
    """Fractional rows or columns that each box is read at, and which of them the image has."""
    b = op.build
    assert isinstance(count, int)
    low, high = (b.slice(boxes, [0, place], [boxes.dims[0], place + 1]) for place in (side, side + 2))
    dims = (boxes.dims[0], count)
    if count > 1:
        scale = b.div(b.mul(b.sub(high, low), float(size - 1)), float(count - 1))
        steps = b.constant(np.arange(count, dtype=np.float32).reshape(1, count), FLOAT32)
        made = b.add(b.broadcast(b.mul(low, float(size - 1)), dims), b.mul(b.broadcast(scale, dims), steps))
    else:
        made = b.mul(b.add(low, high), 0.5 * (size - 1))
    inside = b.binary("and_", b.compare("GE", made, 0), b.compare("LE", made, float(size - 1)))
    return made, inside


def _between(op: Emission, first: Operand, second: Operand, share: Operand) -> Operand:
    return op.build.add(first, op.build.mul(op.build.sub(second, first), share))


@RULES.lower("tf.ExtractImagePatches", "tf.ExtractVolumePatches")
def extract_patches(op: Emission) -> Operand:
    """Windows laid out along the channels: a convolution with a kernel that picks one element each."""
    b, x = op.build, op.input(0)
    sizes = [int(size) for size in op.attr("ksizes")][1:-1]
    rates = [int(rate) for rate in op.attr("rates", ()) or ()][1:-1] or [1] * len(sizes)
    strides = [int(stride) for stride in op.attr("strides")][1:-1]
    channels = x.dims[-1]
    if not isinstance(channels, int):
        op.refuse("the number of channels is not known", SPECIALISE)
    count = int(np.prod(sizes))
    kernel = np.zeros((*sizes, 1, channels * count), np.float32)
    flat = kernel.reshape(count, channels, count)  # of each channel by itself: where in the window, the channel, which
    flat[np.arange(count), :, np.arange(count)] = 1
    wide = b.convert(x, FLOAT32)
    made = convolve_windows(op, wide, b.constant(kernel, FLOAT32), channels, strides, rates, full=True)
    spread = b.reshape(made, (*made.dims[:-1], channels, count))
    moved = b.transpose(spread, [*range(made.rank - 1), made.rank, made.rank - 1])
    return b.convert(b.reshape(moved, made.dims), x.dtype)
