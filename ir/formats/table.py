"""Sorted string tables: the container of checkpoint indexes, and of whole V1 checkpoints.

LevelDB's format, as TensorFlow writes it: blocks of entries sorted by key, whose keys leave out what they share with
the entry before; an index block of the blocks; a footer of 48 bytes. Every block ends with its kind of compression
and a masked CRC32C. See `table_format.txt` of LevelDB's documentation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import google_crc32c
import numpy as np

from graphopt.ir.errors import MalformedError, ResourceError
from graphopt.ir.formats import wire
from graphopt.ir.tensors import Buffer, Mapping

FOOTER, TRAILER = 48, 5
MAGIC = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
BLOCK = 1 << 18  # bytes of a block, beyond which the writer starts another
RESTART = 16  # entries of a block after which a key is written in full
KEY_BYTES, KEY_FACTOR = 1 << 26, 64  # that keys may take in any table, and times its own size beyond that
_MASK = 0xA282EAD8


class Entry(NamedTuple):
    """A key, and where its value stands in a buffer."""

    key: bytes
    buffer: Buffer
    start: int
    stop: int

    @property
    def value(self) -> bytes:
        """A copy of the value."""
        return bytes(self.buffer[self.start : self.stop])


def checksum(data: bytes | memoryview, previous: int = 0) -> int:
    """CRC32C of `data` after data whose checksum was `previous`."""
    octets = data if isinstance(data, bytes) else np.frombuffer(data, np.uint8)
    return int(google_crc32c.extend(previous, octets))


def masked(crc: int) -> int:
    """`crc` as it is stored: rotated and shifted, so that the checksum of data with checksums stays sound."""
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF


class Table:
    """Reads the entries of one mapped table, in order of their keys. Raises `MalformedError`."""

    def __init__(self, mapping: Mapping):
        self.mapping = mapping
        try:
            self._blocks = list(self._index())
        except MalformedError as error:
            raise error.located(mapping.path) from None

    def __iter__(self) -> Iterator[Entry]:
        previous: bytes | None = None
        room = KEY_BYTES + KEY_FACTOR * len(self.mapping)  # a key may cost three bytes and repeat a long one
        try:
            for position, size in self._blocks:
                for entry in _entries(*self._block(position, size)):
                    if previous is not None and entry.key <= previous:
                        raise MalformedError("the keys of the table are not in order", offset=position)
                    previous = entry.key
                    room -= len(previous)
                    if room < 0:
                        raise ResourceError("the keys of the table take more memory than its size warrants")
                    yield entry
        except MalformedError as error:
            raise error.located(self.mapping.path) from None

    def _index(self) -> Iterator[tuple[int, int]]:
        """Position and size of each block."""
        size, buffer = len(self.mapping), self.mapping.buffer
        if size < FOOTER or buffer[size - 8 : size] != MAGIC:
            raise MalformedError(
                "this is no checkpoint's table, or the file is cut off: its last bytes are not a footer"
            )
        numbers, place = [], size - FOOTER
        for _ in range(4):  # position and size of the meta index, which nothing uses, then of the index
            number, place = wire.read_varint(buffer, place, size - len(MAGIC))
            numbers.append(number)
        for entry in _entries(*self._block(numbers[2], numbers[3])):
            start, place = wire.read_varint(entry.buffer, entry.start, entry.stop)
            length, place = wire.read_varint(entry.buffer, place, entry.stop)
            yield start, length

    def _block(self, position: int, size: int) -> tuple[Buffer, int, int]:
        """Buffer, start and end of a block's content, checked and unpacked."""
        buffer, end = self.mapping.buffer, position + size
        if end + TRAILER > len(self.mapping) - FOOTER:
            raise MalformedError("a block reaches beyond the file, which is cut off or damaged", offset=position)
        stored = int.from_bytes(buffer[end + 1 : end + TRAILER], "little")
        if masked(checksum(self.mapping.view[position : end + 1])) != stored:
            raise MalformedError("the checksum of a block does not match: the file is damaged", offset=position)
        if buffer[end] == 0:
            return buffer, position, end
        if buffer[end] != 1:
            raise MalformedError(f"a block is compressed in an unknown way ({buffer[end]})", offset=end)
        content = _unpacked(bytes(buffer[position:end]), position)
        return content, 0, len(content)


def _unpacked(packed: bytes, position: int) -> bytes:
    """A block compressed with snappy."""
    from graphopt.ir.formats.snappy import unpack

    try:
        return unpack(packed)
    except MalformedError as error:
        raise type(error)(error.reason, offset=position) from None


def _entries(buffer: Buffer, start: int, end: int) -> Iterator[Entry]:
    """The entries of one block."""
    if end - start < 4:
        raise MalformedError("a block has no end", offset=start)
    restarts = int.from_bytes(buffer[end - 4 : end], "little")
    stop = end - 4 - 4 * restarts
    if stop < start:
        raise MalformedError("a block lists more restarts than it has room for", offset=start)
    key, position = b"", start
    while position < stop:
        origin = position
        shared, position = wire.read_varint(buffer, position, stop)
        fresh, position = wire.read_varint(buffer, position, stop)
        length, position = wire.read_varint(buffer, position, stop)
        if shared > len(key) or fresh + length > stop - position:
            raise MalformedError("an entry reaches beyond its block", offset=origin)
        key = key[:shared] + buffer[position : position + fresh]
        position += fresh
        yield Entry(key, buffer, position, position + length)
        position += length


class _BlockWriter:
    """Gathers the entries of one block."""

    def __init__(self, interval: int = RESTART) -> None:
        self.interval, self.count, self.last = interval, 0, b""
        self.content, self.restarts = bytearray(), [0]

    def add(self, key: bytes, value: bytes) -> None:
        shared = 0
        if self.count % self.interval:
            limit = min(len(key), len(self.last))
            while shared < limit and key[shared] == self.last[shared]:
                shared += 1
        elif self.count:
            self.restarts.append(len(self.content))
        head = (wire.varint(shared), wire.varint(len(key) - shared), wire.varint(len(value)))
        self.content += b"".join((*head, key[shared:], value))
        self.last, self.count = key, self.count + 1

    def finished(self) -> bytes:
        """The block with its restarts, kind and checksum."""
        numbers = [*self.restarts, len(self.restarts)]
        content = bytes(self.content) + b"".join(number.to_bytes(4, "little") for number in numbers) + b"\0"
        return content + masked(checksum(content)).to_bytes(4, "little")


def table_chunks(entries: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """A table of `entries`, which must come in order of their keys, block by block; uncompressed."""
    index, block, position = _BlockWriter(1), _BlockWriter(), 0

    def closed() -> bytes:
        data = block.finished()
        index.add(block.last, wire.varint(position) + wire.varint(len(data) - TRAILER))
        return data

    for key, value in entries:
        block.add(key, value)
        if len(block.content) >= BLOCK:
            data = closed()
            yield data
            position, block = position + len(data), _BlockWriter()
    if block.count:
        data = closed()
        yield data
        position += len(data)
    handles = b""
    for part in (_BlockWriter(), index):
        data = part.finished()
        yield data
        handles += wire.varint(position) + wire.varint(len(data) - TRAILER)
        position += len(data)
    yield handles.ljust(FOOTER - len(MAGIC), b"\0") + MAGIC
