"""Operators that pad, reverse, roll, and move blocks against TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from material import NUMBERS, elements, infer, integers, vectors
from oracle import arrays, check_operator, evaluate, shapes

from graphopt.ir.dimensions import symbol
from graphopt.ir.ops.inference import InferenceError
from graphopt.ir.types import UNKNOWN_SHAPE, Shape

tensorflow = pytest.mark.tensorflow
FEW = settings(max_examples=15)


N = symbol("n")


# Padding, reversing, rolling ----------------------------------------------------------------------------------


@tensorflow
@settings(max_examples=20)
@given(st.data())
def test_pads(data: Any) -> None:
    value = data.draw(elements(shapes(1, 4)))
    widths = data.draw(integers(-1 if data.draw(st.integers(0, 9)) == 0 else 0, 2, (value.ndim, 2)))
    fill = data.draw(elements((), (np.object_ if value.dtype == object else value.dtype.type,)))
    check_operator("Pad", [value, widths], exact=True)
    check_operator("PadV2", [value, widths, fill], exact=True)
    mirrored = data.draw(elements(value.shape, (np.float32, np.int64, np.bool_)))
    check_operator("MirrorPad", [mirrored, widths], {"mode": data.draw(st.sampled_from([b"REFLECT", b"SYMMETRIC"]))})


@tensorflow
@settings(max_examples=20)
@given(st.data())
def test_reversals(data: Any) -> None:
    value = data.draw(elements(shapes(1, 4, zeros=False)))
    high = value.ndim - 1 + (data.draw(st.integers(0, 9)) == 0)
    axes = data.draw(vectors(-value.ndim, high, data.draw(st.integers(0, 2))))
    check_operator("ReverseV2", [value, axes], exact=True)
    check_operator("Reverse", [value, data.draw(arrays(np.bool_, (value.ndim,)))], exact=True)
    shift = data.draw(vectors(-5, 5, axes.size))
    rolled = data.draw(elements(value.shape, (np.float32, np.int64, np.bool_, np.object_)))
    check_operator("Roll", [rolled, shift, axes], exact=True)


@tensorflow
@FEW
@given(st.data())
def test_reverse_sequence(data: Any) -> None:
    value = data.draw(elements(shapes(2, 4)))
    batch, sequence = data.draw(st.permutations(range(value.ndim)))[:2]
    longest = value.shape[sequence] + (data.draw(st.integers(0, 9)) == 0)
    lengths = data.draw(vectors(0, longest, value.shape[batch]))
    check_operator("ReverseSequence", [value, lengths], {"batch_dim": batch, "seq_dim": sequence}, exact=True)


def test_symbolic_padding() -> None:
    image = Shape((N, 224, N, 3))
    assert infer("Pad", image, np.array([[0, 0], [3, 3], [1, 0], [0, 0]])) == Shape((N, 230, N + 1, 3))
    assert infer("Pad", UNKNOWN_SHAPE, np.array([[0, 0], [3, 3]])) == Shape((None, None))
    assert infer("Pad", image, Shape((4, 2))) == Shape([None] * 4)
    assert infer("ReverseV2", image, np.array([1])) == image
    with pytest.raises(InferenceError, match="too large"):
        infer("MirrorPad", Shape((3,)), np.array([[3, 0]]), attrs={"mode": b"REFLECT"})


# Blocks and patches -------------------------------------------------------------------------------------------


@tensorflow
@settings(max_examples=25)
@given(st.data())
def test_blocks(data: Any) -> None:
    spatial = data.draw(st.integers(1, 2))
    blocks = data.draw(vectors(1, 3, spatial))
    edges = data.draw(integers(0, 1, (spatial, 2)))
    sizes = [data.draw(st.integers(0, 3)) * int(block) for block in blocks]
    sizes = [max(0, size - int(edge.sum())) for size, edge in zip(sizes, edges, strict=True)]
    rest = data.draw(shapes(0, 2, 2))
    value = data.draw(elements((data.draw(st.integers(0, 2)), *sizes, *rest), NUMBERS))
    check_operator("SpaceToBatchND", [value, blocks, edges], exact=True)
    batch = int(np.prod(blocks)) * data.draw(st.integers(0, 2)) + (data.draw(st.integers(0, 9)) == 0)
    held = data.draw(elements((batch, *(data.draw(shapes(spatial, spatial, 3))), *rest), NUMBERS))
    check_operator("BatchToSpaceND", [held, blocks, edges], exact=True)


@tensorflow
@FEW
@given(st.data())
def test_square_blocks(data: Any) -> None:
    block = data.draw(st.integers(2, 3))
    value = data.draw(elements((data.draw(st.integers(1, 2)), 2 * block, block, 3), NUMBERS))
    check_operator("SpaceToBatch", [value, np.zeros((2, 2), np.int32)], {"block_size": block}, exact=True)
    held = data.draw(elements((block * block, 2, 1, 3), NUMBERS))
    crops = data.draw(integers(0, 1, (2, 2)))
    check_operator("BatchToSpace", [held, crops], {"block_size": block}, exact=True)
    check_operator("SpaceToDepth", [value], {"block_size": block}, exact=True)
    deep = data.draw(elements((2, 2, 1, block * block * data.draw(st.integers(1, 2))), NUMBERS))
    check_operator("DepthToSpace", [deep], {"block_size": block}, exact=True)


def test_depth_channels_first_is_channels_last_transposed() -> None:
    image = np.arange(2 * 4 * 6 * 8).reshape(2, 4, 6, 8)
    for op in ("SpaceToDepth", "DepthToSpace"):
        last = evaluate(op, [image], {"block_size": 2, "data_format": b"NHWC"})[0]
        first = evaluate(op, [image.transpose(0, 3, 1, 2)], {"block_size": 2, "data_format": b"NCHW"})[0]
        assert np.array_equal(first.transpose(0, 2, 3, 1), last)
        inferred = infer(op, Shape((N, 8, 4, 6)), attrs={"block_size": 2, "data_format": b"NCHW"})
        assert inferred == Shape((N, *first.shape[1:]))
    vectors_of_four = {"block_size": 2, "data_format": b"NCHW_VECT_C"}
    assert infer("SpaceToDepth", Shape((1, 2, 4, 6, 4)), attrs=vectors_of_four) == Shape((1, 8, 2, 3, 4))


@tensorflow
@settings(max_examples=20)
@given(st.data())
def test_patches(data: Any) -> None:
    spatial = data.draw(st.integers(2, 3))
    value = data.draw(arrays(np.float32, (2, *data.draw(shapes(spatial, spatial, 6, zeros=False)), 2)))
    attrs: dict[str, Any] = {"padding": data.draw(st.sampled_from([b"SAME", b"VALID"]))}
    names = ("ksizes", "strides", "rates") if spatial == 2 else ("ksizes", "strides")
    for name in names:
        attrs[name] = (1, *data.draw(st.lists(st.integers(1, 3), min_size=spatial, max_size=spatial)), 1)
    op = "ExtractImagePatches" if spatial == 2 else "ExtractVolumePatches"
    reach = [(k - 1) * r for k, r in zip(attrs["ksizes"], attrs.get("rates", (1,) * 5), strict=False)][1:-1]
    if attrs["padding"] == b"SAME" or all(size > need for size, need in zip(value.shape[1:], reach, strict=False)):
        check_operator(op, [value], attrs, exact=True)


def test_symbolic_blocks() -> None:
    assert infer("SpaceToBatchND", Shape((N, 8, None, 3)), np.array([2, 2]), np.zeros((2, 2), np.int64)) == Shape(
        (4 * N, 4, None, 3)
    )
    assert infer("BatchToSpaceND", Shape((4 * N, 4, 4, 3)), np.array([2, 2]), np.array([[0, 1], [0, 0]])) == Shape(
        (N, 7, 8, 3)
    )
    attrs = {"ksizes": (1, 3, 3, 1), "strides": (1, 2, 2, 1), "rates": (1, 1, 1, 1), "padding": b"SAME"}
    assert infer("ExtractImagePatches", Shape((N, 7, 8, 3)), attrs=attrs) == Shape((N, 4, 4, 27))
    with pytest.raises(InferenceError, match="not divisible"):
        infer("SpaceToDepth", Shape((N, 7, 8, 3)), attrs={"block_size": 2})
