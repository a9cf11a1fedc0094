"""The same elements in another shape, and shapes as data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphopt.backends.base import UnloweredError
from graphopt.backends.xla.backend import XlaBackend
from graphopt.runtimes.base import get_runtime
from graphopt.testing.lowering import int_scalar, int_vector, text_model


def test_shapes_and_joins(agrees: Callable[..., Any]) -> None:
    body = (
        int_vector("two", 3, 2) + int_vector("perm", 1, 0) + int_scalar("axis", 1) + int_vector("times", 2, 1)
        + int_vector("ax", 0)
        + "%pads = tf.Const() {value = int32[2, 2] [[1, 0], [0, 2]]}\n"
        "%a = tf.Reshape(%x, %two)\n%b = tf.Transpose(%x, %perm)\n%c = tf.ConcatV2(%x, %x, %axis)\n"
        "%d = tf.Pack(%x, %x) {axis = 1}\n%e = tf.Tile(%x, %times)\n%f = tf.Pad(%x, %pads)\n"
        '%g = tf.ReverseV2(%x, %ax)\n%h = tf.ExpandDims(%x, %axis)\n%i = tf.Shape(%x)\n%j = tf.Size(%x)\n'
        '%mp = tf.Const() {value = int32[2, 2] [[1, 1], [2, 1]]}\n%k = tf.MirrorPad(%x, %mp) {mode = "REFLECT"}\n'
        "%l = tf.Unpack(%x) {num = 3, axis = 1}\n%o = tf.Split(%axis, %x) {num_split = 3}"
    )  # fmt: skip
    names = ", ".join(f"%{letter}" for letter in "abcdefghijklo") + ", %l:2, %o:1"
    agrees(body, "%x: float32[2, 3]", names)


def test_blocks_of_pixels(agrees: Callable[..., Any]) -> None:
    body = (
        int_vector("block", 2, 2) + "%zero = tf.Const() {value = int32[2, 2] [[0, 0], [0, 0]]}\n"
        "%y = tf.SpaceToDepth(%x) {block_size = 2}\n%z = tf.DepthToSpace(%y) {block_size = 2}\n"
        "%a = tf.SpaceToBatchND(%x, %block, %zero)\n%b = tf.BatchToSpaceND(%a, %block, %zero)"
    )
    agrees(body, "%x: float32[1, 4, 6, 3]", "%y, %z, %a, %b")


def test_a_batch_of_any_size() -> None:
    """One program for every number of rows: symbols go through reshapes, products and shapes as data."""
    body = (
        int_vector("perm", 0, 2, 1) + int_vector("last", -1, 12) + int_vector("ax", 1) + int_scalar("two", 2)
        + "%w = tf.Const() {value = float32[12, 2] splat 0.5}\n%t = tf.Transpose(%x, %perm)\n"
        "%f = tf.Reshape(%t, %last)\n%m = tf.MatMul(%f, %w)\n%s = tf.Softmax(%m)\n%h = tf.Shape(%x)\n"
        "%e = tf.Erf(%m)\n%v = tf.Mean(%x, %ax)"
    )  # fmt: skip
    model = text_model(body, "%x: float32[?, 3, 4]", "%s, %h, %e, %v")
    lowered = XlaBackend().lower(model, fallback=False).model
    right, runtime = get_runtime("reference"), get_runtime("xla")
    for count in (1, 5):
        feeds = {"x": np.random.default_rng(count).normal(size=(count, 3, 4)).astype(np.float32)}
        expected, found = right.run(model, feeds), runtime.run(lowered, feeds)
        for name, array in expected.items():
            np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6)


def test_shapes_that_follow_from_data_are_refused() -> None:
    model = text_model("%z = tf.Shape(%x)\n%y = tf.Reshape(%x, %s)", "%x: float32[2, 3], %s: int32[2]")
    with pytest.raises(UnloweredError, match="depends on data"):
        XlaBackend().lower(model, fallback=False)


def test_moved_and_turned(agrees: Callable[..., Any]) -> None:
    body = (
        "%s = tf.Const() {value = int32[2] [2, -1]}\n%a = tf.Const() {value = int32[2] [0, 1]}\n"
        "%r = tf.Roll(%x, %s, %a)\n%v = tf.ReverseSequence(%x, %n) {seq_dim = 1, batch_dim = 0}\n"
        "%k = tf.Const() {value = int32[] 2}\n%h = tf.NthElement(%x, %k)\n%g = tf.NthElement(%x, %k) {reverse = true}"
    )
    data = {"x": np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32), "n": np.array([0, 3, 5], np.int64)}
    agrees(body, "%x: float32[3, 5], %n: int64[3]", "%r, %v, %h, %g", data)


def test_numbers_of_shapes(agrees: Callable[..., Any]) -> None:
    body = (
        "%a = tf.Const() {value = int32[] 1}\n%s = tf.Const() {value = int32[2] [2, 3]}\n"
        "%t = tf.Const() {value = int32[2] [2, 5]}\n%o = tf.ConcatOffset(%a, %s, %t)\n%b = tf.Shape(%x)\n"
        "%p = tf.BroadcastArgs(%b, %s)\n%n = tf.Size(%x)\n%k = tf.Rank(%x)"
    )
    agrees(body, "%x: float32[2, 3]", "%o, %o:1, %p, %n, %k")
