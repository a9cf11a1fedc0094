"""Operators that move elements."""

from __future__ import annotations

from graphopt.backends.legalization import Lowering
from graphopt.backends.tflite.rules.common import as_int32
from graphopt.backends.tflite.table import RULES
from graphopt.ir.value import Value


@RULES.legalize("tf.Mean", "tf.Sum", "tf.Max", "tf.Min", "tf.Prod")
def reduction(op: Lowering) -> Value:
    """A reduction over some axes."""
    names = {
        "tf.Mean": "MEAN",
        "tf.Sum": "SUM",
        "tf.Max": "REDUCE_MAX",
        "tf.Min": "REDUCE_MIN",
        "tf.Prod": "REDUCE_PROD",
    }
    return op.emit(names[op.node.op], op.input(0), as_int32(op, op.input(1)), keep_dims=op.attr("keep_dims"))


@RULES.legalize("tf.Softmax")
def softmax(op: Lowering) -> Value:
    """Exponentials over the last axis, normalised."""
    return op.emit("SOFTMAX", op.input(0), beta=1.0)
