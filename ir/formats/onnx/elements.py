"""Element types by ONNX's numbers, names of nodes' operators, and what both directions share."""

from __future__ import annotations

from collections.abc import Mapping

from graphopt.ir.types import DTYPES, DType

INPUT, INITIALIZER = "onnx.Input", "onnx.Initializer"
DOMAINS = "opsets"  # key in Model.metadata: domain -> version, the default domain as ""
IR_VERSION = "ir_version"
PRODUCER = "producer"
DEFAULT_OPSET, DEFAULT_IR_VERSION = 21, 10

NUMBERS: Mapping[DType, int] = {
    DTYPES[name]: number
    for name, number in {
        "float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "string": 8, "bool": 9,
        "float16": 10, "float64": 11, "uint32": 12, "uint64": 13, "complex64": 14, "complex128": 15, "bfloat16": 16,
        "float8_e4m3fn": 17, "float8_e4m3fnuz": 18, "float8_e5m2": 19, "float8_e5m2fnuz": 20, "uint4": 21, "int4": 22,
        "float4_e2m1fn": 23,
    }.items()
}  # fmt: skip
BY_NUMBER: Mapping[int, DType] = {number: dtype for dtype, number in NUMBERS.items()}
BODIES = ("then_branch", "else_branch", "body")  # attributes that hold graphs


def operator(domain: str, op_type: str) -> str:
    """The operator's name in the IR."""
    return f"{domain or 'onnx'}.{op_type}"


def domain_of(op: str) -> tuple[str, str]:
    """Domain (empty for ONNX's own) and type of an operator."""
    domain, _, op_type = op.rpartition(".")
    return ("" if domain in ("onnx", "ai.onnx") else domain), op_type
