"""SavedModels written: what is kept, what moves to the checkpoint, what is refused; and TensorFlow loads them."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphopt.ir.errors import MalformedError, UnsupportedError, UsageError
from graphopt.ir.formats import savedmodel_writer
from graphopt.ir.formats.checkpoint import open_checkpoint
from graphopt.ir.formats.metagraph import METADATA, keep_state
from graphopt.ir.formats.protos.saved_model_pb2 import SavedModel
from graphopt.ir.formats.savedmodel import read_savedmodel
from graphopt.ir.formats.savedmodel_saver import variables_of_constants
from graphopt.ir.formats.savedmodel_writer import planned, write_savedmodel
from graphopt.ir.known import hold
from graphopt.ir.model import Model, Variable
from graphopt.ir.tensors import tensor
from graphopt.ir.types import FLOAT32, RESOURCE, SCALAR, Shape, tensor_type
from graphopt.passes.manager import PassManager

Make = Callable[[], Model]


def files(folder: pathlib.Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def value_of(folder: pathlib.Path, key: str) -> Any:
    return open_checkpoint(folder / "variables" / "variables").tensor(key).numpy()


def test_read_and_written_it_is_the_same(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (folder / "fingerprint.pb").write_bytes(b"true of these files")
    model = read_savedmodel(folder)
    before = files(folder)
    write_savedmodel(model, tmp_path / "again")
    assert files(tmp_path / "again") == before == files(folder)


def test_other_files_come_along(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for name in ("keras_metadata.pb", "assets.extra/serving/warmup", "assets/words.txt", "fingerprint.pb"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    model = read_savedmodel(folder)
    model.variables["w"].value = tensor(np.ones((3, 2), np.float32))
    model.graph.rename(model.graph.node("w/Read"), "read")
    write_savedmodel(model, tmp_path / "out")
    found = files(tmp_path / "out")
    assert found["keras_metadata.pb"] == b"keras_metadata.pb"
    assert found["assets.extra/serving/warmup"] == b"assets.extra/serving/warmup"
    assert found["assets/words.txt"] == b"assets/words.txt"
    assert "fingerprint.pb" not in found  # it would lie about the new graph
    assert value_of(tmp_path / "out", "w").tolist() == np.ones((3, 2)).tolist()
    assert value_of(folder, "w")[0, 1] == 1.0
    (folder / "link").symlink_to(tmp_path)
    (folder / "pipe").unlink(missing_ok=True)
    os.mkfifo(folder / "pipe")
    with pytest.raises(MalformedError, match=r"no regular file|symbolic link"):
        write_savedmodel(model, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_an_existing_folder(folder: pathlib.Path, tmp_path: pathlib.Path, matmul: Make) -> None:
    before = files(folder)
    with pytest.raises(UsageError, match="exists already"):
        write_savedmodel(matmul(), folder)
    assert files(folder) == before
    (folder / "stale").touch()
    write_savedmodel(matmul(), folder, overwrite=True)
    assert files(folder) == before
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").touch()
    with pytest.raises(UsageError, match="holds something else than a SavedModel"):
        write_savedmodel(matmul(), tmp_path / "letters", overwrite=True)
    with pytest.raises(UsageError, match="there is no folder"):
        write_savedmodel(matmul(), tmp_path / "a" / "b")
    (tmp_path / "empty").mkdir()
    write_savedmodel(matmul(), tmp_path / "empty")
    assert files(tmp_path / "empty") == before


def test_the_versions_of_a_model(tmp_path: pathlib.Path, matmul: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    write_savedmodel(matmul(), tmp_path / "name" / "1")
    write_savedmodel(matmul(), tmp_path / "name" / "2")
    assert sorted(os.listdir(tmp_path / "name")) == ["1", "2"]
    monkeypatch.setattr(savedmodel_writer, "_write_checkpoint", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_savedmodel(matmul(), tmp_path / "other" / "1")
    assert os.listdir(tmp_path) == ["name"]
    with pytest.raises(UsageError, match="there is no folder"):
        write_savedmodel(matmul(), tmp_path / "a" / "b" / "1")


def test_metagraphs_of_other_tags_come_along(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    path = folder / "saved_model.pb"
    message = SavedModel.FromString(path.read_bytes())
    for tag in ("train", "gpu"):
        message.meta_graphs.add().CopyFrom(message.meta_graphs[0])
        message.meta_graphs[-1].meta_info_def.tags[:] = [tag]
    path.write_bytes(message.SerializeToString())
    model = read_savedmodel(folder, tags="train")
    PassManager("strip-unused").run(model)
    write_savedmodel(model, tmp_path / "out")
    written = SavedModel.FromString((tmp_path / "out" / "saved_model.pb").read_bytes()).meta_graphs
    assert [list(meta.meta_info_def.tags) for meta in written] == [["serve"], ["train"], ["gpu"]]
    assert [written[0], written[2]] == [message.meta_graphs[0], message.meta_graphs[2]]
    assert read_savedmodel(tmp_path / "out", tags="gpu").variables["w"].value is not None
    model.variables["w"].derived = True
    write_savedmodel(model, tmp_path / "alone")
    written = SavedModel.FromString((tmp_path / "alone" / "saved_model.pb").read_bytes()).meta_graphs
    assert [list(meta.meta_info_def.tags) for meta in written] == [["train"]]


def test_over_itself(folder: pathlib.Path) -> None:
    model = read_savedmodel(folder)
    model.variables["w"].value = tensor(np.full((3, 2), 7, np.float32))
    write_savedmodel(model, folder, overwrite=True)
    assert value_of(folder, "w")[0, 0] == 7
    write_savedmodel(read_savedmodel(folder), folder, overwrite=True)


def test_nothing_is_left_of_a_failure(
    tmp_path: pathlib.Path, matmul: Make, monkeypatch: pytest.MonkeyPatch, folder: pathlib.Path
) -> None:
    before = files(folder)

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(savedmodel_writer, "_write_checkpoint", fail)
    for target in (folder, tmp_path / "new"):
        with pytest.raises(OSError, match="No space"):
            write_savedmodel(matmul(), target, overwrite=True)
    assert files(folder) == before
    assert sorted(os.listdir(tmp_path)) == ["model"]


def test_a_saver_is_made_where_the_old_one_is_gone(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    model = read_savedmodel(folder)
    PassManager("strip-unused").run(model)
    assert model.graph.find("save/restore_all") is None
    nodes = len(model.graph)
    write_savedmodel(model, tmp_path / "out")
    assert len(model.graph) == nodes  # the model given stays as it is
    assert files(tmp_path / "out").keys() == files(folder).keys()
    again = read_savedmodel(tmp_path / "out")
    assert again.variables["w"].trainable
    assert again.variables["w"].value is not None


def test_a_new_variable(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    model = read_savedmodel(folder)
    handle = model.graph.create_node(
        "tf.VarHandleOp",
        attrs={"dtype": FLOAT32, "shape": Shape([2]), "shared_name": b"bias", "container": b""},
        name="bias",
        types=(tensor_type(RESOURCE, SCALAR),),
    )
    model.variables["bias"] = Variable("bias", FLOAT32, Shape([2]), tensor(np.array([5, 6], np.float32)))
    write_savedmodel(model, tmp_path / "out")
    assert model.variables["bias"].checkpoint_key == ""
    again = read_savedmodel(tmp_path / "out")
    assert again.variables["bias"].value is not None
    assert again.variables["bias"].value.numpy().tolist() == [5, 6]
    assert again.graph.find(handle.name) is not None


def test_a_variable_without_value(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    model = read_savedmodel(folder)
    model.variables["w"].value = None
    with pytest.raises(UnsupportedError, match=r"variable 'w' float32\[3, 2\] has no value"):
        write_savedmodel(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_initialised_variable_keeps_what_its_initialiser_says(matmul: Make, tmp_path: pathlib.Path) -> None:
    def with_initialiser() -> Model:
        model = matmul()
        graph = model.graph
        start = hold(graph, np.full((3, 2), 9, np.float32), name="start")
        assign = graph.create_node(
            "tf.AssignVariableOp", [graph.node("w").output, start], {"dtype": FLOAT32}, name="assign", types=()
        )
        graph.create_node("tf.NoOp", name="init", types=(), control_inputs=[assign])
        return model

    write_savedmodel(with_initialiser(), tmp_path / "m")
    path = tmp_path / "m" / "saved_model.pb"
    message = SavedModel.FromString(path.read_bytes())
    message.meta_graphs[0].collection_def.add(key="legacy_init_op").value.node_list.value.append("init")
    path.write_bytes(message.SerializeToString())
    model = read_savedmodel(tmp_path / "m")
    assert [node.name for node in model.graph.targets] == ["init"]
    variable = model.variables["w"]
    assert variable.value is not None
    assert variable.value.numpy()[0, 0] == 9
    model.graph.targets = []
    keep_state(model)
    assert [node.name for node in model.graph.targets] == ["init"]
    variable.value = tensor(np.zeros((3, 2), np.float32))
    with pytest.raises(UnsupportedError, match="its initialiser would overwrite it"):
        write_savedmodel(model, tmp_path / "out")


# Large constants ----------------------------------------------------------------------------------------------


def frozen(size: int = 1000) -> Model:
    """`y = x + c` with a constant of `size` floats."""
    model = Model()
    graph = model.graph
    x = graph.create_node(
        "tf.Placeholder",
        attrs={"dtype": FLOAT32, "shape": Shape([size])},
        name="x",
        types=(tensor_type(FLOAT32, [size]),),
    )
    c = hold(graph, np.arange(size, dtype=np.float32), name="c")
    y = graph.create_node("tf.AddV2", [x.output, c], {"T": FLOAT32}, name="y", types=(tensor_type(FLOAT32, [size]),))
    model.set_signature({"x": x.output}, {"y": y.output})
    model.versions = (1000, 12, ())
    return model


def test_constants_beyond_the_limit_become_variables(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = frozen()
    plan = planned(model, limit=4000)
    assert plan.model.graph.node("c").op == "tf.ReadVariableOp"
    assert model.graph.node("c").op == "tf.Const"
    with pytest.raises(UnsupportedError, match="protobuf allows 100"):
        planned(model, limit=100)
    monkeypatch.setattr(savedmodel_writer.wire, "MESSAGE_LIMIT", 4000)
    monkeypatch.setattr(savedmodel_writer.planned, "__defaults__", (4000,))
    write_savedmodel(model, tmp_path / "out")
    monkeypatch.undo()
    assert (tmp_path / "out" / "saved_model.pb").stat().st_size < 4000
    assert value_of(tmp_path / "out", "c/variable").tolist() == list(range(1000))


def test_which_constants_become_variables() -> None:
    model = frozen()
    assert variables_of_constants(model, 5000) == 0
    assert variables_of_constants(model, 100) == 1
    assert model.variables["c/variable"].trainable


# TensorFlow ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tensorflow_model(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A SavedModel of the second version: two signatures, a shared variable, batch norm, a table from a file."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("made")
    (folder / "words.txt").write_text("a\nb\n")

    class Made(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            self.w = tf.Variable([[1.0, 2.0], [3.0, 4.0]], name="w")
            self.steps = tf.Variable(3, name="steps", trainable=False, dtype=tf.int64)
            initializer = tf.lookup.TextFileInitializer(
                str(folder / "words.txt"),
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            )
            self.table = tf.lookup.StaticHashTable(initializer, -1)

        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "x")])
        def product(self, x: Any) -> Any:
            return {"y": tf.matmul(x, self.w) + tf.cast(self.steps, tf.float32)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "word")])
        def look_up(self, word: Any) -> Any:
            return {"row": tf.gather(self.w, tf.maximum(self.table.lookup(word), 0))}

    made = Made()
    path = folder / "saved"
    tf.saved_model.save(made, str(path), signatures={"product": made.product, "look_up": made.look_up})
    return path


def run(folder: pathlib.Path) -> list[Any]:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))
    assert sorted(loaded.signatures) == ["look_up", "product"]
    product = loaded.signatures["product"](x=tf.constant([[1.0, 10.0]]))["y"].numpy().tolist()
    return [product, loaded.signatures["look_up"](word=tf.constant(["b", "?"]))["row"].numpy().tolist()]


def trainable(model: Model) -> dict[str, bool]:
    """Of the variables that the checkpoint holds; TensorFlow keeps the path of an asset in one that it does not."""
    return {name: item.trainable for name, item in model.variables.items() if item.checkpoint_key}


EXPECTED = [[[34.0, 45.0]], [[3.0, 4.0], [1.0, 2.0]]]


@pytest.mark.tensorflow
def test_tensorflow_loads_it_whole(tensorflow_model: pathlib.Path, tmp_path: pathlib.Path) -> None:
    model = read_savedmodel(tensorflow_model)
    assert trainable(model) == {"w": True, "steps": False}
    plan = planned(model)
    assert plan.writer.objects == model.metadata[METADATA].meta.object_graph
    model.variables["w"].value = tensor(np.array([[2.0, 4.0], [6.0, 8.0]], np.float32))
    write_savedmodel(model, tmp_path / "out")
    assert run(tmp_path / "out") == [[[65.0, 87.0]], [[6.0, 8.0], [2.0, 4.0]]]
    assert run(tensorflow_model) == EXPECTED


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    "passes", ["strip-unused", "inline-functions,strip-unused,remove-unused-functions", "inline-functions"]
)
def test_tensorflow_loads_it_rewritten(tensorflow_model: pathlib.Path, tmp_path: pathlib.Path, passes: str) -> None:
    model = read_savedmodel(tensorflow_model)
    PassManager(passes).run(model)
    write_savedmodel(model, tmp_path / "out")
    plan = planned(model)
    assert plan.without_objects == ""
    assert (plan.writer.objects == model.metadata[METADATA].meta.object_graph) == (passes == "strip-unused")
    assert run(tmp_path / "out") == EXPECTED
    again = read_savedmodel(tmp_path / "out")
    assert trainable(again) == {"w": True, "steps": False}
    assert "words.txt" in [asset.filename for asset in again.metadata[METADATA].assets]


@pytest.mark.tensorflow
def test_tensorflow_loads_what_began_here(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))
    x = tf.constant([[1.0, 0.0, 2.0]])
    assert loaded.signatures["serving_default"](x=x)["y"].numpy().tolist() == [[8.0, 11.0]]
    assert [variable.shape for variable in loaded.variables] == [(3, 2)]
    model = frozen()
    variables_of_constants(model, 100)
    write_savedmodel(model, tmp_path / "large")
    result = tf.saved_model.load(str(tmp_path / "large")).signatures["serving_default"](x=tf.ones(1000))["y"]
    assert result.numpy()[-1] == 1000


@pytest.mark.tensorflow
def test_partitioned_and_reference_variables(tmp_path: pathlib.Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session, v1.variable_scope("m", use_resource=False):
        table = v1.get_variable(
            "table",
            (10, 4),
            partitioner=v1.fixed_size_partitioner(3),
            initializer=v1.random_uniform_initializer(seed=1),
        )
        scale = v1.get_variable("scale", initializer=3.0)
        ids = v1.placeholder(tf.int32, [None], "ids")
        rows = tf.identity(v1.nn.embedding_lookup(table, ids, partition_strategy="div") * scale, "rows")
        session.run(v1.global_variables_initializer())
        expected = session.run(rows, {ids: [0, 5, 9]})
        v1.saved_model.simple_save(session, str(tmp_path / "m"), {"ids": ids}, {"rows": rows})
    model = read_savedmodel(tmp_path / "m")
    parts = [item for item in model.variables.values() if item.checkpoint_slice]
    assert len(parts) == 3
    assert {item.checkpoint_key for item in parts} == {"m/table"}
    for item in (*parts[:1], model.variables["m/scale"]):
        assert item.value is not None
        item.value = tensor(item.value.numpy() * 2)
    PassManager("strip-unused").run(model)
    write_savedmodel(model, tmp_path / "out")
    loaded = tf.saved_model.load(str(tmp_path / "out")).signatures["serving_default"]
    found = loaded(ids=tf.constant([0, 5, 9]))["rows"].numpy()
    assert np.allclose(found, expected * np.array([[4], [2], [2]]))
