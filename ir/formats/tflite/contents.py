"""What buffers hold: tensors of them without copying, and bytes of tensors."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphopt.ir.errors import MalformedError, ResourceError, UnsupportedError
from graphopt.ir.tensors import EXPANSION_LIMIT, FileTensor, Mapping, PackedTensor, RepeatedTensor, Tensor, pack
from graphopt.ir.types import STRING, UINT8, DType

Piece = bytes | memoryview
_CHUNK = 1 << 20  # bytes of a repeated value that are spelled out at a time
_ADDRESSABLE = 1 << 56  # elements, of up to 16 bytes


class Chunks:
    """The bytes of a buffer in several pieces, of which one may be there many times."""

    __slots__ = ("pieces", "size")

    def __init__(self, pieces: Sequence[Piece]):
        self.pieces, self.size = pieces, sum(map(len, pieces))

    def __len__(self) -> int:
        return self.size


Contents = Piece | Chunks


def pieces_of(data: Contents) -> Sequence[Piece]:
    """The bytes in order."""
    return data.pieces if isinstance(data, Chunks) else (data,)


class StringTensor(Tensor):
    """Strings as TFLite packs them: their number, where each begins and the last ends, then all their bytes."""

    __slots__ = ("packed",)

    def __init__(self, packed: memoryview, shape: Sequence[int]):
        super().__init__(STRING, shape)
        self.packed = packed

    @property
    def nbytes(self) -> int:
        return max(len(self.packed) - 8 - 4 * self.size, 0)

    def numpy(self) -> np.ndarray[Any, Any]:
        places = np.frombuffer(self.packed, "<i4", self.size + 1, 4).tolist()
        array = np.empty(self.size, object)
        for index in range(self.size):
            array[index] = bytes(self.packed[places[index] : places[index + 1]])
        return array.reshape(self.shape)


def stored_tensor(
    mapping: Mapping, data: memoryview, offset: int, dtype: DType, shape: tuple[int, ...]
) -> Tensor | None:
    """The tensor whose elements are `data`, at `offset` of `mapping`; None where they are not laid out densely.

    Raises `MalformedError` where strings are not packed as they should be.
    """
    size = math.prod(shape)
    if not is_addressable(shape):
        return None
    if dtype is STRING:
        _check_strings(data, size)
        return StringTensor(data, shape)
    if dtype.numpy is None:
        return None
    if dtype.bits < 8:
        length = -(-size * dtype.bits // 8)
        return (
            PackedTensor(FileTensor(mapping, offset, UINT8, (length,)), dtype, shape) if length == len(data) else None
        )
    return FileTensor(mapping, offset, dtype, shape) if size * dtype.itemsize == len(data) else None


def is_addressable(shape: Sequence[int]) -> bool:
    """NumPy can make an array of the shape; where a dimension is 0, it still multiplies the others."""
    return math.prod(dim for dim in shape if dim) <= _ADDRESSABLE


def _check_strings(data: memoryview, size: int) -> None:
    count = struct.unpack_from("<i", data)[0] if len(data) >= 4 else -1
    if count != size or len(data) < 8 + 4 * count:
        raise MalformedError(f"a buffer of {len(data)} bytes does not hold {size} strings", field="Buffer.data")
    places = np.frombuffer(data, "<i4", count + 1, 4)
    if places[0] < 8 + 4 * count - 4 or places[-1] > len(data) or (places[1:] < places[:-1]).any():
        raise MalformedError("the strings of a buffer lie out of bounds", field="Buffer.data")


def stored_bytes(held: Tensor) -> Contents:
    """The bytes that a buffer holds for `held`, without copying where it is stored so already, nor expanding it.

    Raises `ResourceError` for a compact tensor too large to expand, `UnsupportedError` for what has no elements.
    """
    if isinstance(held, FileTensor):
        return held.data()
    if isinstance(held, StringTensor):
        return held.packed
    if held.dtype is STRING:
        return _packed_strings(held)
    if isinstance(held, PackedTensor):
        return stored_bytes(held.packed)
    if held.dtype.numpy is None:
        raise UnsupportedError(f"a constant of type {held.dtype.name} has no elements to store")
    if isinstance(held, RepeatedTensor) and held.size > EXPANSION_LIMIT:
        raise ResourceError(f"a repeated value of shape {list(held.shape)} is too large to store")
    if isinstance(held, RepeatedTensor) and held.dtype.bits >= 8 and held.nbytes > 2 * _CHUNK:
        return _repeated_bytes(held)
    if held.dtype.bits < 8:
        return stored_bytes(pack(held.numpy(), held.dtype))
    array = np.ascontiguousarray(held.numpy())
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return array.reshape(-1).view(np.uint8).data if array.size else b""


def _repeated_bytes(held: RepeatedTensor) -> Chunks:
    """The leading values, then one piece of the last of them over and over."""
    leading = held.leading if held.leading.dtype.isnative else held.leading.astype(held.leading.dtype.newbyteorder("="))
    rest = held.size - len(leading)
    many, remainder = divmod(rest, _CHUNK // held.dtype.itemsize)
    piece = np.full(_CHUNK // held.dtype.itemsize, leading[-1]).view(np.uint8).data.toreadonly()
    return Chunks([leading.tobytes(), *[piece] * many, piece[: remainder * held.dtype.itemsize]])


def _packed_strings(held: Tensor) -> bytes:
    items = [bytes(item) for item in held.numpy().reshape(-1)]
    places = [4 * (len(items) + 2)]
    for item in items:
        places.append(places[-1] + len(item))
    if places[-1] >= 1 << 31:
        raise UnsupportedError("the strings of a constant take over 2 GiB")
    return struct.pack(f"<{len(places) + 1}i", len(items), *places) + b"".join(items)
