"""Convolutions. ONNX's weights are laid out by output channel, then input channel: OIHW."""

from __future__ import annotations

from graphopt.backends.legalization import Lowering
from graphopt.backends.onnx.rules.common import (
    back,
    channels_first,
    first_type,
    reshape,
    same_pads,
    spatial,
    transpose,
)
from graphopt.backends.onnx.table import RULES
from graphopt.ir.value import Value


def padding_of(op: Lowering, value: Value, kernel: list[int], strides: list[int]) -> dict[str, object]:
    """Attributes for the padding of a window over `value`, channels first."""
    kind = op.text("padding")
    if kind == "VALID":
        return {}
    if kind == "EXPLICIT":
        given = list(op.attr("explicit_paddings"))
        pairs = [given[2 * place : 2 * place + 2] for place in range(len(given) // 2)]
        inner = pairs[2:] if op.text("data_format", "NHWC").startswith("NC") else pairs[1:-1]
        return {"pads": tuple([pair[0] for pair in inner] + [pair[1] for pair in inner])}
    sizes = [dim if isinstance(dim, int) else None for dim in (value.shape.dims or ())[2:]]
    pads = same_pads(sizes, kernel, strides) if len(sizes) == len(kernel) else None
    if pads is None:
        return {"auto_pad": b"SAME_UPPER"}
    return {"pads": tuple(pads)} if any(pads) else {}


@RULES.legalize("tf.Conv2D", "tf.DepthwiseConv2dNative", "tf.Conv3D")
def convolution(op: Lowering) -> Value:
    """Convolutions over images and volumes, grouped and depthwise ones too; kernels may be computed."""
    value = channels_first(op)
    kernel, groups = _kernel(op, (value.shape.dims or (None, None))[1])
    sizes = op.static(kernel)[2:]
    strides, dilations = spatial(op, "strides"), spatial(op, "dilations") or [1] * len(sizes)
    extent = [(size - 1) * step + 1 for size, step in zip(sizes, dilations, strict=True)]
    attrs = padding_of(op, value, extent, strides)
    if any(step != 1 for step in dilations):
        attrs["dilations"] = tuple(dilations)
    attrs |= {"strides": tuple(strides), "kernel_shape": tuple(sizes), "group": groups}
    return back(op, op.emit_node("Conv", (value, kernel), [first_type(op)], attrs=attrs).output)


def _kernel(op: Lowering, channels: object) -> tuple[Value, int]:
    """The kernel laid out by output channel, then input channel, and the number of groups."""
    given = op.input(1)
    dims, held = op.static(given), op.known(1)
    rank = len(dims)
    order = (rank - 1, rank - 2, *range(rank - 2))
    groups = 1
    if op.node.op == "tf.DepthwiseConv2dNative":
        height, width, groups, multiplier = dims
        dims = (height, width, 1, groups * multiplier)
        if held is None:
            given = reshape(op, given, dims, "kernel")
    elif isinstance(channels, int):
        groups = channels // dims[-2]
    if held is None:
        return transpose(op, given, order, "kernel_first"), groups
    return op.constant(held.reshape(dims).transpose(order), name=op.input(1).node.name), groups
