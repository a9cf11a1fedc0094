"""Metadata from JSON and label files, as `graphopt.tflite_metadata` puts them into models."""

from __future__ import annotations

import json
import pathlib
import shutil

import pytest

from graphopt.ir.errors import UsageError
from graphopt.ir.formats.tflite import read_tflite, tflite_bytes
from graphopt.ir.model import Model
from graphopt.ir.types import tensor_type
from graphopt.tflite_metadata import (
    AssociatedFile,
    Metadata,
    SubGraphMetadata,
    TensorMetadata,
    add_metadata,
    associated_file,
    associated_files,
    load_metadata,
    metadata_json,
    read_metadata,
)

PLAIN = {
    "name": "Classifier",
    "subgraph_metadata": [
        {
            "input_tensor_metadata": [
                {
                    "name": "image",
                    "content": {
                        "content_properties_type": "ImageProperties",
                        "content_properties": {"color_space": "RGB"},
                    },
                    "process_units": [
                        {"options_type": "NormalizationOptions", "options": {"mean": [127.5], "std": [127.5]}}
                    ],
                }
            ],
            "output_tensor_metadata": [
                {"name": "probability", "associated_files": [{"name": "names.txt", "type": "TENSOR_AXIS_LABELS"}]}
            ],
        }
    ],
}


@pytest.fixture
def model() -> Model:
    model = Model()
    x = model.graph.create_node("tfl.INPUT", [], {}, name="x")
    source = x.outputs[0] if x.outputs else x.add_output()
    y = model.graph.create_node("tfl.ABS", [source], {}, name="y")
    value = y.outputs[0] if y.outputs else y.add_output()
    source.type = value.type = tensor_type("float32", (1, 2))
    model.set_signature({"image": source}, {"scores": value})
    return model


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "metadata.json").write_text(json.dumps(PLAIN))
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    return tmp_path


def test_json_with_the_files_beside_it(model: Model, folder: pathlib.Path) -> None:
    add_metadata(model, folder / "metadata.json")
    again = read_tflite(tflite_bytes(model))
    assert associated_file(again, "names.txt") == b"cat\ndog\n"
    found = read_metadata(again)
    assert found is not None
    assert json.loads(metadata_json(found)) == {**PLAIN, "min_parser_version": "1.0.0"}


def test_json_goes_there_and_back(folder: pathlib.Path) -> None:
    loaded = load_metadata(folder / "metadata.json")
    (folder / "again.json").write_text(metadata_json(loaded))
    assert load_metadata(folder / "again.json") == loaded


def test_labels_alone(model: Model, folder: pathlib.Path) -> None:
    add_metadata(model, labels=folder / "names.txt")
    found = read_metadata(read_tflite(tflite_bytes(model)))
    labels = AssociatedFile("names.txt", type="TENSOR_AXIS_LABELS")
    assert found == Metadata(
        subgraph_metadata=(
            SubGraphMetadata(
                input_tensor_metadata=(TensorMetadata("image"),),
                output_tensor_metadata=(TensorMetadata("scores", associated_files=(labels,)),),
            ),
        ),
        min_parser_version="1.0.0",
    )


def test_labels_replace_those_of_the_metadata_and_leave_those_of_other_languages(
    model: Model, folder: pathlib.Path
) -> None:
    german = AssociatedFile("de.txt", type="TENSOR_AXIS_LABELS", locale="de")
    first = TensorMetadata("p", associated_files=(AssociatedFile("old.txt", type="TENSOR_AXIS_LABELS"), german))
    (folder / "de.txt").write_text("Katze\nHund\n")
    described = Metadata(subgraph_metadata=(SubGraphMetadata(output_tensor_metadata=(first,)),))
    found = add_metadata(model, described, labels=folder / "names.txt", files=[folder / "de.txt"])
    listed = found.subgraph_metadata[0].output_tensor_metadata[0].associated_files
    assert [item.name for item in listed] == ["names.txt", "de.txt"]
    assert associated_files(model) == ("de.txt", "names.txt")


def test_a_model_keeps_the_metadata_it_has(model: Model, folder: pathlib.Path) -> None:
    add_metadata(model, folder / "metadata.json")
    shutil.copy(folder / "names.txt", folder / "others.txt")
    found = add_metadata(model, files=[folder / "others.txt"])
    assert found.name == "Classifier"
    assert set(associated_files(model)) == {"names.txt", "others.txt"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "cannot be used: Expecting property name"),
        ("[]", "it holds no object at the top"),
        ('{"nme": 1}', "ModelMetadata has no field 'nme'"),
        ("[" * 100_000, "cannot be used"),
        ('{"associated_files": [{"name": "../names.txt"}]}', "only a file beside the JSON file is taken"),
        ('{"associated_files": [{"name": "gone.txt"}]}', r"there is no file .*gone\.txt to pack"),
    ],
)
def test_what_cannot_be_used(model: Model, folder: pathlib.Path, text: str, reason: str) -> None:
    (folder / "metadata.json").write_text(text)
    with pytest.raises(UsageError, match=reason):
        add_metadata(model, folder / "metadata.json")


def test_files_that_are_not_there(model: Model, folder: pathlib.Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        add_metadata(model, labels=folder / "gone.txt")
    with pytest.raises(UsageError, match=r"gone\.json cannot be used: No such file"):
        add_metadata(model, folder / "gone.json")
    with pytest.raises(UsageError, match="has no output that labels could be for"):
        add_metadata(Model(), labels=folder / "names.txt")
