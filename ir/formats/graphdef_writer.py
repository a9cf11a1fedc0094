"""A `Model` into the bytes of a GraphDef.

Nodes of one operator mostly have the same attributes, and since equal ones were shared when they were read, what
follows a node's inputs is encoded once for each combination of attribute objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from graphopt.ir.attributes import AttributePlaceholder
from graphopt.ir.errors import UnsupportedError, printable
from graphopt.ir.formats import wire
from graphopt.ir.formats.attr_encoding import Piece, encode_entries, message
from graphopt.ir.formats.function_def import METADATA, RESOURCE_ID, ArgumentExtras, FunctionExtras
from graphopt.ir.formats.graphdef_reader import GraphExtras
from graphopt.ir.formats.node_def import NodeExtras
from graphopt.ir.formats.op_layout import layout_of
from graphopt.ir.model import Function, Model
from graphopt.ir.tensors import Tensor
from graphopt.ir.types import UNKNOWN_DTYPE, DType, dereferenced
from graphopt.ir.value import Node, Value

BLOCK = 1 << 20  # bytes that are gathered before they are handed on
_TAILS = 1 << 16  # encodings that are remembered


class GraphWriter:
    """Encodes the graphs of one model."""

    def __init__(self, model: Model):
        self.model = model
        self._tails: dict[tuple[Any, ...], bytes] = {}
        self._operators: dict[str, bytes] = {}

    def pieces(self) -> Iterator[Piece]:
        """The whole GraphDef, in order: nodes, library, versions and the rest."""
        extras = self.model.metadata.get(METADATA, GraphExtras())
        for node in self.model.graph:
            yield from self.node(1, node, self.reference)
        if self.model.functions or extras.has_library or extras.library:
            yield from message(2, self._library(extras.library))
        if extras.version:
            yield wire.tagged_number(3, extras.version)
        versions = self._versions(extras.versions)
        if versions or extras.has_versions:
            yield wire.tagged(4, versions)
        if extras.raw:
            yield extras.raw

    def _versions(self, rest: bytes) -> bytes:
        producer, min_consumer, bad = self.model.versions
        packed = wire.tagged(3, b"".join(map(wire.varint, bad))) if bad else b""
        return wire.tagged_number(1, producer) + wire.tagged_number(2, min_consumer) + packed + rest

    def _library(self, rest: bytes) -> list[Piece]:
        pieces: list[Piece] = []
        gradients = []
        for function in self.model.functions.values():
            pieces += message(1, FunctionWriter(self, function).pieces())
            if function.gradient is not None:
                gradients.append(
                    wire.tagged(2, wire.tagged_text(1, function.name) + wire.tagged_text(2, function.gradient))
                )
        return [*pieces, *gradients, rest]

    def reference(self, value: Value) -> str:
        """The name by which a node of the main graph reads `value`."""
        node = value.node
        if type(node.extras) is NodeExtras and node.extras.ports:
            raise UnsupportedError(
                f"node '{printable(node.name)}' comes from a function body, and {node.op} is in no table: "
                "which output is meant cannot be said in a graph"
            )
        return f"{node._name}:{value.index}" if value.index else node._name

    def node(self, number: int, node: Node, reference: Any) -> list[Piece]:
        """One NodeDef as field `number`; `reference` names what it reads."""
        name = node._name.encode()
        parts = [b"\x0a", wire.varint(len(name)), name, self._operator(node)]
        for value in node._inputs:
            if value is None:
                raise UnsupportedError(f"node '{printable(node.name)}' leaves an input out, which a GraphDef cannot")
            text = (
                value.node._name if not value.index and number == 1 and value.node.extras is None else reference(value)
            ).encode()
            parts += (b"\x1a", wire.varint(len(text)), text)
        if node._control_inputs:
            for control in node._control_inputs:
                text = control._name.encode()
                parts += (b"\x1a", wire.varint(len(text) + 1), b"^", text)
        key = (node.op, node.device, *node.attrs, *map(id, node.attrs.values()))
        tail = self._tails.get(key) if node.extras is None else None
        if tail is not None:
            parts.append(tail)
            content = b"".join(parts)
            return [b"".join((wire.varint(number << 3 | 2), wire.varint(len(content)), content))]
        pieces = self._tail(node)
        if len(pieces) == 1 and isinstance(pieces[0], bytes) and node.extras is None and len(self._tails) < _TAILS:
            self._tails[key] = pieces[0]
        return message(number, [b"".join(parts), *pieces])

    def _operator(self, node: Node) -> bytes:
        found = self._operators.get(node.op)
        if found is None:
            dialect, _, op = node.op.partition(".")
            if dialect != "tf" or not op:
                raise UnsupportedError(
                    f"node '{printable(node.name)}': {printable(node.op)} is no operator of TensorFlow"
                )
            found = self._operators[node.op] = wire.tagged(2, op.encode())
        return found

    def _tail(self, node: Node) -> list[Piece]:
        """What follows the inputs; a single piece if it may be remembered."""
        pieces: list[Piece] = [wire.tagged_text(4, node.device)]
        try:
            pieces += encode_entries(5, node.attrs)
        except UnsupportedError as error:
            raise UnsupportedError(f"node '{printable(node.name)}': {error}") from None
        if type(node.extras) is NodeExtras:
            pieces.append(node.extras.raw)
        if any(isinstance(value, Tensor) for value in node.attrs.values()):
            return pieces
        return [b"".join(pieces)]


class FunctionWriter:
    """Encodes one function of the library."""

    def __init__(self, writer: GraphWriter, function: Function):
        self.writer, self.function = writer, function
        self.extras: FunctionExtras = function.metadata.get(METADATA, FunctionExtras())
        self.stored = dict(self.extras.outputs)
        self.arguments = {value.node: name for value, name in zip(function.inputs, function.input_names, strict=True)}
        self._ports: dict[Any, list[str]] = {}

    def pieces(self) -> list[Piece]:
        """The FunctionDef."""
        function, writer = self.function, self.writer
        pieces = message(1, self._signature())
        for node in function:
            if node not in self.arguments:
                pieces += writer.node(3, node, self.reference)
        for name, values in self._outputs().items():
            pieces.append(_text_entry(4, name, self._result(values)))
        pieces += encode_entries(5, function.attrs)
        for name, node in function.control_outputs.items():
            pieces.append(_text_entry(6, name, node.name))
        pieces += self._argument_attributes()
        pieces.append(self.extras.raw)
        return pieces

    def _outputs(self) -> dict[str, list[Value]]:
        """Values of each output; several for one that is a list."""
        grouped: dict[str, list[Value]] = {}
        for name, value in zip(self.function.output_names, self.function.outputs, strict=True):
            grouped.setdefault(name, []).append(value)
        for name, extras in self.stored.items():
            if extras.is_list and name not in grouped:
                raise UnsupportedError(f"function '{printable(self.function.name)}': output '{name}' is empty")
        return grouped

    def _signature(self) -> list[Piece]:
        function = self.function
        pieces: list[Piece] = [wire.tagged(1, function.name.encode())]
        for node, name in self.arguments.items():
            extras = node.extras if isinstance(node.extras, ArgumentExtras) else ArgumentExtras()
            pieces.append(wire.tagged(2, self._argument(name, node.attrs.get("T"), extras)))
        for name, values in self._outputs().items():
            stored = self.stored.get(name, ArgumentExtras())
            pieces.append(wire.tagged(3, self._argument(name, self._output_type(values[0], stored), stored)))
        for name in function.control_outputs:
            if name not in self.extras.unlisted:
                pieces.append(wire.tagged(20, name.encode()))
        return [*pieces, self.extras.signature]

    def _output_type(self, value: Value, stored: ArgumentExtras) -> Any:
        if stored.type_attr:
            return AttributePlaceholder(stored.type_attr)
        known = dereferenced(value.type.dtype)
        return stored.dtype if known is UNKNOWN_DTYPE or dereferenced(stored.dtype) is known else known

    def _argument(self, name: str, dtype: Any, extras: ArgumentExtras) -> bytes:
        parts = [wire.tagged(1, name.encode())]
        if isinstance(dtype, AttributePlaceholder):
            parts.append(wire.tagged(4, dtype.name.encode()))
        elif isinstance(dtype, DType) and not extras.list_attr:
            if dtype is UNKNOWN_DTYPE and extras.dtype is not dtype:
                dtype = extras.dtype
            parts.append(wire.tagged_number(3, dtype.code))
        parts += [wire.tagged_text(5, extras.number_attr), wire.tagged_text(6, extras.list_attr)]
        if extras.is_ref:
            parts.append(wire.tagged_number(16, 1))
        return b"".join((*parts, extras.raw))

    def _argument_attributes(self) -> list[Piece]:
        pieces: list[Piece] = []
        identities: list[Piece] = []
        for index, node in enumerate(self.arguments):
            attrs = {k: v for k, v in node.attrs.items() if k not in ("T", "index", RESOURCE_ID)}
            key = wire.tagged_number(1, index)
            if attrs or (isinstance(node.extras, ArgumentExtras) and node.extras.has_attrs):
                pieces += message(7, [key, *message(2, encode_entries(1, attrs))])
            identity = node.attrs.get(RESOURCE_ID)
            if identity is not None:
                identities.append(wire.tagged(8, key + wire.tagged_number(2, identity)))
        return pieces + identities

    def _result(self, values: list[Value]) -> str:
        """What `ret` says of an output: one tensor, or all tensors of a declared output."""
        if len(values) == 1:
            return self.reference(values[0])
        texts = [self.reference(value) for value in values]
        whole = texts[0].rpartition(":")[0]
        if texts != [f"{whole}:{place}" for place in range(len(texts))]:
            raise UnsupportedError(
                f"function '{printable(self.function.name)}': a list output must be all of one node's output"
            )
        return whole

    def reference(self, value: Value) -> str:
        """The name by which the body reads `value`: `node:output:place`, or an argument's name."""
        node = value.node
        name = self.arguments.get(node)
        if name is not None:
            return f"{name}:{value.index}" if isinstance(node.extras, ArgumentExtras) and node.extras.is_list else name
        ports = self._ports_of(node)
        if value.index >= len(ports):
            raise UnsupportedError(
                f"function '{printable(self.function.name)}', node '{printable(node.name)}': output {value.index} "
                f"of {node.op} has no name in any table, so a function cannot refer to it"
            )
        return f"{node._name}:{ports[value.index]}"

    def _ports_of(self, node: Node) -> list[str]:
        if type(node.extras) is NodeExtras and node.extras.ports:
            return list(node.extras.ports)
        key = (node.op, len(node.outputs))
        found = self._ports.get(key)
        if found is None or len(node.outputs) > 1:
            layout = layout_of(node.op_type, node.attrs, len(node.outputs) + 1, {})
            found = [f"{name}:{place}" for name, _, count in layout.ports for place in range(count)]
            called = self.writer.model.functions.get(node.op_type)
            if not found and called is not None:
                places: dict[str, int] = {}
                found = []
                for name in called.output_names:
                    places[name] = places.get(name, -1) + 1
                    found.append(f"{name}:{places[name]}")
            self._ports[key] = found
        return found


def _text_entry(number: int, key: str, value: str) -> bytes:
    return wire.tagged(number, wire.tagged(1, key.encode()) + wire.tagged(2, value.encode()))


def gathered(pieces: Iterator[Piece]) -> tuple[list[Piece], int]:
    """`pieces` with small ones joined, and their length. Views of mapped files and arrays stay views."""
    chunks: list[Piece] = []
    small: list[bytes] = []
    size = pending = 0
    for piece in pieces:
        length = len(piece)
        size += length
        if type(piece) is bytes and length < BLOCK:
            small.append(piece)
            pending += length
            if pending < BLOCK:
                continue
            chunks.append(b"".join(small))
            small, pending = [], 0
            continue
        if length < 4096:
            small.append(bytes(piece))
            pending += length
            continue
        chunks.append(b"".join(small))
        chunks.append(piece)
        small, pending = [], 0
    chunks.append(b"".join(small))
    return chunks, size
