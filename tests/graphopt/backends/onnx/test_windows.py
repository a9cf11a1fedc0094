"""Legalisation of convolutions, pools and norms over images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

INT = "%{name} = tf.Const() {{value = int32[{shape}] {data}}}\n"


def vector(name: str, data: list[int]) -> str:
    return INT.format(name=name, shape=len(data), data=data)


def scalar(name: str, number: int) -> str:
    return INT.format(name=name, shape="", data=number)


IMAGE = "%x: float32[1, 6, 6, 2]"
KERNEL = np.random.default_rng(1).normal(size=(3, 3, 2, 4)).round(2).tolist()
WEIGHTS = f"%w = tf.Const() {{value = float32[3, 3, 2, 4] {KERNEL}}}\n"


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


def test_grouped_convolutions(lowers: Any) -> None:
    body = WEIGHTS + '%y = tf.Conv2D(%x, %w) {strides = [1, 1, 1, 1], padding = b"VALID"}'
    lowered = lowers(body, inputs="%x: float32[1, 6, 6, 4]", tolerance=1e-4)
    assert next(node for node in lowered.model.graph if node.op_type == "Conv").attrs["group"] == 2


@pytest.mark.parametrize("op", ["Conv2D", "DepthwiseConv2dNative"])
def test_kernels_may_be_computed(lowers: Any, op: str) -> None:
    inputs = f"{IMAGE}, %w: float32[3, 3, 2, 4]"
    lowers(f'%y = tf.{op}(%x, %w) {{strides = [1, 1, 1, 1], padding = b"SAME"}}', inputs=inputs, tolerance=1e-4)


@settings(max_examples=4)
@given(stride=st.integers(1, 2), same=st.booleans())
def test_convolutions_of_volumes(lowers: Any, stride: int, same: bool) -> None:
    padding = "SAME" if same else "VALID"
    attrs = f'{{strides = [1, {stride}, {stride}, 1, 1], padding = b"{padding}"}}'
    inputs = "%x: float32[1, 4, 5, 4, 2], %w: float32[2, 3, 2, 2, 3]"
    lowers(f"%y = tf.Conv3D(%x, %w) {attrs}", inputs=inputs, tolerance=1e-4)
    pool = f'{{ksize = [1, 2, 2, 2, 1], strides = [1, {stride}, {stride}, 1, 1], padding = b"{padding}"}}'
    lowers(f"%p = tf.MaxPool3D(%x) {pool}\n%y = tf.AvgPool3D(%p) {pool}", inputs="%x: float32[?, 4, 5, 4, 2]")


@settings(max_examples=12)
@given(size=st.integers(3, 5), stride=st.integers(1, 3), more=st.integers(0, 2), same=st.booleans())
def test_transposed_convolutions(lowers: Any, size: int, stride: int, more: int, same: bool) -> None:
    window = stride + more
    made = size * stride if same else (size - 1) * stride + window
    padding = "SAME" if same else "VALID"
    body = vector("s", [1, made, made, 2])
    attrs = f'{{strides = [1, {stride}, {stride}, 1], padding = b"{padding}"}}'
    body += f"%y = tf.Conv2DBackpropInput(%s, %w, %x) {attrs}"
    inputs = f"%w: float32[{window}, {window}, 2, 3], %x: float32[1, {size}, {size}, 3]"
    lowers(body, inputs=inputs, tolerance=1e-4)


@pytest.mark.parametrize("batch", [False, True])
def test_places_of_maxima(lowers: Any, batch: bool) -> None:
    attrs = 'ksize = [1, 2, 2, 1], strides = [1, 2, 2, 1], padding = b"SAME", '
    attrs += f"include_batch_in_index = {str(batch).lower()}"
    body = f"%y = tf.MaxPoolWithArgmax(%x) {{{attrs}}}"
    lowers(body, inputs="%x: float32[2, 5, 4, 3]", outputs="%y, %y:1")


def test_a_maximum_over_groups_of_channels(lowers: Any) -> None:
    attrs = '{ksize = [1, 1, 1, 2], strides = [1, 1, 1, 2], padding = b"VALID"}'
    lowers(
        f"%y = tf.MaxPool(%x) {attrs}", {"Transpose": 2, "Reshape": 1, "ReduceMax": 1}, inputs="%x: float32[?, 3, 3, 4]"
    )


def test_neighbouring_channels(lowers: Any) -> None:
    body = "%y = tf.LRN(%x) {depth_radius = 1, bias = 1.5, alpha = 0.3, beta = 0.6}"
    lowers(body, {"Transpose": 2, "LRN": 1}, inputs="%x: float32[2, 3, 3, 5]")


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_norms_by_the_batch(lowers: Any, layout: str) -> None:
    inputs = "%x: float32[2, 3, 3, 3], %s: float32[3], %o: float32[3], %m: float32[0], %v: float32[0]"
    body = f'%y = tf.FusedBatchNormV3(%x, %s, %o, %m, %v) {{is_training = true, data_format = b"{layout}"}}'
    lowers(body, inputs=inputs, outputs="%y, %y:1, %y:2", tolerance=1e-4)


def test_what_windows_cannot_do_is_named(refuses: Any) -> None:
    attrs = '{ksize = [2, 1, 1, 1], strides = [1, 1, 1, 1], padding = b"VALID"}'
    refuses(f"%y = tf.MaxPool(%x) {attrs}", "pools over the batch", IMAGE)
