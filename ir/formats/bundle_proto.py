"""The messages of a TensorBundle's index, and the keys under which slices of tensors stand in it.

`tensor_bundle.proto`, `tensor_slice.proto` and `saved_tensor_slice_util.cc` of TensorFlow; keys of slices are written
in its `OrderedCode`, which sorts as the numbers in it do.
"""

from __future__ import annotations

from typing import NamedTuple

from graphopt.ir.errors import MalformedError, printable
from graphopt.ir.formats import wire
from graphopt.ir.formats.shape_proto import encode_shape, read_shape
from graphopt.ir.types import DTYPES_BY_CODE, UNKNOWN_DTYPE, DType, Shape

Extent = tuple[int, int]  # first index and length along one axis; length -1 for all there is
Slice = tuple[Extent, ...]
FULL: Extent = (0, -1)
_HEADER_FIELDS = {1: "num_shards", 2: "endianness", 3: "version"}
_ENTRY_FIELDS = {1: "dtype", 2: "shape", 3: "shard_id", 4: "offset", 5: "size", 6: "crc32c", 7: "slices"}


class Header(NamedTuple):
    """What a bundle says of itself."""

    shards: int = 1
    big_endian: bool = False
    min_consumer: int = 0


class BundleEntry(NamedTuple):
    """Where a tensor stands: shard, offset and size in bytes, with the checksum; or which slices it consists of."""

    dtype: DType
    shape: tuple[int, ...]
    shard: int = 0
    offset: int = 0
    size: int = 0
    crc: int = 0
    slices: tuple[Slice, ...] = ()


def read_header(raw: bytes) -> Header:
    """A BundleHeaderProto."""
    numbers = {1: 0, 2: 0}
    min_consumer = 0
    for tag, value, stop in wire.fields(raw, 0, len(raw)):
        if tag in (0x08, 0x10):
            numbers[tag >> 3] = wire.signed32(value)
        elif tag == 0x1A:
            for inner, number, _ in wire.fields(raw, value, stop):
                if inner == 0x10:
                    min_consumer = wire.signed32(number)
        else:
            wire.unexpected(tag, _HEADER_FIELDS, value)
    if not 0 <= numbers[1] < 100_000 or numbers[2] not in (0, 1):
        raise MalformedError(f"a bundle of {numbers[1]} shards, byte order {numbers[2]}", field="header")
    if min_consumer > 1:
        raise MalformedError(f"the bundle needs a reader of version {min_consumer}; this one is of version 1")
    return Header(numbers[1], numbers[2] == 1, min_consumer)


def encode_header(shards: int) -> bytes:
    """A BundleHeaderProto of this version."""
    return wire.tagged_number(1, shards) + wire.tagged(3, wire.tagged_number(1, 1))


def read_entry(key: bytes, raw: bytes) -> BundleEntry:
    """A BundleEntryProto. Raises `MalformedError`, with the tensor named."""
    try:
        return _read_entry(raw)
    except MalformedError as error:
        name = printable(key.decode("utf-8", "replace"))
        raise MalformedError(f"tensor '{name}': {error.reason}", field=error.field) from None


def _read_entry(raw: bytes) -> BundleEntry:
    dtype, shape = UNKNOWN_DTYPE, Shape(())
    numbers = {3: 0, 4: 0, 5: 0, 6: 0}
    slices: list[Slice] = []
    for tag, value, stop in wire.fields(raw, 0, len(raw)):
        if tag in (0x18, 0x20, 0x28):
            numbers[tag >> 3] = wire.signed(value)
        elif tag == 0x08:
            dtype = known_dtype(value)
        elif tag == 0x12:
            shape = read_shape(raw, value, stop)
        elif tag == 0x35:
            numbers[6] = int.from_bytes(raw[value:stop], "little")
        elif tag == 0x3A:
            slices.append(read_slice(raw, value, stop))
        else:
            wire.unexpected(tag, _ENTRY_FIELDS, value)
    if dtype is UNKNOWN_DTYPE:
        raise MalformedError("has no element type", field="dtype")
    if min(numbers[3], numbers[4], numbers[5]) < 0:
        raise MalformedError("a negative place or size", field="offset")
    return BundleEntry(dtype, static_shape(shape), numbers[3], numbers[4], numbers[5], numbers[6], tuple(slices))


def known_dtype(code: int) -> DType:
    """The element type with this number. Raises `MalformedError`."""
    dtype = DTYPES_BY_CODE.get(code)
    if dtype is None or code > 100:
        raise MalformedError(f"there is no element type {code}", field="dtype")
    return dtype


def static_shape(shape: Shape) -> tuple[int, ...]:
    """The numbers of `shape`. Raises `MalformedError` where one is unknown."""
    numbers = shape.static
    if numbers is None:
        raise MalformedError("the shape is not known", field="shape")
    return numbers


def encode_entry(entry: BundleEntry) -> bytes:
    """A BundleEntryProto."""
    return b"".join(
        (
            wire.tagged_number(1, entry.dtype.code),
            wire.tagged(2, encode_shape(Shape(entry.shape))),
            wire.tagged_number(3, entry.shard),
            wire.tagged_number(4, entry.offset),
            wire.tagged_number(5, entry.size),
            b"\x35" + entry.crc.to_bytes(4, "little") if entry.crc else b"",
            *(wire.tagged(7, encode_slice(extents)) for extents in entry.slices),
        )
    )


def read_slice(buffer: wire.Buffer, start: int, end: int) -> Slice:
    """A TensorSliceProto."""
    extents: list[Extent] = []
    for tag, value, stop in wire.fields(buffer, start, end):
        if tag != 0x0A:
            wire.unexpected(tag, {1: "extent"}, value)
            continue
        first, length = 0, -1
        for inner, number, _ in wire.fields(buffer, value, stop):
            if inner == 0x08:
                first = wire.signed(number)
            elif inner == 0x10:
                length = wire.signed(number)
        if first < 0 or length < -1 or (length == -1 and first):
            raise MalformedError(f"a slice cannot begin at {first} and be {length} long", field="slices")
        extents.append((first, length))
    return tuple(extents)


def encode_slice(extents: Slice) -> bytes:
    """A TensorSliceProto."""
    return b"".join(
        wire.tagged(1, wire.tagged_number(1, first) + (b"" if length < 0 else b"\x10" + wire.varint(length)))
        for first, length in extents
    )


def slice_key(name: str, extents: Slice) -> bytes:
    """The key of one slice of tensor `name`."""
    escaped = name.encode().replace(b"\x00", b"\x00\xff")  # the escape of 0xFF is not needed: UTF-8 has none
    numbers = b"".join(_signed(number) for extent in extents for number in extent)
    return b"\x00" + escaped + b"\x00\x01" + _unsigned(len(extents)) + numbers


def _unsigned(number: int) -> bytes:
    size = (number.bit_length() + 7) // 8
    return bytes((size,)) + number.to_bytes(size, "big")


def _signed(number: int) -> bytes:
    """As many leading one bits as there are bytes, then the number; negative ones inverted."""
    magnitude = ~number if number < 0 else number
    size = magnitude.bit_length() // 7 + 1
    header = ((1 << size) - 1) << (8 * size - size)
    return ((number & ((1 << 8 * size) - 1)) ^ header).to_bytes(size, "big")


def parse_slice(text: str) -> tuple[tuple[int, ...], Slice]:
    """Shape and slice of RestoreV2's `shape_and_slice`: `10 4 0,5:-` are all columns of the first five rows."""
    *dims, last = text.split(" ")
    try:
        shape = tuple(int(dim) for dim in dims)
        extents = tuple(
            FULL if part == "-" else (int(part.split(",")[0]), int(part.split(",")[1])) for part in last.split(":")
        )
    except (ValueError, IndexError):
        raise MalformedError(f"'{printable(text)}' describes no slice", field="shape_and_slices") from None
    if len(shape) != len(extents) or any(
        first < 0 or (length < 0 and (first, length) != FULL) or first + max(length, 0) > dim
        for (first, length), dim in zip(extents, shape, strict=True)
    ):
        raise MalformedError(f"'{printable(text)}' describes no slice", field="shape_and_slices")
    return shape, extents


def slice_shape(extents: Slice, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a slice of a tensor of `shape`. Raises `MalformedError` where it does not lie inside."""
    if len(extents) != len(shape):
        raise MalformedError(f"a slice of {len(extents)} axes in a tensor of {len(shape)}", field="slices")
    for (first, length), dim in zip(extents, shape, strict=True):
        if first + max(length, 0) > dim:
            raise MalformedError(f"a slice ends at {first + length}, the axis at {dim}", field="slices")
    return tuple(dim if length < 0 else length for (_, length), dim in zip(extents, shape, strict=True))
