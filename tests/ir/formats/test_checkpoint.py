"""Checkpoints by any of their names; those of the first version; the file that names the latest."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest

from graphopt.ir.errors import MalformedError
from graphopt.ir.formats import wire
from graphopt.ir.formats.attr_encoding import encode_list
from graphopt.ir.formats.bundle_proto import Slice, encode_slice, slice_key
from graphopt.ir.formats.bundle_writer import BundleWriter
from graphopt.ir.formats.checkpoint import open_checkpoint, prefix_of, v1_shards
from graphopt.ir.formats.shape_proto import encode_shape
from graphopt.ir.formats.table import table_chunks
from graphopt.ir.tensors import FileTensor, tensor
from graphopt.ir.types import Shape, dtype_of

WHOLE: Slice = ((0, -1),)
Parts = dict[str, tuple[tuple[int, ...], list[tuple[Slice, Any]]]]


def v1_table(tensors: Parts) -> bytes:
    """A checkpoint of the first version: name -> shape and the slices with their values."""
    metas, rows = [], []
    for name, (shape, parts) in tensors.items():
        dtype = dtype_of(parts[0][1])
        slices = b"".join(wire.tagged(4, encode_slice(extents)) for extents, _ in parts)
        described = wire.tagged_text(1, name) + wire.tagged(2, encode_shape(Shape(shape)))
        metas.append(wire.tagged(1, described + wire.tagged_number(3, dtype.code) + slices))
        for extents, array in parts:
            values = b"".join(map(bytes, encode_list(np.asarray(array).reshape(-1), dtype)))
            saved = wire.tagged_text(1, name) + wire.tagged(2, encode_slice(extents)) + wire.tagged(3, values)
            rows.append((slice_key(name, extents), wire.tagged(2, saved)))
    return b"".join(table_chunks([(b"", wire.tagged(1, b"".join(metas))), *sorted(rows)]))


def test_version_1(tmp_path: pathlib.Path) -> None:
    arrays = {
        "f": np.array([1.5, -2, 3], np.float32),
        "h": np.array([1, 2.5], np.float16),
        "i": np.array([1, -7], np.int64),
        "b": np.array([True, False]),
        "s": np.array([b"a", b"", b"ccc"], object),
        "c": np.array([1 + 2j], np.complex64),
    }
    (tmp_path / "model.ckpt").write_bytes(v1_table({k: (v.shape, [(WHOLE, v)]) for k, v in arrays.items()}))
    checkpoint = open_checkpoint(tmp_path / "model.ckpt")
    assert (checkpoint.format, checkpoint.names) == ("table", tuple(sorted(arrays)))
    for name, array in arrays.items():
        held = checkpoint.tensor(name)
        assert (held.dtype, held.shape) == (checkpoint.dtype(name), checkpoint.shape(name))
        assert np.array_equal(held.numpy(), array)
        assert checkpoint.slices_of(name) == ()
    assert isinstance(checkpoint.tensor("f"), FileTensor)
    with pytest.raises(MalformedError, match="no tensor 'x'"):
        checkpoint.tensor("x")


def test_version_1_in_slices_and_shards(tmp_path: pathlib.Path) -> None:
    whole = np.arange(10, dtype=np.float32).reshape(5, 2)
    for place, (start, stop) in enumerate(((0, 3), (3, 5))):
        part = (((start, stop - start), (0, -1)), whole[start:stop])
        data = v1_table({"w": ((5, 2), [part])})
        (tmp_path / f"m-0000{place}-of-00002").write_bytes(data)
    for name in ("m", "m-?????-of-00002", "m-00000-of-00002"):
        checkpoint = open_checkpoint(tmp_path / name)
        assert np.array_equal(checkpoint.tensor("w").numpy(), whole)
    assert np.array_equal(checkpoint.tensor("w", "5 2 3,2:-").numpy(), whole[3:])
    assert np.array_equal(checkpoint.tensor("w", "5 2 1,3:-").numpy(), whole[1:4])
    with pytest.raises(MalformedError, match=r"\[6, 2\] in the graph"):
        checkpoint.tensor("w", "6 2 0,3:-")
    (tmp_path / "m-00001-of-00002").unlink()
    with pytest.raises(MalformedError, match="1 files of a checkpoint in"):
        v1_shards(str(tmp_path / "m"))


def test_version_1_damaged(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "m"
    values = np.ones(3, np.float32)
    path.write_bytes(v1_table({"w": ((4,), [(WHOLE, values)])}))
    with pytest.raises(MalformedError, match=r"'w': 3 values for the shape \[4\]"):
        open_checkpoint(path).tensor("w")
    path.write_bytes(b"".join(table_chunks([(b"a", b"")])))
    with pytest.raises(MalformedError, match="lists no tensors"):
        open_checkpoint(path)
    meta = wire.tagged(1, wire.tagged(1, wire.tagged_text(1, "w") + wire.tagged_number(3, 1)))
    path.write_bytes(b"".join(table_chunks([(b"", meta)])))
    with pytest.raises(MalformedError, match="'w': its 0 slices do not cover"):
        open_checkpoint(path).tensor("w")
    path.write_bytes(b"no table at all, but long enough to be one: " + bytes(60))
    with pytest.raises(MalformedError, match="not a footer"):
        open_checkpoint(path)


@pytest.fixture
def checkpoints(tmp_path: pathlib.Path) -> pathlib.Path:
    for name in ("model-1", "model-2"):
        with BundleWriter(tmp_path / name) as writer:
            writer.add("w", tensor(np.ones(3, np.float32)))
    return tmp_path


def test_all_its_names(checkpoints: pathlib.Path) -> None:
    prefix = str(checkpoints / "model-1")
    for suffix in ("", ".index", ".data-00000-of-00001", ".meta"):
        assert open_checkpoint(prefix + suffix).path == prefix
    assert prefix_of(prefix) == prefix_of(prefix + ".index") == prefix
    assert prefix_of(prefix + ".meta") is prefix_of(str(checkpoints / "other")) is prefix_of(checkpoints) is None
    with pytest.raises(MalformedError, match="no checkpoint of this name"):
        open_checkpoint(checkpoints / "other")


@pytest.mark.parametrize("written", ["model-2", "/somewhere/it/was/trained/model-2"])
def test_the_latest(checkpoints: pathlib.Path, written: str) -> None:
    state = checkpoints / "checkpoint"
    state.write_text(f'model_checkpoint_path: "{written}"\nall_model_checkpoint_paths: "model-1"\n')
    for name in (checkpoints, state):
        assert open_checkpoint(name).path == str(checkpoints / "model-2")
    assert prefix_of(state) == str(checkpoints / "model-2")


def test_a_latest_that_leads_out(checkpoints: pathlib.Path) -> None:
    (checkpoints / "checkpoint").write_text('model_checkpoint_path: "../model"')
    with pytest.raises(MalformedError, match="leaves the model's folder"):
        open_checkpoint(checkpoints)
    (checkpoints / "checkpoint").write_text("nothing of the kind")
    with pytest.raises(MalformedError, match="names no model_checkpoint_path"):
        open_checkpoint(checkpoints)
    (checkpoints / "checkpoint").unlink()
    with pytest.raises(MalformedError, match="without a 'checkpoint' file"):
        open_checkpoint(checkpoints)


@pytest.mark.tensorflow
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("sharded", [False, True])
def test_what_tensorflow_writes(tmp_path: pathlib.Path, version: int, sharded: bool) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        parts = v1.get_variable(
            "parts",
            (10, 4),
            partitioner=v1.fixed_size_partitioner(3),
            initializer=v1.random_uniform_initializer(seed=1),
        )
        values = {
            "parts": parts.as_tensor(),
            "i": tf.Variable([1, -2, 3], dtype=tf.int64, name="i"),
            "s": tf.Variable(["q", "", "rrr"], name="s"),
            "h": tf.Variable(np.arange(3).astype(np.float16), name="h"),
        }
        saver = v1.train.Saver(write_version=version, sharded=sharded)
        session.run(v1.global_variables_initializer())
        expected = session.run(values)
        path = saver.save(session, str(tmp_path / "m"))
    checkpoint = open_checkpoint(path)
    assert checkpoint.names == tuple(sorted(values))
    assert len(checkpoint.slices_of("parts")) == 3
    for name, value in expected.items():
        assert np.array_equal(checkpoint.tensor(name).numpy(), value)
