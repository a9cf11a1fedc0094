"""TensorProto: located in the file and checked when it is read, decoded when its values are asked for.

Values stand in `tensor_content` or in one typed list, and a list may be shorter than the shape: its last value is
repeated to the end, and no value at all means zeros (`Tensor::FromProto` in TensorFlow's core/framework/tensor.cc).
Unlike TensorFlow, which takes one and ignores the other, a tensor that holds two payloads is refused.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np

from graphopt.ir.errors import MalformedError, ResourceError
from graphopt.ir.formats import wire
from graphopt.ir.formats.opaque import check_message
from graphopt.ir.formats.shape_proto import read_shape
from graphopt.ir.formats.tensor_values import (
    CONTENT,
    FLOAT8,
    LISTS,
    Array,
    as_dtype,
    content_strings,
    count_piece,
    decode_piece,
    list_number,
    pieces,
    run_end,
)
from graphopt.ir.tensors import EXPANSION_LIMIT, Mapping, Tensor
from graphopt.ir.types import DTYPES_BY_CODE, STRING, UNKNOWN_DTYPE, DType, Shape, TensorType

SIZE_LIMIT = (1 << 63) - 1  # elements of one tensor, as in TensorFlow
RANK_LIMIT = 254
NUMPY_RANK_LIMIT = 64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32
NUMPY_SIZE_LIMIT = 1 << 58  # elements, the empty dimensions left out, that any array may have
COMPARE_LIMIT = 1 << 20  # bytes up to which compact tensors are compared by their expanded values
_FIELDS = {1: "dtype", 2: "tensor_shape", 3: "version_number", 4: "tensor_content"} | {
    number: row.name for number, row in LISTS.items()
}


class ProtoTensor(Tensor):
    """A TensorProto between `start` and `end` of a mapped file.

    `number` is the field its values stand in (0: none), `count` how many are given. They are the content between
    `offset` and `stop`, or, if `is_spread`, stand in several fields between these. `numpy()` of a dense tensor is a
    view of the file; strings, varints and short lists are decoded at each call.
    """

    __slots__ = ("count", "end", "is_spread", "mapping", "number", "offset", "start", "stop")

    def __init__(self, mapping: Mapping, start: int, end: int, dtype: DType, shape: tuple[int, ...]):
        self.dtype, self.shape = dtype, shape
        self.mapping, self.start, self.end = mapping, start, end
        self.number = self.offset = self.stop = self.count = 0
        self.is_spread = False

    def raw(self) -> memoryview:
        """The serialised TensorProto, as it was read."""
        return self.mapping.view[self.start : self.end]

    @property
    def nbytes(self) -> int:
        if self.dtype is not STRING:
            return self.size * self.dtype.itemsize
        lengths = [len(item) for item in self._leading()]
        return sum(lengths) + (lengths[-1] * (self.size - len(lengths)) if lengths else 0)

    @property
    def stored_bytes(self) -> int:
        return self.stop - self.offset

    @property
    def is_compact(self) -> bool:
        """Fewer values are given than the shape has elements."""
        return self.count < self.size

    @property
    def _is_vast_and_empty(self) -> bool:
        """No elements, and yet more than any array may have but for the empty dimensions."""
        return not self.size and math.prod(dim for dim in self.shape if dim) > NUMPY_SIZE_LIMIT

    def numpy(self) -> Array:
        if self.dtype.numpy is None:
            raise TypeError(f"a tensor of {self.dtype.name} holds no array")
        if len(self.shape) > NUMPY_RANK_LIMIT:
            raise ResourceError(f"a tensor of rank {len(self.shape)} is more than NumPy can hold")
        if self._is_vast_and_empty:
            raise ResourceError(f"an empty tensor of shape {list(self.shape)} is more than NumPy can hold")
        leading = self._leading()
        if not self.is_compact:
            return leading.reshape(self.shape)
        if self.size > EXPANSION_LIMIT:
            raise ResourceError(f"a repeated value of shape {list(self.shape)} is too large to expand in memory")
        if len(leading) == 1:
            return np.broadcast_to(leading.reshape(()), self.shape)
        array = np.empty(self.size, leading.dtype)
        array[: len(leading)] = leading
        array[len(leading) :] = leading[-1]
        return array.reshape(self.shape)

    def splat(self) -> Any | None:
        if self.dtype.numpy is None or self.count > 1 or self.size == 0:
            return None
        return self._leading()[0]

    def fingerprint(self) -> tuple[Any, ...]:
        if self.dtype.numpy is None:
            return (self.dtype.code, self.shape, bytes(self.raw()))
        if self._is_vast_and_empty:
            return (self.dtype.code, self.shape, b"")
        if not self.is_compact or self.nbytes <= COMPARE_LIMIT:
            return super().fingerprint()
        leading = self._leading()
        values = repr(leading.tolist()).encode() if self.dtype is STRING else leading.tobytes()
        return (self.dtype.code, self.shape, "repeated", hashlib.blake2b(values, digest_size=16).digest())

    def _leading(self) -> Array:
        """The values that are given, flat; one default where none is and the shape is not empty."""
        if self.count == 0:
            fill = b"" if self.dtype is STRING else 0
            return np.full(min(self.size, 1), fill, self.dtype.numpy)
        buffer, number = self.mapping.buffer, self.number
        if self.dtype is STRING:
            array = np.empty(self.count, dtype=object)
            if number == CONTENT:
                array[:] = content_strings(buffer, self.offset, self.stop, self.count)
            else:
                array[:] = [buffer[start:stop] for _, start, stop in self._pieces()]
            return array
        if number == CONTENT:
            return as_dtype(np.frombuffer(buffer, np.uint8, self.stop - self.offset, self.offset), number, self.dtype)
        parts = [decode_piece(buffer, number, *piece) for piece in self._pieces()]
        return as_dtype(parts[0] if len(parts) == 1 else np.concatenate(parts), number, self.dtype)

    def _pieces(self) -> Any:
        if self.is_spread:
            return pieces(self.mapping.buffer, self.offset, self.stop, self.number)
        return ((True, self.offset, self.stop),)


_Header = tuple[DType, tuple[int, ...], int]


class TensorReader:
    """Locates the TensorProtos of one mapped file; equal headers (type and shape) are decoded once."""

    __slots__ = ("_headers", "_types", "buffer", "mapping")

    def __init__(self, mapping: Mapping):
        self.mapping, self.buffer = mapping, mapping.buffer
        self._headers: dict[bytes, _Header] = {}
        self._types: dict[tuple[DType, tuple[int, ...]], TensorType] = {}

    def type_of(self, tensor: Tensor) -> TensorType:
        """Type of a constant that holds `tensor`; one shared instance for each dtype and shape."""
        key = (tensor.dtype, tensor.shape)
        found = self._types.get(key)
        if found is None:
            found = self._types[key] = TensorType(tensor.dtype, Shape(tensor.shape))
        return found

    def read(self, start: int, end: int) -> ProtoTensor:
        """The tensor between `start` and `end`. Raises `MalformedError` where it contradicts itself."""
        head = self.buffer[start : min(end, start + 64)]
        # The canonical start, type (08 xx) and shape (12 nn ...), is the same for most tensors of a file.
        if len(head) > 3 and head[0] == 0x08 and head[1] < 0x80 and head[2] == 0x12 and head[3] + 4 <= len(head):
            stop = 4 + head[3]
            header = self._headers.get(head[:stop])
            if header is None:
                header = self._headers[head[:stop]] = self._header(head[1], start + 4, start + stop)
            return self._payload(start, start + stop, end, header)
        return self._any(start, end)

    def _header(self, code: int, start: int, end: int) -> _Header:
        dtype = DTYPES_BY_CODE.get(code)
        if dtype is None and code == 0:
            dtype = UNKNOWN_DTYPE
        if dtype is None:
            raise MalformedError(f"no element type has the number {code}", field="dtype", offset=start)
        if dtype.code > 100:
            raise MalformedError(f"a tensor cannot be of type {dtype.name}", field="dtype", offset=start)
        shape = read_shape(self.buffer, start, end)
        dims = shape.static
        if dims is None:
            raise MalformedError(f"a tensor cannot have the shape {shape}", field="tensor_shape", offset=start)
        if len(dims) > RANK_LIMIT:
            raise MalformedError(f"a tensor cannot have {len(dims)} dimensions", field="tensor_shape", offset=start)
        if math.prod(dim for dim in dims if dim) > SIZE_LIMIT:
            raise MalformedError("a tensor has more than 2**63 - 1 elements", field="tensor_shape", offset=start)
        return dtype, dims, math.prod(dims)

    def _any(self, start: int, end: int) -> ProtoTensor:
        """Fields in any order: find type and shape first, then what holds the values."""
        code: int | None = None
        shape: tuple[int, int] | None = None
        for tag, value, stop in wire.fields(self.buffer, start, end):
            if tag == 0x08 and code is None:
                code = value
            elif tag == 0x12 and shape is None:
                shape = (value, stop)
            elif tag in (0x08, 0x12):
                raise MalformedError("is given twice", field=_FIELDS[tag >> 3], offset=start)
        shape_start, shape_end = shape or (end, end)
        return self._payload(start, start, end, self._header(code or 0, shape_start, shape_end))

    def _payload(self, start: int, position: int, end: int, header: _Header) -> ProtoTensor:
        dtype, shape, size = header
        tensor = ProtoTensor(self.mapping, start, end, dtype, shape)
        if position != end:
            tag = self.buffer[position]
            if tag < 0x80 and tag & 7 == wire.BYTES and tag > 0x18:
                offset, stop = wire.read_length(self.buffer, position + 1, end)
                if stop == end:
                    tensor.number, tensor.offset, tensor.stop = tag >> 3, offset, stop
            if tensor.number == 0:
                self._scan(tensor, position, end)
            self._measure(tensor, size)
        return tensor

    def _scan(self, tensor: ProtoTensor, start: int, end: int) -> None:
        """Find the field that holds the values, or the fields of one number that do."""
        buffer, position = self.buffer, start
        occurrences = value = 0
        has_version = False
        while position < end:
            tag, content, stop = next(wire.fields(buffer, position, end))
            number = tag >> 3
            if number <= 3:
                if tag != _TAGS[number]:
                    wire.unexpected(tag, _FIELDS, position)
                if (number < 3 and start > tensor.start) or (number == 3 and has_version):
                    raise MalformedError("is given twice", field=_FIELDS[number], offset=position)
                has_version |= number == 3
            elif number in _FIELDS:
                field_stop = stop
                stop = run_end(buffer, position, end, tag, stop)
                if tensor.number not in (0, number) or (occurrences and number in (CONTENT, FLOAT8)):
                    names = " and ".join(dict.fromkeys((_FIELDS[tensor.number], _FIELDS[number])))
                    raise MalformedError(f"the values are given twice, in {names}", offset=position)
                if occurrences == 0:
                    tensor.number, tensor.offset, value = number, position, content
                    tensor.is_spread = tag & 7 != wire.BYTES or stop != field_stop
                occurrences += 1
                tensor.stop = stop
            position = stop
        if occurrences == 1 and not tensor.is_spread:
            tensor.offset = value
        else:
            tensor.is_spread = occurrences > 0

    def _measure(self, tensor: ProtoTensor, size: int) -> None:
        """Count the values, and check that type and shape allow them."""
        number, dtype = tensor.number, tensor.dtype
        if number == CONTENT:
            self._measure_content(tensor, size)
            return
        row = LISTS.get(number)
        if row is None:
            tensor.number = 0  # a field of a later version, kept as it is
            return
        if number != list_number(dtype):
            raise MalformedError(f"{row.name} cannot hold values of {dtype.name}", offset=tensor.offset)
        buffer = self.buffer
        if row.element is None and dtype is not STRING:
            check_message("TensorProto", bytes(tensor.raw()), row.name, tensor.start)
        count = sum(count_piece(buffer, number, *piece) for piece in tensor._pieces())
        if count % row.per_value:
            raise MalformedError("half a complex number is left over", field=row.name, offset=tensor.offset)
        tensor.count = count // row.per_value
        if tensor.count > size:
            raise MalformedError(
                f"{tensor.count} values are more than shape {Shape(tensor.shape)} holds",
                field=row.name,
                offset=tensor.offset,
            )

    def _measure_content(self, tensor: ProtoTensor, size: int) -> None:
        given, dtype = tensor.stop - tensor.offset, tensor.dtype
        if given == 0:
            tensor.number = 0
        elif dtype is STRING and 0 < size <= given:
            content_strings(self.buffer, tensor.offset, tensor.stop, size)
            tensor.count = size
        elif dtype.numpy is None:
            tensor.count = size  # handles: opaque bytes
        elif dtype is not STRING and given == size * dtype.itemsize:
            tensor.count = size
        else:
            need = "at least as many" if dtype is STRING else size * dtype.itemsize
            raise MalformedError(
                f"{given} bytes are there, shape {Shape(tensor.shape)} of {dtype.name} needs {need}",
                field="tensor_content",
                offset=tensor.offset,
            )


_TAGS = {0: 0, 1: 0x08, 2: 0x12, 3: 0x18}
