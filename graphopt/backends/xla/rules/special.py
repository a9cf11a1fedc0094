"""Functions that StableHLO has not: composed of those it has, or left to CHLO's expansions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand
from graphopt.backends.xla.table import RULES
from graphopt.ir.types import FLOAT32

# Of CHLO, which expands them to StableHLO where the shape is known.
EXPANDED = {
    "tf.Acos": "acos", "tf.Acosh": "acosh", "tf.Asin": "asin", "tf.Asinh": "asinh", "tf.Atan": "atan",
    "tf.Atanh": "atanh", "tf.Cosh": "cosh", "tf.Sinh": "sinh", "tf.Lgamma": "lgamma", "tf.Digamma": "digamma",
    "tf.Erfinv": "erf_inv", "tf.BesselI1e": "bessel_i1e",
}  # fmt: skip

# A quotient of polynomials in x² for erf(x) / x in float32, within two units in the last place for |x| < 3.83.
ERF_LIMIT = 3.832506856900711
ERF_ABOVE = (
    0.00022905065861350646,
    0.0034082910107109506,
    0.050955695062380861,
    0.18520832239976145,
    1.128379143519084,
)
ERF_BELOW = (
    -1.1791602954361697e-7, 0.000023547966471313185, 0.0010179625278914885, 0.014070470171167667,
    0.11098505178285362, 0.49746925110067538, 1.0,
)  # fmt: skip


@RULES.lower(*EXPANDED)
def expanded(op: Emission) -> Operand:
    """Functions that CHLO expands."""
    x = op.input(0)
    if not x.is_static:
        op.refuse("XLA's expansion of it needs numbers for the shape", "specialise the inputs (--batch, --unknown)")
    kind = op.build.type(x.dtype, x.dims)
    made = getattr(op.build.chlo, EXPANDED.get(op.node.op, "erfc"))
    return op.build.made(made(x.value, results=[kind]), x.dtype, x.dims)


@RULES.lower("tf.Erf")
def erf(op: Emission) -> Operand:
    """The error function: a quotient of polynomials, in float32 and below."""
    b, x = op.build, op.input(0)
    if x.dtype.bits > 32:
        if not x.is_static:
            op.refuse("XLA's expansion of it needs numbers for the shape", "specialise the inputs (--batch, --unknown)")
        return b.made(b.chlo.erf(x.value, results=[b.type(x.dtype, x.dims)]), x.dtype, x.dims)
    wide = b.convert(x, FLOAT32)
    wide = b.min(b.max(wide, -ERF_LIMIT), ERF_LIMIT)
    squared = b.mul(wide, wide)
    made = b.div(b.mul(wide, _polynomial(op, squared, ERF_ABOVE)), _polynomial(op, squared, ERF_BELOW))
    return b.convert(made, x.dtype)


def _polynomial(op: Emission, x: Operand, factors: Sequence[float]) -> Operand:
    total = op.build.like(factors[0], x)
    for factor in factors[1:]:
        total = op.build.add(op.build.mul(total, x), factor)
    return total


@RULES.lower("tf.Erfc")
def erfc(op: Emission) -> Operand:
    """What the error function lacks to one; CHLO's expansion keeps more digits far out, but needs numbers."""
    if op.input(0).is_static:
        return expanded(op)
    made = erf(op)
    return op.build.sub(op.build.like(1, made), made)


@RULES.lower("tf.Gelu")
def gelu(op: Emission) -> Operand:
    """Gaussian error linear units, in the form with a hyperbolic tangent."""
    b, x = op.build, op.input(0)
    cube = b.mul(b.mul(x, x), x)
    inner = b.mul(b.add(x, b.mul(cube, 0.044715)), math.sqrt(2 / math.pi))
    return b.mul(b.mul(x, 0.5), b.add(b.unary("tanh", inner), 1))


@RULES.lower("tf.SigmoidGrad")
def sigmoid_grad(op: Emission) -> Operand:
    """`dy * y * (1 - y)`."""
    b, y = op.build, op.input(0)
    return b.mul(b.mul(op.input(1), y), b.sub(b.like(1, y), y))
