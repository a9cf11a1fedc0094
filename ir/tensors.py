"""Tensor data that is not copied until somebody changes it.

Every tensor answers for dtype, shape and size without touching its bytes; `numpy()` gives the values.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from graphopt.ir.errors import ResourceError
from graphopt.ir.types import INT8, STRING, UINT8, DType, dtype_of

Buffer = Any  # bytes, memoryview or mmap
BLOCK, BLOCKED_BYTES = 256, 1 << 18  # of a matrix that is transposed: rows and columns at once, and from which size
EXPANSION_LIMIT = 1 << 31  # elements beyond which a compact tensor is not expanded by mistake


class Tensor:
    """Base of all tensors: an immutable array of `dtype` and static `shape`.

    Subclasses provide `numpy()`; the array returned may be a read-only view and must not be written to.
    """

    __slots__ = ("dtype", "shape")

    def __init__(self, dtype: DType, shape: Sequence[int]):
        self.dtype, self.shape = dtype, tuple(shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the values as a dense array (strings: their lengths)."""
        return self.size * self.dtype.itemsize

    @property
    def stored_bytes(self) -> int:
        """Bytes that holding the tensor really costs: less than `nbytes` for a repeated or packed value."""
        return self.nbytes

    def numpy(self) -> np.ndarray[Any, Any]:
        """The values, shaped. Read-only where they are shared with a file."""
        raise TypeError(f"{type(self).__name__} of {self.dtype.name} holds no array")

    def splat(self) -> Any | None:
        """The one value that every element has, as a NumPy scalar, if that is known without a scan."""
        return None

    def fingerprint(self) -> tuple[Any, ...]:
        """A key of dtype, shape and bytes: equal keys mean equal bytes (so 0.0 and -0.0 differ).

        A compact tensor has a key of its own form, other than that of the same values spelled out.
        """
        array = self.numpy()
        if self.dtype.kind == "string":
            digest = hashlib.blake2b(repr(array.tolist()).encode(), digest_size=16).digest()
        else:
            digest = hashlib.blake2b(np.ascontiguousarray(array).view(np.uint8).data, digest_size=16).digest()
        return (self.dtype.code, self.shape, digest)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.dtype.name}{list(self.shape)})"


class ArrayTensor(Tensor):
    """Values in an array of this process, which the tensor now owns."""

    __slots__ = ("_array",)

    def __init__(self, array: np.ndarray[Any, Any], dtype: DType | None = None):
        super().__init__(dtype or dtype_of(array), array.shape)
        self._array = array

    @property
    def nbytes(self) -> int:
        if self.dtype.kind == "string":
            return sum(len(item) for item in self._array.flat)
        return int(self._array.nbytes)

    def numpy(self) -> np.ndarray[Any, Any]:
        return self._array


class Mapping:
    """A file, or part of it, mapped read-only; closed when nothing refers to it any more."""

    __slots__ = ("buffer", "path", "view")

    def __init__(self, path: str | os.PathLike[str], buffer: Buffer | None = None):
        self.path = os.fspath(path)
        if buffer is None:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        self.buffer = buffer
        self.view = memoryview(buffer)

    def __len__(self) -> int:
        return len(self.view)


class FileTensor(Tensor):
    """Values at `offset` of a mapped file, `itemsize` bytes an element, little-endian; read when asked for."""

    __slots__ = ("mapping", "offset")

    def __init__(self, mapping: Mapping, offset: int, dtype: DType, shape: Sequence[int]):
        super().__init__(dtype, shape)
        self.mapping, self.offset = mapping, offset

    def numpy(self) -> np.ndarray[Any, Any]:
        assert self.dtype.numpy is not None
        flat = np.frombuffer(self.mapping.buffer, self.dtype.numpy, self.size, self.offset)
        return flat.reshape(self.shape)

    def data(self) -> memoryview:
        """The raw bytes, without copying."""
        return self.mapping.view[self.offset : self.offset + self.nbytes]


class RepeatedTensor(Tensor):
    """A few leading values and the last of them repeated to the end: TensorProto's compact form.

    `leading` is a flat array with at least one element and no more than `shape` holds.
    """

    __slots__ = ("leading",)

    def __init__(self, leading: np.ndarray[Any, Any], dtype: DType, shape: Sequence[int]):
        super().__init__(dtype, shape)
        self.leading = leading

    @property
    def nbytes(self) -> int:
        if self.dtype.kind == "string":
            lengths = [len(item) for item in self.leading]
            return sum(lengths) + lengths[-1] * (self.size - len(lengths))
        return self.size * self.dtype.itemsize

    @property
    def stored_bytes(self) -> int:
        if self.dtype.kind == "string":
            return sum(len(item) for item in self.leading)
        return int(self.leading.nbytes)

    def numpy(self) -> np.ndarray[Any, Any]:
        if self.size > EXPANSION_LIMIT:
            raise ResourceError(f"a repeated value of shape {list(self.shape)} is too large to expand in memory")
        if len(self.leading) == 1:
            return np.broadcast_to(self.leading.reshape(()), self.shape)
        array = np.empty(self.size, self.leading.dtype)
        array[: len(self.leading)] = self.leading
        array[len(self.leading) :] = self.leading[-1]
        return array.reshape(self.shape)

    def splat(self) -> Any | None:
        return self.leading[0] if len(self.leading) == 1 else None

    def fingerprint(self) -> tuple[Any, ...]:
        leading = tuple(self.leading.tolist()) if self.dtype.kind == "string" else self.leading.tobytes()
        return (self.dtype.code, self.shape, "repeated", leading)


class PackedTensor(Tensor):
    """Elements below 8 bits, several to a byte, the first in the low bits (FlatBuffer's form)."""

    __slots__ = ("packed",)

    def __init__(self, packed: Tensor | np.ndarray[Any, Any], dtype: DType, shape: Sequence[int]):
        super().__init__(dtype, shape)
        self.packed = packed if isinstance(packed, Tensor) else ArrayTensor(packed, UINT8)

    @property
    def stored_bytes(self) -> int:
        return -(-self.size * self.dtype.bits // 8)

    def numpy(self) -> np.ndarray[Any, Any]:
        per_byte, mask = 8 // self.dtype.bits, (1 << self.dtype.bits) - 1
        octets = self.packed.numpy().reshape(-1).view(np.uint8)
        shifts = np.arange(per_byte, dtype=np.uint8) * np.uint8(self.dtype.bits)
        codes = ((octets[:, None] >> shifts) & np.uint8(mask)).reshape(-1)[: self.size]
        if self.dtype.kind == "int":
            sign = np.uint8(1 << (self.dtype.bits - 1))
            codes = ((codes ^ sign).astype(INT8.numpy) - sign.astype(np.int8)).astype(np.int8)
        assert self.dtype.numpy is not None
        if self.dtype.kind == "float":
            return codes.view(self.dtype.numpy).reshape(self.shape)
        return codes.astype(self.dtype.numpy).reshape(self.shape)


def pack(array: np.ndarray[Any, Any], dtype: DType) -> PackedTensor:
    """`array` with several elements to a byte. The inverse of `PackedTensor.numpy`."""
    per_byte, mask = 8 // dtype.bits, (1 << dtype.bits) - 1
    flat = np.ascontiguousarray(array).reshape(-1)
    codes = flat.view(np.uint8) if dtype.kind == "float" else flat.astype(np.int8).view(np.uint8) & np.uint8(mask)
    codes = np.concatenate([codes, np.zeros(-len(codes) % per_byte, np.uint8)]).reshape(-1, per_byte)
    packed = np.zeros(len(codes), np.uint8)
    for place in range(per_byte):
        packed |= codes[:, place] << np.uint8(place * dtype.bits)
    return PackedTensor(packed, dtype, array.shape)


def tensor(values: Any, dtype: DType | None = None) -> Tensor:
    """A tensor of what NumPy makes of `values`: arrays are shared, not copied; str becomes UTF-8 bytes."""
    if isinstance(values, Tensor):
        return values
    if dtype is STRING or (dtype is None and _is_text(values)):
        return ArrayTensor(_string_array(values), STRING)
    array = np.asarray(values)
    if dtype is None and array.dtype == np.float64 and not isinstance(values, (np.ndarray, np.generic)):
        array = array.astype(np.float32)
    elif dtype is None and array.dtype == np.int64 and not isinstance(values, (np.ndarray, np.generic)):
        array = array.astype(np.int32)
    elif dtype is not None and dtype.numpy is not None and array.dtype != dtype.numpy:
        array = array.astype(dtype.numpy)
    if not array.dtype.isnative:  # elements are little-endian wherever their bytes are used
        array = array.astype(array.dtype.newbyteorder("="))
    return ArrayTensor(contiguous(array), dtype)


def contiguous(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """`array` in C order: itself, or a copy. A transposed matrix is copied in blocks that a cache holds."""
    if array.ndim != 2 or array.flags.c_contiguous or not array.flags.f_contiguous or array.nbytes < BLOCKED_BYTES:
        return np.asarray(array, order="C")
    result = np.empty(array.shape, array.dtype)
    for row in range(0, array.shape[0], BLOCK):
        for column in range(0, array.shape[1], BLOCK):
            rows, columns = slice(row, row + BLOCK), slice(column, column + BLOCK)
            result[rows, columns] = array[rows, columns]
    return result


def _is_text(values: Any) -> bool:
    if isinstance(values, (str, bytes)):
        return True
    if isinstance(values, np.ndarray):
        return values.dtype.kind in "OSU"
    return isinstance(values, (list, tuple)) and bool(values) and _is_text(values[0])


def _string_array(values: Any) -> np.ndarray[Any, Any]:
    source = np.array(values, dtype=object)
    result = np.empty(source.shape, dtype=object)
    for index, item in _indexed(source):
        result[index] = item.encode() if isinstance(item, str) else bytes(item)
    return result


def _indexed(array: np.ndarray[Any, Any]) -> Iterator[tuple[tuple[int, ...], Any]]:
    for index in np.ndindex(array.shape):
        yield index, array[index]


def total_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes stored by `tensors`, each counted once."""
    return sum({id(item): item.stored_bytes for item in tensors}.values())
