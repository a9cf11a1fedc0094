"""Per layer: operator, origin, the type it computes in and why, bytes of weights; and the sums of all that."""

from __future__ import annotations

from collections import Counter
from typing import Any

from graphopt.backends.tensorrt.element_types import Types, element_types
from graphopt.backends.tensorrt.layers import LAYERS
from graphopt.backends.tensorrt.outcome import Outcome
from graphopt.backends.tensorrt.precision import casts
from graphopt.ir.graph import Graph
from graphopt.ir.known import known_tensor
from graphopt.ir.model import Model
from graphopt.ir.tensors import Tensor
from graphopt.ir.value import Node, Value

_PARTS = ("Input", "Initializer")


def layer_report(model: Model, outcome: Outcome | None = None) -> dict[str, Any]:
    """Plain data for JSON: sums, what left float16's range, the ranges of activations, and every layer."""
    types, known = element_types(model), outcome or Outcome()
    layers = [
        _layer(node, graph, types, known)
        for graph in model.graphs
        for node in graph.topological_order()
        if node.op_type not in _PARTS
    ]
    computing = Counter(layer["computes"] for layer in layers if layer["operator"] in LAYERS)
    return {
        "nodes": len(layers),
        "operators": dict(sorted(Counter(layer["operator"] for layer in layers).items())),
        "transposes": sum(layer["operator"] == "Transpose" for layer in layers),
        "casts": casts(model),
        "weight_bytes": _sizes(model),
        "layers_by_type": dict(sorted(Counter(k for layer in layers for k in dict.fromkeys(layer["types"])).items())),
        "computing": dict(sorted(computing.items())),
        "overflow": known.overflow,
        "activations": known.scales,
        "layers": layers,
    }


def _layer(node: Node, graph: Graph, types: Types, outcome: Outcome) -> dict[str, Any]:
    held = [weights for value in node.inputs if (weights := _weights(value)) is not None]
    return {
        "name": node.name, "operator": node.op_type, "graph": graph.name, "origins": list(node.source_names),
        "computes": _computes(node, types), "reason": outcome.reasons.get(node.name, ""),
        "types": [types[value].name for value in node.outputs],
        "shapes": [str(value.shape) for value in node.outputs],
        "weights": "+".join(dict.fromkeys(item.dtype.name for item in held)),
        "weight_bytes": 0 if node.op_type == "DequantizeLinear" else sum(item.nbytes for item in held),
    }  # fmt: skip


def _weights(value: Value | None) -> Tensor | None:
    """The constant that a value is, or that stands for it in fewer bits."""
    if value is not None and value.node.op_type == "DequantizeLinear":
        return known_tensor(value.node.input(0))
    return known_tensor(value)


def _computes(node: Node, types: Types) -> str:
    """The type that TensorRT computes in: that between Q and DQ where both operands of a layer come from there."""
    result = types[node.outputs[0]].name if node.outputs else ""
    if node.op_type not in LAYERS:
        return result
    operands = [value.node for value in node.inputs[:2] if value is not None]
    if not all(operand.op_type == "DequantizeLinear" for operand in operands):
        return result
    return types[operands[0].input(0)].name


def _sizes(model: Model) -> dict[str, int]:
    distinct = {id(n.attrs["value"]): n.attrs["value"] for g in model.graphs for n in g if n.op_type == "Initializer"}
    sizes: Counter[str] = Counter()
    for item in distinct.values():
        sizes[item.dtype.name] += item.nbytes
    return dict(sorted(sizes.items()))
