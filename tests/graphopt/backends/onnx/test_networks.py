"""Legalisation of products, text, random numbers, quantization and spectra."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.backends.base import find_backend
from graphopt.runtimes.base import get_runtime
from graphopt.testing.lowering import text_model


@pytest.mark.parametrize("flip", [False, True])
def test_products(lowers: Any, flip: bool) -> None:
    shape = "4, 3" if flip else "3, 4"
    rows = np.arange(12).reshape(4, 3) if flip else np.arange(12).reshape(3, 4)
    body = f"%w = tf.Const() {{value = float32[{shape}] {rows.astype(float).tolist()}}}\n"
    body += "%b = tf.Const() {value = float32[4] [1.0, 2.0, 3.0, 4.0]}\n"
    body += f"%m = tf.MatMul(%x, %w) {{transpose_b = {str(flip).lower()}}}\n%y = tf.AddV2(%m, %b)"
    lowers(body, ["Gemm"])


def test_einsums_have_small_letters(lowers: Any) -> None:
    body = '%y = tf.Einsum(%x, %z) {N = 2, equation = b"BTNH,BSNH->BNTS"}'
    lowered = lowers(body, ["Einsum"], inputs="%x: float32[1, 2, 3, 4], %z: float32[1, 5, 3, 4]")
    assert lowered.model.graph.node("y").attrs["equation"].islower()


def test_a_written_out_gelu_is_one_operator(lowers: Any) -> None:
    body = """
    %half = tf.Const() {value = float32[] 0.5}
    %one = tf.Const() {value = float32[] 1.0}
    %root = tf.Const() {value = float32[] 0.70710678}
    %s = tf.Mul(%x, %root)
    %e = tf.Erf(%s)
    %f = tf.AddV2(%e, %one)
    %h = tf.Mul(%x, %half)
    %y = tf.Mul(%h, %f)
    """
    assert lowers(body, ["Gelu"]).model.graph.node("y").attrs["approximate"] == b"none"


def test_integers_are_multiplied(lowers: Any) -> None:
    lowers("%y = tf.MatMul(%x, %z)", inputs="%x: int32[2, 3], %z: int32[3, 2]")
    lowers("%y = tf.BatchMatMulV2(%x, %z) {adj_y = true}", inputs="%x: float32[?, 2, 3], %z: float32[4, 3]")


@pytest.mark.parametrize(
    "transform", ["%f = tf.RFFT(%x, %n)\n", "%c = tf.Cast(%x) {DstT = complex64}\n%f = tf.FFT(%c)\n"]
)
def test_spectra(lowers: Any, constant: Any, transform: str) -> None:
    body = constant("n", [6]) + transform + "%y = tf.ComplexAbs(%f)"
    lowers(body, inputs="%x: float32[2, 6]", tolerance=1e-4)


def test_eight_bits_that_training_pretends_are_q_and_dq(lowers: Any) -> None:
    body = "%y = tf.FakeQuantWithMinMaxArgs(%x) {min = -1.0, max = 3.0, num_bits = 8}"
    lowers(body, ["QuantizeLinear", "DequantizeLinear"], tolerance=1e-4)
    body = "%y = tf.FakeQuantWithMinMaxArgs(%x) {min = -1.0, max = 3.0, num_bits = 4, narrow_range = true}"
    lowers(body, tolerance=1e-4)


def test_text(lowers: Any) -> None:
    feeds = {"x": np.array([b"a", b"b"], object), "z": np.array([b"1", b"2"], object)}
    inputs = "%x: string[2], %z: string[2]"
    lowers('%y = tf.StringJoin(%x, %z) {N = 2, separator = b"-"}', inputs=inputs, feeds=feeds)
    lowers("%y = tf.StringToNumber(%z)", ["Cast"], inputs="%z: string[2]", feeds={"z": feeds["z"]})
    lowers("%y = tf.AsString(%x)", ["Cast"], inputs="%x: int32[3]")


def test_random_numbers_have_their_shape(constant: Any) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX Runtime runs it: pip install 'graphopt[tensorrt]'")
    body = constant("s", [40, 50]) + constant("low", 3) + constant("high", 7)
    body += "%u = tf.RandomUniform(%s) {dtype = float32}\n%n = tf.RandomStandardNormal(%d) {dtype = float32}\n"
    body += "%i = tf.RandomUniformInt(%s, %low, %high)"
    lowered = find_backend("onnx").lower(text_model(body, "%d: int32[2]", "%u, %n, %i")).model
    found = get_runtime("onnxruntime").run(lowered, {"d": np.array([40, 50], np.int32)})
    assert found["u"].shape == found["n"].shape == found["i"].shape == (40, 50)
    assert 0 <= found["u"].min() < found["u"].max() < 1
    assert abs(found["n"].mean()) < 0.2
    assert set(np.unique(found["i"])) == {3, 4, 5, 6}


def test_what_has_no_form_is_named(refuses: Any) -> None:
    refuses("%y = tf.FFT(%x)", "no operator for it", "%x: complex64[4]")
    refuses("%y = tf.Bitcast(%x) {type = float32}", "no operator for it", "%x: int32[2]")
    refuses("%y = tf.AsString(%x)", "only whole numbers", "%x: float32[2]")
