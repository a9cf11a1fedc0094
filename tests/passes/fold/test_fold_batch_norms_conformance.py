"""fold-batch-norms on the cases of TensorFlow's Graph Transform Tool and optimize_for_inference."""

from __future__ import annotations

import numpy as np
import pytest
from batch_norm_nets import CONV, Net

from graphopt.ir.types import dtype_named

pytestmark = pytest.mark.tensorflow

W8 = np.float32([1, 2, 3, 4, 0.1, 0.2, 0.3, 0.4])
BN2 = {"mean": [10, 20], "variance": [0.25, 0.5], "beta": [0.1, 0.6], "gamma": [1, 2]}
BN4 = {
    "mean": [10, 20, 30, 40],
    "variance": [0.25, 0.5, 0.75, 1],
    "beta": [0.1, 0.6, 1.1, 1.6],
    "gamma": [1, 2, 3, 4],
}
VALID = {"strides": (1, 1, 1, 1), "padding": b"VALID"}


@pytest.mark.parametrize("operator", ["Conv2D", "DepthwiseConv2dNative", "MatMul"])
def test_multiplication_after_weights(operator: str) -> None:
    net = Net()
    if operator == "MatMul":
        y = net(operator, net.input(6, 2), net.constant([[1, 2], [0.3, 0.4]]))
    else:
        y = net(operator, net.input(1, 1, 6, 2), net.constant(W8.reshape(1, 2, 2, 2)), **VALID)
    factors = [2, 3] if operator != "DepthwiseConv2dNative" else [2, 3, 5, 7]
    folded = net.check(net("Mul", y, net.constant(factors), name="output"))
    assert not folded.operators["Mul"] + folded.operators["BiasAdd"]
    assert net.graph.node("output").op_type == operator


def test_multiplications_of_one_shared_convolution() -> None:
    net = Net()
    conv = net("Conv2D", net.input(1, 1, 6, 2), net.constant(W8.reshape(1, 2, 2, 2)), **VALID)
    outputs = [net("Mul", conv, net.constant([2, 3]), name=name) for name in ("output", "output_2")]
    folded = net.check(*outputs)
    assert (folded.operators["Mul"], folded.operators["Conv2D"]) == (2, 1)
    assert "'Conv2D' is also read by 'output_2'" in [entry["reason"] for entry in folded.report.refusals]


@pytest.mark.parametrize("padding", [b"VALID", b"SAME"])
@pytest.mark.parametrize("operator", ["Conv2D", "DepthwiseConv2dNative"])
@pytest.mark.parametrize("after", [False, True])
def test_old_batch_norms(operator: str, padding: bytes, after: bool) -> None:
    net = Net()
    weights = net.constant(W8.reshape(1, 2, 2, 2))
    x = net(operator, net.input(1, 1, 6, 2), weights, strides=(1, 1, 1, 1), padding=padding)
    values = BN2 if operator == "Conv2D" else BN4
    parameters = [net.constant(values[key], key) for key in ("mean", "variance", "beta", "gamma")]
    attrs = {"variance_epsilon": 1e-5, "scale_after_normalization": after}
    y = net("BatchNormWithGlobalNormalization", x, *parameters, name="output", **attrs)
    net.check(y).assert_absorbed(operator)


@pytest.mark.parametrize("form", ["FusedBatchNorm", "FusedBatchNormV3"])
@pytest.mark.parametrize("padding", [b"VALID", b"SAME"])
@pytest.mark.parametrize("operator", ["Conv2D", "DepthwiseConv2dNative"])
def test_fused_batch_norms(operator: str, padding: bytes, form: str) -> None:
    net = Net()
    weights = W8.reshape(1, 2, 2, 2) if operator == "Conv2D" else np.reshape([1, 2, 0.3, 0.4], (1, 2, 2, 1))
    x = net(operator, net.input(1, 1, 6, 2), net.constant(weights), strides=(1, 1, 1, 1), padding=padding)
    net.check(net.norm(form, x, 2, name="output", **BN2)).assert_absorbed(operator)
    assert net.graph.node("output").op == "tf.BiasAdd"


@pytest.mark.parametrize("split", [True, False])
def test_fused_batch_norm_after_concatenation(split: bool) -> None:
    net = Net()
    shape, weights = ((1, 1, 6, 2), (1, 2, 2, 1)) if split else ((1, 1, 12, 1), (1, 2, 1, 2))
    kernel = net.constant(np.float32([1, 2, 3, 4]).reshape(weights))
    left, right = (net("Conv2D", net.input(*shape, name=name), kernel, **VALID) for name in ("a", "b"))
    joined = net("Concat", net.constant(3 if split else 2, dtype=dtype_named("int32")), left, right)
    net.check(net.norm("FusedBatchNorm", joined, 2, name="output", **BN2)).assert_absorbed("Conv2D", biases=2)


def test_fused_batch_norm_after_batch_to_space() -> None:
    net = Net()
    x = net("Conv2D", net.input(2, 1, 3, 2), net.constant(W8.reshape(1, 2, 2, 2)), **VALID)
    spread = net("BatchToSpaceND", x, net.ints(1, 2), net.ints((0, 0), (0, 1)))
    net.check(net.norm("FusedBatchNorm", spread, 2, name="output", **BN2)).assert_absorbed("Conv2D")
    assert net.graph.node("output").op == "tf.BatchToSpaceND"


@pytest.mark.parametrize("case", ["all", "no gamma", "switched", "mismatch"])
def test_decomposed_batch_norm(case: str) -> None:
    net = Net()
    conv = net("Conv2D", net.input(1, 1, 6, 2), net.constant(W8.reshape(1, 2, 2, 2)), **CONV)
    variance, epsilon, mean = net.constant([0.25, 0.5]), net.constant(1e-5), net.constant([10, 20])
    beta, gamma, other = net.constant([0.1, 0.6]), net.constant([1, 2]), net.constant([0.2, 0.5])
    scale = net("Rsqrt", net("Add", variance, epsilon))
    scale = scale if case == "no gamma" else net("Mul", scale, gamma)
    offset = net("Sub", beta, net("Mul", mean, other if case == "mismatch" else scale))
    scaled = net("Mul", conv, scale)
    y = net("Add", offset, scaled, name="output") if case == "switched" else net("Add", scaled, offset, name="output")
    net.check(y).assert_absorbed("Conv2D")


def test_subtraction_division_multiplication() -> None:
    net = Net()
    x = net("Conv2D", net.input(1, 1, 6, 2), net.constant(W8.reshape(1, 2, 2, 2)), **VALID)
    normal = net("RealDiv", net("Sub", x, net.constant([1, -1])), net.constant([0.5, 2]))
    y = net("BiasAdd", net("Mul", normal, net.constant([3, 0.2])), net.constant([0.1, 0.6]), name="output")
    net.check(y).assert_absorbed("Conv2D")
