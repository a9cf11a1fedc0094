"""Element types: TFLite's numbers and the IR's types."""

from __future__ import annotations

from collections.abc import Mapping

from graphopt.ir.errors import UnsupportedError
from graphopt.ir.formats.tflite.schema import numbers
from graphopt.ir.types import DTYPES, UNKNOWN_DTYPE, DType, dereferenced


def _types() -> dict[int, DType]:
    return {number: DTYPES[name.lower()] for name, number in numbers("TensorType").items()}


BY_NUMBER: Mapping[int, DType] = _types()
NUMBERS: Mapping[DType, int] = {dtype: number for number, dtype in BY_NUMBER.items()}
# TensorFlow's types for integers that stand for reals, which TFLite stores as plain integers.
_STORED = {"qint8": "int8", "quint8": "uint8", "qint16": "int16", "quint16": "uint16", "qint32": "int32"}


def dtype_numbered(number: int) -> DType:
    """The type that TFLite's `number` means; the unknown type for a number the schema does not have."""
    return BY_NUMBER.get(number, UNKNOWN_DTYPE)


def number_of(dtype: DType) -> int:
    """TFLite's number for `dtype`. Raises `UnsupportedError` where it has none."""
    plain = dereferenced(dtype)
    number = NUMBERS.get(DTYPES[_STORED.get(plain.name, plain.name)])
    if number is None:
        raise UnsupportedError(f"TFLite has no tensors of type {dtype.name}")
    return number
