"""Operators of TensorFlow between floats and the integers that stand for them: fake, real and round trip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from graphopt.ir.ops.inference import InferenceContext, InferenceError, same_as
from graphopt.ir.ops.registry import register
from graphopt.ir.ops.tf_elementwise import Array
from graphopt.ir.ops.tf_windows import settled
from graphopt.ir.ops.traits import Trait
from graphopt.ir.types import SCALAR, UNKNOWN_SHAPE, DType, Shape

FLOAT_MAX = np.finfo(np.float32).max


def round_half_away(x: Array) -> Array:
    """To the nearest integer, halves away from zero."""
    return np.asarray(np.trunc(x + np.copysign(np.asarray(0.5, x.dtype), x)))


def along(values: Array, rank: int, axis: int) -> Array:
    """A vector laid along `axis` of an array of `rank`; a scalar as it is."""
    if values.ndim == 0:
        return values
    shape = [1] * rank
    shape[axis] = values.size
    return values.reshape(shape)


# Fake quantization: floats to those floats that integers can stand for -----------------------------------------


class Nudged(NamedTuple):
    """A range moved so that zero is one of its integers, and the distance of two of them."""

    low: Array
    high: Array
    scale: Array


def nudged_range(low: Array, high: Array, bits: int, narrow_range: bool) -> Nudged:
    """The range that TensorFlow really uses for `low` to `high`, in single precision."""
    if not 2 <= bits <= 16:
        raise ValueError(f"a quantized value has 2 to 16 bits, not {bits}")
    single = np.float32
    least, most = single(1 if narrow_range else 0), single((1 << bits) - 1)
    scale = (high - low) / (most - least)
    zero = least - low / scale
    zero = np.where(zero < least, least, np.where(zero > most, most, np.trunc(zero + single(0.5))))
    return Nudged((least - zero) * scale, (most - zero) * scale, scale)


def fake_quantized(x: Array, low: Array, high: Array, attrs: Any) -> Array:
    """`x` clamped to the nudged range and rounded to its integers."""
    with np.errstate(all="ignore"):
        single = np.float32
        nudged = nudged_range(low.astype(single), high.astype(single), attrs["num_bits"], attrs["narrow_range"])
        clamped = np.where(nudged.high < x, nudged.high, x)
        clamped = np.where(clamped < nudged.low, nudged.low, clamped)
        steps = np.floor((clamped - nudged.low) * (single(1) / nudged.scale) + single(0.5))
        return np.asarray(steps * nudged.scale + nudged.low, np.float32)


def _fake_args(attrs: Any, x: Array) -> Array:
    if not attrs["min"] < attrs["max"]:
        raise ValueError(f"the range from {attrs['min']} to {attrs['max']} is empty")
    low, high = (np.asarray(attrs[end], np.float32) for end in ("min", "max"))
    return fake_quantized(x, low, high, attrs)


def _fake_vars(attrs: Any, x: Array, low: Array, high: Array) -> Array:
    if low.ndim or high.ndim:
        raise ValueError("the ends of the range must be scalars")
    both_zero = not low and not high
    return np.zeros_like(x) if both_zero else fake_quantized(x, low, high, attrs)


def _fake_per_channel(attrs: Any, x: Array, low: Array, high: Array) -> Array:
    if not x.ndim or low.shape != x.shape[-1:] or high.shape != low.shape:
        raise ValueError(f"ranges of shapes {low.shape} and {high.shape} do not fit channels of shape {x.shape}")
    result = fake_quantized(x, low, high, attrs)
    return np.where((low == 0) & (high == 0), np.float32(0), result)


def _fake_vars_shape(context: InferenceContext) -> Sequence[Shape]:
    for index in (1, 2):
        if context.shape(index).merged(SCALAR) is None:
            raise InferenceError("the ends of the range must be scalars")
    return [context.shape(0)]


def _fake_per_channel_shape(context: InferenceContext) -> Sequence[Shape]:
    shape = context.shape(0)
    if shape.dims is None:
        return [shape]
    if not shape.dims:
        raise InferenceError("a scalar has no channels")
    channels: Shape | None = Shape(shape.dims[-1:])
    for index in (1, 2):
        channels = channels.merged(context.shape(index)) if channels is not None else None
    if channels is None or channels.dims is None:
        raise InferenceError(f"the ends of the ranges must be vectors, one element for each channel of {shape}")
    return [Shape((*shape.dims[:-1], channels[0]))]


# Quantize and dequantize --------------------------------------------------------------------------------------


class Limits(NamedTuple):
    """The least and the greatest integer of a quantized type, and half of its range if it is signed."""

    low: int
    high: int
    half: float


def limits_of(dtype: DType) -> Limits:
    """Limits of `qint8` and its like. Raises `ValueError` for other types."""
    if not dtype.is_quantized or dtype.numpy is None:
        raise ValueError(f"{dtype.name} is no quantized type")
    info = np.iinfo(dtype.numpy)
    return Limits(int(info.min), int(info.max), (int(info.max) - int(info.min) + 1) / 2 if info.min else 0.0)


class FirstScale(NamedTuple):
    """Mode MIN_FIRST: `real = start + step * (integer - least integer)`, where `start` is a whole number of steps."""

    step: Array
    start: Array


def first_scale(low: Array, high: Array, limits: Limits) -> FirstScale:
    """Scale of mode MIN_FIRST for the range from `low` to `high`, in double precision."""
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    step = (high - low) / (limits.high - limits.low)
    rounded = round_half_away(low / np.where(step == 0, 1, step)) * step
    return FirstScale(step, np.where(step == 0, low, rounded))


def quantize_first(x: Array, low: Array, high: Array, limits: Limits) -> Array:
    """Integers of mode MIN_FIRST, as doubles, clamped to the type."""
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    with np.errstate(all="ignore"):
        scale = (limits.high - limits.low) / (high - low)
        steps = round_half_away(x.astype(np.float64) * scale) - round_half_away(low * scale) + limits.low
        return np.where(high == low, 0.0, np.clip(steps, limits.low, limits.high))


def dequantize_first(integers: Array, low: Array, high: Array, limits: Limits) -> Array:
    """Reals of mode MIN_FIRST, as doubles."""
    scale = first_scale(low, high, limits)
    return scale.start + (integers.astype(np.float64) - limits.low) * scale.step


def _ranges(attrs: Any, x: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """The ends of the range, laid along the axis that the attribute names; -1 stands for one range for all."""
    axis = attrs["axis"]
    if not -1 <= axis < x.ndim:
        raise ValueError(f"axis {axis} is out of range for an array of shape {x.shape}")
    expected = () if axis == -1 else (x.shape[axis],)
    if low.shape != expected or high.shape != expected:
        raise ValueError(f"ranges of shapes {low.shape} and {high.shape} do not fit axis {axis} of shape {x.shape}")
    return along(low, x.ndim, axis), along(high, x.ndim, axis)


def _dequantize(attrs: Any, x: Array, low: Array, high: Array) -> Array:
    limits, mode, single = limits_of(attrs["T"]), attrs["mode"], np.float32
    low, high = _ranges(attrs, x, low, high)
    with np.errstate(all="ignore"):
        if mode == b"MIN_COMBINED":
            scale = (high - low) / single(limits.high - limits.low)
            result = (x.astype(single) + single(limits.half)) * scale + low
        elif mode == b"MIN_FIRST":
            result = dequantize_first(x, low, high, limits)
        elif mode == b"SCALED":
            scale = high / single(limits.high)
            if limits.low:
                scale = np.maximum(low / single(limits.low + bool(attrs["narrow_range"])), scale)
            result = x.astype(single) * scale
        else:
            raise ValueError(f"there is no mode {mode!r}")
        return np.asarray(result).astype(single).astype(attrs["dtype"].numpy)


def _widened_range(attrs: Any, low: Array, high: Array) -> tuple[Array, Array]:
    """The range with zero in it and not too small."""
    if np.any(low > high):
        raise ValueError("the range to quantize is empty")
    zero, single = np.float32(0), np.float32
    least = np.minimum(zero, low)
    smallest = np.maximum(single(1), np.maximum(np.abs(low), np.abs(high))) * single(attrs["ensure_minimum_range"])
    return least, np.maximum(zero, np.maximum(high, least + smallest))


def _scaled_range(low: Array, high: Array, least: int, most: int) -> tuple[Array, Array, Array]:
    """Mode SCALED: the factor, and the ends of the range that the integers `least` to `most` then cover."""
    single = np.float32
    sides = [np.where(bound * end > 0, single(bound) / end, FLOAT_MAX) for bound, end in ((least, low), (most, high))]
    factor = np.minimum(*sides).astype(single)
    return factor, single(least) / factor, single(most) / factor


def _quantize(attrs: Any, x: Array, low: Array, high: Array) -> list[Array]:
    limits, mode, kind = limits_of(attrs["T"]), attrs["mode"], attrs["T"].numpy
    _ranges(attrs, x, low, high)
    if mode == b"SCALED" and attrs["round_mode"] != b"HALF_AWAY_FROM_ZERO":
        raise ValueError("with HALF_TO_EVEN the kernels of TensorFlow disagree on the range")
    with np.errstate(all="ignore"):
        low, high = _widened_range(attrs, low, high)
        if mode == b"SCALED":
            least = limits.low + bool(attrs["narrow_range"])
            factor, low, high = _scaled_range(low, high, least, limits.high)
        bottom, top = along(low, x.ndim, attrs["axis"]), along(high, x.ndim, attrs["axis"])
        clamped = np.clip(x, bottom, top)
        if mode == b"SCALED":
            scaled = clamped * along(factor, x.ndim, attrs["axis"])
            integers = round_half_away(scaled)
        elif mode == b"MIN_COMBINED":
            factor = np.float32(limits.high - limits.low) / (top - bottom)
            integers = round_half_away((clamped - bottom) * factor - np.float32(limits.half))
        elif mode == b"MIN_FIRST" and attrs["axis"] == -1:
            integers = quantize_first(x, low, high, limits)
        else:
            raise ValueError(f"mode {mode!r} with axis {attrs['axis']} does not exist")
    if np.any(~((integers >= limits.low) & (integers <= limits.high))):
        raise ValueError(f"a quantized value does not fit into {attrs['T'].name}")
    ends = [np.asarray(end, np.float32) for end in (low, high)]
    return [np.asarray(integers).astype(kind), *(end.reshape(()) if end.size == 1 else end for end in ends)]


def _ranges_shape(context: InferenceContext, axis: int) -> Shape:
    """Shape of the ends of the range: scalars, or one element for each place along `axis`."""
    shape = context.shape(0)
    if axis == -1:
        ends: Shape | None = SCALAR
    elif shape.dims is None:
        ends = Shape([None])
    elif axis >= len(shape.dims):
        raise InferenceError(f"axis {axis} is out of range for {shape}")
    else:
        ends = Shape([shape.dims[axis]])
    for index in (1, 2):
        ends = ends.merged(context.shape(index)) if ends is not None else None
    if ends is None:
        raise InferenceError(f"the ends of the range do not fit axis {axis} of {shape}")
    return ends


@settled("axis")
def _quantize_shape(context: InferenceContext) -> Sequence[Shape]:
    ends = _ranges_shape(context, context.attrs["axis"])
    if ends.rank == 1 and not (isinstance(ends[0], int) and ends[0] > 1):
        ends = SCALAR if ends[0] == 1 else UNKNOWN_SHAPE  # the kernel makes scalars of a single slice
    return [context.shape(0), ends, ends]


@settled("axis")
def _dequantize_shape(context: InferenceContext) -> Sequence[Shape]:
    _ranges_shape(context, context.attrs["axis"])
    return [context.shape(0)]


# Round trips --------------------------------------------------------------------------------------------------


def _round_trip(attrs: Any, x: Array, low: Array, high: Array, bits: int) -> Array:
    """Quantize to `bits` and back, in the type of `x`."""
    if not 1 < bits < (63 if attrs["signed_input"] else 64):
        raise ValueError(f"a round trip through {bits} bits is not possible")
    axis, kind = attrs.get("axis", -1), x.dtype.type
    if not -1 <= axis < x.ndim:
        raise ValueError(f"axis {axis} is out of range for an array of shape {x.shape}")
    if not attrs["range_given"]:
        if not x.size:
            return x.copy()
        others = tuple(i for i in range(x.ndim) if i != axis) if axis >= 0 else None
        low, high = np.asarray(x.min(axis=others)), np.asarray(x.max(axis=others))
    else:
        low, high = _ranges({"axis": axis}, x, low, high)
        if np.any(low > high):
            raise ValueError("the range of the round trip is empty")
    return _there_and_back(attrs, x, along(low, x.ndim, axis), along(high, x.ndim, axis), bits, kind)


class RoundTrip(NamedTuple):
    """What a round trip multiplies with on the way there and back, and the numbers that it keeps."""

    there: Array
    back: Array
    lowest: Array
    highest: Array


def round_trip(attrs: Any, low: Array, high: Array, bits: int, kind: Any) -> RoundTrip:
    """The round trip through `bits` of numbers between `low` and `high`, in the type `kind`."""
    signed, narrow = attrs["signed_input"], bool(attrs.get("narrow_range", False))
    least = kind(-(1 << (bits - 1)) + narrow if signed else 0)
    most = kind((1 << (bits - 1)) - 1 if signed else (1 << bits) - 1)
    greatest = np.finfo(kind).max
    with np.errstate(all="ignore"):
        from_low = np.where(least * low > 0, least / low, greatest)
        from_high = np.where(most * high > 0, most / high, greatest)
        low_side = from_low < from_high
        back = np.where(low_side, low / least, high / most)
        kept = np.where(low_side, low, least * back), np.where(low_side, most * back, high)
        return RoundTrip(np.where(low_side, from_low, from_high), back, *kept)


def _there_and_back(attrs: Any, x: Array, low: Array, high: Array, bits: int, kind: Any) -> Array:
    trip = round_trip(attrs, low, high, bits, kind)
    with np.errstate(all="ignore"):
        if attrs["range_given"]:
            x = np.maximum(np.minimum(x, trip.highest), trip.lowest)
        scaled = x * trip.there
        half_up = attrs.get("round_mode", b"HALF_TO_EVEN") == b"HALF_UP"
        steps = np.floor(scaled + kind(0.5)) if half_up else np.rint(scaled)
        return np.asarray(steps * trip.back).astype(x.dtype)


def _round_trip_v2(attrs: Any, x: Array, low: Array, high: Array) -> Array:
    return _round_trip(attrs, x, low, high, attrs["num_bits"])


def _round_trip_v3(attrs: Any, x: Array, low: Array, high: Array, bits: Array) -> Array:
    if bits.ndim:
        raise ValueError("the number of bits must be a scalar")
    return _round_trip(attrs, x, low, high, int(bits))


@settled("range_given", "axis")
def _round_trip_shape(context: InferenceContext) -> Sequence[Shape]:
    if context.attrs["range_given"]:
        _ranges_shape(context, context.attrs["axis"])
    return [context.shape(0)]


def _register() -> None:
    elementwise = Trait.ELEMENTWISE
    register("tf.FakeQuantWithMinMaxArgs", traits=elementwise, shape=same_as(), evaluate=_fake_args)
    register("tf.FakeQuantWithMinMaxVars", shape=_fake_vars_shape, evaluate=_fake_vars)
    register("tf.FakeQuantWithMinMaxVarsPerChannel", shape=_fake_per_channel_shape, evaluate=_fake_per_channel)
    register("tf.Dequantize", traits=Trait.DECOMPRESS, shape=_dequantize_shape, evaluate=_dequantize)
    register("tf.QuantizeV2", shape=_quantize_shape, evaluate=_quantize)
    names = ("tf.QuantizeAndDequantizeV2", "tf.QuantizeAndDequantizeV4")
    register(names, shape=_round_trip_shape, evaluate=_round_trip_v2)
    register("tf.QuantizeAndDequantizeV3", shape=_round_trip_shape, evaluate=_round_trip_v3)
    register("tf.QuantizeAndDequantize", shape=same_as())
    register("tf.UniformQuantize", shape=same_as())
    register("tf.UniformRequantize", shape=same_as())
    register("tf.UniformDequantize", traits=Trait.DECOMPRESS, shape=same_as())
    register("tf.UniformQuantizedClipByValue", shape=same_as())


_register()
