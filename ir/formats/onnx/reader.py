"""Reads ONNX files. Tensors stay where they lie: in the file, or in the files of raw data beside it."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from graphopt.ir.dimensions import Dim, symbol
from graphopt.ir.errors import MalformedError, UnsupportedError, printable
from graphopt.ir.formats import wire
from graphopt.ir.formats.graphdef import map_file
from graphopt.ir.formats.onnx.attributes import AttributeReader, Body
from graphopt.ir.formats.onnx.elements import BY_NUMBER, DOMAINS, INITIALIZER, INPUT, IR_VERSION, operator
from graphopt.ir.formats.onnx.tensors import TensorReader
from graphopt.ir.formats.onnx.writer import CAPTURES
from graphopt.ir.graph import Graph
from graphopt.ir.model import Function, Model
from graphopt.ir.tensors import Mapping
from graphopt.ir.types import UNKNOWN_DTYPE, UNKNOWN_SHAPE, UNKNOWN_TYPE, Shape, TensorType
from graphopt.ir.value import Node, Value

DEPTH = 32  # bodies within bodies
GRAPH, LOCAL_FUNCTION = 7, 25


def read_onnx(path: str | os.PathLike[str] | Mapping) -> Model:
    """The model in an ONNX file, with files of raw data beside it where it names them.

    Raises `MalformedError` for what is no ONNX model, `UnsupportedError` for one with functions of its own.
    """
    mapping = path if isinstance(path, Mapping) else map_file(path)
    try:
        return _Reader(mapping).model()
    except MalformedError as error:
        raise error.located(mapping.path) from None


class Scope(NamedTuple):
    """Names that a graph knows; those of a body that it takes from around it are made inputs when first asked for."""

    values: dict[str, Value]
    captures: dict[str, Value]
    around: Scope | None

    def knows(self, name: str) -> bool:
        """Here or around."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.values:
                return True
            scope = scope.around
        return False


class _Reader:
    def __init__(self, mapping: Mapping):
        self.mapping, self.buffer = mapping, mapping.buffer
        self.result = Model(Graph("main"))
        self.tensors = TensorReader(mapping)
        self.attributes = AttributeReader(self.buffer, self.tensors)
        self.depth = 0

    def model(self) -> Model:
        """The whole file."""
        model, span = self.result, None
        opsets: dict[str, int] = {}
        for tag, value, stop in wire.fields(self.buffer, 0, len(self.buffer)):
            number = tag >> 3
            if tag == 1 << 3:
                model.metadata[IR_VERSION] = value
            elif tag == (8 << 3 | wire.BYTES):
                domain, version = self._opset(value, stop)
                opsets[domain] = version
            elif tag == (GRAPH << 3 | wire.BYTES):
                span = value, stop
            elif number == LOCAL_FUNCTION:
                raise UnsupportedError("the model has functions of its own, which are not read: inline them first")
        if span is None or not opsets:
            raise MalformedError("this is no ONNX model: it has no graph, or names no operator set")
        model.metadata[DOMAINS] = opsets
        model.format, model.source = "onnx", self.mapping.path
        self._graph(model.graph, *span, Scope({}, {}, None))
        graph = model.graph
        model.set_signature({v.name: v for v in graph.inputs}, {v.name: v for v in graph.outputs})
        return model

    def _opset(self, start: int, end: int) -> tuple[str, int]:
        domain, version = "", 0
        for tag, value, stop in wire.fields(self.buffer, start, end):
            if tag == (1 << 3 | wire.BYTES):
                domain = wire.text(self.buffer, value, stop, "OperatorSetIdProto.domain")
            elif tag == 2 << 3:
                version = value
        return ("" if domain == "ai.onnx" else domain), version

    # Graphs ---------------------------------------------------------------------------------------------------

    def _graph(self, graph: Graph, start: int, end: int, scope: Scope) -> None:
        if self.depth >= DEPTH:
            raise MalformedError(f"graphs are nested more than {DEPTH} deep")
        self.depth += 1
        parts: dict[int, list[tuple[int, int]]] = {}
        for tag, value, stop in wire.fields(self.buffer, start, end):
            if tag & 7 == wire.BYTES:
                parts.setdefault(tag >> 3, []).append((value, stop))
        types = dict(self._value_info(*span) for number in (13, 12, 11) for span in parts.get(number, ()))
        held = {}
        for span in parts.get(5, ()):
            name, tensor = self.tensors.read(*span)
            held[name] = tensor
        inputs = []
        for span in parts.get(11, ()):
            name, type = self._value_info(*span)
            if name not in held:  # up to IR version 3, initializers were listed as inputs, too
                inputs.append(self._source(graph, scope, INPUT, name, type, {}))
        for name, tensor in held.items():
            type = TensorType(tensor.dtype, Shape(tensor.shape))
            self._source(graph, scope, INITIALIZER, name, type, {"value": tensor})
        for span in parts.get(1, ()):
            self._node(graph, *span, scope, types)
        graph.inputs = [*inputs, *scope.captures.values()]
        graph.outputs = [self._look_up(graph, scope, self._value_info(*span)[0]) for span in parts.get(12, ())]
        self.depth -= 1

    def _source(self, graph: Graph, scope: Scope, op: str, name: str, type: TensorType, attrs: dict[str, Any]) -> Value:
        if name in scope.values:
            raise MalformedError(f"there are two values called '{printable(name)}'", field="GraphProto.input")
        node = graph.create_node(op, (), attrs, name=name or "unnamed", types=(type,))
        node.output.name = name if node.name != name else None
        scope.values[name] = node.output
        return node.output

    def _look_up(self, graph: Graph, scope: Scope, name: str) -> Value:
        """The value called so; one from around a body becomes an input of it."""
        found = scope.values.get(name)
        if found is None:
            around = scope.around
            if around is None or not around.knows(name):
                raise MalformedError(f"'{printable(name)}' is read before it is computed", field="NodeProto.input")
            found = scope.captures[name] = self._source(graph, scope, INPUT, name, UNKNOWN_TYPE, {})
        return found

    # Nodes ----------------------------------------------------------------------------------------------------

    def _node(self, graph: Graph, start: int, end: int, scope: Scope, types: dict[str, TensorType]) -> None:
        inputs: list[str] = []
        outputs: list[str] = []
        texts = {3: "", 4: "", 7: ""}
        spans = []
        for tag, value, stop in wire.fields(self.buffer, start, end):
            number = tag >> 3
            if tag & 7 != wire.BYTES:
                continue
            if number in (1, 2):
                (inputs if number == 1 else outputs).append(wire.text(self.buffer, value, stop, "NodeProto"))
            elif number in texts:
                texts[number] = wire.text(self.buffer, value, stop, "NodeProto")
            elif number == 5:
                spans.append((value, stop))
        name = texts[3] or (outputs[0] if outputs else texts[4])
        read = [self._look_up(graph, scope, item) if item else None for item in inputs]
        attrs: dict[str, Any] = {}
        captured: dict[str, Value] = {}
        bodies: list[Body] = []
        for span in spans:
            key, attribute = self.attributes.read(*span)
            if isinstance(attribute, Body):
                bodies.append(attribute._replace(key=key))
                continue
            attrs[key] = attribute
        functions = [self._body(body, scope, f"{name}/{body.key}") for body in bodies]
        for _, inner in functions:
            for item in inner.captures:
                captured[item] = self._look_up(graph, scope, item)
        for body, (function, inner) in zip(bodies, functions, strict=True):
            self._agree(function, inner, captured)
            attrs[body.key] = body.reference(function.name)
        if captured:
            attrs[CAPTURES] = len(captured)
        found = [types.get(item, UNKNOWN_TYPE) for item in outputs]
        node = graph.create_node(
            operator(texts[7], texts[4]), (*read, *captured.values()), attrs, name=name or "unnamed", types=found
        )
        self._name_outputs(node, outputs, scope)

    def _name_outputs(self, node: Node, outputs: list[str], scope: Scope) -> None:
        for value, name in zip(node.outputs, outputs, strict=True):
            if name and name in scope.values:
                raise MalformedError(f"there are two values called '{printable(name)}'", field="NodeProto.output")
            if name and value.name != name:
                value.name = name
            if name:
                scope.values[name] = value

    def _body(self, body: Body, scope: Scope, name: str) -> tuple[Function, Scope]:
        function = Function(self.result.unique_function_name(name))
        self.result.add_function(function)
        inner = Scope({}, {}, scope)
        self._graph(function, body.start, body.end, inner)
        return function, inner

    def _agree(self, function: Function, inner: Scope, captured: dict[str, Value]) -> None:
        """Let all bodies of one node take the same values from around it, in the same order."""
        formal = [value for value in function.inputs if value not in inner.captures.values()]
        taken = [
            inner.captures.get(name) or self._source(function, inner, INPUT, name, UNKNOWN_TYPE, {})
            for name in captured
        ]
        function.inputs = [*formal, *taken]
        function.input_names = [value.name for value in function.inputs]
        function.output_names = [value.name for value in function.outputs]
        for value, outer in zip(taken, captured.values(), strict=True):
            value.type = outer.type

    # Types ----------------------------------------------------------------------------------------------------

    def _value_info(self, start: int, end: int) -> tuple[str, TensorType]:
        name, type = "", UNKNOWN_TYPE
        for tag, value, stop in wire.fields(self.buffer, start, end):
            if tag == (1 << 3 | wire.BYTES):
                name = wire.text(self.buffer, value, stop, "ValueInfoProto.name")
            elif tag == (2 << 3 | wire.BYTES):
                for inner, place, limit in wire.fields(self.buffer, value, stop):
                    if inner == (1 << 3 | wire.BYTES):
                        type = self._tensor_type(place, limit)
        return name, type

    def _tensor_type(self, start: int, end: int) -> TensorType:
        dtype, shape = UNKNOWN_DTYPE, UNKNOWN_SHAPE
        for tag, value, stop in wire.fields(self.buffer, start, end):
            if tag == 1 << 3:
                dtype = BY_NUMBER.get(value, UNKNOWN_DTYPE)
            elif tag == (2 << 3 | wire.BYTES):
                spans = [(p, s) for t, p, s in wire.fields(self.buffer, value, stop) if t == (1 << 3 | wire.BYTES)]
                shape = Shape(self._dimension(*span) for span in spans)
        return TensorType(dtype, shape)

    def _dimension(self, start: int, end: int) -> Dim:
        for tag, value, stop in wire.fields(self.buffer, start, end):
            if tag == 1 << 3:
                size = wire.signed(value)
                return size if size >= 0 else None
            if tag == (2 << 3 | wire.BYTES):
                name = wire.text(self.buffer, value, stop, "Dimension.dim_param")
                return symbol(name) if name.isidentifier() else None
        return None
