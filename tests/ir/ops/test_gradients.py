"""Gradients of elementwise operators against TensorFlow; what is declared of training."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import FLOATS, arrays, check_operator, dtypes, shapes

from graphopt.ir import ops
from graphopt.ir.graph import Graph
from graphopt.ir.ops import Trait
from graphopt.ir.ops.inference import InferenceContext
from graphopt.ir.ops.tf_gradients import FROM_GRADIENT, FROM_OUTPUT
from graphopt.ir.tensors import tensor
from graphopt.ir.types import Shape, tensor_type

tensorflow = pytest.mark.tensorflow
COMPLEX_TOO = ("SigmoidGrad", "TanhGrad", "RsqrtGrad", "SqrtGrad", "InvGrad", "ReciprocalGrad")


@tensorflow
@settings(max_examples=10)
@given(st.data(), dtypes(FLOATS), shapes(0, 3))
@pytest.mark.parametrize("name", [*FROM_OUTPUT, *FROM_GRADIENT])
def test_elementwise(name: str, data: Any, dtype: Any, shape: tuple[int, ...]) -> None:
    left, right = (data.draw(arrays(dtype, shape, -4, 4)) for _ in range(2))
    tolerance = {np.dtype(np.float16): 2e-2, np.dtype(ml_dtypes.bfloat16): 1e-1}.get(dtype, 1e-4)
    check_operator(name, [left, right], rtol=tolerance, atol=tolerance * 10)


@tensorflow
@pytest.mark.parametrize("name", COMPLEX_TOO)
def test_complex(name: str) -> None:
    random = np.random.RandomState(3)
    left, right = ((random.uniform(0.5, 2, 6) + 1j * random.uniform(-1, 1, 6)).astype(np.complex64) for _ in range(2))
    check_operator(name, [left, right], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [*FROM_OUTPUT, *FROM_GRADIENT])
def test_shapes_that_differ_are_refused(name: str) -> None:
    operator = ops.find(f"tf.{name}")
    assert operator is not None
    assert operator.evaluate is not None
    with pytest.raises(ValueError, match="differ"):
        operator.evaluate({"alpha": 0.2}, np.ones((2, 3), np.float32), np.ones(3, np.float32))


def infer(op: str, inputs: list[Shape], outputs: int, attrs: dict[str, Any] | None = None) -> list[Shape]:
    graph = Graph()
    sources = [graph.create_node("tf.Placeholder", types=(tensor_type("float32", item),)).output for item in inputs]
    node = graph.create_node(op, sources, attrs or {}, types=(tensor_type("float32"),) * outputs)
    operator = ops.find(op)
    assert operator is not None
    assert operator.shape is not None
    return list(operator.shape(InferenceContext(node)))


@pytest.mark.parametrize("op", ["ApplyAdam", "ApplyGradientDescent", "SparseApplyFtrl", "ApplyMomentum"])
def test_an_optimiser_gives_back_its_variable(op: str) -> None:
    assert infer(f"tf.{op}", [Shape((3, 4)), Shape((3, 4))], 1) == [Shape((3, 4))]
    assert ops.traits_of(f"tf.{op}") & (Trait.TRAINING | Trait.STATEFUL) == Trait.TRAINING | Trait.STATEFUL


@pytest.mark.parametrize("op", ["ResourceApplyAdam", "ResourceApplyKerasMomentum", "ResourceSparseApplyFtrl", "SaveV2"])
def test_effects_without_output(op: str) -> None:
    assert infer(f"tf.{op}", [Shape(()), Shape(())], 0) == []
    assert ops.traits_of(f"tf.{op}") & (Trait.TRAINING | Trait.STATEFUL) == Trait.TRAINING | Trait.STATEFUL


@tensorflow
def test_gradients_of_padding_and_tiling() -> None:
    paddings = np.array([[1, 2], [0, 1]], np.int32)
    check_operator("MirrorPadGrad", [np.ones((8, 5), np.float32), paddings], {"mode": b"REFLECT"}, evaluates=False)
    graph = Graph()
    tiles = graph.create_node("tf.Placeholder", types=(tensor_type("float32", [6, None]),)).output
    many = {"value": tensor(np.array([2, 3], np.int32))}
    multiples = graph.create_node("tf.Const", attrs=many, types=(tensor_type("int32", [2]),)).output
    node = graph.create_node("tf.TileGrad", [tiles, multiples], types=(tensor_type("float32"),))
    operator = ops.find(node.op)
    assert operator is not None
    assert operator.shape is not None
    assert list(operator.shape(InferenceContext(node))) == [Shape((3, None))]


@tensorflow
def test_summaries_and_samplers() -> None:
    check_operator("ScalarSummary", [np.array(b"loss", object), np.float32(1)], evaluates=False)
    check_operator("HistogramSummary", [np.array(b"w", object), np.ones(3, np.float32)], evaluates=False)
    check_operator("MergeSummary", [np.array(b"", object)], evaluates=False)
    assert not ops.traits_of("tf.ScalarSummary") & Trait.STATEFUL
    attrs = {"num_true": 2, "num_sampled": 5, "unique": True, "range_max": 50}
    check_operator("LogUniformCandidateSampler", [np.zeros((3, 2), np.int64)], attrs, evaluates=False)
    assert ops.traits_of("tf.LogUniformCandidateSampler") & Trait.RANDOM


def test_gradients_are_training_and_transposed_convolutions_are_not() -> None:
    for op in ("ReluGrad", "MaxPoolGrad", "Conv2DBackpropFilter", "FusedBatchNormGradV3", "BiasAddGrad"):
        assert ops.traits_of(f"tf.{op}") & Trait.TRAINING
    assert not ops.traits_of("tf.Conv2DBackpropInput") & Trait.TRAINING
