"""Convolutions in all their forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.backends.base import UnloweredError
from graphopt.backends.xla.backend import XlaBackend
from graphopt.backends.xla.exporting import exported
from graphopt.backends.xla.program import programs_of
from graphopt.ir.model import Model
from graphopt.ir.tensors import tensor
from graphopt.runtimes.base import get_runtime
from graphopt.testing.lowering import assert_lowers, text_model


def check(model: Model, **options: object) -> None:
    assert_lowers(model, target="xla", reference="reference", random=1, fallback=False, **options)  # type: ignore[arg-type]


@settings(max_examples=8)
@given(st.data())
def test_any_convolution(data: st.DataObject) -> None:
    """Strides, dilations, paddings, groups."""
    padding = data.draw(st.sampled_from(("SAME", "VALID")))
    stride, dilation = data.draw(st.sampled_from(((1, 1), (2, 1), (3, 1), (1, 2))))
    height, width = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    groups = data.draw(st.sampled_from((1, 2)))
    model = text_model(
        f'%y = tf.Conv2D(%x, %k) {{strides = [1, {stride}, {stride}, 1], padding = "{padding}", '
        f"dilations = [1, {dilation}, {dilation}, 1]}}",
        f"%x: float32[2, 9, 8, 4], %k: float32[{height}, {width}, {4 // groups}, 6]",
    )
    check(model)


@settings(max_examples=8)
@given(st.data())
def test_convolutions_as_products(data: st.DataObject) -> None:
    """The same numbers from one product of matrices, on CPUs, and from a convolution elsewhere."""
    padding = data.draw(st.sampled_from(("SAME", "VALID")))
    stride, dilation = data.draw(st.sampled_from(((1, 1), (2, 1), (1, 2))))
    height, width = data.draw(st.sampled_from(((1, 1), (3, 3), (1, 2))))
    batch = data.draw(st.sampled_from(("1", "?")))
    model = text_model(
        f'%y = tf.Conv2D(%x, %k) {{strides = [1, {stride}, {stride}, 1], padding = "{padding}", '
        f"dilations = [1, {dilation}, {dilation}, 1]}}",
        f"%x: float32[{batch}, 7, 8, 32], %k: float32[{height}, {width}, 32, 6]",
    )
    check(model, platform=data.draw(st.sampled_from(("cpu", "cuda", "cpu,cuda"))))


def test_convolutions_are_products_where_that_is_faster() -> None:
    for kernel, platform, expected in (
        ("1, 1", "cpu", "dot_general"), ("3, 3", "cpu", "dot_general"), ("5, 5", "cuda", "convolution")
    ):  # fmt: skip
        model = text_model(
            '%y = tf.Conv2D(%x, %k) {strides = [1, 1, 1, 1], padding = "SAME"}',
            f"%x: float32[1, 7, 7, 32], %k: float32[{kernel}, 32, 8]",
        )
        program = programs_of(XlaBackend().lower(model, fallback=False, platform=platform).model)[0]
        text = str(exported(program).mlir_module())
        assert [name for name in ("dot_general", "convolution") if f"stablehlo.{name}" in text] == [expected]


def three_by_three(size: str, padding: str) -> Model:
    """A convolution of 3x3 pixels with a constant kernel."""
    model = text_model(
        "%k = tf.Const() {value = float32[3, 3, 32, 33] splat 0.0}\n"
        f"%y = tf.Conv2D(%x, %k) {{strides = [1, 1, 1, 1], {padding}}}",
        f"%x: float32[{size}, 32]",
    )
    kernel = np.random.default_rng(0).normal(size=(3, 3, 32, 33)).astype(np.float32)
    model.graph.node("k").attrs["value"] = tensor(kernel)
    return model


@pytest.mark.parametrize("size", ["1, 7, 8", "2, 9, 5", "1, 25, 24", "1, 3, 3"])
@pytest.mark.parametrize(
    "padding",
    ['padding = "SAME"', 'padding = "VALID"', 'padding = "EXPLICIT", explicit_paddings = [0, 0, 1, 3, 0, 2, 0, 0]'],
)
def test_convolutions_by_winograd(size: str, padding: str) -> None:
    model = three_by_three(size, padding)
    check(model)
    program = programs_of(XlaBackend().lower(model, fallback=False).model)[0]
    assert [held.shape for held in program.weights.values()] == [(16, 32, 33)]


def test_where_kernels_stay_as_they_are() -> None:
    model = three_by_three("1, 7, 8", 'padding = "SAME"')
    plain = {"convolutions": "plain"}
    for options in (plain, {"platform": "cuda"}, {"platform": "cpu,cuda"}, {"precision": "float16"}):
        program = programs_of(XlaBackend().lower(model, fallback=False, **options).model)[0]
        assert [held.shape for held in program.weights.values()] == [(3, 3, 32, 33)], options
    text = str(exported(programs_of(XlaBackend().lower(model, convolutions="plain").model)[0]).mlir_module())
    assert "stablehlo.convolution" in text


@settings(max_examples=8)
@given(st.data())
def test_both_forms_of_depthwise_convolutions(data: st.DataObject) -> None:
    """The same numbers from groups and from slices."""
    padding = data.draw(st.sampled_from(("SAME", "VALID")))
    stride, dilation = data.draw(st.sampled_from(((1, 1), (2, 1), (1, 2))))
    multiplier = data.draw(st.sampled_from((1, 2)))
    model = text_model(
        f'%y = tf.DepthwiseConv2dNative(%x, %k) {{strides = [1, {stride}, {stride}, 1], padding = "{padding}", '
        f"dilations = [1, {dilation}, {dilation}, 1]}}",
        f"%x: float32[1, 8, 9, 3], %k: float32[3, 2, 3, {multiplier}]",
    )
    check(model, depthwise=data.draw(st.sampled_from(("grouped", "slices"))))


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_transposed_convolutions(padding: str) -> None:
    size = 8 if padding == "SAME" else 9
    model = text_model(
        f"%s = tf.Const() {{value = int32[4] [1, {size}, {size}, 2]}}\n"
        f'%y = tf.Conv2DBackpropInput(%s, %k, %x) {{strides = [1, 2, 2, 1], padding = "{padding}"}}',
        "%x: float32[1, 4, 4, 5], %k: float32[3, 3, 2, 5]",
    )
    check(model)


def test_a_kernel_of_unknown_channels_is_refused() -> None:
    model = text_model('%y = tf.Conv2D(%x, %k) {strides = [1, 1, 1, 1], padding = "SAME"}', "%x: float32[1, 8, 8, ?], %k: float32[3, 3, 2, 4]")  # fmt: skip  # noqa: E501
    with pytest.raises(UnloweredError, match="number of channels is not known"):
        XlaBackend().lower(model, fallback=False)


def test_padding_follows_from_sizes_that_are_unknown() -> None:
    """One program for images of every size: how much padding there is comes out when it runs."""
    attributes = 'ksize = [1, 3, 3, 1], strides = [1, 2, 2, 1], padding = "SAME"'
    model = text_model(
        '%c = tf.Conv2D(%x, %k) {strides = [1, 2, 2, 1], padding = "SAME"}\n'
        f"%m = tf.MaxPool(%c) {{{attributes}}}\n%a = tf.AvgPool(%c) {{{attributes}}}\n%y = tf.AddV2(%m, %a)",
        "%x: float32[?, ?, ?, 2], %k: float32[3, 3, 2, 4]",
    )
    lowered = XlaBackend().lower(model, fallback=False).model
    rng = np.random.default_rng(0)
    for dims in ((1, 9, 8), (2, 12, 7)):
        feeds = {
            name: rng.normal(size=size).astype(np.float32) for name, size in (("x", (*dims, 2)), ("k", (3, 3, 2, 4)))
        }
        expected = get_runtime("reference").run(model, feeds)["y"]
        np.testing.assert_allclose(get_runtime("xla").run(lowered, feeds)["y"], expected, rtol=1e-5, atol=1e-5)
