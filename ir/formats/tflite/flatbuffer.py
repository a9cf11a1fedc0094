"""FlatBuffers decoded by a schema, every offset checked before it is followed.

A table becomes a dict with every scalar of the schema in it (defaults filled in) and, of strings, vectors and tables,
those that are present. Bytes are views of the input, long vectors of numbers read-only arrays upon it; nothing else
grows beyond a fixed multiple of the input, whatever the offsets say.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from graphopt.ir.errors import MalformedError, ResourceError
from graphopt.ir.formats.tflite.schema import Field, Table, table, union_member

SHORT = 256  # elements up to which a vector of numbers becomes a tuple
_TABLE_COST, _ELEMENT_COST = 64, 1
ALIGNMENT = 4  # of all but bytes and halves; that of 8-byte numbers is not kept by every writer there is
_ALLOWANCE = (8, 1 << 20)  # what may be decoded: so many times the input, and so much besides
_UINT = struct.Struct("<I")
_PAIR = struct.Struct("<HH")

Decoded = dict[str, Any]
_Plan = tuple[Decoded, list[tuple[Field, int]], int]


class Decoder:
    """Decodes tables of one FlatBuffer. `unknown` collects what the schema does not have and the data do."""

    __slots__ = ("_base", "_budget", "_plans", "data", "size", "unknown")

    def __init__(self, data: memoryview):
        self.data, self.size = data, len(data)
        self._base = _address(data)
        self._plans: dict[tuple[str, int], _Plan] = {}
        self._budget = _ALLOWANCE[0] * self.size + _ALLOWANCE[1]
        self.unknown: dict[str, None] = {}

    def root(self, name: str) -> Decoded:
        """The root table. Raises `MalformedError`."""
        if self.size < 8:
            raise MalformedError("the file ends within its first eight bytes", field=name)
        return self.table(table(name), self._target(0, name))

    def offset_of(self, view: memoryview) -> int:
        """Where in the input the bytes begin that `view`, which is part of it, shows."""
        return _address(view) - self._base

    def table(self, schema: Table, position: int) -> Decoded:
        """The table at `position`. Raises `MalformedError` naming the field."""
        template, present, length = self._plan(schema, position)
        self._spend(_TABLE_COST + length, schema.name)
        decoded = template.copy()
        for field, offset in present:
            place = position + offset
            if field.default is not None:
                decoded[field.name] = struct.unpack_from("<" + field.code, self.data, place)[0]
            else:
                self._follow(schema, field, place, decoded)
        return decoded

    def _plan(self, schema: Table, position: int) -> _Plan:
        """What the table's vtable says: the scalars that are left out, and where the fields that are there stand."""
        name = schema.name
        if position & 3 or position + 4 > self.size:
            raise MalformedError("a table is out of bounds or misaligned", field=name, offset=position)
        vtable = position - struct.unpack_from("<i", self.data, position)[0]
        if vtable & 1 or vtable < 0 or vtable + 4 > self.size:
            raise MalformedError("a table's layout is out of bounds or misaligned", field=name, offset=position)
        key = (name, vtable)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = self._read_plan(schema, vtable, position)
        if position + plan[2] > self.size:
            raise MalformedError("a table is out of bounds", field=name, offset=position)
        return plan

    def _read_plan(self, schema: Table, vtable: int, position: int) -> _Plan:
        size, length = _PAIR.unpack_from(self.data, vtable)
        if size < 4 or size & 1 or vtable + size > self.size or length < 4:
            raise MalformedError("a table's layout is malformed", field=schema.name, offset=vtable)
        self._spend(size, schema.name)
        count = (size - 4) // 2
        offsets = struct.unpack_from(f"<{count}H", self.data, vtable + 4)
        template: Decoded = {}
        present: list[tuple[Field, int]] = []
        for slot, field in enumerate(schema.fields):
            offset = offsets[slot] if slot < count else 0
            if field is None:
                continue
            if not offset:
                if field.default is not None:
                    template[field.name] = field.default
                continue
            where = f"{schema.name}.{field.name}"
            if offset < 4 or offset + field.inline_size > length:
                raise MalformedError("a field lies outside its table", field=where, offset=vtable)
            if (position + offset) % min(field.inline_size, ALIGNMENT):
                raise MalformedError("a field is misaligned", field=where, offset=position + offset)
            present.append((field, offset))
        for slot in range(len(schema.fields), count):
            if offsets[slot]:
                self.unknown[f"field {slot} of {schema.name}"] = None
        return template, present, length

    def _spend(self, cost: int, where: str) -> None:
        self._budget -= cost
        if self._budget < 0:
            raise ResourceError("the offsets of the file share so much that it would expand beyond bounds", field=where)

    def _target(self, place: int, where: str) -> int:
        """Where the offset at `place` leads."""
        target: int = place + _UINT.unpack_from(self.data, place)[0]
        if target == place or target + 4 > self.size:
            raise MalformedError("an offset leads out of the file", field=where, offset=place)
        return target

    def _follow(self, schema: Table, field: Field, place: int, decoded: Decoded) -> None:
        """Decode the string, vector, table or union that the offset at `place` leads to."""
        where = f"{schema.name}.{field.name}"
        target = self._target(place, where)
        if field.is_union:
            number = decoded[f"{field.name}_type"]
            member = union_member(field.kind, number)
            if member is not None:
                decoded[field.name] = self.table(table(member), target)
            elif number:
                self.unknown[f"{where} of type {number}"] = None
        elif field.is_vector:
            decoded[field.name] = self._vector(field, target, where)
        elif field.kind == "string":
            decoded[field.name] = self._string(target, where)
        else:
            decoded[field.name] = self.table(table(field.kind), target)

    def _string(self, target: int, where: str) -> bytes:
        start, count = self._extent(target, 1, where)
        if start + count >= self.size or self.data[start + count]:
            raise MalformedError("a string has no end", field=where, offset=target)
        self._spend(count, where)
        return bytes(self.data[start : start + count])

    def _extent(self, target: int, size: int, where: str) -> tuple[int, int]:
        """Start and number of elements of the vector at `target`."""
        if target % ALIGNMENT:
            raise MalformedError("a vector is misaligned", field=where, offset=target)
        count: int = _UINT.unpack_from(self.data, target)[0]
        if count * size > self.size - target - 4:
            raise MalformedError(f"a vector of {count} elements is out of bounds", field=where, offset=target)
        return target + 4, count

    def _vector(self, field: Field, target: int, where: str) -> Any:
        start, count = self._extent(target, field.size, where)
        code = field.code
        if code == "B":
            return self.data[start : start + count]
        self._spend(count * field.size, where)
        if code and (count <= SHORT or code == "?"):
            return struct.unpack_from(f"<{count}{code}", self.data, start)
        if code:
            return np.frombuffer(self.data, np.dtype("<" + code), count, start)
        if not field.code and field.kind == "string":
            return [self._string(self._target(place, where), where) for place in range(start, start + 4 * count, 4)]
        schema = table(field.kind)
        return [self.table(schema, self._target(place, where)) for place in range(start, start + 4 * count, 4)]


def _address(view: memoryview) -> int:
    return int(np.frombuffer(view, np.uint8).ctypes.data)
