"""Quantize and dequantize operators where integers and floats meet: as few as there can be, each made once."""

from __future__ import annotations

from graphopt.ir.graph import Graph
from graphopt.ir.types import FLOAT32, Quantization, TensorType
from graphopt.ir.value import Node, Value
from graphopt.passes.quantize.parameters import Parameters

QUANTIZE, DEQUANTIZE = "tfl.QUANTIZE", "tfl.DEQUANTIZE"


class Borders:
    """Conversions within one graph. A conversion stands right behind what it converts."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self._integers: dict[tuple[Value, str, Quantization], Value] = {}
        self._floats: dict[Value, Value] = {}

    def as_integers(self, value: Value, parameters: Parameters) -> Value:
        """`value`, float or integers of another scale, as integers; itself where it is so already."""
        wanted = parameters.quantization
        if value.dtype is parameters.dtype and value.type.quantization == wanted:
            return value
        key = (value, parameters.dtype.name, wanted)
        if key not in self._integers:
            type = TensorType(parameters.dtype, value.shape, wanted)
            self._integers[key] = self._behind(value, QUANTIZE, f"{value.node.name}/{parameters.dtype.name}", type)
        return self._integers[key]

    def as_floats(self, value: Value) -> Value:
        """`value`, integers, as floats; itself where it is so already."""
        if value.type.quantization is None or value.dtype.is_float:
            return value
        if value not in self._floats:
            type = TensorType(FLOAT32, value.shape)
            self._floats[value] = self._behind(value, DEQUANTIZE, f"{value.node.name}/float32", type)
        return self._floats[value]

    def _behind(self, value: Value, op: str, name: str, type: TensorType) -> Value:
        node: Node = self.graph.create_node(
            op, (value,), name=name, types=(type,), before=value.node._next, origins=value.node.source_names
        )
        return node.output
