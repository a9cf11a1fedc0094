"""Elements and slices picked and written by index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphopt.testing.lowering import assert_lowers, int_scalar, text_model


@pytest.mark.parametrize(
    ("body", "inputs"),
    [
        (int_scalar("a", 1) + "%y = tf.GatherV2(%x, %i, %a)", "%x: float32[3, 10, 2], %i: int32[2, 2]"),
        (
            int_scalar("a", 1) + "%y = tf.GatherV2(%x, %i, %a) {batch_dims = 1}",
            "%x: float32[2, 10, 3], %i: int32[2, 4]",
        ),
        (int_scalar("a", 0) + "%y = tf.GatherV2(%x, %i, %a)", "%x: float32[10, 3], %i: int32[]"),
        ("%y = tf.GatherNd(%x, %i)", "%x: float32[10, 10, 3], %i: int32[4, 2]"),
        (int_scalar("d", 10) + "%on = tf.Const() {value = float32[] 2.0}\n%off = tf.Const() {value = float32[] -1.0}\n"
         "%y = tf.OneHot(%i, %d, %on, %off) {axis = 0}", "%i: int32[4]"),
        ("%y = tf.TensorScatterUpdate(%x, %i, %u)", "%x: float32[10, 3], %i: int32[1, 1], %u: float32[1, 3]"),
        ("%y = tf.TensorScatterAdd(%x, %i, %u)", "%x: float32[10, 3], %i: int32[4, 1], %u: float32[4, 3]"),
    ],
)  # fmt: skip
def test_indices(agrees: Callable[..., Any], body: str, inputs: str) -> None:
    agrees(body, inputs)


def test_segments_and_scatters() -> None:
    body = (
        "%n = tf.Const() {value = int32[] 4}\n%y = tf.UnsortedSegmentSum(%x, %i, %n)\n"
        "%z = tf.UnsortedSegmentMax(%x, %i, %n)\n"
        "%s = tf.Const() {value = int32[2] [5, 3]}\n"
        "%v = tf.Const() {value = int32[6, 1] [[0], [1], [1], [4], [0], [2]]}\n"
        "%w = tf.ScatterNd(%v, %x, %s)"
    )
    model = text_model(body, "%x: float32[6, 3], %i: int32[6]", "%y, %z, %w")
    data = {
        "x": np.random.default_rng(0).normal(size=(1, 6, 3)).astype(np.float32),
        "i": np.array([[0, 2, 2, 1, 0, 1]], np.int32),
    }
    assert_lowers(model, target="xla", reference="reference", data=data, fallback=False)
