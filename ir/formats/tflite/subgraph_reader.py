"""One subgraph of a `.tflite` file as a graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphopt.ir.errors import MalformedError, printable
from graphopt.ir.formats.tflite.contents import is_addressable, stored_tensor
from graphopt.ir.formats.tflite.element_types import dtype_numbered
from graphopt.ir.formats.tflite.options import option_fields, to_attributes
from graphopt.ir.formats.tflite.records import (
    CONSTANT,
    INPUT,
    KEY,
    TENSOR,
    VARIABLE,
    BufferRecord,
    CodeRecord,
    GraphRecord,
    NodeRecord,
    TensorRecord,
)
from graphopt.ir.formats.tflite.schema import names
from graphopt.ir.graph import Graph
from graphopt.ir.model import Function
from graphopt.ir.tensors import ArrayTensor, FileTensor, Mapping
from graphopt.ir.types import SCALAR, UINT8, UNKNOWN_SHAPE, DType, Quantization, Shape, TensorType
from graphopt.ir.value import Node, Value

CUSTOM = 32
Decoded = dict[str, Any]


class SubgraphReader:
    """Makes the nodes of one subgraph. `function` gives the reference that a subgraph's number means."""

    def __init__(
        self,
        mapping: Mapping,
        graph: Graph,
        raw: Decoded,
        buffers: Sequence[BufferRecord],
        codes: Sequence[CodeRecord],
        function: Callable[[int], Any],
        has_ranks: bool,
    ):
        self.mapping, self.graph, self.buffers, self.codes, self.function = mapping, graph, buffers, codes, function
        self.has_ranks = has_ranks
        self.tensors: list[Decoded] = raw.get("tensors", [])
        self.operators: list[Decoded] = raw.get("operators", [])
        self.raw = {key: () if key in ("tensors", "operators") else item for key, item in raw.items()}
        self.values: list[Value | None] = [None] * len(self.tensors)
        self.nodes: list[Node] = []  # of the operators, in order

    def read(self) -> None:
        """Fill the graph. Raises `MalformedError`."""
        records = [self._record(index, raw) for index, raw in enumerate(self.tensors)]
        inputs = self._indices(self.raw.get("inputs", ()), "SubGraph.inputs")
        outputs = self._indices(self.raw.get("outputs", ()), "SubGraph.outputs")
        produced = self._produced()
        self._add_sources(records, produced, dict.fromkeys(inputs))
        for place, raw in enumerate(self.operators):
            self._add_operator(place, raw, records)
        self.graph.inputs = [self._value(index, "SubGraph.inputs") for index in inputs]
        self.graph.outputs = [self._value(index, "SubGraph.outputs") for index in outputs]
        self.graph.metadata[KEY] = GraphRecord(self.raw, self.graph.name)
        if isinstance(self.graph, Function):
            self.graph.input_names = unique_names(value.name for value in self.graph.inputs)
            self.graph.output_names = unique_names(value.name for value in self.graph.outputs)

    def _fail(self, reason: str, field: str, node: str = "") -> MalformedError:
        return MalformedError(f"{reason}, in subgraph '{printable(self.graph.name)}'", field=field, node=node)

    def _indices(self, indices: Any, field: str) -> list[int]:
        listed = getattr(indices, "tolist", indices.__iter__)
        found = list(listed())
        count = len(self.tensors)
        for index in found:
            if not 0 <= index < count:
                raise self._fail(f"there is no tensor {index} among {count}", field)
        return found

    def _value(self, index: int, field: str) -> Value:
        value = self.values[index]
        if value is None:
            raise self._fail(f"tensor {index} is read before it is computed", field)
        return value

    def _produced(self) -> dict[int, None]:
        """Tensors that operators yield. Raises `MalformedError` where two yield one."""
        produced: dict[int, None] = {}
        for raw in self.operators:
            for key in ("outputs", "intermediates"):
                for index in self._indices(raw.get(key, ()), f"Operator.{key}"):
                    if index in produced:
                        raise self._fail(f"two operators yield tensor {index}", f"Operator.{key}")
                    produced[index] = None
        return produced

    # Tensors --------------------------------------------------------------------------------------------------

    def _record(self, index: int, raw: Decoded) -> TensorRecord:
        number = raw["buffer"]
        if number >= len(self.buffers):
            raise self._fail(f"there is no buffer {number} among {len(self.buffers)}", "Tensor.buffer")
        buffer = self.buffers[number]
        buffer.is_referenced = True
        dtype = dtype_numbered(raw["type"])
        type = TensorType(dtype, self._shape(raw, buffer), _quantization(raw.get("quantization")))
        name = raw.get("name", b"").decode(errors="backslashreplace")
        return TensorRecord(raw, index, type, name, buffer)

    def _shape(self, raw: Decoded, buffer: BufferRecord) -> Shape:
        dims, signature = raw.get("shape", ()), raw.get("shape_signature", ())
        if len(signature) == len(dims) and len(signature):
            dims = signature
        if not len(dims):
            is_scalar = raw["has_rank"] or buffer.data or not self.has_ranks
            return SCALAR if is_scalar else UNKNOWN_SHAPE
        listed = dims.tolist() if isinstance(dims, np.ndarray) else dims
        return Shape(None if dim < 0 else dim for dim in listed)

    def _add_sources(self, records: list[TensorRecord], produced: dict[int, None], inputs: dict[int, None]) -> None:
        """Nodes for the tensors that no operator yields; before each those that its quantization refers to."""
        waiting: dict[int, None] = {}
        stack = [index for index in reversed(range(len(records))) if index not in produced]
        while stack:
            index = stack[-1]
            if self.values[index] is not None:
                stack.pop()
                continue
            needed = self._details(records[index])
            missing = [other for other in needed if other not in produced and self.values[other] is None]
            if missing and index in waiting:
                raise self._fail(f"the quantization of tensor {index} refers to itself", "Tensor.quantization")
            if missing:
                waiting[index] = None
                stack += missing
                continue
            stack.pop()
            self._add_source(records[index], index in inputs, [self.values[other] for other in needed])

    def _details(self, record: TensorRecord) -> list[int]:
        """Tensors that hold the scales and zero points of a blockwise quantization."""
        details = detail_indices(record.raw)
        return self._indices(details, "QuantizationParameters.details")

    def _add_source(self, record: TensorRecord, is_input: bool, scales: list[Value | None]) -> None:
        attrs: dict[str, Any] = {}
        op = INPUT if is_input else VARIABLE if record.raw["is_variable"] else TENSOR
        if record.raw["external_buffer"]:
            op, attrs = CONSTANT, {"external_buffer": record.raw["external_buffer"]}
        elif record.buffer.data:
            op, attrs = CONSTANT, self._contents(record)
        elif op == TENSOR and record.type.shape.size == 0:
            attrs = self._empty(record)
            op = CONSTANT if attrs else TENSOR
        node = self._node(op, record.name or op.lower().removeprefix("tfl."), attrs)
        self._add_outputs(node, [record])
        node.extras = NodeRecord(op, (record,))
        node.set_inputs(value for value in scales if value is not None)

    def _contents(self, record: TensorRecord) -> dict[str, Any]:
        """The value of a constant, or its bytes where they are not laid out as its type says."""
        data, offset = record.buffer.data, record.buffer.offset
        assert data is not None
        shape = record.type.shape.static
        if shape is not None and record.raw.get("sparsity") is None:
            try:
                record.value = stored_tensor(self.mapping, data, offset, record.type.dtype, shape)
            except MalformedError as error:
                raise self._fail(error.reason, error.field, record.name) from None
            if record.value is not None:
                return {"value": record.value}
        record.value = FileTensor(self.mapping, offset, UINT8, (len(data),))
        return {"data": record.value}

    def _empty(self, record: TensorRecord) -> dict[str, Any]:
        dtype: DType = record.type.dtype
        shape = record.type.shape.static
        if dtype.numpy is None or shape is None or not is_addressable(shape):
            return {}
        record.value = ArrayTensor(np.empty(shape, dtype.numpy), dtype)
        return {"value": record.value}

    def _node(self, op: str, name: str, attrs: dict[str, Any]) -> Node:
        base, colon, port = name.rpartition(":")
        node = Node(op, self.graph.unique_name(base if colon and base and port.isdecimal() else name), attrs)
        self.graph.append_new(node)
        return node

    def _add_outputs(self, node: Node, records: Sequence[TensorRecord]) -> None:
        for record in records:
            value = node.add_output(record.type)
            if record.name and record.name != value.name:
                value.name = record.name
            elif not record.name:
                record.name = value.name  # what it is called as long as nobody renames it
            self.values[record.index] = value

    # Operators ------------------------------------------------------------------------------------------------

    def _add_operator(self, place: int, raw: Decoded, records: list[TensorRecord]) -> None:
        if raw["opcode_index"] >= len(self.codes):
            raise self._fail(f"there is no operator code {raw['opcode_index']}", "Operator.opcode_index")
        code = self.codes[raw["opcode_index"]]
        code.is_referenced = True
        op = operator_name(code.builtin)
        attrs = self._attributes(raw, code)
        outputs = self._indices(raw.get("outputs", ()), "Operator.outputs")
        intermediates = self._indices(raw.get("intermediates", ()), "Operator.intermediates")
        if intermediates:
            attrs["_intermediates"] = len(intermediates)
        inputs = [self._operand(index, op) for index in raw.get("inputs", ())]
        listed = [records[index] for index in (*outputs, *intermediates)]
        name = listed[0].name if listed and listed[0].name else op.partition(".")[2].lower()
        node = self._node(op, name, attrs)
        node.set_inputs(inputs)
        self._add_outputs(node, listed)
        node.extras = NodeRecord(op, tuple(listed), raw, code)
        self.nodes.append(node)

    def _operand(self, index: int, op: str) -> Value | None:
        if index == -1:
            return None
        if not 0 <= index < len(self.values):
            raise self._fail(f"there is no tensor {index} among {len(self.values)}", "Operator.inputs", op)
        return self._value(index, "Operator.inputs")

    def _attributes(self, raw: Decoded, code: CodeRecord) -> dict[str, Any]:
        attrs: dict[str, Any] = {}
        for place, key in ((1, "builtin_options2"), (0, "builtin_options")):
            if key in raw:
                attrs.update(to_attributes(option_fields(place, raw[f"{key}_type"]), raw[key], self.function))
        if code.custom is not None:
            attrs["custom_code"] = code.custom
        if "custom_options" in raw:
            attrs["custom_options"] = bytes(raw["custom_options"])
        elif raw["large_custom_options_offset"] > 1:
            attrs["custom_options"] = self._large_options(raw)
        if any(raw.get("mutating_variable_inputs", ())):
            attrs["_mutating_variable_inputs"] = tuple(raw["mutating_variable_inputs"])
        if code.version != 1:
            attrs["_version"] = code.version
        return attrs

    def _large_options(self, raw: Decoded) -> FileTensor:
        offset, size = raw["large_custom_options_offset"], raw["large_custom_options_size"]
        if offset + size > len(self.mapping):
            raise self._fail(
                "the options of a custom operator are out of bounds", "Operator.large_custom_options_offset"
            )
        return FileTensor(self.mapping, offset, UINT8, (size,))


def operator_name(builtin: int) -> str:
    """The IR's name of the operator of this code: `tfl.CONV_2D`."""
    return f"tfl.{names('BuiltinOperator').get(builtin) or f'BUILTIN_{builtin}'}"


def detail_indices(raw: Decoded) -> tuple[int, ...]:
    """Tensors that a quantization by blocks or by several axes refers to; zero points up to 0 mean that none are."""
    details = (raw.get("quantization") or {}).get("details")
    if not details or "scales" not in details:
        return ()
    zero_points = details["zero_points"]
    return (details["scales"], zero_points) if zero_points > 0 else (details["scales"],)


def unique_names(given: Any) -> list[str]:
    """The names, a number put after each that came before."""
    found: dict[str, None] = {}
    for name in given:
        candidate, count = name, 0
        while candidate in found:
            count += 1
            candidate = f"{name}_{count}"
        found[candidate] = None
    return list(found)


def _quantization(raw: Decoded | None) -> Quantization | None:
    """Scales and zero points, where there are as many of the one as of the other."""
    if not raw or raw["details_type"]:
        return None
    scale, zero_point = raw.get("scale", ()), raw.get("zero_point", ())
    if not len(scale) or (len(zero_point) not in (0, len(scale))):
        return None
    scales = tuple(scale.tolist() if isinstance(scale, np.ndarray) else scale)
    zeros = tuple(zero_point.tolist() if isinstance(zero_point, np.ndarray) else zero_point) or (0,) * len(scales)
    axis = raw["quantized_dimension"] if len(scales) > 1 else None
    return Quantization(scales, zeros, axis)
