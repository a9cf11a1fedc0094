"""Rules of each family: what comes out, and that ONNX Runtime computes what the reference does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.backends.base import UnloweredError, find_backend
from graphopt.testing.lowering import text_model

INT = "%{name} = tf.Const() {{value = int32[{shape}] {data}}}\n"


def vector(name: str, data: list[int]) -> str:
    return INT.format(name=name, shape=len(data), data=data)


def scalar(name: str, number: int) -> str:
    return INT.format(name=name, shape="", data=number)


IMAGE = "%x: float32[1, 6, 6, 2]"
KERNEL = np.random.default_rng(1).normal(size=(3, 3, 2, 4)).round(2).tolist()
WEIGHTS = f"%w = tf.Const() {{value = float32[3, 3, 2, 4] {KERNEL}}}\n"


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("Relu", ["Relu"]),
        ("Tanh", ["Tanh"]),
        ("Square", ["Mul"]),
        ("Relu6", ["Clip"]),
        ("Softplus", ["Softplus"]),
        ("Erfc", ["Erf", "Sub"]),
        ("Expm1", ["Exp", "Sub"]),
        ("IsFinite", ["IsNaN", "IsInf", "Or", "Not"]),
        ("Softmax", ["Softmax"]),
    ],
)
def test_functions_of_one_operand(lowers: Any, op: str, expected: list[str]) -> None:
    lowers(f"%y = tf.{op}(%x)", expected)


@pytest.mark.parametrize("op", ["AddV2", "Sub", "Mul", "RealDiv", "Maximum", "SquaredDifference", "Less", "NotEqual"])
def test_functions_of_two_operands(lowers: Any, op: str) -> None:
    lowers(f"%y = tf.{op}(%x, %z)", inputs="%x: float32[2, 3], %z: float32[3]")


@given(a=st.integers(-20, 20), b=st.integers(1, 7), floor=st.booleans())
def test_integer_division_goes_to_the_floor(lowers: Any, a: int, b: int, floor: bool) -> None:
    op = "FloorDiv" if floor else "FloorMod"
    feeds = {"x": np.array([a, -a], np.int32), "z": np.array([b, -b], np.int32)}
    lowers(f"%y = tf.{op}(%x, %z)", inputs="%x: int32[2], %z: int32[2]", feeds=feeds)


def test_a_convolution_takes_its_bias_and_channels_first(lowers: Any) -> None:
    body = WEIGHTS + "%b = tf.Const() {value = float32[4] [1.0, 2.0, 3.0, 4.0]}\n"
    body += '%c = tf.Conv2D(%x, %w) {strides = [1, 2, 2, 1], padding = b"SAME"}\n%y = tf.BiasAdd(%c, %b)'
    lowered = lowers(body, {"Transpose": 2, "Conv": 1}, inputs=IMAGE)
    conv = next(node for node in lowered.model.graph if node.op_type == "Conv")
    assert conv.attrs["strides"] == (2, 2)
    assert conv.input(1).shape.static == (4, 2, 3, 3)


@given(stride=st.integers(1, 3), dilation=st.integers(1, 2), same=st.booleans(), size=st.integers(5, 9))
def test_convolutions(lowers: Any, stride: int, dilation: int, same: bool, size: int) -> None:
    stride = 1 if dilation > 1 else stride
    attrs = f"strides = [1, {stride}, {stride}, 1], dilations = [1, {dilation}, {dilation}, 1]"
    padding = "SAME" if same else "VALID"
    body = WEIGHTS + f'%y = tf.Conv2D(%x, %w) {{{attrs}, padding = b"{padding}"}}'
    lowered = lowers(body, inputs=f"%x: float32[1, {size}, {size}, 2]")
    assert sum(node.op_type == "Conv" for node in lowered.model.graph) == 1


@given(window=st.integers(1, 3), stride=st.integers(1, 2), same=st.booleans(), mean=st.booleans())
def test_pools(lowers: Any, window: int, stride: int, same: bool, mean: bool) -> None:
    attrs = f"ksize = [1, {window}, {window}, 1], strides = [1, {stride}, {stride}, 1]"
    op, padding = ("AvgPool" if mean else "MaxPool"), ("SAME" if same else "VALID")
    lowers(f'%y = tf.{op}(%x) {{{attrs}, padding = b"{padding}"}}', inputs=IMAGE)


def test_zeros_around_a_maximum_stay_zeros(lowers: Any) -> None:
    body = "%pads = tf.Const() {value = int32[4, 2] [[0, 0], [1, 1], [1, 1], [0, 0]]}\n%p = tf.Pad(%x, %pads)\n"
    body += '%y = tf.MaxPool(%p) {ksize = [1, 3, 3, 1], strides = [1, 2, 2, 1], padding = b"VALID"}'
    feeds = {"x": -np.ones((1, 6, 6, 2), np.float32)}
    lowers(body, {"Transpose": 2, "Pad": 1, "MaxPool": 1}, inputs=IMAGE, feeds=feeds)


def test_dilated_convolutions_through_batches_are_dilated(lowers: Any) -> None:
    body = WEIGHTS + vector("block", [2, 2])
    body += "%pads = tf.Const() {value = int32[2, 2] [[2, 2], [2, 2]]}\n"
    body += "%crops = tf.Const() {value = int32[2, 2] [[0, 0], [0, 0]]}\n"
    body += "%p = tf.SpaceToBatchND(%x, %block, %pads)\n"
    body += '%c = tf.Conv2D(%p, %w) {strides = [1, 1, 1, 1], padding = b"VALID"}\n'
    body += "%y = tf.BatchToSpaceND(%c, %block, %crops)"
    lowered = lowers(body, {"Transpose": 2, "Conv": 1}, inputs=IMAGE)
    assert next(n for n in lowered.model.graph if n.op_type == "Conv").attrs["dilations"] == (2, 2)


@pytest.mark.parametrize("flip", [False, True])
def test_products(lowers: Any, flip: bool) -> None:
    shape = "4, 3" if flip else "3, 4"
    rows = np.arange(12).reshape(4, 3) if flip else np.arange(12).reshape(3, 4)
    body = f"%w = tf.Const() {{value = float32[{shape}] {rows.astype(float).tolist()}}}\n"
    body += "%b = tf.Const() {value = float32[4] [1.0, 2.0, 3.0, 4.0]}\n"
    body += f"%m = tf.MatMul(%x, %w) {{transpose_b = {str(flip).lower()}}}\n%y = tf.AddV2(%m, %b)"
    lowers(body, ["Gemm"])


def test_einsums_have_small_letters(lowers: Any) -> None:
    body = '%y = tf.Einsum(%x, %z) {N = 2, equation = b"BTNH,BSNH->BNTS"}'
    lowered = lowers(body, ["Einsum"], inputs="%x: float32[1, 2, 3, 4], %z: float32[1, 5, 3, 4]")
    assert lowered.model.graph.node("y").attrs["equation"].islower()


@given(
    axes=st.sets(st.integers(-3, 2), min_size=1, max_size=1), keep=st.booleans(), op=st.sampled_from(["Mean", "Max"])
)
def test_reductions(lowers: Any, axes: set[int], keep: bool, op: str) -> None:
    body = vector("axes", sorted(axes)) + f"%y = tf.{op}(%x, %axes) {{keep_dims = {str(keep).lower()}}}"
    lowers(body, [f"Reduce{op}"], inputs="%x: float32[2, 3, 4]")


def test_shapes_and_joins(lowers: Any) -> None:
    body = vector("shape", [3, 2]) + scalar("axis", 1)
    body += "%r = tf.Reshape(%x, %shape)\n%y = tf.ConcatV2(%r, %r, %axis) {N = 2}"
    lowers(body, ["Reshape", "Concat"])


@given(
    begin=st.integers(-3, 2), end=st.integers(-3, 3), step=st.sampled_from([1, 2, -1]), begin_mask=st.integers(0, 1),
    end_mask=st.integers(0, 1), shrink=st.booleans(),
)  # fmt: skip
def test_strided_slices(
    lowers: Any, begin: int, end: int, step: int, begin_mask: int, end_mask: int, shrink: bool
) -> None:
    step = 1 if shrink else step
    masks = f"begin_mask = {begin_mask}, end_mask = {end_mask}, shrink_axis_mask = {2 if shrink else 0}"
    body = vector("b", [begin, 1]) + vector("e", [end, 2]) + vector("s", [step, 1])
    lowers(body + f"%y = tf.StridedSlice(%x, %b, %e, %s) {{{masks}}}", inputs="%x: float32[3, 3]")


def test_gathering_and_choosing(lowers: Any) -> None:
    body = vector("i", [1, 0]) + scalar("axis", 1) + scalar("k", 2)
    body += "%g = tf.GatherV2(%x, %i, %axis)\n%v = tf.TopKV2(%x, %k)\n%y = tf.AddV2(%g, %v)"
    lowers(body, outputs="%y, %v:1")


def test_one_hot_of_what_is_out_of_bounds_has_none(lowers: Any) -> None:
    body = scalar("depth", 3) + "%on = tf.Const() {value = float32[] 2.0}\n%off = tf.Const() {value = float32[] -1.0}\n"
    body += "%y = tf.OneHot(%x, %depth, %on, %off)"
    lowers(body, inputs="%x: int32[4]", feeds={"x": np.array([0, 2, 5, -1], np.int32)})


@pytest.mark.parametrize("op", ["ResizeBilinear", "ResizeNearestNeighbor"])
@pytest.mark.parametrize("attrs", ["", "half_pixel_centers = true", "align_corners = true"])
def test_images_of_another_size(lowers: Any, op: str, attrs: str) -> None:
    lowers(vector("size", [4, 9]) + f"%y = tf.{op}(%x, %size) {{{attrs}}}", inputs=IMAGE)


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


def test_a_written_out_gelu_is_one_operator(lowers: Any) -> None:
    body = """
    %half = tf.Const() {value = float32[] 0.5}
    %one = tf.Const() {value = float32[] 1.0}
    %root = tf.Const() {value = float32[] 0.70710678}
    %s = tf.Mul(%x, %root)
    %e = tf.Erf(%s)
    %f = tf.AddV2(%e, %one)
    %h = tf.Mul(%x, %half)
    %y = tf.Mul(%h, %f)
    """
    assert lowers(body, ["Gelu"]).model.graph.node("y").attrs["approximate"] == b"none"


@pytest.mark.parametrize(
    ("body", "inputs", "reason"),
    [
        ("%y = tf.Cumprod(%x, %a)", "%x: float32[2, 3], %a: int32[]", "computed at run time"),
        ("%y = tf.FFT(%x)", "%x: complex64[4]", "no operator for it"),
        ("%y = tf.Transpose(%x, %p)", "%x: float32[2, 3], %p: int32[2]", "computed at run time"),
        ("%y = tf.Bitcast(%x) {type = dtype float32}", "%x: int32[2]", "no operator for it"),
    ],
)
def test_what_onnx_cannot_express_is_named(body: str, inputs: str, reason: str) -> None:
    with pytest.raises(UnloweredError, match=reason):
        find_backend("onnx").lower(text_model(body, inputs))
