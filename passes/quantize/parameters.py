"""Scale and zero point from ranges and weights, as LiteRT's kernels want them: real = scale * (integer - zero_point).

Zero is always exact: ranges are widened to hold it and the zero point is an integer. A range without extent, such as
that of a tensor or channel that is zero throughout, gets a scale that is finite and positive all the same.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from graphopt.ir.errors import UsageError
from graphopt.ir.types import INT64, DType, Quantization
from graphopt.passes.quantize.schemes import INT32_BIAS, INT64_BIAS, Scheme

Array = np.ndarray[Any, Any]
_SMALLEST = float(np.finfo(np.float32).tiny)  # scales below would be denormal, or zero
_LARGEST = float(np.finfo(np.float32).max)
_BIAS_LIMIT = (1 << 31) - 1
_BIAS_HEADROOM = 0.5  # of int32's range for a bias: the products are added to it in the same 32 bits


class Parameters(NamedTuple):
    """Scale (float32) and zero point (int64) of a tensor quantized by `scheme`.

    Per tensor both have shape [1] and `axis` is None; per channel one element for each index along `axis`; by blocks
    (`block_size` > 0) the tensor's own shape, with one element for each block of `block_size` elements along `axis`.
    """

    scheme: Scheme
    scale: Array
    zero_point: Array
    axis: int | None = None
    block_size: int = 0

    @property
    def dtype(self) -> DType:
        """The integer type."""
        return self.scheme.dtype

    @property
    def quantization(self) -> Quantization:
        """As types of values hold it. Blocks have no such form: their scales are a constant of their own."""
        if self.block_size:
            raise UsageError("a quantization by blocks does not fit into a tensor's type")
        return Quantization(tuple(self.scale.tolist()), tuple(self.zero_point.tolist()), self.axis)

    @property
    def minimum(self) -> Array:
        """The smallest real number of each scale."""
        return self.scale * (self.scheme.lowest - self.zero_point).astype(np.float32)

    @property
    def maximum(self) -> Array:
        """The largest real number of each scale."""
        return self.scale * (self.scheme.highest - self.zero_point).astype(np.float32)


def activation_parameters(minimum: float, maximum: float, scheme: Scheme) -> Parameters:
    """Parameters, per tensor, of a tensor whose range is [minimum, maximum]. Raises `UsageError` unless it is one."""
    if not (np.isfinite(minimum) and np.isfinite(maximum) and minimum <= maximum):
        raise UsageError(f"there is no range from {minimum} to {maximum}")
    low, high = min(float(minimum), 0.0), max(float(maximum), 0.0)
    if scheme.symmetric:
        return _symmetric(np.array([max(-low, high)]), scheme, None, 0)
    scale = (high - low) / (scheme.highest - scheme.lowest)
    if scale < _SMALLEST:
        return _made(scheme, np.ones(1), np.array([min(max(0, scheme.lowest), scheme.highest)]))
    return _made(scheme, np.array([scale]), np.array([_nudged_zero_point(low, high, scale, scheme)]))


def fixed_parameters(scale: float, zero_point: int, scheme: Scheme) -> Parameters:
    """Parameters, per tensor, that an operator prescribes, as softmax its output's 1/256 and -128."""
    return _made(scheme, np.array([scale]), np.array([zero_point]))


def weight_parameters(
    weights: Array,
    scheme: Scheme,
    *,
    axis: int | None = None,
    block_size: int = 0,
    magnitude: Array | None = None,
) -> Parameters:
    """Parameters of weights (finite floats), per tensor, per channel of `axis`, or by blocks along it.

    `magnitude` takes the place of the largest absolute values, shaped as the scale, where a search found better ones.
    Raises `UsageError` for weights with NaN or Inf, and for a `block_size` that does not divide the axis.
    """
    if not scheme.symmetric:
        if axis is not None or block_size:
            raise UsageError("asymmetric weights have one scale for all of the tensor")
        return activation_parameters(*_extent(weights), scheme)
    largest = magnitudes(weights, axis=axis, block_size=block_size) if magnitude is None else magnitude
    if not np.isfinite(largest).all():
        raise UsageError("weights with NaN or Inf cannot be quantized")
    return _symmetric(np.asarray(largest, np.float64), scheme, axis, block_size)


def magnitudes(weights: Array, *, axis: int | None = None, block_size: int = 0) -> Array:
    """The largest absolute value of all weights, each channel or each block, float64, shaped as the scale is."""
    if not weights.size:
        return np.zeros(1 if axis is None else weights.shape[axis])
    if axis is None:
        low, high = _extent(weights)
        return np.array([max(-low, high)], np.float64)
    if block_size:
        blocks, place = split_blocks(weights, axis, block_size)
        return _largest(blocks, (place,))
    return _largest(weights, tuple(place for place in range(weights.ndim) if place != axis % weights.ndim))


def split_blocks(array: Array, axis: int, block_size: int) -> tuple[Array, int]:
    """`array` with `axis` split into blocks and places within, and the position of the latter.

    Raises `UsageError` where the blocks do not divide the axis.
    """
    axis %= array.ndim
    size = array.shape[axis]
    if block_size < 1 or size % block_size:
        raise UsageError(f"an axis of {size} elements cannot be split into blocks of {block_size}")
    split = array.reshape(*array.shape[:axis], size // block_size, block_size, *array.shape[axis + 1 :])
    return split, axis + 1


def bias_parameters(inputs: Parameters, weights: Parameters, dtype: DType) -> Parameters:
    """Parameters of a bias, int32 or (with int16 inputs) int64: the product of both scales, zero point 0."""
    scale = inputs.scale.astype(np.float64)[0] * weights.scale.astype(np.float64)
    axis = None if weights.axis is None else 0
    scheme = INT64_BIAS if dtype is INT64 else INT32_BIAS
    return _made(scheme, np.maximum(scale, _SMALLEST), np.zeros(scale.shape), axis)


def fit_bias(weights: Parameters, inputs: Parameters, bias: Array) -> Parameters:
    """`weights` with scales raised where the bias would overflow int32 with the product of scales.

    That happens to a channel with tiny weights beside a large bias; int64 biases need nothing.
    """
    largest = np.abs(np.asarray(bias, np.float64)).reshape(-1)
    if weights.axis is None:
        largest = largest.max(initial=0.0, keepdims=True)
    needed = (largest / (_BIAS_LIMIT * _BIAS_HEADROOM) / float(inputs.scale[0])).astype(np.float32)
    if not (needed > weights.scale).any():
        return weights
    return weights._replace(scale=np.maximum(weights.scale, needed))


def _symmetric(magnitude: Array, scheme: Scheme, axis: int | None, block_size: int) -> Parameters:
    """A channel that is zero throughout takes the smallest scale of the others, which suits its bias."""
    scale = magnitude / (scheme.highest - scheme.middle)
    is_usable = scale >= _SMALLEST
    stand_in = scale[is_usable].min() if is_usable.any() else 1.0
    return _made(scheme, np.where(is_usable, scale, stand_in), np.full(scale.shape, scheme.middle), axis, block_size)


def _made(scheme: Scheme, scale: Array, zero_point: Array, axis: int | None = None, block_size: int = 0) -> Parameters:
    narrowed = np.minimum(scale, _LARGEST).astype(np.float32)
    return Parameters(scheme, narrowed, zero_point.astype(np.int64), axis, block_size)


def _nudged_zero_point(low: float, high: float, scale: float, scheme: Scheme) -> int:
    """The integer for zero: found from the end with the smaller rounding error, then rounded."""
    from_low, from_high = scheme.lowest - low / scale, scheme.highest - high / scale
    error_low = abs(scheme.lowest) + abs(low / scale)
    error_high = abs(scheme.highest) + abs(high / scale)
    exact = from_low if error_low < error_high else from_high
    rounded = int(np.floor(exact + 0.5)) if exact >= 0 else int(np.ceil(exact - 0.5))
    return min(max(rounded, scheme.lowest), scheme.highest)


def _largest(weights: Array, axes: tuple[int, ...]) -> Array:
    found: Array = np.maximum(-weights.min(axes), weights.max(axes))
    return found.astype(np.float64)


def _extent(weights: Array) -> tuple[float, float]:
    if not weights.size:
        return 0.0, 0.0
    low, high = float(weights.min()), float(weights.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UsageError("weights with NaN or Inf cannot be quantized")
    return low, high
