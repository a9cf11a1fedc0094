"""Short names of element types, as the tables of TFLite's kernels write them."""

from __future__ import annotations

from collections.abc import Mapping

NAMES: Mapping[str, str] = {
    "f32": "float32", "f16": "float16", "bf16": "bfloat16", "f64": "float64", "i2": "int2", "i4": "int4", "i8": "int8",
    "i16": "int16", "i32": "int32", "i64": "int64", "u4": "uint4", "u8": "uint8", "u16": "uint16", "u32": "uint32",
    "u64": "uint64", "bool": "bool", "str": "string", "c64": "complex64", "c128": "complex128", "res": "resource",
    "var": "variant",
}  # fmt: skip
"""Short name -> the type's name in the IR."""
