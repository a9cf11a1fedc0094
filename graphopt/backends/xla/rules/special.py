"""Functions that StableHLO has not: composed of those it has, or left to CHLO's expansions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np

from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import SPECIALISE, Operand
from graphopt.backends.xla.table import RULES
from graphopt.ir.types import FLOAT32

# Of CHLO, which expands them to StableHLO where the shape is known.
EXPANDED = {
    "tf.Acos": "acos", "tf.Acosh": "acosh", "tf.Asin": "asin", "tf.Asinh": "asinh", "tf.Atan": "atan",
    "tf.Atanh": "atanh", "tf.Cosh": "cosh", "tf.Sinh": "sinh", "tf.Lgamma": "lgamma", "tf.Digamma": "digamma",
    "tf.Erfinv": "erf_inv", "tf.BesselI1e": "bessel_i1e",
}  # fmt: skip

TWO_OPERANDS = {"tf.Polygamma": "polygamma", "tf.Zeta": "zeta", "tf.NextAfter": "next_after"}

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
# Polynomials for the inverse error function over its argument, of w = -log(1 - x²): in w - 2.5 below 5, in sqrt(w) - 3
# above (Giles, "Approximating the erfinv function").
INVERSE_NEAR = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503, -0.00417768164,
    0.246640727, 1.50140941,
)  # fmt: skip
INVERSE_FAR = (
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047,
    1.00167406, 2.83297682,
)  # fmt: skip


@RULES.lower(*EXPANDED)
def expanded(op: Emission) -> Operand:
    """Functions that CHLO expands."""
    x = op.input(0)
    if not x.is_static:
        op.refuse("XLA's expansion of it needs numbers for the shape", SPECIALISE)
    kind = op.build.type(x.dtype, x.dims)
    made = getattr(op.build.chlo, EXPANDED.get(op.node.op, "erfc"))
    return op.build.made(made(x.value, results=[kind]), x.dtype, x.dims)


@RULES.lower(*TWO_OPERANDS)
def expanded_pair(op: Emission) -> Operand:
    """Functions of two operands that CHLO expands."""
    b = op.build
    x, y = b.aligned(op.input(0), op.input(1))
    if not x.is_static:
        op.refuse("XLA's expansion of it needs numbers for the shape", SPECIALISE)
    made = getattr(b.chlo, TWO_OPERANDS[op.node.op])
    return b.made(made(x.value, y.value, results=[b.type(x.dtype, x.dims)]), x.dtype, x.dims)


@RULES.lower("tf.Erf")
def erf(op: Emission) -> Operand:
    """The error function: a quotient of polynomials, in float32 and below."""
    b, x = op.build, op.input(0)
    if x.dtype.bits > 32:
        if not x.is_static:
            op.refuse("XLA's expansion of it needs numbers for the shape", SPECIALISE)
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


@RULES.lower("tf.BesselI0e", "tf.BesselI0", "tf.BesselI1")
def bessel(op: Emission) -> Operand:
    """Modified Bessel functions of the first kind: series of Chebyshev's polynomials below eight and above."""
    b, x = op.build, op.input(0)
    size = b.unary("abs", x)
    if op.node.op == "tf.BesselI1":
        scaled = b.made(b.chlo.bessel_i1e(x.value, results=[b.type(x.dtype, x.dims)]), x.dtype, x.dims)
        return b.mul(scaled, b.unary("exponential", size))
    below, above = _bessel_series()
    near = _chebyshev(op, b.sub(b.mul(b.min(size, 8), 0.25), 1), below)
    large = b.max(size, 8)
    far = b.mul(_chebyshev(op, b.sub(b.div(b.like(16, x), large), 1), above), b.unary("rsqrt", large))
    made = b.select(b.compare("LE", size, 8), near, far)
    return made if op.node.op == "tf.BesselI0e" else b.mul(made, b.unary("exponential", size))


@cache
def _bessel_series() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of exp(-x) I0(x) for x up to 8, and of it times the root of x beyond."""
    points = np.cos(np.pi * (np.arange(400) + 0.5) / 400)
    x = 4 * (points + 1)
    below = np.polynomial.chebyshev.chebfit(points, np.i0(x) * np.exp(-x), 29)
    points = points[16 / (points + 1) < 700]
    x = 16 / (points + 1)
    points, values = np.append(points, -1.0), np.append(np.i0(x) * np.exp(-x) * np.sqrt(x), 1 / math.sqrt(2 * math.pi))
    above = np.polynomial.chebyshev.chebfit(points, values, 22)
    return tuple(map(float, below)), tuple(map(float, above))


def _chebyshev(op: Emission, x: Operand, factors: Sequence[float]) -> Operand:
    """A series of Chebyshev's polynomials, by Clenshaw's rule."""
    b, twice = op.build, op.build.mul(x, 2)
    last = older = b.like(0, x)
    for factor in reversed(factors[1:]):
        last, older = b.add(b.sub(b.mul(twice, last), older), factor), last
    return b.add(b.sub(b.mul(x, last), older), factors[0])


@RULES.lower("tf.Ndtri")
def normal_quantile(op: Emission) -> Operand:
    """Where a normal distribution has that much below it: by the inverse error function, its tails by themselves."""
    b, p = op.build, op.input(0)
    spread = b.unary("negate", b.unary("log", b.mul(b.mul(b.sub(b.like(1, p), p), p), 4)))
    near = _polynomial(op, b.sub(spread, 2.5), INVERSE_NEAR)
    far = _polynomial(op, b.sub(b.unary("sqrt", b.max(spread, 0)), 3), INVERSE_FAR)
    made = b.mul(b.mul(b.sub(b.mul(p, 2), 1), b.select(b.compare("LT", spread, 5), near, far)), math.sqrt(2))
    made = b.select(b.compare("EQ", p, 0), b.like(-math.inf, p), made)
    return b.select(b.compare("EQ", p, 1), b.like(math.inf, p), made)
