"""What each kernel of LiteRT takes, as data; `tflite_kernels.py` reads it.

A kernel has one or several forms, separated by `;`: operands, `->`, results. An operand is

    f32|i32        element types it may have, by short names; `qi8` is an int8 with scales, `i8` one without, and a
                   32-bit or wider integer is the same with and without
    T=f32|i32      the same, and it is called T; `T` further on is an operand of that same type
    ...[1-4]       numbers of dimensions that the kernel handles
    ...~           of the shape of the first operand
    ...!           a constant, which is read when the model is prepared
    ...?           may be missing; such operands come last, unless they may be left out where they stand, too
    ...*           any number of such operands, none too; these come last

Every line was tried with LiteRT 2.3.0 by tools/probe_litert_kernels.py, in every type and rank; what runs and computes
something else is not listed. Operators of which only presence is known have the form `any* -> any*`.
"""

from __future__ import annotations

from collections.abc import Mapping

# Sets of types that kernels share.
SETS: Mapping[str, str] = {
    "q8": "qi8|qu8",
    "q": "qi8|qu8|qi16",
    "w8": "i8|qi8|u8|qu8",  # bytes that are only moved or compared, whatever they stand for
    "s8": "i8|qi8",
    "w16": "i16|qi16",
    "w4": "i4|qi4",
    "half": "f16|bf16",
    "index": "i32|i64",
    "moved": "f32|f16|bf16|f64|i8|qi8|u8|qu8|i16|qi16|i32|i64|u16|u32|u64|bool|c64",
    "any": "",  # no condition
}

_UNARY = "T=f32 -> T"
_ROUNDING = "T=f32|half -> T"
_CLIP = "T=f32|q -> T"
_BYTES_CLIP = "T=f32|w8 -> T"
_LOG = "T=f32|qi8|qi16 -> T"
_COMPARE = "T=f32|f16|q|i16|i32|i64 T -> bool"
_COMPARE_BF = "T=f32|half|q|i16|i32|i64 T -> bool"
_EXTREME = "T=f32|half|w8|w16|i32|i64 T -> T"
_BITS = "T=w8|w16|i32|u16|u32 T -> T"
_LOGICAL = "T=bool T -> T"
_REDUCE = "T=f32|q|i32|i64 i32 -> T"
_REDUCE_EXTREME = "T=f32|w8|w16|i32|i64 i32 -> T"
_PAD_TYPES = "T=f32|half|w8|w16|i32|i64|bool[0-5]"
_ARG = "f32|w8|i32|bool[1-8] index -> i32|i64"
_POOL = "T=f32|w8|w16[4-4] -> T"
_SEGMENT = "T=f32|i32[1-8] i32 i32 -> T"
_BATCHES = "T=moved[3-4] i32 i32 -> T"
_BLOCKS = "T=f32|w8|i32|i64[4-4] -> T"
_CONVOLUTION = (
    "f32[4-4] f32|qi8|qu8|qi4[4-4] f32? -> f32; qi8[4-4] qi8|qi4[4-4] i32? -> qi8;"
    "qu8[4-4] qu8[4-4] i32? -> qu8; qi16[4-4] qi8[4-4] i32|i64? -> qi16"
)
_RECURRENT = "f32|qi8|qi16 any* -> any*"
_PRESENT = "any* -> any*"
_PARTS = "c64 -> f32; c128 -> f64"
_DRAWN = "i32[1-1] -> f32"

KERNELS: Mapping[str, str] = {
    "ABS": "T=f32|i16|qi16|i32|qi8 -> T",
    "ADD": "T=f32|f16|q|i16|i32|i64 T -> T",
    "ADD_N": "T=f32|i32 T~* -> T",
    "ARG_MAX": _ARG,
    "ARG_MIN": _ARG,
    "ASSIGN_VARIABLE": _PRESENT,
    "ATAN2": "T=f32|half|f64 T~ -> T",
    "AVERAGE_POOL_2D": _POOL,
    "BATCH_MATMUL": "f32[2-5] f32|qi8[2-5] -> f32; T=qi8|qi16[2-5] T[2-5] -> T; qi8[2-5] qi8[2-5] -> i32",
    "BATCH_TO_SPACE_ND": _BATCHES,
    "BIDIRECTIONAL_SEQUENCE_LSTM": _RECURRENT,
    "BIDIRECTIONAL_SEQUENCE_RNN": _RECURRENT,
    "BITCAST": "moved|w4|c128 -> moved|w4|c128",
    "BITWISE_XOR": _BITS,
    "BROADCAST_ARGS": "T=index T -> T",
    "BROADCAST_TO": "T=moved|qi4|c128 index -> T",
    "BUCKETIZE": "f32|f64|i32|i64 -> i32",
    "CALL_ONCE": _PRESENT,
    "CAST": "f32|half|f64|w4|w8|w16|i32|i64|u16|u32|bool|c64 -> f32|half|f64|w4|w8|w16|i32|i64|u16|u32|bool|c64",
    "CEIL": _UNARY,
    "COMPLEX_ABS": _PARTS,
    "CONCATENATION": "T=f32|half|w4|w8|w16|i32|i64|u32|bool[1-8] T* -> T",
    "CONV_2D": _CONVOLUTION,
    "CONV_3D": "f32[5-5] f32[5-5] f32? -> f32",
    "CONV_3D_TRANSPOSE": "i32 f32[5-5] f32[5-5] f32? -> f32",
    "COS": "T=f32|f16 -> T",
    "CUMSUM": "T=f32|i32|i64[1-8] i32 -> T",
    "CUSTOM": _PRESENT,
    "DENSIFY": "T=f32|f16|qi8|i8! -> T",
    "DEPTHWISE_CONV_2D": "f32[4-4] f32|qi8[4-4] f32? -> f32; qi8[4-4] qi8|qi4[4-4] i32? -> qi8;"
    "qu8[4-4] qu8[4-4] i32? -> qu8; qi16[4-4] qi8[4-4] i64? -> qi16",
    "DEPTH_TO_SPACE": _BLOCKS,
    "DEQUANTIZE": "qi4|qi8|qu8|qi16|f16 -> f32",
    "DILATE": "T=moved|qi4|c128[1-8] i32 T -> T",
    "DIV": "T=f32|q|i32 T -> T",
    "DYNAMIC_UPDATE_SLICE": "T=moved|w4|c128 T index -> T",
    "ELU": "T=f32|qi8 -> T",
    "EMBEDDING_LOOKUP": "i32[1-1] f32[2-8] -> f32; i32[1-1] qi8|qi4[2-8] -> f32; i32[1-1] T=qi8|qu8[2-8] -> T",
    "EMBEDDING_LOOKUP_SPARSE": "i32 i32 i32 f32 f32 -> f32",
    "EQUAL": "T=f32|f16|q|i16|i32|i64|bool|str T -> bool",
    "EXP": _LOG,
    "EXPAND_DIMS": "T=any index -> T",
    "FAKE_QUANT": _UNARY,
    "FILL": "index T=moved|str -> T",
    "FLOOR": _ROUNDING,
    "FLOOR_DIV": "T=f32|s8|w16|i32 T -> T",
    "FLOOR_MOD": "T=f32|s8|w16|i32|i64 T -> T",
    "FULLY_CONNECTED": "f32[1-8] f32|qi8|qu8|qi4[2-2] f32? -> f32; qi8[1-8] qi8|qi4[2-2] i32? -> qi8|qi16;"
    "qu8[1-8] qu8[2-2] i32? -> qu8|qi16; qi16[1-8] qi8|qi16|qi4[2-2] i32|i64? -> qi16",
    "GATHER": "T=f32|half|w4|w8|w16|i32|i64|bool[1-8] i16|i32|i64 -> T; str[1-1] i16|i32|i64 -> str",
    "GATHER_ND": "T=f32|half|w8|w16|i32|i64|bool|str[1-8] i16|i32|i64 -> T",
    "GELU": "T=f32|f16|q -> T",
    "GREATER": _COMPARE_BF,
    "GREATER_EQUAL": _COMPARE,
    "HARD_SWISH": "T=f32|q8 -> T",
    "HASHTABLE": "-> res",
    "HASHTABLE_FIND": "res i64|str i64|str -> i64|str",
    "HASHTABLE_IMPORT": "res i64|str i64|str ->",
    "HASHTABLE_LOOKUP": _PRESENT,
    "HASHTABLE_SIZE": "res -> i64",
    "IF": "bool any* -> any*",
    "IMAG": _PARTS,
    "L2_NORMALIZATION": "T=f32|q8[1-8] -> T",
    "L2_POOL_2D": "T=f32[4-4] -> T",
    "LEAKY_RELU": _CLIP,
    "LESS": _COMPARE_BF,
    "LESS_EQUAL": _COMPARE,
    "LOCAL_RESPONSE_NORMALIZATION": "T=f32[4-4] -> T",
    "LOG": _LOG,
    "LOGICAL_AND": _LOGICAL,
    "LOGICAL_NOT": "T=bool -> T",
    "LOGICAL_OR": _LOGICAL,
    "LOGISTIC": "T=f32|half|q -> T",
    "LOG_SOFTMAX": "T=f32|qi8 -> T",
    "LSH_PROJECTION": _PRESENT,
    "LSTM": "f32|qi8|qu8|qi16 any* -> any*",
    "MATRIX_DIAG": "T=f32|w8|w16|i32|i64|u32[1-8] -> T",
    "MATRIX_SET_DIAG": "T=f32|w8|w16|i32|i64|u32[2-8] T -> T",
    "MAXIMUM": _EXTREME,
    "MAX_POOL_2D": _POOL,
    "MEAN": _REDUCE,
    "MINIMUM": _EXTREME,
    "MIRROR_PAD": "T=moved index -> T",
    "MUL": "T=f32|f16|q|i16|i32|i64|u32|c64 T -> T",
    "MULTINOMIAL": "f32[2-2] i32 -> i32|i64",
    "NEG": "T=f32|half|s8|w16|i32|i64 -> T",
    "NON_MAX_SUPPRESSION_V4": "f32 f32 i32 f32 f32 -> i32 i32",
    "NON_MAX_SUPPRESSION_V5": "f32 f32 i32 f32 f32 f32 -> i32 f32 i32",
    "NOT_EQUAL": "T=f32|f16|q8|i32|i64|bool|str T -> bool",
    "ONE_HOT": "index i32 T=f32|w8|i32|i64|bool T -> T",
    "PACK": "T=f32|w8|w16|i32|i64|u32 T* -> T",
    "PAD": f"{_PAD_TYPES} i8|i16|i32|i64|qi8|qi16 -> T",
    "PADV2": f"{_PAD_TYPES} i8|i16|i32|i64|qi8|qi16 T -> T",
    "POW": "T=f32|i32 T -> T",
    "PRELU": "T=f32|q T -> T",
    "QUANTIZE": "f32 -> qi4|qi8|qu8|qi16; qi8|qu8|qi16|i32 -> qi8|qu8|qi16; qi16 -> i32",
    "RANDOM_STANDARD_NORMAL": _DRAWN,
    "RANDOM_UNIFORM": _DRAWN,
    "RANGE": "T=f32|i32|i64[0-0] T[0-0] T[0-0] -> T",
    "RANK": "any -> i32",
    "READ_VARIABLE": _PRESENT,
    "REAL": _PARTS,
    "REDUCE_ALL": "T=bool i32 -> T",
    "REDUCE_ANY": "T=bool i32 -> T",
    "REDUCE_MAX": _REDUCE_EXTREME,
    "REDUCE_MIN": _REDUCE_EXTREME,
    "REDUCE_PROD": "T=f32|i8|qi8|u8|w16|i32|i64 i32 -> T",
    "REDUCE_WINDOW": _PRESENT,
    "RELU": _CLIP,
    "RELU6": _CLIP,
    "RELU_0_TO_1": _BYTES_CLIP,
    "RELU_N1_TO_1": _BYTES_CLIP,
    "RESHAPE": "T=any i32? -> T",
    "RESIZE_BILINEAR": "T=f32|w8|w16[4-4] i32 -> T",
    "RESIZE_NEAREST_NEIGHBOR": "T=f32|half|w8|w16|i32|u16|u32|bool[4-4] i32 -> T",
    "REVERSE_SEQUENCE": "T=f32|u8|qu8|w16|i32|i64[2-8] index -> T",
    "REVERSE_V2": "T=f32|half|w8|w16|i32|i64|bool[1-8] i32 -> T",
    "RFFT2D": "f32[2-8] i32 -> c64",
    "RIGHT_SHIFT": _BITS,
    "RNN": _RECURRENT,
    "ROUND": _ROUNDING,
    "RSQRT": _LOG,
    "SCATTER_ND": "i32 T=f32|w8|i32|i64|bool i32 -> T",
    "SEGMENT_SUM": "T=f32|i32[1-8] i32 -> T",
    "SELECT": "bool T=moved T -> T",
    "SELECT_V2": "bool T=moved T -> T",
    "SHAPE": "any -> index",
    "SIGN": "T=f32|f64|i32 -> T",
    "SIN": "T=f32|f16 -> T",
    "SKIP_GRAM": "str -> str",
    "SLICE": "T=moved|w4|str index index -> T",
    "SOFTMAX": "T=f32|f16|q[1-8] -> T; q8[1-8] -> qi16",
    "SPACE_TO_BATCH_ND": _BATCHES,
    "SPACE_TO_DEPTH": _BLOCKS,
    "SPARSE_TO_DENSE": "index index T=f32|w8|i32|i64 T -> T",
    "SPLIT": "i32 T=f32|w8|w16|i32|i64[1-8] -> T*",
    "SPLIT_V": "T=f32|w8|w16|i32|i64[1-8] index i32 -> T*",
    "SQRT": _LOG,
    "SQUARE": _UNARY,
    "SQUARED_DIFFERENCE": "T=f32|qi8|i32 T -> T",
    "SQUEEZE": "T=any -> T",
    "STABLEHLO_ADD": _PRESENT,
    "STABLEHLO_AND": _PRESENT,
    "STABLEHLO_CASE": _PRESENT,
    "STABLEHLO_CBRT": _PRESENT,
    "STABLEHLO_COMPOSITE": _PRESENT,
    "STABLEHLO_GATHER": _PRESENT,
    "STABLEHLO_MAXIMUM": _PRESENT,
    "STABLEHLO_MINIMUM": _PRESENT,
    "STABLEHLO_MULTIPLY": _PRESENT,
    "STABLEHLO_PAD": _PRESENT,
    "STABLEHLO_REDUCE_WINDOW": _PRESENT,
    "STABLEHLO_RNG_BIT_GENERATOR": _PRESENT,
    "STABLEHLO_SCATTER": _PRESENT,
    "STABLEHLO_SHIFT_LEFT": _PRESENT,
    "STRIDED_SLICE": "T=moved|str i32 i32 i32 -> T",
    "SUB": "T=f32|q|i32|i64 T -> T",
    "SUM": _REDUCE,
    "SVDF": _RECURRENT,
    "TANH": "T=f32|half|q -> T",
    "TILE": "T=moved|str index -> T",
    "TOPK_V2": "T=f32|w8|w16|i32|i64[1-8] i32|i16 -> T i32|i16",
    "TRANSPOSE": "T=moved|w4[1-8] i32 -> T",
    "TRANSPOSE_CONV": "i32 f32|qi8[4-4] f32[4-4] f32? -> f32; i32 qi8[4-4] qi8[4-4] i32? -> qi8;"
    "i32 qu8[4-4] qu8[4-4] i32? -> qu8; i32 qi8[4-4] qi16[4-4] i32|i64? -> qi16",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _RECURRENT,
    "UNIDIRECTIONAL_SEQUENCE_RNN": _RECURRENT,
    "UNIQUE": "T=f32|w8|w16|i32|i64[1-1] -> T index",
    "UNPACK": "T=f32|half|w8|w16|i32|bool[1-8] -> T*",
    "UNSORTED_SEGMENT_MAX": _SEGMENT,
    "UNSORTED_SEGMENT_MIN": _SEGMENT,
    "UNSORTED_SEGMENT_PROD": _SEGMENT,
    "UNSORTED_SEGMENT_SUM": _SEGMENT,
    "VAR_HANDLE": "-> res",
    "WHERE": "f32|w8|i32|i64|u32|bool[1-8] -> i64",
    "WHILE": _PRESENT,
    "ZEROS_LIKE": "T=f32|i32|i64 -> T",
}  # fmt: skip

ACTIVATIONS = frozenset({b"NONE", b"RELU", b"RELU_N1_TO_1", b"RELU6"})
"""Activations that kernels compute within themselves; recurrent ones have more."""
RECURRENT = frozenset(name for name, text in KERNELS.items() if text == _RECURRENT) | {"LSTM"}
