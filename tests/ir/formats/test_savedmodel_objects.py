"""SavedModels that passes rewrote are loaded by TensorFlow with their variables, tables, signatures and gradients."""

from __future__ import annotations

import pathlib
import shutil
from typing import Any

import numpy as np
import pytest

from graphopt import api
from graphopt.freezing import freeze
from graphopt.ir.errors import UnsupportedError
from graphopt.ir.formats import savedmodel_writer
from graphopt.ir.formats.checkpoint import open_checkpoint
from graphopt.ir.formats.metagraph import METADATA
from graphopt.ir.formats.savedmodel import read_savedmodel
from graphopt.ir.formats.savedmodel_writer import write_savedmodel
from graphopt.ir.model import Model
from graphopt.ir.types import FLOAT32
from graphopt.passes.manager import PassManager

pytestmark = pytest.mark.tensorflow
IMAGE = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype(np.float32)
INLINED = "inline-functions,strip-unused,remove-unused-functions"


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A convolution and a batch norm of variables, a table, two signatures of one function, and one that trains."""
    import tensorflow as tf

    rng = np.random.default_rng(1)

    class Net(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            self.kernel = tf.Variable(rng.normal(size=(3, 3, 3, 4)).astype(np.float32), name="kernel")
            self.gamma = tf.Variable(rng.uniform(1, 2, 4).astype(np.float32), name="gamma")
            self.beta = tf.Variable(rng.normal(size=4).astype(np.float32), name="beta")
            self.mean = tf.Variable(rng.normal(size=4).astype(np.float32), name="mean", trainable=False)
            self.variance = tf.Variable(rng.uniform(1, 2, 4).astype(np.float32), name="variance", trainable=False)
            self.unread = tf.Variable([7.0], name="unread")
            self.weights = [self.kernel, self.gamma, self.beta, self.unread]
            keys = tf.lookup.KeyValueTensorInitializer(["a", "b"], tf.constant([3, 4], tf.int64))
            self.table = tf.lookup.StaticHashTable(keys, -1)

        def normalized(self, image: Any) -> Any:
            x = tf.nn.conv2d(image, self.kernel, 1, "SAME")
            return tf.nn.batch_normalization(x, self.mean, self.variance, self.beta, self.gamma, 1e-3)

        @tf.function(input_signature=[tf.TensorSpec([None, 6, 6, 3], tf.float32, "image")])
        def __call__(self, image: Any) -> Any:
            return {"y": tf.nn.relu(self.normalized(image)), "sum": tf.reduce_sum(self.normalized(image))}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "word")])
        def look_up(self, word: Any) -> Any:
            return {"row": self.table.lookup(word)}

        @tf.function(input_signature=[tf.TensorSpec([None, 6, 6, 3], tf.float32, "image")])
        def raw(self, image: Any) -> Any:
            return tf.nn.conv2d(image, self.kernel, 1, "SAME")

    made = Net()
    path = tmp_path_factory.mktemp("net") / "saved"
    signatures = {"serving_default": made.__call__, "again": made.__call__, "look_up": made.look_up}
    tf.saved_model.save(made, str(path), signatures=signatures)
    (path / "keras_metadata.pb").write_bytes(b"layers")
    return path


def loaded(model: Model, folder: pathlib.Path) -> Any:
    import tensorflow as tf

    write_savedmodel(model, folder)
    return tf.saved_model.load(str(folder))


def values(net: Any, name: str = "serving_default") -> tuple[Any, Any]:
    import tensorflow as tf

    found = net.signatures[name](image=tf.constant(IMAGE))
    return found["y"].numpy(), found["sum"].numpy()


def test_folded_and_inlined(net: pathlib.Path, tmp_path: pathlib.Path) -> None:
    import tensorflow as tf

    model = api.optimize(str(net)).model
    assert not model.functions.keys() - set(model.metadata[METADATA].state["hash_table"])
    count = len(model.graph)
    before, after = tf.saved_model.load(str(net)), loaded(model, tmp_path / "out")
    assert len(model.graph) == count  # the model given stays as it is
    for name in ("serving_default", "again"):
        for want, have in zip(values(before, name), values(after, name), strict=True):
            np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-4)
        assert after.signatures[name].structured_input_signature == before.signatures[name].structured_input_signature
    assert after.signatures["look_up"](word=tf.constant(["b", "?"]))["row"].numpy().tolist() == [4, -1]
    assert [variable.trainable for variable in after.weights] == [True] * 4
    assert after.mean.trainable is False
    assert after.unread.numpy() == [7.0]
    assert not hasattr(after, "raw")  # nothing served calls it
    constants = [node.attrs["value"] for node in model.graph if node.op == "tf.Const"]
    assert not [held for held in constants if held.dtype is FLOAT32 and held.size >= 4]
    assert not (tmp_path / "out" / "keras_metadata.pb").exists()
    with tf.GradientTape() as tape:
        loss = after.signatures["serving_default"](image=tf.constant(IMAGE))["sum"]
    gradients = tape.gradient(loss, [after.kernel, after.beta, after.gamma, after.unread])
    assert [gradient is None for gradient in gradients] == [False, False, True, True]
    after.beta.assign_sub(0.01 * tf.convert_to_tensor(gradients[1]))
    assert values(after)[1] < loss.numpy()


def test_as_tensorflow_serving_loads_it(net: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """In a session, where the saver restores the variables and the initialiser fills the table."""
    import tensorflow as tf

    v1 = tf.compat.v1
    path = tmp_path / "name" / "1"
    write_savedmodel(api.optimize(str(net)).model, path)
    want = values(tf.saved_model.load(str(net)))
    with tf.Graph().as_default(), v1.Session() as session:
        signatures = v1.saved_model.load(session, ["serve"], str(path)).signature_def
        first, second = signatures["serving_default"], signatures["look_up"]
        outputs = {key: info.name for key, info in first.outputs.items()}
        have = session.run(outputs, {first.inputs["image"].name: IMAGE})
        row = session.run(second.outputs["row"].name, {second.inputs["word"].name: ["a", "?"]})
    np.testing.assert_allclose(have["y"], want[0], rtol=1e-4, atol=1e-4)
    assert row.tolist() == [3, -1]


def test_functions_that_nothing_rewrote_stay(net: pathlib.Path, tmp_path: pathlib.Path) -> None:
    import tensorflow as tf

    model = read_savedmodel(net)
    PassManager("fold-batch-norms").run(model)
    after = loaded(model, tmp_path / "out")
    before = tf.saved_model.load(str(net))
    np.testing.assert_allclose(after(IMAGE)["y"], before(IMAGE)["y"], rtol=1e-4, atol=1e-4)
    assert not hasattr(after, "raw")  # it reads a kernel that has the batch norm in it now
    model = read_savedmodel(net)
    PassManager("cleanup").run(model)
    after = loaded(model, tmp_path / "clean")
    np.testing.assert_array_equal(values(after)[0], values(before)[0])
    assert (tmp_path / "clean" / "keras_metadata.pb").read_bytes() == b"layers"


def test_written_twice_it_is_the_same(net: pathlib.Path, tmp_path: pathlib.Path) -> None:
    model = api.optimize(str(net)).model
    write_savedmodel(model, tmp_path / "one")
    write_savedmodel(read_savedmodel(tmp_path / "one"), tmp_path / "two")
    for name in ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_new_variables_are_objects(net: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph too large for a message: its constants become variables, which TensorFlow restores like the others."""
    import tensorflow as tf

    class Large(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            self.w = tf.Variable(tf.ones([2]), name="w")

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
        def __call__(self, x: Any) -> Any:
            return {"y": x + tf.constant(np.arange(5000, dtype=np.float32)), "w": self.w + 1.0}

    made = Large()
    tf.saved_model.save(made, str(tmp_path / "in"), signatures=made.__call__)
    model = read_savedmodel(tmp_path / "in")
    PassManager(INLINED).run(model)
    monkeypatch.setattr(savedmodel_writer.planned, "__defaults__", (16000,))
    after = loaded(model, tmp_path / "out")
    assert (tmp_path / "out" / "saved_model.pb").stat().st_size < 16000
    assert after.signatures["serving_default"](x=tf.ones([1]))["y"].numpy()[-1] == 5000
    assert after.signatures["serving_default"](x=tf.ones([1]))["w"].numpy().tolist() == [2, 2]
    assert after.w.numpy().tolist() == [1, 1]
    assert getattr(after.graphopt, "0").shape == (5000,)


def test_frozen(net: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Nothing of the weights stays in the checkpoint; the table is still an object."""
    import tensorflow as tf

    model = freeze(str(net)).model
    after = loaded(model, tmp_path / "out")
    assert not hasattr(after, "kernel")
    assert hasattr(after, "table") or "hash_table" not in {node.name for node in model.graph}
    before = tf.saved_model.load(str(net))
    np.testing.assert_allclose(values(after)[0], values(before)[0], rtol=1e-5, atol=1e-5)
    assert after.signatures["look_up"](word=tf.constant(["b"]))["row"].numpy().tolist() == [4]
    names = open_checkpoint(tmp_path / "out" / "variables" / "variables").names
    assert list(names) == ["_CHECKPOINTABLE_OBJECT_GRAPH"]


def test_functions_that_name_variables_themselves(net: pathlib.Path, tmp_path: pathlib.Path) -> None:
    model = read_savedmodel(net)
    PassManager("specialise-functions").run(model)
    with pytest.raises(UnsupportedError, match=r"names a variable.* run inline-functions first"):
        write_savedmodel(model, tmp_path / "out")
    PassManager(INLINED).run(model)
    assert values(loaded(model, tmp_path / "out"))[0].shape == (2, 6, 6, 4)
    model = read_savedmodel(net)
    PassManager("specialise-functions{variables=false}").run(model)
    after = loaded(model, tmp_path / "other")
    assert values(after)[0].shape == (2, 6, 6, 4)
    assert len(after.weights) == 4


def test_composite_inputs_and_large_shared_constants(tmp_path: pathlib.Path) -> None:
    import tensorflow as tf

    rows = np.arange(4000, dtype=np.float32).reshape(1000, 4)

    class Sparse(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            self.w = tf.Variable(2.0, name="w")

        @tf.function(
            input_signature=[tf.SparseTensorSpec([None, 1000], tf.float32), tf.TensorSpec([], tf.float32, "a")]
        )
        def product(self, s: Any, a: Any) -> Any:
            return {"y": tf.sparse.sparse_dense_matmul(s, tf.constant(rows)) * self.w + a}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, "i")])
        def row(self, i: Any) -> Any:
            return {"y": tf.gather(tf.constant(rows), i) * self.w}

    made = Sparse()
    path = tmp_path / "in"
    tf.saved_model.save(made, str(path), signatures={"product": made.product, "row": made.row})
    model = read_savedmodel(path)
    PassManager(f"{INLINED},fold-constants,merge-duplicates").run(model)
    assert len([node for node in model.graph if node.op == "tf.Const" and node.attrs["value"].size == 4000]) == 1
    before, after = tf.saved_model.load(str(path)), loaded(model, tmp_path / "out")
    assert (tmp_path / "out" / "saved_model.pb").stat().st_size < 2 * rows.nbytes
    sparse = tf.sparse.from_dense(np.eye(3, 1000, 5, dtype=np.float32))
    signature = before.signatures["product"].structured_input_signature
    assert after.signatures["product"].structured_input_signature == signature
    parts = {"s": sparse.indices, "s_1": sparse.values, "s_2": sparse.dense_shape}
    arguments = {"a": tf.constant(1.0), **parts}
    for net in (before, after):
        assert net.signatures["product"](**arguments)["y"].numpy().tolist() == (rows[5:8] * 2 + 1).tolist()
        assert net.signatures["row"](i=tf.constant([2]))["y"].numpy().tolist() == (rows[2:3] * 2).tolist()


def test_what_saves_variables_may_be_left_out(net: pathlib.Path, tmp_path: pathlib.Path) -> None:
    whole, part = read_savedmodel(net), read_savedmodel(net, saves=False)
    missing = sorted(whole.functions.keys() - part.functions.keys())
    assert [name.rpartition("_")[0] for name in missing] == ["__inference__traced_restore", "__inference__traced_save"]
    for name, variable in whole.variables.items():
        assert variable.value is not None
        found = part.variables[name].value
        assert found is None or np.array_equal(found.numpy(), variable.value.numpy())
    assert all(part.variables[name].value is not None for name in part.metadata[METADATA].variable_places)
    assert values(loaded(part, tmp_path / "out"))[0].shape == (2, 6, 6, 4)


def test_what_restores_stays_for_variables_that_functions_make(net: pathlib.Path, tmp_path: pathlib.Path) -> None:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    folder = shutil.copytree(net, tmp_path / "copy")
    message = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    body = next(f for f in message.meta_graphs[0].graph_def.library.function if "signature_wrapper" in f.signature.name)
    node = body.node_def.add(name="own", op="VarHandleOp")
    node.attr["dtype"].type, node.attr["shared_name"].s = 1, b"own"
    (folder / "saved_model.pb").write_bytes(message.SerializeToString())
    functions = list(read_savedmodel(folder, saves=False).functions)
    assert any(name.startswith("__inference__traced_restore") for name in functions)
