"""Writes a TensorBundle: tensors one after another into shards, then the index.

Nothing is gathered: a tensor that is a view of a file goes from there to the new file in pieces. The same tensors
in the same order make the same bytes.
"""

from __future__ import annotations

import contextlib
import os
import types
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np

from graphopt.ir.errors import UnsupportedError, UsageError, printable
from graphopt.ir.formats.bundle import BundleCheckpoint, length_bytes, shard_name
from graphopt.ir.formats.bundle_proto import BundleEntry, Slice, encode_entry, encode_header, slice_key, slice_shape
from graphopt.ir.formats.bundle_slices import SlicedTensor
from graphopt.ir.formats.table import checksum, masked, table_chunks
from graphopt.ir.formats.wire import varint
from graphopt.ir.tensors import FileTensor, Tensor
from graphopt.ir.types import STRING, DType

ALIGNMENT = 64  # bytes that every tensor starts at a multiple of, so that mapped arrays are aligned
PIECE = 1 << 24  # bytes that are written at a time


class BundleWriter:
    """Writes the bundle at `prefix`, as a context: the files appear when the block ends without an error.

    `shard_bytes` is the size beyond which another shard is started. Raises `UsageError` where files cannot be
    written, `UnsupportedError` for tensors that have no values.
    """

    def __init__(self, prefix: str | os.PathLike[str], *, shard_bytes: int | None = None):
        self.prefix, self.shard_bytes = os.fspath(prefix), shard_bytes
        self.entries: dict[bytes, BundleEntry] = {}
        self._files: list[str] = []
        self._file: BinaryIO | None = None
        self._position = 0

    def __enter__(self) -> BundleWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        if kind is None:
            try:
                self._finish()
                return
            except BaseException:
                self._discard()
                raise
        self._discard()

    def add(self, name: str, tensor: Tensor) -> None:
        """Write a whole tensor; one that was kept in slices keeps them."""
        if isinstance(tensor, SlicedTensor):
            for extents, part in tensor.parts:
                self.add_slice(name, tensor.shape, extents, part)
            return
        self._put(name.encode(), self._written(tensor))

    def add_slice(self, name: str, shape: Sequence[int], extents: Slice, part: Tensor) -> None:
        """Write one slice of a tensor of `shape`."""
        key, whole = name.encode(), tuple(shape)
        if slice_shape(extents, whole) != part.shape:
            raise UsageError(f"the slice {list(extents)} of '{printable(name)}' is not of shape {list(part.shape)}")
        known = self.entries.get(key, BundleEntry(part.dtype, whole))
        if known.shape != whole or known.dtype is not part.dtype or known.size:
            raise UsageError(f"the slices of '{printable(name)}' are not of one tensor")
        self._put(slice_key(name, extents), self._written(part))
        self.entries[key] = known._replace(slices=(*known.slices, extents))

    def copy(self, name: str, source: BundleCheckpoint) -> None:
        """Write the tensor `name` of another bundle byte for byte, whatever its type."""
        entry = source.entry(name)
        self._put(name.encode(), entry if entry.slices else self._copied(entry, source))
        for extents in entry.slices:
            key = slice_key(name, extents)
            self._put(key, self._copied(source.slices[key], source))

    def _copied(self, entry: BundleEntry, source: BundleCheckpoint) -> BundleEntry:
        if source.header.big_endian:
            return self._written(source.read(entry))
        view = source.shard(entry.shard).view[entry.offset : entry.offset + entry.size]
        shard, offset = self._place(entry.size)
        self._write(view)
        return entry._replace(shard=shard, offset=offset)

    def _put(self, key: bytes, entry: BundleEntry) -> None:
        if not key or key in self.entries:
            raise UsageError(f"the checkpoint already has a tensor '{printable(key.decode(errors='replace'))}'")
        self.entries[key] = entry

    def _written(self, tensor: Tensor) -> BundleEntry:
        dtype: DType = tensor.dtype
        if dtype is STRING:
            chunks, crc = _string_chunks(tensor)
        elif dtype.numpy is None:
            raise UnsupportedError(f"a tensor of {dtype} cannot be written to a checkpoint")
        else:
            chunks, crc = [], 0
        size = sum(map(len, chunks)) if chunks else tensor.size * dtype.itemsize
        shard, offset = self._place(size)
        for chunk in chunks or _dense_chunks(tensor):
            if not chunks:
                crc = checksum(chunk, crc)
            self._write(chunk)
        return BundleEntry(dtype, tensor.shape, shard, offset, size, masked(crc))

    def _place(self, size: int) -> tuple[int, int]:
        """Shard and offset for the next `size` bytes."""
        full = self.shard_bytes is not None and self._position and self._position + size > self.shard_bytes
        if self._file is None or full:
            self._close()
            self._files.append(f"{self.prefix}.data-{len(self._files):05d}.tmp")
            self._file = open(self._files[-1], "wb")  # noqa: SIM115 (closed when the shard is full or discarded)
            self._position = 0
        self._write(bytes(-self._position % ALIGNMENT))
        return len(self._files) - 1, self._position

    def _write(self, chunk: bytes | memoryview) -> None:
        assert self._file is not None
        for start in range(0, len(chunk), PIECE):
            self._file.write(chunk[start : start + PIECE])
        self._position += len(chunk)

    def _close(self) -> None:
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None

    def _finish(self) -> None:
        if self._file is None:
            self._place(0)
        self._close()
        folder, base = os.path.split(self.prefix)
        count = len(self._files)
        rows = [(b"", encode_header(count)), *((key, encode_entry(self.entries[key])) for key in sorted(self.entries))]
        temporary = f"{self.prefix}.index.tmp"
        with open(temporary, "wb") as index:
            index.writelines(table_chunks(rows))
            index.flush()
            os.fsync(index.fileno())
        for number, name in enumerate(self._files):
            os.replace(name, os.path.join(folder, shard_name(base, number, count)))
        os.replace(temporary, f"{self.prefix}.index")

    def _discard(self) -> None:
        if self._file is not None:
            self._file.close()
        for name in (*self._files, f"{self.prefix}.index.tmp"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)


def _dense_chunks(tensor: Tensor) -> Iterator[memoryview]:
    """The elements of `tensor` in pieces; a value that is not dense in memory is expanded a piece at a time."""
    if not tensor.size:
        return
    if isinstance(tensor, FileTensor):
        yield from _pieces(tensor.data())
        return
    array = tensor.numpy()
    if array.flags.c_contiguous or not array.shape:
        yield from _pieces(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return
    rows = max(1, PIECE // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        block = np.ascontiguousarray(array[start : start + rows])
        yield from _pieces(block.reshape(-1).view(np.uint8).data)


def _pieces(view: memoryview) -> Iterator[memoryview]:
    for start in range(0, len(view), PIECE):
        yield view[start : start + PIECE]


def _string_chunks(tensor: Tensor) -> tuple[list[bytes], int]:
    """Lengths, their checksum and the strings; and the checksum of it all."""
    strings = [bytes(item) for item in tensor.numpy().reshape(-1)]
    lengths = [len(item) for item in strings]
    crc = checksum(length_bytes(lengths))
    stored = masked(crc).to_bytes(4, "little")
    content = b"".join(strings)
    return [b"".join(map(varint, lengths)), stored, content], checksum(content, checksum(stored, crc))
