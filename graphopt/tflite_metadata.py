"""TFLite Metadata from files and to files: JSON, labels, and what else is packed behind a model.

    from graphopt.tflite_metadata import add_metadata

    model = graphopt.load("classifier.tflite")
    add_metadata(model, "metadata.json", labels="labels.txt")
    graphopt.save(model, "described.tflite")

The JSON is that which TFLite Metadata's own tools show (`MetadataDisplayer.get_metadata_json`). The classes are
`graphopt.ir.formats.tflite.metadata_types`' and are importable from here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from graphopt.ir.errors import UsageError, printable
from graphopt.ir.formats.tflite.metadata import (
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

__all__ = [
    "AssociatedFile",
    "AudioProperties",
    "BertTokenizerOptions",
    "BoundingBoxProperties",
    "Content",
    "ConversionMetadata",
    "ConversionOptions",
    "CustomMetadata",
    "Environment",
    "FeatureProperties",
    "ImageProperties",
    "ImageSize",
    "Metadata",
    "NormalizationOptions",
    "RegexTokenizerOptions",
    "ScoreCalibrationOptions",
    "ScoreThresholdingOptions",
    "SentencePieceTokenizerOptions",
    "Stats",
    "SubGraphMetadata",
    "TensorGroup",
    "TensorMetadata",
    "ValueRange",
    "add_metadata",
    "associated_file",
    "associated_files",
    "attach_conversion_metadata",
    "attach_metadata",
    "load_metadata",
    "metadata_json",
    "read_conversion_metadata",
    "read_metadata",
    "remove_metadata",
    "state_runtime",
]

Path = str | os.PathLike[str]
_LIMIT = 1 << 30  # bytes of a file to pack


def add_metadata(
    model: Model,
    metadata: Metadata | Mapping[str, Any] | Path | None = None,
    *,
    labels: Path | None = None,
    files: Iterable[Path] = (),
) -> Metadata:
    """Put metadata and files into a TFLite model, in place; returns the metadata attached.

    `metadata` may be the path of a JSON file; files that it names are taken from its folder, unless they are among
    `files` or in the model already. Without `metadata` the model keeps those it has, or gets the names of its inputs
    and outputs. `labels` is a file with one label a line, for the last axis of the first output. Raises `UsageError`
    for what cannot be read, for what the schema does not have, and for a file that is named and not there.
    """
    packed = {os.path.basename(path): _content(path) for path in (os.fspath(file) for file in files)}
    folder: str | None = None
    if isinstance(metadata, (str, os.PathLike)):
        folder, described = os.path.dirname(os.path.abspath(metadata)), load_metadata(metadata)
    elif isinstance(metadata, Metadata):
        described = metadata
    else:
        described = metadata_of(metadata) if metadata is not None else read_metadata(model) or names_of(model)
    if labels is not None:
        name = os.path.basename(os.fspath(labels))
        packed[name], described = _content(os.fspath(labels)), with_labels(described, model, name)
    if folder is not None:
        held = dict.fromkeys((*packed, *associated_files(model)))
        packed |= {name: _beside(folder, name) for name in described.file_names() if name not in held}
    return attach_metadata(model, described, packed)


def load_metadata(path: Path) -> Metadata:
    """The metadata in a JSON file. Raises `UsageError`, naming the field at fault."""
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            plain = json.loads(file.read(_LIMIT))
        if not isinstance(plain, dict):
            raise UsageError("it holds no object at the top")
        return metadata_of(plain)
    except (OSError, ValueError, RecursionError, UsageError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(f"the metadata in {printable(name)} cannot be used: {reason}") from error


def metadata_json(metadata: Metadata) -> str:
    """The metadata as JSON, which `load_metadata` reads."""
    return json.dumps(plain_of(metadata), indent=2, ensure_ascii=False, default=list) + "\n"


def names_of(model: Model) -> Metadata:
    """Metadata of nothing but the names of inputs and outputs: those of the first signature, or the tensors' own."""
    signature = next((item for item in model.signatures.values() if item.graph is model.graph), None)
    named: dict[Any, str] = {}
    for values in (signature.input_values(), signature.output_values()) if signature is not None else ():
        named.update({value: name for name, value in values.items()})
    inputs = tuple(TensorMetadata(named.get(value, value.name)) for value in model.graph.inputs)
    outputs = tuple(TensorMetadata(named.get(value, value.name)) for value in model.graph.outputs)
    return Metadata(subgraph_metadata=(SubGraphMetadata(input_tensor_metadata=inputs, output_tensor_metadata=outputs),))


def with_labels(metadata: Metadata, model: Model, name: str) -> Metadata:
    """The metadata with the file `name` as labels of the first output. Raises `UsageError` where there is no output."""
    if not model.graph.outputs:
        raise UsageError("the model has no output that labels could be for")
    plain = names_of(model).subgraph_metadata[0]
    first = metadata.subgraph_metadata[0] if metadata.subgraph_metadata else plain
    outputs = first.output_tensor_metadata or plain.output_tensor_metadata
    kept = tuple(item for item in outputs[0].associated_files if item.type != "TENSOR_AXIS_LABELS" or item.locale)
    labelled = replace(outputs[0], associated_files=(AssociatedFile(name, type="TENSOR_AXIS_LABELS"), *kept))
    first = replace(first, output_tensor_metadata=(labelled, *outputs[1:]))
    return replace(metadata, subgraph_metadata=(first, *metadata.subgraph_metadata[1:]))


def _beside(folder: str, name: str) -> bytes:
    if os.path.basename(name) != name or name in ("", ".", ".."):
        raise UsageError(f"the metadata name the file '{printable(name)}'; only a file beside the JSON file is taken")
    return _content(os.path.join(folder, name))


def _content(path: str) -> bytes:
    try:
        if not os.path.isfile(path):
            raise UsageError(f"there is no file {printable(path)} to pack into the model")
        if os.path.getsize(path) > _LIMIT:
            raise UsageError(f"the file {printable(path)} is over {_LIMIT} bytes and is not packed")
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f"{printable(path)} cannot be read: {error.strerror or error}") from error
