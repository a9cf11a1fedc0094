"""What a delegate, the part of a runtime that computes most of a model fast, takes with integers and with floats.

LiteRT on a CPU hands XNNPACK what it takes and computes the rest by kernels of its own, slower ones, and every change
from one to the other costs time. Facts: each operator was tried alone with LiteRT 2.3.0 by tools/probe_delegate.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from graphopt.ir.known import known_tensor
from graphopt.ir.value import Node


def _ops(names: str) -> frozenset[str]:
    return frozenset(f"tfl.{name}" for name in names.split())


class Delegate(NamedTuple):
    """`integers` are the operators it takes with int8 activations, `floats` those with floats, `hybrid` those with
    int8 weights beside float activations."""

    name: str
    integers: frozenset[str]
    floats: frozenset[str]
    hybrid: frozenset[str]

    def leaves(self, node: Node) -> bool:
        """It takes the operator with floats, and does not with int8."""
        if node.op not in self.floats:
            return False
        if node.op == "tfl.BATCH_MATMUL":
            return known_tensor(node.inputs[1]) is None
        return node.op not in self.integers and node.op not in CLAMPS

    def leaves_hybrid(self, node: Node) -> bool:
        """It takes the operator with floats, and does not with int8 weights alone."""
        return node.op in self.floats and node.op not in self.hybrid


CLAMPS: Mapping[str, float] = {"tfl.RELU": float("inf"), "tfl.RELU6": 6.0}
"""Operators that cut off at zero and at most: in int8 that is requantization to a range that begins and ends there."""
_BOTH = (
    "ADD BATCH_MATMUL CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE ELU FULLY_CONNECTED LEAKY_RELU "
    "LOGISTIC MAX_POOL_2D MEAN MUL PAD QUANTIZE REDUCE_MAX REDUCE_MIN RESHAPE RESIZE_BILINEAR SLICE SPACE_TO_DEPTH "
    "SPLIT STRIDED_SLICE SUB SUM TANH TRANSPOSE TRANSPOSE_CONV"
)
_FLOATS = (
    "ABS AVERAGE_POOL_2D DIV EXP GELU HARD_SWISH LOG MAXIMUM MINIMUM NEG PRELU RELU RELU6 RELU_N1_TO_1 RSQRT SOFTMAX "
    "SQRT SQUARE SQUARED_DIFFERENCE"
)
XNNPACK = Delegate("XNNPACK", _ops(_BOTH), _ops(f"{_BOTH} {_FLOATS}"), _ops("BATCH_MATMUL CONV_2D FULLY_CONNECTED"))
DELEGATES: Mapping[str, Delegate] = {"xnnpack": XNNPACK}
