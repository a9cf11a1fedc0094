"""Full-integer edits: chosen nodes read and yield integers; what lies between them and floats is converted."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from graphopt.ir.graph import Graph
from graphopt.ir.known import known_array
from graphopt.ir.types import FLOAT32, INT8, TensorType
from graphopt.ir.value import Node, Value
from graphopt.passes.quantize.arithmetic import quantize
from graphopt.passes.quantize.borders import QUANTIZE, Borders
from graphopt.passes.quantize.kernels import COMPARISONS, ROOTS
from graphopt.passes.quantize.parameters import Parameters, activation_parameters
from graphopt.passes.quantize.scales import CUTS, Chosen, RangeOf, Scales, Slot, activations, kernel, range_in
from graphopt.passes.quantize.schemes import Scheme
from graphopt.passes.quantize.weights import WeightQuantizer, WeightSpec, integer_constant

ENDLESS = 1e7  # a magnitude that stands for infinity
DIVISOR = 8  # steps of the integers that a divisor has at least
Specs = Mapping[Node, Mapping[int, WeightSpec]]
"""For each chosen node, how the weights at its inputs are stored."""


class Operands(NamedTuple):
    """What one chosen node reads and yields: parameters by input index, and of each output (None for no activation)."""

    read: dict[int, Parameters]
    yielded: list[Parameters | None]


def with_ranges(chosen: Chosen, range_of: RangeOf) -> tuple[dict[Node, Scheme], Scales, dict[Node, str]]:
    """Those of `chosen` all of whose activations have known ranges, their scales, and why the others are left out."""
    range_of = functools.cache(range_of)  # some methods search for a range
    left = {node: reason for node, scheme in chosen.items() if (reason := _unfit(node, scheme, range_of))}
    kept = {node: scheme for node, scheme in chosen.items() if node not in left}
    while True:
        scales = Scales(kept, range_of)
        lacking = {node: reason for node in kept if (reason := _obstacle(node, scales))}
        if not lacking:
            return kept, scales, left
        left.update(lacking)
        for node in lacking:
            del kept[node]


def _unfit(node: Node, scheme: Scheme, range_of: RangeOf) -> str:
    """Why what a node reads or yields is nothing for integers: masks hold the likes of -1e9 in place of infinity."""
    if node.op == "tfl.DIV" and _divides_coarsely(node.input(1), scheme, range_of):
        return f"of the least that divides in '{node.input(1).name}' integers tell too little"
    read = (node.input(index) for index in activations(node))
    for value in (*read, *(value for value in node.outputs if value.dtype is FLOAT32)):
        if node.op in CUTS and known_array(value) is not None:
            continue
        found = range_in(Slot(value, scheme), range_of)
        if found is not None and max(-found.minimum, found.maximum) >= ENDLESS:
            end = found.maximum if found.maximum >= ENDLESS else found.minimum
            return f"'{value.name}' holds {end:.3g}, beside which integers cannot tell other numbers apart"
        if found is not None and found.minimum < 0 and node.op in ROOTS and value.node is not node:
            return f"'{value.name}' goes down to {found.minimum:.3g}, at which the kernel for integers stops"
    return ""


def _divides_coarsely(divisor: Value, scheme: Scheme, range_of: RangeOf) -> bool:
    """Some of a divisor is so near to zero that the integer for it is far off, or zero itself."""
    found = range_in(Slot(divisor, scheme), range_of)
    if found is None:
        return False
    array = known_array(divisor)
    least = max(found.minimum, -found.maximum, 0.0) if array is None else float(np.abs(array).min(initial=np.inf))
    scale = activation_parameters(*found, scheme).scale[0]
    return bool(least < scale * DIVISOR)


def _obstacle(node: Node, scales: Scales) -> str:
    """Why no integers stand for what `node` reads and yields; empty where they do."""
    for index in activations(node):
        wanted = scales.wanted(node, index)
        if wanted is None:
            return f"no range of '{node.input(index).name}' is known"
        if node.op in COMPARISONS and wanted.dtype is INT8 and wanted.scale[0] >= 1:
            return f"no kernel compares int8 of scale {wanted.scale[0]:.3g}, only of scales below 1"
    for value in node.outputs:
        if value.dtype is FLOAT32 and scales.stored(value) is None:
            return f"no range of '{value.name}' is known"
    return ""


class IntegerEdits:
    """Makes one graph compute with integers where `chosen` says so. All scales are decided before anything changes."""

    def __init__(self, graph: Graph, chosen: Chosen, scales: Scales, specs: Specs, weights: WeightQuantizer):
        self.graph, self.chosen, self.specs, self.weights = graph, chosen, specs, weights
        self.borders = Borders(graph)
        self.operands = {
            node: Operands(
                {index: _given(scales.wanted(node, index)) for index in activations(node)},
                [scales.stored(value) if value.dtype is FLOAT32 else None for value in node.outputs],
            )
            for node in chosen
        }
        self._constants: dict[tuple[Value, Parameters | None, bytes], Value] = {}

    def apply(self) -> None:
        """Edit the graph: inputs and outputs stay floats."""
        outputs = self.graph.outputs
        for node, operands in self.operands.items():
            for value, parameters in zip(node.outputs, operands.yielded, strict=True):
                if parameters is not None:
                    value.type = TensorType(parameters.dtype, value.shape, parameters.quantization)
        for node, operands in self.operands.items():
            self._edit(node, operands)
        for node in list(self.graph):
            if node not in self.operands:
                self._read_floats(node)
        for value in dict.fromkeys(outputs):
            self._float_output(value)

    def _edit(self, node: Node, operands: Operands) -> None:
        for index, parameters in operands.read.items():
            value = node.input(index)
            if known_array(value) is not None:
                node.replace_input(index, self._constant(value, parameters))
            else:
                node.replace_input(index, self.borders.as_integers(value, parameters))
        place = kernel(node).bias
        bias = node.inputs[place] if place is not None and place < node.input_count else None
        for index, spec in self.specs.get(node, {}).items():
            inputs = next(iter(operands.read.values()))
            made, parameters = self.weights.weights(node.input(index), spec, inputs, bias)
            node.replace_input(index, made)
            if bias is not None and place is not None:
                node.replace_input(place, self.weights.bias(bias, inputs, parameters))

    def _constant(self, value: Value, parameters: Parameters) -> Value:
        array = known_array(value)
        assert array is not None
        key = (value, None, repr(parameters.quantization).encode() + parameters.dtype.name.encode())
        if key not in self._constants:
            self._constants[key] = integer_constant(value, quantize(array, parameters), parameters)
        return self._constants[key]

    def _read_floats(self, node: Node) -> None:
        if node.op in ("tfl.QUANTIZE", "tfl.DEQUANTIZE"):
            return
        for index, value in enumerate(node.inputs):
            if value is not None and value.node in self.operands:
                node.replace_input(index, self.borders.as_floats(value))

    def _float_output(self, value: Value) -> None:
        """An output stays a float under its own name; the integers take another."""
        if value.node not in self.operands or value.dtype is FLOAT32:
            return
        made = self.borders.as_floats(value)
        if made is not value:
            take_place(self.graph, value, made)


def requantize_clamps(nodes: Iterable[Node], clamps: Mapping[str, float]) -> None:
    """Let integer operators that cut off at zero, and at most at the limit given, be conversions to their range."""
    for node in nodes:
        limit = clamps.get(node.op)
        if limit is None or node.output.dtype is not INT8 or node.output.type.quantization is None:
            continue
        (scale,), (zero_point,) = node.output.type.quantization.scale, node.output.type.quantization.zero_point
        if zero_point == -128 and scale * 255 <= limit * (1 + 1e-5):
            node.op = QUANTIZE
            node.attrs.clear()


def take_place(graph: Graph, value: Value, made: Value) -> None:
    """Let `made` be the output that `value` was, under its name."""
    graph.outputs = [made if item is value else item for item in graph.outputs]
    if len(value.node.outputs) == 1:
        name = value.node.name
        graph.rename(value.node, graph.unique_name(f"{name}/{value.dtype.name}"))
        graph.rename(made.node, name)


def _given(parameters: Parameters | None) -> Parameters:
    assert parameters is not None
    return parameters
