"""Legalisation of convolutions of the parts of an image of unknown size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphopt
from graphopt.testing.lowering import assert_lowers, text_model

X = "%x: float32[?, ?, ?, 2]"


def parts(*, before: int = 2, after: int = 2, cut: str = "%more", conv: str = "", axis: int = 0) -> str:
    """A convolution with a dilation of two, as `tf.nn.atrous_conv2d` writes it: the size is rounded up to blocks."""
    return f"""
    %block = tf.Const() {{value = int32[2] [2, 2]}}
    %w = tf.Const() {{value = float32[3, 3, 2, 3] repeat [0.5, -0.25, 1.0, 0.125, -1.0, 0.75, 0.3]}}
    %zero = tf.Const() {{value = int32[] 0}}
    %start = tf.Const() {{value = int32[] {before}}}
    %i0 = tf.Const() {{value = int32[1] [0]}}
    %i1 = tf.Const() {{value = int32[1] [1]}}
    %i2 = tf.Const() {{value = int32[1] [2]}}
    %i3 = tf.Const() {{value = int32[1] [3]}}
    %shape = tf.Shape(%x) {{out_type = int32}}
    %size = tf.StridedSlice(%shape, %i1, %i3, %i1)
    %both = tf.Const() {{value = int32[2] splat {before + after}}}
    %whole = tf.AddV2(%size, %both)
    %left = tf.FloorMod(%whole, %block)
    %missing = tf.Sub(%block, %left)
    %more = tf.FloorMod(%missing, %block)
    %end = tf.Const() {{value = int32[2] splat {after}}}
    %ends = tf.AddV2(%more, %end)
    %e0 = tf.StridedSlice(%ends, %i0, %i1, %i1) {{shrink_axis_mask = 1}}
    %e1 = tf.StridedSlice(%ends, %i1, %i2, %i1) {{shrink_axis_mask = 1}}
    %p0 = tf.Pack(%start, %e0)
    %p1 = tf.Pack(%start, %e1)
    %pads = tf.Pack(%p0, %p1)
    %parts = tf.SpaceToBatchND(%x, %block, %pads)
    %c = tf.Conv2D(%parts, %w) {{strides = [1, 1, 1, 1], padding = b"VALID"{conv}}}
    %m0 = tf.StridedSlice({cut}, %i0, %i1, %i1) {{shrink_axis_mask = 1}}
    %m1 = tf.StridedSlice({cut}, %i1, %i2, %i1) {{shrink_axis_mask = 1}}
    %c0 = tf.Pack(%zero, %m0)
    %c1 = tf.Pack(%zero, %m1)
    %crops = tf.Pack(%c0, %c1) {{axis = {axis}}}
    %y = tf.BatchToSpaceND(%c, %block, %crops)
    """


@pytest.mark.parametrize(
    ("options", "expected", "padding"),
    [
        ({}, ["CONV_2D"], b"SAME"),
        ({"before": 0, "after": 0}, ["CONV_2D"], b"VALID"),
        ({"before": 4, "after": 0}, ["PAD", "CONV_2D"], b"VALID"),
        ({"cut": "%ends"}, ["PAD", "CONV_2D"], b"VALID"),
    ],
)
def test_parts_of_unknown_size(options: dict[str, Any], expected: list[str], padding: bytes) -> None:
    model = text_model(parts(**options), X)
    lowered = assert_lowers(model, expected, reference="reference", data=feeds())
    (node,) = [node for node in lowered.model.graph if node.op == "tfl.CONV_2D"]
    assert (node.name, node.attrs["padding"], node.attrs["dilation_hfactor"]) == ("y", padding, 2)


def feeds() -> Any:
    rng = np.random.default_rng(0)
    return [{"x": rng.normal(size=(2, height, width, 2)).astype(np.float32)} for height, width in ((7, 6), (8, 9))]


@pytest.mark.parametrize("options", [{"cut": "%missing"}, {"axis": 1},
                                     {"conv": ", dilations = [1, 2, 2, 1]"}])  # fmt: skip
def test_what_does_not_belong_together_is_left(options: dict[str, Any]) -> None:
    lowered = graphopt.lower(text_model(parts(**options), X), "tflite")
    assert any(node.op == "tfl.SPACE_TO_BATCH_ND" for node in lowered.model.graph)
