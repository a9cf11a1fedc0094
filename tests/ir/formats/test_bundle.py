"""TensorBundle: every type, slices and shards there and back; damage is named."""

from __future__ import annotations

import os
import pathlib

import ml_dtypes
import numpy as np
import pytest

from graphopt.ir.errors import MalformedError, UnsupportedError, UsageError
from graphopt.ir.formats import bundle_writer
from graphopt.ir.formats.bundle import BundleCheckpoint, _swapped
from graphopt.ir.formats.bundle_proto import parse_slice, slice_key
from graphopt.ir.formats.bundle_slices import PartTensor, SlicedTensor, assembled
from graphopt.ir.formats.bundle_writer import BundleWriter
from graphopt.ir.formats.checkpoint import open_checkpoint
from graphopt.ir.tensors import ArrayTensor, FileTensor, Mapping, RepeatedTensor, Tensor, tensor
from graphopt.ir.types import DTYPES, FLOAT32, INT32

NUMBERS = [
    dtype for dtype in DTYPES.values() if dtype.numpy is not None and dtype.kind != "string" and dtype.code < 100
]


def write(path: pathlib.Path, tensors: dict[str, Tensor], shard_bytes: int | None = None) -> BundleCheckpoint:
    with BundleWriter(path / "c", shard_bytes=shard_bytes) as writer:
        for name, held in tensors.items():
            writer.add(name, held)
    found = open_checkpoint(path / "c")
    assert isinstance(found, BundleCheckpoint)
    return found


def test_every_type(tmp_path: pathlib.Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {dtype.name: rng.integers(0, 2, (3, 5)).astype(dtype.numpy) for dtype in NUMBERS}
    checkpoint = write(tmp_path, {name: ArrayTensor(array, DTYPES[name]) for name, array in arrays.items()})
    assert checkpoint.names == tuple(sorted(arrays))
    for name, array in arrays.items():
        held = checkpoint.tensor(name)
        assert isinstance(held, FileTensor)
        assert (held.dtype, held.shape, held.offset % 64) == (DTYPES[name], (3, 5), 0)
        assert np.array_equal(held.numpy(), array)


def test_strings_scalars_and_nothing(tmp_path: pathlib.Path) -> None:
    words = tensor([["", "a"], ["long " * 100, "ünï"]])
    checkpoint = write(
        tmp_path, {"words": words, "one": tensor(np.float32(3)), "none": tensor(np.zeros((0, 4), np.float32))}
    )
    assert checkpoint.tensor("words").numpy().tolist() == words.numpy().tolist()
    assert checkpoint.tensor("one").numpy() == 3
    assert checkpoint.tensor("none").shape == (0, 4)
    assert "words" in checkpoint
    assert len(checkpoint) == 3


def test_shards_and_values_that_are_not_dense(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_writer, "PIECE", 100)
    transposed = ArrayTensor(np.arange(600.0).reshape(20, 30).T)
    repeated = RepeatedTensor(np.array([1, 2], np.int32), INT32, (5,))
    checkpoint = write(tmp_path, {"a": transposed, "b": repeated, "c": tensor(np.ones(9))}, shard_bytes=64)
    assert sorted(os.listdir(tmp_path)) == [*(f"c.data-0000{n}-of-00003" for n in range(3)), "c.index"]
    assert np.array_equal(checkpoint.tensor("a").numpy(), transposed.numpy())
    assert checkpoint.tensor("b").numpy().tolist() == [1, 2, 2, 2, 2]


def test_the_same_tensors_make_the_same_bytes(tmp_path: pathlib.Path) -> None:
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, {"b": tensor(np.ones(5)), "a": tensor(["x", "y"])})
        found.append([path.read_bytes() for path in sorted((tmp_path / name).iterdir())])
    assert found[0] == found[1]


# Slices -------------------------------------------------------------------------------------------------------


def test_slices_whole_and_in_part(tmp_path: pathlib.Path) -> None:
    whole = np.arange(40, dtype=np.float32).reshape(10, 4)
    with BundleWriter(tmp_path / "c") as writer:
        writer.add_slice("w", (10, 4), ((0, 6), (0, -1)), tensor(whole[:6]))
        writer.add_slice("w", (10, 4), ((6, 4), (0, -1)), tensor(whole[6:]))
        writer.add("dense", tensor(whole))
    checkpoint = open_checkpoint(tmp_path / "c")
    held = checkpoint.tensor("w")
    assert isinstance(held, SlicedTensor)
    assert held.nbytes == whole.nbytes
    assert np.array_equal(held.numpy(), whole)
    assert np.array_equal(checkpoint.tensor("w", "10 4 6,4:-").numpy(), whole[6:])
    assert isinstance(checkpoint.tensor("w", "10 4 6,4:-"), FileTensor)
    assert np.array_equal(checkpoint.tensor("w", "10 4 5,3:1,2").numpy(), whole[5:8, 1:3])
    rows = checkpoint.tensor("dense", "10 4 2,3:-")
    assert isinstance(rows, FileTensor)
    assert np.array_equal(rows.numpy(), whole[2:5])
    assert isinstance(checkpoint.tensor("dense", "10 4 -:1,1"), PartTensor)
    assert np.array_equal(checkpoint.tensor("dense", "10 4 -:1,1").numpy(), whole[:, 1:2])
    assert checkpoint.slices_of("w") == (((0, 6), (0, -1)), ((6, 4), (0, -1)))
    with pytest.raises(MalformedError, match=r"shape \[10, 4\] in the checkpoint, \[9, 4\] in the graph"):
        checkpoint.tensor("w", "9 4 0,2:-")


def test_a_copy_keeps_slices(tmp_path: pathlib.Path) -> None:
    whole = np.arange(8, dtype=np.float32)
    with BundleWriter(tmp_path / "c") as writer:
        writer.add("w", SlicedTensor(FLOAT32, (8,), [(((0, 3),), tensor(whole[:3])), (((3, 5),), tensor(whole[3:]))]))
    source = BundleCheckpoint(str(tmp_path / "c"))
    with BundleWriter(tmp_path / "d") as writer:
        writer.copy("w", source)
    assert np.array_equal(open_checkpoint(tmp_path / "d").tensor("w").numpy(), whole)


@pytest.mark.parametrize(
    "slices", [[((0, 3),)], [((0, 3),), ((2, 3),)], [((0, 2),), ((2, 2),)], [((0, 2),), ((0, 2),), ((4, 1),)]]
)
def test_slices_that_do_not_cover(slices: list[tuple[tuple[int, int], ...]]) -> None:
    parts = [(extents, tensor(np.zeros(extents[0][1], np.float32))) for extents in slices]
    with pytest.raises(MalformedError, match="do not cover"):
        assembled(FLOAT32, (5,), parts)


def test_slices_over_two_axes_that_overlap() -> None:
    def part(*extents: tuple[int, int]) -> tuple[tuple[tuple[int, int], ...], Tensor]:
        return extents, tensor(np.zeros([length for _, length in extents], np.float32))

    good = [part((0, 1), (0, 2)), part((1, 1), (0, 1)), part((1, 1), (1, 1))]
    assert assembled(FLOAT32, (2, 2), good).shape == (2, 2)
    bad = [part((0, 1), (0, 2)), part((0, 2), (0, 1))]
    with pytest.raises(MalformedError, match="do not cover"):
        assembled(FLOAT32, (2, 2), bad)


def test_keys_of_slices_sort_as_their_numbers() -> None:
    starts = [0, 1, 63, 64, 65, 8191, 8192, 1 << 20, 1 << 40, (1 << 62) + 5]
    keys = [slice_key("w", ((start, 1),)) for start in starts]
    assert keys == sorted(keys)
    assert slice_key("w", ((0, -1),)) == b"\x00w\x00\x01\x01\x01\x80\x7f"


@pytest.mark.parametrize("text", ["", "10", "10 x", "10 0,11", "10 -1,2", "10 4 -", "10 3"])
def test_notation_of_slices(text: str) -> None:
    with pytest.raises(MalformedError, match="describes no slice"):
        parse_slice(text)


# Damage -------------------------------------------------------------------------------------------------------


def test_a_wrong_checksum(tmp_path: pathlib.Path) -> None:
    write(tmp_path, {"w": tensor(np.ones(100, np.float32)), "s": tensor(["some", "words"])})
    path = tmp_path / "c.data-00000-of-00001"
    data = bytearray(path.read_bytes())
    for name, place in (("w", 7), ("s", len(data) - 1), ("s", 449)):
        changed = bytearray(data)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(MalformedError, match=f"tensor '{name}': .*(checksum|strings)"):
            open_checkpoint(tmp_path / "c").tensor(name)
    path.write_bytes(data[:7] + b"\xff" + data[8:])
    assert open_checkpoint(tmp_path / "c").tensor("w", verify=False).numpy()[0] == 1


def test_missing_and_cut_shards(tmp_path: pathlib.Path) -> None:
    write(tmp_path, {"w": tensor(np.ones(100, np.float32))})
    path = tmp_path / "c.data-00000-of-00001"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(MalformedError, match="'w': its data end at byte 400, the shard at 399"):
        open_checkpoint(tmp_path / "c").tensor("w")
    path.unlink()
    with pytest.raises(MalformedError, match="'w': there is no such file"):
        open_checkpoint(tmp_path / "c").tensor("w")
    os.mkfifo(path)
    with pytest.raises(MalformedError, match="no regular file"):
        open_checkpoint(tmp_path / "c").tensor("w")


def test_a_shard_that_leads_out(tmp_path: pathlib.Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    write(inner, {"w": tensor(np.ones(4, np.float32))})
    path = inner / "c.data-00000-of-00001"
    path.rename(tmp_path / "outside")
    path.symlink_to(tmp_path / "outside")
    with pytest.raises(MalformedError, match="symbolic link out of the model's folder"):
        open_checkpoint(inner / "c").tensor("w")


def test_a_name_there_is_not(tmp_path: pathlib.Path) -> None:
    checkpoint = write(tmp_path, {"w": tensor(np.ones(4, np.float32))})
    for ask in (checkpoint.tensor, checkpoint.dtype, checkpoint.shape):
        with pytest.raises(MalformedError, match="no tensor 'v'"):
            ask("v")


def test_what_cannot_be_written(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UnsupportedError, match="of resource cannot be written"), BundleWriter(tmp_path / "c") as writer:
        writer.add("r", Tensor(DTYPES["resource"], ()))
    twice = BundleWriter(tmp_path / "c")
    twice.add("w", tensor(np.ones(4)))
    with pytest.raises(UsageError, match="already has a tensor 'w'"), twice:
        twice.add("w", tensor(np.ones(4)))
    with pytest.raises(UsageError, match="not of shape"), BundleWriter(tmp_path / "c") as writer:
        writer.add_slice("w", (4,), ((0, 3),), tensor(np.ones(2)))
    assert os.listdir(tmp_path) == []


def test_numbers_of_the_other_byte_order() -> None:
    swapped = np.array([1.5, -2.0], ">f4").tobytes() + np.array([3 + 4j], ">c8").tobytes()
    mapping = Mapping("m", swapped)
    assert _swapped(FileTensor(mapping, 0, FLOAT32, (2,))).numpy().tolist() == [1.5, -2.0]
    assert _swapped(FileTensor(mapping, 8, DTYPES["complex64"], (1,))).numpy().tolist() == [3 + 4j]


@pytest.mark.tensorflow
def test_tensorflow_reads_what_is_written(tmp_path: pathlib.Path) -> None:
    import tensorflow as tf

    rng = np.random.default_rng(1)
    arrays = {
        "a/f32": rng.random((7, 3)).astype(np.float32),
        "b/bf16": rng.random(9).astype(ml_dtypes.bfloat16),
        "c/i64": rng.integers(-(2**40), 2**40, 5),
        "d/words": np.array([b"", b"x" * 300, b"\xff\x00"], object),
    }
    write(tmp_path, {name: tensor(array) for name, array in arrays.items()}, shard_bytes=50)
    with BundleWriter(tmp_path / "s") as writer:
        for start in (0, 70):
            length = 70 if start == 0 else 30
            writer.add_slice("w", (100, 2), ((start, length), (0, -1)), tensor(np.full((length, 2), start, np.float32)))
    reader = tf.train.load_checkpoint(str(tmp_path / "c"))
    assert sorted(reader.get_variable_to_shape_map()) == sorted(arrays)
    for name, array in arrays.items():
        assert np.array_equal(reader.get_tensor(name), array)
    assert tf.train.load_variable(str(tmp_path / "s"), "w")[:, 0].tolist() == [0.0] * 70 + [70.0] * 30
