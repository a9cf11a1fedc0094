"""Legalisation of images of another size, crops and detection heads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.testing.lowering import assert_lowers, text_model

INT = "%{name} = tf.Const() {{value = int32[{shape}] {data}}}\n"


def vector(name: str, data: list[int]) -> str:
    return INT.format(name=name, shape=len(data), data=data)


def scalar(name: str, number: int) -> str:
    return INT.format(name=name, shape="", data=number)


IMAGE = "%x: float32[1, 6, 6, 2]"
KERNEL = np.random.default_rng(1).normal(size=(3, 3, 2, 4)).round(2).tolist()
WEIGHTS = f"%w = tf.Const() {{value = float32[3, 3, 2, 4] {KERNEL}}}\n"


@pytest.mark.parametrize("op", ["ResizeBilinear", "ResizeNearestNeighbor"])
@pytest.mark.parametrize("attrs", ["", "half_pixel_centers = true", "align_corners = true"])
def test_images_of_another_size(lowers: Any, op: str, attrs: str) -> None:
    lowers(vector("size", [4, 9]) + f"%y = tf.{op}(%x, %size) {{{attrs}}}", inputs=IMAGE)


@settings(max_examples=12)
@given(seed=st.integers(0, 50), size=st.integers(1, 6), overlap=st.sampled_from([0.1, 0.5, 0.9]))
def test_overlapping_boxes_are_suppressed(lowers: Any, seed: int, size: int, overlap: float) -> None:
    generator = np.random.default_rng(seed)
    corners, extents = generator.uniform(0, 1, (6, 2)), generator.uniform(0.1, 1, (6, 2))
    boxes = np.concatenate([corners, corners + extents], axis=1).astype(np.float32)
    body = scalar("n", size) + f"%o = tf.Const() {{value = float32[] {overlap}}}\n"
    body += "%least = tf.Const() {value = float32[] 0.1}\n"
    body += "%y = tf.NonMaxSuppressionV3(%x, %scores, %n, %o, %least)"
    scores = generator.uniform(0, 1, 6).astype(np.float32)
    lowers(body, inputs="%x: float32[6, 4], %scores: float32[6]", feeds={"x": boxes, "scores": scores})


@pytest.mark.parametrize("attrs", ["", "half_pixel_centers = true", "align_corners = true"])
@pytest.mark.parametrize("size", [[12, 12], [4, 9]])
def test_cubic_images(lowers: Any, size: list[int], attrs: str) -> None:
    lowers(vector("size", size) + f"%y = tf.ResizeBicubic(%x, %size) {{{attrs}}}", inputs=IMAGE, tolerance=1e-4)


@pytest.mark.tensorflow
def test_smoothed_images() -> None:
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is the oracle: pip install 'graphopt[tensorrt]'")
    body = vector("size", [3, 4]) + "%s = tf.Const() {value = float32[2] [0.5, 0.66]}\n"
    body += "%t = tf.Const() {value = float32[2] [0.0, 0.0]}\n"
    body += '%y = tf.ScaleAndTranslate(%x, %size, %s, %t) {kernel_type = b"lanczos3", antialias = true}'
    assert_lowers(text_model(body, IMAGE), {"Transpose": 2, "MatMul": 2}, target="onnx", rtol=1e-4)


def test_whole_pixels_are_pooled_or_copied(lowers: Any) -> None:
    lowers(vector("size", [3, 2]) + "%y = tf.ResizeArea(%x, %size)", {"Transpose": 2, "AveragePool": 1}, inputs=IMAGE)
    lowers(vector("size", [12, 6]) + "%y = tf.ResizeArea(%x, %size)", {"Transpose": 2, "Resize": 1}, inputs=IMAGE)


def test_images_by_area(lowers: Any) -> None:
    lowers(vector("size", [4, 3]) + "%y = tf.ResizeArea(%x, %size)", inputs=IMAGE, tolerance=1e-4)


def test_a_size_may_be_computed(lowers: Any) -> None:
    feeds = {"s": np.array([5, 3], np.int32), "x": np.random.default_rng(0).normal(size=(1, 4, 6, 2))}
    feeds["x"] = feeds["x"].astype(np.float32)
    inputs = "%x: float32[1, ?, ?, 2], %s: int32[2]"
    lowers("%y = tf.ResizeBilinear(%x, %s) {half_pixel_centers = true}", inputs=inputs, feeds=feeds)


@pytest.mark.parametrize("method", ["bilinear", "nearest"])
def test_crops(lowers: Any, method: str) -> None:
    boxes = np.array([[0.1, 0.2, 0.8, 0.9], [0.5, -0.3, 1.4, 0.6]], np.float32)
    inputs = "%x: float32[2, 6, 5, 3], %b: float32[2, 4], %n: int32[2]"
    body = vector("size", [3, 4]) + f'%y = tf.CropAndResize(%x, %b, %n, %size) {{method = b"{method}"}}'
    lowers(body, inputs=inputs, feeds={"b": boxes, "n": np.array([1, 0], np.int32)}, tolerance=1e-4)


@pytest.mark.parametrize("attrs", ["[1, 2, 2, 1], strides = [1, 2, 2, 1]", "[1, 3, 2, 1], strides = [1, 2, 1, 1]"])
def test_patches(lowers: Any, attrs: str) -> None:
    body = f'%y = tf.ExtractImagePatches(%x) {{ksizes = {attrs}, rates = [1, 1, 1, 1], padding = b"VALID"}}'
    lowers(body, inputs=IMAGE)


def test_contrast(lowers: Any) -> None:
    lowers("%y = tf.AdjustContrastv2(%x, %f)", inputs=f"{IMAGE}, %f: float32[]", tolerance=1e-4)


def test_crops_of_unknown_images_are_refused(refuses: Any) -> None:
    inputs = "%x: float32[1, ?, ?, 3], %b: float32[2, 4], %n: int32[2]"
    refuses(vector("size", [3, 4]) + "%y = tf.CropAndResize(%x, %b, %n, %size)", "size of the images", inputs)
