"""Pooling and normalisation over images."""

from __future__ import annotations

from graphopt.backends.legalization import Lowering, shaped
from graphopt.backends.onnx.rules.common import back, channels_first, spatial
from graphopt.backends.onnx.rules.convolution import padding_of
from graphopt.backends.onnx.table import RULES
from graphopt.ir.value import Value

POOLS = {"tf.MaxPool": "MaxPool", "tf.AvgPool": "AveragePool", "tf.MaxPool3D": "MaxPool", "tf.AvgPool3D": "AveragePool"}


@RULES.legalize(*POOLS)
def pool(op: Lowering) -> Value:
    """The maximum or mean of windows; a mean counts only what is no padding, as TensorFlow's does."""
    window, strides = spatial(op, "ksize"), spatial(op, "strides")
    value = channels_first(op)
    dims = op.type.shape.dims
    if dims is not None and not op.text("data_format", "NHWC").startswith("NC"):
        dims = (dims[0], dims[-1], *dims[1:-1])
    made = op.emit_node(
        POOLS[op.node.op], (value,), [shaped(op.type.dtype, dims) if dims is not None else op.type],
        attrs={"kernel_shape": tuple(window), "strides": tuple(strides), **padding_of(op, value, window, strides)},
    )  # fmt: skip
    return back(op, made.output)


@RULES.legalize("tf.FusedBatchNorm", "tf.FusedBatchNormV2", "tf.FusedBatchNormV3")
def batch_norm(op: Lowering) -> list[Value | None]:
    """A batch norm with the statistics it was trained to."""
    if op.attr("is_training"):
        op.refuse("it normalises with the batch's own statistics", "export the model for inference")
    value = channels_first(op)
    made = op.emit_node(
        "BatchNormalization", (value, *op.inputs[1:5]), [value.type], attrs={"epsilon": float(op.attr("epsilon"))}
    )
    return [back(op, made.output)]
