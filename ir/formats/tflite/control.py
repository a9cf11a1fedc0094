"""Control dependencies between operators, as metadata stores them: pairs of operators' positions in each subgraph.

The encoding is that of TFLite's own `model_control_dependencies`: version 1, then vectors within a vector, each with
its length before it; numbers are varints of 7 bits a byte, signed ones in zigzag.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

NAME = b"model_control_dependencies"
VERSION = 1

Edges = tuple[tuple[int, int], ...]


class _Reader:
    __slots__ = ("data", "place")

    def __init__(self, data: bytes):
        self.data, self.place = data, 0

    def number(self) -> int:
        value = shift = 0
        while shift < 35:
            octet = self.data[self.place]
            self.place += 1
            value |= (octet & 0x7F) << shift
            if octet < 0x80:
                return value
            shift += 7
        raise IndexError

    def signed(self) -> int:
        value = self.number()
        return (value >> 1) ^ -(value & 1)


def parse(data: bytes) -> tuple[Edges, ...] | None:
    """The pairs of each subgraph; None for what is of another version or malformed."""
    reader = _Reader(data)
    try:
        if reader.number() != VERSION:
            return None
        subgraphs = []
        for _ in range(reader.number()):
            edges = []
            for _ in range(reader.number()):
                before = reader.signed()
                edges.append((before, reader.signed()))
            subgraphs.append(tuple(edges))
    except IndexError:
        return None
    return tuple(subgraphs) if reader.place == len(data) else None


def serialize(subgraphs: Sequence[Iterable[tuple[int, int]]]) -> bytes:
    """The inverse of `parse`."""
    out = bytearray()
    _put(out, VERSION)
    _put(out, len(subgraphs))
    for subgraph in subgraphs:
        edges = list(subgraph)
        _put(out, len(edges))
        for before, after in edges:
            _put(out, before << 1 if before >= 0 else (-before << 1) - 1)
            _put(out, after << 1 if after >= 0 else (-after << 1) - 1)
    return bytes(out)


def _put(out: bytearray, value: int) -> None:
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
