"""What a `.tflite` file says beyond the IR, kept so that what nobody changed is written back as it was.

The records are shared by clones of a model and never change. A record is matched by identity, not by number, so a node
that moves to another graph or another model takes nothing wrong with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from graphopt.ir.formats.tflite.archive import Archive
from graphopt.ir.tensors import Tensor
from graphopt.ir.types import TensorType
from graphopt.ir.value import Node

KEY = "tflite"  # in `Model.metadata` and `Graph.metadata`
RUNTIME = b"min_runtime_version"  # metadata; without contents, the writer fills them in

CONSTANT = "tfl.CONSTANT"
INPUT = "tfl.INPUT"
VARIABLE = "tfl.VARIABLE"
TENSOR = "tfl.TENSOR"
PSEUDO = frozenset({CONSTANT, INPUT, VARIABLE, TENSOR})
"""Nodes that stand for tensors no operator yields: held in the file, fed, kept from run to run, none of these."""
CONSTANTS = frozenset({CONSTANT, "tf.Const"})


class BufferRecord:
    """One buffer of the file. `data` is None where it has none; `is_apart` where they lie outside the FlatBuffer."""

    __slots__ = ("data", "is_apart", "is_referenced", "offset")

    def __init__(self, data: memoryview | None, offset: int, is_apart: bool):
        self.data, self.offset, self.is_apart = data, offset, is_apart
        self.is_referenced = False


class CodeRecord:
    """One entry of the table of operator codes."""

    __slots__ = ("builtin", "custom", "is_referenced", "raw", "version")

    def __init__(self, raw: dict[str, Any]):
        self.raw = raw
        self.builtin: int = max(raw["builtin_code"], raw["deprecated_builtin_code"])
        self.custom: bytes | None = raw.get("custom_code")
        self.version: int = raw["version"]
        self.is_referenced = False


class TensorRecord:
    """A tensor as it was read: what the value was then, and every field of its table."""

    __slots__ = ("buffer", "index", "name", "raw", "type", "value")

    def __init__(self, raw: dict[str, Any], index: int, type: TensorType, name: str, buffer: BufferRecord):
        self.raw, self.index, self.type, self.name, self.buffer = raw, index, type, name, buffer
        self.value: Tensor | None = None  # of a constant


class NodeRecord(NamedTuple):
    """`Node.extras`: the tensors of its outputs, and for an operator its table and its code."""

    op: str
    tensors: tuple[TensorRecord, ...]
    raw: dict[str, Any] | None = None
    code: CodeRecord | None = None


class GraphRecord(NamedTuple):
    """`Graph.metadata["tflite"]`: the subgraph's table without its tensors and operators, and its name in the IR."""

    raw: dict[str, Any]
    name: str


class MetadataRecord(NamedTuple):
    """One named piece of metadata."""

    name: bytes | None
    data: bytes | memoryview
    buffer: BufferRecord | None = None


class ModelRecord(NamedTuple):
    """`Model.metadata["tflite"]`: the model's table without what the IR holds; add metadata with `_replace`.

    `signatures` are the tables of the signatures by key, `unknown` what newer files have and the schema does not,
    `archive` are the files packed behind the model.
    """

    raw: dict[str, Any]
    buffers: tuple[BufferRecord, ...] = ()
    codes: tuple[CodeRecord, ...] = ()
    metadata: tuple[MetadataRecord, ...] = ()
    metadata_buffers: tuple[BufferRecord, ...] = ()
    signatures: Mapping[str, dict[str, Any]] = MappingProxyType({})
    unknown: tuple[str, ...] = ()
    is_apart: bool = False
    control_edges: tuple[tuple[tuple[int, int], ...], ...] | None = None
    archive: Archive | None = None


NEW_MODEL = ModelRecord({"version": 3})


def tensor_record(node: Node, index: int) -> TensorRecord | None:
    """The record of an output, if the node was read from a file."""
    extras = node.extras
    if not isinstance(extras, NodeRecord) or index >= len(extras.tensors):
        return None
    return extras.tensors[index]
