"""Rounding, and numbers rounded as quantization would round them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


def test_rounding(agrees: Callable[..., Any]) -> None:
    x = np.array([[-2.5, -0.5, 0.5], [1.5, 2.4, 99.0]], np.float32)
    body = (
        "%r = tf.Round(%x)\n%a = tf.FakeQuantWithMinMaxArgs(%x) {min = -2.0, max = 3.0}\n"
        "%l = tf.Const() {value = float32[] -1.0}\n%h = tf.Const() {value = float32[] 2.0}\n"
        "%b = tf.FakeQuantWithMinMaxVars(%x, %l, %h) {narrow_range = true}"
    )
    agrees(body, outputs="%r, %a, %b", data={"x": x})


def test_the_range_of_a_rounding_must_be_known(refusal: Callable[..., Any]) -> None:
    finding = refusal("%y = tf.FakeQuantWithMinMaxVars(%x, %l, %h)", "%x: float32[3], %l: float32[], %h: float32[]")
    assert "computed at run time" in finding.reason
    assert "constant" in finding.remedy


@pytest.mark.parametrize("attributes", ["signed_input = true", "signed_input = false", "narrow_range = true"])
def test_round_trips(agrees: Callable[..., Any], attributes: str) -> None:
    """Of a range that is given, of the numbers' own, and of one for each channel."""
    body = (
        "%l = tf.Const() {value = float32[] -1.0}\n%h = tf.Const() {value = float32[] 2.0}\n"
        "%m = tf.Const() {value = float32[3] [-1.0, 0.0, -3.0]}\n%n = tf.Const() {value = float32[3] [2.0, 1.0, 4.0]}\n"
        "%b = tf.Const() {value = int32[] 4}\n"
        f"%y = tf.QuantizeAndDequantizeV2(%x, %l, %h) {{range_given = true, {attributes}}}\n"
        f'%z = tf.QuantizeAndDequantizeV2(%x, %l, %h) {{range_given = false, round_mode = "HALF_UP", {attributes}}}\n'
        f"%w = tf.QuantizeAndDequantizeV3(%x, %m, %n, %b) {{range_given = true, axis = 1, {attributes}}}"
    )
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    agrees(body, "%x: float32[5, 3]", "%y, %z, %w", {"x": x})


@pytest.mark.parametrize("mode", ["MIN_COMBINED", "MIN_FIRST", "SCALED"])
@pytest.mark.parametrize("kind", ["qint8", "quint8"])
def test_stored_integers_stay_integers(kind: str, mode: str) -> None:
    """Weights of a quantized file are arguments of int8, and the same floats in the program."""
    from graphopt.backends.xla.backend import XlaBackend
    from graphopt.ir.infer import infer_model
    from graphopt.ir.tensors import tensor
    from graphopt.ir.types import TensorType, dtype_named
    from graphopt.runtimes.base import get_runtime
    from graphopt.testing import text_model

    body = (
        "%q = tf.Const() {value = int8[64, 32] splat 1}\n%l = tf.Const() {value = float32[] -1.5}\n"
        f'%h = tf.Const() {{value = float32[] 2.0}}\n%w = tf.Dequantize(%q, %l, %h) {{mode = "{mode}", T = {kind}}}\n'
        "%y = tf.MatMul(%x, %w)"
    )
    model = text_model(body, "%x: float32[2, 64]")
    dtype = dtype_named(kind)
    codes = np.random.default_rng(0).integers(-128, 128, (64, 32)).astype(np.int8).view(dtype.numpy)
    node = model.graph.node("q")
    node.attrs["value"], node.attrs["dtype"] = tensor(codes, dtype), dtype
    node.output.type = TensorType(dtype, node.output.shape)
    infer_model(model)
    lowered = XlaBackend().lower(model, fallback=False).model
    stored = [held.attrs["value"].dtype.name for held in lowered.graph if held.op == "xla.WEIGHT"]
    assert stored == [kind.removeprefix("q") if kind == "qint8" else "uint8"]
    feeds = {"x": np.random.default_rng(1).normal(size=(2, 64)).astype(np.float32)}
    expected = get_runtime("reference").run(model, feeds)["y"]
    np.testing.assert_allclose(get_runtime("xla").run(lowered, feeds)["y"], expected, rtol=1e-4, atol=1e-4)
