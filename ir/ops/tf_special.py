"""Operators of TensorFlow that are special functions: error functions, gamma and its relatives, zeta.

All of them compute in double precision and round once. Functions that are rare in models and have no simple
accurate method here (Fresnel, Spence, …) are declared without an evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphopt.ir.ops.inference import InferenceContext, InferenceError, broadcast, same_as
from graphopt.ir.ops.registry import Evaluation, register
from graphopt.ir.ops.tf_elementwise import ELEMENTWISE, Array
from graphopt.ir.types import SCALAR, Shape

EPSILON = 1e-16
MOST_TERMS = 4000  # of a series or continued fraction, after which the evaluation is given up


def in_double(function: Callable[..., Any]) -> Evaluation:
    """An evaluation that computes `function` in double precision and rounds to the first input's type."""

    def evaluate(attrs: Any, *inputs: Array) -> Array:
        with np.errstate(all="ignore"):
            result = function(*(np.asarray(x, np.float64) for x in inputs))
        return np.asarray(result).astype(inputs[0].dtype)

    return evaluate


def each(function: Callable[[float], float]) -> Callable[[Array], Array]:
    """`function` of every element."""
    of_objects = np.frompyfunc(function, 1, 1)

    def compute(x: Array) -> Array:
        return np.asarray(of_objects(x)).astype(np.float64)

    return compute


def _log_gamma(x: float) -> float:
    try:
        return math.lgamma(x)
    except (ValueError, OverflowError):  # a pole, or beyond the largest double
        return math.inf


erf, erfc, log_gamma = each(math.erf), each(math.erfc), each(_log_gamma)


def erfinv(x: Array) -> Array:
    """Inverse of the error function: Winitzki's approximation, refined by Halley's method."""
    size = np.abs(x)
    logarithm = np.log1p(-size * size)
    shift = 2 / (math.pi * 0.147) + logarithm / 2
    y = np.sqrt(np.sqrt(shift * shift - logarithm / 0.147) - shift)
    for _ in range(4):
        step = ((1 - size) - erfc(y)) / (2 / math.sqrt(math.pi) * np.exp(-y * y))
        y = y - np.where(np.isfinite(step), step / (1 + y * step), 0)
    return np.copysign(np.where(size == 1, np.inf, np.where(size < 1, y, np.nan)), x)


def digamma(x: Array) -> Array:
    """Logarithmic derivative of gamma: recurrence up to 10, then the asymptotic series; reflection below 0."""
    pole = (x <= 0) & (x == np.floor(x))
    mirrored = x < 0
    z = np.where(mirrored, 1 - x, np.where(pole, 1.0, x))
    total = np.zeros_like(z)
    for _ in range(10):
        small = z < 10
        total = total - np.where(small, 1 / z, 0)
        z = np.where(small, z + 1, z)
    series = np.zeros_like(z)
    inverse = 1 / (z * z)
    for coefficient in (1 / 12, -691 / 32760, 1 / 132, -1 / 240, 1 / 252, -1 / 120, 1 / 12):
        series = inverse * (coefficient + series)
    total = total + np.log(z) - 0.5 / z - series
    offset = x - np.round(x)
    result = np.where(mirrored, total - math.pi / np.tan(math.pi * offset), total)
    return np.where(pole, np.nan, result)


BERNOULLI_RATIOS = (  # B_2j / (2j)!
    1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600,
    -3617 / 10670622842880000,
)  # fmt: skip


def zeta(x: Array, q: Array) -> Array:
    """Hurwitz's zeta function by Euler and Maclaurin's formula. Raises `ValueError` where `q` is not positive."""
    x, q = np.broadcast_arrays(x, q)
    if np.any((q <= 0) & (x > 1)):
        raise ValueError("zeta is only evaluated for a positive second argument")
    total = np.zeros(x.shape)
    for k in range(12):
        total = total + (q + k) ** -x
    end = q + 12
    total = total + end ** (1 - x) / (x - 1) + 0.5 * end**-x
    factor, power = x, end ** (-x - 1)
    for j, ratio in enumerate(BERNOULLI_RATIOS):
        total = total + ratio * factor * power
        factor, power = factor * (x + 2 * j + 1) * (x + 2 * j + 2), power / (end * end)
    total = np.where(np.isinf(x) | np.isinf(q), np.nan, total)
    return np.where(x == 1, np.inf, np.where(x > 1, total, np.nan))


def polygamma(order: Array, x: Array) -> Array:
    """Derivatives of digamma, by way of zeta."""
    order, x = np.broadcast_arrays(order, x)
    whole = (order == np.floor(order)) & (order >= 0)
    positive = whole & (order > 0)
    n = np.where(positive, order, 1.0)
    derivative = np.where(n % 2 == 0, -1.0, 1.0) * np.exp(log_gamma(n + 1)) * zeta(n + 1, np.where(positive, x, 1.0))
    return np.where(positive, derivative, np.where(whole, digamma(x), np.nan))


def _until_converged(advance: Callable[[int], Array]) -> None:
    """Call `advance(1)`, `advance(2)`, … until all it returns holds. Raises `ValueError` if that takes too long."""
    for count in range(1, MOST_TERMS):
        if np.all(advance(count)):
            return
    raise ValueError("the series does not converge for these arguments")


def _nonzero(x: Array) -> Array:
    return np.where(np.abs(x) < 1e-300, 1e-300, x)


def igamma(a: Array, x: Array) -> Array:
    """Regularised lower incomplete gamma function."""
    return _incomplete_gamma(a, x, upper=False)


def igammac(a: Array, x: Array) -> Array:
    """Regularised upper incomplete gamma function."""
    return _incomplete_gamma(a, x, upper=True)


def _incomplete_gamma(a: Array, x: Array, upper: bool) -> Array:
    a, x = np.broadcast_arrays(a, x)
    inside = (a > 0) & (x > 0) & np.isfinite(a) & np.isfinite(x)
    low = inside & (x < a + 1)
    front = np.exp(np.where(inside, a * np.log(np.where(inside, x, 1)) - x - log_gamma(np.where(inside, a, 1)), 0))
    lower = front * _gamma_series(np.where(low, a, 1.0), np.where(low, x, 1.0))
    high = inside & ~low
    tail = front * _gamma_fraction(np.where(high, a, 1.0), np.where(high, x, 3.0))
    value = np.where(low, 1 - lower if upper else lower, tail if upper else 1 - tail)
    below, above = (1.0, 0.0) if upper else (0.0, 1.0)
    outside = np.where((a <= 0) | (x < 0) | np.isnan(a) | np.isnan(x), np.nan, np.where(x == 0, below, np.nan))
    outside = np.where((x > 0) & np.isposinf(a), np.where(np.isposinf(x), np.nan, below), outside)
    outside = np.where((a > 0) & np.isfinite(a) & np.isposinf(x), above, outside)
    return np.where(inside, value, outside)


def _gamma_series(a: Array, x: Array) -> Array:
    term = total = 1 / a

    def advance(count: int) -> Array:
        nonlocal term, total
        term = term * x / (a + count)
        total = total + term
        return np.asarray(np.abs(term) <= EPSILON * np.abs(total))

    _until_converged(advance)
    return total


def _gamma_fraction(a: Array, x: Array) -> Array:
    base = x + 1 - a
    c, d = np.full(x.shape, 1e300), 1 / _nonzero(base)
    result = d

    def advance(count: int) -> Array:
        nonlocal base, c, d, result
        numerator = -count * (count - a)
        base = base + 2
        d = 1 / _nonzero(numerator * d + base)
        c = _nonzero(base + numerator / c)
        result = result * d * c
        return np.asarray(np.abs(d * c - 1) <= 4 * EPSILON)

    _until_converged(advance)
    return result


def betainc(a: Array, b: Array, x: Array) -> Array:
    """Regularised incomplete beta function: Lentz's continued fraction on the side where it converges fast."""
    a, b, x = np.broadcast_arrays(a, b, x)
    inside = (a > 0) & (b > 0) & (x > 0) & (x < 1) & np.isfinite(a) & np.isfinite(b)
    p, q, z = np.where(inside, a, 1.0), np.where(inside, b, 1.0), np.where(inside, x, 0.5)
    mirrored = z > (p + 1) / (p + q + 2)
    p, q, z = np.where(mirrored, q, p), np.where(mirrored, p, q), np.where(mirrored, 1 - z, z)
    front = np.exp(log_gamma(p + q) - log_gamma(p) - log_gamma(q) + p * np.log(z) + q * np.log1p(-z)) / p
    value = front * _beta_fraction(p, q, z)
    value = np.where(mirrored, 1 - value, value)
    valid = (a > 0) & (b > 0)
    edge = np.where(valid & (x == 0), 0.0, np.where(valid & (x == 1), 1.0, np.nan))
    return np.where(inside, value, edge)


def _beta_fraction(a: Array, b: Array, x: Array) -> Array:
    c, d = np.ones(x.shape), 1 / _nonzero(1 - (a + b) * x / (a + 1))
    result = d

    def advance(m: int) -> Array:
        nonlocal c, d, result
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for numerator in (even, odd):
            d = 1 / _nonzero(1 + numerator * d)
            c = _nonzero(1 + numerator / c)
            result = result * d * c
        return np.asarray(np.abs(d * c - 1) <= 4 * EPSILON)

    _until_converged(advance)
    return result


POINTS = 512  # of an integral over half a circle, whose error falls exponentially with them
LARGEST = {"I": 5e3, "J": 400.0}  # arguments up to which they are enough


def ndtri(x: Array) -> Array:
    """The quantile of the normal distribution."""
    return math.sqrt(2) * erfinv(2 * x - 1)


def bessel_i(order: int, scaled: bool) -> Callable[[Array], Array]:
    """Modified Bessel functions of the first kind, times `exp(-|x|)` if `scaled`, by their integral."""

    def compute(x: Array) -> Array:
        angles = _half_circle(x, "I")
        total = sum(np.exp(x * math.cos(angle) - np.abs(x)) * math.cos(order * angle) for angle in angles)
        return np.asarray(total / POINTS * (1.0 if scaled else np.exp(np.abs(x))))

    return compute


def bessel_j(order: int) -> Callable[[Array], Array]:
    """Bessel functions of the first kind by their integral."""

    def compute(x: Array) -> Array:
        angles = _half_circle(x, "J")
        return np.asarray(sum(np.cos(order * angle - x * math.sin(angle)) for angle in angles) / POINTS)

    return compute


def _half_circle(x: Array, kind: str) -> list[float]:
    if np.any(np.abs(x) > LARGEST[kind]):
        raise ValueError(f"Bessel's functions {kind} are only evaluated for arguments up to {LARGEST[kind]:g}")
    return [math.pi * (place + 0.5) / POINTS for place in range(POINTS)]


def bessel_k(order: int, scaled: bool) -> Callable[[Array], Array]:
    """Modified Bessel functions of the second kind, times `exp(x)` if `scaled`, by their integral."""

    def compute(x: Array) -> Array:
        step, total = 1 / 16, np.full(x.shape, 0.5)
        for place in range(1, 700):
            t = place * step
            total = total + np.exp(-x * (math.cosh(t) - 1) + order * t) * (1 + math.exp(-2 * order * t)) / 2
        total = total * step * (1.0 if scaled else np.exp(-x))
        return np.where(x <= 0, np.inf, total)

    return compute


def _betainc_alike(attrs: Any, a: Array, b: Array, x: Array) -> Array:
    if len({v.shape for v in (a, b, x) if v.ndim}) > 1:
        raise ValueError("arguments that are no scalars must be shaped alike")
    return np.asarray(in_double(betainc)(attrs, a, b, x))


def _alike_or_scalar(context: InferenceContext) -> Sequence[Shape]:
    result = SCALAR
    for shape in context.shapes():
        if shape.rank == 0:
            continue
        both = shape if result.rank == 0 else result.merged(shape)
        if both is None:
            raise InferenceError(f"inputs of shapes {result} and {shape} must be shaped alike, or scalars")
        result = both
    return [result]


UNARY: dict[str, Callable[[Array], Array]] = {
    "Erf": erf,
    "Erfc": erfc,
    "Erfinv": erfinv,
    "Lgamma": log_gamma,
    "Digamma": digamma,
    "Ndtri": ndtri,
    "BesselJ0": bessel_j(0),
    "BesselJ1": bessel_j(1),
}
for _order in (0, 1):
    for _suffix in ("", "e"):
        UNARY[f"BesselI{_order}{_suffix}"] = bessel_i(_order, bool(_suffix))
        UNARY[f"BesselK{_order}{_suffix}"] = bessel_k(_order, bool(_suffix))
BINARY = {"Igamma": igamma, "Igammac": igammac, "Zeta": zeta, "Polygamma": polygamma}
UNEVALUATED = ("BesselY0", "BesselY1", "Dawsn", "Expint", "FresnelCos", "FresnelSin", "Spence")


def _register() -> None:
    for name, unary in UNARY.items():
        register(f"tf.{name}", traits=ELEMENTWISE, shape=same_as(), evaluate=in_double(unary))
    for name, binary in BINARY.items():
        register(f"tf.{name}", traits=ELEMENTWISE, shape=broadcast, evaluate=in_double(binary))
    register("tf.Betainc", traits=ELEMENTWISE, shape=_alike_or_scalar, evaluate=_betainc_alike)
    register((f"tf.{name}" for name in UNEVALUATED), traits=ELEMENTWISE, shape=same_as())
    register(("tf.IgammaGradA", "tf.RandomGammaGrad"), traits=ELEMENTWISE, shape=broadcast)


_register()
