"""Reading a model from whatever a caller has: a path, bytes, a GraphDef, a `tf.Graph`, a function, a Keras model."""

from __future__ import annotations

import os
import sys
from typing import Any, NamedTuple

from graphopt.discovery import Names, apply, discover
from graphopt.ir.errors import MalformedError, UsageError, printable
from graphopt.ir.formats import graphdef
from graphopt.ir.formats.sniff import is_text, refuse_others
from graphopt.ir.infer import infer_model
from graphopt.ir.model import Model
from graphopt.names import tensor_name
from graphopt.roles import is_source

STDIN = "-"
TFLITE_HEAD = b"\0\0TFL3"  # at byte 2: no node of a GraphDef begins so


class Read(NamedTuple):
    """A model read, and what finding its inputs and outputs has to tell."""

    model: Model
    notes: tuple[str, ...]


def read(source: Any, *, inputs: Names = None, outputs: Names = None) -> Read:
    """Read `source`; where it names no inputs and outputs, or the caller does, find them.

    Raises `MalformedError` for what is no model, `UsageError` for what cannot be a source and for unknown names.
    """
    model = _read(source)
    if model.signatures and inputs is None and outputs is None:
        return Read(model, ())
    if inputs is None and model.signatures:
        inputs = _named(model, "inputs")
    if outputs is None and model.signatures:
        outputs = _named(model, "outputs")
    found = discover(model, inputs, outputs)
    if any(not is_source(value.node) and value.shape.dims is None for value in found.inputs.values()):
        infer_model(model)  # while the graph is whole: a cut loses what an input's type follows from
    apply(model, found)
    return Read(model, tuple(found.notes))


def _named(model: Model, which: str) -> dict[str, str]:
    """What the first signature says already, for the side that the caller leaves open."""
    signature = next(iter(model.signatures.values()))
    values = signature.input_values() if which == "inputs" else signature.output_values()
    return {key: tensor_name(value) for key, value in values.items()}


def _read(source: Any) -> Model:
    if isinstance(source, Model):
        return source.clone()
    if isinstance(source, (str, os.PathLike)):
        return read_path(os.fspath(source))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return read_bytes(bytes(source), "bytes")
    if hasattr(source, "as_graph_def"):
        source = source.as_graph_def()
    if hasattr(source, "SerializeToString"):
        return _read_message(source)
    from graphopt.sources_tensorflow import is_tensorflow, read_tensorflow

    if is_tensorflow(source):
        return read_tensorflow(source)
    kind = printable(f"{type(source).__module__}.{type(source).__qualname__}")
    raise UsageError(
        f"a model cannot be read from a {kind}; give a path, bytes, a GraphDef, a ConcreteFunction or a Keras model"
    )


def read_bytes(data: bytes, name: str) -> Model:
    """A GraphDef, binary or text, or a `.tflite`. Raises `MalformedError`, with `name` for the file's."""
    if data[2:8] == TFLITE_HEAD:
        from graphopt.ir.formats import tflite

        return tflite.read_tflite(data, source=name)
    refuse_others(data[: graphdef.HEAD], data[-graphdef.HEAD :], name)
    if is_text(data[: graphdef.HEAD]):
        return graphdef.read_graphdef_text(data, source=name)
    return graphdef.read_graphdef(data, source=name)


def read_path(path: str) -> Model:
    """Read the file at `path`, or standard input for `-`. Raises `MalformedError` or `OSError`."""
    if path == STDIN:
        return read_bytes(sys.stdin.buffer.read(), "standard input")
    if os.path.isdir(path):
        raise MalformedError(_directory_advice(path), source=path)
    mapping = graphdef.map_file(path)
    if is_tflite_name(path) or mapping.view[2:8] == TFLITE_HEAD:
        from graphopt.ir.formats import tflite

        return tflite.read_tflite(mapping)
    return graphdef.load(path)


def is_tflite_name(path: str) -> bool:
    """The name says that the file is a TFLite model."""
    return path.lower().endswith((".tflite", ".lite"))


def _directory_advice(path: str) -> str:
    if os.path.isfile(os.path.join(path, "saved_model.pb")) or os.path.isfile(os.path.join(path, "saved_model.pbtxt")):
        return (
            "a SavedModel, and this version reads frozen graphs: load it with TensorFlow, pass one of its signatures "
            "to graphopt.load, and save the result"
        )
    return "a directory, where a frozen graph (.pb or .pbtxt) was expected"


def _read_message(message: Any) -> Model:
    kind = getattr(getattr(message, "DESCRIPTOR", None), "name", type(message).__name__)
    if kind != "GraphDef":
        hint = "; take its graph_def" if kind == "MetaGraphDef" else ""
        raise UsageError(f"a model cannot be read from a {printable(kind)} message, only from a GraphDef{hint}")
    return graphdef.read_graphdef(message.SerializeToString(), source="GraphDef")
