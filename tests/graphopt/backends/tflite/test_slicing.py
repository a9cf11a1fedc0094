"""Legalisation of slices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.testing.lowering import assert_lowers, text_model


def strided(
    begin: list[int], end: list[int], strides: list[int], inputs: str = "%x: float32[3, 4, 5]", **masks: int
) -> object:
    names = []
    for name, numbers in (("begin", begin), ("end", end), ("strides", strides)):
        names.append(f"%{name} = tf.Const() {{value = int32[{len(numbers)}] {numbers}}}")
    attrs = ", ".join(f"{key} = {value}" for key, value in masks.items())
    names.append(f"%y = tf.StridedSlice(%x, %begin, %end, %strides) {{{attrs}}}")
    return text_model("\n".join(names), inputs)


@pytest.mark.parametrize(
    ("arguments", "masks", "expected"),
    [
        (([0, 0], [0, -1], [1, 1]), {"begin_mask": 3, "end_mask": 1}, ["STRIDED_SLICE"]),
        (([-1], [0], [1]), {"shrink_axis_mask": 1}, ["STRIDED_SLICE"]),
        (([0, 1], [0, 2], [1, 1]), {"ellipsis_mask": 1, "shrink_axis_mask": 2}, ["STRIDED_SLICE"]),
        (([0, 0, 0], [0, 0, 0], [1, 1, 1]), {"begin_mask": 5, "end_mask": 5, "new_axis_mask": 2}, ["RESHAPE"]),
        (([0, 0, 1], [0, 0, 3], [1, 1, 1]), {"ellipsis_mask": 1, "new_axis_mask": 2}, ["STRIDED_SLICE", "RESHAPE"]),
        (([0, 0], [0, 0], [1, -1]), {"begin_mask": 3, "end_mask": 3}, ["STRIDED_SLICE"]),
        (([0, 0], [3, 9], [1, 1]), {}, []),
    ],
)
def test_masks(arguments: tuple[list[int], ...], masks: dict[str, int], expected: list[str]) -> None:
    if not expected:
        model = strided(*arguments, **masks)
        model.graph.outputs = [model.graph.outputs[0]]
    assert_lowers(strided(*arguments, **masks), expected, reference="reference")


@st.composite
def slices(draw: st.DrawFn) -> tuple[list[int], tuple[list[list[int]], dict[str, int]]]:
    """A shape, and a slice of it that leaves something."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=6))
    begin, end, strides = [], [], []
    masks = dict.fromkeys(("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask"), 0)
    axis, has_ellipsis = 0, False
    taken = draw(st.integers(0, len(shape)))
    while axis < taken:
        bit, kind = 1 << len(begin), draw(st.sampled_from(("plain", "plain", "new", "ellipsis", "shrink")))
        size = shape[axis]
        entry = (0, 0, 1)
        if kind == "ellipsis" and not has_ellipsis:
            masks["ellipsis_mask"] |= bit
            has_ellipsis = True
            axis += len(shape) - taken
            taken = len(shape)
        elif kind == "new":
            masks["new_axis_mask"] |= bit
            if len(begin) > 8:
                break
        elif kind == "shrink":
            masks["shrink_axis_mask"] |= bit
            place = draw(st.integers(-size, size - 1))
            entry = (place, place + 1, 1)
            axis += 1
        else:
            stride = draw(st.sampled_from((1, 1, 2, -1, -2)))
            if draw(st.booleans()):
                masks["begin_mask"] |= bit
                masks["end_mask"] |= bit
                entry = (draw(st.integers(-9, 9)), draw(st.integers(-9, 9)), stride)
            else:
                first = draw(st.integers(0, size - 1))
                entry = (first, first + 1, 1) if stride > 0 else (first, first - 1 - size, -1)
            axis += 1
        for numbers, number in zip((begin, end, strides), entry, strict=True):
            numbers.append(number)
    return shape, ([begin, end, strides], masks)


@given(slices(), st.sampled_from(("constant", "fed", "unknown")))
def test_all_masks_together(case: tuple[list[int], tuple[list[list[int]], dict[str, int]]], kind: str) -> None:
    shape, (vectors, masks) = case
    sample = {"x": np.arange(np.prod(shape), dtype=np.float32).reshape(shape)}
    dims = ["?"] * len(shape) if kind == "unknown" else shape
    inputs = f"%x: float32[{', '.join(map(str, dims))}]"
    if kind != "fed":
        assert_lowers(strided(*vectors, inputs, **masks), None, data=[sample], reference="reference")
        return
    names = ("begin", "end", "strides")
    sample.update((name, np.array(numbers, np.int32)) for name, numbers in zip(names, vectors, strict=True))
    inputs += "".join(f", %{name}: int32[{len(vectors[0])}]" for name in names)
    attrs = ", ".join(f"{key} = {value}" for key, value in masks.items())
    model = text_model(f"%y = tf.StridedSlice(%x, %begin, %end, %strides) {{{attrs}}}", inputs)
    assert_lowers(model, None, data=[sample], reference="reference")


def test_boxes() -> None:
    body = """
        %begin = tf.Const() {value = int64[2] [0, 1]}
        %size = tf.Const() {value = int64[2] [-1, 2]}
        %y = tf.Slice(%x, %begin, %size)
    """
    assert_lowers(text_model(body, "%x: float32[?, 4]"), ["SLICE"], reference="reference")
    model = text_model("%y = tf.Slice(%x, %b, %s)", "%x: float32[3, 4], %b: int32[2], %s: int32[2]")
    data = [{"x": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.int32([1, 0]), "s": np.int32([2, -1])}]
    assert_lowers(model, ["SLICE"], data=data, reference="reference")
