"""A small model to try things on, made without TensorFlow: a MobileNet the way frameworks export one.

Its batch norms are decomposed, its weights hide behind identities, and it carries along what training and export
leave behind: checks, dead branches, duplicates, arithmetic on constants.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from graphopt.ir.graph import Graph
from graphopt.ir.infer import infer_node
from graphopt.ir.known import constant_type
from graphopt.ir.model import Model
from graphopt.ir.ops import find
from graphopt.ir.ops.derive import derived_attributes
from graphopt.ir.tensors import tensor
from graphopt.ir.types import FLOAT32, Shape
from graphopt.ir.value import Node, Value

SIDE, CLASSES = 32, 10
BLOCKS = ((16, 1), (24, 2), (24, 1), (32, 2), (32, 1), (48, 2))  # channels and stride of each block
PRODUCER = 1882  # GraphDef version of today's TensorFlow
EPSILON = 1e-3


def mobile_network(seed: int = 0) -> Model:
    """A network of about 300 nodes that classifies pictures of 32 by 32; the same one for the same `seed`."""
    builder = _Builder(seed)
    pictures = builder.node(
        "Placeholder", (), {"dtype": FLOAT32, "shape": Shape([1, SIDE, SIDE, 3])}, "pictures"
    ).output
    value = builder.rescaled(pictures)
    value = builder.convolution(value, 16, 3, 2, "stem")
    for place, (channels, stride) in enumerate(BLOCKS):
        value = builder.block(value, channels, stride, f"block_{place}")
    features = builder.value("Mean", value, builder.constant(np.array([1, 2], np.int32), "pool/axes"), name="pool")
    scores = builder.dense(builder.dropout(features), CLASSES, "classifier")
    probabilities = builder.value("Softmax", scores, name="softmax")
    builder.leftovers(scores)
    output = builder.node("Identity", (probabilities,), {}, "probabilities")
    output.add_control_input(builder.node("NoOp", (), {}, "no_op"))
    model = builder.model
    model.versions, model.format, model.source = (PRODUCER, 0, ()), "graphdef", "example"
    model.set_signature({"pictures": pictures}, {"probabilities": output.output})
    return model


class _Builder:
    """Adds nodes with their attributes and types filled in from the operator table."""

    def __init__(self, seed: int) -> None:
        self.model = Model(Graph())
        self.graph = self.model.graph
        self.random = np.random.default_rng(seed)

    def node(self, op: str, inputs: Iterable[Value], attrs: dict[str, Any], name: str) -> Node:
        operator, values = find(f"tf.{op}"), tuple(inputs)
        assert operator is not None
        assert operator.interface is not None
        complete = operator.interface.with_defaults(
            derived_attributes(operator.interface, [value.dtype for value in values], attrs)
        )
        types = operator.interface.output_types(complete)
        node = self.graph.create_node(f"tf.{op}", values, complete, name=name, types=types)
        for value, inferred in zip(node.outputs, infer_node(node), strict=True):
            value.type = inferred
        return node

    def value(self, op: str, *inputs: Value, name: str, **attrs: Any) -> Value:
        return self.node(op, inputs, attrs, name).output

    def constant(self, array: Any, name: str) -> Value:
        held = tensor(np.asarray(array))
        attrs = {"dtype": held.dtype, "value": held}
        return self.graph.create_node("tf.Const", (), attrs, name=name, types=(constant_type(held),)).output

    def weights(self, array: Any, name: str) -> Value:
        """A frozen variable: a constant read through an identity."""
        constant = self.constant(np.asarray(array, np.float32), name)
        return self.value("Identity", constant, name=f"{name}/read")

    def rescaled(self, pictures: Value) -> Value:
        """From 0 to 255 into -1 to 1, its factor computed from constants when the model runs."""
        factor = self.value(
            "RealDiv", self.constant(np.float32(2), "rescale/range"), self.constant(np.float32(255), "rescale/highest"),
            name="rescale/factor",
        )  # fmt: skip
        scaled = self.value("Mul", pictures, factor, name="rescale/mul")
        return self.value("Sub", scaled, self.constant(np.float32(1), "rescale/one"), name="rescale/sub")

    def convolution(self, value: Value, channels: int, size: int, stride: int, name: str) -> Value:
        """Convolution, batch norm, ReLU6."""
        depth = _depth(value)
        kernel = self.random.normal(0, (2 / (size * size * depth)) ** 0.5, (size, size, depth, channels))
        strides = (1, stride, stride, 1)
        weights = self.weights(kernel, f"{name}/kernel")
        out = self.value("Conv2D", value, weights, name=f"{name}/conv", strides=strides, padding=b"SAME")
        return self.value("Relu6", self.batch_norm(out, f"{name}/norm"), name=f"{name}/relu")

    def depthwise(self, value: Value, stride: int, name: str) -> Value:
        """Depthwise convolution, batch norm, ReLU6."""
        kernel = self.random.normal(0, 0.4, (3, 3, _depth(value), 1))
        strides = (1, stride, stride, 1)
        weights = self.weights(kernel, f"{name}/kernel")
        out = self.value("DepthwiseConv2dNative", value, weights, name=f"{name}/conv", strides=strides, padding=b"SAME")
        return self.value("Relu6", self.batch_norm(out, f"{name}/norm"), name=f"{name}/relu")

    def batch_norm(self, value: Value, name: str) -> Value:
        """`x * scale + (offset - mean * scale)` with `scale = gamma / sqrt(variance + epsilon)`, node by node."""
        channels = _depth(value)
        gamma = self.weights(self.random.uniform(0.6, 1.4, channels), f"{name}/gamma")
        beta = self.weights(self.random.normal(0, 0.3, channels), f"{name}/beta")
        mean = self.weights(self.random.normal(0, 0.3, channels), f"{name}/moving_mean")
        variance = self.weights(self.random.uniform(0.5, 1.5, channels), f"{name}/moving_variance")
        epsilon = self.constant(np.float32(EPSILON), f"{name}/epsilon")
        inverse = self.value("Rsqrt", self.value("AddV2", variance, epsilon, name=f"{name}/add"), name=f"{name}/rsqrt")
        scale = self.value("Mul", inverse, gamma, name=f"{name}/scale")
        scaled = self.value("Mul", value, scale, name=f"{name}/mul")
        offset = self.value("Sub", beta, self.value("Mul", mean, scale, name=f"{name}/mul_1"), name=f"{name}/sub")
        return self.value("AddV2", scaled, offset, name=f"{name}/add_1")

    def block(self, value: Value, channels: int, stride: int, name: str) -> Value:
        """Depthwise and pointwise convolution, with a shortcut where the shapes allow."""
        out = self.convolution(self.depthwise(value, stride, f"{name}/depthwise"), channels, 1, 1, f"{name}/pointwise")
        if stride == 1 and _depth(value) == channels:
            out = self.value("AddV2", value, out, name=f"{name}/shortcut")
        return self.value("Identity", out, name=f"{name}/output")

    def dropout(self, value: Value) -> Value:
        """What is left of a dropout in a model exported for inference, and a check that nobody needs."""
        checked = self.value("CheckNumerics", value, name="dropout/check", message=b"features")
        return self.value("Identity", checked, name="dropout/identity")

    def dense(self, value: Value, width: int, name: str) -> Value:
        """Matrix product and bias."""
        depth = _depth(value)
        kernel = self.weights(self.random.normal(0, (4 / depth) ** 0.5, (depth, width)), f"{name}/kernel")
        bias = self.weights(self.random.normal(0, 0.2, width), f"{name}/bias")
        return self.value("BiasAdd", self.value("MatMul", value, kernel, name=f"{name}/matmul"), bias, name=name)

    def leftovers(self, scores: Value) -> None:
        """A summary's branch that nothing reads, and what a saver left."""
        tag = self.constant(np.array(b"scores", object), "summary/tag")
        self.value("HistogramSummary", tag, scores, name="summary/scores")
        self.constant(np.array(b"model", object), "save/Const")
        step = self.constant(np.int64(1000), "global_step")
        self.value("Identity", step, name="global_step/read")


def _depth(value: Value) -> int:
    depth = value.shape[-1]
    assert isinstance(depth, int)
    return depth
