"""Element types, shapes and tensor types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from graphopt.ir import dimensions
from graphopt.ir.dimensions import Dim, SymbolicDim


class DType:
    """One element type. Instances are unique: compare with `is` or `==`.

    `code` is TensorFlow's `DataType` number, `numpy` the NumPy type that holds an element (object for strings,
    None where NumPy has none), `bits` the width of an element (0 where it varies).
    """

    __slots__ = ("bits", "code", "kind", "name", "numpy")

    def __init__(self, name: str, code: int, numpy: Any, bits: int, kind: str):
        self.name, self.code, self.bits, self.kind = name, code, bits, kind
        self.numpy: np.dtype[Any] | None = None if numpy is None else np.dtype(numpy)

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        return (dtype_named, (self.name,))

    @property
    def is_float(self) -> bool:
        """Binary floating point, 8 bits to 64."""
        return self.kind == "float"

    @property
    def is_integer(self) -> bool:
        """Signed or unsigned integer, quantized types excluded."""
        return self.kind in ("int", "uint")

    @property
    def is_quantized(self) -> bool:
        """One of TensorFlow's `qint` family."""
        return self.kind == "quantized"

    @property
    def is_numeric(self) -> bool:
        """Has arithmetic: floats, integers and complex numbers."""
        return self.kind in ("float", "int", "uint", "complex")

    @property
    def is_handle(self) -> bool:
        """Resource or variant: a reference to something that is not a dense array."""
        return self.kind == "handle"

    @property
    def itemsize(self) -> int:
        """Bytes an element takes in an unpacked array; 0 where it varies."""
        return self.numpy.itemsize if self.numpy is not None and self.kind != "string" else 0


def _table() -> dict[str, DType]:
    rows: list[tuple[str, int, Any, int, str]] = [
        ("float32", 1, np.float32, 32, "float"),
        ("float64", 2, np.float64, 64, "float"),
        ("int32", 3, np.int32, 32, "int"),
        ("uint8", 4, np.uint8, 8, "uint"),
        ("int16", 5, np.int16, 16, "int"),
        ("int8", 6, np.int8, 8, "int"),
        ("string", 7, np.object_, 0, "string"),
        ("complex64", 8, np.complex64, 64, "complex"),
        ("int64", 9, np.int64, 64, "int"),
        ("bool", 10, np.bool_, 8, "bool"),
        ("qint8", 11, np.int8, 8, "quantized"),
        ("quint8", 12, np.uint8, 8, "quantized"),
        ("qint32", 13, np.int32, 32, "quantized"),
        ("bfloat16", 14, ml_dtypes.bfloat16, 16, "float"),
        ("qint16", 15, np.int16, 16, "quantized"),
        ("quint16", 16, np.uint16, 16, "quantized"),
        ("uint16", 17, np.uint16, 16, "uint"),
        ("complex128", 18, np.complex128, 128, "complex"),
        ("float16", 19, np.float16, 16, "float"),
        ("resource", 20, None, 0, "handle"),
        ("variant", 21, None, 0, "handle"),
        ("uint32", 22, np.uint32, 32, "uint"),
        ("uint64", 23, np.uint64, 64, "uint"),
        ("float8_e5m2", 24, ml_dtypes.float8_e5m2, 8, "float"),
        ("float8_e4m3fn", 25, ml_dtypes.float8_e4m3fn, 8, "float"),
        ("float8_e4m3fnuz", 26, ml_dtypes.float8_e4m3fnuz, 8, "float"),
        ("float8_e4m3b11fnuz", 27, ml_dtypes.float8_e4m3b11fnuz, 8, "float"),
        ("float8_e5m2fnuz", 28, ml_dtypes.float8_e5m2fnuz, 8, "float"),
        ("int4", 29, ml_dtypes.int4, 4, "int"),
        ("uint4", 30, ml_dtypes.uint4, 4, "uint"),
        ("int2", 31, ml_dtypes.int2, 2, "int"),
        ("uint2", 32, ml_dtypes.uint2, 2, "uint"),
        ("float4_e2m1fn", 33, ml_dtypes.float4_e2m1fn, 4, "float"),
    ]
    table = {row[0]: DType(*row) for row in rows}
    # Reference types (v1 `Variable` outputs): the same element, number + 100.
    for name, code, numpy, bits, kind in rows:
        table[f"{name}_ref"] = DType(f"{name}_ref", code + 100, numpy, bits, kind)
    table["unknown"] = DType("unknown", 0, None, 0, "unknown")
    return table


DTYPES: Mapping[str, DType] = _table()
DTYPES_BY_CODE: Mapping[int, DType] = {dtype.code: dtype for dtype in DTYPES.values() if dtype.code}
_BY_NUMPY: Mapping[Any, DType] = {
    dtype.numpy: dtype
    for dtype in reversed([d for d in DTYPES.values() if d.code < 100])
    if dtype.numpy is not None and dtype.kind != "quantized"
}

FLOAT32, FLOAT64, FLOAT16, BFLOAT16 = (DTYPES[n] for n in ("float32", "float64", "float16", "bfloat16"))
INT8, INT16, INT32, INT64 = (DTYPES[n] for n in ("int8", "int16", "int32", "int64"))
UINT8, UINT16, UINT32, UINT64 = (DTYPES[n] for n in ("uint8", "uint16", "uint32", "uint64"))
BOOL, STRING, COMPLEX64, COMPLEX128 = (DTYPES[n] for n in ("bool", "string", "complex64", "complex128"))
RESOURCE, VARIANT, UNKNOWN_DTYPE = (DTYPES[n] for n in ("resource", "variant", "unknown"))


def dtype_named(name: str) -> DType:
    """The type called `name`. Raises `KeyError` for a name no type has."""
    return DTYPES[name]


def dtype_of(array_or_dtype: Any) -> DType:
    """The element type of a NumPy array or dtype; strings for object, bytes and str arrays.

    Raises `TypeError` where TensorFlow has no such type.
    """
    dtype = np.dtype(getattr(array_or_dtype, "dtype", array_or_dtype))
    if dtype.kind in "OSU":
        return STRING
    found = _BY_NUMPY.get(dtype.newbyteorder("="))
    if found is None:
        raise TypeError(f"no tensor element type corresponds to NumPy's {dtype}")
    return found


def dereferenced(dtype: DType) -> DType:
    """The element type without `_ref`."""
    return DTYPES_BY_CODE[dtype.code - 100] if dtype.code > 100 else dtype


class Shape:
    """The shape of a tensor: a tuple of dimensions, or unknown altogether (`dims is None`)."""

    __slots__ = ("dims",)

    def __init__(self, dims: Iterable[Dim] | None = None):
        self.dims: tuple[Dim, ...] | None = None if dims is None else tuple(dims)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shape) and self.dims == other.dims

    def __hash__(self) -> int:
        return hash(self.dims)

    def __repr__(self) -> str:
        return f"Shape({self})"

    def __str__(self) -> str:
        if self.dims is None:
            return "[*]"
        return "[" + ", ".join("?" if dim is None else str(dim) for dim in self.dims) + "]"

    def __getitem__(self, index: int) -> Dim:
        return None if self.dims is None else self.dims[index]

    @property
    def rank(self) -> int | None:
        """Number of dimensions, None if unknown."""
        return None if self.dims is None else len(self.dims)

    @property
    def is_static(self) -> bool:
        """Every dimension is a number."""
        return self.dims is not None and all(type(dim) is int for dim in self.dims)

    @property
    def static(self) -> tuple[int, ...] | None:
        """The dimensions as numbers, None unless all are."""
        if self.dims is None:
            return None
        numbers = tuple(dim for dim in self.dims if isinstance(dim, int))
        return numbers if len(numbers) == len(self.dims) else None

    @property
    def size(self) -> Dim:
        """Number of elements: a number, an expression, or None."""
        return None if self.dims is None else dimensions.product(self.dims)

    def merged(self, other: Shape) -> Shape | None:
        """What both say together, None where they contradict each other. Numbers win over symbols."""
        if self.dims is None or self == other:
            return other
        if other.dims is None:
            return self
        if len(self.dims) != len(other.dims):
            return None
        merged: list[Dim] = []
        for left, right in zip(self.dims, other.dims, strict=True):
            if isinstance(left, int) and isinstance(right, int) and left != right:
                return None
            merged.append(left if isinstance(left, int) or right is None else right)
        return Shape(merged)

    def substitute(self, values: Mapping[str, int]) -> Shape:
        """The shape with named dimensions replaced by numbers."""
        if self.dims is None:
            return self
        return Shape(d.substitute(values) if isinstance(d, SymbolicDim) else d for d in self.dims)


UNKNOWN_SHAPE = Shape(None)
SCALAR = Shape(())


class Quantization(NamedTuple):
    """How integers stand for reals: `real = scale * (integer - zero_point)`, per tensor or along `axis`."""

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int | None = None


class TensorType:
    """Element type, shape and, for integers that stand for reals, the quantization of a value."""

    __slots__ = ("dtype", "quantization", "shape")

    def __init__(self, dtype: DType, shape: Shape = UNKNOWN_SHAPE, quantization: Quantization | None = None):
        self.dtype, self.shape, self.quantization = dtype, shape, quantization

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, TensorType)
            and self.dtype is other.dtype
            and self.shape == other.shape
            and self.quantization == other.quantization
        )

    def __hash__(self) -> int:
        return hash((self.dtype.code, self.shape, self.quantization))

    def __repr__(self) -> str:
        return f"TensorType({self})"

    def __str__(self) -> str:
        return f"{self.dtype.name}{self.shape}"

    def with_shape(self, shape: Shape) -> TensorType:
        """The same type with another shape."""
        return TensorType(self.dtype, shape, self.quantization)


UNKNOWN_TYPE = TensorType(UNKNOWN_DTYPE)
_UNSHAPED: Mapping[DType, TensorType] = {dtype: TensorType(dtype) for dtype in DTYPES.values()}


def unshaped(dtype: DType) -> TensorType:
    """`dtype` with an unknown shape; one shared instance for each dtype."""
    return _UNSHAPED[dtype]


def tensor_type(dtype: DType | str, shape: Sequence[Dim] | Shape | None = None) -> TensorType:
    """Short way to write a type: `tensor_type("float32", [None, 3])`."""
    resolved = dtype_named(dtype) if isinstance(dtype, str) else dtype
    return TensorType(resolved, shape if isinstance(shape, Shape) else Shape(shape))
