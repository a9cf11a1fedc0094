"""Our arithmetic of quantization against LiteRT's own kernels, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir.formats.tflite import tflite_bytes
from graphopt.ir.model import Model
from graphopt.ir.tensors import tensor
from graphopt.ir.types import FLOAT32, INT8, Quantization, Shape, TensorType
from graphopt.passes.quantize.arithmetic import dequantize, quantize, quantize_bias
from graphopt.passes.quantize.parameters import Parameters, activation_parameters, weight_parameters
from graphopt.passes.quantize.schemes import (
    INT8_ACTIVATION,
    INT8_WEIGHT,
    INT16_ACTIVATION,
    UINT8_ACTIVATION,
    Scheme,
)
from graphopt.runtimes.litert import LiteRTRuntime, import_interpreter

COUNT = 4096
RANGES = [(-1.0, 1.0), (0.0, 6.0), (-3.7, 0.2), (-1e-3, 2e-3), (-500.0, 123.0)]


def typed(parameters: Parameters, shape: tuple[int, ...]) -> TensorType:
    return TensorType(parameters.dtype, Shape(shape), parameters.quantization)


def signed(model: Model) -> Model:
    graph = model.graph
    model.set_signature({"x": graph.inputs[0]}, dict(zip("yz", graph.outputs, strict=False)))
    return model


def reference_kernels(model: Model, array: np.ndarray) -> list[np.ndarray]:
    """The outputs that LiteRT's second set of kernels gives."""
    module = import_interpreter()
    kind = module.OpResolverType.BUILTIN_REF
    interpreter = module.Interpreter(model_content=tflite_bytes(model), experimental_op_resolver_type=kind)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], array)
    interpreter.invoke()
    return [interpreter.get_tensor(item["index"]) for item in interpreter.get_output_details()]


@pytest.mark.parametrize("ends", RANGES)
@pytest.mark.parametrize("scheme", [INT8_ACTIVATION, UINT8_ACTIVATION, INT16_ACTIVATION])
def test_quantize_and_dequantize(ends: tuple[float, float], scheme: Scheme) -> None:
    parameters = activation_parameters(*ends, scheme)
    model = Model()
    graph = model.graph
    kind = TensorType(FLOAT32, Shape((COUNT,)))
    x = graph.create_node("tfl.INPUT", name="x", types=(kind,))
    codes = graph.create_node("tfl.QUANTIZE", [x.output], name="codes", types=(typed(parameters, (COUNT,)),))
    back = graph.create_node("tfl.DEQUANTIZE", [codes.output], name="back", types=(kind,))
    graph.inputs, graph.outputs = [x.output], [codes.output, back.output]
    middle, width = sum(ends) / 2, ends[1] - ends[0]
    array = np.random.default_rng(0).uniform(middle - 0.6 * width, middle + 0.6 * width, COUNT).astype(np.float32)
    array[:600] = (np.arange(600) - 300 + np.float32(0.5)) * parameters.scale[0]  # halves, or close to them
    expected = quantize(array, parameters)
    found = reference_kernels(signed(model), array)
    assert (found[0] == expected).all()
    assert (found[1] == dequantize(expected, parameters)).all()
    fast = LiteRTRuntime().run(model, {"x": array})["y"]
    assert (np.abs(fast.astype(int) - expected) <= 1).all()


def test_a_fully_connected_layer_of_our_integers_is_what_litert_makes_of_them() -> None:
    """Weights for each channel, one of them zero, and a bias: within one step of the exact result."""
    generator = np.random.default_rng(1)
    weights = generator.normal(size=(5, 16)).astype(np.float32) * np.float32([[1], [0.01], [3], [0], [0.5]])
    bias = generator.normal(size=5).astype(np.float32)
    array = generator.uniform(-1, 1, (1, 16)).astype(np.float32)
    exact = array @ weights.T + bias
    inputs = activation_parameters(-1, 1, INT8_ACTIVATION)
    outputs = activation_parameters(float(exact.min()) - 0.1, float(exact.max()) + 0.1, INT8_ACTIVATION)
    scales = weight_parameters(weights, INT8_WEIGHT, axis=0)
    codes, bias_scales = quantize_bias(bias, inputs, scales)
    model = Model()
    graph = model.graph
    x = graph.create_node("tfl.INPUT", name="x", types=(typed(inputs, (1, 16)),))
    operands = [x.output]
    for name, held, kind in (
        ("w", quantize(weights, scales), typed(scales, (5, 16))),
        ("b", codes, typed(bias_scales, (5,))),
    ):
        operands.append(graph.create_node("tfl.CONSTANT", [], {"value": tensor(held)}, name=name, types=(kind,)).output)
    attrs = {"_version": 12}
    y = graph.create_node("tfl.FULLY_CONNECTED", operands, attrs, name="y", types=(typed(outputs, (1, 5)),))
    graph.inputs, graph.outputs = [x.output], [y.output]
    given = quantize(array, inputs)
    found = LiteRTRuntime().run(signed(model), {"x": given})["y"]
    ours = dequantize(given, inputs) @ dequantize(quantize(weights, scales), scales).T + dequantize(codes, bias_scales)
    assert found.dtype == INT8.numpy
    assert (np.abs(dequantize(found, outputs) - ours) <= outputs.scale * 0.51).all()
    assert (np.abs(ours - exact) < 0.1).all()


def test_quantization_of_a_type_is_that_of_the_parameters() -> None:
    parameters = activation_parameters(0, 2.55, INT8_ACTIVATION)
    assert typed(parameters, (1,)).quantization == Quantization((float(parameters.scale[0]),), (-128,))
