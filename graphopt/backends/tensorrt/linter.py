"""The dialect linter: what of an ONNX model TensorRT would refuse, found without the package."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from graphopt.backends.base import Finding
from graphopt.backends.tensorrt.capabilities import (
    BESIDE_STORED,
    CONSTANTS,
    FIRST,
    MOST_K,
    OPERATORS,
    OWN_TYPES,
    PLUGINS,
    REFUSED,
    STORED,
    WIDER,
)
from graphopt.backends.tensorrt.element_types import Types, element_types
from graphopt.backends.tensorrt.profiles import dynamic_inputs
from graphopt.ir.known import known_array, known_tensor
from graphopt.ir.model import Model
from graphopt.ir.types import UNKNOWN_DTYPE
from graphopt.ir.value import Node, Value

_PARTS = ("Input", "Initializer")
Reason = tuple[str, str]


def findings_of(model: Model, profiled: Collection[str] = ()) -> list[Finding]:
    """A finding for each node that TensorRT refuses, in the order of the graph; `profiled` inputs have a profile."""
    types = element_types(model)
    found = []
    for graph in model.graphs:
        for node in graph:
            reason = _input_reason(node, profiled, model) if node.op_type == "Input" else _reason(node, types)
            if reason is not None:
                found.append(Finding(node.name, node.op, node.source_names, *reason, graph.name))
    return found


def _input_reason(node: Node, profiled: Collection[str], model: Model) -> Reason | None:
    value = node.output
    if not value.is_input or node.graph is not model.graph:
        return None
    stored = value.dtype.name in STORED
    if value.dtype.name not in OWN_TYPES and not stored and value.dtype is not UNKNOWN_DTYPE:
        return f"TensorRT has no inputs of {value.dtype.name}", WIDER.get(value.dtype, "cast outside the model")
    if value.shape.dims is None:
        return "the rank of this input is not known", "give the inputs shapes (set-shapes)"
    if value in dynamic_inputs(model) and value.name not in profiled:
        ends = ",".join("x".join(str(d) if isinstance(d, int) else n for d in value.shape.dims) for n in "148")
        return (
            f"the input has the shape {value.shape} and no profile",
            f"give it one: --profile {value.name}={ends}",
        )
    return None


def _reason(node: Node, types: Types) -> Reason | None:
    if node.op_type in _PARTS or node.op in PLUGINS:
        return None
    if node.dialect != "onnx":
        return "TensorRT has no such operator", "load a plugin that has it, or write it with other operators"
    kind = node.op_type
    if kind in REFUSED:
        return REFUSED[kind]
    taken = OPERATORS.get(kind)
    if taken is None:
        return "TensorRT has no such operator", "write it with other operators, or compute it outside the model"
    return _type_reason(node, taken, types) or _constant_reason(node) or _special_reason(node, types)


def _type_reason(node: Node, taken: Collection[str], types: Types) -> Reason | None:
    for value in (*node.inputs, *node.outputs):
        dtype = types.get(value, UNKNOWN_DTYPE) if value is not None else UNKNOWN_DTYPE
        if dtype is UNKNOWN_DTYPE or dtype.name in OWN_TYPES:
            continue
        if dtype.name not in STORED or node.op_type not in BESIDE_STORED:
            return f"it works on {dtype.name}, which TensorRT does not compute with", WIDER.get(dtype, "use float32")
    place = FIRST.get(node.op_type, 0)
    first = node.inputs[place] if node.input_count > place else None
    dtype = types.get(first, UNKNOWN_DTYPE) if first is not None else UNKNOWN_DTYPE
    if dtype is UNKNOWN_DTYPE or dtype.name in taken or dtype.name in STORED:
        return None
    return (
        f"TensorRT's operator takes {', '.join(sorted(taken))}, not {dtype.name}",
        "cast before and behind it",
    )


def _constant_reason(node: Node) -> Reason | None:
    for place, what in CONSTANTS.get(node.op_type, {}).items():
        if node.input_count <= place or (value := node.inputs[place]) is None:
            continue
        if known_tensor(value) is None:
            return f"{what}, '{value.name}', must be constant and is computed", "give the inputs shapes (set-shapes)"
    return None


def _special_reason(node: Node, types: Types) -> Reason | None:
    kind = node.op_type
    if kind == "TopK":
        count = known_array(node.input(1))
        if count is not None and int(count.reshape(-1)[0]) > MOST_K:
            return f"it takes {int(count.reshape(-1)[0])} elements, and TensorRT at most {MOST_K}", "take fewer"
    if kind == "MaxPool" and len(node.outputs) > 1 and node.outputs[1].use_count:
        return "it yields the places of the largest elements", "compute the places outside the model"
    if kind in ("QuantizeLinear", "DequantizeLinear") and node.input_count > 2 and _is_asymmetric(node.inputs[2]):
        return "its zero point is not zero", "quantize symmetrically"
    if kind in ("QuantizeLinear", "DequantizeLinear"):
        stored = node.output if kind == "QuantizeLinear" else node.input(0)
        dtype = types.get(stored, UNKNOWN_DTYPE)
        if dtype is not UNKNOWN_DTYPE and dtype.name not in STORED:
            return f"it quantizes to {dtype.name}", "quantize to int8, float8_e4m3fn or int4"
    if kind in ("Conv", "ConvTranspose") and node.input(0).shape.rank not in (None, 3, 4, 5):
        return f"it convolves {node.input(0).shape.rank} dimensions", "convolve images or volumes"
    return None


def _is_asymmetric(value: Value | None) -> bool:
    held = known_array(value)
    return held is not None and bool(np.asarray(held).astype(np.float32).any())
