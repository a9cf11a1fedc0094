"""Fused operators against TensorFlow's own, and against the operators they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import pytest
from oracle import check_operator

from graphopt.ir import ops
from graphopt.ir.graph import Graph
from graphopt.ir.ops import Trait
from graphopt.ir.ops.inference import InferenceContext
from graphopt.ir.types import UNKNOWN_SHAPE, Shape, tensor_type

tensorflow = pytest.mark.tensorflow
SLIDE = {"strides": (1, 1, 1, 1), "padding": b"SAME"}
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


def values(seed: int, *shape: int) -> np.ndarray[Any, Any]:
    return np.random.RandomState(seed).uniform(-2, 2, shape).astype(np.float32)


@tensorflow
@pytest.mark.parametrize("activation", [None, b"Relu", b"Relu6", b"Elu", b"LeakyRelu"])
def test_convolution_with_bias(activation: bytes | None) -> None:
    fused = (b"BiasAdd",) if activation is None else (b"BiasAdd", activation)
    attrs = {**SLIDE, "fused_ops": fused, "num_args": 1, "num_host_args": 0, "leakyrelu_alpha": 0.3}
    check_operator("_FusedConv2D", [values(0, 2, 6, 5, 4), values(1, 3, 2, 4, 5), values(2, 5)], attrs, **TOLERANCE)
    attrs = {name: value for name, value in attrs.items() if name != "num_host_args"}
    if activation != b"LeakyRelu":
        inputs = [values(0, 2, 6, 5, 4), values(1, 3, 2, 4, 1), values(2, 4)]
        check_operator("_FusedDepthwiseConv2dNative", inputs, attrs, **TOLERANCE)
    product = {"transpose_b": True, **{name: attrs[name] for name in ("fused_ops", "num_args", "leakyrelu_alpha")}}
    check_operator("_FusedMatMul", [values(0, 3, 4), values(1, 5, 4), values(2, 5)], product, **TOLERANCE)


@tensorflow
def test_convolution_with_batch_norm() -> None:
    vectors = [values(2, 5), values(3, 5), values(4, 5), np.abs(values(5, 5)) + np.float32(0.1)]
    attrs = {**SLIDE, "fused_ops": (b"FusedBatchNorm", b"Relu"), "num_args": 4, "num_host_args": 0, "epsilon": 0.01}
    check_operator("_FusedConv2D", [values(0, 2, 6, 5, 4), values(1, 3, 2, 4, 5), *vectors], attrs, **TOLERANCE)


@tensorflow
def test_product_with_gelu() -> None:
    attrs = {"fused_ops": (b"BiasAdd", b"GeluApproximate"), "num_args": 1}
    check_operator("_FusedMatMul", [values(0, 3, 4), values(1, 4, 5), values(2, 5)], attrs, **TOLERANCE)


def test_batch_norm_with_side_input() -> None:
    images, side = values(0, 2, 3, 4, 5), values(1, 2, 3, 4, 5)
    vectors = [values(2, 5), values(3, 5), values(4, 5), np.abs(values(5, 5)) + np.float32(0.1)]
    attrs = {"is_training": False, "num_side_inputs": 1, "activation_mode": b"Relu"}
    result = oracle.evaluate("_FusedBatchNormEx", [images, *vectors, side], attrs)
    plain = oracle.evaluate("FusedBatchNormV3", [images, *vectors], {"is_training": False})
    assert len(result) == 6
    oracle.assert_same(result[0], np.maximum(plain[0] + side, 0), **TOLERANCE)


@tensorflow
@pytest.mark.parametrize("mode", [b"REFLECT", b"SYMMETRIC"])
def test_padded_and_resized_convolution(mode: bytes) -> None:  # one image: TensorFlow spoils the others of a batch
    images, filters = values(0, 1, 6, 5, 4), values(1, 3, 2, 4, 5)
    paddings = np.array([[0, 0], [1, 2], [2, 1], [0, 0]], np.int32)
    check_operator("FusedPadConv2D", [images, paddings, filters], {**SLIDE, "mode": mode}, **TOLERANCE)
    size = np.array([7, 4], np.int32)
    attrs = {**SLIDE, "mode": mode, "resize_align_corners": True}
    check_operator("FusedResizeAndPadConv2D", [images, size, paddings, filters], attrs, **TOLERANCE)
    with pytest.raises(ValueError, match="exceed"):
        oracle.evaluate("FusedPadConv2D", [images, paddings * 4, filters], {**SLIDE, "mode": mode})


def test_what_is_not_known_is_refused() -> None:
    inputs = [values(0, 2, 6, 5, 4), values(1, 3, 2, 4, 5)]
    for fused, arguments in (((b"Conv2D",), []), ((b"NoSuch",), []), ((b"BiasAdd",), []), ((), [values(2, 5)])):
        with pytest.raises(ValueError, match=r"\w"):
            oracle.evaluate("_FusedConv2D", [*inputs, *arguments], {**SLIDE, "fused_ops": fused})


def test_forms_of_one_dnn_are_shaped_like_what_they_stand_for() -> None:
    graph = Graph()
    images, filters = (
        graph.create_node("tf.Placeholder", types=(tensor_type("float32", shape),)).output
        for shape in ((None, 8, 8, 3), (3, 3, 3, 4))
    )
    for op, extra in (("tf._MklNativeConv2D", 0), ("tf._MklConv2D", 3)):
        types = (tensor_type("float32"),) * (1 + extra)
        node = graph.create_node(op, [images, filters], {**SLIDE, "padding": b"VALID"}, types=types)
        operator = ops.find(op)
        assert operator is not None
        assert operator.shape is not None
        found = list(operator.shape(InferenceContext(node)))
        assert found == [Shape((None, 6, 6, 4)), *[UNKNOWN_SHAPE] * extra]
    assert ops.traits_of("tf._MklNativeMaxPoolGrad") & Trait.TRAINING
