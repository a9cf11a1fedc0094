"""The range whose quantized distribution diverges least from the real one.

Magnitudes are counted in 2,048 equal bins up to the largest, exact zeros left out: they are exact in any range. For
each end, the reference is the distribution up to it with what lies beyond added to the last bin; the candidate spreads
what each integer stands for evenly over the bins it stands for that are not empty. The end with the least divergence
wins, the widest of several. Both ends of a range are clipped at one magnitude.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.passes.quantize.histogram import Buckets

Array = np.ndarray[Any, Any]
BINS = 2048
_STRIDE = 16  # bins from one candidate to the next
_SMOOTH = 1e-4  # of an element, where the candidate has nothing: the last bin may hold only what was clipped


def least_divergence(buckets: Buckets, bits: int, symmetric: bool) -> tuple[float, float]:
    """Smallest and largest number of the best range for integers of `bits` bits, within the buckets' own."""
    low, high = float(buckets.lower[0]), float(buckets.upper[-1])
    is_one_sided = not symmetric and (low >= 0 or high <= 0)
    levels = (1 << bits) - 1 if is_one_sided else (1 << (bits - 1)) - 1
    limit = max(-low, high)
    if levels >= BINS or limit <= 0:
        return low, high
    bins = _bins(buckets, limit)
    ends = range(BINS, levels - 1, -_STRIDE)
    if not bins.any():
        return low, high
    divergences = [_divergence(bins, end, levels) for end in ends if bins[:end].any()]
    end = ends[int(np.argmin(divergences))] * limit / BINS
    return max(low, -end), min(high, end)


def _bins(buckets: Buckets, limit: float) -> Array:
    """How many magnitudes fall into each bin, a bucket's elements being spread evenly over it."""
    edges = np.linspace(0, limit, BINS + 1)
    bins = np.zeros(BINS)
    is_negative = buckets.upper <= 0
    for side, sign in ((is_negative, -1), (~is_negative, 1)):
        if not side.any():
            continue
        lower, upper, counts = buckets.lower[side] * sign, buckets.upper[side] * sign, buckets.counts[side]
        lower, upper = np.minimum(lower, upper), np.maximum(lower, upper)
        counts = np.where((lower == 0) & (upper == 0), 0, counts)
        order = slice(None, None, sign)
        lower, upper, totals = lower[order], upper[order], np.cumsum(counts[order])
        points = np.stack([lower, upper], 1).reshape(-1)
        masses = np.stack([np.concatenate([[0], totals[:-1]]), totals], 1).reshape(-1)
        below = np.interp(edges, points, masses, left=0.0)
        below[-1] = totals[-1]
        bins += np.diff(below)
    return bins


def _divergence(bins: Array, end: int, levels: int) -> float:
    """Kullback and Leibler's divergence of the quantized distribution from the clipped one."""
    inside = bins[:end]
    reference = inside.copy()
    reference[-1] += bins[end:].sum()
    is_used = reference > 0
    level = np.arange(end) * levels // end
    masses = np.bincount(level, inside, levels)
    used = np.bincount(level, is_used, levels)
    candidate = np.maximum((masses / np.maximum(used, 1))[level], _SMOOTH)[is_used]
    p, q = reference[is_used] / reference.sum(), candidate / candidate.sum()
    return float(np.dot(p, np.log(p / q)))
