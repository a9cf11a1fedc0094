"""Attribute values to AttrValue, tensors to TensorProto.

Encodings are lists of pieces, bytes or memory views, so that large tensors are written from where they lie.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphopt.ir.attributes import AttributePlaceholder, FunctionRef, SingleFloat
from graphopt.ir.errors import UnsupportedError, printable
from graphopt.ir.formats import wire
from graphopt.ir.formats.shape_proto import encode_shape
from graphopt.ir.formats.tensor_proto import ProtoTensor
from graphopt.ir.formats.tensor_values import FLOAT8, LISTS, list_number
from graphopt.ir.tensors import FileTensor, RepeatedTensor, Tensor
from graphopt.ir.types import STRING, DType, Shape

Piece = bytes | memoryview
_SINGLE = struct.Struct("<f")


def encode_entries(number: int, attrs: Mapping[str, Any]) -> list[Piece]:
    """`attrs` as map entries in field `number`, sorted by name."""
    encoded: list[Piece] = []
    for key in sorted(attrs):
        encoded += encode_entry(number, key, attrs[key])
    return encoded


def encode_entry(number: int, key: str, value: Any) -> list[Piece]:
    """One map entry in field `number`."""
    try:
        pieces = message(2, encode_value(value))
    except TypeError as error:
        raise UnsupportedError(f"attribute '{printable(key)}' cannot be written: {error}") from None
    return message(number, [wire.tagged(1, key.encode()), *pieces])


def message(number: int, pieces: Sequence[Piece]) -> list[Piece]:
    """Field `number` whose content is `pieces`."""
    size = sum(map(len, pieces))
    return [wire.varint(number << 3 | wire.BYTES) + wire.varint(size), *pieces]


def encode_value(value: Any) -> list[Piece]:
    """An AttrValue. Raises `TypeError` for what is no attribute value."""
    if value is None:
        return []
    if isinstance(value, Tensor):
        return message(8, encode_tensor(value))
    if isinstance(value, FunctionRef):
        return message(10, _function(value))
    if isinstance(value, AttributePlaceholder):
        return [wire.tagged(9, value.name.encode())]
    if isinstance(value, tuple):
        return message(1, _list(value))
    return [_scalar(value)]


def _scalar(value: Any) -> bytes:
    if isinstance(value, bool):
        return b"\x28\x01" if value else b"\x28\x00"
    if isinstance(value, (int, np.integer)):
        if not -(1 << 63) <= value < 1 << 63:
            raise TypeError(f"{value} does not fit into 64 bits")
        return b"\x18" + wire.varint(int(value))
    if isinstance(value, (float, np.floating)):
        return b"\x25" + float_bits(value)
    if isinstance(value, bytes):
        return wire.tagged(2, value)
    if isinstance(value, str):
        return wire.tagged(2, value.encode())
    if isinstance(value, DType):
        return b"\x30" + wire.varint(value.code)
    if isinstance(value, Shape):
        return wire.tagged(7, encode_shape(value))
    raise TypeError(f"{type(value).__name__} is no attribute value")


def float_bits(value: Any) -> bytes:
    """Four bytes of a float attribute: the very ones it was read with, where it keeps them."""
    if isinstance(value, SingleFloat):
        return value.bits
    try:
        return _SINGLE.pack(value)
    except OverflowError:
        return _SINGLE.pack(float("inf") if value > 0 else float("-inf"))


def _list(values: tuple[Any, ...]) -> list[Piece]:
    if not values:
        return []
    first = values[0]
    if isinstance(first, Tensor):
        return [piece for value in values for piece in message(8, encode_tensor(value))]
    if isinstance(first, FunctionRef):
        return [piece for value in values for piece in message(9, _function(value))]
    if isinstance(first, (bytes, str)):
        texts = [value.encode() if isinstance(value, str) else value for value in values]
        return [b"".join(wire.tagged(2, value) for value in texts)]
    if isinstance(first, Shape):
        return [b"".join(wire.tagged(7, encode_shape(value)) for value in values)]
    if isinstance(first, DType):
        return [wire.tagged(6, b"".join(wire.varint(value.code) for value in values))]
    if isinstance(first, bool):
        return [wire.tagged(5, bytes(values))]
    if isinstance(first, (int, np.integer)) and not any(isinstance(value, float) for value in values):
        return [wire.tagged(3, b"".join(wire.varint(int(value)) for value in values))]
    if isinstance(first, (int, float, np.integer, np.floating)):
        return [wire.tagged(4, b"".join(float_bits(value) for value in values))]
    raise TypeError(f"{type(first).__name__} is no element of a list attribute")


def _function(value: FunctionRef) -> list[Piece]:
    name = [wire.tagged(1, value.name.encode())] if value.name else []
    return [*name, *encode_entries(2, value.attrs)]


# Tensors ------------------------------------------------------------------------------------------------------


def encode_tensor(tensor: Tensor) -> list[Piece]:
    """A TensorProto: what was read is written as it was, repeated values as a list, others as `tensor_content`."""
    if isinstance(tensor, ProtoTensor):
        return [tensor.raw()]
    header = wire.tagged_number(1, tensor.dtype.code) + wire.tagged(2, encode_shape(Shape(tensor.shape)))
    if tensor.size == 0:
        return [header]
    if isinstance(tensor, RepeatedTensor):
        return [header, *encode_list(tensor.leading, tensor.dtype)]
    if isinstance(tensor, FileTensor):
        return [header, *message(4, [tensor.data()])]
    array = tensor.numpy()
    if array.ndim and array.size > 1 and not any(array.strides):
        array = array.reshape(-1)[:1] if array.size == 1 else array[(slice(0, 1),) * array.ndim]
        return [header, *encode_list(array.reshape(-1), tensor.dtype)]
    if tensor.dtype is STRING:
        return [header, *encode_list(array.reshape(-1), tensor.dtype)]
    return [header, *message(4, [array_bytes(array)])]


def array_bytes(array: np.ndarray[Any, Any]) -> memoryview:
    """The array's bytes, little-endian; not copied where they already lie like that."""
    if array.dtype.byteorder == ">" or (sys.byteorder == "big" and array.dtype.byteorder in "=|"):
        array = array.astype(array.dtype.newbyteorder("<"))
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def encode_list(values: np.ndarray[Any, Any], dtype: DType) -> list[Piece]:
    """A flat array as the typed list of `dtype`."""
    number = list_number(dtype)
    if dtype is STRING:
        return [b"".join(wire.tagged(number, bytes(item)) for item in values)]
    row = LISTS[number]
    if number == FLOAT8 or row.wire_type in (wire.FIXED32, wire.FIXED64):
        return message(number, [array_bytes(values)])
    if number == 13:
        values = values.view(np.uint16)
    elif dtype.bits < 8:
        values = values.astype(np.int8)
    return [wire.tagged(number, b"".join(wire.varint(int(item)) for item in values))]
