"""The ways to quantize that are tried, and what each consists of."""

from __future__ import annotations

from typing import NamedTuple

from graphopt.passes.quantize.methods import RangeMethod

MINMAX = RangeMethod("minmax")
PERCENTILE = RangeMethod("percentile", percentile=99.999)
MSE = RangeMethod("mse")
STRENGTH = 0.5  # of equalization: the exponent that has proved good
SEVERE = 100.0  # how often errors of clipping count where many errors of rounding average out


class Way(NamedTuple):
    """One way to quantize: the strength of equalization, whether biases are corrected, whether weights are rounded
    adaptively, and the method for ranges."""

    strength: float = 0.0
    corrected: bool = False
    rounded: bool = False
    method: RangeMethod = MINMAX

    def __str__(self) -> str:
        parts = [named(self.method)]
        parts += [f"equalization {self.strength:g}"] * bool(self.strength)
        parts += ["bias correction"] * self.corrected + ["adaptive rounding"] * self.rounded
        return ", ".join(parts)


PLAIN = Way()
FIRST = (Way(corrected=True), Way(STRENGTH, corrected=True))
"""Of these the better one is tried with the ranges of `THEN` with effort `default`."""


def clipping(times: float) -> RangeMethod:
    """Least squared errors, those of clipping counting so many times."""
    return RangeMethod("mse", clipping=times)


THEN = (MSE, clipping(SEVERE))
OTHERS = (MINMAX, PERCENTILE, MSE, clipping(10))
"""Ranges that are tried for one part of a model after another with effort `high`."""


def many() -> list[Way]:
    """What is tried with effort `high`."""
    methods = (MINMAX, PERCENTILE, MSE, clipping(10), clipping(SEVERE))
    tried = [*FIRST, *(way._replace(method=method) for way in FIRST for method in THEN)]
    tried += [Way(method=MSE), Way(0.25, True), Way(STRENGTH), Way(STRENGTH, True, method=clipping(10))]
    return tried + [Way(strength, True, True, method) for strength in (0, STRENGTH) for method in methods]


def named(method: RangeMethod) -> str:
    """A method for people."""
    if method.name == "percentile":
        return f"percentile {method.percentile:g}"
    return f"mse with clipping times {method.clipping:g}" if method.clipping != 1 else method.name
