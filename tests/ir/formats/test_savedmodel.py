"""SavedModels read: signatures, variables, tags, initialisers and assets; what is missing or contradicts is named."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format

from graphopt.ir.errors import Error, MalformedError, UsageError
from graphopt.ir.formats.bundle_writer import BundleWriter
from graphopt.ir.formats.metagraph import METADATA, load_metagraph
from graphopt.ir.formats.protos.saved_model_pb2 import SavedModel
from graphopt.ir.formats.savedmodel import is_savedmodel, read_savedmodel
from graphopt.ir.model import Model, computed_inputs
from graphopt.ir.tensors import FileTensor, tensor

Edit = Callable[[Any], None]


def edited(folder: pathlib.Path, edit: Edit) -> pathlib.Path:
    """`folder` after `edit` changed its first MetaGraph."""
    path = folder / "saved_model.pb"
    message = SavedModel.FromString(path.read_bytes())
    edit(message.meta_graphs[0])
    path.write_bytes(message.SerializeToString())
    return folder


def test_signatures_and_variables(folder: pathlib.Path) -> None:
    assert is_savedmodel(folder)
    model = read_savedmodel(folder)
    assert (model.format, model.source, model.versions) == ("savedmodel", str(folder), (1000, 12, ()))
    signature = model.signatures["serving_default"]
    assert {key: value.name for key, value in signature.input_values().items()} == {"x": "x"}
    assert {key: value.name for key, value in signature.output_values().items()} == {"y": "y"}
    assert signature.method_name == "tensorflow/serving/predict"
    variable = model.variables["w"]
    assert isinstance(variable.value, FileTensor)
    assert (variable.trainable, variable.checkpoint_key, str(variable.shape)) == (True, "w", "[3, 2]")
    assert np.array_equal(variable.value.numpy(), np.arange(6).reshape(3, 2))
    copy = model.clone()
    copy.variables["w"].value = None
    assert model.variables["w"].value is not None


def test_as_text(folder: pathlib.Path) -> None:
    path = folder / "saved_model.pb"
    text = text_format.MessageToString(SavedModel.FromString(path.read_bytes()))
    path.unlink()
    (folder / "saved_model.pbtxt").write_text(text)
    model = read_savedmodel(folder)
    assert list(model.signatures) == ["serving_default"]
    assert model.variables["w"].value is not None
    (folder / "saved_model.pbtxt").write_text("meta_graphs { nonsense: 1 }")
    with pytest.raises(MalformedError, match="not the text of a SavedModel"):
        read_savedmodel(folder)


# Tags ---------------------------------------------------------------------------------------------------------


def with_tags(folder: pathlib.Path, *sets: tuple[str, ...]) -> pathlib.Path:
    path = folder / "saved_model.pb"
    message = SavedModel.FromString(path.read_bytes())
    first = message.meta_graphs[0]
    del message.meta_graphs[1:]
    for tags in sets[1:]:
        message.meta_graphs.add().CopyFrom(first)
        message.meta_graphs[-1].meta_info_def.tags[:] = tags
    message.meta_graphs[0].meta_info_def.tags[:] = sets[0]
    path.write_bytes(message.SerializeToString())
    return folder


def tags_of(model: Model) -> tuple[str, ...]:
    return tuple(model.metadata[METADATA].meta.tags)


def test_tags(folder: pathlib.Path) -> None:
    with_tags(folder, ("train",), ("serve",), ("serve", "gpu"))
    assert tags_of(read_savedmodel(folder)) == ("serve",)
    assert tags_of(read_savedmodel(folder, tags=["gpu", "serve"])) == ("serve", "gpu")
    assert tags_of(read_savedmodel(folder, tags="train")) == ("train",)
    with pytest.raises(
        UsageError, match=r"no MetaGraph tagged tpu: choose one by its tags, of train; serve; gpu,serve"
    ):
        read_savedmodel(folder, tags=["tpu"])
    with_tags(folder, ("eval",))
    assert tags_of(read_savedmodel(folder)) == ("eval",)
    with_tags(folder, ("eval",), ("train",))
    with pytest.raises(UsageError, match="holds several MetaGraphs: choose one"):
        read_savedmodel(folder)
    with_tags(folder, ("serve",), ("serve",))
    with pytest.raises(MalformedError, match="2 MetaGraphs have the same tags"):
        read_savedmodel(folder)


# Signatures ---------------------------------------------------------------------------------------------------


def test_sparse_and_composite_tensors(folder: pathlib.Path) -> None:
    def edit(meta: Any) -> None:
        for entry in meta.signature_def:
            sparse = entry.value.inputs.add(key="s").value.coo_sparse
            sparse.values_tensor_name, sparse.indices_tensor_name, sparse.dense_shape_tensor_name = (
                "x:0",
                "w/Read",
                "y:0",
            )
            composite = entry.value.outputs.add(key="r").value.composite_tensor
            composite.components.add(name="y:0")
            composite.components.add(name="x:0")

    signature = read_savedmodel(edited(folder, edit)).signatures["serving_default"]
    names = {key: value.name for key, value in signature.input_values().items()}
    assert names == {"s.values": "x", "s.indices": "w/Read", "s.dense_shape": "y", "x": "x"}
    assert {key: value.name for key, value in signature.output_values().items()} == {"r.0": "y", "r.1": "x", "y": "y"}


def test_an_input_that_another_signature_computes(folder: pathlib.Path) -> None:
    def edit(meta: Any) -> None:
        other = meta.signature_def.add(key="from_product")
        other.value.inputs.add(key="in").value.name = "y:0"
        other.value.outputs.add(key="out").value.name = "y:0"

    model = read_savedmodel(edited(folder, edit))
    assert [value.name for value in model.graph.inputs] == ["x", "y"]
    assert [value.name for value in computed_inputs(model)] == ["y"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda meta: meta.signature_def[0].value.outputs.add(key="z").value.MergeFrom(info("z:0")), "tensor 'z:0'"),
        (lambda meta: meta.signature_def[0].value.outputs.add(key="z").value.MergeFrom(info("y:1")), "tensor 'y:1'"),
        (lambda meta: meta.signature_def.add().CopyFrom(meta.signature_def[0]), "'serving_default' is given twice"),
        (lambda meta: meta.signature_def[0].value.inputs.add(key="x"), "'x' is given twice"),
        (lambda meta: meta.ClearField("graph_def"), "a MetaGraph has no graph"),
        (lambda meta: setattr(meta.saver_def, "restore_op_name", "nowhere"), "operation 'nowhere'"),
        (lambda meta: collect(meta, "saved_model_main_op", "nowhere"), "initialiser 'nowhere' is not in the graph"),
        (lambda meta: meta.object_graph_def.nodes.add().children.add(node_id=5), "refers to object 5 of 1"),
        (
            lambda meta: meta.object_graph_def.concrete_functions.add(key="gone"),
            "function 'gone' is not in the library",
        ),
    ],
)
def test_what_contradicts_itself(folder: pathlib.Path, edit: Edit, message: str) -> None:
    with pytest.raises(MalformedError, match=message) as failure:
        read_savedmodel(edited(folder, edit))
    assert "saved_model.pb" in str(failure.value)


def info(name: str) -> Any:
    from graphopt.ir.formats.protos.saved_model_pb2 import TensorInfo

    return TensorInfo(name=name)


def collect(meta: Any, key: str, value: str) -> None:
    meta.collection_def.add(key=key).value.node_list.value.append(value)


# Variables ----------------------------------------------------------------------------------------------------


def test_shapes_and_types_that_differ(folder: pathlib.Path) -> None:
    for held, message in (
        (np.zeros((2, 3), np.float32), r"variable 'w' .*of shape \[2, 3\] in the checkpoint, \[3, 2\] in the graph"),
        (np.zeros((3, 2), np.float64), "variable 'w' .*float64 in the checkpoint, float32 in the graph"),
    ):
        with BundleWriter(folder / "variables" / "variables") as writer:
            writer.add("w", tensor(held))
        with pytest.raises(MalformedError, match=message):
            read_savedmodel(folder)


def test_a_tensor_the_checkpoint_lacks(folder: pathlib.Path) -> None:
    with BundleWriter(folder / "variables" / "variables") as writer:
        writer.add("v", tensor(np.zeros(3)))
    with pytest.raises(MalformedError, match="no tensor 'w'"):
        read_savedmodel(folder)


def test_without_a_saver_the_name_is_the_key(folder: pathlib.Path) -> None:
    def edit(meta: Any) -> None:
        meta.ClearField("saver_def")
        for node in list(meta.graph_def.node):
            if node.name.startswith("save"):
                meta.graph_def.node.remove(node)

    assert read_savedmodel(edited(folder, edit)).variables["w"].value is not None


def test_a_folder_written_by_half(folder: pathlib.Path) -> None:
    shard = folder / "variables" / "variables.data-00000-of-00001"
    index = folder / "variables" / "variables.index"
    shard.rename(folder / "away")
    with pytest.raises(MalformedError, match="data-00000-of-00001: tensor 'w': there is no such file"):
        read_savedmodel(folder)
    index.unlink()
    with pytest.raises(MalformedError, match=r"variables.index is missing, and the model has variables \('w'\)"):
        read_savedmodel(folder)
    (folder / "saved_model.pb").write_bytes((folder / "saved_model.pb").read_bytes()[:-30])
    with pytest.raises(MalformedError, match="truncated or damaged"):
        read_savedmodel(folder)
    (folder / "saved_model.pb").unlink()
    with pytest.raises(MalformedError, match="holds no SavedModel"):
        read_savedmodel(folder)


def test_a_checkpoint_that_leads_out(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (folder / "variables").rename(tmp_path / "elsewhere")
    (folder / "variables").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MalformedError, match="symbolic link out of the model's folder"):
        read_savedmodel(folder)


def test_a_message_that_leads_out(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (folder / "saved_model.pb").rename(tmp_path / "message")
    (folder / "saved_model.pb").symlink_to(tmp_path / "message")
    with pytest.raises(MalformedError, match="symbolic link out"):
        read_savedmodel(folder)
    (folder / "saved_model.pb").unlink()
    os.mkfifo(folder / "saved_model.pb")
    with pytest.raises(MalformedError, match="no regular file"):
        read_savedmodel(folder)


# Assets -------------------------------------------------------------------------------------------------------


def with_asset(folder: pathlib.Path, filename: str) -> pathlib.Path:
    def edit(meta: Any) -> None:
        del meta.asset_file_def[:]
        meta.asset_file_def.add(tensor_info=info("x:0"), filename=filename)

    return edited(folder, edit)


def test_assets(folder: pathlib.Path) -> None:
    with pytest.raises(MalformedError, match=r"asset 'assets/words\.txt' is missing"):
        read_savedmodel(with_asset(folder, "words.txt"))
    (folder / "assets").mkdir()
    (folder / "assets" / "words.txt").write_text("a\n")
    model = read_savedmodel(folder)
    assert [asset.filename for asset in model.metadata[METADATA].assets] == ["words.txt"]
    assert [value.name for value in model.graph.inputs] == ["x"]


@pytest.mark.parametrize("name", ["../../secret", "/etc/hostname", "a/../../b", "..\\..\\x", "a\0b"])
def test_assets_that_climb_out(folder: pathlib.Path, name: str) -> None:
    with pytest.raises(MalformedError, match="leaves the model's folder"):
        read_savedmodel(with_asset(folder, name))


def test_an_asset_that_is_a_link_out(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "secret").write_text("s")
    (folder / "assets").mkdir()
    (folder / "assets" / "words.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(MalformedError, match="symbolic link out"):
        read_savedmodel(with_asset(folder, "words.txt"))


def test_nothing_outside_the_folder_is_opened(folder: pathlib.Path, run_python: Any) -> None:
    script = """
import os, sys
folder = sys.argv[1]
from graphopt.ir.formats import savedmodel
savedmodel.read_savedmodel(folder)  # whatever the package itself reads, once
opened = []
sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "open" else None)
model = savedmodel.read_savedmodel(folder)
model.variables["w"].value.numpy()
outside = [p for p in opened if isinstance(p, str) and not p.startswith(folder)]
assert opened
assert not outside, outside
assert "tensorflow" not in sys.modules and "google.protobuf" not in sys.modules
"""
    done = run_python(script, os.path.realpath(folder))
    assert done.returncode == 0, done.stderr


# MetaGraphs and the corpus ------------------------------------------------------------------------------------


def test_a_metagraph_with_and_without_values(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    message = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    (tmp_path / "m.meta").write_bytes(message.meta_graphs[0].SerializeToString())
    model = load_metagraph(tmp_path / "m.meta")
    assert (model.format, model.variables["w"].value) == ("metagraph", None)
    for suffix in ("index", "data-00000-of-00001"):
        shutil.copyfile(folder / "variables" / f"variables.{suffix}", tmp_path / f"m.{suffix}")
    assert load_metagraph(tmp_path / "m.meta").variables["w"].value is not None
    (tmp_path / "m.meta").write_text(text_format.MessageToString(message.meta_graphs[0]))
    assert load_metagraph(tmp_path / "m.meta").variables["w"].value is not None
    (tmp_path / "m.meta").write_bytes(b"\x12")
    with pytest.raises(MalformedError, match=r"m\.meta"):
        load_metagraph(tmp_path / "m.meta")


def test_the_corpus(corpus: pathlib.Path) -> None:
    """Every SavedModel and MetaGraph loads with its variables, except those whose files are not all there."""
    manifest = json.loads((corpus / "MANIFEST.json").read_text())
    loaded, refused = 0, []
    for entry in manifest:
        path = corpus / entry["path"]
        if entry["kind"] == "savedmodel":
            jobs: list[Callable[[], Model]] = [lambda path=path: read_savedmodel(path)]  # type: ignore[misc]
        elif entry["kind"] == "checkpoint":
            jobs = [lambda meta=meta: load_metagraph(meta) for meta in sorted(path.glob("*.meta"))]  # type: ignore[misc]
        else:
            continue
        for job in jobs:
            try:
                model = job()
            except MalformedError:
                refused.append(entry)
            else:
                loaded += 1
                assert model.node_count
    assert loaded > 40
    assert all(entry["loads"] is False for entry in refused), [entry["path"] for entry in refused]


def outcome(folder: pathlib.Path) -> str:
    """Where the model came from, or what is said of it."""
    try:
        return read_savedmodel(folder).source
    except Error as error:
        return str(error)


def test_random_damage_is_named(folder: pathlib.Path) -> None:
    """Byte by byte: whatever is changed in the message or the index, there is a model or a clear error."""
    rng = np.random.default_rng(0)
    for name in ("saved_model.pb", "variables/variables.index"):
        whole = (folder / name).read_bytes()
        for _ in range(300):
            changed = bytearray(whole)
            changed[rng.integers(len(whole))] = rng.integers(256)
            if rng.random() < 0.2:
                del changed[rng.integers(len(changed)) :]
            (folder / name).write_bytes(changed)
            assert str(folder) in outcome(folder)
        (folder / name).write_bytes(whole)
