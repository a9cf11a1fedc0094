"""Legalisation of resizing and of patches."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphopt
from graphopt.backends.base import UnloweredError
from graphopt.backends.decompositions.interpolation import KERNELS, kernel_weights
from graphopt.testing.lowering import assert_lowers, text_model

SIZE = "%s = tf.Const() {value = int32[2] [13, 5]}\n"
SHAPES = ("[1, 8, 9, 4]", "[?, 8, 9, 4]", "[?, ?, ?, 4]")
MODES = ("", "align_corners = true", "half_pixel_centers = true")
BY_WEIGHTS = {"RESHAPE": 3, "BATCH_MATMUL": 2}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("op", "expected"),
    [("ResizeBilinear", "RESIZE_BILINEAR"), ("ResizeNearestNeighbor", "RESIZE_NEAREST_NEIGHBOR")],
)
def test_builtin_modes(shape: str, mode: str, op: str, expected: str) -> None:
    text = SIZE + f"%y = tf.{op}(%x, %s) {{{mode}}}"
    assert_lowers(text_model(text, f"%x: float32{shape}"), [expected], reference="reference")


def test_integers_become_floats() -> None:
    text = SIZE + "%y = tf.ResizeBilinear(%x, %s) {}"
    assert_lowers(text_model(text, "%x: uint8[1, 8, 9, 4]"), ["CAST", "RESIZE_BILINEAR"], reference="reference")


@pytest.mark.parametrize("shape", SHAPES[:2])
@pytest.mark.parametrize("call", [*(f"ResizeBicubic(%x, %s) {{{mode}}}" for mode in MODES), "ResizeArea(%x, %s) {}"])
def test_other_modes_are_products_with_weights(shape: str, call: str) -> None:
    assert_lowers(text_model(SIZE + f"%y = tf.{call}", f"%x: float32{shape}"), BY_WEIGHTS, reference="reference")


@pytest.mark.tensorflow
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("smooth", ["true", "false"])
def test_resampling_kernels(kernel: str, smooth: str) -> None:
    text = SIZE + (
        "%k = tf.Const() {value = float32[2] [1.5, 0.6]}\n%t = tf.Const() {value = float32[2] [0.5, -1.25]}\n"
        f'%y = tf.ScaleAndTranslate(%x, %s, %k, %t) {{kernel_type = b"{kernel}", antialias = {smooth}}}'
    )
    assert_lowers(text_model(text, "%x: float32[?, 8, 9, 4]"), BY_WEIGHTS)


def test_weights_sum_to_one_or_are_nothing() -> None:
    weights = kernel_weights("triangle", 4, 6, 1.0, 1.0, True)
    assert weights is not None
    assert weights.sum(axis=1).tolist() == [0, 1, 1, 1, 1, 0]
    assert kernel_weights("none", 4, 6, 1.0, 1.0, True) is None


PATCHES = (
    "%y = tf.ExtractImagePatches(%x) {{ksizes = [1, {k}, 1], strides = [1, {s}, 1], "
    'rates = [1, {r}, 1], padding = b"{p}"}}'
)


def test_patches_side_by_side_are_blocks() -> None:
    text = PATCHES.format(k="2, 2", s="2, 2", r="1, 1", p="VALID")
    assert_lowers(text_model(text, "%x: float32[?, 8, 6, 3]"), ["SPACE_TO_DEPTH"], reference="reference")


@settings(max_examples=10, deadline=None)
@given(st.data())
def test_patches_of_every_shape(data: st.DataObject) -> None:
    def pair(most: int) -> str:
        return f"{data.draw(st.integers(1, most))}, {data.draw(st.integers(1, most))}"

    text = PATCHES.format(k=pair(3), s=pair(3), r="1, 1", p=data.draw(st.sampled_from(["SAME", "VALID"])))
    batch = data.draw(st.sampled_from(["?", "2"]))
    assert_lowers(text_model(text, f"%x: float32[{batch}, 7, 6, 2]"), reference="reference")


@pytest.mark.parametrize(
    ("text", "inputs", "reason"),
    [
        (SIZE + "%y = tf.ResizeBicubic(%x, %s) {}", "%x: float32[?, ?, 9, 4]", "the size of the images"),
        ("%y = tf.ResizeArea(%x, %s) {}", "%x: float32[1, 8, 9, 4], %s: int32[2]", "computed at run time"),
        (PATCHES.format(k="16, 16", s="3, 3", r="1, 1", p="VALID"), "%x: float32[1, 32, 32, 8]", "are too large"),
    ],
)
def test_refusals(text: str, inputs: str, reason: str) -> None:
    with pytest.raises(UnloweredError, match=reason):
        graphopt.lower(text_model(text, inputs), "tflite")
