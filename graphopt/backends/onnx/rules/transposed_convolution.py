"""Transposed convolutions: gradients of convolutions with respect to what they read."""

from __future__ import annotations

from graphopt.backends.legalization import Lowering
from graphopt.backends.onnx.rules.common import back, channels_first, first_type, reshape, spatial, transpose
from graphopt.backends.onnx.table import RULES
from graphopt.ir.value import Value

DEPTHWISE = "tf.DepthwiseConv2dNativeBackpropInput"


@RULES.legalize("tf.Conv2DBackpropInput", "tf.Conv3DBackpropInputV2", DEPTHWISE)
def transposed_convolution(op: Lowering) -> Value:
    """Transposed convolutions; pads follow from the size that is wanted, as far as it is known."""
    value = channels_first(op, 2)
    kernel, groups = _kernel(op)
    sizes = op.static(kernel)[2:]
    strides, dilations = spatial(op, "strides"), spatial(op, "dilations") or [1] * len(sizes)
    extents = [(size - 1) * step + 1 for size, step in zip(sizes, dilations, strict=True)]
    kind = first_type(op)
    given, wanted = ((list(shape.dims or (None,) * 9))[2:] for shape in (value.shape, kind.shape))
    margins = [
        _margins(op, *item, place) for place, item in enumerate(zip(given, wanted, extents, strides, strict=False))
    ]
    begins, ends, extra = zip(*margins, strict=True)
    attrs: dict[str, object] = {
        "strides": tuple(strides), "kernel_shape": tuple(sizes), "pads": (*begins, *ends), "group": groups,
    }  # fmt: skip
    if any(extra):
        attrs["output_padding"] = tuple(extra)
    if any(step != 1 for step in dilations):
        attrs["dilations"] = tuple(dilations)
    return back(op, op.emit_node("ConvTranspose", (value, kernel), [kind], attrs=attrs).output)


def _margins(op: Lowering, size: object, goal: object, extent: int, stride: int, place: int) -> tuple[int, int, int]:
    """What is cut off before and behind, and what is added behind."""
    padding, begin = op.text("padding"), 0
    if isinstance(size, int) and isinstance(goal, int):
        total = (size - 1) * stride + extent - goal
    elif padding == "SAME":
        total = max(extent - stride, 0)  # of a size that is a multiple of the stride
    elif padding == "VALID":
        total = 0
    else:
        op.refuse("its pads follow from a size that is not known", "give the inputs shapes (set-shapes)")
    if padding == "SAME":
        begin = max(total, 0) // 2
    elif padding == "EXPLICIT":
        first = 2 if op.text("data_format", "NHWC").startswith("NC") else 1
        begin = int(op.attr("explicit_paddings")[2 * (first + place)])
    return begin, max(total - begin, 0), max(begin - total, 0)


def _kernel(op: Lowering) -> tuple[Value, int]:
    """The kernel laid out by the channels that are read, then those that are made, and the number of groups."""
    given = op.input(1)
    dims, held, groups = op.static(given), op.known(1), 1
    rank = len(dims)
    order = (rank - 1, rank - 2, *range(rank - 2))
    if op.node.op == DEPTHWISE:
        height, width, groups, multiplier = dims
        dims = (height, width, 1, groups * multiplier)
        if held is None:
            given = reshape(op, given, dims, "kernel")
    if held is None:
        return transpose(op, given, order, "kernel_first"), groups
    return op.constant(held.reshape(dims).transpose(order), name=op.input(1).node.name), groups
