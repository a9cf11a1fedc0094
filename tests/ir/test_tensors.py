"""Tensors answer for themselves without touching bytes, and give the values when asked."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.ir import ArrayTensor, FileTensor, PackedTensor, RepeatedTensor, Tensor, tensor
from graphopt.ir.errors import ResourceError
from graphopt.ir.tensors import Mapping, contiguous, pack, total_bytes
from graphopt.ir.types import BOOL, DTYPES, FLOAT32, FLOAT64, INT32, INT64, STRING, DType

NARROW = [DTYPES[name] for name in ("int4", "uint4", "int2", "uint2", "float4_e2m1fn")]


class Untouchable(np.ndarray):  # type: ignore[type-arg]
    """An array that must not be read."""

    def __getitem__(self, key: object) -> object:
        raise AssertionError("the bytes were read")


def test_what_numpy_makes_of_values() -> None:
    assert tensor([1.0, 2.0]).dtype is FLOAT32
    assert tensor([1, 2]).dtype is INT32
    assert tensor(3).shape == ()
    assert tensor(True).dtype is BOOL
    assert tensor(np.array([1.0])).dtype is FLOAT64
    assert tensor(np.int64(3)).dtype is INT64
    assert tensor([1, 2], FLOAT32).numpy().dtype == np.float32
    assert tensor(["a", b"\xff"]).numpy().tolist() == [b"a", b"\xff"]
    assert tensor("é").numpy().item() == "é".encode()
    assert tensor(np.array([["a"], ["b"]])).shape == (2, 1)
    assert tensor([], STRING).shape == (0,)
    assert tensor([[1.5, 2.5]], DTYPES["bfloat16"]).dtype.name == "bfloat16"


def test_arrays_are_shared_and_tensors_pass_through() -> None:
    array = np.arange(4, dtype=np.float32)
    held = tensor(array)
    assert np.shares_memory(held.numpy(), array)
    assert tensor(held) is held


def test_elements_are_stored_in_the_machines_order() -> None:
    swapped = tensor(np.array([1.0, 2.0], ">f4"))
    assert swapped.numpy().dtype.isnative
    assert swapped.fingerprint() == tensor([1.0, 2.0]).fingerprint()


def test_rows_in_another_order_are_made_contiguous() -> None:
    assert tensor(np.ones((2, 3), np.float32).T).numpy().flags.c_contiguous


def test_sizes_are_known_without_reading() -> None:
    held = ArrayTensor(np.zeros((3, 4), np.float32).view(Untouchable))
    assert (held.dtype, held.shape, held.size, held.nbytes, held.stored_bytes) == (FLOAT32, (3, 4), 12, 48, 48)
    assert held.splat() is None
    assert repr(held) == "ArrayTensor(float32[3, 4])"
    assert tensor([b"ab", b"c"]).nbytes == 3


def test_a_mapped_tensor_is_a_view_of_its_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"odd" + np.arange(6, dtype="<i4").tobytes())
    mapping = Mapping(path)
    held = FileTensor(mapping, 3, INT32, (2, 3))
    assert held.numpy().tolist() == [[0, 1, 2], [3, 4, 5]]
    assert not held.numpy().flags.writeable
    assert bytes(held.data()) == path.read_bytes()[3:]
    assert held.fingerprint() == tensor(np.arange(6, dtype=np.int32).reshape(2, 3)).fingerprint()
    assert len(mapping) == 27


def test_an_empty_file_maps(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    assert len(Mapping(path)) == 0
    assert FileTensor(Mapping(path), 0, FLOAT32, (0, 3)).numpy().shape == (0, 3)


def test_repeated_values_stay_compact() -> None:
    held = RepeatedTensor(np.array([1, 2], np.int32), INT32, (2, 3))
    assert held.numpy().tolist() == [[1, 2, 2], [2, 2, 2]]
    assert (held.nbytes, held.stored_bytes, held.splat()) == (24, 8, None)
    splat = RepeatedTensor(np.array([7], np.int32), INT32, (1 << 20, 1 << 9))
    assert splat.numpy().strides == (0, 0)
    assert splat.splat() == 7
    strings = RepeatedTensor(np.array([b"ab", b"c"], object), STRING, (4,))
    assert (strings.nbytes, strings.stored_bytes) == (5, 3)
    assert strings.numpy().tolist() == [b"ab", b"c", b"c", b"c"]


def test_an_absurd_shape_is_not_expanded() -> None:
    held = RepeatedTensor(np.array([1.0, 2.0], np.float32), FLOAT32, (1 << 40, 4))
    assert held.nbytes == 1 << 44
    with pytest.raises(ResourceError, match="too large to expand"):
        held.numpy()
    assert held.fingerprint() != RepeatedTensor(np.array([1.0, 3.0], np.float32), FLOAT32, (1 << 40, 4)).fingerprint()


def test_a_tensor_without_an_array_says_so() -> None:
    with pytest.raises(TypeError, match="Tensor of variant holds no array"):
        Tensor(DTYPES["variant"], ()).numpy()


def test_fingerprints_tell_bits_apart() -> None:
    same = [tensor([0.0]), tensor(np.zeros(1, np.float32))]
    others = [tensor([-0.0]), tensor([[0.0]]), tensor([0]), tensor([0.0, 0.0]), tensor(["a"]), tensor([b"b"])]
    assert same[0].fingerprint() == same[1].fingerprint()
    assert len({held.fingerprint() for held in (same[0], *others)}) == 7
    payload = np.array([0x7FC00001], np.uint32).view(np.float32)
    assert tensor(payload).fingerprint() != tensor([np.nan]).fingerprint()
    assert ArrayTensor(np.array([b"a"], object), DTYPES["string_ref"]).fingerprint()


def test_shared_tensors_are_counted_once() -> None:
    held = tensor([1.0, 2.0])
    assert total_bytes([held, held, tensor([1])]) == 12


@st.composite
def narrow_arrays(draw: st.DrawFn) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.uint8]], DType]:
    dtype = draw(st.sampled_from(NARROW))
    shape = tuple(draw(st.lists(st.integers(0, 5), max_size=3)))
    size = int(np.prod(shape))
    codes = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), np.uint8) & ((1 << dtype.bits) - 1)
    if dtype.kind == "float":
        return codes.view(dtype.numpy).reshape(shape), dtype
    low = 1 << (dtype.bits - 1) if dtype.kind == "int" else 0
    return (codes.astype(np.int16) - low).astype(dtype.numpy).reshape(shape), dtype


@given(narrow_arrays())
def test_packing_and_unpacking_are_inverse(case: tuple[np.ndarray[tuple[int, ...], np.dtype[np.uint8]], DType]) -> None:
    array, dtype = case
    packed = pack(array, dtype)
    assert packed.shape == array.shape
    assert packed.stored_bytes == -(-array.size * dtype.bits // 8) == packed.packed.numpy().size
    back = packed.numpy()
    assert back.dtype == dtype.numpy
    assert back.view(np.uint8).tolist() == array.view(np.uint8).tolist()


def test_the_first_element_is_in_the_low_bits() -> None:
    held = pack(np.array([1, -2, 3], DTYPES["int4"].numpy), DTYPES["int4"])
    assert held.packed.numpy().tolist() == [0xE1, 0x03]
    mapped = PackedTensor(np.array([0xE1, 0x03], np.uint8), DTYPES["int4"], (3,))
    assert [int(item) for item in mapped.numpy()] == [1, -2, 3]
    assert pack(np.array([[1, 2], [3, 0]], DTYPES["uint2"].numpy).T, DTYPES["uint2"]).packed.numpy().tolist() == [0x2D]


@pytest.mark.parametrize("shape", [(300, 520), (1024, 257), (3, 4), (4, 5, 6)])
def test_contiguous_copies_are_exact(shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    made = contiguous(array.T)
    assert made.flags.c_contiguous
    np.testing.assert_array_equal(made, array.T)
    assert contiguous(array) is array
