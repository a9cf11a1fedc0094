"""Snappy's block format, unpacked: some builds of TensorFlow compress the blocks of a checkpoint's index with it.

`format_description.txt` of the snappy project. Indexes are small, so plain Python is quick enough.
"""

from __future__ import annotations

from graphopt.ir.errors import MalformedError, ResourceError
from graphopt.ir.formats import wire

EXPANSION = 64  # times the packed size, more than which no valid block unpacks to
_CUT = "a compressed block ends early"


def unpack(packed: bytes) -> bytes:
    """The bytes that `packed` stands for. Raises `MalformedError` where it is no valid block."""
    end = len(packed)
    size, position = wire.read_varint(packed, 0, end)
    if size > EXPANSION * end:
        raise ResourceError(f"a compressed block of {end} bytes claims to hold {size}")
    unpacked = bytearray()
    while position < end:
        kind, position = packed[position], position + 1
        if kind & 3 == 0:
            length, position = _literal(packed, kind >> 2, position)
            if position + length > end:
                raise MalformedError(_CUT)
            unpacked += packed[position : position + length]
            position += length
        else:
            length, offset, position = _copy(packed, kind, position)
            if not 0 < offset <= len(unpacked):
                raise MalformedError("a compressed block refers to bytes before its start")
            start = len(unpacked) - offset
            if offset >= length:
                unpacked += unpacked[start : start + length]
            else:  # the copy overlaps itself: a pattern that repeats
                pattern = bytes(unpacked[start:])
                unpacked += (pattern * (length // offset + 1))[:length]
        if len(unpacked) > size:
            break
    if len(unpacked) != size:
        raise MalformedError(f"a compressed block holds {len(unpacked)} bytes and claims {size}")
    return bytes(unpacked)


def _literal(packed: bytes, code: int, position: int) -> tuple[int, int]:
    """Length of a literal and where it begins."""
    if code < 60:
        return code + 1, position
    width = code - 59
    return int.from_bytes(packed[position : position + width], "little") + 1, position + width


def _copy(packed: bytes, kind: int, position: int) -> tuple[int, int, int]:
    """Length and distance of a copy, and where the next element begins."""
    width = (0, 1, 2, 4)[kind & 3]
    number = int.from_bytes(packed[position : position + width], "little")
    if position + width > len(packed):
        raise MalformedError(_CUT)
    if width == 1:
        return (kind >> 2 & 7) + 4, (kind >> 5 << 8) | number, position + 1
    return (kind >> 2) + 1, number, position + width
