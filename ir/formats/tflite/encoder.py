"""FlatBuffers encoded by a schema, front to back, so that large data need not be copied.

Every offset of a FlatBuffer leads forward: a table is written where the file ends so far, and what it refers to comes
after it. Vectors of numbers follow the tables, equal ones once: zero points of channels, mostly zeros, would take as
much room as a tenth of the weights. Data of buffers come last, each as the view that was given, so that writing takes
little more memory than everything but the data.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphopt.ir.errors import UnsupportedError
from graphopt.ir.formats.tflite.schema import Field, Table, names, table

ALIGNMENT = 16  # of the data of buffers
OFFSET_LIMIT = (1 << 31) - 1  # bytes that a FlatBuffer may take
Piece = bytes | bytearray | memoryview


class Data:
    """The data of a buffer: bytes in one or several pieces, put at the end of the file and aligned."""

    __slots__ = ("pieces", "size")

    def __init__(self, *pieces: Piece):
        self.pieces, self.size = pieces, sum(len(piece) for piece in pieces)


def encode(root: str, value: Mapping[str, Any], identifier: bytes) -> list[Piece]:
    """A FlatBuffer whose root table is `value`, in pieces.

    Raises `UnsupportedError` where it would be larger than a FlatBuffer may be, or a number does not fit its field.
    """
    return _Encoder().encode(root, value, identifier)


class _Encoder:
    def __init__(self) -> None:
        self.out = bytearray()
        self.vtables: dict[bytes, int] = {}
        self.layouts: dict[tuple[str, tuple[str, ...]], _Layout] = {}
        self.pending: deque[tuple[int, Field | str, Any]] = deque()
        self.vectors: dict[tuple[int, bytes], list[int]] = {}  # alignment and contents -> places that refer to them
        self.data: list[tuple[int, Data]] = []

    def encode(self, root: str, value: Mapping[str, Any], identifier: bytes) -> list[Piece]:
        self.out += bytes(4) + identifier
        self.pending.append((0, root, value))
        while self.pending:
            place, kind, item = self.pending.popleft()
            if isinstance(kind, str):
                self._table(place, table(kind), item)
            elif kind.is_vector:
                self._vector(place, kind, item)
            else:
                self._string(place, item)
        self._share()
        return self._gathered()

    def _share(self) -> None:
        """The vectors of numbers, each once."""
        for (size, contents), places in self.vectors.items():
            self._align(max(size, 4), 4)
            for place in places:
                self._point(place, len(self.out))
            self.out += struct.pack("<I", len(contents) // size) + contents

    def _gathered(self) -> list[Piece]:
        """The tables, then the data, which may now be told where they will be."""
        position = len(self.out)
        tail: list[Piece] = []
        for place, data in self.data:
            padding = -(position + 4) % ALIGNMENT
            position += padding
            self._point(place, position)
            tail.append(bytes(padding) + struct.pack("<I", data.size))
            tail += data.pieces
            position += 4 + data.size
        if position > OFFSET_LIMIT:
            raise UnsupportedError(f"the model takes {position} bytes, and a FlatBuffer holds less than 2 GiB")
        return [self.out, *tail]

    def _point(self, place: int, target: int) -> None:
        if target - place > OFFSET_LIMIT:
            raise UnsupportedError(f"the model takes over {target} bytes, and a FlatBuffer holds less than 2 GiB")
        struct.pack_into("<I", self.out, place, target - place)

    def _align(self, alignment: int, ahead: int = 0) -> None:
        """Pad so that what stands `ahead` bytes from here is aligned."""
        self.out += bytes(-(len(self.out) + ahead) % alignment)

    def _table(self, place: int, schema: Table, value: Mapping[str, Any]) -> None:
        present = tuple(
            field.name
            for field in schema.fields
            if field is not None
            and (found := value.get(field.name)) is not None
            and (field.default is None or found != field.default)
        )
        layout = self.layouts.get((schema.name, present))
        if layout is None:
            layout = self.layouts[schema.name, present] = _Layout(schema, present)
        vtable = self.vtables.get(layout.vtable)
        if vtable is None:
            self._align(2)
            vtable = self.vtables[layout.vtable] = len(self.out)
            self.out += layout.vtable
        self._align(layout.alignment, 4)
        position = len(self.out)
        self._point(place, position)
        inline = [value[field.name] if field.default is not None else 0 for field in layout.order]
        try:
            self.out += layout.packing.pack(position - vtable, *inline)
        except struct.error as error:
            raise UnsupportedError(f"a number does not fit its field in table {schema.name}: {error}") from error
        for field, offset in layout.references:
            target = value[field.name]
            kind: Field | str = field
            if field.is_union:
                kind = names(field.kind)[value[f"{field.name}_type"]]
            elif not field.is_vector and field.kind != "string":
                kind = field.kind
            if isinstance(target, Data):
                self.data.append((position + offset, target))
            else:
                self.pending.append((position + offset, kind, target))

    def _string(self, place: int, value: bytes) -> None:
        self._align(4)
        self._point(place, len(self.out))
        self.out += struct.pack("<I", len(value)) + value + b"\0"

    def _vector(self, place: int, field: Field, value: Any) -> None:
        if field.code:
            self.vectors.setdefault((field.size, bytes(packed(field, value))), []).append(place)
            return
        self._align(max(field.size, 4), 4)
        self._point(place, len(self.out))
        self.out += struct.pack("<I", len(value))
        start = len(self.out)
        self.out += bytes(4 * len(value))
        one: Field | str = field.kind
        if field.kind == "string":
            one = _STRING
        self.pending.extend((start + 4 * index, one, item) for index, item in enumerate(value))


_STRING = Field("text:string")


def packed(field: Field, value: Any) -> Piece:
    """The elements of a vector of numbers as bytes. Raises `UnsupportedError` where one does not fit."""
    if field.code == "B" and isinstance(value, (bytes, bytearray, memoryview)):
        return value
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value, np.dtype("<" + field.code)).tobytes()
    try:
        return struct.pack(f"<{len(value)}{field.code}", *value)
    except struct.error as error:
        raise UnsupportedError(f"a number does not fit its field '{field.name}': {error}") from error


class _Layout:
    """Where the fields of a table stand, for one choice of those that are there: the widest first."""

    __slots__ = ("alignment", "order", "packing", "references", "vtable")

    def __init__(self, schema: Table, present: Sequence[str]):
        slots = {field.name: slot for slot, field in enumerate(schema.fields) if field is not None}
        fields = [schema.by_name[name] for name in present]
        self.order = sorted(fields, key=lambda field: -field.inline_size)
        self.alignment = 8 if self.order and self.order[0].inline_size == 8 else 4
        offsets: dict[str, int] = {}
        end = 4
        for field in self.order:
            offsets[field.name] = end
            end += field.inline_size
        codes = "".join(field.code if field.default is not None else "I" for field in self.order)
        self.packing = struct.Struct("<i" + codes)
        count = max((slots[name] for name in present), default=-1) + 1
        by_slot = {slots[name]: offset for name, offset in offsets.items()}
        places = [by_slot.get(slot, 0) for slot in range(count)]
        self.vtable = struct.pack(f"<{count + 2}H", 4 + 2 * count, end, *places)
        self.references = [(field, offsets[field.name]) for field in fields if field.default is None]
