"""Rounding weights so that the errors of a channel add up to next to nothing.

Rounded each for itself, the weights of a channel are off by a sum that no sample averages out: behind a rectifier,
whose outputs have a mean other than zero, it shifts the channel. Here those weights that lie nearest to the middle
between two numbers go to the other one, until the sum is as small as it gets (the idea of Nagel et al., "Data-Free
Quantization Through Weight Equalization and Bias Correction", 2019, section 4.2, applied to the weights themselves).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, Any]
Other = Callable[[Array, Array], Array]
"""The number on the other side of each of some weights, for the nearest ones."""
_AT_ONCE = 1 << 20  # elements of weights
_SPREAD = 16  # times the root of their number: how many weights of a channel may move


def round_to_floats(
    weights: Array, dtype: np.dtype[Any], axis: int, means: Array | None = None, missing: Array | None = None
) -> Array:
    """Finite floats as floats of a narrower type, clipped to what it holds; channels lie along `axis`.

    `means`, which broadcast to the weights, are what each is multiplied by on the average, where that is known;
    `missing` is what else the mean of each channel lacks, and is made up for.
    """
    limit = float(ml_dtypes.finfo(dtype).max)
    rows = np.clip(_rows(weights, axis), -limit, limit)
    near = rows.astype(dtype)

    def other(part: Array, chosen: Array) -> Array:
        up: Array = np.nextafter(chosen, np.where(part > chosen.astype(np.float32), limit, -limit).astype(dtype))
        return up

    return _shaped(_balanced(rows, near, other, _factors(weights, axis, means), missing), weights.shape, axis)


def round_to_integers(weights: Array, highest: int, axis: int, means: Array | None = None) -> Array:
    """Finite floats as whole numbers, float32, from `-highest` to `highest`; otherwise the same."""
    rows = _rows(weights, axis)
    near = np.clip(np.rint(rows), -highest, highest)

    def other(part: Array, chosen: Array) -> Array:
        up: Array = np.clip(chosen + np.sign(part - chosen), -highest, highest)
        return up

    return _shaped(_balanced(rows, near, other, _factors(weights, axis, means)), weights.shape, axis)


def _factors(weights: Array, axis: int, means: Array | None) -> Array | None:
    return None if means is None else _rows(np.broadcast_to(means, weights.shape), axis)


def _rows(weights: Array, axis: int) -> Array:
    others = [size for place, size in enumerate(weights.shape) if place != axis]
    rows: Array = np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], math.prod(others))
    return rows


def _shaped(rows: Array, shape: tuple[int, ...], axis: int) -> Array:
    first = (shape[axis], *shape[:axis], *shape[axis + 1 :])
    return np.ascontiguousarray(np.moveaxis(rows.reshape(first), 0, axis))


def _balanced(rows: Array, chosen: Array, other: Other, factors: Array | None, missing: Array | None = None) -> Array:
    if not rows.size:
        return chosen
    stride = max(1, _AT_ONCE // rows.shape[1])
    for start in range(0, len(rows), stride):
        part = slice(start, start + stride)
        errors = rows[part] - chosen[part].astype(np.float32)
        weighted = errors if factors is None else errors * factors[part]
        total = weighted.sum(1, dtype=np.float64) + (0.0 if missing is None else missing[part])
        # As many weights as are needed lie among a few, which are spread over all.
        few = slice(None, None, max(1, int(rows.shape[1] ** 0.5 / _SPREAD)))
        chosen[part, few] = _moved(
            rows[part, few], chosen[part, few], other, 1.0 if factors is None else factors[part, few], total[:, None]
        )
    return chosen


def _moved(rows: Array, chosen: Array, other: Other, factors: Any, total: Array) -> Array:
    """The same numbers, some of them moved to the other one, so that what is left of `total` is closest to zero."""
    moved_to = other(rows, chosen)
    now = chosen.astype(np.float32)
    steps = moved_to.astype(np.float32) - now
    doubt = (rows - now) / np.where(steps == 0, 1, steps)  # up to a half
    moves = steps * factors
    doubt = np.where((moves != 0) & (np.sign(moves) == np.sign(total)), doubt, -1.0)
    order = np.argsort(-doubt, axis=1, kind="stable")
    usable = np.take_along_axis(doubt, order, 1) >= 0
    reached = np.cumsum(np.where(usable, np.take_along_axis(moves, order, 1), 0), axis=1, dtype=np.float64)
    left = np.abs(total - np.concatenate([np.zeros_like(total), reached], axis=1))
    taken = (np.arange(rows.shape[1]) < left.argmin(1)[:, None]) & usable
    is_taken = np.zeros(rows.shape, np.bool_)
    np.put_along_axis(is_taken, order, taken, 1)
    return np.where(is_taken, moved_to, chosen)
