"""Weights and biases as integers: quantized once for all nodes that read a constant the same way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from graphopt.ir.errors import UsageError, printable
from graphopt.ir.known import TFLITE_CONSTANT, known_array, known_tensor
from graphopt.ir.tensors import ArrayTensor, FileTensor, Tensor, pack
from graphopt.ir.types import FLOAT16, DType, Shape, TensorType
from graphopt.ir.value import Node, Value
from graphopt.passes.quantize.arithmetic import quantize, quantize_bias
from graphopt.passes.quantize.clipping import clipped_magnitudes
from graphopt.passes.quantize.kernels import PER_TENSOR
from graphopt.passes.quantize.parameters import Parameters, fit_bias, weight_parameters
from graphopt.passes.quantize.schemes import Scheme

Array = np.ndarray[Any, Any]
Rounding = Callable[[Array, Parameters], Array]
"""Integers for weights: to the nearest, or as a search found."""
_LEAST_HALF, _MOST_HALF = 2.0**-14, 65504.0


class WeightSpec(NamedTuple):
    """How weights are to be stored: the scheme, the axis of channels (`PER_TENSOR` for none), a block size, 0 for none,
    and whether to clip them where that makes the squared error least."""

    scheme: Scheme
    axis: int
    block_size: int = 0
    clip: bool = False


class WeightQuantizer:
    """Makes integer constants of one graph. `magnitudes` are clipping limits that a search found, by constant.

    Graphs that hold the same weights get the same integers where they share `tensors`.
    """

    def __init__(
        self,
        magnitudes: Mapping[Node, Array] | None = None,
        rounding: Rounding = quantize,
        tensors: dict[Any, Tensor] | None = None,
    ):
        self._made: dict[Any, tuple[Value, Parameters]] = {}
        self._tensors = {} if tensors is None else tensors
        self._magnitudes = magnitudes or {}
        self._rounding = rounding

    def weights(
        self, value: Value, spec: WeightSpec, inputs: Parameters | None = None, bias: Value | None = None
    ) -> tuple[Value, Parameters]:
        """A constant of integers for `value`. With `inputs` and `bias`, scales are such that the bias fits int32.

        Raises `UsageError`, with the name of the constant, for weights with NaN or Inf.
        """
        array = known_array(value)
        assert array is not None
        if not np.isfinite(array.min(initial=0.0) + array.max(initial=0.0)):
            raise UsageError(f"'{printable(value.name)}' has NaN or Inf among its weights: they cannot be quantized")
        axis = None if spec.axis == PER_TENSOR else spec.axis
        limits = self._magnitudes.get(value.node)
        if limits is None and spec.clip:
            limits = clipped_magnitudes(array, spec.scheme, axis=axis, block_size=spec.block_size)
        parameters = weight_parameters(array, spec.scheme, axis=axis, block_size=spec.block_size, magnitude=limits)
        if spec.block_size:
            parameters = parameters._replace(scale=half_scales(parameters.scale))
        held = None if bias is None else known_array(bias)
        if inputs is not None and held is not None and inputs.scheme.dtype.bits == 8:
            parameters = fit_bias(parameters, inputs, held)
        key = (known_tensor(value), spec, parameters.scale.tobytes())
        if key not in self._made:
            shared = (_stored_where(known_tensor(value)), *key[1:])
            codes = self._tensors.get(shared)
            made = integer_constant(value, self._rounding(array, parameters) if codes is None else codes, parameters)
            self._tensors[shared] = made.node.attrs["value"]
            self._made[key] = made, parameters
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


def _stored_where(held: Tensor | None) -> Any:
    """What tells contents apart: a place in a file where there is one."""
    if not isinstance(held, FileTensor):
        return held
    return held.mapping, held.offset, held.dtype, held.shape


def half_scales(scale: Array) -> Array:
    """The least scales of half precision that are not below these, float32; at least its smallest normal number."""
    found = np.clip(scale, _LEAST_HALF, _MOST_HALF).astype(np.float16)
    up = np.nextafter(found, np.float16(_MOST_HALF))
    return np.where(found.astype(np.float32) < np.minimum(scale, _MOST_HALF), up, found).astype(np.float32)


def integer_constant(value: Value, codes: Array | Tensor, parameters: Parameters) -> Value:
    """A constant beside that of `value`, of its name where nothing else is called so; `codes` may be held already."""
    source = value.node
    graph = source.graph
    assert graph is not None
    dtype = parameters.scheme.dtype
    held = _held(codes, dtype) if isinstance(codes, np.ndarray) else codes
    blocks = _scales_of_blocks(value, parameters)
    node = graph.create_node(
        TFLITE_CONSTANT,
        blocks,
        attrs={"value": held, "block_size": parameters.block_size} if blocks else {"value": held},
        name=f"{source.name}/{dtype.name}",
        types=(TensorType(dtype, Shape(held.shape), None if parameters.block_size else parameters.quantization),),
        before=source,
        origins=source.source_names,
    )
    return node.output


def _held(codes: Array, dtype: DType) -> Tensor:
    return pack(codes, dtype) if dtype.bits < 8 else ArrayTensor(codes, dtype)


def _scales_of_blocks(value: Value, parameters: Parameters) -> tuple[Value, ...]:
    """A constant of the scales in half precision, as kernels for blocks read them; none without blocks."""
    if not parameters.block_size:
        return ()
    source = value.node
    assert source.graph is not None
    held = ArrayTensor(parameters.scale.astype(np.float16), FLOAT16)
    node = source.graph.create_node(
        TFLITE_CONSTANT, attrs={"value": held}, name=f"{source.name}/scales",
        types=(TensorType(FLOAT16, Shape(held.shape)),), before=source, origins=source.source_names,
    )  # fmt: skip
    return (node.output,)
