"""One graph as a subgraph of a `.tflite` file: what was read and not changed since is written as it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from graphopt.ir.errors import UnsupportedError, printable
from graphopt.ir.formats.tflite.element_types import number_of
from graphopt.ir.formats.tflite.options import option_fields, options_of, to_options
from graphopt.ir.formats.tflite.records import (
    CONSTANTS,
    KEY,
    PSEUDO,
    VARIABLE,
    BufferRecord,
    CodeRecord,
    GraphRecord,
    NodeRecord,
    TensorRecord,
    tensor_record,
)
from graphopt.ir.formats.tflite.schema import numbers
from graphopt.ir.formats.tflite.subgraph_reader import CUSTOM, detail_indices
from graphopt.ir.graph import Graph
from graphopt.ir.ops.tflite_versions import version_of
from graphopt.ir.tensors import FileTensor, Tensor
from graphopt.ir.types import Quantization, Shape
from graphopt.ir.value import Node, Value

Fields = dict[str, Any]
_OPTIONS = ("builtin_options", "builtin_options2")
# Attributes that are kept elsewhere than in an operator's options.
_NO_OPTIONS = frozenset({"value", "data", "custom_code", "custom_options", "external_buffer"})
BLOCKWISE = 2  # of the union QuantizationDetails
_NUMBERED = "BUILTIN_"  # the name of an operator that the schema does not have


class Numbers(Protocol):
    """What the tables of the model number."""

    def buffer(self, record: BufferRecord) -> int:
        """The number of a buffer that was read."""

    def buffer_of(self, held: Tensor) -> int:
        """The number of a buffer that holds the tensor."""

    def code(self, record: CodeRecord | None, builtin: int, custom: bytes | None, version: int) -> int:
        """The number of an operator code."""

    def new_code(self, builtin: int, version: int) -> int:
        """The number of an operator code for operators that no file had: one for all of a kind."""

    def function(self, name: str) -> int:
        """The number of a function's subgraph."""


class SubgraphWriter:
    """Makes the table of one subgraph; `indices` are the numbers of its tensors."""

    def __init__(self, graph: Graph, numbers: Numbers):
        self.graph, self.numbers = graph, numbers
        self.nodes = graph.topological_order()
        self.operators = [node for node in self.nodes if node.op not in PSEUDO and node.op not in CONSTANTS]
        self.values = _ordered(self.nodes)
        self.indices: dict[Value, int] = {value: index for index, value in enumerate(self.values)}
        self.first: dict[int, int] = {}  # number of a tensor when it was read -> number now
        for value, index in self.indices.items():
            record = tensor_record(value.node, value.index)
            if record is not None:
                self.first.setdefault(record.index, index)

    def table(self) -> Fields:
        """The subgraph. Raises `UnsupportedError` naming the node that TFLite cannot express."""
        record = self.graph.metadata.get(KEY)
        raw = record.raw if isinstance(record, GraphRecord) else {}
        fields = dict(raw)
        if not isinstance(record, GraphRecord) or record.name != self.graph.name:
            fields["name"] = self.graph.name.encode()
        fields["tensors"] = kept(raw, "tensors", [self._tensor(value) for value in self.values])
        fields["inputs"] = kept(raw, "inputs", [self.indices[value] for value in self.graph.inputs])
        fields["outputs"] = kept(raw, "outputs", [self.indices[value] for value in self.graph.outputs])
        fields["operators"] = kept(raw, "operators", [self._operator(node) for node in self.operators])
        return fields

    def control_edges(self) -> list[tuple[int, int]]:
        """Pairs of operators of which the second waits for the first."""
        places = {node: place for place, node in enumerate(self.operators)}
        return [
            (places[before], place)
            for node, place in places.items()
            for before in node.control_inputs
            if before in places
        ]

    # Tensors --------------------------------------------------------------------------------------------------

    def _tensor(self, value: Value) -> Fields:
        node, record = value.node, tensor_record(value.node, value.index)
        fields: Fields = dict(record.raw) if record is not None else {}
        type = value.type
        if record is None or value.name != record.name:
            fields["name"] = value.name.encode(errors="replace")
        if record is None or type.dtype is not record.type.dtype:
            fields["type"] = self._of(node, number_of, type.dtype)
        if record is None or type.shape != record.type.shape:
            fields.pop("sparsity", None)
            fields.update(shape_fields(type.shape))
        if record is None or type.quantization != record.type.quantization:
            fields["quantization"] = quantization_fields(type.quantization)
        if "block_size" in node.attrs and node.op in CONSTANTS:
            fields["quantization"] = self._blocks(node)
        elif detail_indices(fields):
            fields["quantization"] = self._remapped(node, fields["quantization"])
        if node.op == VARIABLE:
            fields["is_variable"] = True
        fields["buffer"] = self._buffer(node, record, fields)
        return fields

    def _blocks(self, node: Node) -> Fields:
        """A quantization by blocks, whose scales are what the constant reads."""
        details = {
            "scales": self.indices[node.input(0)],
            "zero_points": self.indices[node.input(1)] if node.input_count > 1 else -1,
            "block_size": node.attrs["block_size"],
        }
        return {"quantized_dimension": 0, "details_type": BLOCKWISE, "details": details}

    def _remapped(self, node: Node, quantization: Fields) -> Fields:
        """A quantization by blocks, which refers to tensors that may have other numbers now."""
        details = dict(quantization["details"])
        held = [self.indices[value] for value in node.inputs if value is not None] if node.op in PSEUDO else []
        for place, key in enumerate(("scales", "zero_points")):
            if key == "scales" or details[key] > 0:
                index = held[place] if place < len(held) else self.first.get(details[key])
                if index is None:
                    raise self._refusal(node, f"has a quantization whose {key} are no longer in the graph")
                details[key] = index
        return {**quantization, "details": details}

    def _buffer(self, node: Node, record: TensorRecord | None, fields: Fields) -> int:
        if node.op not in CONSTANTS:
            return self.numbers.buffer(record.buffer) if record is not None else 0
        held = node.attrs.get("value", node.attrs.get("data"))
        if not isinstance(held, Tensor):
            if "external_buffer" in node.attrs:
                return self.numbers.buffer(record.buffer) if record is not None else 0
            raise self._refusal(node, "is a constant without a value")
        if record is not None and held is record.value:
            return self.numbers.buffer(record.buffer)
        if "value" in node.attrs:
            fields.pop("sparsity", None)
        number: int = self._of(node, self.numbers.buffer_of, held)
        return number

    # Operators ------------------------------------------------------------------------------------------------

    def _operator(self, node: Node) -> Fields:
        dialect, _, name = node.op.partition(".")
        if dialect != "tfl":
            raise self._refusal(node, "is no operator of TFLite: lower the model first")
        record = node.extras if isinstance(node.extras, NodeRecord) and node.extras.op == node.op else None
        raw = (record.raw if record is not None else None) or {}
        fields: Fields = {key: item for key, item in raw.items() if key not in _OPTIONS}
        fields["opcode_index"] = self._code(node, name, record)
        attrs = node.attrs
        intermediates = attrs.get("_intermediates", 0)
        if not isinstance(intermediates, int) or not 0 <= intermediates <= len(node.outputs):
            raise self._refusal(node, f"cannot have {printable(repr(intermediates), 40)} intermediates")
        yielded = [self.indices[value] for value in node.outputs]
        split = len(yielded) - intermediates
        inputs = [-1 if value is None else self.indices[value] for value in node.inputs]
        fields["inputs"] = kept(raw, "inputs", inputs)
        fields["outputs"] = kept(raw, "outputs", yielded[:split])
        fields["intermediates"] = yielded[split:] if yielded[split:] else raw.get("intermediates")
        if "_mutating_variable_inputs" in attrs:
            fields["mutating_variable_inputs"] = attrs["_mutating_variable_inputs"]
        self._add_options(node, name, raw, fields)
        self._add_custom_options(node, fields)
        return fields

    def _code(self, node: Node, name: str, record: NodeRecord | None) -> int:
        builtin = numbers("BuiltinOperator").get(name)
        if builtin is None and name.startswith(_NUMBERED) and name[len(_NUMBERED) :].lstrip("-").isdecimal():
            builtin = int(name[len(_NUMBERED) :])
        if builtin is None:
            raise self._refusal(node, "is no operator of TFLite")
        custom = node.attrs.get("custom_code")
        if builtin == CUSTOM and record is None and not custom:
            raise self._refusal(node, "is a custom operator without a custom_code")
        if (record is None or record.raw is None) and builtin != CUSTOM and "_version" not in node.attrs:
            return self.numbers.new_code(builtin, version_of(node))
        version = self._version(node, record)
        return self.numbers.code(record.code if record is not None else None, builtin, custom, version)

    def _version(self, node: Node, record: NodeRecord | None) -> int:
        """What the node says, and for an operator that was read and changed since no less than it needs by now."""
        version: int = node.attrs.get("_version", 1)
        if record is None or record.raw is None or node.op_type == "CUSTOM":
            return version
        needed = version_of(node)
        return needed if needed > version and self._is_changed(node, record.raw) else version

    def _is_changed(self, node: Node, raw: Fields) -> bool:
        """Types, number of inputs or options are not those that were read."""
        operands = [*node.inputs, *node.outputs]
        records = [None if value is None else tensor_record(value.node, value.index) for value in operands]
        if len(node.inputs) != len(raw.get("inputs", ())) or len(node.outputs) > len(raw.get("outputs", ())) + len(
            raw.get("intermediates", ())
        ):
            return True
        for value, record in zip(operands, records, strict=True):
            if value is not None and (record is None or record.type != value.type):
                return True
        fields: Fields = {}
        self._add_options(node, node.op_type, raw, fields)
        return any(
            raw.get(key, {}).get(name) != item
            for key in _OPTIONS
            for name, item in fields.get(key, {}).items()
            if isinstance(item, (int, float)) and not name.endswith("subgraph_index")
        )

    def _add_options(self, node: Node, name: str, raw: Fields, fields: Fields) -> None:
        union, number = options_of(name)
        listed = [(place, raw[f"{key}_type"]) for place, key in enumerate(_OPTIONS) if raw.get(f"{key}_type")]
        stored = _NO_OPTIONS
        for place, kind in listed or ([(union, number)] if number else []):
            key = _OPTIONS[place]
            known = option_fields(place, kind)
            stored |= {field.name for field in known}
            options = self._of(node, to_options, known, node.attrs, self.numbers.function)
            if options or not raw or key in raw:
                fields[f"{key}_type"], fields[key] = kind, options
        for key, held in node.attrs.items():
            if key not in stored and key[:1] != "_" and held is not None:
                raise self._refusal(node, f"has an attribute '{printable(key)}' that its options in TFLite do not have")

    def _add_custom_options(self, node: Node, fields: Fields) -> None:
        held = node.attrs.get("custom_options")
        fields.pop("custom_options", None)
        if isinstance(held, bytes):
            fields["custom_options"] = held
            fields["large_custom_options_offset"] = fields["large_custom_options_size"] = 0
        elif isinstance(held, FileTensor):
            fields["large"] = held.data()  # put behind the FlatBuffer by the writer of the model
        elif held is not None:
            raise self._refusal(node, "has custom_options that are no bytes")

    # Errors ---------------------------------------------------------------------------------------------------

    def _refusal(self, node: Node, reason: str) -> UnsupportedError:
        return UnsupportedError(f"node '{printable(node.name)}' ({printable(node.op)}) {reason}")

    def _of(self, node: Node, function: Callable[..., Any], *arguments: Any) -> Any:
        """What `function` says of `arguments`; what it refuses, it refuses of `node`."""
        try:
            return function(*arguments)
        except UnsupportedError as error:
            raise self._refusal(node, f"cannot be written: {error}") from error


def kept(raw: Fields, key: str, items: Sequence[Any]) -> Sequence[Any] | None:
    """`items`, or None where there are none and the file did not have the vector either."""
    return items if items or not raw or key in raw else None


def _ordered(nodes: Sequence[Node]) -> list[Value]:
    """The tensors: those that were read in their order, the others behind them."""
    found: list[tuple[int, Value]] = []
    for node in nodes:
        for value in node.outputs:
            record = tensor_record(node, value.index)
            found.append((record.index if record is not None else 1 << 62, value))
    found.sort(key=lambda item: item[0])
    return [value for _, value in found]


def shape_fields(shape: Shape) -> Fields:
    """The fields that say a shape: unknown dimensions are 1 in the shape and -1 in its signature."""
    if shape.dims is None:
        return {"shape": None, "shape_signature": None, "has_rank": False}
    dims = [dim if isinstance(dim, int) else 1 for dim in shape.dims]
    signature = None if shape.is_static else [dim if isinstance(dim, int) else -1 for dim in shape.dims]
    return {"shape": dims, "shape_signature": signature, "has_rank": True}


def quantization_fields(quantization: Quantization | None) -> Fields | None:
    """The table of a quantization, None for none."""
    if quantization is None:
        return None
    return {
        "scale": quantization.scale,
        "zero_point": quantization.zero_point,
        "quantized_dimension": quantization.axis or 0,
    }
