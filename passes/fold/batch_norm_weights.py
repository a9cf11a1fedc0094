"""Linear operators with weights: where channels lie in the weights, and how to scale them.

The table is all that rules know of convolutions and matrix products. Axes are counted from the end, so that one row
serves any number of leading axes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from graphopt.ir.errors import printable
from graphopt.ir.known import known_tensor
from graphopt.ir.ops import attributes
from graphopt.ir.tensors import ArrayTensor, Tensor
from graphopt.ir.types import FLOAT16, FLOAT64
from graphopt.ir.value import Node, Value
from graphopt.passes.fold.batch_norm_affine import FLOATS, Affine, Array, rounded


class Linear(NamedTuple):
    """An operator that multiplies its data by weights: inputs, and axes of the weights (from the end).

    Output channels lie along the axes `outputs` of the weights, flattened, input channels along `inputs`.
    `transposes_weights` and `transposes_data` name attributes that swap the last two axes of either.
    """

    data: int
    weights: int
    outputs: tuple[int, ...]
    inputs: tuple[int, ...]
    rank: int | None  # of data and result
    transposes_weights: str = ""
    transposes_data: str = ""
    scatters: bool = False  # an element of the data reaches outputs in numbers that depend on their place


LINEAR: Mapping[str, Linear] = {
    "tf.Conv2D": Linear(0, 1, (-1,), (-2,), 4),
    "tf.DepthwiseConv2dNative": Linear(0, 1, (-2, -1), (-2,), 4),
    "tf.Conv2DBackpropInput": Linear(2, 1, (-2,), (-1,), 4, scatters=True),
    "tf.Conv3D": Linear(0, 1, (-1,), (-2,), 5),
    "tf.Conv3DBackpropInputV2": Linear(2, 1, (-2,), (-1,), 5, scatters=True),
    "tf.MatMul": Linear(0, 1, (-1,), (-2,), 2, "transpose_b", "transpose_a"),
    "tf.BatchMatMul": Linear(0, 1, (-1,), (-2,), None, "adj_y", "adj_x"),
    "tf.BatchMatMulV2": Linear(0, 1, (-1,), (-2,), None, "adj_y", "adj_x"),
    "tf.BatchMatMulV3": Linear(0, 1, (-1,), (-2,), None, "adj_y", "adj_x"),
}
# Channel axis, counted from the end, by data format.
CHANNEL_AXES: Mapping[bytes, int] = {b"NHWC": -1, b"NDHWC": -1, b"NCHW": -3, b"NCDHW": -4}


def rank_of(value: Value) -> int | None:
    """Number of dimensions: the value's own, or what its operator always yields."""
    rank = value.shape.rank
    if rank is None and value.node.op in LINEAR:
        return LINEAR[value.node.op].rank
    return rank


class Weighted:
    """One node of a linear operator whose weights are known."""

    __slots__ = ("attrs", "data", "data_axis", "inputs", "linear", "node", "output_axis", "outputs", "weights")

    def __init__(self, node: Node, linear: Linear, weights: Tensor, output_axis: int):
        self.node, self.linear, self.weights = node, linear, weights
        self.attrs = attributes(node)
        swap = bool(linear.transposes_weights and self.attrs.get(linear.transposes_weights))
        self.outputs = tuple(-3 - axis for axis in linear.outputs) if swap else linear.outputs
        self.inputs = tuple(-3 - axis for axis in linear.inputs) if swap else linear.inputs
        self.output_axis = output_axis  # where channels lie in the result
        across = bool(linear.transposes_data and self.attrs.get(linear.transposes_data))
        self.data_axis = -2 if across else output_axis  # and in the data
        self.data = node.input(linear.data)

    def scaled(self, axes: tuple[int, ...], scale: Array) -> Tensor:
        """The weights with channels along `axes` multiplied by `scale`, in one new array."""
        weights = self.weights.numpy()
        result = np.empty(weights.shape, weights.dtype)
        exact = np.float64 if self.weights.dtype is FLOAT64 else np.float32  # halves are multiplied in single
        view, factor = self._aligned(axes, scale.astype(exact))
        np.multiply(weights.reshape(view), factor, out=result.reshape(view), casting="unsafe")
        return ArrayTensor(result, self.weights.dtype)

    def _aligned(self, axes: tuple[int, ...], scale: Array) -> tuple[tuple[int, ...], Array]:
        """A shape to view the weights in, and `scale` shaped to broadcast along it."""
        shape = self.weights.shape
        if scale.ndim == 0:
            return shape, scale
        here = [shape[axis] for axis in axes]
        if scale.size == math.prod(here):
            dims = [1] * len(shape)
            for axis, length in zip(axes, here, strict=True):
                dims[axis] = length
            return shape, scale.reshape(dims)
        # Groups: axis -2 holds the channels of one group, axis -1 those of all of them on the other side.
        groups = scale.size // shape[-2]
        return (*shape[:-1], groups, shape[-1] // groups), scale.reshape(groups, shape[-2]).T[:, :, None]

    @property
    def output_channels(self) -> int | None:
        """Number of channels of the result; None where groups leave it open."""
        if self.linear.scatters:
            channels = self.node.output.shape[self.output_axis]
            return channels if isinstance(channels, int) else None
        return math.prod(self.weights.shape[axis] for axis in self.outputs)

    @property
    def groups_allowed(self) -> bool:
        """The operator may divide its channels into groups, of which the weights hold one side."""
        return self.linear.outputs in ((-1,), (-2,)) and not self.linear.transposes_weights

    def _holds(self, axes: tuple[int, ...], channels: int) -> bool:
        """The weights have `channels` channels along `axes`, in one group or in several."""
        shape = self.weights.shape
        here = math.prod(shape[axis] for axis in axes)
        if here == channels or axes != (-2,) or not self.groups_allowed or here == 0:
            return here == channels
        groups, rest = divmod(channels, here)
        return rest == 0 and groups > 0 and shape[-1] % groups == 0

    def contributed(self, offset: Array) -> Array:
        """What `offset`, added to each input channel, adds to each output channel: shape (output channels,)."""
        weights = self.weights.numpy()
        if self.inputs == (-1,):
            weights = weights.swapaxes(-1, -2)
        single = np.float64 if self.weights.dtype is FLOAT64 else np.float32
        channels, columns = weights.shape[-2:]
        total = 0.0
        for matrix in weights.reshape(-1, channels, columns) if weights.ndim > 2 else weights[None]:
            part = matrix.astype(single, copy=False)
            if self.linear.outputs == (-2, -1):
                total = total + (part * np.broadcast_to(offset, channels)[:, None].astype(single)).reshape(-1)
                continue
            groups = max(1, offset.size // channels)
            vector = np.broadcast_to(offset, groups * channels).reshape(groups, channels).astype(single)
            grouped = part.reshape(channels, groups, -1).transpose(1, 0, 2)
            total = total + (vector[:, None, :] @ grouped).reshape(-1)
        return np.asarray(total, np.float64)

    @property
    def adds_no_elements(self) -> bool:
        """Every output sums over all weights: nothing is padded, nothing scattered, no batch of weights."""
        if self.linear.scatters:
            return False
        if self.linear.transposes_weights:
            return math.prod(self.weights.shape[:-2]) == 1
        padding = self.attrs.get("padding")
        window = self.weights.shape[:-2]
        explicit = self.attrs.get("explicit_paddings") or ()
        return (
            padding == b"VALID"
            or (padding == b"SAME" and math.prod(window) == 1)
            or (padding == b"EXPLICIT" and not any(explicit))
        )

    def refusal(self, axes: tuple[int, ...], channels: int | None, change: Affine, limit: int) -> str | None:
        """Why the weights cannot take in `change` along `axes`, where the value changed has `channels`; or None."""
        name = printable(self.node.name)
        if channels is None and (change.axis is not None or (change.shifts and not self.output_channels)):
            return f"how many channels '{name}' has is not known"
        if change.axis is not None and (change.channels != channels or not self._holds(axes, change.channels)):
            return f"'{name}' has not {change.channels} channels"
        if not change.is_finite_in(self.weights.dtype):
            return "its scale or offset would not be finite"
        if change.scales and self.weights.nbytes > limit:
            return f"the weights of '{name}' take {self.weights.nbytes} bytes, more than a constant may"
        if self.weights.dtype is FLOAT16 and change.scales and self.weights.size:
            largest = float(np.abs(self.weights.numpy()).max()) * float(np.abs(change.scale).max())
            if not np.isfinite(rounded(np.float64(largest), FLOAT16)):  # type: ignore[arg-type]
                return f"the scaled weights of '{name}' would be out of float16's range"
        return None


def weighted(node: Node) -> Weighted | str | None:
    """`node` as a linear operator with known weights; the reason where they are not; None for other operators."""
    linear = LINEAR.get(node.op)
    if linear is None or node.input_count <= max(linear.data, linear.weights):
        return None
    axis = -1
    if linear.rank is not None and not linear.transposes_weights:
        found = CHANNEL_AXES.get(attributes(node).get("data_format", b""))
        if found is None:
            return f"'{printable(node.name)}' has an unknown data format"
        axis = found
    held = known_tensor(node.input(linear.weights))
    if held is None:
        return f"the weights of '{printable(node.name)}' are not known"
    if held.dtype not in FLOATS or node.output.dtype is not held.dtype:
        return f"the weights of '{printable(node.name)}' are {held.dtype}"
    if len(held.shape) < 2 or (linear.rank is not None and len(held.shape) != linear.rank):
        return f"the weights of '{printable(node.name)}' have {len(held.shape)} dimensions"
    return Weighted(node, linear, held, axis)
