"""Quantizing and dequantizing arrays as LiteRT's reference kernels do: round half away from zero, then clamp.

LiteRT's kernels for x86 multiply by the scale's inverse and round halves to even, so there an integer may differ by one
where a value lies halfway between two.
"""

from __future__ import annotations

import numpy as np

from graphopt.ir.errors import UsageError
from graphopt.ir.types import INT32, INT64
from graphopt.passes.quantize.parameters import Array, Parameters, bias_parameters, split_blocks

_BELOW_HALF = np.nextafter(np.float32(0.5), np.float32(0))


def quantize(array: Array, parameters: Parameters) -> Array:
    """`array` (floats) as integers of the parameters' type and of the same shape. NaN becomes the zero point."""
    values = np.asarray(array, np.float32)
    scale, zero_point = _aligned(values.shape, parameters)
    scheme = parameters.scheme
    with np.errstate(over="ignore"):
        scaled = np.asarray(_blocked(values, parameters) / scale)
    scaled += np.copysign(_BELOW_HALF, scaled)
    np.trunc(scaled, out=scaled)
    scaled += zero_point.astype(np.float32)
    np.clip(scaled, scheme.lowest, scheme.highest, out=scaled)
    if np.isnan(scaled).any():
        np.copyto(scaled, np.broadcast_to(zero_point, scaled.shape), where=np.isnan(scaled), casting="unsafe")
    assert scheme.dtype.numpy is not None
    codes: Array = scaled.astype(np.int8 if scheme.dtype.bits < 8 else scheme.dtype.numpy)
    return codes.astype(scheme.dtype.numpy, copy=False).reshape(values.shape)


def dequantize(codes: Array, parameters: Parameters) -> Array:
    """The real numbers, float32, that integers stand for."""
    scale, zero_point = _aligned(codes.shape, parameters)
    if codes.dtype.itemsize >= 4:  # biases: integers that float32 cannot hold
        wide = (_blocked(codes, parameters).astype(np.float64) - zero_point) * scale
        return wide.astype(np.float32).reshape(codes.shape)
    shifted = _blocked(codes, parameters).astype(np.float32)
    shifted -= zero_point.astype(np.float32)
    shifted *= scale
    return shifted.reshape(codes.shape)


def fake_quantize(array: Array, parameters: Parameters) -> Array:
    """What remains of `array` after quantization: float32 again."""
    return dequantize(quantize(array, parameters), parameters)


def quantize_bias(bias: Array, inputs: Parameters, weights: Parameters) -> tuple[Array, Parameters]:
    """A bias as int32, or int64 with int16 inputs, and its parameters: the product of the two scales."""
    wide = inputs.scheme.dtype.bits > 8
    parameters = bias_parameters(inputs, weights, INT64 if wide else INT32)
    exact = np.asarray(bias, np.float64) / parameters.scale.astype(np.float64)
    rounded = np.trunc(exact + np.copysign(np.nextafter(0.5, 0), exact))
    limit = 2.0**62 if wide else 2.0**31 - 1
    return np.clip(rounded, -limit, limit).astype(np.int64 if wide else np.int32), parameters


def _aligned(shape: tuple[int, ...], parameters: Parameters) -> tuple[Array, Array]:
    """Scale and zero point shaped so that they broadcast against `_blocked` of an array of `shape`."""
    scale, zero_point, axis = parameters.scale, parameters.zero_point, parameters.axis
    if axis is None:
        return scale.reshape(()), zero_point.reshape(())
    axis %= len(shape)
    if parameters.block_size:
        return np.expand_dims(scale, axis + 1), np.expand_dims(zero_point, axis + 1)
    if scale.shape != (shape[axis],):
        raise UsageError(f"{scale.size} scales do not fit axis {axis} of shape {list(shape)}")
    aligned = [1] * len(shape)
    aligned[axis] = -1
    return scale.reshape(aligned), zero_point.reshape(aligned)


def _blocked(array: Array, parameters: Parameters) -> Array:
    if not parameters.block_size or parameters.axis is None:
        return array
    return split_blocks(array, parameters.axis, parameters.block_size)[0]
