"""Operators of TensorFlow that compute with quantized integers: each result comes with the ends of its range."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphopt.ir.ops.inference import InferenceContext, InferenceError, broadcast_shapes
from graphopt.ir.ops.registry import ShapeFunction, register
from graphopt.ir.ops.tf_array import reshaped
from graphopt.ir.ops.tf_concat import concatenated_shape
from graphopt.ir.ops.tf_convolution import convolution_shape, depthwise_shape
from graphopt.ir.ops.tf_elementwise import Array
from graphopt.ir.ops.tf_pooling import pool_shape
from graphopt.ir.ops.tf_quantization import dequantize_first, limits_of, quantize_first
from graphopt.ir.ops.tf_windows import settled
from graphopt.ir.types import SCALAR, UNKNOWN_SHAPE, Shape


def with_range(shape: ShapeFunction) -> ShapeFunction:
    """The shape of the result, then scalars: the ends of its range."""

    def infer(context: InferenceContext) -> Sequence[Shape]:
        result = list(shape(context))[:1]
        return result + [SCALAR] * (context.output_count - 1)

    return infer


def per_channel(shape: ShapeFunction) -> ShapeFunction:
    """The shape of the result, then vectors: the ends of the range of each of its channels."""

    def infer(context: InferenceContext) -> Sequence[Shape]:
        result = next(iter(shape(context)))
        ends = Shape([None]) if result.dims is None else Shape(result.dims[-1:])
        return [result, ends, ends]

    return infer


def _like_input(context: InferenceContext) -> Sequence[Shape]:
    return [context.shape(0)]


def _broadcast_two(context: InferenceContext) -> Sequence[Shape]:
    return [broadcast_shapes(context.shapes(0, 2))]


@settled("transpose_a", "transpose_b")
def _matmul(context: InferenceContext) -> Sequence[Shape]:
    sides = []
    for index, swapped in ((0, context.attrs["transpose_a"]), (1, context.attrs["transpose_b"])):
        both = context.shape(index).merged(Shape([None, None]))
        if both is None or both.dims is None:
            raise InferenceError(f"{context.shape(index)} is not the shape of a matrix")
        sides.append(both.dims[::-1] if swapped else both.dims)
    (rows, inner), (other, columns) = sides
    if isinstance(inner, int) and isinstance(other, int) and inner != other:
        raise InferenceError(f"inner dimensions differ: {inner} and {other}")
    return [Shape((rows, columns))]


def _concat(context: InferenceContext) -> Sequence[Shape]:
    return [concatenated_shape(context.shapes(1, context.attrs["N"] + 1), context.constant_int(0))]


def _concat_v2(context: InferenceContext) -> Sequence[Shape]:
    count = context.attrs["N"]
    return [concatenated_shape(context.shapes(0, count), context.constant_int(count))]


def _reshape(context: InferenceContext) -> Sequence[Shape]:
    wanted = context.partial(1)
    return [UNKNOWN_SHAPE if wanted is None else reshaped(context.shape(0), wanted)]


def _ranges_only(context: InferenceContext) -> Sequence[Shape]:
    return [SCALAR] * context.output_count


# Evaluation ---------------------------------------------------------------------------------------------------


def _scalar_range(low: Array, high: Array) -> tuple[Array, Array]:
    """One range for all. A single element will do for each end, as it does for TensorFlow."""
    if low.size != 1 or high.size != 1:
        raise ValueError("each end of the range must be a single number")
    return low.reshape(()), high.reshape(())


def _clamped(least: float, most: float | None) -> Callable[..., list[Array]]:
    """The integers clamped to those that stand for `least` and `most`; the range stays."""

    def evaluate(attrs: Any, x: Array, low: Array, high: Array) -> list[Array]:
        return _clamp(attrs, x, low, high, least, most)

    return evaluate


def _relu_x(attrs: Any, x: Array, most: Array, low: Array, high: Array) -> list[Array]:
    return _clamp(attrs, x, low, high, 0.0, float(most))


def _clamp(attrs: Any, x: Array, low: Array, high: Array, least: float, most: float | None) -> list[Array]:
    low, high = _scalar_range(low, high)
    limits, kind = limits_of(attrs["Tinput"]), x.dtype.type
    with np.errstate(all="ignore"):
        bottom = kind(int(quantize_first(np.asarray(least), low, high, limits)))
        result = np.maximum(x, bottom)
        if most is not None:
            result = np.minimum(result, kind(int(quantize_first(np.asarray(most), low, high, limits))))
    return [result.astype(attrs["out_type"].numpy), np.array(low), np.array(high)]


def _used_range(attrs: Any, x: Array, low: Array, high: Array) -> list[Array]:
    """The reals that the least and the greatest integer present stand for; zero is always within."""
    if not x.size:
        raise ValueError("the range of nothing is not defined")
    low, high = _scalar_range(low, high)
    limits = limits_of(attrs["Tinput"])
    ends = dequantize_first(np.array([x.min(), x.max()]), low, high, limits).astype(np.float32)
    return [np.minimum(ends[0], np.float32(0)), np.asarray(ends[1])]


def _requantized(attrs: Any, x: Array, low: Array, high: Array, new_low: Array, new_high: Array) -> list[Array]:
    low, high = _scalar_range(low, high)
    new_low, new_high = _scalar_range(new_low, new_high)
    reals = dequantize_first(x, low, high, limits_of(attrs["Tinput"]))
    integers = quantize_first(reals, new_low, new_high, limits_of(attrs["out_type"]))
    return [integers.astype(attrs["out_type"].numpy), np.array(new_low), np.array(new_high)]


def _shrunk(attrs: Any, x: Array, low: Array, high: Array) -> list[Array]:
    return _requantized(attrs, x, low, high, *_used_range(attrs, x, low, high))


def _evaluate_reshape(attrs: Any, x: Array, shape: Array, low: Array, high: Array) -> list[Array]:
    return [x.reshape([int(size) for size in shape]), np.array(low), np.array(high)]


CONVOLUTIONS = (
    "QuantizedConv2D", "QuantizedConv2DAndRelu", "QuantizedConv2DAndReluAndRequantize",
    "QuantizedConv2DAndRequantize", "QuantizedConv2DWithBias", "QuantizedConv2DWithBiasAndRelu",
    "QuantizedConv2DWithBiasAndReluAndRequantize", "QuantizedConv2DWithBiasAndRequantize",
    "QuantizedConv2DWithBiasSignedSumAndReluAndRequantize", "QuantizedConv2DWithBiasSumAndRelu",
    "QuantizedConv2DWithBiasSumAndReluAndRequantize",
)  # fmt: skip
DEPTHWISE = (
    "QuantizedDepthwiseConv2D", "QuantizedDepthwiseConv2DWithBias", "QuantizedDepthwiseConv2DWithBiasAndRelu",
    "QuantizedDepthwiseConv2DWithBiasAndReluAndRequantize",
)  # fmt: skip
PRODUCTS = (
    "QuantizedMatMul", "QuantizedMatMulWithBias", "QuantizedMatMulWithBiasAndDequantize",
    "QuantizedMatMulWithBiasAndRelu", "QuantizedMatMulWithBiasAndReluAndRequantize",
    "QuantizedMatMulWithBiasAndRequantize",
)  # fmt: skip
LIKE_INPUT = ("QuantizedBiasAdd", "QuantizedInstanceNorm", "QuantizedBatchNormWithGlobalNormalization")


def _full(names: Sequence[str]) -> list[str]:
    return [f"tf.{name}" for name in names]


def _register() -> None:
    register(_full(CONVOLUTIONS), shape=with_range(convolution_shape(2)))
    register("tf.QuantizedConv2DPerChannel", shape=per_channel(convolution_shape(2)))
    register(_full(DEPTHWISE), shape=with_range(depthwise_shape))
    register(_full(PRODUCTS), shape=with_range(_matmul))
    register(_full(LIKE_INPUT), shape=with_range(_like_input))
    register(("tf.QuantizedAdd", "tf.QuantizedMul"), shape=with_range(_broadcast_two))
    register(("tf.QuantizedAvgPool", "tf.QuantizedMaxPool"), shape=with_range(pool_shape(4)))
    register("tf.QuantizedConcat", shape=with_range(_concat))
    register("tf.QuantizedConcatV2", shape=with_range(_concat_v2))
    register("tf.QuantizedReshape", shape=with_range(_reshape), evaluate=_evaluate_reshape)

    like = with_range(_like_input)
    register("tf.QuantizedRelu", shape=like, evaluate=_clamped(0.0, None))
    register("tf.QuantizedRelu6", shape=like, evaluate=_clamped(0.0, 6.0))
    register("tf.QuantizedReluX", shape=like, evaluate=_relu_x)
    register("tf.QuantizeDownAndShrinkRange", shape=like, evaluate=_shrunk)
    register("tf.Requantize", shape=like, evaluate=_requantized)
    register("tf.RequantizePerChannel", shape=like)
    register("tf.RequantizationRange", shape=_ranges_only, evaluate=_used_range)
    register("tf.RequantizationRangePerChannel", shape=_ranges_only)


_register()
