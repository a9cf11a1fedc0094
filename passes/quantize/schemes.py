"""Schemes of quantization: how integers of a type stand for real numbers in LiteRT's kernels.

The source is LiteRT's quantization specification: weights are symmetric and leave out the smallest integer, so that
products of two of them cannot overflow; int8 activations are asymmetric; int16 activations are symmetric.
"""

from __future__ import annotations

from typing import NamedTuple

from graphopt.ir.types import INT8, INT16, INT32, INT64, UINT8, DType, dtype_named


class Scheme(NamedTuple):
    """An integer type, whether its zero point is fixed, and whether it leaves out the smallest integer (`narrow`)."""

    dtype: DType
    symmetric: bool
    narrow: bool

    @property
    def lowest(self) -> int:
        """The smallest integer used."""
        smallest = 0 if self.dtype.kind == "uint" else -(1 << (self.dtype.bits - 1))
        return smallest + self.narrow

    @property
    def highest(self) -> int:
        """The largest integer used."""
        return (1 << self.dtype.bits) - 1 if self.dtype.kind == "uint" else (1 << (self.dtype.bits - 1)) - 1

    @property
    def middle(self) -> int:
        """The zero point of a symmetric scheme."""
        return 1 << (self.dtype.bits - 1) if self.dtype.kind == "uint" else 0


INT8_ACTIVATION = Scheme(INT8, symmetric=False, narrow=False)
UINT8_ACTIVATION = Scheme(UINT8, symmetric=False, narrow=False)
INT16_ACTIVATION = Scheme(INT16, symmetric=True, narrow=False)
INT8_WEIGHT = Scheme(INT8, symmetric=True, narrow=True)
INT4_WEIGHT = Scheme(dtype_named("int4"), symmetric=True, narrow=True)
UINT8_WEIGHT = Scheme(UINT8, symmetric=False, narrow=True)
"""Weights of models of before 2019, and of quantization-aware training for them."""
INT32_BIAS = Scheme(INT32, symmetric=True, narrow=True)
INT64_BIAS = Scheme(INT64, symmetric=True, narrow=True)
