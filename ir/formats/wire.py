"""The protobuf wire format, read in place and written piece by piece.

A *tag* is `number << 3 | wire type`. Readers work on absolute offsets into one buffer (bytes or a memory map), so that
errors can say where, and payloads can be located without being copied. Groups are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from graphopt.ir.errors import MalformedError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MESSAGE_LIMIT = (1 << 31) - 1  # bytes beyond which no protobuf implementation reads a message
DEPTH_LIMIT = 100  # messages within messages, as in TensorFlow's own parser

Buffer = Any  # bytes or mmap: slicing gives bytes


def read_varint(buffer: Buffer, position: int, end: int) -> tuple[int, int]:
    """The varint at `position`, as an unsigned 64-bit number, and the place after it."""
    result = shift = 0
    for place in range(position, min(position + 10, end)):
        octet = buffer[place]
        result |= (octet & 0x7F) << shift
        if octet < 0x80:
            if result >> 64:
                raise MalformedError("a number has more than 64 bits", offset=position)
            return result, place + 1
        shift += 7
    if end - position >= 10:
        raise MalformedError("a number takes more than ten bytes", offset=position)
    raise MalformedError("the data ends within a number: the file is truncated or damaged", offset=position)


def signed(number: int) -> int:
    """The 64 bits of a varint as a signed number."""
    return number - (1 << 64) if number >> 63 else number


def signed32(number: int) -> int:
    """The low 32 bits of a varint as a signed number, which is how protobuf reads an int32."""
    number &= 0xFFFFFFFF
    return number - (1 << 32) if number >> 31 else number


def read_length(buffer: Buffer, position: int, end: int) -> tuple[int, int]:
    """Start and end of the length-delimited content whose length stands at `position`."""
    size, start = read_varint(buffer, position, end)
    if size > end - start:
        raise MalformedError(
            f"{size} bytes announced, {end - start} left: the file is truncated or damaged", offset=position
        )
    return start, start + size


def fields(buffer: Buffer, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Each field between `start` and `end` as `(tag, value, stop)`.

    `value` is the number itself for varints and where the content starts for everything else; the field ends before
    `stop`.
    """
    position = start
    while position < end:
        tag = buffer[position]
        origin = position
        if tag < 0x80:
            position += 1
        else:
            tag, position = read_varint(buffer, position, end)
            if tag >> 32:
                raise MalformedError("a field number is out of range", offset=origin)
        wire = tag & 7
        if tag < 8:
            raise MalformedError("a field has the number zero", offset=origin)
        if wire == BYTES:
            if position < end and buffer[position] < min(0x80, end - position):  # most lengths: no call for those
                value = position + 1
                position = value + buffer[position]
            else:
                value, position = read_length(buffer, position, end)
        elif wire == VARINT:
            value, position = read_varint(buffer, position, end)
        elif wire in (FIXED32, FIXED64):
            value, position = position, position + (4 if wire == FIXED32 else 8)
            if position > end:
                raise MalformedError("the data ends within a number: the file is truncated or damaged", offset=origin)
        else:
            raise MalformedError(f"wire type {wire} is not used by any model format", offset=origin)
        yield tag, value, position


def unexpected(tag: int, known: dict[int, str], offset: int) -> None:
    """Refuse a field of a known number with another wire type than it must have; unknown numbers pass."""
    name = known.get(tag >> 3)
    if name is not None:
        raise MalformedError(f"wrong wire type {tag & 7}", field=name, offset=offset)


def text(buffer: Buffer, start: int, end: int, field: str = "") -> str:
    """The bytes between `start` and `end` as UTF-8."""
    try:
        return str(buffer[start:end], "utf-8")
    except UnicodeDecodeError:
        raise MalformedError("not valid UTF-8", field=field, offset=start) from None


def varint(number: int) -> bytes:
    """`number` encoded; negative ones as 64-bit two's complement."""
    if 0 <= number < 0x80:
        return _SHORT[number]
    if number < 0:
        number += 1 << 64
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


_SHORT = [bytes([number]) for number in range(0x80)]


def tagged(number: int, content: bytes) -> bytes:
    """Field `number` with length-delimited `content`."""
    return varint(number << 3 | BYTES) + varint(len(content)) + content


def tagged_text(number: int, content: str) -> bytes:
    """Field `number` with a string; nothing for the empty one, which is what proto3 leaves out."""
    return tagged(number, content.encode()) if content else b""


def tagged_number(number: int, value: int) -> bytes:
    """Field `number` with a varint; nothing for zero."""
    return varint(number << 3) + varint(value) if value else b""
