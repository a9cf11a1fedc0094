"""Parts of complex numbers: LiteRT's kernels compute with reals."""

from __future__ import annotations

from graphopt.backends.decompositions import complex_numbers
from graphopt.backends.decompositions.complex_numbers import IMAGINARY, LONGEST, REAL, parts_by_matrix
from graphopt.backends.legalization import Lowering
from graphopt.backends.tflite.rules.audio import SHORTEST, is_power_of_two
from graphopt.backends.tflite.table import FIRST
from graphopt.ir.known import known_array
from graphopt.ir.types import COMPLEX64
from graphopt.ir.value import Node, Value

FIRST.legalize(REAL, IMAGINARY)(complex_numbers.part)
FIRST.legalize("tf.ComplexAbs")(complex_numbers.magnitude)
FIRST.legalize("tf.IRFFT")(complex_numbers.inverse_transform)


@FIRST.legalize("tf.ComplexAbs", "tf.Real", "tf.Imag")
def transform_by_matrix(op: Lowering) -> Value:
    """Parts of a transform whose length is no power of two, which LiteRT's needs, are products with matrices."""
    transform = op.input(0).node
    length = _odd_length(transform)
    if length is None:
        op.refuse("it is no part of a transform of a length that LiteRT has not")
    return parts_by_matrix(op, transform, length)


def _odd_length(node: Node) -> int | None:
    """The length of a transform that the kernel does not take; None for another node."""
    known = known_array(node.input(1)) if node.op == "tf.RFFT" else None
    if known is None or node.output.dtype is not COMPLEX64:
        return None
    length = int(known.reshape(-1)[0])
    return None if (is_power_of_two(length) and length >= SHORTEST) or not 0 < length <= LONGEST else length
