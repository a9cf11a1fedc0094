"""Functions that are composed or expanded, compared with what mathematics says."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


def outputs_of(body: str, inputs: str, outputs: str, feeds: dict[str, Any]) -> list[Any]:
    from graphopt.backends.xla.backend import XlaBackend
    from graphopt.runtimes.xla import XlaRuntime
    from graphopt.testing import text_model

    lowered = XlaBackend().lower(text_model(body, inputs, outputs), fallback=False).model
    return list(XlaRuntime().run(lowered, feeds).values())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bessel_functions(dtype: str) -> None:
    """Near zero, where the two series meet, and far out."""
    x = np.array([-30.0, -8.0, -1.0, 0.0, 0.5, 7.9, 8.1, 60.0], dtype)
    body = "%a = tf.BesselI0e(%x)\n%b = tf.BesselI0(%x)\n%c = tf.BesselI1(%x)"
    scaled, plain, first = outputs_of(body, f"%x: {dtype}[8]", "%a, %b, %c", {"x": x})
    wide = x.astype(np.float64)
    tolerance = 2e-6 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(scaled, np.i0(wide) * np.exp(-np.abs(wide)), rtol=tolerance)
    np.testing.assert_allclose(plain, np.i0(wide), rtol=tolerance * 10)
    step = np.sign(wide) * (np.i0(np.abs(wide) + 1e-6) - np.i0(np.abs(wide) - 1e-6)) / 2e-6
    np.testing.assert_allclose(first, step, rtol=1e-4, atol=1e-6)


def test_quantiles_of_the_normal_distribution() -> None:
    x = np.array([-5.0, -3.0, -0.5, 0.0, 0.25, 2.0, 4.0], np.float32)
    below = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in x.tolist()], np.float32)
    p = np.concatenate([below, np.array([0, 1], np.float32)])
    (found,) = outputs_of("%y = tf.Ndtri(%x)", "%x: float32[9]", "%y", {"x": p})
    np.testing.assert_allclose(found[:6], x[:6], rtol=2e-4, atol=1e-6)
    assert found[7:].tolist() == [-math.inf, math.inf]


def test_functions_of_two_operands() -> None:
    body = "%a = tf.Polygamma(%n, %x)\n%b = tf.Zeta(%z, %x)\n%c = tf.NextAfter(%x, %z)"
    feeds = {
        "n": np.array([1.0, 2.0], np.float32), "x": np.array([1.0, 1.0], np.float32), "z": np.array([2, 4], np.float32)
    }  # fmt: skip
    inputs = "%n: float32[2], %x: float32[2], %z: float32[2]"
    polygamma, zeta, after = outputs_of(body, inputs, "%a, %b, %c", feeds)
    np.testing.assert_allclose(polygamma, [math.pi**2 / 6, -2 * 1.2020569], rtol=1e-5)
    np.testing.assert_allclose(zeta, [math.pi**2 / 6, math.pi**4 / 90], rtol=1e-5)
    np.testing.assert_array_equal(after, np.nextafter(np.float32(1), np.float32(2)))


def test_error_functions(agrees: Callable[..., Any]) -> None:
    x = np.linspace(-5, 5, 24, dtype=np.float32).reshape(4, 6)
    agrees("%y = tf.Erf(%x)\n%z = tf.Erfc(%x)", "%x: float32[4, 6]", "%y, %z", {"x": x})


def test_expansions_need_numbers_for_shapes(refusal: Callable[..., Any]) -> None:
    finding = refusal("%y = tf.Lgamma(%x)", "%x: float32[?]")
    assert "numbers" in finding.reason
    assert "--batch" in finding.remedy


@pytest.mark.tensorflow
def test_incomplete_functions(agrees: Callable[..., Any]) -> None:
    """Against TensorFlow, at both sides of the mean, at the ends and beyond."""
    a = np.array([0.5, 0.5, 2, 2, 2, 30, 30, 1, 1, 3], np.float32)
    x = np.array([0.1, 3, 0.5, 2, 9, 20, 45, 0, 200, -1], np.float32)
    agrees("%y = tf.Igamma(%a, %x)\n%z = tf.Igammac(%a, %x)", "%a: float32[10], %x: float32[10]", "%y, %z",
           {"a": a, "x": x}, reference="tensorflow", rtol=1e-5)  # fmt: skip
    data = {
        "a": np.array([0.5, 2, 2, 5, 50, 3], np.float32), "b": np.array([0.5, 3, 3, 1, 40, 2], np.float32),
        "x": np.array([0.3, 0.1, 0.9, 0.5, 0.55, 0], np.float32),
    }  # fmt: skip
    agrees("%y = tf.Betainc(%a, %b, %x)", "%a: float32[6], %b: float32[6], %x: float32[6]", "%y", data,
           reference="tensorflow", rtol=1e-5)  # fmt: skip
