"""Legalisation of shapes, slices, joins, padding, filling."""

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


@settings(max_examples=20)
@given(
    begin=st.integers(-3, 2), mask=st.integers(0, 3), new=st.integers(0, 2), ellipsis=st.booleans(),
    step=st.integers(1, 2),
)  # fmt: skip
def test_every_mask_of_a_slice(lowers: Any, begin: int, mask: int, new: int, ellipsis: bool, step: int) -> None:
    masks = f"begin_mask = {mask}, end_mask = {mask ^ 3}, ellipsis_mask = {4 * ellipsis}, new_axis_mask = {new}"
    body = vector("b", [begin, 0, 0]) + vector("e", [3, 2, 2]) + vector("s", [step, 1, 1])
    lowers(body + f"%y = tf.StridedSlice(%x, %b, %e, %s) {{{masks}}}", inputs="%x: float32[?, 3, 4, 2]")


def test_bounds_may_be_computed(lowers: Any) -> None:
    inputs = "%x: float32[4, 3], %b: int32[2], %z: int32[2]"
    feeds = {"b": np.array([1, 0], np.int32), "z": np.array([2, 2], np.int32)}
    lowers("%y = tf.Slice(%x, %b, %z)", inputs=inputs, feeds=feeds)
    body = vector("s", [1, 1]) + "%y = tf.StridedSlice(%x, %b, %z, %s) {shrink_axis_mask = 1}"
    lowers(body, inputs=inputs, feeds=feeds)


@pytest.mark.parametrize("body", ["%p = tf.Split(%a, %x) {num_split = 3}", "%p = tf.Unpack(%x) {num = 3, axis = 1}"])
def test_parts(lowers: Any, body: str) -> None:
    lowers(scalar("a", 1) + f"{body}\n%y = tf.Relu(%p:2)", inputs="%x: float32[?, 3]")


def test_sizes_of_parts(lowers: Any) -> None:
    body = vector("z", [1, -1]) + scalar("a", 1) + "%p = tf.SplitV(%x, %z, %a) {num_split = 2}\n%y = tf.Relu(%p:1)"
    lowers(body, {"Split": 1, "Relu": 1}, inputs="%x: float32[?, 3]")


@settings(max_examples=10)
@given(before=st.integers(0, 2), after=st.integers(0, 2), mode=st.sampled_from(["REFLECT", "SYMMETRIC"]))
def test_mirrored_margins(lowers: Any, before: int, after: int, mode: str) -> None:
    body = f"%p = tf.Const() {{value = int32[2, 2] [[0, 0], [{before}, {after}]]}}\n"
    lowers(body + f'%m = tf.MirrorPad(%x, %p) {{mode = b"{mode}"}}\n%y = tf.Relu(%m)', inputs="%x: float32[?, 4]")


def test_margins(lowers: Any) -> None:
    body = "%p = tf.Const() {value = int32[2, 2] [[0, 1], [2, 0]]}\n%v = tf.Const() {value = float32[] 3.0}\n"
    lowers(body + "%y = tf.PadV2(%x, %p, %v)", ["Pad"])
    feeds = {"p": np.array([[0, 1], [2, 0]], np.int32)}
    lowers("%y = tf.Pad(%x, %p)", inputs="%x: float32[2, 3], %p: int32[2, 2]", feeds=feeds)


def test_reversed(lowers: Any) -> None:
    lowers(vector("a", [1]) + "%y = tf.ReverseV2(%x, %a)", ["Slice"])
    body = "%y = tf.ReverseSequence(%x, %n) {seq_dim = 2, batch_dim = 0}"
    lowers(body, inputs="%x: float32[2, 3, 4], %n: int32[2]", feeds={"n": np.array([3, 1], np.int32)})


def test_rolled_and_tiled(lowers: Any) -> None:
    body = vector("s", [1]) + vector("a", [1]) + "%r = tf.Roll(%x, %s, %a)\n" + vector("m", [1, 2])
    lowers(body + "%y = tf.Tile(%r, %m)", inputs="%x: float32[?, 3]")


def test_filled(lowers: Any) -> None:
    body = "%v = tf.Const() {value = float32[] 2.5}\n%f = tf.Fill(%s, %v)\n%o = tf.OnesLike(%f)\n"
    feeds = {"s": np.array([2, 3], np.int32)}
    lowers(body + "%y = tf.AddV2(%f, %o)", inputs="%s: int32[2]", feeds=feeds)
    bounds = {"a": np.array(1, np.int32), "b": np.array(9, np.int32), "c": np.array(3, np.int32)}
    lowers("%y = tf.Range(%a, %b, %c)", ["Range"], inputs="%a: int32[], %b: int32[], %c: int32[]", feeds=bounds)
    shapes = {"a": np.array([2, 1], np.int32), "b": np.array([3, 1, 4], np.int32)}
    lowers("%y = tf.BroadcastArgs(%a, %b)", inputs="%a: int32[2], %b: int32[3]", feeds=shapes)


def test_shapes_of_what_is_not_known(lowers: Any) -> None:
    lowers("%y = tf.Shape(%x)", ["Shape", "Cast"], inputs="%x: float32[?, 3]")
    lowers("%y = tf.ShapeN(%x, %x) {out_type = int64, N = 2}", inputs="%x: float32[?, 3]", outputs="%y, %y:1")


@settings(max_examples=6)
@given(block=st.integers(1, 3), pad=st.integers(0, 2))
def test_blocks_of_space(lowers: Any, block: int, pad: int) -> None:
    size = 6 * block - pad
    body = vector("k", [block]) + f"%p = tf.Const() {{value = int32[1, 2] [[0, {pad}]]}}\n"
    body += "%s = tf.SpaceToBatchND(%x, %k, %p)\n%r = tf.Relu(%s)\n%y = tf.BatchToSpaceND(%r, %k, %p)"
    lowers(body, inputs=f"%x: float32[2, {size}, 3]")


@pytest.mark.parametrize("shape", ["?, ?, 3", "?, ?, 2, 3"])
def test_blocks_of_what_is_not_known(lowers: Any, shape: str) -> None:
    body = vector("k", [3]) + "%s = tf.SpaceToBatchND(%x, %k, %p)\n%r = tf.Relu(%s)\n"
    dims = [
        int(dim) if dim.isdecimal() else number for dim, number in zip(shape.split(", "), (2, 4, 0, 0), strict=False)
    ]
    feeds = {"p": np.array([[1, 1]], np.int32), "x": np.random.default_rng(0).normal(size=dims).astype(np.float32)}
    lowers(body + "%y = tf.BatchToSpaceND(%r, %k, %p)", inputs=f"%x: float32[{shape}], %p: int32[1, 2]", feeds=feeds)


def test_the_permutation_must_be_known(refuses: Any) -> None:
    refuses("%y = tf.Transpose(%x, %p)", "computed at run time", "%x: float32[2, 3], %p: int32[2]")
