"""What a caller says of a lowered model: TFLite Metadata from a JSON file, labels from text files."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from graphopt.ir.errors import MalformedError, UsageError, printable
from graphopt.ir.formats.tflite.metadata import attach_metadata, metadata_of
from graphopt.ir.formats.tflite.metadata_types import Metadata
from graphopt.ir.model import Model
from graphopt.samples import signature_of

LABELS = "TENSOR_AXIS_LABELS"


def describe(model: Model, metadata: str | None = None, labels: Sequence[str] = ()) -> Metadata:
    """Attach the metadata in the file `metadata`, and a file of `labels`, one a line, to each output in order.

    Files that the metadata name are packed along; they lie beside it. Raises `UsageError` for what the model does not
    have or the schema does not know and for files that are not there, and `MalformedError` for what is no JSON.
    """
    described = _read_json(metadata) if metadata is not None else {}
    files = {os.path.basename(path): _content(path) for path in labels}
    _add_labels(model, described, list(files))
    folder = os.path.dirname(metadata or "")
    for name in metadata_of(described).file_names():
        if name not in files:
            if os.path.basename(name) != name:
                raise UsageError(f"the metadata name the file '{printable(name)}': a packed file has no folder")
            files[name] = _content(os.path.join(folder, name))
    return attach_metadata(model, described, files)


def _read_json(path: str) -> dict[str, Any]:
    try:
        held = json.loads(_content(path))
    except ValueError as error:
        raise MalformedError(f"is no JSON: {printable(str(error), 200)}", source=path) from error
    if not isinstance(held, dict):
        raise MalformedError("is no JSON object", source=path)
    return held


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f"'{printable(path)}' cannot be read: {error.strerror or error}") from error


def _add_labels(model: Model, described: dict[str, Any], names: Sequence[str]) -> None:
    """Name each file of labels at its output, where the metadata do not name it anywhere."""
    named = metadata_of(described).file_names()
    signature = signature_of(model)
    if len(names) > len(signature.outputs):
        raise UsageError(f"there are {len(names)} files of labels, and the model has {len(signature.outputs)} outputs")
    missing = [(place, name) for place, name in enumerate(names) if name not in named]
    if not missing:
        return
    subgraphs = list(described.get("subgraph_metadata") or [{}])
    subgraph = dict(subgraphs[0])
    for key, tensors in (("input_tensor_metadata", signature.inputs), ("output_tensor_metadata", signature.outputs)):
        subgraph[key] = [dict(item) for item in subgraph.get(key) or [{"name": name} for name in tensors]]
    outputs = subgraph["output_tensor_metadata"]
    for place, name in missing:
        if place < len(outputs):
            held = list(outputs[place].get("associated_files") or ())
            outputs[place]["associated_files"] = [*held, {"name": name, "type": LABELS}]
    described["subgraph_metadata"] = [subgraph, *subgraphs[1:]]
