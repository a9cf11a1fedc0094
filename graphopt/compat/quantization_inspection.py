"""A quantized model with a float twin of each integer operator beside it, which reads the same numbers."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.backends.tflite.conversion import tell_modes
from graphopt.compat.tflite import TFLiteConverter
from graphopt.compat.tflite_quantization import operators_of, samples_of
from graphopt.ir.formats.tflite import tflite_bytes
from graphopt.ir.graph import Graph
from graphopt.ir.known import known_tensor
from graphopt.ir.model import Model
from graphopt.ir.types import FLOAT32, TensorType
from graphopt.ir.value import Node, Value
from graphopt.passes.quantize.borders import Borders
from graphopt.passes.quantize.plan import Plan
from graphopt.passes.quantize.recipe import Recipe, Rule

COLUMNS = ("num_elements", "stddev", "mean_error", "max_abs_error", "mean_squared_error")
METRICS: dict[str, Callable[[Any], float]] = {
    "num_elements": np.size, "stddev": np.std, "mean_error": np.average,
    "max_abs_error": lambda errors: np.max(np.abs(errors)), "mean_squared_error": lambda errors: np.mean(errors**2),
}  # fmt: skip


@dataclass
class Layer:
    """One integer operator: its output, the float twin's, and what rows say of it."""

    operator: str
    tensor: str
    index: int
    scale: float
    zero_point: int
    output: str
    twin: str


@dataclass
class Inspection:
    """Both models, and the layers of the quantized one."""

    original: Model
    debug: Model
    layers: list[Layer]
    outputs: list[str]
    quantized_bytes: bytes

    @property
    def debug_bytes(self) -> bytes:
        """The model with twins as a file."""
        return tflite_bytes(self.debug)

    def run(self, data: Any, options: Any) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
        """Means over the samples: by tensor and figure, and of the whole model."""
        from graphopt.runtimes.litert import LiteRTRuntime
        from graphopt.sample_streams import stream_samples

        runtime = LiteRTRuntime()
        seen: dict[str, dict[str, list[float]]] = {layer.tensor: {} for layer in self.layers}
        whole: dict[str, list[float]] = {}
        for sample in stream_samples(samples_of(data, self.original), self.original).samples:
            arrays = runtime.run(self.debug, sample)
            for layer in self.layers:
                _note(seen[layer.tensor], layer, arrays, options)
            for name, metric in (options.model_debug_metrics or {}).items():
                right = runtime.run(self.original, sample)
                pair = [right[key] for key in self.outputs], [arrays[key] for key in self.outputs]
                whole.setdefault(name, []).append(metric(*pair))
        layers = {
            tensor: {name: float(np.mean(values)) for name, values in found.items()} for tensor, found in seen.items()
        }
        return layers, {name: float(np.mean(values)) for name, values in whole.items()}

    def dump(self, file: Any, statistics: dict[str, dict[str, float]]) -> None:
        """The rows, as CSV."""
        further = [name for found in statistics.values() for name in found if name not in COLUMNS]
        figures = [*COLUMNS, *dict.fromkeys(further)]
        writer = csv.DictWriter(file, ["op_name", "tensor_idx", *figures, "scale", "zero_point", "tensor_name"])
        writer.writeheader()
        for layer in self.layers:
            row = {name: statistics.get(layer.tensor, {}).get(name, "") for name in figures}
            writer.writerow({
                "op_name": layer.operator, "tensor_idx": layer.index, **row, "scale": layer.scale,
                "zero_point": layer.zero_point, "tensor_name": layer.tensor,
            })  # fmt: skip


def inspect(source: Any, data: Any, options: Any) -> Inspection:
    """Quantize what `source` holds and put twins beside its integer operators."""
    from graphopt.api import load
    from graphopt.passes.quantize.quantize import quantize_model
    from graphopt.quantization import delegate_of, kernels_of
    from graphopt.tuning.flow import prepare

    is_converter = isinstance(source, TFLiteConverter)
    original = source.lowered() if is_converter else load(source)
    given = source.representative_dataset if is_converter and source.representative_dataset is not None else data
    kept = tuple(options.denylisted_ops or ()), tuple(options.denylisted_nodes or ())
    is_pure = options.fully_quantize or (is_converter and "TFLITE_BUILTINS" not in operators_of(source))
    recipe = Recipe(_rules(*kept), islands=not is_pure)
    target = kernels_of("litert"), delegate_of("litert")
    effort = source.effort if is_converter else "fast"
    found = prepare(original, recipe, samples_of(given, original), effort, *target, check=False)
    original = found.model
    quantized = original.clone()
    pairs = [(node, other) for node, other in zip(original.graph, quantized.graph, strict=True) if node.op == other.op]
    plan = quantize_model(
        quantized, recipe, found.ranges, target[0], delegate=target[1], rounding=found.rounding
    )  # fmt: skip
    tell_modes(quantized, plan)
    content = tflite_bytes(quantized)
    return Inspection(original, quantized, add_twins(quantized.graph, pairs, plan), _outputs(original), content)


def add_twins(graph: Graph, pairs: list[tuple[Node, Node]], plan: Plan) -> list[Layer]:
    """Let `graph` yield, for each integer operator, its output as floats and what the float operator makes of it."""
    numbers = {value: place for place, value in enumerate(value for node in graph for value in node.outputs)}
    borders = Borders(graph)
    layers = []
    for original, node in pairs:
        decision = plan.decisions.get(node)
        if decision is None or decision.activation is None or node.graph is None:
            continue
        value = node.outputs[0]
        if value.type.quantization is None or original.outputs[0].dtype is not FLOAT32:
            continue
        twin = _twin(graph, original, node, borders)
        made = borders.as_floats(value)
        tensor = value.name
        layers.append(Layer(
            node.op_type, tensor, numbers[value], value.type.quantization.scale[0],
            value.type.quantization.zero_point[0], f"{tensor}/debug/output", f"{tensor}/debug/float",
        ))  # fmt: skip
        _yield(graph, {layers[-1].output: made, layers[-1].twin: twin})
    return layers


def _twin(graph: Graph, original: Node, node: Node, borders: Borders) -> Value:
    inputs: list[Value | None] = []
    for given, read in zip(original.inputs, node.inputs, strict=True):
        held = known_tensor(given)
        if given is not None and held is not None:
            made = graph.create_node(
                given.node.op, attrs=dict(given.node.attrs), name=f"{given.node.name}/debug",
                types=(TensorType(given.dtype, given.shape),), before=node,
            )  # fmt: skip
            inputs.append(made.output)
        else:
            inputs.append(None if read is None else borders.as_floats(read))
    types = tuple(TensorType(value.dtype, value.shape) for value in original.outputs)
    made = graph.create_node(
        original.op, inputs, attrs=dict(original.attrs), name=f"{original.name}/debug", types=types, before=node._next
    )
    return made.outputs[0]


def _yield(graph: Graph, outputs: dict[str, Value]) -> None:
    """More outputs, of every signature of the graph."""
    graph.outputs = [*graph.outputs, *outputs.values()]
    assert graph.model is not None
    for signature in graph.model.signatures.values():
        if signature.graph is graph:
            places = {name: len(graph.outputs) - len(outputs) + place for place, name in enumerate(outputs)}
            signature.outputs.update(places)


def _note(seen: dict[str, list[float]], layer: Layer, arrays: dict[str, Any], options: Any) -> None:
    got, right = arrays[layer.output], arrays[layer.twin]
    errors = got - right
    for name, metric in (METRICS | (options.layer_debug_metrics or {})).items():
        seen.setdefault(name, []).append(float(metric(errors)))
    for name, direct in (options.layer_direct_compare_metrics or {}).items():
        codes = np.round(got / layer.scale) + layer.zero_point
        seen.setdefault(name, []).append(float(direct(right, codes, layer.scale, layer.zero_point)))


def _rules(operators: tuple[str, ...], names: tuple[str, ...]) -> tuple[Rule, ...]:
    import re

    rules = [Rule(mode="int8")]
    if operators:
        rules.append(Rule(operators=operators, mode="float"))
    if names:
        rules.append(Rule(layers="|".join(f"^{re.escape(name)}$" for name in names), mode="float"))
    return tuple(rules)


def _outputs(model: Model) -> list[str]:
    return list(next(iter(model.signatures.values())).outputs)
