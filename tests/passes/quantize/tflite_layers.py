"""Small TFLite models in text form, and quantizing them with given ranges."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from graphopt.ir.model import Model
from graphopt.ir.text import parse_model
from graphopt.ir.types import Quantization
from graphopt.ir.verifier import verify
from graphopt.passes.quantize.plan import Plan
from graphopt.passes.quantize.quantize import quantize_model
from graphopt.passes.quantize.recipe import Recipe, preset
from graphopt.passes.quantize.statistics import Statistics, TensorKey

Ranges = dict[str, tuple[float, float]]
NONE = 'fused_activation_function = b"NONE"'
FC = (
    'weights_format = b"DEFAULT", keep_num_dims = false, asymmetric_quantize_inputs = false, '
    'fused_activation_function = b"NONE"'
)


def build(body: str, outputs: str = "%y", inputs: str = "%x: float32[2, 4]") -> Model:
    names = [item.partition(":")[0].strip() for item in inputs.split(", %")]
    sources = "\n".join(
        f"%{name.lstrip('%')} = tfl.INPUT() : {item.partition(':')[2].strip()}"
        for name, item in zip(names, inputs.split(", %"), strict=True)
    )
    model = parse_model(f"graph @main({inputs}) -> ({outputs}) {{\n{sources}\n{body}\n}}")
    model.format = "tflite"
    graph = model.graph
    model.set_signature({v.name: v for v in graph.inputs}, {v.name: v for v in graph.outputs})
    return model


def statistics(ranges: Ranges) -> Statistics:
    found = Statistics()
    found.begin_sample(0)
    for name, ends in ranges.items():
        found.observe(TensorKey("", f"{name}:0"), np.array(ends, np.float32))
    return found


def run(
    model: Model, recipe: Recipe | str = "int8", ranges: Ranges | None = None, supports: Any = lambda *types: None
) -> Plan:
    chosen = preset(recipe) if isinstance(recipe, str) else recipe
    plan = quantize_model(model, chosen, None if ranges is None else statistics(ranges), supports)
    verify(model)
    return plan


def operators(model: Model) -> dict[str, int]:
    return dict(Counter(node.op_type for node in model.graph if node.op_type not in ("INPUT", "CONSTANT")))


def quantization(model: Model, name: str) -> Quantization:
    found = model.graph.node(name).output.type.quantization
    assert found is not None
    return found


WEIGHTS = "float32[3, 4] [[1.0, 0.5, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]"
DENSE = f"""
%w = tfl.CONSTANT() {{value = {WEIGHTS}}} : float32[3, 4]
%b = tfl.CONSTANT() {{value = float32[3] [1.0, -1.0, 0.0]}} : float32[3]
%y = tfl.FULLY_CONNECTED(%x, %w, %b) {{{FC}}} : float32[2, 3]
"""
