"""Legalisation of transposed convolutions."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphopt
from graphopt.backends.base import UnloweredError
from graphopt.testing.lowering import assert_lowers, text_model

VALUES = "repeat [0.5, -0.25, 1.0, 0.125, -1.0, 0.75, 0.3, 0.2]"


def body(
    sizes: str, attrs: str, *, kernel: str = "3, 3, 5, 4", op: str = "Conv2DBackpropInput", dtype: str = "float32"
) -> str:
    return (
        f"%w = tf.Const() {{value = {dtype}[{kernel}] {VALUES}}}\n"
        f"%s = tf.Const() {{value = int32[{sizes.count(',') + 1}] [{sizes}]}}\n%y = tf.{op}(%s, %w, %x) {{{attrs}}}"
    )


def computed(extra: str, attrs: str) -> str:
    """The same with sizes computed from those of the input: twice as much, and `extra`."""
    return (
        f"%w = tf.Const() {{value = float32[3, 3, 5, 4] {VALUES}}}\n%n = tf.Shape(%x) {{out_type = int32}}\n"
        "%zero = tf.Const() {value = int32[1] [0]}\n%one = tf.Const() {value = int32[1] [1]}\n"
        "%b = tf.StridedSlice(%n, %zero, %one, %one) {shrink_axis_mask = 1}\n"
        f"%h = tf.Const() {{value = int32[] {16 + int(extra)}}}\n"
        f"%v = tf.Const() {{value = int32[] {18 + int(extra)}}}\n"
        "%c = tf.Const() {value = int32[] 5}\n%s = tf.Pack(%b, %h, %v, %c)\n"
        f"%y = tf.Conv2DBackpropInput(%s, %w, %x) {{{attrs}}}"
    )


STRIDES = "strides = [1, 2, 2, 1], "


@pytest.mark.parametrize(
    ("sizes", "attrs", "expected"),
    [
        ("1, 16, 18, 5", STRIDES + 'padding = b"SAME"', ["TRANSPOSE_CONV"]),
        ("1, 17, 19, 5", STRIDES + 'padding = b"VALID"', ["TRANSPOSE_CONV"]),
        ("1, 18, 20, 5", STRIDES + 'padding = b"VALID"', ["TRANSPOSE_CONV"]),
        ("1, 15, 17, 5", STRIDES + 'padding = b"EXPLICIT", explicit_paddings = [0, 0, 1, 1, 1, 1, 0, 0]',
         ["TRANSPOSE_CONV", "SLICE"]),
        ("1, 8, 9, 5", 'strides = [1, 1, 1, 1], dilations = [1, 2, 2, 1], padding = b"SAME"', ["TRANSPOSE_CONV"]),
    ],
)  # fmt: skip
def test_sizes_that_are_known(sizes: str, attrs: str, expected: list[str]) -> None:
    assert_lowers(text_model(body(sizes, attrs), "%x: float32[1, 8, 9, 4]"), expected, reference="reference")


@pytest.mark.parametrize(
    ("extra", "attrs"),
    [
        ("0", STRIDES + 'padding = b"SAME"'),
        ("1", STRIDES + 'padding = b"VALID"'),
        ("-1", STRIDES + 'padding = b"EXPLICIT", explicit_paddings = [0, 0, 1, 1, 1, 1, 0, 0]'),
    ],
)
def test_sizes_that_are_computed(extra: str, attrs: str) -> None:
    lowered = assert_lowers(text_model(computed(extra, attrs), "%x: float32[?, 8, 9, 4]"), reference="reference")
    assert any(node.op == "tfl.TRANSPOSE_CONV" for node in lowered.model.graph)


def test_a_kernel_that_is_computed() -> None:
    text = (
        "%s = tf.Const() {value = int32[4] [1, 16, 18, 5]}\n"
        '%y = tf.Conv2DBackpropInput(%s, %w, %x) {strides = [1, 2, 2, 1], padding = b"SAME"}'
    )
    inputs = "%x: float32[1, 8, 9, 4], %w: float32[3, 3, 5, 4]"
    assert_lowers(text_model(text, inputs), ["TRANSPOSE", "TRANSPOSE_CONV"], reference="reference")


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_three_dimensions(padding: str) -> None:
    sizes = "2, 6, 8, 10, 3" if padding == "SAME" else "2, 7, 9, 11, 3"
    text = body(sizes, f'strides = [1, 2, 2, 2, 1], padding = b"{padding}"', kernel="3, 3, 3, 3, 4",
                op="Conv3DBackpropInputV2")  # fmt: skip
    assert_lowers(text_model(text, "%x: float32[2, 3, 4, 5, 4]"), ["CONV_3D_TRANSPOSE"], reference="reference")


@pytest.mark.parametrize(
    ("text", "inputs", "reason"),
    [
        (body("1, 16, 18, 5", STRIDES + 'padding = b"SAME"', dtype="float64"), "float64[1, 8, 9, 4]", "for float64"),
        (body("1, 16, 18, 5", STRIDES + 'padding = b"SAME"'), "float32[1, 8, 9, 8]", "groups"),
        (
            '%s = tf.Const() {value = int32[4] [1, 8, 9, 5]}\n%y = tf.Conv2DBackpropInput(%s, %w, %x) '
            '{strides = [1, 1, 1, 1], dilations = [1, 2, 2, 1], padding = b"SAME"}',
            "float32[1, 8, 9, 4], %w: float32[3, 3, 5, 4]", "its kernel computed at run time",
        ),
    ],
)  # fmt: skip
def test_refusals(text: str, inputs: str, reason: str) -> None:
    with pytest.raises(UnloweredError, match=reason):
        graphopt.lower(text_model(text, f"%x: {inputs}"), "tflite")


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_transposed_convolutions_of_every_shape(data: st.DataObject) -> None:
    stride, window = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))
    padding = data.draw(st.sampled_from(["SAME", "VALID"]))
    rows, columns = data.draw(st.integers(2, 4)), data.draw(st.integers(2, 4))

    def size(count: int) -> int:
        least = (count - 1) * stride + (1 if padding == "SAME" else window)
        return least + data.draw(st.integers(0, stride - 1))

    sizes = f"2, {size(rows)}, {size(columns)}, 5"
    attrs = f'strides = [1, {stride}, {stride}, 1], padding = b"{padding}"'
    text = body(sizes, attrs, kernel=f"{window}, {window}, 5, 4")
    assert_lowers(text_model(text, f"%x: float32[2, {rows}, {columns}, 4]"), ["TRANSPOSE_CONV"],
                  reference="reference")  # fmt: skip


@pytest.mark.tensorflow
@pytest.mark.parametrize("batch", ["1", "2"])
@pytest.mark.parametrize("multiplier", [1, 2])
def test_channels_by_themselves(batch: str, multiplier: int) -> None:
    made = {"kernel": f"3, 3, 4, {multiplier}", "op": "DepthwiseConv2dNativeBackpropInput"}
    text = body(f"{batch}, 16, 18, 4", STRIDES + 'padding = b"SAME"', **made)
    assert_lowers(text_model(text, f"%x: float32[{batch}, 8, 9, {4 * multiplier}]"), ["TRANSPOSE_CONV"])
    wide = body("1, 16, 18, 900", STRIDES + 'padding = b"SAME"', kernel="3, 3, 900, 1", op=made["op"])
    with pytest.raises(UnloweredError, match="too large"):
        graphopt.lower(text_model(wide, "%x: float32[1, 8, 9, 900]"), "tflite")
