"""Convolutions. TFLite's weights are laid out by output channel: OHWI, and 1HWC for depthwise ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.backends.legalization import Array, Lowering, shaped
from graphopt.backends.tflite.rules.common import NO_ACTIVATION, reshape, transpose
from graphopt.backends.tflite.rules.windows import Window, as_before, as_float32, check_float, unexplicit, window
from graphopt.backends.tflite.table import RULES
from graphopt.ir.tensors import contiguous
from graphopt.ir.types import FLOAT32
from graphopt.ir.value import Value


@RULES.legalize("tf.Conv2D")
def convolution(op: Lowering) -> Value:
    """A convolution, its kernel constant or computed; grouped ones too, by a depthwise one where a group is a channel.

    16-bit floats are computed as float32.
    """
    sliding = window(op, 2)
    kernel, channels = op.static(op.input(1)), op.input(0).shape[-1]
    if kernel[2] == 1 and isinstance(channels, int) and channels > 1:
        return _depthwise(op, sliding, (kernel[0], kernel[1], channels, kernel[3] // channels))
    weights = _weights(op, (3, 0, 1, 2))
    x, padding = unexplicit(op, as_float32(op, op.input(0)), sliding)
    made = op.emit(
        "CONV_2D", x, weights, zeros(op, kernel[3]), padding=padding, **two_dimensional(sliding),
        type=shaped(FLOAT32, op.type.shape.dims or (None,) * 4), fused_activation_function=NO_ACTIVATION,
    )  # fmt: skip
    return as_before(op, made)


@RULES.legalize("tf.DepthwiseConv2dNative")
def depthwise(op: Lowering) -> Value:
    """A depthwise convolution, its kernel constant or computed; strides may differ, channels be multiplied."""
    height, width, channels, multiplier = op.static(op.input(1))
    return _depthwise(op, window(op, 2), (height, width, channels, multiplier))


def _depthwise(op: Lowering, sliding: Window, kernel: tuple[int, int, int, int]) -> Value:
    """A depthwise convolution with a kernel of height, width, channels and multiplier."""
    height, width, channels, multiplier = kernel
    layout = (1, height, width, channels * multiplier)
    held = constant_kernel(op, 1)
    if held is None:
        weights = reshape(op, as_float32(op, op.input(1)), layout, "weights")
    else:
        weights = op.constant(held.reshape(layout), name=op.input(1).node.name)
    x, padding = unexplicit(op, as_float32(op, op.input(0)), sliding)
    made = op.emit(
        "DEPTHWISE_CONV_2D", x, weights, zeros(op, layout[-1]), padding=padding, **two_dimensional(sliding),
        depth_multiplier=multiplier, type=shaped(FLOAT32, op.type.shape.dims or (None,) * 4),
        fused_activation_function=NO_ACTIVATION,
    )  # fmt: skip
    return as_before(op, made)


@RULES.legalize("tf.Conv3D")
def convolution_3d(op: Lowering) -> Value:
    """A convolution over depth, height and width; of groups of channels, each group's by itself."""
    sliding = window(op, 3)
    kernel, channels = op.static(op.input(1)), op.input(0).shape[-1]
    if isinstance(channels, int) and channels != kernel[3]:
        return _by_group(op, channels // max(kernel[3], 1))
    x, padding = unexplicit(op, as_float32(op, op.input(0)), sliding)
    made = op.emit(
        "CONV_3D", x, _weights(op, (0, 1, 2, 3, 4)), zeros(op, kernel[4]), padding=padding,
        **three_dimensional(sliding), type=shaped(FLOAT32, op.type.shape.dims or (None,) * 5),
        fused_activation_function=NO_ACTIVATION,
    )  # fmt: skip
    return as_before(op, made)


def _by_group(op: Lowering, groups: int) -> Value:
    """The convolutions of `groups` of channels, side by side."""
    last, held, name = op.integers(4, name=f"{op.node.name}/axis"), op.known(1), op.input(1).node.name
    x = op.edit.node("tf.Split", [last, op.input(0)], {"num_split": groups}).outputs
    if held is None:
        kernel = op.edit.node("tf.Split", [last, op.input(1)], {"num_split": groups}).outputs
    else:
        kernel = [op.constant(contiguous(part), name=name) for part in np.split(held, groups, axis=4)]
    kept = {key: op.attr(key) for key in ("strides", "padding", "dilations", "data_format")}
    made = [op.step("Conv3D", *parts, **kept) for parts in zip(x, kernel, strict=True)]
    return op.edit.node("tf.ConcatV2", [*made, last], {"N": groups}).output


def _weights(op: Lowering, order: tuple[int, ...]) -> Value:
    """The kernel with its axes in `order`: a constant stays one."""
    held = constant_kernel(op, 1)
    if held is None:
        return transpose(op, as_float32(op, op.input(1)), order, "weights")
    name = op.input(1).node.name
    if order == (3, 0, 1, 2):  # one matrix transposed
        turned = contiguous(held.reshape(-1, held.shape[3]).T)
        return op.constant(turned.reshape(held.shape[3], *held.shape[:3]), name=name)
    return op.constant(held.transpose(order), name=name)


def constant_kernel(op: Lowering, index: int) -> Array | None:
    """A kernel that is constant, as float32, or None."""
    check_float(op, op.input(index))
    held = op.known(index)
    return None if held is None else held.astype(np.float32, copy=False)


def zeros(op: Lowering, count: int) -> Value:
    """A bias that adds nothing."""
    return op.constant(np.zeros(count, np.float32), name=f"{op.node.name}/bias")


def two_dimensional(sliding: Window) -> dict[str, Any]:
    """Options for strides and dilations over height and width."""
    return {
        "stride_h": sliding.strides[0], "stride_w": sliding.strides[1],
        "dilation_hfactor": sliding.dilations[0], "dilation_wfactor": sliding.dilations[1],
    }  # fmt: skip


def three_dimensional(sliding: Window) -> dict[str, Any]:
    """Options for strides and dilations over depth, height and width."""
    (depth, height, width), (far_depth, far_height, far_width) = sliding.strides, sliding.dilations
    return {
        "stride_d": depth, "stride_h": height, "stride_w": width,
        "dilation_dfactor": far_depth, "dilation_hfactor": far_height, "dilation_wfactor": far_width,
    }  # fmt: skip
