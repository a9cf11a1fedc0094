"""Activations, those fused with a product, and their gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphopt.backends.xla.rules.activations import PLAIN
from graphopt.backends.xla.rules.gradients import FUNCTIONS, OF_RESULTS

X = np.array([[-3.0, -0.5, 0.0], [0.25, 2.0, 7.5]], np.float32)


def test_activations(agrees: Callable[..., Any]) -> None:
    names = [op.partition(".")[2] for op in PLAIN if op != "tf.Gelu"]
    body = "\n".join(f"%y{place} = tf.{name}(%x)" for place, name in enumerate(names))
    outputs = ", ".join(f"%y{place}" for place in range(len(names)))
    agrees(f"{body}\n%l = tf.LeakyRelu(%x) {{alpha = 0.3}}", outputs=f"{outputs}, %l", data={"x": X})


def test_a_rectifier_is_a_maximum(operations: Callable[..., dict[str, int]]) -> None:
    assert operations("%y = tf.Relu(%x)") == {"maximum": 1, "broadcast_in_dim": 1}


def test_a_rectifier_of_any_size(operations: Callable[..., dict[str, int]]) -> None:
    assert operations("%y = tf.Relu(%x)", "%x: float32[?, 3]")["maximum"] == 1


def test_gradients() -> None:
    """Of every activation, against TensorFlow's formulas."""
    from graphopt.backends.xla.backend import XlaBackend
    from graphopt.runtimes.xla import XlaRuntime
    from graphopt.testing import text_model

    dy, sigmoid = np.full_like(X, 0.7), 1 / (1 + np.exp(-X))
    y = np.abs(X) + 1
    names = [*FUNCTIONS, *OF_RESULTS]
    operands = {name: "%d, %x" if name in FUNCTIONS else "%z, %d" for name in names}
    body = "\n".join(f"%y{place} = {name}({operands[name]})" for place, name in enumerate(names))
    body += "\n%l = tf.LeakyReluGrad(%d, %x) {alpha = 0.3}\n%b = tf.BiasAddGrad(%x)"
    outputs = ", ".join(f"%y{place}" for place in range(len(names)))
    model = text_model(body, "%d: float32[2, 3], %x: float32[2, 3], %z: float32[2, 3]", f"{outputs}, %l, %b")
    found = list(XlaRuntime().run(XlaBackend().lower(model, fallback=False).model, {"d": dy, "x": X, "z": y}).values())
    expected = {
        "tf.ReluGrad": dy * (X > 0), "tf.Relu6Grad": dy * ((X > 0) & (X < 6)),
        "tf.EluGrad": np.where(X < 0, (X + 1) * dy, dy),
        "tf.SeluGrad": np.where(X < 0, (X + 1.7580993408473766) * dy, dy * 1.0507009873554805),
        "tf.SoftplusGrad": dy * sigmoid, "tf.SoftsignGrad": dy / (1 + np.abs(X)) ** 2,
        "tf.SigmoidGrad": dy * y * (1 - y), "tf.TanhGrad": dy * (1 - y * y), "tf.SqrtGrad": dy * 0.5 / y,
        "tf.RsqrtGrad": dy * -0.5 * y**3, "tf.InvGrad": -dy * y * y, "tf.ReciprocalGrad": -dy * y * y,
    }  # fmt: skip
    for name, array in zip(names, found, strict=False):
        np.testing.assert_allclose(array, expected[name], rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(found[-2], np.where(X > 0, dy, dy * np.float32(0.3)), rtol=1e-6)
    np.testing.assert_allclose(found[-1], X.sum(0), rtol=1e-6)


def test_products_fused_with_what_follows(agrees: Callable[..., Any]) -> None:
    """As TensorFlow's own optimiser leaves them."""
    window = 'strides = [1, 1, 1, 1], padding = "SAME"'
    body = (
        f"%a = tf._FusedConv2D(%x, %k, %b) {{T = float32, TArgs = [float32], num_args = 1, {window}, "
        'fused_ops = ["BiasAdd", "Relu"]}\n'
        f"%c = tf._FusedConv2D(%x, %k, %b, %b, %b, %p) {{T = float32, num_args = 4, {window}, epsilon = 0.01, "
        "TArgs = [float32, float32, float32, float32], leakyrelu_alpha = 0.2, "
        'fused_ops = ["FusedBatchNorm", "LeakyRelu"]}\n'
        "%m = tf._FusedMatMul(%z, %w, %b) {T = float32, TArgs = [float32], num_args = 1, transpose_b = true, "
        'fused_ops = ["BiasAdd", "Elu"]}'
    )
    inputs = (
        "%x: float32[1, 4, 4, 2], %k: float32[3, 3, 2, 5], %b: float32[5], %p: float32[5], %z: float32[2, 3], "
        "%w: float32[5, 3]"
    )
    rng = np.random.default_rng(0)
    shapes = {"x": (1, 4, 4, 2), "k": (3, 3, 2, 5), "b": (5,), "z": (2, 3), "w": (5, 3)}
    data = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    agrees(body, inputs, "%a, %c, %m", data | {"p": np.linspace(0.5, 1, 5, dtype=np.float32)})


def test_what_is_fused_with_something_else_is_refused(refusal: Callable[..., Any]) -> None:
    body = '%y = tf._FusedMatMul(%x, %w) {num_args = 0, fused_ops = ["Mystery"]}'
    finding = refusal(body, "%x: float32[2, 3], %w: float32[3, 4]")
    assert "Mystery" in finding.reason
    assert finding.remedy
