"""The range with the least squared error of quantization.

The error of a range has two parts. Elements outside are clipped: each adds the square of its distance to the end.
Elements inside are rounded: near zero, where buckets are far finer than the integers' step, each adds the square of its
distance to the nearest multiple of the step; further out, elements lie anywhere between two multiples and add
step**2 / 12.
Zero is always exact. Real activations have most of their elements near zero and a few far out, so giving up the few for
a finer step often wins. It does not always: errors of rounding are independent and average out, those of clipping all
have one sign and do not. So they can be made to count more.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.passes.quantize.histogram import Buckets

Array = np.ndarray[Any, Any]
_SHRINKAGE = 0.88 ** np.arange(24)  # of an end, in the first search: down to 5 % of it
_FINE = np.linspace(-0.1, 0.1, 11)  # around the best of them, in the second
_NEAR = 8  # steps from zero, where a bucket is at most a sixteenth of a step wide
_ROUNDS = 4  # of searching one end with the other held; two settle nearly always


def least_squares(buckets: Buckets, bits: int, symmetric: bool, clipping: float = 1.0) -> tuple[float, float]:
    """Smallest and largest number of the best range for integers of `bits` bits, within the buckets' own.

    Squared errors of clipping count `clipping` times.
    """
    low, high = float(buckets.lower[0]), float(buckets.upper[-1])
    error = _Error(buckets, bits, symmetric, clipping)
    if symmetric:
        magnitude = _best(lambda ends: error(-ends, ends), max(-low, high))
        return max(low, -magnitude), min(high, magnitude)
    best_low, best_high = min(low, 0.0), max(high, 0.0)
    for _ in range(_ROUNDS):
        before = best_low, best_high
        if high > 0:
            best_high = _best(lambda ends: error(np.full_like(ends, best_low), ends), max(high, 0.0))  # noqa: B023
        if low < 0:
            best_low = _best(lambda ends: error(ends, np.full_like(ends, best_high)), min(low, 0.0))  # noqa: B023
        if (best_low, best_high) == before or low >= 0 or high <= 0:
            break
    return max(low, best_low), min(high, best_high)


def _best(error: Any, end: float) -> float:
    """The candidate for an end with the least error; the widest of several."""
    coarse = end * _SHRINKAGE
    best = coarse[int(np.argmin(error(coarse)))]
    fine = best * (1 + _FINE)
    fine = np.append(fine[np.abs(fine) <= abs(end)], best)
    errors = error(fine)
    return float(max(fine[errors == errors.min()], key=abs))


class _Error:
    """The squared error of ranges, summed over all elements, from prefix sums: cheap for many ranges at once."""

    def __init__(self, buckets: Buckets, bits: int, symmetric: bool, clipping: float):
        self._clipping = clipping
        self.centers, self.counts = buckets.centers, buckets.counts.astype(np.float64)
        self.counts[self.centers == 0] = 0
        self.steps = (1 << bits) - (2 if symmetric else 1)
        moments = (self.counts, self.counts * self.centers, self.counts * self.centers**2)
        self.sums = [np.concatenate([[0.0], np.cumsum(moment)]) for moment in moments]

    def __call__(self, lows: Array, highs: Array) -> Array:
        """The error of each range; infinite for one without extent."""
        first = np.searchsorted(self.centers, lows, side="left")
        last = np.searchsorted(self.centers, highs, side="right")
        clipped = self._moment(0, first, lows) + self._moment(last, self.centers.size, highs)
        steps = (highs - lows) / self.steps
        errors: Array = np.where(steps > 0, clipped * self._clipping + self._rounding(steps, first, last), np.inf)
        return errors

    def _moment(self, start: Any, end: Any, around: Array) -> Array:
        """Squared distances of the elements of buckets `start` to `end` from `around`."""
        zeroth, first, second = (prefix[end] - prefix[start] for prefix in self.sums)
        distances: Array = np.maximum(second - 2 * around * first + around**2 * zeroth, 0)
        return distances

    def _rounding(self, steps: Array, first: Array, last: Array) -> Array:
        """Of buckets `first` to `last`: what rounds to zero adds its square."""
        start = np.clip(np.searchsorted(self.centers, -steps / 2), first, last)
        end = np.clip(np.searchsorted(self.centers, steps / 2), start, last)
        counts, _, squares = self.sums
        others = (counts[last] - counts[first]) - (counts[end] - counts[start])
        errors: Array = squares[end] - squares[start] + others * steps * steps / 12
        return errors
