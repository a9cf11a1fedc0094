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
            if spec.block_size:
                self._activate_apart(node)
        if decision.mode == "dynamic" and node.op in _FLAGGED:
            node.attrs["asymmetric_quantize_inputs"] = True

    def _activate_apart(self, node: Node) -> None:
        """LiteRT's kernels for blocks leave out the activation: an operator of its own computes it, under its name."""
        kind = bytes(node.attrs.get("fused_activation_function", b"NONE")).decode()
        if kind == "NONE":
            return
        node.attrs["fused_activation_function"] = b"NONE"
        made = self.graph.create_node(
            f"tfl.{kind}", (node.output,), name=f"{node.name}/{kind}", types=(node.output.type,), before=node._next,
            origins=node.source_names,
        )  # fmt: skip
        self._hand_over(node.output, made)

    def _look_up(self, node: Node, index: int, table: Value) -> None:
        """`node` yields what is stored in a table; it becomes floats behind it, under its name."""
        node.replace_input(index, table)
        value = node.output
        value.type = TensorType(table.dtype, value.shape, table.type.quantization)
        self._hand_over(value, self._dequantized(value).node)

    def _hand_over(self, value: Value, node: Node) -> None:
        """Let `node`, which reads `value`, yield it under its name to whoever else reads it."""
        for reader in value.users:
            for place, read in enumerate(reader.inputs):
                if read is value and reader is not node:
                    reader.replace_input(place, node.output)
        take_place(self.graph, value, node.output)

    def _half(self, node: Node, minimum: int) -> None:
        for index, value in enumerate(node.inputs):
            held = known_tensor(value)
            if value is None or held is None or held.dtype is not FLOAT32 or held.size < max(minimum, 1):
                continue
            if held not in self._halves:
                self._halves[held] = self._as_half(value)
            half = self._halves[held]
            if node.op in TABLES:
                self._look_up(node, index, half)
            else:
                node.replace_input(index, self._dequantized(half))

    def _as_half(self, value: Value) -> Value:
        """Half precision; what lies beyond its range becomes its largest number."""
        array = known_array(value)
        assert array is not None
        clipped = np.where(np.isfinite(array), np.clip(array, -HALF_LIMIT, HALF_LIMIT), array)
        held = ArrayTensor(clipped.astype(np.float16), FLOAT16)
        constant = self.graph.create_node(
            TFLITE_CONSTANT, attrs={"value": held}, name=f"{value.node.name}/float16",
            types=(TensorType(FLOAT16, Shape(held.shape)),), before=value.node, origins=value.node.source_names,
        )  # fmt: skip
        return constant.output

    def _dequantized(self, value: Value) -> Value:
        if value not in self._floats:
            node = self.graph.create_node(
                DEQUANTIZE, (value,), name=f"{value.node.name}/float32", types=(TensorType(FLOAT32, value.shape),),
                before=value.node._next, origins=value.node.source_names,
            )  # fmt: skip
            self._floats[value] = node.output
        return self._floats[value]
