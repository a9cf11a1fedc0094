"""Histograms of float32 values by their upper 16 bits: no range is needed beforehand, and they add up exactly.

A bucket is a bfloat16 number: sign, exponent and seven bits of mantissa. It holds the values that agree in these, so
its width is 1/128 of the power of two below it. Buckets of NaN and Inf stay empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
BUCKETS = 1 << 16
_CHUNK = 1 << 19  # elements counted at once, so that the memory for it does not depend on the tensor
_GAP = 4  # empty buckets that are cheaper written as zeros than by starting another run
_EXPONENT = 0x7F80  # all bits of the exponent: NaN and Inf


class Buckets(NamedTuple):
    """The buckets that hold something, in the order of their values: edges (float64, lower <= upper) and counts."""

    lower: Array
    upper: Array
    counts: Array

    @property
    def centers(self) -> Array:
        """The middle of each bucket; that of the bucket of zero is zero."""
        return (self.lower + self.upper) / 2


def add_to_histogram(histogram: Array, values: Array) -> None:
    """Count float32 `values`, any shape, in `histogram` (int64[65536]); NaN and Inf are left out."""
    keys = np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint32)
    for start in range(0, keys.size, _CHUNK):
        np.add.at(histogram, (keys[start : start + _CHUNK] >> np.uint32(16)).astype(np.intp), 1)
    histogram[_EXPONENT : BUCKETS // 2] = 0
    histogram[BUCKETS // 2 + _EXPONENT :] = 0


def buckets_of(histogram: Array, minimum: float, maximum: float) -> Buckets:
    """What `histogram` holds, in order of value, edges clipped to the range that the values really had."""
    positive = np.flatnonzero(histogram[: BUCKETS // 2])
    negative = np.flatnonzero(histogram[BUCKETS // 2 :])[::-1]
    keys = np.concatenate([negative, positive])
    is_negative = np.arange(keys.size) < negative.size
    inner = _magnitude(keys.astype(np.uint32) << np.uint32(16))
    outer = _magnitude((keys.astype(np.uint32) << np.uint32(16)) | np.uint32(0xFFFF))
    outer = np.where(keys == 0, 0.0, outer)  # below the smallest normal number by far: zero itself
    lower, upper = np.where(is_negative, -outer, inner), np.where(is_negative, -inner, outer)
    counts = histogram[np.where(is_negative, keys + BUCKETS // 2, keys)]
    return Buckets(np.clip(lower, minimum, maximum), np.clip(upper, minimum, maximum), counts)


def _magnitude(bits: Array) -> Array:
    return bits.view(np.float32).astype(np.float64)


def encode(histogram: Array) -> list[list[int]]:
    """`histogram` as runs: the first bucket of each, then its counts."""
    keys = np.flatnonzero(histogram)
    if not keys.size:
        return []
    breaks = np.flatnonzero(np.diff(keys) > _GAP) + 1
    starts = keys[np.concatenate([[0], breaks])].tolist()
    ends = keys[np.concatenate([breaks - 1, [keys.size - 1]])].tolist()
    return [[start, *histogram[start : end + 1].tolist()] for start, end in zip(starts, ends, strict=True)]


def decode(runs: Sequence[Sequence[int]]) -> Array:
    """The inverse of `encode`. Raises `ValueError` for runs that lie outside, overlap or count below zero."""
    histogram = np.zeros(BUCKETS, np.int64)
    free = 0
    for run in runs:
        if len(run) < 2:
            raise ValueError("a run has no counts")
        start, end = run[0], run[0] + len(run) - 1
        if start < free or end > BUCKETS:
            raise ValueError(f"the run at bucket {start} overlaps another or ends behind bucket {BUCKETS - 1}")
        if min(run) < 0 or max(run) >= 1 << 62:
            raise ValueError(f"the run at bucket {start} has a count out of range")
        histogram[start:end] = run[1:]
        free = end
    if histogram[_EXPONENT : BUCKETS // 2].any() or histogram[BUCKETS // 2 + _EXPONENT :].any():
        raise ValueError("buckets of NaN or Inf are counted")
    return histogram
