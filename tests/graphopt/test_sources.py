"""Models come from paths, bytes, messages, functions and Keras."""

from __future__ import annotations

import io
import pathlib
import sys
import zipfile

import numpy as np
import pytest

import graphopt
import graphopt.verification
from graphopt.ir import MalformedError, UnsupportedError, UsageError
from graphopt.ir.formats.protos.saved_model_pb2 import SavedModel
from graphopt.sources import read


def test_a_path_may_be_text_or_an_object(example: str) -> None:
    assert len(graphopt.load(example).graph) == len(graphopt.load(pathlib.Path(example)).graph) == 294


def test_bytes_binary_or_text(example_bytes: bytes, tmp_path) -> None:
    model = graphopt.load(example_bytes)
    graphopt.save(model, tmp_path / "m.pbtxt")
    text = (tmp_path / "m.pbtxt").read_bytes()
    for given in (example_bytes, bytearray(example_bytes), memoryview(example_bytes), text):
        assert graphopt.diff(model, given).is_empty


def test_standard_input(example_bytes: bytes, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(example_bytes)))
    model = graphopt.load("-")
    assert model.source == "standard input"
    assert len(model.graph) == 294


def test_a_model_is_copied_and_keeps_its_signature(affine) -> None:
    model = affine()
    copy = graphopt.load(model)
    assert copy is not model
    assert list(copy.signatures["serving_default"].inputs) == ["x"]
    named = graphopt.load(model, outputs="scaled")
    assert list(named.signatures["serving_default"].inputs) == ["x"]
    assert list(named.signatures["serving_default"].outputs) == ["scaled"]
    assert list(graphopt.load(model, inputs={"in": "x"}).signatures["serving_default"].outputs) == ["y"]


class Message:
    """Looks like a protobuf message."""

    def __init__(self, name: str, data: bytes) -> None:
        self.DESCRIPTOR = type("Descriptor", (), {"name": name})
        self.data = data

    def SerializeToString(self) -> bytes:
        return self.data


def test_messages_are_recognised_by_their_descriptor(example_bytes: bytes) -> None:
    assert len(graphopt.load(Message("GraphDef", example_bytes)).graph) == 294
    with pytest.raises(UsageError, match="take its graph_def"):
        graphopt.load(Message("MetaGraphDef", b""))
    with pytest.raises(UsageError, match="a SavedModel message"):
        graphopt.load(Message("SavedModel", b""))


def test_a_graph_gives_its_message(example_bytes: bytes) -> None:
    graph = type("FakeGraph", (), {"as_graph_def": lambda self: Message("GraphDef", example_bytes)})()
    assert len(graphopt.load(graph).graph) == 294


@pytest.mark.parametrize("source", [None, 3, object(), {"a": 1}])
def test_what_cannot_be_a_source(source) -> None:
    with pytest.raises(UsageError, match="a model cannot be read from a builtins"):
        graphopt.load(source)


def test_what_is_no_model(tmp_path) -> None:
    (tmp_path / "empty.pb").touch()
    (tmp_path / "array.npz").write_bytes(b"PK\x03\x04rest")
    saved = tmp_path / "saved"
    saved.mkdir()
    for path, message in (
        (tmp_path / "absent.pb", "No such file"),
        (tmp_path / "empty.pb", "the file is empty"),
        (tmp_path / "array.npz", "ZIP archive"),
        (saved, "a directory without a SavedModel"),
    ):
        with pytest.raises(MalformedError, match=message) as failure:
            graphopt.load(path)
        assert str(path) in str(failure.value)
    (saved / "saved_model.pb").touch()
    with pytest.raises(MalformedError, match=r"saved_model\.pb: the file is empty"):
        graphopt.load(saved)
    with pytest.raises(MalformedError, match="the file is empty"):
        graphopt.load(b"")


def test_notes_come_with_the_model(affine) -> None:
    model, notes = read(affine(), inputs="factor", outputs="y")
    assert [value.name for value in model.graph.inputs] == ["factor"]
    assert notes == ("the outputs also depend on 'x', which is not among the inputs",)


def test_without_tensorflow_the_extra_is_named(monkeypatch) -> None:
    from graphopt.sources_tensorflow import is_tensorflow, read_tensorflow

    lookalike = type("Model", (), {"__module__": "keras.models"})()
    assert is_tensorflow(lookalike)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(UsageError, match=r"pip install 'graphopt\[tensorflow\]'"):
        read_tensorflow(lookalike)


@pytest.mark.tensorflow
def test_functions_and_keras_models_are_frozen_on_the_way() -> None:
    import tensorflow as tf

    layers = tf.keras.layers
    inputs = [layers.Input((4,), name="left"), layers.Input((4,), name="right")]
    sum_ = layers.Dense(3, name="dense")(layers.Add()(inputs))
    two = tf.keras.Model(inputs, {"a": sum_, "b": layers.ReLU()(sum_)})
    one = tf.keras.Sequential([layers.Input((4,)), layers.Dense(2)])
    variable = tf.Variable(3.0)

    @tf.function
    def scaled(x):
        return {"y": x * variable}

    concrete = scaled.get_concrete_function(tf.TensorSpec([None, 2], tf.float32, name="x"))
    rng = np.random.default_rng(0)
    left, right = (rng.normal(size=(1, 4)).astype(np.float32) for _ in range(2))
    runtime = graphopt.verification.engine_named("reference")

    model = graphopt.load(two)
    signature = model.signatures["serving_default"]
    assert list(signature.inputs) == ["left", "right"]
    assert list(signature.outputs) == ["a", "b"]
    got = runtime.run(model, {"left": left, "right": right})
    for key, wanted in two([left, right]).items():
        np.testing.assert_allclose(got[key], wanted.numpy(), rtol=1e-5, atol=1e-6)

    model = graphopt.load(one)
    ((name, _),) = model.signatures["serving_default"].inputs.items()
    (got_one,) = runtime.run(model, {name: left}).values()
    np.testing.assert_allclose(got_one, one(left).numpy(), rtol=1e-5, atol=1e-6)

    model = graphopt.load(concrete)
    assert model.signatures["serving_default"].reasons == {
        "x": "an argument of the function",
        "y": "a result of the function",
    }
    assert runtime.run(model, {"x": np.ones((5, 2), np.float32)})["y"][0, 0] == 3.0
    assert "tf.ReadVariableOp" not in {node.op for node in model.graph}

    assert len(graphopt.load(concrete.graph.as_graph_def()).graph) == len(graphopt.load(concrete.graph).graph)
    with pytest.raises(UsageError, match="no single signature"):
        graphopt.load(scaled)
    with pytest.raises(UsageError, match="a model cannot be read from a EagerTensor; give a ConcreteFunction"):
        graphopt.load(tf.ones([2]))
    with pytest.raises(UsageError, match="has no inputs yet"):
        graphopt.load(tf.keras.Sequential([layers.Dense(2)]))


@pytest.mark.tensorflow
def test_modules_give_the_function_they_stand_for(tmp_path) -> None:
    import tensorflow as tf

    vector = tf.TensorSpec([2], tf.float32, name="x")

    class Scaled(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = tf.Variable([2.0, 3.0])

        @tf.function(input_signature=[vector])
        def __call__(self, x):
            return {"y": x * self.factor}

        @tf.function(input_signature=[vector])
        def negative(self, x):
            return -x * self.factor

    class Two(tf.Module):
        @tf.function(input_signature=[vector])
        def first(self, x):
            return x + 1.0

        @tf.function(input_signature=[vector])
        def second(self, x):
            return x + 2.0

    class Looked(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            values = tf.lookup.KeyValueTensorInitializer(["a"], [1])
            self.table = tf.lookup.StaticHashTable(values, -1)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def __call__(self, words):
            return self.table[words]

    runtime = graphopt.verification.engine_named("reference")
    module = Scaled()
    tf.saved_model.save(module, str(tmp_path / "saved"))
    named = tf.Module()
    named.function = tf.function(lambda x: x * 5.0, input_signature=[vector])
    fed = np.ones([2], np.float32)
    for source, wanted in (
        (module, [2.0, 3.0]),
        (tf.saved_model.load(str(tmp_path / "saved")), [2.0, 3.0]),
        (named, [5.0, 5.0]),
    ):
        model = graphopt.load(source)
        assert list(model.signatures["serving_default"].inputs) == ["x"]
        (got,) = runtime.run(model, {"x": fed}).values()
        np.testing.assert_array_equal(got, wanted)

    untraced = tf.Module()
    untraced.function = tf.function(lambda x: x)
    for refused, reason in (
        (tf.Module(), "has no tf.function"),
        (Two(), "several functions: .*'first', 'second'"),
        (untraced, "'function' of the Module has no single signature"),
        (Looked(), "captures .* a table or another resource that is no variable: save it"),
    ):
        with pytest.raises(UsageError, match=reason):
            graphopt.load(refused)


@pytest.mark.tensorflow
def test_files_of_keras_are_loaded_through_it(tmp_path) -> None:
    import tensorflow as tf

    layers = tf.keras.layers
    built = tf.keras.Sequential([layers.Input((4,), name="x"), layers.Dense(2), layers.Softmax()])
    fed = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    runtime = graphopt.verification.engine_named("reference")
    for name in ("model.keras", "model.h5"):
        path = tmp_path / name
        built.save(path)
        model = graphopt.load(path)
        assert model.source == str(path)
        (got,) = runtime.run(model, {"x": fed}).values()
        np.testing.assert_allclose(got, built(fed).numpy(), rtol=1e-5, atol=1e-6)

        path.write_bytes(path.read_bytes()[:512])
        with pytest.raises(MalformedError, match="Keras does not load this file") as caught:
            graphopt.load(path)
        assert "\n" not in str(caught.value)
    code = tf.keras.Sequential([layers.Input((4,)), layers.Lambda(lambda x: x + 1.0)])
    for name in ("code.keras", "code.h5"):
        code.save(tmp_path / name)
        with pytest.raises(MalformedError, match="Keras does not load this file"):
            graphopt.load(tmp_path / name)


@pytest.mark.tensorflow
def test_files_and_models_of_keras_2(tmp_path) -> None:
    """What the package tf-keras builds and saves."""
    pytest.importorskip("tf_keras", reason="needs the package tf-keras")
    import tf_keras

    from graphopt.runtimes.base import get_runtime

    layers = tf_keras.layers
    built = tf_keras.Sequential([layers.Input((4,), name="x"), layers.Dense(3), layers.BatchNormalization()])
    x = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    want = built(x, training=False).numpy()
    built.save(str(tmp_path / "model.keras"))
    built.save(str(tmp_path / "model.h5"))
    built.save(str(tmp_path / "folder"), save_format="tf")
    for source in (built, *(str(tmp_path / name) for name in ("model.keras", "model.h5", "folder"))):
        (have,) = get_runtime("tensorflow").run(graphopt.load(source), {"x": x}).values()
        np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-6)
    graphopt.save(graphopt.optimize(str(tmp_path / "folder"), "cleanup").model, tmp_path / "out")
    again = tf_keras.models.load_model(tmp_path / "out")
    np.testing.assert_allclose(again(x, training=False).numpy(), want, rtol=1e-5, atol=1e-6)


@pytest.mark.tensorflow
def test_a_file_of_keras_2_says_what_it_needs(tmp_path, monkeypatch) -> None:
    with zipfile.ZipFile(tmp_path / "old.keras", "w") as archive:
        archive.writestr("metadata.json", '{"keras_version": "2.15.0"}')
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    with pytest.raises(graphopt.MalformedError, match=r"a file of Keras 2, for which there is the package tf-keras"):
        graphopt.load(str(tmp_path / "old.keras"))


@pytest.mark.tensorflow
def test_files_of_keras_are_loaded_without_noise(tmp_path, run_python) -> None:
    import tensorflow as tf

    path = str(tmp_path / "model.keras")
    tf.keras.Sequential([tf.keras.layers.Input((4,)), tf.keras.layers.Dense(2)]).save(path)
    done = run_python("import sys, graphopt; print(len(graphopt.load(sys.argv[1]).graph))", path)
    assert (done.returncode, done.stderr) == (0, "")


def test_files_of_keras_need_tensorflow(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    for name, head in (("model.keras", b"PK\x03\x04" + bytes(8)), ("model.h5", b"\x89HDF\r\n\x1a\n" + bytes(8))):
        (tmp_path / name).write_bytes(head)
        with pytest.raises(UsageError, match=rf"{name}: this needs TensorFlow"):
            graphopt.load(tmp_path / name)
    (tmp_path / "model.h5").write_bytes(b"PK\x03\x04" + bytes(8))
    with pytest.raises(MalformedError, match="looks like a ZIP archive"):
        graphopt.load(tmp_path / "model.h5")


@pytest.fixture
def folder(affine, tmp_path) -> pathlib.Path:
    """A SavedModel whose weights are in a checkpoint."""
    from graphopt.ir.formats.savedmodel_saver import variables_of_constants

    model = affine()
    assert variables_of_constants(model, 1)
    graphopt.save(model, tmp_path / "model")
    return tmp_path / "model"


def test_a_savedmodel_there_and_back(folder, tmp_path) -> None:
    model = graphopt.load(folder)
    assert (model.format, list(model.signatures)) == ("savedmodel", ["serving_default"])
    assert all(variable.value is not None for variable in model.variables.values())
    graphopt.save(model, f"{tmp_path}/named.with.dots/")
    assert graphopt.diff(graphopt.load(tmp_path / "named.with.dots"), folder).is_empty
    with pytest.raises(UsageError, match="exists already"):
        graphopt.save(model, folder)
    graphopt.save(model, folder, overwrite=True)
    with pytest.raises(UnsupportedError, match="variables, whose values a GraphDef cannot hold: freeze it"):
        graphopt.save(model, tmp_path / "model.pb")
    with pytest.raises(UsageError, match="no MetaGraph tagged train"):
        graphopt.load(folder, tags=["train"])


def test_checkpoints_need_a_graph(folder, tmp_path) -> None:
    for path in (folder / "variables" / "variables", folder / "variables" / "variables.index"):
        with pytest.raises(MalformedError, match="values without a graph"):
            graphopt.load(path)
    message = SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs[0]
    (folder / "variables" / "variables.meta").write_bytes(message.SerializeToString())
    (folder / "variables" / "checkpoint").write_text('model_checkpoint_path: "variables"')
    for name in ("variables", "variables.index", "variables.meta", "checkpoint", ""):
        model = graphopt.load(folder / "variables" / name)
        assert model.format == "metagraph"
        assert all(variable.value is not None for variable in model.variables.values())


def test_chosen_outputs_keep_the_initialisers(folder) -> None:
    path = folder / "saved_model.pb"
    message = SavedModel.FromString(path.read_bytes())
    node = message.meta_graphs[0].graph_def.node.add(name="init", op="NoOp")
    message.meta_graphs[0].collection_def.add(key="legacy_init_op").value.node_list.value.append(node.name)
    path.write_bytes(message.SerializeToString())
    model = graphopt.load(folder, outputs="scaled")
    assert [value.name for value in model.graph.outputs] == ["scaled"]
    assert [target.name for target in model.graph.targets] == ["init"]
