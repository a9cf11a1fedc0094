"""Legalisation of convolutions."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphopt
from graphopt.backends.base import UnloweredError
from graphopt.testing.lowering import assert_lowers, text_model

VALUES = (0.5, -0.25, 1.0, 0.125, -1.0, 0.75, 0.3, 0.2)
IMAGES = ("[1, 8, 9, 4]", "[?, 8, 9, 4]", "[?, ?, ?, 4]")


def weights(*shape: int, name: str = "w", dtype: str = "float32") -> str:
    values = list(VALUES[: math.prod(shape)])
    return f"%{name} = tf.Const() {{value = {dtype}{list(shape)} repeat {values}}}\n"


def options(strides: str = "1, 1", padding: str = "SAME", **others: Any) -> str:
    more = "".join(f", {key} = {value}" for key, value in others.items())
    return f'{{strides = [1, {strides}, 1], padding = b"{padding}"{more}}}'


def convolution(kernel: str, attrs: str, op: str = "Conv2D") -> str:
    return f"{kernel}%y = tf.{op}(%x, %w) {attrs}"


def only(lowered: Any, op: str) -> Any:
    (node,) = [node for node in lowered.model.graph if node.op == f"tfl.{op}"]
    return node


CASES = {
    "same": options(),
    "valid, strides": options("2, 1", "VALID"),
    "dilated": options(dilations=[1, 2, 3, 1]),
    "like SAME": options(padding="EXPLICIT", explicit_paddings=[0, 0, 1, 1, 0, 1, 0, 0]),
}


@pytest.mark.parametrize("shape", IMAGES)
@pytest.mark.parametrize("case", CASES)
def test_a_convolution(shape: str, case: str) -> None:
    body = convolution(weights(3, 2, 4, 5), CASES[case])
    expected = ["PAD", "CONV_2D"] if case == "like SAME" and shape == IMAGES[2] else ["CONV_2D"]
    lowered = assert_lowers(text_model(body, f"%x: float32{shape}"), expected, reference="reference")
    node = only(lowered, "CONV_2D")
    assert node.name == "y"
    assert node.input(1).shape.static == (5, 3, 2, 4)
    assert node.attrs["dilation_hfactor"] == (2 if case == "dilated" else 1)
    assert node.attrs["dilation_wfactor"] == (3 if case == "dilated" else 1)


def test_explicit_padding_that_is_not_same() -> None:
    body = convolution(weights(3, 2, 4, 5), options("2, 2", "EXPLICIT", explicit_paddings=[0, 0, 1, 2, 0, 1, 0, 0]))
    assert_lowers(text_model(body, "%x: float32[1, 8, 9, 4]"), ["PAD", "CONV_2D"], reference="reference")


@pytest.mark.parametrize("shape", IMAGES)
@pytest.mark.parametrize("case", CASES)
def test_a_depthwise_convolution(shape: str, case: str) -> None:
    if case.startswith("valid") or "dilated" in case:
        case = "same"
    body = convolution(weights(3, 2, 4, 3), CASES[case], "DepthwiseConv2dNative")
    lowered = assert_lowers(text_model(body, f"%x: float32{shape}"), reference="reference")
    node = only(lowered, "DEPTHWISE_CONV_2D")
    assert node.input(1).shape.static == (1, 3, 2, 12)
    assert node.attrs["depth_multiplier"] == 3


def test_groups() -> None:
    grouped = convolution(weights(3, 3, 2, 6), options())
    assert_lowers(text_model(grouped, "%x: float32[1, 8, 9, 4]"), ["CONV_2D"], reference="reference")
    single = convolution(weights(3, 3, 1, 8), options())
    assert_lowers(text_model(single, "%x: float32[?, 8, 9, 4]"), ["DEPTHWISE_CONV_2D"], reference="reference")
    alone = convolution(weights(3, 3, 1, 8), options())
    assert_lowers(text_model(alone, "%x: float32[?, 8, 9, 1]"), ["CONV_2D"], reference="reference")


@pytest.mark.parametrize(
    ("op", "kernel", "expected"),
    [
        ("Conv2D", "[3, 3, 4, 5]", ["TRANSPOSE", "CONV_2D"]),
        ("DepthwiseConv2dNative", "[3, 3, 4, 2]", ["RESHAPE", "DEPTHWISE_CONV_2D"]),
    ],
)
def test_a_kernel_that_is_computed(op: str, kernel: str, expected: list[str]) -> None:
    inputs = f"%x: float32[1, 8, 9, 4], %w: float32{kernel}"
    assert_lowers(text_model(convolution("", options(), op), inputs), expected, reference="reference")


def test_sixteen_bits_are_computed_in_thirty_two() -> None:
    body = convolution(weights(3, 3, 4, 5, dtype="float16"), options())
    assert_lowers(text_model(body, "%x: float16[1, 8, 9, 4]"), ["CAST", "CONV_2D", "CAST"], reference="reference",
                  rtol=5e-3)  # fmt: skip


def test_channels_first_become_last() -> None:
    body = convolution(weights(3, 3, 4, 5), '{strides = [1, 1, 2, 1], padding = b"SAME", data_format = b"NCHW"}')
    assert_lowers(text_model(body, "%x: float32[1, 4, 8, 9]"), ["TRANSPOSE", "CONV_2D", "TRANSPOSE"],
                  reference="reference")  # fmt: skip


@pytest.mark.parametrize("shape", ["[2, 6, 8, 9, 4]", "[?, 6, 8, 9, 4]"])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_three_dimensions(shape: str, padding: str) -> None:
    body = convolution(weights(3, 3, 2, 4, 5), options("1, 2, 1", padding), "Conv3D")
    assert_lowers(text_model(body, f"%x: float32{shape}"), ["CONV_3D"], reference="reference")


def test_groups_in_three_dimensions() -> None:
    body = convolution(weights(3, 3, 2, 2, 6), options("1, 2, 1"), "Conv3D")
    expected = {"SPLIT": 1, "CONV_3D": 2, "CONCATENATION": 1}
    assert_lowers(text_model(body, "%x: float32[?, 6, 8, 9, 4]"), expected, reference="reference")


@pytest.mark.parametrize(
    ("body", "inputs", "reason"),
    [
        (convolution(weights(3, 3, 4, 5, dtype="float64"), options()), "float64[1, 8, 9, 4]", "not for float64"),
        (convolution("", options()), "float32[1, 8, 9, 4], %w: float32[*]", "is not wholly known"),
    ],
)
def test_refusals(body: str, inputs: str, reason: str) -> None:
    with pytest.raises(UnloweredError, match=reason):
        graphopt.lower(text_model(body, f"%x: {inputs}"), "tflite")


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_convolutions_of_every_shape(data: st.DataObject) -> None:
    """Strides, dilations, paddings and kernels of random sizes, batches known and unknown."""
    height, width = (data.draw(st.integers(1, 3)) for _ in range(2))
    channels = data.draw(st.sampled_from([1, 2, 4]))
    depthwise = data.draw(st.booleans())
    stride = data.draw(st.integers(1, 2))
    spread = data.draw(st.integers(1, 2)) if stride == 1 and not depthwise else 1
    padding = data.draw(st.sampled_from(["SAME", "VALID"]))
    attrs = options(f"{stride}, {stride}", padding, dilations=[1, spread, spread, 1])
    kernel = weights(height, width, channels, data.draw(st.integers(1, 3)))
    batch = data.draw(st.sampled_from(["?", "1", "2"]))
    op = "DepthwiseConv2dNative" if depthwise else "Conv2D"
    assert_lowers(text_model(convolution(kernel, attrs, op), f"%x: float32[{batch}, 7, 6, {channels}]"),
                  reference="reference")  # fmt: skip
