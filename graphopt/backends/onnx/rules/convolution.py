"""Convolutions. ONNX's weights are laid out by output channel, then input channel: OIHW."""

from __future__ import annotations

from graphopt.backends.legalization import Lowering, shaped
from graphopt.backends.onnx.rules.common import back, channels_first, same_pads, spatial
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
    """Convolutions over images and volumes, grouped and depthwise ones too."""
    weights = op.constant_input(1, "the kernel")
    value = channels_first(op)
    groups = 1
    if op.node.op == "tf.DepthwiseConv2dNative":
        height, width, groups, multiplier = weights.shape
        laid_out = weights.reshape(height, width, 1, groups * multiplier).transpose(3, 2, 0, 1)
    else:
        rank = weights.ndim
        laid_out = weights.transpose(rank - 1, rank - 2, *range(rank - 2))
        channels = (value.shape.dims or (None, None))[1]
        if isinstance(channels, int):
            groups = channels // laid_out.shape[1]
    strides, dilations = spatial(op, "strides"), spatial(op, "dilations") or [1] * (weights.ndim - 2)
    extent = [(size - 1) * step + 1 for size, step in zip(laid_out.shape[2:], dilations, strict=True)]
    attrs = padding_of(op, value, extent, strides)
    if any(step != 1 for step in dilations):
        attrs["dilations"] = tuple(dilations)
    kernel = op.constant(laid_out, name=op.input(1).node.name)
    dims = op.type.shape.dims
    if dims is not None and not op.text("data_format", "NHWC").startswith("NC"):
        dims = (dims[0], dims[-1], *dims[1:-1])
    made = op.emit_node(
        "Conv", (value, kernel), [shaped(op.type.dtype, dims) if dims is not None else op.type],
        attrs={"strides": tuple(strides), "kernel_shape": tuple(laid_out.shape[2:]), "group": groups, **attrs},
    )  # fmt: skip
    return back(op, made.output)
