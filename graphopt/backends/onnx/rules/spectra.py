"""Parts of complex numbers, and transforms as products with matrices: ONNX's kernels compute with reals."""

from __future__ import annotations

from graphopt.backends.decompositions import complex_numbers
from graphopt.backends.legalization import Lowering, RuleTable
from graphopt.ir.known import known_array
from graphopt.ir.types import COMPLEX64
from graphopt.ir.value import Value

FIRST = RuleTable("onnx")  # rules that are done with before all others begin
COMPLEX = frozenset({"tf.Real", "tf.Imag", "tf.ComplexAbs", "tf.Angle", "tf.IRFFT", "tf.IRFFT2D"})
PARTS = ("tf.Real", "tf.Imag")

FIRST.legalize(*PARTS)(complex_numbers.part)
FIRST.legalize("tf.ComplexAbs")(complex_numbers.magnitude)
FIRST.legalize("tf.IRFFT")(complex_numbers.inverse_transform)


@FIRST.legalize(*PARTS, "tf.ComplexAbs")
def transform(op: Lowering) -> Value:
    """Parts of a transform of real numbers: products with matrices."""
    node = op.input(0).node
    known = known_array(node.input(1)) if node.op == "tf.RFFT" else None
    length = 0 if known is None else int(known.reshape(-1)[0])
    if node.output.dtype is not COMPLEX64 or not 0 < length <= complex_numbers.LONGEST:
        op.refuse(f"it is a part of what {node.op_type} computes")
    return complex_numbers.parts_by_matrix(op, node, length)


@FIRST.legalize("tf.RFFT2D")
def transform_in_two_dimensions(op: Lowering) -> Value:
    """A transform along the last axis, then one along the axis before it."""
    lengths = op.constant_input(1, "the lengths").reshape(-1)
    value, rank = op.input(0), op.rank(op.input(0))
    if value.shape[rank - 2] != int(lengths[0]):
        op.refuse("it cuts rows off, or adds some")
    along = op.step("RFFT", value, op.integers(lengths[1:], name=f"{op.node.name}/length"))
    order = op.integers([*range(rank - 2), rank - 1, rank - 2], name=f"{op.node.name}/order")
    return op.step("Transpose", op.step("FFT", op.step("Transpose", along, order)), order)


@FIRST.legalize("tf.Angle")
def angle(op: Lowering) -> Value:
    """The angle of a complex number follows from its parts."""
    return op.step("Atan2", op.step("Imag", op.input(0)), op.step("Real", op.input(0)))
