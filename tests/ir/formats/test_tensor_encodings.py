"""Every encoding of every element type means to us what it means to TensorFlow's C++."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.ir.errors import MalformedError, ResourceError
from graphopt.ir.formats import wire
from graphopt.ir.formats.attr_encoding import encode_tensor
from graphopt.ir.formats.protos import graph_pb2 as pb
from graphopt.ir.formats.tensor_proto import ProtoTensor, TensorReader
from graphopt.ir.formats.tensor_values import LISTS, list_number
from graphopt.ir.tensors import ArrayTensor, Mapping, RepeatedTensor
from graphopt.ir.types import DTYPES, DType

HELD = [dtype for dtype in DTYPES.values() if dtype.numpy is not None and 0 < dtype.code < 100]
ENCODINGS = ("content", "full", "short", "one", "none", "out of range")
COUNTS = {"full": 6, "short": 3, "one": 1, "none": 0, "out of range": 6}


def read(raw: bytes) -> ProtoTensor:
    return TensorReader(Mapping("", raw)).read(0, len(raw))


def encoded(dtype: DType, encoding: str, generator: np.random.Generator) -> Any:
    """A TensorProto of shape [2, 3] with random values."""
    proto = pb.TensorProto(dtype=dtype.code)
    for size in (2, 3):
        proto.tensor_shape.dim.add(size=size)
    if encoding == "content":
        octets = generator.integers(0, 2 if dtype.name == "bool" else 256, 6 * dtype.itemsize, dtype=np.uint8)
        if dtype.bits in (2, 4) and dtype.kind in ("int", "uint"):
            octets &= 3  # the bits beyond a small integer's own are nobody's business
            octets %= 2 ** (dtype.bits - (dtype.kind == "int"))
        strings = [b"a", b"", b"ccc", b"d" * 200, b"\xff", b"f"]
        lengths = b"".join(wire.varint(len(item)) for item in strings)
        proto.tensor_content = lengths + b"".join(strings) if dtype.name == "string" else octets.tobytes()
        return proto
    count, name = COUNTS[encoding], LISTS[list_number(dtype)].name
    if name == "float8_val":
        proto.float8_val = generator.integers(0, 16, count, dtype=np.uint8).tobytes()
        return proto
    getattr(proto, name).extend(values(dtype, name, count, encoding, generator))
    return proto


def values(dtype: DType, name: str, count: int, encoding: str, generator: np.random.Generator) -> list[Any]:
    if name == "string_val":
        return [b"a", b"", b"\xff\0", b"d", b"e", b"f"][:count]
    if name in ("scomplex_val", "dcomplex_val"):
        return list(generator.normal(size=2 * count))
    if name in ("float_val", "double_val"):
        return list(generator.normal(size=count))
    if name == "bool_val":
        return [bool(item) for item in generator.integers(0, 2, count)]
    bits = 32 if encoding == "out of range" and name == "int_val" else dtype.bits
    is_signed = dtype.kind in ("int", "quantized") and (not dtype.name.startswith("quint") or bits == 32)
    is_signed = is_signed or (bits == 32 and name == "int_val")
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if is_signed else (0, (1 << bits) - 1)
    kind = np.int64 if is_signed else np.uint64
    return [int(item) for item in generator.integers(low, high, count, dtype=kind, endpoint=True)]


def same(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> bool:
    if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        return False
    if ours.dtype == object:
        return bool(np.array_equal(ours, theirs))
    if ours.dtype.itemsize == 1:  # 4-bit integers compare by value; none of these types has a NaN of two patterns
        return bool(np.array_equal(ours.astype(np.float32), theirs.astype(np.float32), equal_nan=True))
    return ours.tobytes() == theirs.tobytes()


@pytest.mark.tensorflow
@pytest.mark.parametrize("dtype", HELD, ids=str)
def test_as_tensorflow_reads_it(dtype: DType) -> None:
    import tensorflow as tf

    generator = np.random.default_rng(dtype.code)
    for encoding in ENCODINGS:
        raw = encoded(dtype, encoding, generator).SerializeToString()
        expected = tf.io.parse_tensor(raw, dtype.code).numpy()
        ours = read(raw)
        assert same(ours.numpy(), expected), (dtype, encoding)
        assert ours.is_compact == (encoding in ("short", "one", "none"))
        written = b"".join(bytes(piece) for piece in encode_tensor(ArrayTensor(np.array(ours.numpy()), dtype)))
        assert same(tf.io.parse_tensor(written, dtype.code).numpy(), expected), (dtype, encoding)
        leading = np.array(ours.numpy()).reshape(-1)[:1]
        splat = b"".join(bytes(piece) for piece in encode_tensor(RepeatedTensor(leading, dtype, [2, 3])))
        assert same(tf.io.parse_tensor(splat, dtype.code).numpy(), np.broadcast_to(leading, (2, 3)))


@pytest.mark.tensorflow
@pytest.mark.parametrize("dtype", HELD, ids=str)
def test_what_tensorflow_writes(dtype: DType) -> None:
    import tensorflow as tf

    array = read(encoded(dtype, "full", np.random.default_rng(dtype.code)).SerializeToString()).numpy()
    if dtype.kind == "quantized":
        raw = tf.make_tensor_proto(array, dtype=dtype.code, shape=(2, 3)).SerializeToString()
    else:
        raw = tf.make_tensor_proto(array).SerializeToString()
    assert same(read(raw).numpy(), array)


@pytest.mark.parametrize("dtype", HELD, ids=str)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_is_read_is_written_as_it_was(dtype: DType, encoding: str) -> None:
    raw = encoded(dtype, encoding, np.random.default_rng(1)).SerializeToString()
    assert b"".join(encode_tensor(read(raw))) == raw


def unpacked(proto: Any) -> bytes:
    """The same message with every number in a field of its own."""
    pieces = []
    for tag, value, stop in wire.fields(raw := proto.SerializeToString(), 0, len(proto.SerializeToString())):
        row = LISTS.get(tag >> 3)
        if row is None or row.wire_type == wire.BYTES:
            content = raw[value:stop] if tag & 7 == wire.BYTES else wire.varint(value)
            length = wire.varint(len(content)) if tag & 7 == wire.BYTES else b""
            pieces.append(wire.varint(tag) + length + content)
            continue
        own = wire.varint(tag >> 3 << 3 | row.wire_type)
        while value < stop:
            if row.wire_type == wire.VARINT:
                number, value = wire.read_varint(raw, value, stop)
                pieces.append(own + wire.varint(number))
            else:
                width = 4 if row.wire_type == wire.FIXED32 else 8
                pieces.append(own + raw[value : value + width])
                value += width
    return b"".join(pieces)


@pytest.mark.parametrize("dtype", HELD, ids=str)
@pytest.mark.parametrize("encoding", ["full", "short", "one", "out of range"])
def test_packed_or_not_makes_no_difference(dtype: DType, encoding: str) -> None:
    proto = encoded(dtype, encoding, np.random.default_rng(2))
    raw = proto.SerializeToString()
    apart = unpacked(proto)
    assert pb.TensorProto.FromString(apart) == proto
    assert same(read(apart).numpy(), read(raw).numpy())
    # Both in turn, with another field between and the type at the end.
    body = b"".join(
        wire.varint(tag) + wire.varint(stop - value) + raw[value:stop]
        for tag, value, stop in wire.fields(raw, 0, len(raw))
        if tag in (0x12,)
    )
    head = len(body) + 2
    mixed = apart[head:] + body + raw[:2] + b"\x18\x05"
    assert same(read(mixed).numpy(), read(raw).numpy())


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=50), st.booleans(), st.booleans())
def test_numbers_of_every_length(numbers: list[int], is_packed: bool, is_unsigned: bool) -> None:
    if is_unsigned:
        numbers = [number & (2**64 - 1) for number in numbers]
    code, name = (23, "uint64_val") if is_unsigned else (9, "int64_val")
    proto = pb.TensorProto(dtype=code, **{name: numbers})
    proto.tensor_shape.dim.add(size=len(numbers) + 2)
    raw = proto.SerializeToString() if is_packed else unpacked(proto)
    assert read(raw).numpy().tolist() == [*numbers, numbers[-1], numbers[-1]]


def test_long_lists_of_single_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphopt.ir.formats.tensor_values.BLOCK", 1000)
    numbers = np.random.default_rng(0).integers(-(2**31), 2**31, 20_000)
    proto = pb.TensorProto(dtype=3, int_val=numbers.tolist())
    proto.tensor_shape.dim.add(size=len(numbers))
    assert np.array_equal(read(proto.SerializeToString()).numpy(), numbers)
    assert np.array_equal(read(unpacked(proto)).numpy(), numbers)
    floats = pb.TensorProto(dtype=1, float_val=numbers.tolist())
    floats.tensor_shape.dim.add(size=len(numbers))
    assert np.array_equal(read(unpacked(floats)).numpy(), numbers.astype(np.float32))


def test_compact_tensors_stay_compact() -> None:
    proto = pb.TensorProto(dtype=1, float_val=[0.5])
    proto.tensor_shape.dim.add(size=1 << 40)
    held = read(proto.SerializeToString())
    assert held.splat() == 0.5
    assert held.nbytes == 4 << 40
    assert held.stored_bytes == 4
    assert held.fingerprint() == read(proto.SerializeToString()).fingerprint()
    with pytest.raises(ResourceError, match="too large to expand"):
        held.numpy()
    proto.ClearField("float_val")
    assert read(proto.SerializeToString()).splat() == 0
    assert read(proto.SerializeToString()).fingerprint() != held.fingerprint()


def test_a_small_compact_tensor_equals_the_dense_one() -> None:
    dense = pb.TensorProto(dtype=1, float_val=[1, 2, 2])
    dense.tensor_shape.dim.add(size=3)
    short = pb.TensorProto(dtype=1, float_val=[1, 2])
    short.tensor_shape.dim.add(size=3)
    assert read(dense.SerializeToString()).fingerprint() == read(short.SerializeToString()).fingerprint()


def test_dense_values_are_views_of_the_file_wherever_they_lie() -> None:
    proto = pb.TensorProto(dtype=2, tensor_content=np.arange(3.0).tobytes())
    proto.tensor_shape.dim.add(size=3)
    raw = b"x" + proto.SerializeToString()
    held = TensorReader(Mapping("", raw)).read(1, len(raw))
    assert np.shares_memory(held.numpy(), np.frombuffer(raw, np.uint8))
    assert not held.numpy().flags.writeable
    assert held.numpy().tolist() == [0, 1, 2]


def test_strings_know_their_size() -> None:
    proto = pb.TensorProto(dtype=7, string_val=[b"ab", b"c"])
    proto.tensor_shape.dim.add(size=4)
    assert read(proto.SerializeToString()).nbytes == 5
    assert read(proto.SerializeToString()).numpy().tolist() == [b"ab", b"c", b"c", b"c"]
    proto.ClearField("string_val")
    assert read(proto.SerializeToString()).nbytes == 0
    assert read(proto.SerializeToString()).numpy().tolist() == [b""] * 4


def test_handles_are_carried_unseen() -> None:
    handle = pb.TensorProto(dtype=20, resource_handle_val=[pb.ResourceHandleProto(name="table")])
    variant = pb.TensorProto(dtype=21, variant_val=[pb.VariantTensorDataProto(type_name="list")])
    for proto in (handle, variant, pb.TensorProto()):
        held = read(proto.SerializeToString())
        assert held.splat() is None
        assert b"".join(encode_tensor(held)) == proto.SerializeToString()
        assert held.fingerprint() == read(proto.SerializeToString()).fingerprint()
        with pytest.raises(TypeError, match="holds no array"):
            held.numpy()


def test_more_dimensions_than_numpy_has() -> None:
    proto = pb.TensorProto(dtype=1, float_val=[1])
    for _ in range(100):
        proto.tensor_shape.dim.add(size=1)
    with pytest.raises(ResourceError, match="rank 100"):
        read(proto.SerializeToString()).numpy()


def test_zero_sizes_are_no_excuse_for_absurd_ones() -> None:
    proto = pb.TensorProto(dtype=1)
    for size in (0, 1 << 62, 1 << 62):
        proto.tensor_shape.dim.add(size=size)
    with pytest.raises(MalformedError, match=r"2\*\*63"):
        read(proto.SerializeToString())
