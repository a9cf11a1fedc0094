"""Layers of TFLite, operators with weights: where they keep what, and what may be put into them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from graphopt.ir.known import known_tensor
from graphopt.ir.tensors import Tensor
from graphopt.ir.types import FLOAT32, Shape
from graphopt.ir.value import Node, Value
from graphopt.passes.matcher import Match
from graphopt.passes.patterns import ANY, Dialect, Pattern, either, rest
from graphopt.passes.rule import Editor

ACTIVATION = "fused_activation_function"
NO_ACTIVATION = b"NONE"


class Layer(NamedTuple):
    """Places of the inputs, and the axis of the weights along which output channels lie, counted from the end."""

    weights: int
    bias: int
    channels: int


LAYERS = {
    "CONV_2D": Layer(1, 2, -4),
    "DEPTHWISE_CONV_2D": Layer(1, 2, -1),
    "FULLY_CONNECTED": Layer(1, 2, -2),
    "TRANSPOSE_CONV": Layer(1, 3, -4),
    "CONV_3D": Layer(1, 2, -1),
}


def layer_of(node: Node) -> Layer:
    """What is known of the operator of a layer."""
    return LAYERS[node.op_type]


def activation(node: Node) -> Any:
    """The activation fused into a node."""
    return node.attrs.get(ACTIVATION, NO_ACTIVATION)


def is_plain_float(value: Value) -> bool:
    """float32, and not quantized."""
    return value.dtype is FLOAT32 and value.type.quantization is None


def weights_tensor(node: Node) -> Tensor | None:
    """The weights of a layer where they are constant and float32."""
    held = known_tensor(node.input(layer_of(node).weights))
    return held if held is not None and held.dtype is FLOAT32 else None


def channel_count(node: Node) -> int | None:
    """How many output channels a layer has, None where that is not known."""
    held = weights_tensor(node)
    if held is not None:
        return held.shape[layer_of(node).channels]
    last = node.output.shape[-1] if node.output.shape.rank else None
    return last if isinstance(last, int) else None


def bias_value(node: Node) -> Value | None:
    """The bias, if the layer has one."""
    place = layer_of(node).bias
    return node.inputs[place] if node.input_count > place else None


def bias_array(node: Node, channels: int) -> np.ndarray[Any, Any] | None:
    """The bias of a layer as an array, zeros for none; None where it is not constant, or not float32."""
    value = bias_value(node)
    if value is None:
        return np.zeros(channels, np.float32)
    held = known_tensor(value)
    return held.numpy() if held is not None and held.dtype is FLOAT32 else None


def channel_axes(shape: Shape, channels: int) -> tuple[int, ...] | None:
    """The sizes of the last axes that together hold `channels`, as heads of attention split them; None if none do."""
    sizes: tuple[int, ...] = ()
    for dim in reversed(shape.dims or ()):
        if not isinstance(dim, int):
            return None
        sizes = (dim, *sizes)
        if math.prod(sizes) >= channels:
            return sizes if math.prod(sizes) == channels else None
    return None


def per_channel(constant: Tensor, axes: tuple[int, ...], rank: int | None) -> np.ndarray[Any, Any] | None:
    """One number a channel of a float32 constant that broadcasts along the last of `rank` axes alone, or None.

    `axes` are the sizes of the axes that hold the channels.
    """
    shape = constant.shape
    if constant.dtype is not FLOAT32 or rank is None or len(shape) > rank:
        return None
    trailing = shape[-len(axes) :]
    if math.prod(shape) != math.prod(trailing):
        return None
    if any(mine not in (1, size) for mine, size in zip(reversed(trailing), reversed(axes), strict=False)):
        return None
    return np.broadcast_to(constant.numpy().reshape(trailing), axes).reshape(-1)


def rebuilt(
    edit: Editor,
    layer: Node,
    like: Value,
    *,
    weights: np.ndarray[Any, Any] | None = None,
    bias: np.ndarray[Any, Any] | None = None,
    activation: bytes | None = None,
    name: str | None = None,
) -> Value:
    """`layer` again, with other weights, another bias or an activation; typed like `like`, called like the root."""
    places = layer_of(layer)
    inputs = list(layer.inputs)
    if weights is not None:
        inputs[places.weights] = edit.hold(weights, name=layer.input(places.weights).node.name)
    if bias is not None:
        inputs += [None] * (places.bias + 1 - len(inputs))
        before = inputs[places.bias]
        label = before.node.name if before is not None else f"{layer.name}/bias"
        inputs[places.bias] = edit.hold(np.ascontiguousarray(bias, np.float32), name=label)
    attrs = {} if activation is None else {ACTIVATION: activation}
    return edit.node(layer.op, inputs, attrs, like=layer, types=(like.type,), name=name).output


def maybe_reshaped(tfl: Dialect, inner: Pattern) -> Pattern:
    """`inner`, or a reshape of it that is captured as `between`."""
    between = tfl.any_of("RESHAPE", "SQUEEZE", "EXPAND_DIMS")(inner, rest("shape"), attributes=ANY, name="between")
    return either(inner, between)


def reshaped_again(match: Match, edit: Editor, value: Value) -> Value:
    """`value` reshaped as the match was, in place of its root."""
    return edit.node(
        match.between.op, [value, *match.shape], like=match.between, types=(match.root.output.type,)
    ).output
