"""How LiteRT's kernels compute with integers: which operands are weights and biases, which tensors share a scale.

The facts are those of TFLite's 8-bit quantization specification (ai.google.dev/edge/litert/models/quantization_spec)
and of the kernels' own checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from graphopt.ir.types import INT8, INT16, DType, Quantization

PER_TENSOR = -1  # in place of an axis: one scale for all of a constant


class IntegerKernel(NamedTuple):
    """How one operator computes with integers.

    `weights` maps an input to the axis of its channels (`PER_TENSOR` for none), `bias` is the input that is added with
    the product of the scales of activation and weights. `same_scale` says that inputs and outputs that hold activations
    share scale and zero point. `activations` are the inputs that hold activations, None for all inputs of floats.
    `fixed` maps an element type to what the outputs' integers must stand for. `lacks` says of element types that the
    kernel takes what is wrong with what it computes.
    """

    weights: Mapping[int, int] = {}
    bias: int | None = None
    same_scale: bool = False
    activations: tuple[int, ...] | None = None
    fixed: Mapping[DType, Quantization] = {}
    lacks: Mapping[DType, str] = {}


def _fixed(scale: float, zero_point: int, wide: float | None) -> Mapping[DType, Quantization]:
    found = {INT8: Quantization((scale,), (zero_point,))}
    if wide is not None:
        found[INT16] = Quantization((wide,), (0,))
    return found


def _named(names: str, kernel: IntegerKernel) -> dict[str, IntegerKernel]:
    return {f"tfl.{name}": kernel for name in names.split()}


COMPARISONS = frozenset(
    f"tfl.{name}" for name in ("EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "NOT_EQUAL")
)
"""Kernels that compare the integers of int16 as they are, and stop the process on int8 with scales of 1 or more."""
ROOTS = frozenset({"tfl.SQRT", "tfl.RSQRT"})
"""Kernels that fail on integers below zero."""
KERNELS: Mapping[str, IntegerKernel] = {
    **_named("CONV_2D", IntegerKernel(weights={1: 0}, bias=2, activations=(0,))),
    **_named("DEPTHWISE_CONV_2D", IntegerKernel(weights={1: 3}, bias=2, activations=(0,))),
    **_named("FULLY_CONNECTED", IntegerKernel(weights={1: 0}, bias=2, activations=(0,))),
    **_named("TRANSPOSE_CONV", IntegerKernel(weights={1: 0}, bias=3, activations=(2,))),
    **_named("BATCH_MATMUL", IntegerKernel(weights={1: PER_TENSOR})),
    **_named("SOFTMAX", IntegerKernel(fixed=_fixed(1 / 256, -128, 1 / 32768))),
    **_named("LOGISTIC", IntegerKernel(fixed=_fixed(1 / 256, -128, 1 / 32768))),
    **_named("TANH", IntegerKernel(fixed=_fixed(1 / 128, 0, 1 / 32768))),
    **_named("LOG_SOFTMAX", IntegerKernel(fixed=_fixed(16 / 256, 127, None))),
    **_named("L2_NORMALIZATION", IntegerKernel(fixed=_fixed(1 / 128, 0, None))),
    **_named(
        "ABS ADD DIV ELU EXP GELU HARD_SWISH LEAKY_RELU LOG MEAN MUL POW RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 RSQRT "
        "SQRT SQUARED_DIFFERENCE SUB SUM SQUARE ARG_MAX ARG_MIN REDUCE_PROD",
        IntegerKernel(),
    ),
    **dict.fromkeys(COMPARISONS, IntegerKernel()),
    **_named("PRELU", IntegerKernel(lacks={INT16: "LiteRT's kernel for int16 takes its slopes for int8"})),
    **_named("NEG", IntegerKernel(same_scale=True, lacks={INT8: "LiteRT's kernel for int8 ignores zero points"})),
    **_named(
        "AVERAGE_POOL_2D BATCH_TO_SPACE_ND BROADCAST_TO CONCATENATION DEPTH_TO_SPACE DYNAMIC_UPDATE_SLICE EXPAND_DIMS "
        "GATHER GATHER_ND MAX_POOL_2D MAXIMUM MINIMUM MIRROR_PAD PACK PAD PADV2 REDUCE_MAX REDUCE_MIN RESHAPE "
        "RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2 SELECT SELECT_V2 SLICE SPACE_TO_BATCH_ND SPACE_TO_DEPTH "
        "SPLIT SPLIT_V SQUEEZE STRIDED_SLICE TILE TOPK_V2 TRANSPOSE UNPACK",
        IntegerKernel(same_scale=True),
    ),
}

# Operators with kernels that take float activations and 8-bit weights: input of the weights -> axis of the channels.
HYBRID: Mapping[str, Mapping[int, int]] = {
    "tfl.CONV_2D": {1: 0},
    "tfl.DEPTHWISE_CONV_2D": {1: 3},
    "tfl.FULLY_CONNECTED": {1: 0},
    "tfl.BATCH_MATMUL": {1: PER_TENSOR},
    "tfl.EMBEDDING_LOOKUP": {1: 0},
    "tfl.GATHER": {0: PER_TENSOR},
    "tfl.UNIDIRECTIONAL_SEQUENCE_LSTM": dict.fromkeys((1, 2, 3, 4, 5, 6, 7, 8, 16), PER_TENSOR),
    "tfl.BIDIRECTIONAL_SEQUENCE_LSTM": dict.fromkeys(
        (1, 2, 3, 4, 5, 6, 7, 8, 16, 18, 19, 20, 21, 22, 23, 24, 25, 33), PER_TENSOR
    ),
    "tfl.UNIDIRECTIONAL_SEQUENCE_RNN": {1: PER_TENSOR, 2: PER_TENSOR},
    "tfl.SVDF": {1: PER_TENSOR},
}
# Operators that compute with floats alone, whose weights are worth storing in fewer bits.
STORED: Mapping[str, Mapping[int, int]] = {"tfl.CONV_3D": {1: 4}, "tfl.CONV_3D_TRANSPOSE": {1: 3}}

RECURRENT = frozenset({
    "tfl.UNIDIRECTIONAL_SEQUENCE_LSTM", "tfl.BIDIRECTIONAL_SEQUENCE_LSTM", "tfl.UNIDIRECTIONAL_SEQUENCE_RNN", "tfl.SVDF"
})  # fmt: skip
