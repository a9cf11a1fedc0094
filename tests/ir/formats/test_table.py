"""Sorted string tables: what is written is read back, and damage never passes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.ir.errors import MalformedError, ResourceError
from graphopt.ir.formats import table
from graphopt.ir.formats.snappy import unpack
from graphopt.ir.formats.wire import varint
from graphopt.ir.tensors import Mapping


def made(rows: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(table.table_chunks(rows))


def read(data: bytes) -> list[tuple[bytes, bytes]]:
    return [(entry.key, entry.value) for entry in table.Table(Mapping("t.index", data))]


@given(st.dictionaries(st.binary(max_size=20), st.binary(max_size=50)))
def test_round_trip(entries: dict[bytes, bytes]) -> None:
    rows = sorted(entries.items())
    assert read(made(rows)) == rows


def test_many_blocks_and_shared_prefixes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "BLOCK", 200)
    rows = [(f"layer/kernel/{place:05d}".encode(), bytes([place % 256]) * 9) for place in range(500)]
    data = made(rows)
    assert read(data) == rows
    assert data.count(b"layer/kernel") < 200  # most keys leave out what they share


@given(st.data())
def test_a_changed_byte_is_found_or_harmless(data: st.DataObject) -> None:
    rows = [(b"a", b"1"), (b"ab", b"22"), (b"b", b"333")]
    whole = bytearray(made(rows))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    try:
        found = read(bytes(whole))
    except MalformedError as error:
        found = rows if "t.index" in str(error) else []
    assert found == rows  # what is not refused is the padding of the footer or the unused meta index


def test_a_cut_file() -> None:
    data = made([(b"a", b"1")])
    for length in (0, 10, len(data) - 1):
        with pytest.raises(MalformedError, match="cut off"):
            read(data[:length])


def test_keys_out_of_order() -> None:
    with pytest.raises(MalformedError, match="not in order"):
        read(made([(b"b", b""), (b"a", b"")]))


def test_keys_that_take_more_memory_than_they_should(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "KEY_BYTES", 0)
    monkeypatch.setattr(table, "KEY_FACTOR", 1)
    rows = [(b"k" * 5000 + bytes([place]), b"") for place in range(50)]
    with pytest.raises(ResourceError, match="more memory"):
        read(made(rows))


def repacked(content: bytes, kind: int = 1) -> bytes:
    """A table whose one block is `content`, said to be compressed."""
    block = content + bytes([kind])
    block += table.masked(table.checksum(block)).to_bytes(4, "little")
    index = table._BlockWriter(1)
    index.add(b"z", varint(0) + varint(len(content)))
    rest = index.finished()
    place = len(block)
    handles = varint(0) + varint(0) + varint(place) + varint(len(rest) - table.TRAILER)
    return block + rest + handles.ljust(40, b"\0") + table.MAGIC


def test_a_compressed_block() -> None:
    plain = made([(b"key", b"value")])
    block = plain[: len(plain) - table.FOOTER]
    size = next(length for length in range(1, 60) if block[length] == 0 and _is_block(block, length))
    content = block[:size]
    packed = varint(len(content)) + bytes([(len(content) - 1) << 2]) + content
    assert read(repacked(packed)) == [(b"key", b"value")]
    with pytest.raises(MalformedError, match="compressed in an unknown way"):
        read(repacked(packed, kind=7))
    with pytest.raises(MalformedError, match="ends early"):
        read(repacked(packed[:-3]))


def _is_block(data: bytes, length: int) -> bool:
    stored = int.from_bytes(data[length + 1 : length + 5], "little")
    return table.masked(table.checksum(data[: length + 1])) == stored


def test_snappy_copies() -> None:
    assert unpack(b"\x0b\x04ab\x01\x02\x05\x02") == b"ab" + b"abab" + b"ababa"
    assert unpack(b"\x06\x00x\x12\x01\x00") == b"x" * 6
    assert unpack(b"\x06\x00x\x13\x01\x00\x00\x00") == b"x" * 6
    long = bytes(range(100))
    assert unpack(b"\x64\xf0\x63" + long) == long


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (b"\x04\x00x", "holds 1 bytes and claims 4"),
        (b"\x04\x04x", "ends early"),
        (b"\x04\x00x\x01", "ends early"),
        (b"\x08\x00x\x01\x05", "before its start"),
        (b"\xff\xff\xff\x7f\x00x", "claims to hold"),
    ],
)
def test_snappy_damaged(packed: bytes, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        unpack(packed)
