"""TFLite Metadata, packed files, conversion metadata and the runtime: written, read, kept, refused."""

from __future__ import annotations

import io
import pathlib
import random
import zipfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from graphopt.ir.errors import MalformedError, UsageError
from graphopt.ir.formats.tflite import read_tflite, tflite_bytes
from graphopt.ir.formats.tflite.archive import find_archive
from graphopt.ir.formats.tflite.metadata import (
    IDENTIFIER,
    METADATA,
    associated_file,
    associated_files,
    attach_conversion_metadata,
    attach_metadata,
    metadata_of,
    plain_of,
    read_conversion_metadata,
    read_metadata,
    remove_metadata,
    state_runtime,
)
from graphopt.ir.formats.tflite.metadata_types import (
    AssociatedFile,
    AudioProperties,
    BertTokenizerOptions,
    BoundingBoxProperties,
    Content,
    ConversionMetadata,
    ConversionOptions,
    CustomMetadata,
    Environment,
    FeatureProperties,
    ImageProperties,
    ImageSize,
    Metadata,
    NormalizationOptions,
    RegexTokenizerOptions,
    ScoreCalibrationOptions,
    ScoreThresholdingOptions,
    SentencePieceTokenizerOptions,
    Stats,
    SubGraphMetadata,
    TensorGroup,
    TensorMetadata,
    ValueRange,
)
from graphopt.ir.model import Model

Pack = Callable[[dict[str, Any]], bytes]
LABELS = AssociatedFile("labels.txt", "what it sees", "TENSOR_AXIS_LABELS", "en")
VOCABULARY = AssociatedFile("vocabulary.txt", type="VOCABULARY")
FILES = {"labels.txt": b"cat\ndog\n", "vocabulary.txt": "é\nü\n".encode()}
EVERYTHING = Metadata(
    "small", "adds a constant", "1.2", (
        SubGraphMetadata(
            "main", "all of it", (
                TensorMetadata(
                    "image", "a picture", ("batch", "pixel"),
                    Content(ImageProperties("RGB", ImageSize(4, 1)), ValueRange(1, 1)),
                    (NormalizationOptions((127.5, 0.0), (127.5, 1.0)), BertTokenizerOptions((VOCABULARY,))),
                    Stats((1.0,), (-1.0,)),
                ),
            ), (
                TensorMetadata(
                    "score", content=Content(FeatureProperties()), associated_files=(LABELS,),
                    process_units=(
                        ScoreCalibrationOptions("LOG", 0.5), ScoreThresholdingOptions(0.25),
                        SentencePieceTokenizerOptions((VOCABULARY,)), RegexTokenizerOptions("[^a-z]+"),
                    ),
                ),
            ),
            input_process_units=(NormalizationOptions((1.0,), (2.0,)),),
            input_tensor_groups=(TensorGroup("all", ("image",)),),
            custom_metadata=(CustomMetadata("mine", bytes(range(40))),),
        ),
    ), "somebody", "Apache-2.0",
)  # fmt: skip


@pytest.fixture
def model(fields: dict[str, Any], packed: Pack) -> Model:
    fields["signature_defs"] = [
        {
            "signature_key": b"serve",
            "inputs": [{"name": b"image", "tensor_index": 0}],
            "outputs": [{"name": b"score", "tensor_index": 2}],
            "subgraph_index": 0,
        }
    ]
    return read_tflite(packed(fields))


def test_every_field_comes_back(model: Model) -> None:
    attached = attach_metadata(model, EVERYTHING, FILES)
    assert attached == replace(EVERYTHING, min_parser_version="1.5.0")
    data = tflite_bytes(model)
    again = read_tflite(data)
    assert read_metadata(again) == attached
    assert {name: associated_file(again, name) for name in associated_files(again)} == FILES
    assert list(again.signatures) == ["serve"], "signatures are kept"
    assert tflite_bytes(again) == data


def test_other_readers_find_the_archive_and_the_metadata(model: Model, objects: Callable[[bytes], Any]) -> None:
    attach_metadata(model, EVERYTHING, FILES)
    data = tflite_bytes(model)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert {item.filename: archive.read(item) for item in archive.infolist()} == FILES
        assert all(item.compress_type == zipfile.ZIP_STORED for item in archive.infolist())
        assert all(data[item.header_offset : item.header_offset + 4] == b"PK\3\4" for item in archive.infolist())
    tables = objects(data)[1]
    entry = next(item for item in tables["metadata"] if item[1]["name"] == METADATA)
    held = tables["buffers"][entry[1]["buffer"]][1]["data"][1]
    assert held[4:8] == IDENTIFIER


def test_litert_runs_what_is_described(model: Model, run_litert: Callable[[bytes], Any]) -> None:
    before = run_litert(tflite_bytes(model))
    attach_metadata(model, EVERYTHING, FILES)
    assert run_litert(tflite_bytes(model)) == before
    assert run_litert(tflite_bytes(model, apart=True)) == before
    assert associated_file(read_tflite(tflite_bytes(model, apart=True)), "labels.txt") == FILES["labels.txt"]


def test_an_archive_moves_with_the_model_byte_for_byte(model: Model) -> None:
    plain = tflite_bytes(model)
    out = io.BytesIO(plain)
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("a/b.txt", (2020, 2, 2, 2, 2, 2)), b"b" * 1000)
        archive.comment = b"packed by others"
    read = read_tflite(out.getvalue())
    read.graph.rename(read.graph.outputs[0].node, "a_much_longer_name_than_it_had_before" * 3)
    read.graph.outputs[0].name = None
    data = tflite_bytes(read)
    assert data[: len(plain)] != plain
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert archive.comment == b"packed by others"
        assert archive.infolist()[0].date_time == (2020, 2, 2, 2, 2, 2)
        assert archive.read("a/b.txt") == b"b" * 1000
    assert associated_files(read_tflite(data)) == ("a/b.txt",)


def test_an_archive_that_counts_from_its_own_start_then_counts_from_the_files(model: Model) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("x.txt", b"x")
    read = read_tflite(tflite_bytes(model) + out.getvalue())
    assert associated_file(read, "x.txt") == b"x"
    data = tflite_bytes(read)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        item = archive.infolist()[0]
        assert archive.read(item) == b"x"
        assert data[item.header_offset : item.header_offset + 4] == b"PK\3\4"
    assert len(data) == len(tflite_bytes(model)) + len(out.getvalue())


def test_attaching_again_replaces_metadata_and_keeps_files(model: Model) -> None:
    attach_metadata(model, EVERYTHING, FILES)
    read = read_tflite(tflite_bytes(model))
    attach_metadata(read, Metadata("other", associated_files=(LABELS,)), {"more.txt": b"more"})
    again = read_tflite(tflite_bytes(read))
    found = read_metadata(again)
    assert found is not None
    assert (found.name, found.min_parser_version) == ("other", "1.0.0")
    assert set(associated_files(again)) == {*FILES, "more.txt"}
    assert [item.name for item in again.metadata["tflite"].metadata].count(METADATA) == 1
    remove_metadata(again)
    bare = read_tflite(tflite_bytes(again))
    assert (read_metadata(bare), associated_files(bare)) == (None, ())


@pytest.mark.parametrize(
    ("metadata", "version"),
    [
        (Metadata("x"), "1.0.0"),
        (Metadata(associated_files=(VOCABULARY,)), "1.0.1"),
        (Metadata(subgraph_metadata=(SubGraphMetadata(output_process_units=(
            ScoreThresholdingOptions(0.5),)),)), "1.1.0"),
        (Metadata(subgraph_metadata=(SubGraphMetadata(output_tensor_groups=(TensorGroup("a"),)),)), "1.2.0"),
        (Metadata(subgraph_metadata=(SubGraphMetadata(input_tensor_metadata=(
            TensorMetadata(process_units=(RegexTokenizerOptions("a"),)),)),)), "1.2.1"),
        (Metadata(subgraph_metadata=(SubGraphMetadata(input_tensor_metadata=(
            TensorMetadata(content=Content(AudioProperties(16000, 1))),)),)), "1.3.0"),
        (Metadata(associated_files=(AssociatedFile("vocabulary.txt", type="SCANN_INDEX_FILE"),)), "1.4.0"),
        (Metadata(associated_files=(AssociatedFile("vocabulary.txt", version="2"),)), "1.4.1"),
        (Metadata(subgraph_metadata=(SubGraphMetadata(custom_metadata=(CustomMetadata("a"),)),)), "1.5.0"),
    ],
)  # fmt: skip
def test_the_parser_that_is_needed(model: Model, metadata: Metadata, version: str) -> None:
    assert attach_metadata(model, metadata, FILES).min_parser_version == version


@pytest.mark.parametrize(
    ("plain", "reason"),
    [
        ({"nam": "x"}, "ModelMetadata has no field 'nam'; its fields are name, description"),
        ({"name": 3}, "ModelMetadata.name is 3; text belongs there"),
        ({"subgraph_metadata": {}}, "a list belongs there"),
        ({"subgraph_metadata": [3]}, r"subgraph_metadata\[0\] is 3; a table of fields belongs there"),
        ({"associated_files": [{"type": "LABELS"}]}, "type is 'LABELS'; it is one of UNKNOWN, DESCRIPTIONS"),
        ({"subgraph_metadata": [{"input_process_units": [{"options": {}}]}]}, "options_type is missing; it is one of"),
        ({"subgraph_metadata": [{"input_process_units": [
            {"options_type": "NormalizationOptions", "options": {"mean": ["a"]}}]}]}, r"mean\[0\] is 'a'; a float32"),
        ({"subgraph_metadata": [{"input_tensor_metadata": [
            {"content": {"range": {"min": 1 << 40}}}]}]}, "min is 1099511627776; a int32 belongs there"),
        ({"associated_files": [{"name": "gone.txt"}]}, "name the file 'gone.txt', which is not among those to pack"),
        ({"subgraph_metadata": [{}, {}]}, "describe 2 subgraphs, and the model has 1"),
        ({"subgraph_metadata": [{"input_tensor_metadata": [{}, {}]}]}, "describe 2 inputs, and 'main' has 1: x"),
    ],
)  # fmt: skip
def test_what_is_refused_leaves_the_model_as_it_was(model: Model, plain: dict[str, Any], reason: str) -> None:
    before = tflite_bytes(model)
    with pytest.raises(UsageError, match=reason):
        attach_metadata(model, plain)
    assert tflite_bytes(model) == before


@pytest.mark.parametrize("name", ["", "../up", "/root", "a//b", "new\nline"])
def test_a_name_that_no_file_may_have(model: Model, name: str) -> None:
    with pytest.raises(UsageError, match="is no name for a file"):
        attach_metadata(model, Metadata(), {name: b""})


def test_asking_for_a_file_that_is_not_there(model: Model) -> None:
    with pytest.raises(UsageError, match=r"no file 'x' is packed into the model; there are: none"):
        associated_file(model, "x")


def test_plain_data_and_classes_say_the_same() -> None:
    assert metadata_of(plain_of(EVERYTHING)) == EVERYTHING
    boxes = Content(BoundingBoxProperties((1, 0, 3, 2), "CENTER", "PIXEL"))
    assert plain_of(boxes)["content_properties"] == {
        "index": [1, 0, 3, 2],
        "type": "CENTER",
        "coordinate_type": "PIXEL",
    }


def test_conversion_metadata(model: Model) -> None:
    assert read_conversion_metadata(model) is None
    told = ConversionMetadata(
        Environment("2.21.0", 2, "TF_SAVED_MODEL", 1 << 63),
        ConversionOptions(("PTQ_FLOAT16",), enable_select_tf_ops=True),
    )
    attach_conversion_metadata(model, told)
    assert read_conversion_metadata(read_tflite(tflite_bytes(model))) == told


@pytest.mark.corpus("tflite/ai-edge-quantizer/single_fc.tflite")
def test_conversion_metadata_that_others_wrote(corpus_file: pathlib.Path) -> None:
    found = read_conversion_metadata(read_tflite(corpus_file))
    assert found is not None
    assert found.environment is not None
    assert found.environment.tensorflow_version


def test_the_runtime_is_counted_when_the_model_is_written(model: Model) -> None:
    state_runtime(model)
    record = read_tflite(tflite_bytes(model)).metadata["tflite"]
    assert [(item.name, bytes(item.data)) for item in record.metadata] == [
        (b"min_runtime_version", b"1.5.0".ljust(16, b"\0"))
    ]
    model.graph.outputs[0].node.attrs["_version"] = 4
    record = read_tflite(tflite_bytes(model)).metadata["tflite"]
    assert bytes(record.metadata[0].data).rstrip(b"\0") == b"2.6.0"


@pytest.mark.corpus("tflite/**/*.tflite")
def test_the_runtime_is_no_later_than_others_say(corpus_file: pathlib.Path) -> None:
    model = read_tflite(corpus_file)
    held = {item.name: bytes(item.data) for item in model.metadata["tflite"].metadata}
    theirs = held.get(b"min_runtime_version", b"").rstrip(b"\0").decode()
    if theirs in ("", "1.5.0"):
        return  # it says nothing, or what it was before it was quantized
    state_runtime(model)
    written = read_tflite(tflite_bytes(model)).metadata["tflite"].metadata
    ours = next(bytes(item.data) for item in written if item.name == b"min_runtime_version").rstrip(b"\0").decode()
    assert [*map(int, ours.split("."))] <= [*map(int, theirs.split("."))]


def test_damaged_archives_are_refused_when_they_are_asked_for_or_not_seen_at_all(model: Model) -> None:
    attach_metadata(model, EVERYTHING, FILES)
    data = tflite_bytes(model)
    start = data.index(b"PK\3\4")
    rng = random.Random(0)
    refused = 0
    for _ in range(400):
        broken = bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            broken[rng.randrange(start, len(broken))] = rng.randrange(256)
        cut = len(broken) if rng.random() < 0.7 else rng.randrange(start, len(broken))
        read = read_tflite(bytes(broken[:cut]))
        try:
            for name in associated_files(read):
                associated_file(read, name)
        except (MalformedError, UsageError):
            refused += 1
        again = tflite_bytes(read)
        assert tflite_bytes(read_tflite(again)) == again
    assert refused


def test_metadata_that_are_no_table_are_refused_when_they_are_asked_for(model: Model) -> None:
    attach_metadata(model, Metadata("x"))
    record = model.metadata["tflite"]
    for data in (b"", b"\xff" * 40):
        broken = record.metadata[0]._replace(data=data)
        model.metadata["tflite"] = record._replace(metadata=(broken,))
        with pytest.raises(MalformedError):
            read_metadata(model)


def test_a_file_without_an_archive_has_none() -> None:
    assert find_archive(memoryview(b"")) is None
    assert find_archive(memoryview(b"PK\5\6" + bytes(18))) is None
    assert find_archive(memoryview(b"TFL3" * 100)) is None
