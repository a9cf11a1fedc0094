"""Legalisation of activations that graphs spell out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.testing.lowering import assert_lowers, text_model


def number(name: str, value: float) -> str:
    return f"%{name} = tf.Const() {{value = float32[] {value}}}\n"


@pytest.mark.parametrize(("least", "most", "kernel"), [(0, 6, "RELU6"), (-1, 1, "RELU_N1_TO_1"), (0, 1, "RELU_0_TO_1")])
@pytest.mark.parametrize("form", ["maximum", "minimum", "clip", "relu"])
def test_values_between_bounds(least: float, most: float, kernel: str, form: str) -> None:
    if form == "relu" and least:
        return
    bodies = {
        "maximum": "%a = tf.Maximum(%x, %l)\n%y = tf.Minimum(%m, %a)",
        "minimum": "%a = tf.Minimum(%x, %m)\n%y = tf.Maximum(%a, %l)",
        "clip": "%y = tf.ClipByValue(%x, %l, %m)",
        "relu": "%a = tf.Relu(%x)\n%y = tf.Minimum(%a, %m)",
    }
    body = number("l", float(least)) + number("m", float(most)) + bodies[form]
    assert_lowers(text_model(body, "%x: float32[?, 20]"), [kernel], reference="reference")


@given(st.data())
def test_any_bounds(data: st.DataObject) -> None:
    """Whatever the bounds, their order and their shape: the same numbers come out."""
    bounds = [data.draw(st.sampled_from((-1.0, 0.0, 1.0, 6.0, 0.5))) for _ in range(2)]
    ops = data.draw(st.permutations(("Maximum", "Minimum")))
    body, last = "", "%x"
    for place, (op, bound) in enumerate(zip(ops, bounds, strict=True)):
        dims = data.draw(st.sampled_from(("[]", "[1]", "[2, 3]")))
        count = {"[]": 1, "[1]": 1, "[2, 3]": 6}[dims]
        body += f"%c{place} = tf.Const() {{value = float32{dims} {[bound] * count if dims != '[]' else bound}}}\n"
        name = "%y" if place else "%a"
        body += f"{name} = tf.{op}({last}, %c{place})\n"
        last = name
    points = np.float32([[-7, -1, -0.5], [0.25, 3, 8]])
    assert_lowers(text_model(body, "%x: float32[2, 3]"), None, data=[{"x": points}], reference="reference")


def test_other_bounds_stay_extrema() -> None:
    body = number("l", -2.0) + number("m", 3.0) + "%y = tf.ClipByValue(%x, %l, %m)"
    assert_lowers(text_model(body), ["MINIMUM", "MAXIMUM"], reference="reference")
    integers = "%l = tf.Const() {value = int32[] 0}\n%y = tf.Maximum(%x, %l)"
    assert_lowers(text_model(integers, "%x: int32[3]"), ["MAXIMUM"], reference="reference")


def test_a_bound_that_widens_the_shape_is_no_activation() -> None:
    body = "%l = tf.Const() {value = float32[2, 1] [0, 0]}\n%y = tf.Maximum(%x, %l)"
    assert_lowers(text_model(body, "%x: float32[3]"), ["MAXIMUM"], reference="reference")


def test_rectified_units() -> None:
    assert_lowers(text_model(number("l", 0.0) + "%y = tf.Maximum(%l, %x)"), ["RELU"], reference="reference")
    assert_lowers(text_model("%y = tf.LeakyRelu(%x) {alpha = 0.25}"), ["LEAKY_RELU"], reference="reference")
    body = number("s", 0.125) + "%a = tf.Mul(%x, %s)\n%y = tf.Maximum(%a, %x)"
    assert_lowers(text_model(body), ["LEAKY_RELU"], reference="reference")
    steep = number("s", 1.5) + "%a = tf.Mul(%x, %s)\n%y = tf.Maximum(%a, %x)"
    assert_lowers(text_model(steep), ["MUL", "MAXIMUM"], reference="reference")


@pytest.mark.parametrize("join", ["AddV2", "Sub"])
def test_parametric_rectified_units(join: str) -> None:
    body = f"""
        %s = tf.Const() {{value = float32[3] [-0.5, -0.25, 0.75]}}
        %p = tf.Relu(%x)
        %n = tf.Neg(%x)
        %q = tf.Relu(%n)
        %m = tf.Mul(%s, %q)
        %y = tf.{join}(%p, %m)
    """
    assert_lowers(text_model(body, "%x: float32[?, 4, 3]"), ["PRELU"], reference="reference")


@pytest.mark.parametrize("square", ["%y = tf.Square(%d)", "%y = tf.Mul(%d, %d)"])
def test_squared_differences(square: str) -> None:
    inputs = "%a: float32[?, 3], %b: float32[3]"
    model = text_model(f"%d = tf.Sub(%a, %b)\n{square}", inputs)
    assert_lowers(model, ["SQUARED_DIFFERENCE"], reference="reference")
    shared = text_model(f"%d = tf.Sub(%a, %b)\n{square}\n%z = tf.Abs(%d)", inputs, "%y, %z")
    lowered = assert_lowers(shared, None, reference="reference")
    assert "SQUARED_DIFFERENCE" not in {node.op_type for node in lowered.model.graph}
