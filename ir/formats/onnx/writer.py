"""A model of the `onnx` dialect as an ONNX file; weights beyond a size go beside it, in one file of raw data."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphopt.ir.attributes import FunctionRef
from graphopt.ir.errors import UnsupportedError, printable
from graphopt.ir.formats import wire
from graphopt.ir.formats.atomic import write_atomically
from graphopt.ir.formats.attr_encoding import Piece, message
from graphopt.ir.formats.onnx.elements import (
    DEFAULT_IR_VERSION,
    DEFAULT_OPSET,
    DOMAINS,
    INITIALIZER,
    INPUT,
    IR_VERSION,
    NUMBERS,
    domain_of,
)
from graphopt.ir.graph import Graph
from graphopt.ir.model import Function, Model
from graphopt.ir.tensors import FileTensor, PackedTensor, Tensor
from graphopt.ir.types import STRING, DType, Shape, TensorType
from graphopt.ir.value import Node, Value

INLINE_LIMIT = 1_900_000_000  # bytes of weights beyond which they go into a file of their own
ALIGNMENT = 4096  # of tensors in that file, so that they can be mapped one by one
CAPTURES = "_captures"  # attribute: how many of the last inputs its bodies capture
_NAMES = Mapping[Value, str]


def write_onnx(
    model: Model, path: str | os.PathLike[str], *, external: bool | None = None, overwrite: bool = True
) -> None:
    """Write `model` to `path`. With `external`, or where the weights demand it, they go into `path` + `.data`.

    Both files are complete or not there. Raises `UnsupportedError`, naming the node, for what ONNX cannot express, and
    `UsageError` if a file exists and `overwrite` is off.
    """
    name = os.fspath(path)
    weights = _Weights(os.path.basename(name) + ".data")
    if external if external is not None else _weight_bytes(model) > INLINE_LIMIT:
        weights.is_external = True
    pieces = _Writer(model, weights).pieces()
    if weights.pieces:
        write_atomically(f"{name}.data", weights.pieces, overwrite=overwrite)
    write_atomically(name, pieces, overwrite=overwrite)


def onnx_pieces(model: Model) -> list[Piece]:
    """`model` as one file, in pieces; large tensors are views of where they lie."""
    return _Writer(model, _Weights("")).pieces()


def _weight_bytes(model: Model) -> int:
    held = {id(node.attrs["value"]): node.attrs["value"] for graph in model.graphs for node in graph if _is_held(node)}
    return sum(item.nbytes for item in held.values())


def _is_held(node: Node) -> bool:
    return node.op == INITIALIZER and isinstance(node.attrs.get("value"), Tensor)


class _Weights:
    """The file beside the model. A tensor that several initializers hold is there once."""

    def __init__(self, name: str):
        self.name, self.is_external = name, False
        self.pieces: list[Piece] = []
        self._size = 0
        self._places: dict[int, int] = {}

    def place(self, held: Tensor, data: Piece) -> tuple[int, int]:
        """Offset and length of the tensor's data."""
        known = self._places.get(id(held))
        if known is None:
            padding = -self._size % ALIGNMENT
            self.pieces += [bytes(padding), data]
            known = self._places[id(held)] = self._size + padding
            self._size = known + len(data)
        return known, len(data)


class _Writer:
    def __init__(self, model: Model, weights: _Weights):
        self.model, self.weights = model, weights
        self.domains: dict[str, int] = dict(model.metadata.get(DOMAINS) or {"": DEFAULT_OPSET})

    def pieces(self) -> list[Piece]:
        """The whole ModelProto."""
        graph = message(7, self._graph(self.model.graph, {}))
        head: list[Piece] = [
            wire.tagged_number(1, int(self.model.metadata.get(IR_VERSION, DEFAULT_IR_VERSION))),
            wire.tagged_text(2, "graphopt"),
        ]
        opsets = [
            wire.tagged(8, wire.tagged_text(1, domain) + wire.tagged_number(2, version))
            for domain, version in self.domains.items()
        ]
        return [b"".join(map(bytes, head)), *graph, b"".join(opsets)]

    # Graphs ---------------------------------------------------------------------------------------------------

    def _graph(self, graph: Graph, captured: _NAMES) -> list[Piece]:
        """A GraphProto; `captured` are names, of the graph around, of inputs that are no formal ones."""
        names = dict(captured)
        for node in graph:
            for value in node.outputs:
                names.setdefault(value, value.name)
        if isinstance(graph, Function):
            names = _prefixed(names, captured, graph)
        pieces: list[Piece] = []
        for node in graph.topological_order():
            if node.op not in (INPUT, INITIALIZER):
                pieces += self._node(node, names)
        pieces.append(wire.tagged_text(2, graph.name))
        for node in graph:
            if node.op == INITIALIZER:
                pieces += message(5, self._tensor(node.attrs["value"], names[node.output], node))
        formal = [value for value in graph.inputs if value not in captured]
        pieces += [wire.tagged(11, _value_info(names[value], value.type)) for value in formal]
        pieces += [wire.tagged(12, _value_info(names[value], value.type)) for value in graph.outputs]
        return pieces

    def _node(self, node: Node, names: _NAMES) -> list[Piece]:
        domain, op_type = domain_of(node.op)
        if not op_type or node.dialect == "tf" or node.dialect == "tfl":
            raise _refusal(node, "is no operator of ONNX: lower the model first")
        self.domains.setdefault(domain, 1)
        captures = int(node.attrs.get(CAPTURES, 0))
        read = node.inputs[: node.input_count - captures]
        outside = [names[value] for value in node.inputs[node.input_count - captures :] if value is not None]
        parts = [wire.tagged(1, b"" if value is None else names[value].encode()) for value in read]
        while parts and parts[-1] == wire.tagged(1, b""):
            parts.pop()
        parts += [wire.tagged(2, names[value].encode()) for value in node.outputs]
        parts += [wire.tagged_text(3, node.name), wire.tagged_text(4, op_type)]
        pieces: list[Piece] = [b"".join(parts)]
        for key, value in node.attrs.items():
            if not key.startswith("_"):
                pieces += message(5, self._attribute(node, key, value, outside))
        pieces.append(wire.tagged_text(7, domain))
        return message(1, pieces)

    # Attributes -----------------------------------------------------------------------------------------------

    def _attribute(self, node: Node, key: str, value: Any, outside: Sequence[str]) -> list[Piece]:
        name = wire.tagged(1, key.encode())
        if isinstance(value, FunctionRef):
            body = self.model.functions.get(value.name)
            if body is None:
                raise _refusal(node, f"refers to '{printable(value.name)}', which is not there")
            inside = body.inputs[len(body.inputs) - len(outside) :] if outside else ()
            return [name, *message(6, self._graph(body, dict(zip(inside, outside, strict=True)))), _kind(5)]
        if isinstance(value, Tensor):
            return [name, *message(5, self._tensor(value, "", node)), _kind(4)]
        if isinstance(value, (bool, int, np.integer)):
            return [name, wire.varint(3 << 3) + wire.varint(int(value)), _kind(2)]
        if isinstance(value, float):
            return [name, wire.varint(2 << 3 | wire.FIXED32) + struct.pack("<f", value), _kind(1)]
        if isinstance(value, bytes):
            return [name, wire.tagged(4, value), _kind(3)]
        if isinstance(value, DType):
            return [name, wire.varint(3 << 3) + wire.varint(NUMBERS[value]), _kind(2)]
        if isinstance(value, tuple):
            return [name, *_listed(node, key, value)]
        raise _refusal(node, f"has an attribute '{printable(key)}' of a kind that ONNX does not have")

    def _tensor(self, held: Any, name: str, node: Node) -> list[Piece]:
        """A TensorProto."""
        if not isinstance(held, Tensor) or held.dtype not in NUMBERS:
            kind = held.dtype.name if isinstance(held, Tensor) else "no tensor"
            raise _refusal(node, f"holds {kind}, which ONNX has no tensors of")
        dims = wire.tagged(1, b"".join(map(wire.varint, held.shape))) if held.shape else b""
        head = dims + wire.tagged_number(2, NUMBERS[held.dtype]) + wire.tagged_text(8, name)
        if held.dtype is STRING:
            return [head + b"".join(wire.tagged(6, item) for item in held.numpy().reshape(-1))]
        data = raw_data(held)
        if self.weights.is_external and len(data) >= ALIGNMENT:
            offset, length = self.weights.place(held, data)
            where = {"location": self.weights.name, "offset": str(offset), "length": str(length)}
            entries = (wire.tagged(13, wire.tagged_text(1, k) + wire.tagged_text(2, v)) for k, v in where.items())
            return [head + b"".join(entries) + wire.tagged_number(14, 1)]
        return [head, *message(9, [data])]


def raw_data(held: Tensor) -> Piece:
    """Little-endian elements, four-bit ones two to a byte; a view where they lie so already."""
    if isinstance(held, FileTensor):
        return held.data()
    source = held.packed if isinstance(held, PackedTensor) else held
    array = np.ascontiguousarray(source.numpy())
    return array.reshape(-1).view(np.uint8).data if array.size else b""


def _listed(node: Node, key: str, value: tuple[Any, ...]) -> list[Piece]:
    if all(isinstance(item, (int, np.integer)) for item in value):
        return [wire.tagged(8, b"".join(wire.varint(int(item)) for item in value)), _kind(7)]
    if all(isinstance(item, (float, int)) for item in value):
        return [wire.tagged(7, struct.pack(f"<{len(value)}f", *value)), _kind(6)]
    if all(isinstance(item, bytes) for item in value):
        return [*(wire.tagged(9, item) for item in value), _kind(8)]
    raise _refusal(node, f"has a list attribute '{printable(key)}' of a kind that ONNX does not have")


def _kind(number: int) -> bytes:
    return wire.tagged_number(20, number)


def _value_info(name: str, type: TensorType) -> bytes:
    tensor = wire.tagged_number(1, NUMBERS.get(type.dtype, 0)) + _shape(type.shape)
    return wire.tagged(1, name.encode()) + wire.tagged(2, wire.tagged(1, tensor))


def _shape(shape: Shape) -> bytes:
    if shape.dims is None:
        return b""
    return wire.tagged(2, b"".join(wire.tagged(1, _dimension(dim)) for dim in shape.dims))


def _dimension(dim: Any) -> bytes:
    if isinstance(dim, int):
        return wire.varint(1 << 3) + wire.varint(dim)
    return wire.tagged_text(2, str(dim)) if dim is not None else b""


def _prefixed(names: Mapping[Value, str], captured: _NAMES, graph: Graph) -> dict[Value, str]:
    """Names inside a body must differ from all names around it."""
    start = f"{graph.name}/"
    return {
        value: name if value in captured or name.startswith(start) else start + name for value, name in names.items()
    }


def _refusal(node: Node, reason: str) -> UnsupportedError:
    return UnsupportedError(f"node '{printable(node.name)}' ({printable(node.op)}) {reason}")
