"""AttrValue and the maps from names to it: protobuf bytes to the Python values of `attributes.py`.

Equal small entries of one file are decoded once and shared, so values must be taken as immutable, which they are.
"""

from __future__ import annotations

import math
import struct
from typing import Any

from graphopt.ir.attributes import AttributePlaceholder, FunctionRef, SingleFloat
from graphopt.ir.errors import MalformedError, ResourceError
from graphopt.ir.formats import wire
from graphopt.ir.formats.shape_proto import read_shape
from graphopt.ir.formats.tensor_proto import TensorReader
from graphopt.ir.tensors import Mapping, Tensor
from graphopt.ir.types import DTYPES_BY_CODE, UNKNOWN_DTYPE, DType

_FIELDS = {
    1: "list",
    2: "s",
    3: "i",
    4: "f",
    5: "b",
    6: "type",
    7: "shape",
    8: "tensor",
    9: "placeholder",
    10: "func",
}
_LIST_FIELDS = {2: "s", 3: "i", 4: "f", 5: "b", 6: "type", 7: "shape", 8: "tensor", 9: "func"}
_ENTRY_FIELDS = {1: "key", 2: "value"}
_FUNC_FIELDS = {1: "name", 2: "attr"}
_CONTINUED = bytes(range(0x80, 0x100))  # octets that do not end a varint
_SINGLE = struct.Struct("<f")
SHARED_BYTES = 256  # entries up to this size are remembered
SHARED_COUNT = 1 << 14  # at a time
_VALUE_DEPTH = 4  # GraphDef, NodeDef, map entry, AttrValue


class ItemBudget:
    """Bounds what a small file may claim: outputs of nodes, elements of lists, functions, unknown fields."""

    __slots__ = ("left",)

    def __init__(self, file_size: int):
        self.left = (1 << 18) + file_size // 16

    def take(self, count: int) -> None:
        """Claim `count` items. Raises `ResourceError` when there are no more."""
        self.left -= count
        if self.left < 0:
            raise ResourceError(
                "the file claims more outputs, list elements or unknown fields than one of its size can use"
            )


class AttributeReader:
    """Decodes the attributes of one mapped file."""

    __slots__ = ("_entries", "budget", "buffer", "mapping", "tensors")

    def __init__(self, mapping: Mapping):
        self.mapping, self.buffer = mapping, mapping.buffer
        self.tensors = TensorReader(mapping)
        self.budget = ItemBudget(len(mapping))
        self._entries: dict[bytes, tuple[str, Any]] = {}

    def entry(self, start: int, stop: int, depth: int = _VALUE_DEPTH) -> tuple[str, Any]:
        """One map entry, as (name, value)."""
        if stop - start > SHARED_BYTES:
            return self._entry(start, stop, depth)
        raw = self.buffer[start:stop]
        found = self._entries.get(raw)
        if found is None:
            found = self._entry(start, stop, depth)
            # Depth is a property of the place, not of the bytes: what nests is checked each time.
            if is_shareable(found[1]):
                if len(self._entries) >= SHARED_COUNT:
                    self._entries.clear()
                self._entries[raw] = found
        return found

    def _entry(self, start: int, stop: int, depth: int) -> tuple[str, Any]:
        key: str | None = None
        span: tuple[int, int] | None = None
        for tag, value, end in wire.fields(self.buffer, start, stop):
            if tag == 0x0A and key is None:
                key = wire.text(self.buffer, value, end, "attr")
            elif tag == 0x12 and span is None:
                span = (value, end)
            else:
                _refuse(tag, (0x0A, 0x12), _ENTRY_FIELDS, "an attribute", start)
        if not key:
            raise MalformedError("an attribute has no name", field="attr", offset=start)
        if span is None:
            return key, None
        try:
            return key, self.value(*span, depth, key.startswith("_"))
        except MalformedError as error:
            raise error if error.field.startswith("attr") else within(error, f"attr['{key}']") from None

    def value(self, start: int, stop: int, depth: int = _VALUE_DEPTH, is_remark: bool = False) -> Any:
        """One AttrValue, or one that TensorFlow only remarks and never checks (`is_remark`).

        Raises `MalformedError` where it holds two values, or none that is known.
        """
        if depth > wire.DEPTH_LIMIT:
            raise MalformedError(f"more than {wire.DEPTH_LIMIT} messages are nested", offset=start)
        if start == stop:
            return None
        items = wire.fields(self.buffer, start, stop)
        tag, value, end = next(items)
        if end != stop:
            other = next(items)[0] >> 3
            names = " and ".join(_FIELDS.get(n, str(n)) for n in (tag >> 3, other))
            raise MalformedError(f"the value is given twice, as {names}", offset=start)
        if tag == 0x30:
            return read_dtype(value, start)
        if tag == 0x18:
            return wire.signed(value)
        if tag == 0x28:
            return value != 0
        if tag == 0x12:
            return bytes(self.buffer[value:end])
        if tag == 0x25:
            return read_float(self.buffer[value:end])
        if tag == 0x3A:
            return read_shape(self.buffer, value, end, is_remark=is_remark)
        if tag == 0x42:
            return self.tensors.read(value, end)
        if tag == 0x0A:
            return self._list(value, end, depth + 1, is_remark)
        if tag == 0x52:
            return self._function(value, end, depth + 1)
        if tag == 0x4A:
            return AttributePlaceholder(wire.text(self.buffer, value, end, "placeholder"))
        wire.unexpected(tag, _FIELDS, start)
        raise MalformedError(f"an attribute value has no field {tag >> 3}", offset=start)

    def _list(self, start: int, stop: int, depth: int, is_remark: bool) -> tuple[Any, ...]:
        buffer, number = self.buffer, 0
        items: list[Any] = []
        for tag, value, end in wire.fields(buffer, start, stop):
            if number and tag >> 3 != number:
                raise MalformedError("a list holds values of two kinds", field="list", offset=start)
            number = tag >> 3
            if tag in (0x12, 0x3A, 0x42, 0x4A):
                self.budget.take(1)
            if tag == 0x12:
                items.append(bytes(buffer[value:end]))
            elif tag == 0x3A:
                items.append(read_shape(buffer, value, end, is_remark=is_remark))
            elif tag == 0x42:
                items.append(self.tensors.read(value, end))
            elif tag == 0x4A:
                items.append(self._function(value, end, depth + 1))
            else:
                items.extend(self._numbers(tag, value, end))
        return tuple(items)

    def _numbers(self, tag: int, value: int, end: int) -> list[Any]:
        """Elements of a list of i, f, b or type, in one packed field or in one of their own."""
        number, wire_type = tag >> 3, tag & 7
        raw: list[Any]
        if number == 4 and wire_type in (wire.BYTES, wire.FIXED32):
            if (end - value) % 4:
                raise MalformedError("a packed list is cut", field="list.f", offset=value)
            self.budget.take(max(1, (end - value) // 16))
            return [read_float(self.buffer[place : place + 4]) for place in range(value, end, 4)]
        if number not in (3, 5, 6) or wire_type not in (wire.VARINT, wire.BYTES):
            wire.unexpected(tag, _LIST_FIELDS, end)
            raise MalformedError(f"a list has no field {number}", field="list", offset=end)
        if wire_type == wire.VARINT:
            self.budget.take(1)
            raw = [value]
        else:
            self.budget.take(len(self.buffer[value:end].translate(None, _CONTINUED)) // 4)
            raw, place = [], value
            while place < end:
                item, place = wire.read_varint(self.buffer, place, end)
                raw.append(item)
        if number == 3:
            return [wire.signed(item) for item in raw]
        return [item != 0 for item in raw] if number == 5 else [read_dtype(item, end) for item in raw]

    def _function(self, start: int, stop: int, depth: int) -> FunctionRef:
        name = ""
        attrs: dict[str, Any] = {}
        for tag, value, end in wire.fields(self.buffer, start, stop):
            if tag == 0x0A and not name:
                name = wire.text(self.buffer, value, end, "func")
            elif tag == 0x12:
                key, item = self.entry(value, end, depth + 2)
                if key in attrs:
                    raise MalformedError("is given twice", field=f"attr['{key}']", offset=value)
                attrs[key] = item
            else:
                _refuse(tag, (0x0A,), _FUNC_FIELDS, "a function reference", start)
        return FunctionRef(name, attrs)


def read_dtype(code: int, offset: int) -> DType:
    """The element type with TensorFlow's number `code`. Raises `MalformedError` for one that no type has."""
    found = DTYPES_BY_CODE.get(code)
    if found is None:
        if code:
            raise MalformedError(f"no element type has the number {wire.signed(code)}", field="type", offset=offset)
        return UNKNOWN_DTYPE
    return found


def read_float(raw: bytes) -> float:
    """Four bytes as a number that writes back as the same four bytes."""
    value: float = _SINGLE.unpack(raw)[0]
    return SingleFloat(value, bytes(raw)) if math.isnan(value) else value


def is_shareable(value: Any) -> bool:
    """Neither a tensor nor anything that nests, so that equal bytes always mean this value."""
    if type(value) is tuple:
        return not value or not isinstance(value[0], (Tensor, FunctionRef))
    if isinstance(value, FunctionRef):
        return not value.attrs
    return not isinstance(value, Tensor)


def within(error: MalformedError, field: str) -> MalformedError:
    """The same error, placed within `field`."""
    inner = f"{field}.{error.field}" if error.field else field
    return type(error)(error.reason, source=error.source, node=error.node, field=inner, offset=error.offset)


def _refuse(tag: int, once: tuple[int, ...], known: dict[int, str], what: str, offset: int) -> None:
    """Raise for a field that is given twice, has the wrong wire type, or is unknown."""
    if tag in once:
        raise MalformedError(f"'{known[tag >> 3]}' of {what} is given twice", offset=offset)
    wire.unexpected(tag, known, offset)
    raise MalformedError(f"{what} has no field {tag >> 3}", offset=offset)
