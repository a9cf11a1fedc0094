"""Matrix products."""

from __future__ import annotations

from graphopt.backends.legalization import Lowering
from graphopt.backends.tflite.rules.common import NO_ACTIVATION, transpose
from graphopt.backends.tflite.table import RULES
from graphopt.ir.value import Value


@RULES.legalize("tf.MatMul")
def matmul(op: Lowering) -> Value:
    """A product of matrices is a fully connected layer, whose weights are laid out by output channel."""
    a, b = op.input(0), op.input(1)
    if op.attr("transpose_a"):
        a = transpose(op, a, (1, 0))
    held = op.known(1)
    if held is not None:
        b = op.constant(held if op.attr("transpose_b") else held.T, name=op.input(1).node.name)
    elif not op.attr("transpose_b"):
        b = transpose(op, b, (1, 0))
    return op.emit(
        "FULLY_CONNECTED", a, b, None, fused_activation_function=NO_ACTIVATION, weights_format=b"DEFAULT",
        keep_num_dims=False, asymmetric_quantize_inputs=False,
    )  # fmt: skip
