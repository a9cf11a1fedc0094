"""Pooling."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from graphopt.backends.legalization import Lowering, shaped
from graphopt.backends.tflite.rules.common import NO_ACTIVATION, reshape
from graphopt.backends.tflite.rules.windows import as_before, as_float32, channels_last, pad
from graphopt.backends.tflite.table import RULES
from graphopt.ir import dimensions
from graphopt.ir.dimensions import Dim
from graphopt.ir.ops.tf_windows import window_count
from graphopt.ir.types import FLOAT32, Shape, TensorType
from graphopt.ir.value import Value

POOLS = {
    "tf.MaxPool": "MAX_POOL_2D", "tf.MaxPoolV2": "MAX_POOL_2D", "tf.MaxPool3D": "MAX_POOL_2D",
    "tf.AvgPool": "AVERAGE_POOL_2D", "tf.AvgPool3D": "AVERAGE_POOL_2D",
}  # fmt: skip


class Pool(NamedTuple):
    """A pool: TFLite's operator, and for each dimension the window and the stride."""

    kind: str
    windows: tuple[int, ...]
    strides: tuple[int, ...]
    padding: bytes


@RULES.legalize("tf.MaxPool", "tf.AvgPool")
def pool(op: Lowering) -> Value:
    """The maximum or mean of windows over height and width, or the maximum over whole groups of channels.

    Explicit padding of a maximum is the lowest number. 16-bit floats are computed as float32.
    """
    x = as_float32(op, op.input(0))
    found = _pool(op, op.attr("ksize"), op.attr("strides"))
    if found.padding == b"EXPLICIT":
        flat = op.attr("explicit_paddings")
        x = pad(op, x, [(flat[2], flat[3]), (flat[4], flat[5])], float(np.finfo(np.float32).min))
        found = found._replace(padding=b"VALID")
    return as_before(op, _pooled(op, x, found))


@RULES.legalize("tf.MaxPoolV2")
def pool_of_inputs(op: Lowering) -> Value:
    """A pool whose window and strides are inputs, which must be constant."""
    windows, strides = op.constant_input(1, "the window"), op.constant_input(2, "the strides")
    found = _pool(op, tuple(windows.tolist()), tuple(strides.tolist()))
    return as_before(op, _pooled(op, as_float32(op, op.input(0)), found))


def _pool(op: Lowering, windows: tuple[int, ...], strides: tuple[int, ...]) -> Pool:
    channels_last(op)
    if op.text("data_format", "NHWC") == "NCHW_VECT_C":
        op.refuse("its channels are vectors")
    if windows[0] != 1 or strides[0] != 1:
        op.refuse("it pools over the batch")
    return Pool(POOLS[op.node.op], windows, strides, op.attr("padding"))


def _pooled(op: Lowering, x: Value, found: Pool) -> Value:
    if found.windows[3] != 1 or found.strides[3] != 1:
        return _over_channels(op, x, found)
    return _pool_2d(op, x, found.kind, found.windows[1:3], found.strides[1:3], found.padding, op.type.shape)


def _pool_2d(
    op: Lowering, x: Value, kind: str, windows: tuple[int, ...], strides: tuple[int, ...], padding: bytes,
    shape: Shape, name: str | None = None,
) -> Value:  # fmt: skip
    return op.emit(
        kind, x, padding=padding, stride_h=strides[0], stride_w=strides[1], filter_height=windows[0],
        filter_width=windows[1], type=TensorType(FLOAT32, shape), fused_activation_function=NO_ACTIVATION, name=name,
    )  # fmt: skip


def _over_channels(op: Lowering, x: Value, found: Pool) -> Value:
    """The maximum of groups of channels: each group is an axis of its own, which is reduced."""
    if found.kind != "MAX_POOL_2D":
        op.refuse("it averages over channels, which TensorFlow does not do, either")
    dims, width = x.shape.dims or (None,) * 4, found.windows[3]
    if found.windows[1:3] != (1, 1) or found.strides[1:3] != (1, 1) or found.strides[3] != width:
        op.refuse("it pools over channels, and over other dimensions as well or in groups that overlap")
    channels = dims[3]
    if sum(not isinstance(dim, int) for dim in dims) > 1:
        op.refuse(f"it pools over channels, and of its shape {x.shape} too little is known", "give the inputs shapes")
    if not isinstance(channels, int) or channels % width:
        op.refuse(f"it pools over groups of {width} channels, and {channels} channels are not known to be made of such")
    groups = reshape(op, x, [*_numbers(dims[:3]), channels // width, width], "groups")
    axis = op.integers([4], name=f"{op.node.name}/axis")
    return op.emit("REDUCE_MAX", groups, axis, type=TensorType(FLOAT32, op.type.shape), keep_dims=False)


def _numbers(dims: tuple[Dim, ...]) -> list[int | None]:
    return [dim if isinstance(dim, int) else None for dim in dims]


@RULES.legalize("tf.MaxPool3D", "tf.AvgPool3D")
def pool_3d(op: Lowering) -> Value:
    """A pool over depth, height and width is one over height and width, then one over depth: both are separable."""
    channels_last(op)
    windows, strides, padding = op.attr("ksize"), op.attr("strides"), op.attr("padding")
    if (windows[0], windows[4], strides[0], strides[4]) != (1, 1, 1, 1):
        op.refuse("it pools over the batch or the channels")
    x = as_float32(op, op.input(0))
    dims = x.shape.dims
    if dims is None or not all(isinstance(dim, int) for dim in dims[1:]):
        op.refuse(f"the shape {x.shape} of '{x.name}' is not known but for the batch", "give the inputs shapes")
    batch, depth, channels = dims[0], dims[1], dims[4]
    height, width = (window_count(dims[a], windows[a], strides[a], 1, padding) for a in (2, 3))
    far = window_count(depth, windows[1], strides[1], 1, padding)
    rows = dimensions.multiply(batch, depth)
    flat = reshape(op, x, _numbers((rows, *dims[2:])), "frames")
    kind = POOLS[op.node.op]
    made = _pool_2d(
        op, flat, kind, windows[2:4], strides[2:4], padding, Shape((rows, height, width, channels)),
        f"{op.node.name}/frames",
    )  # fmt: skip
    area = dimensions.multiply(height, width)
    lines = reshape(op, made, _numbers((batch, depth, area, channels)), "lines")
    made = _pool_2d(
        op, lines, kind, (windows[1], 1), (strides[1], 1), padding, Shape((batch, far, area, channels)),
        f"{op.node.name}/lines",
    )  # fmt: skip
    result = shaped(FLOAT32, (batch, far, height, width, channels))
    wanted = op.integers([-1 if d is None else d for d in _numbers((batch, far, height, width, channels))])
    return as_before(op, op.emit("RESHAPE", made, wanted, type=result))
