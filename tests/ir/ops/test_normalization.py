"""Batch norms and local response normalization against TensorFlow."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import check_operator

from graphopt.ir import ops
from graphopt.ir.dimensions import symbol
from graphopt.ir.graph import Graph
from graphopt.ir.ops.inference import InferenceContext, InferenceError
from graphopt.ir.types import DTYPES, UNKNOWN_SHAPE, Shape, tensor_type

tensorflow = pytest.mark.tensorflow
FEW = settings(max_examples=15)
FLOAT32 = DTYPES["float32"]


def values(seed: int, *shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return np.random.RandomState(seed).uniform(-3, 3, shape).astype(dtype)


def norm_inputs(seed: int, shape: tuple[int, ...], channel: int = -1, dtype: Any = np.float32) -> list[Any]:
    depth = shape[channel]
    vectors = [values(seed + place, depth) for place in range(1, 4)]
    return [values(seed, *shape, dtype=dtype), *vectors, np.abs(values(seed + 4, depth)) + np.float32(0.1)]


def check_norm(op: str, inputs: list[Any], attrs: dict[str, Any], **tolerance: float) -> None:
    """All outputs but the last of `V3`, a workspace whose shape differs between kernels.

    Without training the saved moments are unused too, and some kernels leave them unset.
    """
    complete = {"T": oracle.dtype_of(inputs[0]), **({} if op == "FusedBatchNorm" else {"U": FLOAT32}), **attrs}
    declared = oracle.interface(op)
    assert declared is not None
    expected = oracle.run_tensorflow(declared, inputs, complete)
    assert not isinstance(expected, Exception), expected
    actual = oracle.evaluate(op, inputs, complete)
    assert len(actual) == len(expected)
    for index in range(5 if complete.get("is_training", True) else 3):
        oracle.assert_same(actual[index], expected[index], place=f"{op} output {index}", **tolerance)
    shapes = oracle.infer(op, inputs, complete, [None] * 5)
    assert [shape.static for shape in shapes[:5]] == [item.shape for item in expected[:5]]


@tensorflow
@FEW
@given(
    st.sampled_from(["FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"]),
    st.integers(0, 99),
    st.booleans(),
    st.sampled_from([(2, 3, 4, 5), (1, 1, 2, 3), (3, 2, 2, 1)]),
    st.sampled_from([1.0, 0.3]),
)
def test_fused_batch_norm(op: str, seed: int, training: bool, shape: tuple[int, ...], share: float) -> None:
    attrs = {"is_training": training, "epsilon": 0.01, "exponential_avg_factor": share if training else 1.0}
    check_norm(op, norm_inputs(seed, shape), attrs, rtol=1e-4, atol=1e-4)


@tensorflow
@pytest.mark.parametrize("training", [True, False])
def test_volumes_16_bit_floats_and_channels_first(training: bool) -> None:
    attrs = {"is_training": training}
    volume = norm_inputs(1, (2, 3, 2, 2, 4))
    check_norm("FusedBatchNormV3", volume, {**attrs, "data_format": b"NDHWC"}, rtol=1e-4, atol=1e-4)
    for dtype, tolerance in ((np.float16, 1e-2), (ml_dtypes.bfloat16, 5e-2)):
        images = norm_inputs(2, (2, 3, 4, 5), dtype=dtype)
        check_norm("FusedBatchNormV3", images, attrs, rtol=tolerance, atol=tolerance)
    last = norm_inputs(3, (2, 3, 4, 5))
    expected = oracle.evaluate("FusedBatchNormV3", last, attrs)
    first = oracle.evaluate(
        "FusedBatchNormV3", [np.moveaxis(last[0], -1, 1), *last[1:]], {**attrs, "data_format": b"NCHW"}
    )
    oracle.assert_same(np.moveaxis(first[0], 1, -1), expected[0], rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(first[1:], expected[1:], strict=True):
        oracle.assert_same(ours, theirs, rtol=1e-4, atol=1e-5)


@tensorflow
def test_training_without_a_moving_average() -> None:
    images, scale, offset, *_ = norm_inputs(1, (2, 3, 4, 5))
    empty = np.zeros(0, np.float32)
    check_norm("FusedBatchNormV3", [images, scale, offset, empty, empty], {"is_training": True}, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="moving average"):
        oracle.evaluate("FusedBatchNormV3", [images, scale, offset, empty, empty], {"exponential_avg_factor": 0.5})


@tensorflow
@pytest.mark.parametrize("place", [1, 2, 3, 4])
def test_vectors_that_do_not_fit_are_refused(place: int) -> None:
    inputs = norm_inputs(1, (2, 3, 4, 5))
    inputs[place] = values(0, 4)
    check_operator("FusedBatchNormV3", inputs, {"is_training": False, "U": FLOAT32})


def infer(op: str, attrs: dict[str, Any], *inputs: Shape, outputs: int = 6) -> list[Shape]:
    graph = Graph()
    sources = [graph.create_node("tf.Placeholder", types=(tensor_type("float32", item),)).output for item in inputs]
    node = graph.create_node(op, sources, attrs, types=(tensor_type("float32"),) * outputs)
    operator = ops.find(op)
    assert operator is not None
    assert operator.shape is not None
    return list(operator.shape(InferenceContext(node)))


def test_shapes_complete_one_another() -> None:
    vector = Shape((8,))
    images = Shape((symbol("n"), None, 7, None))
    result = infer("tf.FusedBatchNormV3", {}, images, *[UNKNOWN_SHAPE] * 2, vector, UNKNOWN_SHAPE)
    assert result == [Shape((symbol("n"), None, 7, 8)), *[vector] * 4, UNKNOWN_SHAPE]
    gradients = infer("tf.FusedBatchNormGradV3", {}, UNKNOWN_SHAPE, images, vector, *[UNKNOWN_SHAPE] * 3, outputs=5)
    assert gradients == [images, vector, vector, UNKNOWN_SHAPE, UNKNOWN_SHAPE]
    with pytest.raises(InferenceError):
        infer("tf.FusedBatchNormV3", {}, Shape((1, 2, 3)), *[vector] * 4)
    with pytest.raises(InferenceError):
        infer("tf.FusedBatchNormV3", {}, Shape((1, 2, 3, 9)), *[vector] * 4)


@pytest.mark.parametrize("scaled", [True, False])
def test_global_normalization(scaled: bool) -> None:  # removed from TensorFlow: the formula of its documentation
    images, scale, offset, mean, variance = norm_inputs(1, (2, 3, 4, 5))
    attrs = {"variance_epsilon": 0.01, "scale_after_normalization": scaled}
    result = oracle.evaluate("BatchNormWithGlobalNormalization", [images, mean, variance, offset, scale], attrs)[0]
    expected = (images - mean) / np.sqrt(variance + 0.01) * (scale if scaled else 1) + offset
    oracle.assert_same(result, expected.astype(np.float32), rtol=1e-4, atol=1e-5)


@tensorflow
@FEW
@given(st.integers(0, 99), st.integers(0, 4), st.integers(1, 9), st.sampled_from([0.5, 0.75, 1.0]))
def test_local_response(seed: int, radius: int, depth: int, power: float) -> None:
    attrs = {"depth_radius": radius, "alpha": 0.3, "beta": power, "bias": 1.5}
    check_operator("LRN", [values(seed, 2, 3, 2, depth)], attrs, rtol=1e-4, atol=1e-5)
    check_operator("LRN", [values(seed, 2, 3, 2, depth, dtype=np.float16)], attrs, rtol=1e-2, atol=1e-2)


@tensorflow
def test_gradient_shapes() -> None:
    images, scale, *_ = norm_inputs(1, (2, 3, 4, 5))
    inputs = [images, images, scale, scale, scale]
    check_operator("FusedBatchNormGrad", inputs, {}, evaluates=False, inferable=False)
    check_operator("LRNGrad", [images, images, images], {}, evaluates=False)
