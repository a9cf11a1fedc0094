"""Pooling."""

from __future__ import annotations

from graphopt.backends.legalization import Lowering
from graphopt.backends.tflite.rules.common import NO_ACTIVATION
from graphopt.backends.tflite.table import RULES
from graphopt.ir.value import Value

POOLS = {"tf.MaxPool": "MAX_POOL_2D", "tf.AvgPool": "AVERAGE_POOL_2D"}


@RULES.legalize(*POOLS)
def pool(op: Lowering) -> Value:
    """The maximum or mean of windows over height and width."""
    if op.text("data_format") != "NHWC":
        op.refuse("its channels come first", "let the layout be converted")
    window, strides = op.attr("ksize"), op.attr("strides")
    return op.emit(
        POOLS[op.node.op], op.input(0), padding=op.text("padding").encode(), stride_h=strides[1], stride_w=strides[2],
        filter_height=window[1], filter_width=window[2], fused_activation_function=NO_ACTIVATION,
    )  # fmt: skip
