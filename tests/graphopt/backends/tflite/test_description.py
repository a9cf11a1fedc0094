"""Metadata and labels of a lowered model."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

import graphopt
from graphopt.backends.tflite.description import describe
from graphopt.ir.formats.tflite.metadata import associated_file, associated_files, read_metadata
from graphopt.ir.model import Model
from graphopt.lowering import lower
from graphopt.testing.lowering import text_model


@pytest.fixture
def model() -> Model:
    body = "%scores = tf.Softmax(%picture)\n%sizes = tf.Neg(%picture)"
    return lower(text_model(body, "%picture: float32[1, 3]", "%scores, %sizes"), "tflite").model


@pytest.fixture
def labels(tmp_path: pathlib.Path) -> str:
    path = tmp_path / "labels.txt"
    path.write_text("cat\ndog\nfish\n")
    return str(path)


def written(tmp_path: pathlib.Path, **content: Any) -> str:
    path = tmp_path / "about.json"
    path.write_text(json.dumps(content))
    return str(path)


def test_labels_alone_are_those_of_the_outputs_in_order(model: Model, labels: str) -> None:
    describe(model, labels=[labels])
    found = read_metadata(model)
    assert found is not None
    (subgraph,) = found.subgraph_metadata
    assert [item.name for item in subgraph.input_tensor_metadata] == ["picture"]
    assert [item.name for item in subgraph.output_tensor_metadata] == ["scores", "sizes"]
    (file,) = subgraph.output_tensor_metadata[0].associated_files
    assert (file.name, file.type) == ("labels.txt", "TENSOR_AXIS_LABELS")
    assert associated_file(model, "labels.txt") == b"cat\ndog\nfish\n"


def test_metadata_and_labels_are_put_together(model: Model, labels: str, tmp_path: pathlib.Path) -> None:
    outputs = [{"name": "chances", "description": "of each"}, {"name": "sizes"}]
    about = written(tmp_path, name="Animals", subgraph_metadata=[{"output_tensor_metadata": outputs}])
    describe(model, about, [labels])
    found = read_metadata(model)
    assert found is not None
    assert found.name == "Animals"
    first = found.subgraph_metadata[0].output_tensor_metadata[0]
    assert (first.name, first.description, first.associated_files[0].name) == ("chances", "of each", "labels.txt")


def test_files_that_the_metadata_name_lie_beside_them(model: Model, labels: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "notes.txt").write_text("notes")
    files = [{"name": "notes.txt"}, {"name": "labels.txt", "type": "TENSOR_AXIS_LABELS"}]
    describe(model, written(tmp_path, associated_files=files), [labels])
    assert set(associated_files(model)) == {"notes.txt", "labels.txt"}
    found = read_metadata(model)
    assert found is not None
    assert not found.subgraph_metadata, "labels that are named already are named once"


@pytest.mark.parametrize(
    ("content", "error", "reason"),
    [
        ("{", graphopt.MalformedError, "no JSON"),
        ("[]", graphopt.MalformedError, "no JSON object"),
        ('{"nmae": "x"}', graphopt.UsageError, "nmae"),
        ('{"associated_files": [{"name": "nowhere.txt"}]}', graphopt.UsageError, "nowhere.txt"),
        ('{"associated_files": [{"name": "../labels.txt"}]}', graphopt.UsageError, "has no folder"),
    ],
)
def test_metadata_that_are_wrong_are_refused(
    model: Model, tmp_path: pathlib.Path, content: str, error: type[Exception], reason: str
) -> None:
    (tmp_path / "about.json").write_text(content)
    with pytest.raises(error, match=reason):
        describe(model, str(tmp_path / "about.json"))


def test_more_labels_than_outputs_are_refused(model: Model, labels: str, tmp_path: pathlib.Path) -> None:
    others = [tmp_path / f"{name}.txt" for name in "ab"]
    for other in others:
        other.write_text("x")
    with pytest.raises(graphopt.UsageError, match="3 files of labels, and the model has 2 outputs"):
        describe(model, labels=[labels, *map(str, others)])


def test_the_command_line_attaches_them(run_cli: Any, labels: str, tmp_path: pathlib.Path) -> None:
    graphopt.save(text_model("%y = tf.Softmax(%x)", "%x: float32[1, 3]"), tmp_path / "model.pb")
    about = written(tmp_path, name="Animals")
    arguments = ("lower", "model.pb", "--to", "tflite", "-o", "out.tflite", "--metadata", about)
    assert run_cli(*arguments, "--labels", labels).status == 0
    found = graphopt.load(tmp_path / "out.tflite")
    assert associated_files(found) == ("labels.txt",)
    assert list(found.signatures) == ["serving_default"]
    assert run_cli(*arguments, "--labels", "none.txt", "--force").status == 2
