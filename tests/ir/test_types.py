"""Element types, shapes and tensor types."""

from __future__ import annotations

import copy
import pickle

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.ir import Shape, TensorType, dtype_named, tensor_type
from graphopt.ir.dimensions import symbol
from graphopt.ir.types import (
    DTYPES,
    DTYPES_BY_CODE,
    FLOAT32,
    STRING,
    UNKNOWN_SHAPE,
    UNKNOWN_TYPE,
    DType,
    Quantization,
    dereferenced,
    dtype_of,
    unshaped,
)

PLAIN = [dtype for dtype in DTYPES.values() if 0 < dtype.code < 100]


@pytest.mark.tensorflow
def test_numbers_and_names_are_tensorflows() -> None:
    from tensorflow.core.framework import types_pb2

    numbers = dict(types_pb2.DataType.items())
    theirs = {"half": "float16", "float": "float32", "double": "float64"}
    for name, number in numbers.items():
        if number:
            short = name.removeprefix("DT_").lower()
            reference = short.endswith("_ref")
            plain = short.removesuffix("_ref")
            ours = theirs.get(plain, plain) + ("_ref" if reference else "")
            assert DTYPES[ours].code == number, name
    assert {dtype.code for dtype in PLAIN} == {number for number in numbers.values() if 0 < number < 100}


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_types_are_unique_objects(dtype: DType) -> None:
    assert dtype_named(dtype.name) is dtype
    assert pickle.loads(pickle.dumps(dtype)) is dtype
    assert copy.deepcopy(dtype) is dtype
    assert repr(dtype) == dtype.name
    if dtype.code:
        assert DTYPES_BY_CODE[dtype.code] is dtype
    if dtype.code > 100:
        assert dereferenced(dtype).name == dtype.name.removesuffix("_ref")
    else:
        assert dereferenced(dtype) is dtype


@pytest.mark.parametrize("dtype", PLAIN, ids=str)
def test_numpy_types_lead_back(dtype: DType) -> None:
    if dtype.numpy is not None and not dtype.is_quantized:
        assert dtype_of(np.zeros(1, dtype.numpy)) is dtype
        assert dtype_of(dtype.numpy) is dtype
    if dtype.numpy is not None and dtype is not STRING:
        assert dtype.itemsize == dtype.numpy.itemsize == max(dtype.bits, 8) // 8
    else:
        assert dtype.itemsize == 0


def test_what_numpy_calls_otherwise() -> None:
    assert dtype_of(np.dtype(">f4")) is FLOAT32
    assert dtype_of(np.array(["a"])) is dtype_of(np.array([b"a"])) is dtype_of(np.array(["a"], object)) is STRING
    assert dtype_of(np.dtype(ml_dtypes.bfloat16)) is DTYPES["bfloat16"]
    for strange in ("datetime64[s]", "V3"):
        with pytest.raises(TypeError, match="no tensor element type corresponds to NumPy's"):
            dtype_of(np.dtype(strange))
    with pytest.raises(KeyError):
        dtype_named("float33")


def test_kinds() -> None:
    for question, yes, no in (
        ("is_float", ("float8_e5m2", "bfloat16"), ("int8", "complex64")),
        ("is_integer", ("uint4", "int64"), ("qint8", "bool")),
        ("is_numeric", ("complex64", "int2"), ("string", "bool")),
    ):
        assert all(getattr(DTYPES[name], question) for name in yes)
        assert not any(getattr(DTYPES[name], question) for name in no)
    assert DTYPES["qint32"].is_quantized
    assert DTYPES["variant"].is_handle


def test_shapes() -> None:
    batch = symbol("batch")
    shape = Shape([None, batch * 2, 3])
    assert str(shape) == "[?, 2*batch, 3]"
    assert repr(UNKNOWN_SHAPE) == "Shape([*])"
    assert (shape.rank, shape.static, shape.size) == (3, None, None)
    assert Shape([batch, 3]).size == batch * 3
    assert (Shape([2, 3]).size, Shape([2, 3]).static, Shape([]).size) == (6, (2, 3), 1)
    assert (UNKNOWN_SHAPE.rank, UNKNOWN_SHAPE[0], UNKNOWN_SHAPE.size) == (None, None, None)
    assert shape.substitute({"batch": 4}) == Shape([None, 8, 3])
    assert UNKNOWN_SHAPE.substitute({"batch": 4}) == UNKNOWN_SHAPE
    assert Shape([2]) != (2,)
    assert [Shape([1, 2]).is_static, shape.is_static, UNKNOWN_SHAPE.is_static] == [True, False, False]


def test_types_of_tensors() -> None:
    scale = Quantization((0.5,), (3,))
    quantized = TensorType(DTYPES["int8"], Shape([2]), scale)
    assert quantized.with_shape(Shape([4])) == TensorType(DTYPES["int8"], Shape([4]), scale)
    assert quantized != tensor_type("int8", [2])
    assert quantized != "int8[2]"
    assert hash(quantized) == hash(TensorType(DTYPES["int8"], Shape([2]), Quantization((0.5,), (3,))))
    assert str(tensor_type("float32", [None, 3])) == "float32[?, 3]"
    assert repr(tensor_type(FLOAT32, Shape([]))) == "TensorType(float32[])"
    assert unshaped(FLOAT32) is unshaped(FLOAT32)
    assert str(UNKNOWN_TYPE) == "unknown[*]"


dims = st.none() | st.integers(0, 3) | st.sampled_from(["n", "m"]).map(symbol)
shapes = st.builds(Shape, st.none() | st.lists(dims, max_size=3))


@given(shapes, shapes)
def test_merging_knows_what_either_knows(left: Shape, right: Shape) -> None:
    merged = left.merged(right)
    if merged is None:
        assert left.dims is not None
        assert right.dims is not None
        numbers = [
            (a, b) for a, b in zip(left.dims, right.dims, strict=False) if isinstance(a, int) and isinstance(b, int)
        ]
        assert len(left.dims) != len(right.dims) or any(a != b for a, b in numbers)
        assert right.merged(left) is None
        return
    for shape in (left, right):
        if shape.dims is not None and merged.dims is not None:
            for known, dim in zip(shape.dims, merged.dims, strict=True):
                assert dim is not None or known is None
                assert not isinstance(known, int) or dim == known
    assert left.merged(left) == left
    assert merged.merged(left) == merged
