"""Reading a model from whatever a caller has: a path, bytes, a GraphDef, a `tf.Graph`, a function, a Keras model."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
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
METAGRAPH = "metagraph"  # key of `Model.metadata` in models of SavedModels and .meta files
CHECKPOINT = "checkpoint"  # file that names the latest checkpoint of a folder
TENSORRT_FILES = ("model.onnx", "manifest.json")  # of a folder that lowering to TensorRT leaves
JAX_EXPORTS, MODULES = (".jax", ".jax_export"), (".stablehlo", ".mlir", ".mlirbc")
BYTECODE = b"ML\xefR"  # head of a module of MLIR
CALL_MODULE = "tf.XlaCallModule"
MANIFEST = "manifest.json"  # file of a folder that a model was lowered into, to XLA
TFLITE_HEAD = b"\0\0TFL3"  # at byte 2: no node of a GraphDef begins so

ZIP_HEAD, HDF5_HEAD = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"


class Read(NamedTuple):
    """A model read, and what finding its inputs and outputs has to tell."""

    model: Model
    notes: tuple[str, ...]


def read(
    source: Any,
    *,
    inputs: Names = None,
    outputs: Names = None,
    tags: Collection[str] | None = None,
    saves: bool = True,
) -> Read:
    """Read `source`; where it names no inputs and outputs, or the caller does, find them.

    `tags` choose a MetaGraph of a SavedModel; without `saves`, what saves its variables is left out, a large part of
    many. Raises `MalformedError` for what is no model, `UsageError` for what cannot be a source and for unknown names.
    """
    model = _read(source, tags, saves)
    notes = _expanded(model)
    if model.signatures and inputs is None and outputs is None:
        return Read(model, notes)
    if inputs is None and model.signatures:
        inputs = _named(model, "inputs")
    if outputs is None and model.signatures:
        outputs = _named(model, "outputs")
    found = discover(model, inputs, outputs)
    if any(not is_source(value.node) and value.shape.dims is None for value in found.inputs.values()):
        infer_model(model)  # while the graph is whole: a cut loses what an input's type follows from
    apply(model, found)
    if METAGRAPH in model.metadata:
        from graphopt.ir.formats.metagraph import keep_state

        keep_state(model)
    return Read(model, (*notes, *found.notes))


def _expanded(model: Model) -> tuple[str, ...]:
    """Put the operations of StableHLO modules within the model in their place; returns why some stay as they are."""
    if not any(node.op == CALL_MODULE for graph in model.graphs for node in graph):
        return ()
    from graphopt.importers.stablehlo.call_modules import expand_call_modules

    return tuple(expand_call_modules(model))


def _named(model: Model, which: str) -> dict[str, str]:
    """What the first signature says already, for the side that the caller leaves open."""
    signature = next(iter(model.signatures.values()))
    values = signature.input_values() if which == "inputs" else signature.output_values()
    return {key: tensor_name(value) for key, value in values.items()}


def _read(source: Any, tags: Collection[str] | None, saves: bool) -> Model:
    if isinstance(source, Model):
        return source.clone()
    if isinstance(source, (str, os.PathLike)):
        return read_path(os.fspath(source), tags, saves)
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
        f"a model cannot be read from a {kind}; give a path, bytes, a GraphDef, a ConcreteFunction, a tf.Module or a "
        "Keras model"
    )


def read_bytes(data: bytes, name: str) -> Model:
    """A GraphDef, binary or text, a `.tflite`, or bytecode of StableHLO.

    Raises `MalformedError`, with `name` for the file's.
    """
    if data[2:8] == TFLITE_HEAD:
        from graphopt.ir.formats import tflite

        return tflite.read_tflite(data, source=name)
    if data[:4] == BYTECODE:
        return _read_module(data, name)
    refuse_others(data[: graphdef.HEAD], data[-graphdef.HEAD :], name)
    if is_text(data[: graphdef.HEAD]):
        return graphdef.read_graphdef_text(data, source=name)
    return graphdef.read_graphdef(data, source=name)


def read_path(path: str, tags: Collection[str] | None = None, saves: bool = True) -> Model:
    """Read the file or folder at `path`, or standard input for `-`. Raises `MalformedError` or `OSError`.

    `tags` and `saves` are those of `read`.
    """
    if path == STDIN:
        return read_bytes(sys.stdin.buffer.read(), "standard input")
    if os.path.isdir(path):
        return _read_folder(path, tags, saves)
    graph = graph_of_checkpoint(path)
    if graph is not None:
        from graphopt.ir.formats.metagraph import load_metagraph

        return load_metagraph(graph)
    mapping = graphdef.map_file(path)
    if _is_keras(path, bytes(mapping.view[:8])):
        from graphopt.sources_tensorflow import read_keras_file

        return read_keras_file(path)
    if is_tflite_name(path) or mapping.view[2:8] == TFLITE_HEAD:
        from graphopt.ir.formats import tflite

        return tflite.read_tflite(mapping)
    if is_onnx_name(path):
        from graphopt.ir.formats import onnx

        return onnx.read_onnx(mapping)
    if path.lower().endswith(JAX_EXPORTS):
        from graphopt.importers.stablehlo.exports import read_export

        return read_export(bytes(mapping.view), path)
    if path.lower().endswith(MODULES) or mapping.view[:4] == BYTECODE:
        return _read_module(bytes(mapping.view), path)
    return graphdef.load(path)


def _read_module(data: bytes, name: str) -> Model:
    from graphopt.importers.stablehlo.reading import read_module

    return read_module(data, name)


def _is_keras(path: str, head: bytes) -> bool:
    """A file that Keras saved, by its name and its first bytes."""
    name = path.lower()
    return (name.endswith(".keras") and head.startswith(ZIP_HEAD)) or (
        name.endswith((".keras", ".h5", ".hdf5")) and head == HDF5_HEAD
    )


def is_tflite_name(path: str) -> bool:
    """The name says that the file is a TFLite model."""
    return path.lower().endswith((".tflite", ".lite"))


def is_onnx_name(path: str) -> bool:
    """The name says that the file is an ONNX model."""
    return path.lower().endswith(".onnx")


def is_folder_name(path: str, model: Model | None = None) -> bool:
    """A SavedModel is to be written to `path`: see `graphopt.save`."""
    if path.endswith(("/", os.sep)):
        return True
    if os.path.isdir(path):
        from graphopt.ir.formats.savedmodel import is_savedmodel

        return is_savedmodel(path)
    is_stateful = model is not None and (METAGRAPH in model.metadata or bool(model.variables))
    return is_stateful and not os.path.splitext(path)[1]


def unfrozen_variables(model: Model) -> int:
    """How many variables with values a model has of which none was frozen; zero where some were, by choice."""
    carried = model.metadata.get(METAGRAPH)
    valued = [name for name, variable in model.variables.items() if variable.value is not None]
    if carried is not None and any(name not in model.variables for name in carried.bound):
        return 0
    return len(valued)


def _read_folder(path: str, tags: Collection[str] | None, saves: bool) -> Model:
    """The SavedModel in a folder, the graph of its latest checkpoint, or the model lowered to TensorRT."""
    from graphopt.ir.formats.savedmodel import is_savedmodel, read_savedmodel

    if is_savedmodel(path):
        return read_savedmodel(path, tags=tags, saves=saves)
    if os.path.isfile(os.path.join(path, MANIFEST)):
        from graphopt.backends.xla.artifact import is_artifact, read_artifact

        if is_artifact(path):
            return read_artifact(path)
    if os.path.isfile(os.path.join(path, CHECKPOINT)):
        from graphopt.ir.formats.checkpoint import latest

        return read_path(latest(path))
    if all(os.path.isfile(os.path.join(path, name)) for name in TENSORRT_FILES):
        return read_path(os.path.join(path, TENSORRT_FILES[0]))
    raise MalformedError("a directory without a SavedModel (saved_model.pb) and without checkpoints", source=path)


def graph_of_checkpoint(path: str) -> str | None:
    """The `.meta` file of the checkpoint at `path`, if that is one; None for anything else.

    Raises `MalformedError` for a checkpoint without a graph.
    """
    if path.endswith(".meta"):
        return path
    base = os.path.basename(path)
    if os.path.isfile(path) and base != CHECKPOINT and not base.endswith(".index") and ".data-" not in base:
        return None
    from graphopt.ir.formats.checkpoint import prefix_of

    prefix = prefix_of(path)
    if prefix is None:
        return None
    if os.path.isfile(f"{prefix}.meta"):
        return f"{prefix}.meta"
    raise MalformedError(
        "a checkpoint, which holds values without a graph: give the SavedModel's folder, or a .meta file beside it",
        source=path,
    )


def _read_message(message: Any) -> Model:
    kind = getattr(getattr(message, "DESCRIPTOR", None), "name", type(message).__name__)
    if kind != "GraphDef":
        hint = "; take its graph_def" if kind == "MetaGraphDef" else ""
        raise UsageError(f"a model cannot be read from a {printable(kind)} message, only from a GraphDef{hint}")
    return graphdef.read_graphdef(message.SerializeToString(), source="GraphDef")
