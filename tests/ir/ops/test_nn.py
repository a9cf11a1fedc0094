"""Biases, softmax, cross entropies and grey-scale dilation against TensorFlow."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import FLOATS, arrays, check_operator, dtypes, shapes

from graphopt.ir import ops
from graphopt.ir.dimensions import symbol
from graphopt.ir.graph import Graph
from graphopt.ir.ops.inference import InferenceContext, InferenceError
from graphopt.ir.types import Shape, tensor_type

tensorflow = pytest.mark.tensorflow
FEW = settings(max_examples=20)
NAN_FREE = {"low": -5.0, "high": 5.0}


def infer(op: str, attrs: dict[str, Any], *inputs: Shape) -> list[Shape]:
    graph = Graph()
    sources = [graph.create_node("tf.Placeholder", types=(tensor_type("float32", item),)).output for item in inputs]
    operator = ops.find(op)
    assert operator is not None
    assert operator.shape is not None
    return list(operator.shape(InferenceContext(graph.create_node(op, sources, attrs))))


@tensorflow
@FEW
@given(st.data(), shapes(2, 5), dtypes(FLOATS, np.int32), st.sampled_from([b"NHWC", b"NCHW"]))
def test_bias(data: Any, shape: tuple[int, ...], dtype: Any, data_format: bytes) -> None:
    if data_format == b"NCHW" and (dtype.name == "int32" or 0 in shape):
        data_format = b"NHWC"
    axis = 1 if data_format == b"NCHW" else -1
    values, bias = data.draw(arrays(dtype, shape)), data.draw(arrays(dtype, (shape[axis],)))
    check_operator("BiasAdd", [values, bias], {"data_format": data_format})
    check_operator("BiasAddV1", [values, data.draw(arrays(dtype, (shape[-1],)))])


@tensorflow
@pytest.mark.parametrize(("shape", "depth"), [((2, 3), 2), ((3,), 3), ((2, 3, 4), 3)])
def test_a_bias_that_does_not_fit_is_refused(shape: tuple[int, ...], depth: int) -> None:
    assert check_operator("BiasAdd", [np.ones(shape, np.float32), np.ones(depth, np.float32)]) is None


def test_shapes_of_a_bias_complete_one_another() -> None:
    images = Shape((symbol("n"), None, 7))
    assert infer("tf.BiasAdd", {}, Shape((symbol("n"), 7, None)), Shape((5,))) == [Shape((symbol("n"), 7, 5))]
    assert infer("tf.BiasAdd", {"data_format": b"NCHW"}, images, Shape((5,))) == [Shape((symbol("n"), 5, 7))]
    with pytest.raises(InferenceError):
        infer("tf.BiasAdd", {}, images, Shape((8,)))


@tensorflow
@FEW
@given(arrays(dtypes(np.float32, np.float64), shapes(2, 4, zeros=False)), st.sampled_from([b"NHWC", b"NCHW"]))
def test_bias_gradient(gradients: Any, data_format: bytes) -> None:
    gradients = np.where(np.isfinite(gradients) & (np.abs(gradients) < 9), gradients, gradients.dtype.type(1))
    check_operator("BiasAddGrad", [gradients], {"data_format": data_format}, rtol=1e-4, atol=1e-4)


@tensorflow
@FEW
@given(arrays(dtypes(FLOATS), shapes(1, 4), **NAN_FREE), st.sampled_from(["Softmax", "LogSoftmax"]))
def test_softmax(logits: Any, op: str) -> None:
    tolerance = {np.dtype(np.float16): 4e-3, np.dtype(ml_dtypes.bfloat16): 4e-2}.get(logits.dtype)
    check_operator(op, [logits], rtol=tolerance, atol=tolerance)


@tensorflow
@FEW
@given(arrays(np.float32, (3, 4), edges=True))
def test_softmax_of_extremes(logits: Any) -> None:
    check_operator("LogSoftmax", [logits])
    finite = np.where(np.isfinite(logits), logits, np.float32(0))
    check_operator("Softmax", [finite])


@tensorflow
def test_softmax_of_a_scalar_is_refused() -> None:
    assert check_operator("Softmax", [np.float32(1)]) is None


@tensorflow
@FEW
@given(st.data(), dtypes(np.float32, np.float64), st.sampled_from([((3, 4), (3, 4)), ((3, 4), (1, 4)), ((4,), (3, 4)),
                                                                 ((3, 1), (3, 4)), ((0, 4), (0, 4))]))  # fmt: skip
def test_cross_entropy(data: Any, dtype: Any, sizes: Any) -> None:
    logits, labels = data.draw(arrays(dtype, sizes[0], -5, 5)), data.draw(arrays(dtype, sizes[1], 0, 1))
    check_operator("SoftmaxCrossEntropyWithLogits", [logits, labels], rtol=1e-4, atol=1e-5)


@tensorflow
@FEW
@given(st.data(), dtypes(np.float32, np.float64), dtypes(np.int32, np.int64), st.integers(1, 4))
def test_sparse_cross_entropy(data: Any, dtype: Any, kind: Any, batch: int) -> None:
    logits, labels = data.draw(arrays(dtype, (batch, 5), -5, 5)), data.draw(arrays(kind, (batch,), 0, 4))
    check_operator("SparseSoftmaxCrossEntropyWithLogits", [logits, labels], rtol=1e-4, atol=1e-5)


@tensorflow
@pytest.mark.parametrize("labels", [[0, 5], [-1, 0], [0], [[0, 1]]])
def test_labels_that_make_no_sense_are_refused(labels: Any) -> None:
    inputs = [np.ones((2, 5), np.float32), np.array(labels, np.int32)]
    assert check_operator("SparseSoftmaxCrossEntropyWithLogits", inputs) is None


@tensorflow
@FEW
@given(arrays(np.float32, (4, 5), edges=True), arrays(np.int32, (4,), -1, 6), st.integers(0, 6))
def test_in_top_k(predictions: Any, targets: Any, k: int) -> None:
    check_operator("InTopK", [predictions, targets], {"k": k})
    check_operator("InTopKV2", [predictions, targets, np.array(k, np.int32)])


@tensorflow
@FEW
@given(st.data(), dtypes(np.float32, np.float64, np.int32, np.uint8), st.sampled_from([b"SAME", b"VALID"]))
def test_dilation(data: Any, dtype: Any, padding: bytes) -> None:
    window = [data.draw(st.integers(1, 3)) for _ in range(2)]
    rates, strides = ([data.draw(st.integers(1, 3)) for _ in range(2)] for _ in range(2))
    low = [(width - 1) * rate + 1 if padding == b"VALID" else 1 for width, rate in zip(window, rates, strict=True)]
    sizes = [data.draw(st.integers(size, size + 4)) for size in low]
    images, filters = data.draw(arrays(dtype, (2, *sizes, 2), 0, 9)), data.draw(arrays(dtype, (*window, 2), 0, 9))
    attrs = {"strides": (1, *strides, 1), "rates": (1, *rates, 1), "padding": padding}
    check_operator("Dilation2D", [images, filters], attrs)
    if dtype == np.float32:
        check_operator("Dilation2DBackpropInput", [images, filters, np.zeros_like(images)], attrs,
                       evaluates=False, refusal=True)  # fmt: skip


@tensorflow
def test_dilation_that_does_not_fit_is_refused() -> None:
    attrs = {"strides": (1, 1, 1, 1), "rates": (1, 1, 1, 1), "padding": b"VALID"}
    images = np.ones((1, 4, 4, 2), np.float32)
    for filters in ((2, 2, 3), (6, 2, 2)):
        assert check_operator("Dilation2D", [images, np.ones(filters, np.float32)], attrs) is None


@tensorflow
def test_decoders_of_label_sequences() -> None:
    inputs, lengths = np.random.RandomState(0).uniform(-1, 1, (6, 2, 5)).astype(np.float32), np.array([6, 4], np.int32)
    check_operator("CTCGreedyDecoder", [inputs, lengths], evaluates=False, inferable=False)
    attrs = {"beam_width": 4, "top_paths": 2}
    check_operator("CTCBeamSearchDecoder", [inputs, lengths], attrs, evaluates=False, inferable=False)
    indices, labels = np.array([[0, 0], [0, 1], [1, 0]]), np.array([1, 2, 3], np.int32)
    check_operator("CTCLoss", [inputs, indices, labels, lengths], evaluates=False)
