"""Weights stored in fewer bits beside float activations: half precision, integers for hybrid kernels, integers that are
dequantized before use."""

from __future__ import annotations

import numpy as np

from graphopt.ir.graph import Graph
from graphopt.ir.known import TFLITE_CONSTANT, known_array, known_tensor
from graphopt.ir.tensors import ArrayTensor
from graphopt.ir.types import FLOAT16, FLOAT32, Shape, TensorType
from graphopt.ir.value import Node, Value
from graphopt.passes.quantize.borders import DEQUANTIZE
from graphopt.passes.quantize.integers import take_place
from graphopt.passes.quantize.plan import TABLES, Decision
from graphopt.passes.quantize.weights import WeightQuantizer

HALF_LIMIT = 65504.0
# Operators with a flag that says whether activations quantized on the fly have a zero point.
_FLAGGED = frozenset({"tfl.FULLY_CONNECTED", "tfl.BATCH_MATMUL", "tfl.UNIDIRECTIONAL_SEQUENCE_LSTM", "tfl.SVDF"})


class StorageEdits:
    """Edits of one graph. Constants are converted once, whoever reads them."""

    def __init__(self, graph: Graph, weights: WeightQuantizer):
        self.graph, self.weights = graph, weights
        self._halves: dict[object, Value] = {}
        self._floats: dict[Value, Value] = {}

    def apply(self, node: Node, decision: Decision) -> None:
        """Convert what `node` reads."""
        if decision.mode == "float16":
            self._half(node, decision.recipe.minimum_elements)
            return
        for index, spec in decision.weights.items():
            made, _ = self.weights.weights(node.input(index), spec)
            if node.op in TABLES:
                self._look_up(node, index, made)
                continue
            node.replace_input(index, made if decision.mode == "dynamic" else self._dequantized(made))
        if decision.mode == "dynamic" and node.op in _FLAGGED:
            node.attrs["asymmetric_quantize_inputs"] = True

    def _look_up(self, node: Node, index: int, table: Value) -> None:
        """`node` yields integers of a table; they become floats behind it, under its name."""
        node.replace_input(index, table)
        value = node.output
        value.type = TensorType(table.dtype, value.shape, table.type.quantization)
        outputs = self.graph.outputs
        floats = self._dequantized(value)
        for reader in value.users:
            for place, read in enumerate(reader.inputs):
                if read is value and reader is not floats.node:
                    reader.replace_input(place, floats)
        if any(item is value for item in outputs):
            take_place(self.graph, value, floats)

    def _half(self, node: Node, minimum: int) -> None:
        for index, value in enumerate(node.inputs):
            held = known_tensor(value)
            if value is None or held is None or held.dtype is not FLOAT32 or held.size < max(minimum, 1):
                continue
            if held not in self._halves:
                self._halves[held] = self._as_half(value)
            node.replace_input(index, self._halves[held])

    def _as_half(self, value: Value) -> Value:
        """Half precision, dequantized; what lies beyond its range becomes its largest number."""
        array = known_array(value)
        assert array is not None
        clipped = np.where(np.isfinite(array), np.clip(array, -HALF_LIMIT, HALF_LIMIT), array)
        held = ArrayTensor(clipped.astype(np.float16), FLOAT16)
        constant = self.graph.create_node(
            TFLITE_CONSTANT, attrs={"value": held}, name=f"{value.node.name}/float16",
            types=(TensorType(FLOAT16, Shape(held.shape)),), before=value.node, origins=value.node.source_names,
        )  # fmt: skip
        return self._dequantized(constant.output)

    def _dequantized(self, value: Value) -> Value:
        if value not in self._floats:
            node = self.graph.create_node(
                DEQUANTIZE, (value,), name=f"{value.node.name}/float32", types=(TensorType(FLOAT32, value.shape),),
                before=value.node._next, origins=value.node.source_names,
            )  # fmt: skip
            self._floats[value] = node.output
        return self._floats[value]
