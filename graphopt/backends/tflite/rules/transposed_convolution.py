"""Transposed convolutions: what TensorFlow calls the gradient of a convolution with respect to its input."""

from __future__ import annotations

import numpy as np

from graphopt.backends.legalization import Array, Lowering, shaped
from graphopt.backends.tflite.rules.common import NO_ACTIVATION, as_int32, transpose
from graphopt.backends.tflite.rules.convolution import constant_kernel, three_dimensional
from graphopt.backends.tflite.rules.windows import Window, as_before, as_float32, window
from graphopt.backends.tflite.table import RULES
from graphopt.ir import dimensions
from graphopt.ir.types import FLOAT32, Shape, TensorType
from graphopt.ir.value import Value

LARGEST = 1 << 24  # bytes of a kernel that is spread out because its taps lie apart


@RULES.legalize("tf.Conv2DBackpropInput")
def transposed_convolution(op: Lowering) -> Value:
    """A transposed convolution; explicit padding is cut off the result, dilation spreads a constant kernel out."""
    sliding = window(op, 2)
    filters, channels = op.static(op.input(1)), op.input(2).shape[-1]
    if isinstance(channels, int) and channels != filters[3]:
        op.refuse(f"it has {channels} channels for a kernel of {filters[3]}: groups, which TFLite's has not")
    weights = _weights(op, sliding)
    sizes, padding, dims = _sizes(op, sliding)
    made = op.emit(
        "TRANSPOSE_CONV", sizes, weights, as_float32(op, op.input(2)), padding=padding, stride_h=sliding.strides[0],
        stride_w=sliding.strides[1], type=TensorType(FLOAT32, dims), fused_activation_function=NO_ACTIVATION,
        name=op.node.name if padding == sliding.padding else f"{op.node.name}/whole",
    )  # fmt: skip
    return as_before(op, _cut(op, sliding, made))


@RULES.legalize("tf.DepthwiseConv2dNativeBackpropInput")
def transposed_depthwise_convolution(op: Lowering) -> Value:
    """A transposed convolution of each channel by itself: one of all, whose kernel is zero between channels."""
    window(op, 2)
    height, width, channels, multiplier = op.static(op.input(1))
    held = constant_kernel(op, 1)
    if held is None:
        op.refuse("its kernel is computed at run time", "make the kernel a constant (freeze)")
    if 4 * height * width * channels * channels * multiplier > LARGEST:
        op.refuse("its kernel would become too large")
    spread = np.zeros((height, width, channels, channels, multiplier), np.float32)
    every = np.arange(channels)
    spread[:, :, every, every] = held
    weights = op.constant(spread.reshape(height, width, channels, -1), name=op.input(1).node.name)
    attrs = {key: op.attr(key) for key in ("strides", "padding", "dilations", "explicit_paddings")}
    return op.step("Conv2DBackpropInput", op.input(0), weights, op.input(2), **attrs)


def _weights(op: Lowering, sliding: Window) -> Value:
    """The kernel, laid out by output channel, its taps as far apart as the dilation says."""
    held = constant_kernel(op, 1)
    if held is None:
        if sliding.dilations != (1, 1):
            op.refuse("it is dilated, and its kernel computed at run time", "make the kernel a constant (freeze)")
        return transpose(op, as_float32(op, op.input(1)), (2, 0, 1, 3), "weights")
    spread = _spread(op, held, sliding.dilations)
    return op.constant(spread.transpose(2, 0, 1, 3), name=op.input(1).node.name)


def _spread(op: Lowering, kernel: Array, dilations: tuple[int, ...]) -> Array:
    if dilations == (1, 1):
        return kernel
    shape = [(size - 1) * by + 1 for size, by in zip(kernel.shape, dilations, strict=False)]
    if 4 * shape[0] * shape[1] * kernel.shape[2] * kernel.shape[3] > LARGEST:
        op.refuse("it is dilated, and its kernel would become too large")
    spread = np.zeros((*shape, *kernel.shape[2:]), np.float32)
    spread[:: dilations[0], :: dilations[1]] = kernel
    return spread


def _sizes(op: Lowering, sliding: Window) -> tuple[Value, bytes, Shape]:
    """The shape of what TFLite computes, its padding, and that shape as far as it is known."""
    dims = op.type.shape.dims or (None,) * 4
    given = op.input(0)
    if op.type.shape.static is not None:
        given = op.integers(op.type.shape.static, name=f"{op.node.name}/shape")
    elif given.shape.dims != (4,):
        op.refuse("its output shape is not known, and not given whole", "give the inputs shapes (set-shapes)")
    given = as_int32(op, given)
    if sliding.padding != b"EXPLICIT":
        return given, sliding.padding, Shape(dims)
    around = [0, *(sum(pair) for pair in sliding.paddings), 0]
    whole = Shape(dimensions.add(dim, extra) for dim, extra in zip(dims, around, strict=True))
    if whole.static is not None:
        return op.integers(whole.static, name=f"{op.node.name}/shape"), b"VALID", whole
    extra = op.integers(around, name=f"{op.node.name}/paddings")
    made = op.emit(
        "ADD", given, extra, type=given.type, name=f"{op.node.name}/shape", fused_activation_function=NO_ACTIVATION
    )
    return made, b"VALID", whole


def _cut(op: Lowering, sliding: Window, whole: Value) -> Value:
    """The part of the result that explicit padding leaves."""
    if sliding.padding != b"EXPLICIT":
        return whole
    begin = op.integers([0, *(pair[0] for pair in sliding.paddings), 0], name=f"{op.node.name}/begin")
    if op.type.shape.static is not None:
        sizes = op.integers(op.type.shape.static, name=f"{op.node.name}/size")
    else:
        sizes = as_int32(op, op.input(0))
    return op.emit("SLICE", whole, begin, sizes, type=TensorType(FLOAT32, op.type.shape))


@RULES.legalize("tf.Conv3DBackpropInputV2")
def transposed_convolution_3d(op: Lowering) -> Value:
    """A transposed convolution over depth, height and width."""
    sliding = window(op, 3)
    if sliding.dilations != (1, 1, 1):
        op.refuse("it is dilated, which TFLite's kernel is not")
    held = constant_kernel(op, 1)
    weights = as_float32(op, op.input(1)) if held is None else op.constant(held, name=op.input(1).node.name)
    shape = op.type.shape.static
    sizes = as_int32(op, op.input(0)) if shape is None else op.integers(shape, name=f"{op.node.name}/shape")
    made = op.emit(
        "CONV_3D_TRANSPOSE", sizes, weights, as_float32(op, op.input(2)), padding=sliding.padding,
        **three_dimensional(sliding), type=shaped(FLOAT32, op.type.shape.dims or (None,) * 5),
        fused_activation_function=NO_ACTIVATION,
    )  # fmt: skip
    return as_before(op, made)
