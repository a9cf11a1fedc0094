"""Incomplete gamma and beta functions: series and continued fractions, in float64, of a fixed number of terms."""

from __future__ import annotations

import math

from graphopt.backends.xla.builder import Builder
from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import SPECIALISE, Operand
from graphopt.backends.xla.table import RULES
from graphopt.ir.types import FLOAT64

TERMS = 500  # more than float64 needs while the first operand is below some ten thousands
LARGE, TINY = 2.0**52, 1e-300


def _wide(op: Emission) -> list[Operand]:
    """The operands, broadcast, in float64."""
    operands = op.build.aligned(*op.inputs)
    if not operands[0].is_static:
        op.refuse("XLA's expansion of it needs numbers for the shape", SPECIALISE)
    return [op.build.convert(operand, FLOAT64) for operand in operands]


def _log_gamma(b: Builder, x: Operand) -> Operand:
    return b.made(b.chlo.lgamma(x.value, results=[b.type(x.dtype, x.dims)]), x.dtype, x.dims)


@RULES.lower("tf.Igamma", "tf.Igammac")
def incomplete_gamma(op: Emission) -> Operand:
    """The part of the gamma function's integral up to a number, or beyond it."""
    b = op.build
    a, x = _wide(op)
    is_zero = b.compare("LE", x, 0)
    safe = b.select(is_zero, b.like(1, x), x)
    share = b.unary("exponential", b.sub(b.sub(b.mul(a, b.unary("log", safe)), safe), _log_gamma(b, a)))
    is_low = b.compare("LE", safe, b.max(a, 1))
    low = _series(b, a, b.select(is_low, safe, b.like(0.5, x)), share)
    high = _fraction(b, a, b.select(is_low, b.add(b.max(a, 1), 1), safe), share)
    lower = b.select(is_low, low, b.sub(b.like(1, high), high))
    lower = b.select(is_zero, b.like(0, lower), lower)
    wrong = b.binary("or_", b.compare("LT", x, 0), b.compare("LE", a, 0))
    made = lower
    if op.node.op == "tf.Igammac":
        upper = b.select(is_low, b.sub(b.like(1, low), low), high)
        made = b.select(is_zero, b.like(1, upper), upper)
    return b.convert(b.select(wrong, b.like(math.nan, made), made), op.dtype)


def _series(b: Builder, a: Operand, x: Operand, share: Operand) -> Operand:
    """The integral up to `x`, where that is no larger than `a`."""

    def term(number: Operand, state: list[Operand]) -> list[Operand]:
        total, last, place = state
        place = b.add(place, 1)
        last = b.mul(last, b.div(x, place))
        return [b.add(total, last), last, place]

    ones = b.like(1, x)
    total, _, _ = b.repeat(TERMS, [ones, ones, a], term)
    return b.div(b.mul(total, share), a)


def _fraction(b: Builder, a: Operand, x: Operand, share: Operand) -> Operand:
    """The integral beyond `x`, where that is larger than `a`; numerators and denominators are kept from overflowing."""

    def term(number: Operand, state: list[Operand]) -> list[Operand]:
        y, z, above, below, older_above, older_below, _ = state
        count = b.add(b.convert(number, FLOAT64), 1)
        y, z = b.add(y, 1), b.add(z, 2)
        factor = b.mul(y, count)
        next_above = b.sub(b.mul(above, z), b.mul(older_above, factor))
        next_below = b.sub(b.mul(below, z), b.mul(older_below, factor))
        made = b.div(next_above, next_below)
        shrink = b.select(b.compare("GT", b.unary("abs", next_above), LARGE), b.like(1 / LARGE, x), b.like(1, x))
        kept = [b.mul(part, shrink) for part in (next_above, next_below, above, below)]
        return [y, z, *kept, made]

    y = b.sub(b.like(1, a), a)
    z = b.add(b.add(x, y), 1)
    above, below = b.add(x, 1), b.mul(z, x)
    start = [y, z, above, below, b.like(1, x), x, b.div(above, below)]
    return b.mul(b.repeat(TERMS, start, term)[-1], share)


@RULES.lower("tf.Betainc")
def incomplete_beta(op: Emission) -> Operand:
    """The part of the beta function's integral up to a number: Lentz's continued fraction, from the nearer end."""
    b = op.build
    p, q, x = _wide(op)
    turned = b.compare("GT", x, b.div(b.add(p, 1), b.add(b.add(p, q), 2)))
    rest = b.sub(b.like(1, x), x)
    first, second, at = b.select(turned, q, p), b.select(turned, p, q), b.select(turned, rest, x)
    is_end = b.compare("LE", at, 0)
    at = b.select(is_end, b.like(0.5, at), at)
    beside = b.sub(b.like(1, at), at)
    logs = b.add(b.mul(first, b.unary("log", at)), b.mul(second, b.unary("log", beside)))
    norm = b.sub(b.add(_log_gamma(b, first), _log_gamma(b, second)), _log_gamma(b, b.add(first, second)))
    part = b.div(b.mul(b.unary("exponential", b.sub(logs, norm)), _lentz(b, first, second, at)), first)
    part = b.select(is_end, b.like(0, part), part)
    return b.convert(b.select(turned, b.sub(b.like(1, part), part), part), op.dtype)


def _lentz(b: Builder, p: Operand, q: Operand, x: Operand) -> Operand:
    def nonzero(value: Operand) -> Operand:
        return b.select(b.compare("LT", b.unary("abs", value), TINY), b.like(TINY, value), value)

    def advance(factor: Operand, c: Operand, d: Operand, made: Operand) -> tuple[Operand, Operand, Operand]:
        d = b.div(b.like(1, d), nonzero(b.add(b.mul(factor, d), 1)))
        c = nonzero(b.add(b.div(factor, c), 1))
        return c, d, b.mul(made, b.mul(c, d))

    def term(number: Operand, state: list[Operand]) -> list[Operand]:
        m = b.add(b.convert(number, FLOAT64), 1)
        ahead = b.add(p, b.mul(m, 2))
        even = b.div(b.mul(b.mul(b.sub(q, m), m), x), b.mul(b.sub(ahead, 1), ahead))
        odd = b.div(b.mul(b.mul(b.add(p, m), b.add(b.add(p, q), m)), x), b.mul(ahead, b.add(ahead, 1)))
        return list(advance(b.unary("negate", odd), *advance(even, *state)))

    ones = b.like(1, x)
    start = b.div(ones, nonzero(b.sub(ones, b.div(b.mul(b.add(p, q), x), b.add(p, 1)))))
    return b.repeat(TERMS, [ones, start, start], term)[-1]
