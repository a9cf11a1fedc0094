"""AttributeProto: numbers, strings, tensors, lists; graphs are left to the caller."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from graphopt.ir.attributes import FunctionRef
from graphopt.ir.errors import MalformedError, UnsupportedError, printable
from graphopt.ir.formats import wire
from graphopt.ir.formats.onnx.tensors import TensorReader, read_floats

KINDS = {1: "float", 2: "int", 3: "string", 4: "tensor", 5: "graph", 6: "floats", 7: "ints", 8: "strings"}


class Body(NamedTuple):
    """Where the graph of an attribute lies."""

    start: int
    end: int
    key: str = ""

    @staticmethod
    def reference(name: str) -> FunctionRef:
        """The function that the graph has become."""
        return FunctionRef(name)


class AttributeReader:
    """Reads the attributes of one file."""

    def __init__(self, buffer: Any, tensors: TensorReader):
        self.buffer, self.tensors = buffer, tensors

    def read(self, start: int, end: int) -> tuple[str, Any]:
        """Name and value. Raises `UnsupportedError` for kinds that models do not have, such as lists of graphs."""
        name, kind = "", 0
        single: dict[int, Any] = {}
        floats: list[float] = []
        integers: list[int] = []
        strings: list[bytes] = []
        for tag, value, stop in wire.fields(self.buffer, start, end):
            field = tag >> 3
            if field == 1:
                name = wire.text(self.buffer, value, stop, "AttributeProto.name")
            elif tag == 20 << 3:
                kind = value
            elif tag == (2 << 3 | wire.FIXED32):
                single[1] = struct.unpack("<f", bytes(self.buffer[value:stop]))[0]
            elif tag == 3 << 3:
                single[2] = wire.signed(value)
            elif field == 4:
                single[3] = bytes(self.buffer[value:stop])
            elif field == 5:
                single[4] = self.tensors.read(value, stop)[1]
            elif field == 6:
                single[5] = Body(value, stop)
            elif field == 7:
                floats += read_floats(self.buffer, value, stop)
            elif field == 8:
                integers += self.tensors._integers(tag, value, stop)
            elif field == 9:
                strings.append(bytes(self.buffer[value:stop]))
        if kind in (6, 7, 8):
            listed: dict[int, tuple[Any, ...]] = {6: tuple(floats), 7: tuple(integers), 8: tuple(strings)}
            return name, listed[kind]
        if kind in single:
            return name, single[kind]
        if kind in (1, 2, 3):
            return name, {1: 0.0, 2: 0, 3: b""}[kind]
        if kind in KINDS:
            raise MalformedError(f"attribute '{printable(name)}' says {KINDS[kind]}, but holds none")
        raise UnsupportedError(f"attribute '{printable(name)}' is of kind {kind}, which is not read")
