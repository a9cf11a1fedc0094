"""Convolutions. TFLite's weights are laid out by output channel: OHWI, and 1HWC for depthwise ones."""

from __future__ import annotations

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.backends.tflite.rules.common import NO_ACTIVATION
from graphopt.backends.tflite.table import RULES
from graphopt.ir.value import Value


@RULES.legalize("tf.Conv2D")
def conv2d(op: Lowering) -> Value:
    """A convolution with constant weights."""
    if op.text("data_format") != "NHWC":
        op.refuse("its channels come first", "let the layout be converted")
    padding = op.text("padding")
    if padding not in ("SAME", "VALID"):
        op.refuse(f"its padding is {padding}")
    weights = op.constant_input(1, "the kernel").transpose(3, 0, 1, 2)
    strides, dilations = op.attr("strides"), op.attr("dilations")
    kernel = op.constant(weights, name=op.input(1).node.name)
    bias = op.constant(np.zeros(weights.shape[0], weights.dtype), name=f"{op.node.name}/bias")
    return op.emit(
        "CONV_2D", op.input(0), kernel, bias, padding=padding.encode(), stride_h=strides[1], stride_w=strides[2],
        dilation_h_factor=dilations[1], dilation_w_factor=dilations[2], fused_activation_function=NO_ACTIVATION,
    )  # fmt: skip


@RULES.legalize("tf.DepthwiseConv2dNative")
def depthwise(op: Lowering) -> Value:
    """A depthwise convolution with constant weights."""
    if op.text("data_format") != "NHWC":
        op.refuse("its channels come first", "let the layout be converted")
    padding = op.text("padding")
    if padding not in ("SAME", "VALID"):
        op.refuse(f"its padding is {padding}")
    weights = op.constant_input(1, "the kernel")
    height, width, channels, multiplier = weights.shape
    strides, dilations = op.attr("strides"), op.attr("dilations")
    kernel = op.constant(weights.reshape(1, height, width, channels * multiplier), name=op.input(1).node.name)
    bias = op.constant(np.zeros(channels * multiplier, weights.dtype), name=f"{op.node.name}/bias")
    return op.emit(
        "DEPTHWISE_CONV_2D", op.input(0), kernel, bias, padding=padding.encode(), stride_h=strides[1],
        stride_w=strides[2], depth_multiplier=multiplier, dilation_h_factor=dilations[1],
        dilation_w_factor=dilations[2], fused_activation_function=NO_ACTIVATION,
    )  # fmt: skip
