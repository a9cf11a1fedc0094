"""Target profiles: which operators, with which element types, the kernels of a device take.

- `litert`: LiteRT on a CPU, by the capability table of its kernels.
- `micro`: LiteRT for Microcontrollers, whose kernels are fewer (facts: its `micro_mutable_op_resolver.h`).
- `integer`: accelerators that compute with 8-bit integers alone; what has no such form there is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphopt.ir.ops.tflite_kernels import supports
from graphopt.ir.types import INT8, INT16, INT32, UINT8, TensorType
from graphopt.passes.quantize.plan import Supports, Types


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


MICRO = _names(
    """
    ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND BROADCAST_ARGS
    BROADCAST_TO CALL_ONCE CAST CEIL CONCATENATION CONV_2D COS CUMSUM DEPTH_TO_SPACE DEPTHWISE_CONV_2D DEQUANTIZE
    DIV DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP EXPAND_DIMS FILL FLOOR FLOOR_DIV FLOOR_MOD
    FULLY_CONNECTED GATHER GATHER_ND GREATER GREATER_EQUAL HARD_SWISH IF L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS
    LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D MEAN MINIMUM
    MIRROR_PAD MUL NEG NOT_EQUAL PACK PAD PADV2 PRELU QUANTIZE READ_VARIABLE REDUCE_MAX REDUCE_MIN RELU RELU6
    RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2 ROUND RSQRT SELECT_V2 SHAPE SIN SLICE SOFTMAX
    SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM SVDF
    TANH TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK VAR_HANDLE WHILE ZEROS_LIKE
    """
)
# Operators of which the microcontroller kernels take floats only.
MICRO_FLOAT = _names(
    """
    ABS CEIL COS ELU EXP FLOOR GELU LOG LOG_SOFTMAX NEG ROUND RSQRT SIN SQRT SQUARE DIV ADD_N
    """
)
# What accelerators for 8-bit integers have in common (facts: the operator lists of Edge TPU and Ethos-U).
INTEGER = _names(
    """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS FULLY_CONNECTED L2_NORMALIZATION
    LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL PACK PAD PRELU QUANTIZE RELU RELU6 RELU_N1_TO_1 RESHAPE
    RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQUEEZE STRIDED_SLICE SUB SUM TANH
    TRANSPOSE TRANSPOSE_CONV UNPACK
    """
)
# Operators whose kernels elsewhere take integer weights beside float activations.
HYBRID = _names(
    "BATCH_MATMUL CONV_2D DEPTHWISE_CONV_2D EMBEDDING_LOOKUP FULLY_CONNECTED SVDF UNIDIRECTIONAL_SEQUENCE_LSTM"
)
_INTEGERS = frozenset((INT8, UINT8, INT16, INT32))


def _litert(op: str, inputs: Types, outputs: Types, attrs: Mapping[str, Any]) -> str | None:
    return supports(op, inputs, outputs, attrs)


def _micro(op: str, inputs: Types, outputs: Types, attrs: Mapping[str, Any]) -> str | None:
    if op not in MICRO and op != "CUSTOM":
        return f"LiteRT for Microcontrollers has no {op}"
    if op == "DEQUANTIZE" and inputs[0] is not None and not _is_dequantized(inputs[0]):
        kind = f"{inputs[0].dtype.name}{' by channel' * _has_axis(inputs[0])}"
        return f"LiteRT for Microcontrollers makes no floats of {kind}"
    if op in HYBRID and any(map(_is_float, inputs)) and any(map(_is_integer, inputs)):
        return f"LiteRT for Microcontrollers has no {op} of integer weights beside floats"
    if op in MICRO_FLOAT and any(type is not None and type.dtype in (INT8, INT16) for type in outputs):
        return f"LiteRT for Microcontrollers computes {op} with floats only"
    return supports(op, inputs, outputs, attrs)


def _is_dequantized(type: TensorType) -> bool:
    return type.dtype in (INT8, UINT8, INT16) and not _has_axis(type)


def _has_axis(type: TensorType) -> bool:
    return type.quantization is not None and type.quantization.axis is not None


def _is_float(type: TensorType | None) -> bool:
    return type is not None and type.dtype.is_float


def _is_integer(type: TensorType | None) -> bool:
    return type is not None and type.dtype.bits <= 8 and type.quantization is not None


def _integer(op: str, inputs: Types, outputs: Types, attrs: Mapping[str, Any]) -> str | None:
    if op not in INTEGER:
        return f"integer accelerators have no {op}"
    if any(type is not None and type.dtype not in _INTEGERS for type in outputs):
        return f"integer accelerators compute {op} with 8-bit integers only"
    return supports(op, inputs, outputs, attrs)


PROFILE_KERNELS: Mapping[str, Supports] = {"litert": _litert, "micro": _micro, "integer": _integer}
