"""Parts of tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.backends.xla.backend import XlaBackend
from graphopt.runtimes.base import get_runtime
from graphopt.testing.lowering import assert_lowers, int_vector, text_model


@settings(max_examples=10)
@given(st.data())
def test_any_strided_slice(agrees: Callable[..., Any], data: st.DataObject) -> None:
    """Every mask, negative bounds and steps."""
    size = (5, 4)
    count = data.draw(st.integers(1, 2))
    begin = [data.draw(st.integers(-size[place], size[place] - 1)) for place in range(count)]
    end = [data.draw(st.integers(-size[place], size[place])) for place in range(count)]
    strides = [data.draw(st.sampled_from((1, 2, -1, -2))) for _ in range(count)]
    masks = {name: data.draw(st.integers(0, 2**count - 1)) for name in ("begin_mask", "end_mask")}
    shrink = data.draw(st.integers(0, 2**count - 1))
    strides = [1 if shrink >> place & 1 else step for place, step in enumerate(strides)]
    attributes = ", ".join(f"{name} = {value}" for name, value in (masks | {"shrink_axis_mask": shrink}).items())
    body = int_vector("b", *begin) + int_vector("e", *end) + int_vector("s", *strides)
    agrees(f"{body}%y = tf.StridedSlice(%x, %b, %e, %s) {{{attributes}}}", "%x: float32[5, 4]")


def test_slices_of_any_size() -> None:
    """Bounds beyond the ends, from the end, and steps, of a dimension that is known when the program runs."""
    body = (
        int_vector("b", 0, 1) + int_vector("e", 0, -2) + int_vector("s", 1, 2) + int_vector("f", 0, -3)
        + int_vector("g", 0, 5)
        + int_vector("one", 1, 1) + int_vector("last", 0, -1)
        + "%u = tf.StridedSlice(%x, %b, %e, %s) {begin_mask = 1, end_mask = 1}\n"
        "%v = tf.StridedSlice(%x, %f, %g, %one) {begin_mask = 1, end_mask = 1}\n"
        "%w = tf.StridedSlice(%x, %last, %g, %one) {begin_mask = 1, end_mask = 1, shrink_axis_mask = 2}\n"
        "%y = tf.Square(%u)\n%z = tf.AddV2(%y, %u)"
    )  # fmt: skip
    model = text_model(body, "%x: float32[?, ?]", "%v, %w, %z")
    lowered = XlaBackend().lower(model, fallback=False).model
    right, runtime = get_runtime("reference"), get_runtime("xla")
    for count in (1, 4, 12):
        feeds = {"x": np.random.default_rng(count).normal(size=(2, count)).astype(np.float32)}
        found = runtime.run(lowered, feeds)
        for name, array in right.run(model, feeds).items():
            np.testing.assert_allclose(found[name], array, rtol=1e-6)


def test_slices_at_computed_places() -> None:
    body = (
        int_vector("one", 1, 1) + int_vector("size", 2, 3) + int_vector("wide", 1, 5)
        + "%a = tf.Slice(%x, %p, %size)\n%e = tf.AddV2(%p, %one)\n"
        "%b = tf.StridedSlice(%x, %p, %e, %one) {shrink_axis_mask = 3}"
    )  # fmt: skip
    model = text_model(body, "%x: float32[4, 5], %p: int32[2]", "%a, %b")
    data = {"x": np.arange(20, dtype=np.float32).reshape(1, 4, 5), "p": np.array([[1, 2]], np.int32)}
    assert_lowers(model, target="xla", reference="reference", data=data, fallback=False)
