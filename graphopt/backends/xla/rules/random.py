"""Random numbers, of XLA's own generator: the distributions are TensorFlow's, the numbers are not."""

from __future__ import annotations

from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand
from graphopt.backends.xla.table import RULES
from graphopt.ir.types import FLOAT32, INT64

DISTRIBUTIONS = {"tf.RandomUniform": "UNIFORM", "tf.RandomStandardNormal": "NORMAL"}


@RULES.lower(*DISTRIBUTIONS)
def random(op: Emission) -> Operand:
    """Numbers between zero and one, or normal ones."""
    b = op.build
    dims = op.static()
    zero, one = b.full(0, FLOAT32), b.full(1, FLOAT32)
    distribution = b.hlo.RngDistributionAttr.get(DISTRIBUTIONS[op.node.op])
    value = b.hlo.rng(zero.value, one.value, b.constant(list(dims), INT64).value, distribution)
    return b.convert(b.made(value, FLOAT32, dims), op.dtype)
