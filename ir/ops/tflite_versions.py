"""The lowest version of a TFLite builtin operator that has what a use of it needs, and the first runtime that had it.

A rule is a version and what calls for it; the first rule that holds counts, and version 1 needs none. Conditions, all
of which must hold:

    0=i8|u8     the element type of input 0 (`out0` is output 0); a missing input has none
    0!=bool     another element type
    rank0>4     number of dimensions of input 0 as far as it is known; `rank0!=4` too
    @name       the attribute is set to something other than zero, false or NONE; `@name=VALUE`: to this value
    word        a predicate of `_PREDICATES`

Source: TensorFlow's `op_version.cc` and `runtime_version.cc`, which state it for their own converter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

from graphopt.ir.ops.tflite_kernel_types import NAMES
from graphopt.ir.types import TensorType
from graphopt.ir.value import Node

Condition = Callable[[Node], bool]

_I8 = "2: 0=i8"
_I8_I16 = "3: 0=i16; 2: 0=i8"
_I16_BOTH = "3: 0=i16 out0=i16; 2: 0=i8"
_POOL_LIKE = "4: 0=i16; 3: rank0!=4; 2: 0=i8"
_HYBRID_RNN = "3: 1=i8 out0=f32 @asymmetric_quantize_inputs; 2: 1=i8 out0=f32"
_PAD = "5: 0=bool; 4: rank0>4; 3: 0=i16; 2: 0=i8"
_MAXIMUM = "4: 0=i16 out0=i16; 3: broadcast>4; 2: 0=i8"

RULES: Mapping[str, str] = {
    "ABS": "5: 0=i32; 3: 0=i16 quantized0; 4: 0=i16; 2: 0=i8|u8",
    "ADD": "6: 0=f16; 5: 0=i16 plain0; 4: 0=i64; 3: 0=i16 out0=i16 general; 2: 0=i8",
    "ARG_MAX": "3: 0=bool; 2: 0=i8",
    "ARG_MIN": "3: 0=bool; 2: 0=i8",
    "AVERAGE_POOL_2D": _I16_BOTH,
    "BATCH_MATMUL": "3: 0=i16; 2: 0=i8; 4: 0=f32 1=i8 out0=f32 @asymmetric_quantize_inputs",
    "BATCH_TO_SPACE_ND": _POOL_LIKE,
    "BIDIRECTIONAL_SEQUENCE_LSTM": _HYBRID_RNN,
    "BIDIRECTIONAL_SEQUENCE_RNN": _HYBRID_RNN,
    "BROADCAST_TO": "3: 0=i8|i16; 2:",
    "CAST": "8: casts=i2|u4; 7: casts=bf16; 6: 0=i4 out0=f32; 5: casts=f64|f16; 4: casts=u16; 3: casts=i8;"
    "2: casts=u32",
    "CONCATENATION": "5: 0=i4; 4: 0=u32; 3: 0=i16; 2: 0=i8",
    "CONV_2D": "8: 0=i16 1=i8 out0=i16 @quantized_bias_type; 6: grouped; 4: 0=i16 1=i16; 3: 0=i8 1=i8 out0=i8;"
    "7: 0=i8 1=i4 out0=i8; 5: 0=f32 1=i8 out0=f32 channelwise1; 2: 0=f32 1=i8 out0=f32",
    "DEPTHWISE_CONV_2D": "5: 0=i16 1=i16; 6: 0=f32 1=i8 out0=f32 channelwise1; 4: 0=f32 1=i8 out0=f32;"
    "3: 0=i8 1=i8 out0=i8; 7: 0=i8 1=i4 out0=i8; 2: dilated",
    "DEPTH_TO_SPACE": _I8,
    "DEQUANTIZE": "8: 0=u4; 7: 0=i2; 6: 0=i4; 3: 0=i16|f16; 5: 0=i8 channelwise0; 2: 0=i8",
    "DIV": "2: broadcast>4",
    "DYNAMIC_UPDATE_SLICE": "6: 0=bf16; 5: 0=i4; 4: 0=i16; 3: 0=f16; 2: 2=i64",
    "EMBEDDING_LOOKUP": "4: 1=i4; 4: channelwise1; 5: 1=i2",
    "EQUAL": "5: 0=i16; 3: 0=str; 2: 0=i8",
    "EXP": "2: 0=i8|i16",
    "FAKE_QUANT": "2: @narrow_range",
    "FILL": "4: 1=f16; 3: 1=i8|i16; 2: 1=bool|str",
    "FLOOR_DIV": "3: 0=i16|i8; 2: 0=f32",
    "FLOOR_MOD": "2: 0=i16|i8",
    "FULLY_CONNECTED": "14: 1=i2; 13: 0=i16 1=i4 out0=i16; 12: 0=f32 1=i8 out0=f32 channelwise1;"
    "11: 0=i16 1=i8 out0=i16 @quantized_bias_type; 8: sparse1; 7: 0=i16 1=i16 out0=i16; 6: inputs=2; 5: @keep_num_dims;"
    "4: 0=i8 1=i8 out0=i8; 10: 0=i8 1=i4 out0=i8; 9: 0=f32 1=i8 out0=f32 @asymmetric_quantize_inputs;"
    "3: 0=f32 1=i8 out0=f32; 2: @weights_format=SHUFFLED4x16INT8",
    "GATHER": "7: 0=i4; 6: 1=i16; 5: @batch_dims; 4: 0=i16; 3: 0=bool; 2: 0=i8",
    "GATHER_ND": "5: 0=bool; 4: 1=i16; 3: 0=i16; 2: 0=str",
    "COS": "2: 0=f16",
    "GELU": "3: 0=f16; 2: 0=i8|u8",
    "GREATER": _I8,
    "GREATER_EQUAL": _I8_I16,
    "L2_NORMALIZATION": "2: out0=i8",
    "LEAKY_RELU": "2: 0=i16",
    "LESS": _I8_I16,
    "LESS_EQUAL": _I8,
    "LOG": "2: 0=i8|i16",
    "LOGISTIC": _I16_BOTH,
    "LOG_SOFTMAX": _I8,
    "LSTM": "5: full_lstm 0=i16 2=i8 out0=i16; 4: full_lstm 0=f32 2=i8 out0=f32 @asymmetric_quantize_inputs;"
    "3: full_lstm 0=f32 2=i8 out0=f32; 2: @kernel_type=BASIC",
    "MAXIMUM": _MAXIMUM,
    "MAX_POOL_2D": _I16_BOTH,
    "MEAN": _I8_I16,
    "MINIMUM": _MAXIMUM,
    "MIRROR_PAD": _I8_I16,
    "MUL": "8: 0=f16; 7: 0=i16 unquantized; 7: 0=u32; 6: 0=c64; 5: 0=i64; 4: 0=i16; 3: rescales_up; 2: 0=i8",
    "NOT_EQUAL": "4: 0=i16; 3: 0=str; 2: 0=i8",
    "PACK": "2: 0=i8; 3: 0=i16 out0=i16; 4: 0=u32",
    "PAD": _PAD,
    "PADV2": _PAD,
    "QUANTIZE": "5: quantizes=u4; 4: quantizes=i4; 3: channelwise_out; 2: out0=i16",
    "RANGE": "2: 0=i64",
    "REDUCE_MAX": _I8_I16,
    "REDUCE_MIN": _I8_I16,
    "REDUCE_PROD": "2: 0=i8|i16",
    "RELU": "3: 0=i16; 2: 0=i8|u8",
    "RELU6": _I8_I16,
    "RESIZE_BILINEAR": "4: 0=i16; 3: @half_pixel_centers; 2: 0=i8",
    "RESIZE_NEAREST_NEIGHBOR": "4: 0=i16; 3: @half_pixel_centers; 3: @align_corners; 2: 0=i8",
    "REVERSE_V2": "3: 0=i8; 2: 0=bool",
    "RNN": _HYBRID_RNN,
    "RSQRT": _I8_I16,
    "SELECT": "4: 0=u32; 3: five_dimensional; 2: 0=i8",
    "SELECT_V2": "2: 0=u32",
    "SIGN": "2: 0=i32",
    "SLICE": "7: 0=i4; 6: 0=u32; 5: rank0>4; 4: 0=i16; 3: 0=str; 2: 0=i8",
    "SIN": "2: 0=f16",
    "SOFTMAX": "4: 0=f16; 3: 0=i16; 2: 0=i8",
    "SPACE_TO_BATCH_ND": _POOL_LIKE,
    "SPACE_TO_DEPTH": _I8,
    "SPARSE_TO_DENSE": "3: 2=i8|u8; 2: 2=i64",
    "SPLIT": "4: 1=i16; 3: 1=i32; 2: 1=i8",
    "SPLIT_V": _I8,
    "SQRT": "2: 0=i8|i16",
    "SQUARED_DIFFERENCE": _I8,
    "SQUEEZE": "2: 0=str",
    "STRIDED_SLICE": "8: @offset; 7: 0=u32; 6: @ellipsis_mask; 6: @new_axis_mask; 5: 0=str; 4: rank0>4; 3: 0=bool;"
    "2: 0=i8",
    "SUB": "5: 0=i16 out0=i16 general; 4: 0=i64; 3: broadcast>4; 2: 0=i8",
    "SUM": _I8,
    "SVDF": "3: 0=i8; 4: 0=f32 1=i8 out0=f32 @asymmetric_quantize_inputs; 2: 0=f32 1=i8 out0=f32",
    "TANH": _I16_BOTH,
    "TILE": "3: 0=i8; 2: 0=str",
    "TOPK_V2": "3: 0=i16; 3: 1=i16; 3: out1=i16; 2: 0=i8",
    "TRANSPOSE": "8: rank0>6; 8: 0=bf16; 7: 0=i4; 6: rank0>5; 5: 0=i16; 4: rank0>4; 3: 0=bool; 2: 0=i8",
    "TRANSPOSE_CONV": "5: 0=i16 1=i8 out0=i16 @quantized_bias_type; 4: @fused_activation_function; 3: has3; 2: 1=i8",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "5: 0=i16 2=i8 out0=i16; 4: @diagonal_recurrent_tensors;"
    "3: 0=f32 2=i8 out0=f32 @asymmetric_quantize_inputs; 2: 0=f32 2=i8 out0=f32",
    "UNIDIRECTIONAL_SEQUENCE_RNN": _HYBRID_RNN,
    "UNPACK": "2: 0=i8|u8; 3: 0=bool; 4: 0=i16 out0=i16; 5: 0=f16|bf16",
    "WHERE": "2: 0!=bool",
}  # fmt: skip


def version_of(node: Node) -> int:
    """The lowest version of the builtin operator `node` that its types, shapes and attributes need.

    1 for operators without versions, custom ones included.
    """
    for version, conditions in _rules(node.op_type):
        if all(condition(node) for condition in conditions):
            return version
    return 1


@cache
def _rules(operator: str) -> tuple[tuple[int, tuple[Condition, ...]], ...]:
    found = []
    for rule in filter(None, RULES.get(operator, "").split(";")):
        version, _, conditions = rule.partition(":")
        found.append((int(version), tuple(_condition(text) for text in conditions.split())))
    return tuple(found)


def _condition(text: str) -> Condition:
    if text.startswith("@"):
        name, _, value = text[1:].partition("=")
        return lambda node: _is_set(node, name, value)
    left, _, right = text.partition("=")
    if not right:
        left, _, right = text.partition(">")
        if not right:
            return _PREDICATES[text]
        if left == "broadcast":
            return lambda node: _broadcasts_beyond(node, int(right))
        return lambda node: _rank(_input(node, int(left[4:]))) > int(right)
    return _comparison(left, right)


def _comparison(left: str, right: str) -> Condition:
    if left == "inputs":
        return lambda node: node.input_count == int(right)
    if left.startswith("rank"):  # rank0!
        place = int(left[4:-1])
        return lambda node: _rank(_input(node, place)) not in (int(right), _UNRANKED)
    wanted = frozenset(NAMES[name] for name in right.split("|"))
    if left in ("casts", "quantizes"):
        return lambda node: _dtype(_input(node, 0)) in wanted or _dtype(_output(node, 0)) in wanted
    if left.startswith("out"):
        return lambda node: _dtype(_output(node, int(left[3:]))) in wanted
    if left.endswith("!"):
        return lambda node: _dtype(_input(node, int(left[:-1]))) not in wanted
    return lambda node: _dtype(_input(node, int(left))) in wanted


# What a node is like --------------------------------------------------------------------------------------------

_UNRANKED = -1


def _input(node: Node, place: int) -> TensorType | None:
    value = node.inputs[place] if place < node.input_count else None
    return value.type if value is not None else None


def _output(node: Node, place: int) -> TensorType | None:
    return node.outputs[place].type if place < len(node.outputs) else None


def _dtype(type: TensorType | None) -> str:
    return type.dtype.name if type is not None else ""


def _rank(type: TensorType | None) -> int:
    rank = type.shape.rank if type is not None else None
    return _UNRANKED if rank is None else rank


def _is_set(node: Node, name: str, value: str) -> bool:
    held = node.attrs.get(name)
    if value:
        return bool(held == value.encode())
    return bool(held) and held != b"NONE" and getattr(held, "name", "") not in ("unknown", "float32")


def _broadcasts_beyond(node: Node, rank: int) -> bool:
    left, right = _input(node, 0), _input(node, 1)
    return (
        left is not None and right is not None and left.shape != right.shape and max(map(_rank, (left, right))) > rank
    )


def _is_quantized(type: TensorType | None) -> bool:
    return type is not None and type.quantization is not None


def _is_channelwise(type: TensorType | None) -> bool:
    """There is a scale for each of several slices."""
    return type is not None and type.quantization is not None and len(type.quantization.scale) > 1


def _is_grouped(node: Node) -> bool:
    image, weights = _input(node, 0), _input(node, 1)
    if _rank(image) < 1 or _rank(weights) < 1 or image is None or weights is None:
        return False
    return bool(image.shape[-1] != weights.shape[-1])


def _is_dilated(node: Node) -> bool:
    return any(node.attrs.get(key, 1) != 1 for key in ("dilation_wfactor", "dilation_hfactor"))


def _rescales_up(node: Node) -> bool:
    types = (_input(node, 0), _input(node, 1), _output(node, 0))
    scales = [type.quantization.scale[0] for type in types if type is not None and type.quantization is not None]
    return len(scales) == 3 and all(scales) and scales[0] * scales[1] / scales[2] >= 1


def _is_sparse(node: Node) -> bool:
    value = node.inputs[1] if node.input_count > 1 else None
    return value is not None and value.node.op == "tfl.CONSTANT" and "data" in value.node.attrs


def _is_five_dimensional(node: Node) -> bool:
    return any(_rank(_input(node, place)) == 5 for place in range(3))


_PREDICATES: Mapping[str, Condition] = {
    "quantized0": lambda node: _is_quantized(_input(node, 0)),
    "plain0": lambda node: not _is_quantized(_input(node, 0)),
    "unquantized": lambda node: not (_is_quantized(_input(node, 0)) or _is_quantized(_input(node, 1))),
    "channelwise0": lambda node: _is_channelwise(_input(node, 0)),
    "channelwise1": lambda node: _is_channelwise(_input(node, 1)),
    "channelwise_out": lambda node: _is_channelwise(_output(node, 0)),
    "general": lambda node: not node.attrs.get("pot_scale_int16", True),  # the schema's default is True
    "grouped": _is_grouped,
    "dilated": _is_dilated,
    "rescales_up": _rescales_up,
    "sparse1": _is_sparse,
    "has3": lambda node: node.input_count == 4 and _input(node, 3) is not None,
    "five_dimensional": _is_five_dimensional,
    "full_lstm": lambda node: node.attrs.get("kernel_type", b"FULL") == b"FULL",
}  # fmt: skip
