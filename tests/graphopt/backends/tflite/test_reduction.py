"""Legalisation of reductions, running sums and products, normalisation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.backends.base import UnloweredError
from graphopt.testing.lowering import assert_lowers, text_model

REDUCTIONS = {"Sum": "SUM", "Mean": "MEAN", "Prod": "REDUCE_PROD", "Max": "REDUCE_MAX", "Min": "REDUCE_MIN"}


def vector(name: str, numbers: list[int]) -> str:
    return f"%{name} = tf.Const() {{value = int32[{len(numbers)}] {numbers}}}\n"


@given(st.data())
def test_reductions(data: st.DataObject) -> None:
    op = data.draw(st.sampled_from(tuple(REDUCTIONS)))
    dtype = data.draw(st.sampled_from(("float32", "int32", "int64", "uint8", "float16")))
    shape = data.draw(st.lists(st.integers(1, 3), max_size=6))
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), unique=True)) if shape else []
    axes = [axis - len(shape) if data.draw(st.booleans()) else axis for axis in axes]
    keep = "true" if data.draw(st.booleans()) else "false"
    is_dynamic = data.draw(st.booleans())
    dims = ", ".join("?" if is_dynamic and not place else str(dim) for place, dim in enumerate(shape))
    body = vector("a", axes) + f"%y = tf.{op}(%x, %a) {{keep_dims = {keep}}}"
    sample = (np.arange(np.prod(shape)) % 5 + 1).astype(dtype).reshape(shape)
    lowered = assert_lowers(
        text_model(body, f"%x: {dtype}[{dims}]"), None, data=[{"x": sample}], reference="reference", rtol=None
    )
    reduced = {node.op_type for node in lowered.model.graph}
    assert reduced <= {"INPUT", "CONSTANT", "CAST", "RESHAPE", REDUCTIONS[op]}


def test_logic_over_axes() -> None:
    for op, kernel in (("Any", "REDUCE_ANY"), ("All", "REDUCE_ALL")):
        body = vector("a", [-1]) + f"%b = tf.Greater(%x, %z)\n%y = tf.{op}(%b, %a) {{keep_dims = true}}"
        model = text_model(body, "%x: float32[?, 3], %z: float32[3]")
        assert_lowers(model, ["GREATER", kernel], reference="reference")


@pytest.mark.parametrize("shape", ["[4]", "[?, 4]", "[2, 3, 2, 3, 4]"])
def test_softmax(shape: str) -> None:
    assert_lowers(text_model("%y = tf.Softmax(%x)", f"%x: float32{shape}"), ["SOFTMAX"], reference="reference")
    assert_lowers(text_model("%y = tf.LogSoftmax(%x)", f"%x: float32{shape}"), ["LOG_SOFTMAX"], reference="reference")


def test_norms() -> None:
    body = vector("a", [1]) + "%y = tf.EuclideanNorm(%x, %a) {keep_dims = false}"
    assert_lowers(text_model(body), ["SQUARE", "SUM", "SQRT"], reference="reference")
    assert_lowers(text_model("%y = tf.L2Loss(%x)"), ["SQUARE", "SUM", "MUL"], reference="reference")


@pytest.mark.parametrize("squares", ["%s = tf.Square(%x)", "%s = tf.Mul(%x, %x)"])
@pytest.mark.parametrize("end", ["%r = tf.Rsqrt(%m)\n%y = tf.Mul(%x, %r)", "%r = tf.Sqrt(%m)\n%y = tf.RealDiv(%x, %r)"])
def test_vectors_of_length_one(squares: str, end: str) -> None:
    body = vector("a", [-1]) + f"{squares}\n%t = tf.Sum(%s, %a) {{keep_dims = true}}\n"
    body += f"%e = tf.Const() {{value = float32[] 1e-12}}\n%m = tf.Maximum(%t, %e)\n{end}"
    assert_lowers(text_model(body, "%x: float32[?, 5]"), ["L2_NORMALIZATION"], reference="reference")


def test_other_norms_than_that_of_the_kernel_stay_as_they_are() -> None:
    for axis, least in ((0, "1e-12"), (1, "1e-3")):
        body = vector("a", [axis]) + "%s = tf.Square(%x)\n%t = tf.Sum(%s, %a) {keep_dims = true}\n"
        body += f"%e = tf.Const() {{value = float32[] {least}}}\n%m = tf.Maximum(%t, %e)\n"
        body += "%r = tf.Rsqrt(%m)\n%y = tf.Mul(%x, %r)"
        assert_lowers(text_model(body), ["SQUARE", "SUM", "MAXIMUM", "RSQRT", "MUL"], reference="reference")


@given(st.data())
def test_running_sums_and_products(data: st.DataObject) -> None:
    op, kernel = data.draw(st.sampled_from((("Cumsum", "CUMSUM"), ("Cumprod", "MUL"))))
    shape = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    flags = [str(data.draw(st.booleans())).lower() for _ in range(2)]
    body = f"%a = tf.Const() {{value = int32[] {axis}}}\n"
    body += f"%y = tf.{op}(%x, %a) {{exclusive = {flags[0]}, reverse = {flags[1]}}}"
    lowered = assert_lowers(text_model(body, f"%x: float32{shape}"), None, reference="reference")
    if shape[axis] > 1:
        assert kernel in {node.op_type for node in lowered.model.graph}


def test_a_running_product_of_unknown_length_is_refused() -> None:
    body = "%a = tf.Const() {value = int32[] 0}\n%y = tf.Cumprod(%x, %a)"
    with pytest.raises(UnloweredError, match="size of its axis is not known"):
        assert_lowers(text_model(body, "%x: float32[?, 2]"))


def test_cross_entropy() -> None:
    body = "%y = tf.SoftmaxCrossEntropyWithLogits(%x, %t)"
    model = text_model(body, "%x: float32[2, 3], %t: float32[2, 3]", "%y, %y:1")
    assert_lowers(model, ["LOG_SOFTMAX", "MUL", "SUM", "NEG", "SOFTMAX", "SUB"], reference="reference")
    body = "%y = tf.SparseSoftmaxCrossEntropyWithLogits(%x, %t)"
    model = text_model(body, "%x: float32[2, 3], %t: int32[2]", "%y, %y:1")
    data = [{"x": np.float32([[1, 2, 3], [0, 5, 1]]), "t": np.int32([2, 0])}]
    assert_lowers(model, None, data=data, reference="reference")


def test_counts() -> None:
    body = "%n = tf.Const() {value = int32[] 4}\n%w = tf.Const() {value = float32[0] []}\n%y = tf.Bincount(%x, %n, %w)"
    data = [{"x": np.int32([0, 3, 3, 1, 7, 3])}]
    assert_lowers(text_model(body, "%x: int32[6]"), ["ONE_HOT", "SUM"], data=data, reference="reference")
    body = "%n = tf.Const() {value = int32[] 4}\n%y = tf.Bincount(%x, %n, %w)"
    data[0]["w"] = np.arange(6, dtype=np.float32)
    model = text_model(body, "%x: int32[6], %w: float32[6]")
    assert_lowers(model, ["ONE_HOT", "RESHAPE", "MUL", "SUM"], data=data, reference="reference")


@pytest.mark.tensorflow
@pytest.mark.parametrize(("binary", "kernel"), [("true", "REDUCE_MAX"), ("false", "SUM")])
def test_counts_in_rows(binary: str, kernel: str) -> None:
    body = "%n = tf.Const() {value = int32[] 4}\n%w = tf.Const() {value = float32[0] []}\n"
    body += f"%y = tf.DenseBincount(%x, %n, %w) {{binary_output = {binary}}}"
    data = [{"x": np.int32([[0, 3, 3], [1, 7, 3]])}]
    assert_lowers(text_model(body, "%x: int32[?, 3]"), ["ONE_HOT", kernel], data=data)


@pytest.mark.tensorflow
@pytest.mark.parametrize("exclusive", ["true", "false"])
@pytest.mark.parametrize("reverse", ["true", "false"])
def test_running_logarithms_of_sums(exclusive: str, reverse: str) -> None:
    options = f"{{exclusive = {exclusive}, reverse = {reverse}}}"
    body = "%a = tf.Const() {value = int32[] 1}\n%y = tf.CumulativeLogsumexp(%x, %a) " + options
    data = [{"x": np.linspace(-60, 60, 42, dtype=np.float32).reshape(2, 7, 3)}]
    assert_lowers(text_model(body, "%x: float32[?, 7, 3]"), data=data)
    with pytest.raises(UnloweredError, match="not known"):
        assert_lowers(text_model(body, "%x: float32[?, ?, 3]"))
