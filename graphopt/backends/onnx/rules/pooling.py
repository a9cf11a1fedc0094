"""Pooling and normalisation over images."""

from __future__ import annotations

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.backends.onnx.rules.common import back, cast, channels_first, first_type
from graphopt.backends.onnx.rules.convolution import padding_of
from graphopt.backends.onnx.table import RULES
from graphopt.ir.types import INT32, INT64, TensorType
from graphopt.ir.value import Value

POOLS = {"tf.MaxPool": "MaxPool", "tf.AvgPool": "AveragePool", "tf.MaxPool3D": "MaxPool", "tf.AvgPool3D": "AveragePool"}


@RULES.legalize(*POOLS)
def pool(op: Lowering) -> Value:
    """The maximum or mean of windows; a mean counts only what is no padding, as TensorFlow's does. The maximum of
    groups of channels is that of an axis of its own."""
    return _pooled(op, list(op.attr("ksize") or ()), list(op.attr("strides") or ()))


@RULES.legalize("tf.MaxPoolV2")
def pool_of_inputs(op: Lowering) -> Value:
    """A maximum whose windows and strides are inputs, which must be constant."""
    windows, strides = op.constant_input(1, "the window"), op.constant_input(2, "the strides")
    return _pooled(op, windows.tolist(), strides.tolist())


def _pooled(op: Lowering, windows: list[int], strides: list[int]) -> Value:
    is_first = op.text("data_format", "NHWC").startswith("NC")
    channels = 1 if is_first else len(windows) - 1
    if windows[0] != 1 or strides[0] != 1:
        op.refuse("it pools over the batch")
    if windows[channels] != 1:
        return _over_channels(op, windows, strides, channels)
    value = channels_first(op)
    window, stride = (numbers[2:] if is_first else numbers[1:-1] for numbers in (windows, strides))
    kind = POOLS.get(op.node.op, "MaxPool")
    attrs = {"kernel_shape": tuple(window), "strides": tuple(stride), **padding_of(op, value, window, stride)}
    return back(op, op.emit_node(kind, (value,), [first_type(op)], attrs=attrs).output)


def _over_channels(op: Lowering, windows: list[int], strides: list[int], axis: int) -> Value:
    value, size = op.input(0), windows[axis]
    dims = value.shape.dims or (None,) * len(windows)
    channels = dims[axis]
    if strides[axis] != size or any(n != 1 for place, n in enumerate(windows) if place != axis):
        op.refuse("it pools over channels, and over other dimensions as well or in groups that overlap")
    if sum(not isinstance(dim, int) for dim in dims) > 1 or not isinstance(channels, int) or channels % size:
        op.refuse(f"of the shape {value.shape} of what it pools over channels too little is known")
    wanted = [dim if isinstance(dim, int) else -1 for dim in dims]
    groups = [*wanted[:axis], wanted[axis] // size, size, *wanted[axis + 1 :]]
    apart = op.step("Reshape", value, op.integers(groups, name=f"{op.node.name}/groups"))
    return op.step("Max", apart, op.integers([axis + 1], name=f"{op.node.name}/axis"), keep_dims=False)


@RULES.legalize("tf.MaxPoolWithArgmax")
def pool_with_places(op: Lowering) -> list[Value]:
    """The maximum of windows, and its place: ONNX counts places channel by channel, TensorFlow pixel by pixel."""
    window, strides = list(op.attr("ksize"))[1:3], list(op.attr("strides"))[1:3]
    batch, height, width, channels = op.input(0).shape.dims or (None,) * 4
    if not all(isinstance(dim, int) for dim in (height, width, channels)):
        op.refuse("the size of the images is not known", "give the inputs shapes (set-shapes)")
    assert isinstance(height, int)
    assert isinstance(width, int)
    assert isinstance(channels, int)
    value = channels_first(op)
    kinds = [first_type(op), TensorType(INT64, first_type(op).shape)]
    attrs = {"kernel_shape": tuple(window), "strides": tuple(strides), **padding_of(op, value, window, strides)}
    made = op.emit_node("MaxPool", (value,), kinds, f"{op.node.name}/pooled", attrs)
    area, row = height * width, np.arange(channels, dtype=np.int64).reshape(1, -1, 1, 1)
    places = op.step("FloorMod", made.outputs[1], op.constant(np.array(area, np.int64)))
    places = op.step("AddV2", op.step("Mul", places, op.constant(np.array(channels, np.int64))), op.constant(row))
    if op.attr("include_batch_in_index"):
        if not isinstance(batch, int):
            op.refuse("the size of the batch, which its places count in, is not known")
        first = np.arange(batch, dtype=np.int64).reshape(-1, 1, 1, 1) * (area * channels)
        places = op.step("AddV2", places, op.constant(first))
    order = op.integers([0, 2, 3, 1], name=f"{op.node.name}/order")
    return [back(op, made.outputs[0]), cast(op, op.step("Transpose", places, order), op.node.outputs[1].dtype)]


@RULES.legalize("tf.LRN")
def local_response_normalization(op: Lowering) -> Value:
    """Each element divided by a power of the sum of squares of its neighbours along the channels."""
    radius = int(op.attr("depth_radius"))
    size = 2 * radius + 1
    attrs = {"size": size, "bias": float(op.attr("bias")), "beta": float(op.attr("beta"))}
    attrs["alpha"] = float(op.attr("alpha")) * size
    value = channels_first(op)
    return back(op, op.emit_node("LRN", (value,), [value.type], attrs=attrs).output)


@RULES.legalize("tf.FusedBatchNorm", "tf.FusedBatchNormV2", "tf.FusedBatchNormV3")
def batch_norm(op: Lowering) -> list[Value | None]:
    """A batch norm with the statistics it was trained to, or with those of the batch itself."""
    if any(value.use_count or value.is_output for value in op.node.outputs[3:]):
        op.refuse("what it keeps for training is read", "export the model for inference")
    if op.attr("is_training"):
        return _by_batch(op)
    value = channels_first(op)
    attrs = {"epsilon": float(op.attr("epsilon"))}
    made = op.emit_node("BatchNormalization", (value, *op.inputs[1:5]), [value.type], attrs=attrs)
    return [back(op, made.output), *op.inputs[3:5]]


def _by_channel(op: Lowering, place: int, shape: Value, behind: int) -> Value:
    """A vector of channels with axes of one behind it."""
    held = op.known(place)
    if held is None:
        return op.step("Reshape", op.input(place), shape)
    return op.constant(held.reshape(-1, *[1] * behind), name=op.input(place).node.name)


def _by_batch(op: Lowering) -> list[Value | None]:
    value, rank = op.input(0), op.rank(op.input(0))
    channels = 1 if op.text("data_format", "NHWC").startswith("NC") else rank - 1
    axes = op.integers([axis for axis in range(rank) if axis != channels], name=f"{op.node.name}/axes")
    shape = op.integers([-1, *[1] * (rank - 1 - channels)], name=f"{op.node.name}/channels")
    mean = op.step("Mean", value, axes, keep_dims=True)
    less = op.step("Sub", value, mean)
    variance = op.step("Mean", op.step("Square", less), axes, keep_dims=True)
    spread = op.step("Rsqrt", op.step("AddV2", variance, op.scalar(float(op.attr("epsilon")), variance)))
    scale, offset = (_by_channel(op, place, shape, rank - 1 - channels) for place in (1, 2))
    made = op.step("AddV2", op.step("Mul", less, op.step("Mul", spread, scale)), offset)
    if not any(item.use_count or item.is_output for item in op.node.outputs[1:3]):
        return [made]
    flat = op.integers([-1], name=f"{op.node.name}/flat")
    count = op.step("Cast", op.step("Size", value), SrcT=INT32, DstT=variance.dtype)
    many = op.step("RealDiv", count, op.step("Cast", op.step("Size", mean), SrcT=INT32, DstT=variance.dtype))
    unbiased = op.step("Mul", variance, op.step("RealDiv", many, op.step("Sub", many, op.scalar(1, many))))
    return [made, op.step("Reshape", mean, flat), op.step("Reshape", unbiased, flat)]
