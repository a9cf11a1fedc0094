"""Rounding weights so that the errors of a channel add up to next to nothing.

Rounded each for itself, the weights of a channel are off by a sum that no sample averages out: behind a rectifier,
whose outputs have a mean other than zero, it shifts the channel. Here those weights that lie nearest to the middle
between two numbers go to the other one, until the sum is as small as it gets (the idea of Nagel et al., "Data-Free
Quantization Through Weight Equalization and Bias Correction", 2019, section 4.2, applied to the weights themselves).
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, Any]
_AT_ONCE = 1 << 21  # elements of weights


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
    towards = np.where(rows > near.astype(np.float32), limit, -limit).astype(dtype)
    chosen = _balanced(rows, near, np.nextafter(near, towards), _factors(weights, axis, means), missing)
    return _shaped(chosen, weights.shape, axis)


def round_to_integers(weights: Array, highest: int, axis: int, means: Array | None = None) -> Array:
    """Finite floats as whole numbers, float32, from `-highest` to `highest`; otherwise the same."""
    rows = _rows(weights, axis)
    near = np.clip(np.rint(rows), -highest, highest)
    other = np.clip(near + np.sign(rows - near), -highest, highest)
    return _shaped(_balanced(rows, near, other, _factors(weights, axis, means)), weights.shape, axis)


def _factors(weights: Array, axis: int, means: Array | None) -> Array | None:
    return None if means is None else _rows(np.broadcast_to(means, weights.shape), axis)


def _rows(weights: Array, axis: int) -> Array:
    rows: Array = np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1)
    return rows


def _shaped(rows: Array, shape: tuple[int, ...], axis: int) -> Array:
    first = (shape[axis], *shape[:axis], *shape[axis + 1 :])
    return np.ascontiguousarray(np.moveaxis(rows.reshape(first), 0, axis))


def _balanced(rows: Array, near: Array, other: Array, factors: Array | None, missing: Array | None = None) -> Array:
    chosen = near.copy()
    if not rows.size:
        return chosen
    stride = max(1, _AT_ONCE // rows.shape[1])
    for start in range(0, len(rows), stride):
        part = slice(start, start + stride)
        lacking = 0.0 if missing is None else missing[part, None]
        _balance(rows[part], chosen[part], other[part], 1.0 if factors is None else factors[part], lacking)
    return chosen


def _balance(rows: Array, chosen: Array, other: Array, factors: Any, missing: Any) -> None:
    """Change `chosen` in place: take from `other` what brings the sums of errors closest to zero."""
    errors = rows - chosen.astype(np.float32)
    steps = other.astype(np.float32) - chosen.astype(np.float32)
    doubt = errors / np.where(steps == 0, 1, steps)  # up to a half
    moves = steps * factors
    total = (errors * factors).sum(1, dtype=np.float64)[:, None] + missing
    doubt = np.where((moves != 0) & (np.sign(moves) == np.sign(total)), doubt, -1.0)
    count = min(rows.shape[1], 8 + 4 * int(rows.shape[1] ** 0.5))
    order = np.argpartition(-doubt, count - 1, axis=1)[:, :count]
    order = np.take_along_axis(order, np.argsort(-np.take_along_axis(doubt, order, 1), axis=1, kind="stable"), 1)
    usable = np.take_along_axis(doubt, order, 1) >= 0
    moved = np.cumsum(np.where(usable, np.take_along_axis(moves, order, 1), 0), axis=1, dtype=np.float64)
    left = np.abs(total - np.concatenate([np.zeros_like(total), moved], axis=1))
    taken = (np.arange(count) < left.argmin(1)[:, None]) & usable
    swapped = np.where(taken, np.take_along_axis(other, order, 1), np.take_along_axis(chosen, order, 1))
    np.put_along_axis(chosen, order, swapped, 1)
