"""Weights and biases as integers: quantized once for all nodes that read a constant the same way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from graphopt.ir.known import TFLITE_CONSTANT, known_array, known_tensor
from graphopt.ir.tensors import ArrayTensor, Tensor, pack
from graphopt.ir.types import Shape, TensorType
from graphopt.ir.value import Node, Value
from graphopt.passes.quantize.arithmetic import quantize, quantize_bias
from graphopt.passes.quantize.kernels import PER_TENSOR
from graphopt.passes.quantize.parameters import Parameters, fit_bias, weight_parameters
from graphopt.passes.quantize.schemes import Scheme

Array = np.ndarray[Any, Any]
Rounding = Callable[[Array, Parameters], Array]
"""Integers for weights: to the nearest, or as a search found."""


class WeightSpec(NamedTuple):
    """How weights are to be stored: the scheme, the axis of channels (`PER_TENSOR` for none) and a block size, 0 for
    none."""

    scheme: Scheme
    axis: int
    block_size: int = 0


class WeightQuantizer:
    """Makes integer constants of one graph. `magnitudes` are clipping limits that a search found, by constant."""

    def __init__(self, magnitudes: Mapping[Node, Array] | None = None, rounding: Rounding = quantize):
        self._made: dict[Any, tuple[Value, Parameters]] = {}
        self._magnitudes = magnitudes or {}
        self._rounding = rounding

    def weights(
        self, value: Value, spec: WeightSpec, inputs: Parameters | None = None, bias: Value | None = None
    ) -> tuple[Value, Parameters]:
        """A constant of integers for `value`. With `inputs` and `bias`, scales are such that the bias fits int32.

        Raises `UsageError` for weights with NaN or Inf.
        """
        array = known_array(value)
        assert array is not None
        axis = None if spec.axis == PER_TENSOR else spec.axis
        parameters = weight_parameters(
            array, spec.scheme, axis=axis, block_size=spec.block_size, magnitude=self._magnitudes.get(value.node)
        )
        held = None if bias is None else known_array(bias)
        if inputs is not None and held is not None and inputs.scheme.dtype.bits == 8:
            parameters = fit_bias(parameters, inputs, held)
        key = (known_tensor(value), spec, parameters.scale.tobytes())
        if key not in self._made:
            self._made[key] = integer_constant(value, self._rounding(array, parameters), parameters), parameters
        return self._made[key]

    def bias(self, value: Value, inputs: Parameters, weights: Parameters) -> Value:
        """A constant of int32 (int64 with int16 inputs) for the bias of one node."""
        array = known_array(value)
        assert array is not None
        codes, parameters = quantize_bias(array, inputs, weights)
        key = (known_tensor(value), "bias", parameters.scale.tobytes())
        if key not in self._made:
            self._made[key] = integer_constant(value, codes, parameters), parameters
        return self._made[key][0]


def integer_constant(value: Value, codes: Array, parameters: Parameters) -> Value:
    """A constant beside that of `value`, of the same name where nothing else is called so."""
    source = value.node
    graph = source.graph
    assert graph is not None
    dtype = parameters.scheme.dtype
    held: Tensor = pack(codes, dtype) if dtype.bits < 8 else ArrayTensor(codes, dtype)
    node = graph.create_node(
        TFLITE_CONSTANT,
        attrs={"value": held},
        name=f"{source.name}/{dtype.name}",
        types=(TensorType(dtype, Shape(held.shape), None if parameters.block_size else parameters.quantization),),
        before=source,
        origins=source.source_names,
    )
    return node.output
