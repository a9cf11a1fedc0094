"""Checkpoints of the first version: one table, or several, whose values are slices of tensors as protobuf messages.

`tensorflow/core/util/saved_tensor_slice.proto`. The value under the empty key lists the tensors with type, shape and
slices; every other key is that of one slice, whose data stand in a typed list of a TensorProto.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from graphopt.ir.errors import MalformedError, UnsupportedError, printable
from graphopt.ir.formats import wire
from graphopt.ir.formats.bundle_proto import (
    Slice,
    known_dtype,
    parse_slice,
    read_slice,
    slice_key,
    slice_shape,
    static_shape,
)
from graphopt.ir.formats.bundle_slices import assembled, part_of
from graphopt.ir.formats.checkpoint import Checkpoint
from graphopt.ir.formats.confinement import map_inside
from graphopt.ir.formats.shape_proto import read_shape
from graphopt.ir.formats.table import Entry, Table
from graphopt.ir.formats.tensor_values import Array, as_dtype, count_piece, decode_piece, list_number, pieces
from graphopt.ir.tensors import ArrayTensor, FileTensor, Mapping, Tensor
from graphopt.ir.types import STRING, UNKNOWN_DTYPE, DType, Shape

_META_FIELDS = {1: "name", 2: "shape", 3: "type", 4: "slice"}


class SavedSlices(NamedTuple):
    """What a V1 checkpoint lists about a tensor."""

    dtype: DType
    shape: tuple[int, ...]
    slices: tuple[Slice, ...]


class TableCheckpoint(Checkpoint):
    """Reads the tables `shards`, which together are the checkpoint called `path`."""

    format = "table"

    def __init__(self, path: str, shards: list[str]):
        super().__init__(path)
        self.entries: dict[str, SavedSlices] = {}
        self.values: dict[bytes, Entry] = {}
        for shard in shards:
            folder, name = os.path.split(shard)
            self._read(map_inside(folder or ".", name))
        self._names = tuple(sorted(self.entries))

    def _read(self, mapping: Mapping) -> None:
        has_meta = False
        for entry in Table(mapping):
            try:
                if not entry.key:
                    has_meta = True
                    self._read_meta(entry)
                elif entry.key in self.values:
                    raise MalformedError("a slice stands in two files of the checkpoint")
                else:
                    self.values[entry.key] = entry
            except MalformedError as error:
                raise error.located(mapping.path) from None
        if not has_meta:
            raise MalformedError("the table lists no tensors: it is not a checkpoint", source=mapping.path)

    def _read_meta(self, entry: Entry) -> None:
        for tag, start, end in wire.fields(entry.buffer, entry.start, entry.stop):
            if tag != 0x0A:
                continue
            for inner, value, stop in wire.fields(entry.buffer, start, end):
                if inner == 0x0A:
                    name, found = _read_saved(entry.buffer, value, stop)
                    known = self.entries.get(name)
                    if known is not None:
                        if known[:2] != found[:2]:
                            raise MalformedError(f"tensor '{printable(name)}' is listed with two types")
                        found = found._replace(slices=known.slices + found.slices)
                    self.entries[name] = found

    @property
    def names(self) -> tuple[str, ...]:
        return self._names

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def entry(self, name: str) -> SavedSlices:
        """What the checkpoint lists about the tensor `name`."""
        found = self.entries.get(name)
        if found is None:
            raise self.missing(name)
        return found

    def dtype(self, name: str) -> DType:
        return self.entry(name).dtype

    def shape(self, name: str) -> tuple[int, ...]:
        return self.entry(name).shape

    def slices_of(self, name: str) -> tuple[Slice, ...]:
        found = self.entry(name).slices
        return () if len(found) == 1 and all(length < 0 for _, length in found[0]) else found

    def tensor(self, name: str, part: str = "", *, verify: bool = True) -> Tensor:
        entry = self.entry(name)  # blocks were verified when the table was read
        try:
            wanted = parse_slice(part) if part else None
            if wanted is not None and wanted[0] != entry.shape:
                raise MalformedError(
                    f"is of shape {list(entry.shape)} in the checkpoint, {list(wanted[0])} in the graph"
                )
            if wanted is not None and wanted[1] in entry.slices:
                return self._slice(name, entry, wanted[1])
            parts = [(extents, self._slice(name, entry, extents)) for extents in entry.slices]
            whole = assembled(entry.dtype, entry.shape, parts)
            return whole if wanted is None else part_of(whole, wanted[1])
        except MalformedError as error:
            raise MalformedError(
                f"tensor '{printable(name)}': {error.reason}", source=error.source or self.path, offset=error.offset
            ) from None

    def _slice(self, name: str, entry: SavedSlices, extents: Slice) -> Tensor:
        found = self.values.get(slice_key(name, extents))
        if found is None:
            raise MalformedError(f"its slice {list(extents)} is missing")
        for tag, start, end in wire.fields(found.buffer, found.start, found.stop):
            if tag == 0x12:
                for inner, value, stop in wire.fields(found.buffer, start, end):
                    if inner == 0x1A:
                        return _values(found.buffer, value, stop, entry.dtype, slice_shape(extents, entry.shape))
        raise MalformedError(f"its slice {list(extents)} has no data")


def _read_saved(buffer: wire.Buffer, start: int, end: int) -> tuple[str, SavedSlices]:
    """Name and contents of a SavedSliceMeta."""
    name, dtype, shape, slices = "", UNKNOWN_DTYPE, Shape(()), []
    for tag, value, stop in wire.fields(buffer, start, end):
        if tag == 0x0A:
            name = wire.text(buffer, value, stop, "name")
        elif tag == 0x12:
            shape = read_shape(buffer, value, stop)
        elif tag == 0x18:
            dtype = known_dtype(value)
        elif tag == 0x22:
            slices.append(read_slice(buffer, value, stop))
        else:
            wire.unexpected(tag, _META_FIELDS, start)
    if dtype is UNKNOWN_DTYPE:
        raise MalformedError(f"tensor '{printable(name)}' has no element type", offset=start)
    return name, SavedSlices(dtype, static_shape(shape), tuple(slices))


def _values(buffer: wire.Buffer, start: int, end: int, dtype: DType, shape: tuple[int, ...]) -> Tensor:
    """The values in the TensorProto between `start` and `end`, which gives neither type nor shape."""
    if dtype.numpy is None:
        raise UnsupportedError(f"a tensor of {dtype} has no values to read")
    number, count = list_number(dtype), Shape(shape).size
    found = list(pieces(buffer, start, end, number))
    if dtype is STRING:
        array = np.empty(len(found), dtype=object)
        array[:] = [bytes(buffer[begin:stop]) for _, begin, stop in found]
    else:
        per_value = 2 if dtype.kind == "complex" else 1
        held = sum(count_piece(buffer, number, *piece) for piece in found) // per_value
        is_raw = dtype.kind in ("float", "complex") and dtype.itemsize >= 4  # stored as the numbers themselves
        if is_raw and held == count and len(found) == 1 and found[0][0]:
            return FileTensor(Mapping("", buffer), found[0][1], dtype, shape)
        parts = [decode_piece(buffer, number, *piece) for piece in found]
        flat: Array = np.concatenate(parts) if parts else np.zeros(0, np.uint8)
        array = as_dtype(flat, number, dtype) if parts else np.zeros(0, dtype.numpy)
    if len(array) != count:
        raise MalformedError(f"{len(array)} values for the shape {list(shape)}", offset=start)
    return ArrayTensor(array.reshape(shape), dtype)
