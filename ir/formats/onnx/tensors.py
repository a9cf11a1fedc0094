"""TensorProto: elements as raw data, in typed fields, or in a file beside the model."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping as Names
from typing import Any

import numpy as np

from graphopt.ir.errors import MalformedError, printable
from graphopt.ir.formats import wire
from graphopt.ir.formats.confinement import map_inside
from graphopt.ir.formats.onnx.elements import BY_NUMBER
from graphopt.ir.tensors import ArrayTensor, FileTensor, Mapping, PackedTensor, Tensor
from graphopt.ir.types import STRING, UINT8, DType

Span = tuple[int, int]
FLOATS, INTS, STRINGS, LONGS, RAW, DOUBLES, WORDS, OUTSIDE = 4, 5, 6, 7, 9, 10, 11, 13
_VARINTS = (INTS, LONGS, WORDS)


class TensorReader:
    """Reads the tensors of one file, and of those beside it that it names."""

    def __init__(self, mapping: Mapping):
        self.mapping, self.buffer = mapping, mapping.buffer
        self._files: dict[str, Mapping] = {}

    def read(self, start: int, end: int) -> tuple[str, Tensor]:
        """Name and contents. Raises `MalformedError` where these do not fit type and shape."""
        dims: list[int] = []
        name, number, is_outside = "", 0, False
        spans: dict[int, list[tuple[int, int, int]]] = {}
        for tag, value, stop in wire.fields(self.buffer, start, end):
            field = tag >> 3
            if field == 1:
                dims += self._integers(tag, value, stop)
            elif tag == 2 << 3:
                number = value
            elif tag == (8 << 3 | wire.BYTES):
                name = wire.text(self.buffer, value, stop, "TensorProto.name")
            elif tag == 14 << 3:
                is_outside = value == 1
            else:
                spans.setdefault(field, []).append((tag, value, stop))
        dtype = BY_NUMBER.get(number)
        if dtype is None or any(dim < 0 for dim in dims):
            raise MalformedError(f"element type {number} or shape {dims} is none of ONNX's", node=name)
        try:
            return name, self._contents(dtype, tuple(dims), spans, is_outside)
        except MalformedError as error:
            raise MalformedError(error.reason, node=name, field="TensorProto", source=error.source) from None

    def _contents(
        self, dtype: DType, shape: tuple[int, ...], spans: dict[int, list[tuple[int, int, int]]], is_outside: bool
    ) -> Tensor:
        size = 1
        for dim in shape:
            size *= dim
        if is_outside:
            return self._outside(dtype, shape, size, spans.get(OUTSIDE, []))
        if RAW in spans:
            _, start, stop = spans[RAW][-1]
            return _mapped(self.mapping, start, stop - start, dtype, shape, size)
        if dtype is STRING:
            items = [bytes(self.buffer[value:stop]) for _, value, stop in spans.get(STRINGS, ())]
            _check(len(items), size)
            array = np.empty(size, object)
            array[:] = items
            return ArrayTensor(array.reshape(shape), dtype)
        return self._typed(dtype, shape, size, spans)

    def _typed(
        self, dtype: DType, shape: tuple[int, ...], size: int, spans: dict[int, list[tuple[int, int, int]]]
    ) -> Tensor:
        """Elements in a field of their own kind: int32_data holds all small types, halves as their bits."""
        for field, kind in ((FLOATS, "<f4"), (DOUBLES, "<f8")):
            if field in spans:
                data = b"".join(bytes(self.buffer[value:stop]) for _, value, stop in spans[field])
                array = np.frombuffer(data, kind)
                _check(array.size, size)
                return ArrayTensor(array.astype(dtype.numpy, copy=False).reshape(shape), dtype)
        numbers = [n for field in _VARINTS for tag, value, stop in spans.get(field, ()) for n in
                   self._integers(tag, value, stop)]  # fmt: skip
        if dtype.bits < 8:
            _check(len(numbers), -(-size * dtype.bits // 8))
            return PackedTensor(np.array([n & 255 for n in numbers], np.uint8), dtype, shape)
        _check(len(numbers), size)
        if dtype.is_float and dtype.bits <= 16:
            bits = np.array(numbers, np.int64).astype(np.uint16 if dtype.bits == 16 else np.uint8)
            return ArrayTensor(bits.view(dtype.numpy or np.uint8).reshape(shape), dtype)
        return ArrayTensor(np.array(numbers, np.int64).astype(dtype.numpy).reshape(shape), dtype)

    def _integers(self, tag: int, value: int, stop: int) -> list[int]:
        """One integer, or a packed run of them."""
        if tag & 7 == wire.VARINT:
            return [wire.signed(value)]
        numbers, place = [], value
        while place < stop:
            number, place = wire.read_varint(self.buffer, place, stop)
            numbers.append(wire.signed(number))
        return numbers

    def _outside(self, dtype: DType, shape: tuple[int, ...], size: int, entries: list[tuple[int, int, int]]) -> Tensor:
        place = dict(self._entry(value, stop) for _, value, stop in entries)
        location = place.get("location", "")
        if location not in self._files:
            self._files[location] = map_inside(os.path.dirname(self.mapping.path) or ".", location)
        mapping = self._files[location]
        offset = _number(place, "offset", 0)
        length = _number(place, "length", len(mapping) - offset)
        if offset + length > len(mapping):
            raise MalformedError(
                f"bytes {offset} to {offset + length} of '{printable(location)}' are wanted, which has {len(mapping)}"
            )
        return _mapped(mapping, offset, length, dtype, shape, size)

    def _entry(self, start: int, end: int) -> tuple[str, str]:
        texts = {1: "", 2: ""}
        for tag, value, stop in wire.fields(self.buffer, start, end):
            if tag & 7 == wire.BYTES and tag >> 3 in texts:
                texts[tag >> 3] = wire.text(self.buffer, value, stop, "StringStringEntryProto")
        return texts[1], texts[2]


def read_floats(buffer: Any, start: int, stop: int) -> tuple[float, ...]:
    """A packed run of floats."""
    if (stop - start) % 4:
        raise MalformedError("a list of floats ends within one", offset=start)
    return struct.unpack(f"<{(stop - start) // 4}f", bytes(buffer[start:stop]))


def _mapped(mapping: Mapping, offset: int, length: int, dtype: DType, shape: tuple[int, ...], size: int) -> Tensor:
    needed = -(-size * dtype.bits // 8) if dtype.bits else -1
    if length != needed:
        raise MalformedError(f"{length} bytes of data, where {dtype.name}{list(shape)} has {max(needed, 0)}")
    if dtype.bits < 8:
        return PackedTensor(FileTensor(mapping, offset, UINT8, (length,)), dtype, shape)
    return FileTensor(mapping, offset, dtype, shape)


def _number(place: Names[str, str], key: str, default: int) -> int:
    text = place.get(key, "")
    if not text:
        return default
    if not text.isdecimal() or len(text) > 18:
        raise MalformedError(f"{key} '{printable(text)}' is no number")
    return int(text)


def _check(found: int, wanted: int) -> None:
    if found != wanted:
        raise MalformedError(f"{found} elements, where the shape has {wanted}")
