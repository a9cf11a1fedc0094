"""Colours, patches and crops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

PICTURES = "%x: float32[2, 6, 7, 3]"


def test_colours(agrees: Callable[..., Any]) -> None:
    """Grey and black pixels too, whose hue and saturation are zero."""
    pictures = np.random.default_rng(0).uniform(size=(2, 6, 7, 3)).astype(np.float32)
    pictures[0, 0, :3] = [[0.5] * 3, [0] * 3, [1, 0, 0]]
    body = (
        "%d = tf.Const() {value = float32[] 0.3}\n%h = tf.RGBToHSV(%x)\n%r = tf.HSVToRGB(%x)\n"
        "%a = tf.AdjustHue(%x, %d)\n%s = tf.AdjustSaturation(%x, %d)\n%c = tf.AdjustContrastv2(%x, %d)"
    )
    agrees(body, PICTURES, "%h, %r, %a, %s, %c", {"x": pictures})


@pytest.mark.parametrize("method", ["bilinear", "nearest"])
def test_crops(agrees: Callable[..., Any], method: str) -> None:
    """Boxes beyond the picture, and turned around."""
    body = (
        "%s = tf.Const() {value = int32[2] [4, 3]}\n"
        f'%y = tf.CropAndResize(%x, %b, %i, %s) {{method = "{method}", extrapolation_value = 0.25}}\n'
        "%o = tf.Const() {value = int32[2] [1, 1]}\n%z = tf.CropAndResize(%x, %b, %i, %o)"
    )
    boxes = np.array([[0, 0, 1, 1], [0.2, 0.9, 0.7, 0.1], [-0.3, 0.5, 0.5, 1.4]], np.float32)
    pictures = np.random.default_rng(1).normal(size=(2, 6, 7, 3)).astype(np.float32)
    data = {"x": pictures, "b": boxes, "i": np.array([0, 1, 1], np.int32)}
    agrees(body, f"{PICTURES}, %b: float32[3, 4], %i: int32[3]", "%y, %z", data)


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_patches(agrees: Callable[..., Any], padding: str) -> None:
    attributes = f'ksizes = [1, 3, 2, 1], strides = [1, 2, 1, 1], rates = [1, 1, 2, 1], padding = "{padding}"'
    agrees(f"%y = tf.ExtractImagePatches(%x) {{{attributes}}}", PICTURES)


def test_patches_keep_precision(operations: Callable[..., dict[str, int]]) -> None:
    """Moving elements rounds nothing, whatever the precision of products."""
    attributes = 'ksizes = [1, 2, 2, 1], strides = [1, 2, 2, 1], rates = [1, 1, 1, 1], padding = "VALID"'
    found = operations(f"%y = tf.ExtractImagePatches(%x) {{{attributes}}}", PICTURES, precision="bfloat16")
    assert found["convolution"] == 1
    assert "convert" not in found


@pytest.mark.parametrize("size", [(8, 8), (3, 5), (6, 14)])
@pytest.mark.parametrize("attributes", ["half_pixel_centers = true", "align_corners = true", "align_corners = false"])
def test_other_sizes(agrees: Callable[..., Any], size: tuple[int, int], attributes: str) -> None:
    area = attributes if "half" not in attributes else "align_corners = false"
    body = f"%s = tf.Const() {{value = int32[2] [{size[0]}, {size[1]}]}}\n" + (
        f"%a = tf.ResizeBilinear(%x, %s) {{{attributes}}}\n%b = tf.ResizeNearestNeighbor(%x, %s) {{{attributes}}}\n"
        f"%c = tf.ResizeBicubic(%x, %s) {{{attributes}}}\n%d = tf.ResizeArea(%x, %s) {{{area}}}"
    )
    agrees(body, PICTURES, "%a, %b, %c, %d")


def test_unknown_sizes_are_refused(refusal: Callable[..., Any]) -> None:
    body = "%s = tf.Const() {value = int32[2] [4, 4]}\n%y = tf.ResizeBicubic(%x, %s)"
    finding = refusal(body, "%x: float32[1, ?, 6, 3]")
    assert finding.node == "y"
    assert "--unknown" in finding.remedy
