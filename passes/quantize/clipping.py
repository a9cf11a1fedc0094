"""Clipping of weights: the limits with the least squared error, for each channel, block or tensor.

A few weights far out make the step of all others coarse. Clipping them costs the squares of what is cut off, and saves
on rounding, which costs each weight inside step**2 / 12 (Nagel et al., "A White Paper on Neural Network Quantization",
2021, section 3.1). Only the largest weights of a channel can be cut off, so only they are looked at one by one.
"""

from __future__ import annotations

import numpy as np

from graphopt.passes.quantize.parameters import Array, magnitudes, split_blocks
from graphopt.passes.quantize.schemes import Scheme

_SHARE = 32  # one weight in so many may be cut off,
_LEAST = 16  # and this many of a small channel
_AT_ONCE = 1 << 22  # elements of weights


def clipped_magnitudes(weights: Array, scheme: Scheme, *, axis: int | None = None, block_size: int = 0) -> Array:
    """The limit to clip weights (finite floats) at for a symmetric `scheme`, float64, shaped as the scale is.

    What `weight_parameters` takes as `magnitude`; never above the largest absolute value. Raises `UsageError` where the
    blocks do not divide the axis.
    """
    largest = magnitudes(weights, axis=axis, block_size=block_size)
    if not weights.size:
        return largest
    rows = _rows(weights, axis, block_size)
    best = np.empty(rows.shape[0])
    kept = min(rows.shape[1], max(_LEAST, rows.shape[1] // _SHARE))
    stride = max(1, _AT_ONCE // rows.shape[1])
    for start in range(0, rows.shape[0], stride):
        best[start : start + stride] = _best_limits(rows[start : start + stride], kept, scheme.highest - scheme.middle)
    return best.reshape(largest.shape)


def _rows(weights: Array, axis: int | None, block_size: int) -> Array:
    """A matrix with one row for each scale, in the order of the scales."""
    if axis is None:
        return weights.reshape(1, -1)
    if not block_size:
        return np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1)
    blocks, place = split_blocks(weights, axis, block_size)
    return np.moveaxis(blocks, place, -1).reshape(-1, block_size)


def _best_limits(rows: Array, kept: int, steps: int) -> Array:
    """For each row the limit with the least error.

    With the k largest magnitudes x cut off at t, the error is the sum of (x - t)**2 and, for the n - k others,
    (t / steps)**2 / 12: a parabola in t, whose lowest point between the k-th magnitude and the next is known.
    """
    size = rows.shape[1]
    top = np.partition(np.abs(rows), size - kept, axis=1)[:, size - kept :].astype(np.float64)
    top = np.sort(top, axis=1)[:, ::-1]
    count = np.arange(kept)  # 0 to kept - 1 are cut off: the next is among `top`
    sums, squares = (np.cumsum(power, axis=1) - power for power in (top, top * top))
    rounding = (size - count) / (12.0 * steps * steps)
    upper = np.concatenate([top[:, :1], top[:, :-1]], axis=1)
    limits = np.clip(sums / (count + rounding), top, upper)
    errors = squares - 2 * limits * sums + (count + rounding) * limits * limits
    best: Array = limits[np.arange(len(rows)), np.argmin(errors, axis=1)]
    return best
