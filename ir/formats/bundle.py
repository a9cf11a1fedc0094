"""TensorBundle, the second version of checkpoints: an index (a table) and shards of data.

`tensorflow/core/util/tensor_bundle`. Dense tensors are raw elements; string tensors are varint lengths, a checksum of
them, then the bytes; a tensor may be kept in slices, each under a key of its own.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from graphopt.ir.errors import MalformedError, UnsupportedError, printable
from graphopt.ir.formats import wire
from graphopt.ir.formats.bundle_proto import (
    BundleEntry,
    Header,
    Slice,
    parse_slice,
    read_entry,
    read_header,
    slice_key,
    slice_shape,
)
from graphopt.ir.formats.bundle_slices import assembled, part_of
from graphopt.ir.formats.checkpoint import Checkpoint
from graphopt.ir.formats.confinement import map_inside
from graphopt.ir.formats.table import Table, checksum, masked
from graphopt.ir.formats.tensor_values import decode_varints
from graphopt.ir.tensors import ArrayTensor, FileTensor, Mapping, Tensor
from graphopt.ir.types import STRING, DType


class BundleCheckpoint(Checkpoint):
    """Reads the bundle at the prefix `path`: the index at once, shards when a tensor of theirs is asked for."""

    format = "bundle"

    def __init__(self, path: str):
        super().__init__(path)
        self.folder, self.base = os.path.split(path)
        index = map_inside(self.folder or ".", f"{self.base}.index")
        self.header = Header(0)
        self.entries: dict[str, BundleEntry] = {}
        self.slices: dict[bytes, BundleEntry] = {}
        try:
            self._read_index(index)
        except MalformedError as error:
            raise error.located(index.path) from None
        self._shards: dict[int, Mapping] = {}
        self._names = tuple(self.entries)

    def _read_index(self, index: Mapping) -> None:
        has_header = False
        for entry in Table(index):
            if not entry.key:
                self.header, has_header = read_header(entry.value), True
            elif entry.key[0] == 0:
                self.slices[entry.key] = read_entry(entry.key, entry.value)
            else:
                name = wire.text(entry.key, 0, len(entry.key), "name of a tensor")
                self.entries[name] = read_entry(entry.key, entry.value)
        if not has_header:
            raise MalformedError("the index has no header: this is a table, but not of a checkpoint")

    @property
    def names(self) -> tuple[str, ...]:
        return self._names

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def entry(self, name: str) -> BundleEntry:
        """What the index says about the tensor `name`."""
        found = self.entries.get(name)
        if found is None:
            raise self.missing(name)
        return found

    def dtype(self, name: str) -> DType:
        return self.entry(name).dtype

    def shape(self, name: str) -> tuple[int, ...]:
        return self.entry(name).shape

    def slices_of(self, name: str) -> tuple[Slice, ...]:
        return self.entry(name).slices

    def tensor(self, name: str, part: str = "", *, verify: bool = True) -> Tensor:
        entry = self.entry(name)
        try:
            extents = self._extents(part, entry)
            if entry.slices:
                return self._sliced(name, entry, extents, verify)
            whole = self.read(entry, verify=verify)
            return whole if extents is None else part_of(whole, extents)
        except MalformedError as error:
            raise MalformedError(
                f"tensor '{printable(name)}': {error.reason}", source=error.source or self.path, offset=error.offset
            ) from None

    def _extents(self, part: str, entry: BundleEntry) -> Slice | None:
        if not part:
            return None
        shape, extents = parse_slice(part)
        if shape != entry.shape:
            raise MalformedError(f"is of shape {list(entry.shape)} in the checkpoint, {list(shape)} in the graph")
        return None if slice_shape(extents, shape) == shape else extents

    def _sliced(self, name: str, entry: BundleEntry, wanted: Slice | None, verify: bool) -> Tensor:
        if wanted is not None and wanted in entry.slices:
            return self._slice(name, entry, wanted, verify)
        parts = [(extents, self._slice(name, entry, extents, verify)) for extents in entry.slices]
        whole = assembled(entry.dtype, entry.shape, parts)
        return whole if wanted is None else part_of(whole, wanted)

    def _slice(self, name: str, entry: BundleEntry, extents: Slice, verify: bool) -> Tensor:
        found = self.slices.get(slice_key(name, extents))
        shape = slice_shape(extents, entry.shape)
        if found is None:
            raise MalformedError(f"its slice {list(extents)} is missing from the index")
        if found.dtype is not entry.dtype or found.shape != shape or found.slices:
            raise MalformedError(
                f"its slice {list(extents)} is {found.dtype}{list(found.shape)} instead of {list(shape)}"
            )
        return self.read(found, verify=verify)

    def read(self, entry: BundleEntry, *, verify: bool = True) -> Tensor:
        """The tensor of an entry that is not sliced."""
        mapping = self.shard(entry.shard)
        end = entry.offset + entry.size
        if end > len(mapping):
            raise MalformedError(
                f"its data end at byte {end}, the shard at {len(mapping)}: the file is cut off", source=mapping.path
            )
        if entry.dtype is STRING:
            return _strings(mapping, entry, verify)
        if entry.dtype.numpy is None:
            raise UnsupportedError(
                f"{printable(self.path)}: a tensor of {entry.dtype} is carried, but has no values to read"
            )
        tensor = FileTensor(mapping, entry.offset, entry.dtype, entry.shape)
        if tensor.nbytes != entry.size:
            raise MalformedError(
                f"{entry.dtype}{list(entry.shape)} takes {tensor.nbytes} bytes, {entry.size} are stored"
            )
        if verify and masked(checksum(mapping.view[entry.offset : end])) != entry.crc:
            raise _damaged(mapping, entry)
        if self.header.big_endian and entry.dtype.itemsize > 1:
            return _swapped(tensor)
        return tensor

    def shard(self, number: int) -> Mapping:
        """Shard `number`, mapped. Raises `MalformedError` if it is missing."""
        found = self._shards.get(number)
        if found is None:
            if number >= self.header.shards:
                raise MalformedError(f"stands in shard {number} of {self.header.shards}")
            found = map_inside(self.folder or ".", shard_name(self.base, number, self.header.shards))
            self._shards[number] = found
        return found


def shard_name(base: str, number: int, count: int) -> str:
    """File name of one shard of `count`."""
    return f"{base}.data-{number:05d}-of-{count:05d}"


def _damaged(mapping: Mapping, entry: BundleEntry) -> MalformedError:
    return MalformedError(
        "the checksum of its data does not match: the file is damaged", source=mapping.path, offset=entry.offset
    )


def _swapped(tensor: FileTensor) -> Tensor:
    array = tensor.numpy()
    width = array.dtype.itemsize // (2 if array.dtype.kind == "c" else 1)
    octets = np.ascontiguousarray(array).reshape(-1).view(np.uint8).reshape(-1, width)[:, ::-1]
    swapped: Any = np.ascontiguousarray(octets).reshape(-1).view(array.dtype)
    return ArrayTensor(swapped.reshape(tensor.shape), tensor.dtype)


def _strings(mapping: Mapping, entry: BundleEntry, verify: bool) -> Tensor:
    """A tensor of strings. `entry.crc` covers the lengths as numbers of 32 bits (64 for those that need it)."""
    end, count = entry.offset + entry.size, 1
    for dim in entry.shape:
        count *= dim
    if count + 4 > entry.size:
        raise MalformedError(f"{count} strings in {entry.size} bytes", source=mapping.path, offset=entry.offset)
    place = _after_varints(mapping, entry.offset, end, count)
    lengths: Any = (
        decode_varints(np.frombuffer(mapping.buffer, np.uint8, place - entry.offset, entry.offset)) if count else []
    )
    start = place + 4
    numbers = [int(length) for length in lengths]
    if sum(numbers) != end - start:
        raise MalformedError(
            f"strings of {sum(numbers)} bytes announced, {end - start} stored", source=mapping.path, offset=entry.offset
        )
    if verify:
        crc = checksum(length_bytes(numbers))
        stored = bytes(mapping.view[place:start])
        if masked(crc).to_bytes(4, "little") != stored:
            raise _damaged(mapping, entry)
        if masked(checksum(mapping.view[start:end], checksum(stored, crc))) != entry.crc:
            raise _damaged(mapping, entry)
    array = np.empty(count, dtype=object)
    for index, length in enumerate(numbers):
        array[index] = bytes(mapping.buffer[start : start + length])
        start += length
    return ArrayTensor(array.reshape(entry.shape), STRING)


def length_bytes(lengths: list[int]) -> bytes:
    """Lengths of strings in the form that checksums are made of."""
    return b"".join(length.to_bytes(4 if length < 1 << 32 else 8, "little") for length in lengths)


def _after_varints(mapping: Mapping, start: int, end: int, count: int) -> int:
    """The place after `count` varints."""
    position, left = start, count
    while left:
        octets = np.frombuffer(mapping.buffer, np.uint8, min(end - position, 1 << 20), position)
        ends = np.flatnonzero(octets < 0x80)
        if not len(octets) or (not len(ends)):
            raise MalformedError("the lengths of its strings do not end", source=mapping.path, offset=start)
        taken = min(left, len(ends))
        position, left = position + int(ends[taken - 1]) + 1, left - taken
    if position + 4 > end:
        raise MalformedError("the lengths of its strings do not end", source=mapping.path, offset=start)
    return position
