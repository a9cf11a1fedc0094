"""Images resized and cut into patches."""

from __future__ import annotations

import numpy as np

from graphopt.backends.decompositions.interpolation import image_dims, interpolation_weights, scaling_weights
from graphopt.backends.legalization import Array, Lowering, shaped
from graphopt.backends.tflite.rules.common import NO_ACTIVATION, reshape
from graphopt.backends.tflite.rules.windows import as_before, as_float32
from graphopt.backends.tflite.table import RULES
from graphopt.ir.types import FLOAT32
from graphopt.ir.value import Value

LARGEST = 1 << 20  # elements of a kernel that only moves elements


@RULES.legalize("tf.ResizeBilinear")
def resize_bilinear(op: Lowering) -> Value:
    """Bilinear interpolation, with aligned corners or the centres of pixels at halves; integers become float32."""
    x = op.input(0)
    if x.dtype is not FLOAT32:
        x = op.source("tf.Cast", x, name=f"{op.node.name}/cast", DstT=FLOAT32)
    return op.emit(
        "RESIZE_BILINEAR", x, op.input(1), align_corners=op.attr("align_corners"),
        half_pixel_centers=op.attr("half_pixel_centers"),
    )  # fmt: skip


@RULES.legalize("tf.ResizeNearestNeighbor")
def resize_nearest(op: Lowering) -> Value:
    """The nearest pixel, with aligned corners or the centres of pixels at halves."""
    return op.emit(
        "RESIZE_NEAREST_NEIGHBOR", op.input(0), op.input(1), align_corners=op.attr("align_corners"),
        half_pixel_centers=op.attr("half_pixel_centers"),
    )  # fmt: skip


@RULES.legalize("tf.ResizeBicubic", "tf.ResizeArea")
def resize_by_weights(op: Lowering) -> Value:
    """Bicubic and area interpolation of images of known size: products with the weights of rows and of columns."""
    return _resampled(op, *interpolation_weights(op))


@RULES.legalize("tf.ScaleAndTranslate")
def scale_and_translate(op: Lowering) -> Value:
    """Any of the resampling kernels, smoothing or not, for images of known size."""
    return _resampled(op, *scaling_weights(op))


def _resampled(op: Lowering, rows: Array, columns: Array) -> Value:
    """Images times weights of rows `[rows, height]` and of columns `[columns, width]`."""
    x = op.input(0)
    if x.dtype is not FLOAT32:
        x = op.source("tf.Cast", x, name=f"{op.node.name}/cast", DstT=FLOAT32)
    batch, _, width, channels = image_dims(op)
    count = batch if isinstance(batch, int) else None
    name, height = op.node.name, len(rows)
    lines = reshape(op, x, (count, rows.shape[1], width * channels), "lines")
    lines = op.emit(
        "BATCH_MATMUL", op.constant(rows, name=f"{name}/rows"), lines, adj_x=False, adj_y=False,
        type=shaped(FLOAT32, (count, height, width * channels)), name=f"{name}/vertical",
    )  # fmt: skip
    every = None if count is None else count * height
    points = reshape(op, lines, (every, width, channels), "points")
    points = op.emit(
        "BATCH_MATMUL", op.constant(columns, name=f"{name}/columns"), points, adj_x=False, adj_y=False,
        type=shaped(FLOAT32, (every, len(columns), channels)), name=f"{name}/horizontal",
    )  # fmt: skip
    shape = op.integers([-1 if count is None else count, height, len(columns), channels], name=f"{name}/shape")
    return op.emit("RESHAPE", points, shape)


@RULES.legalize("tf.ExtractImagePatches")
def patches(op: Lowering) -> Value:
    """Patches side by side are blocks that become channels; others a convolution that only moves elements."""
    _, height, width, channels = image_dims(op)
    sizes, strides, rates = op.attr("ksizes")[1:3], op.attr("strides")[1:3], op.attr("rates")[1:3]
    block, whole = sizes[0], height % sizes[0] == width % sizes[1] == 0
    if sizes == strides and rates == (1, 1) and sizes[0] == sizes[1] and block > 1 and whole:
        return op.emit("SPACE_TO_DEPTH", op.input(0), block_size=block)
    count = sizes[0] * sizes[1] * channels
    if count * count > LARGEST:
        op.refuse(f"its patches of {count} elements are too large to be moved by a convolution")
    x = as_float32(op, op.input(0))
    taps = np.eye(count, dtype=np.float32).reshape(count, *sizes, channels)
    made = op.emit(
        "CONV_2D", x, op.constant(taps, name=f"{op.node.name}/taps"),
        op.constant(np.zeros(count, np.float32), name=f"{op.node.name}/bias"), padding=op.attr("padding"),
        stride_h=strides[0], stride_w=strides[1], dilation_hfactor=rates[0], dilation_wfactor=rates[1],
        fused_activation_function=NO_ACTIVATION, type=shaped(FLOAT32, op.type.shape.dims or (None,) * 4),
    )  # fmt: skip
    return as_before(op, made)
