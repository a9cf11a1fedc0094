"""Transposed convolutions: gradients of convolutions with respect to what they read."""

from __future__ import annotations

from graphopt.backends.legalization import Lowering, shaped
from graphopt.backends.onnx.rules.common import back, channels_first, spatial
from graphopt.backends.onnx.table import RULES
from graphopt.ir.value import Value


@RULES.legalize("tf.Conv2DBackpropInput", "tf.Conv3DBackpropInputV2")
def transposed_convolution(op: Lowering) -> Value:
    """Transposed convolutions; pads follow from the size that is wanted, as far as it is known."""
    weights = op.constant_input(1, "the kernel")
    value = channels_first(op, 2)
    rank = weights.ndim
    laid_out = weights.transpose(rank - 1, rank - 2, *range(rank - 2))
    strides, dilations = spatial(op, "strides"), spatial(op, "dilations") or [1] * (rank - 2)
    extents = [(size - 1) * step + 1 for size, step in zip(laid_out.shape[2:], dilations, strict=True)]
    dims = op.type.shape.dims
    if dims is not None and not op.text("data_format", "NHWC").startswith("NC"):
        dims = (dims[0], dims[-1], *dims[1:-1])
    begins, ends, extra = [], [], []
    given = value.shape.dims[2:] if value.shape.dims else (None,) * (rank - 2)
    wanted = dims[2:] if dims is not None else (None,) * (rank - 2)
    for size, goal, extent, stride in zip(given, wanted, extents, strides, strict=True):
        if isinstance(size, int) and isinstance(goal, int):
            total = (size - 1) * stride + extent - goal
        elif op.text("padding") == "SAME":
            total = max(extent - stride, 0)  # of a size that is a multiple of the stride
        elif op.text("padding") == "VALID":
            total = 0
        else:
            op.refuse("its pads follow from a size that is not known", "give the inputs shapes (set-shapes)")
        begin = max(total, 0) // 2 if op.text("padding") == "SAME" else 0
        rest = total - begin
        begins.append(begin)
        ends.append(max(rest, 0))
        extra.append(max(-rest, 0))
    attrs: dict[str, object] = {
        "strides": tuple(strides), "kernel_shape": tuple(laid_out.shape[2:]), "pads": tuple(begins + ends),
    }  # fmt: skip
    if any(extra):
        attrs["output_padding"] = tuple(extra)
    if any(step != 1 for step in dilations):
        attrs["dilations"] = tuple(dilations)
    kernel = op.constant(laid_out, name=op.input(1).node.name)
    kind = shaped(op.type.dtype, dims) if dims is not None else op.type
    made = op.emit_node("ConvTranspose", (value, kernel), [kind], attrs=attrs)
    return back(op, made.output)
