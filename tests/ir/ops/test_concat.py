"""Operators that join and split against TensorFlow: Concat, Pack, Split, DynamicPartition, DynamicStitch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from material import ELEMENTS, INDICES, elements, infer
from oracle import arrays, check_operator, evaluate, shapes

from graphopt.ir.dimensions import symbol
from graphopt.ir.ops.inference import InferenceError
from graphopt.ir.types import SCALAR, UNKNOWN_SHAPE, Shape

tensorflow = pytest.mark.tensorflow
FEW = settings(max_examples=15)


N = symbol("n")


@tensorflow
@settings(max_examples=25)
@given(st.data())
def test_concat(data: Any) -> None:
    shape = list(data.draw(shapes(1, 4)))
    axis = data.draw(st.integers(0, len(shape) - 1))
    dtype = (data.draw(st.sampled_from(ELEMENTS)),)
    values = []
    for _ in range(data.draw(st.integers(2, 4))):
        shape[axis] = data.draw(st.integers(0, 3))
        values.append(data.draw(elements(tuple(shape), dtype)))
    place = np.array(axis - data.draw(st.sampled_from([0, len(shape), -9])), np.int32)
    check_operator("ConcatV2", [*values, place], exact=True)
    check_operator("Concat", [place, *values], exact=True)
    known = [np.array(value.shape, np.int32) for value in values]
    check_operator("ConcatOffset", [place, *known])


@tensorflow
@FEW
@given(st.data())
def test_pack_and_unpack(data: Any) -> None:
    dtype = (data.draw(st.sampled_from(ELEMENTS)),)
    shape = data.draw(shapes(0, 3))
    values = [data.draw(elements(shape, dtype)) for _ in range(data.draw(st.integers(1, 3)))]
    if data.draw(st.integers(0, 5)) == 0:
        values.append(data.draw(elements((*shape, 1), dtype)))
    check_operator("Pack", values, {"axis": data.draw(st.integers(-len(shape) - 2, len(shape) + 1))}, exact=True)
    whole = data.draw(elements(shapes(1, 3)))
    axis = data.draw(st.integers(-whole.ndim, whole.ndim - 1))
    check_operator("Unpack", [whole], {"axis": axis, "num": whole.shape[axis]}, exact=True)


@tensorflow
@FEW
@given(st.data())
def test_splits(data: Any) -> None:
    value = data.draw(elements(shapes(1, 3, 6)))
    axis = data.draw(st.integers(-value.ndim, value.ndim - 1))
    count = data.draw(st.integers(1, 3))
    check_operator("Split", [np.array(axis, np.int32), value], {"num_split": count}, exact=True)
    sizes = data.draw(st.lists(st.integers(-1, 4), min_size=1, max_size=4))
    if data.draw(st.booleans()):
        sizes.append(value.shape[axis] - sum(sizes))
    held = np.array(sizes, data.draw(st.sampled_from(INDICES)))
    check_operator("SplitV", [value, held, np.array(axis, np.int32)], {"num_split": len(sizes)}, exact=True)


@tensorflow
@FEW
@given(elements((1, 2)), st.integers(1, 3))
def test_parallel_concat(value: Any, count: int) -> None:
    check_operator("ParallelConcat", [value] * count, {"shape": Shape((count, 2))}, exact=True)


def test_symbolic_joining() -> None:
    image = Shape((N, 7, 7, 32))
    assert infer("ConcatV2", image, Shape((None, 7, None, 16)), np.array(-1)) == Shape((N, 7, 7, 48))
    assert infer("ConcatV2", image, UNKNOWN_SHAPE, np.array(3)) == Shape((N, 7, 7, None))
    assert infer("ConcatV2", image, image, np.array(0)) == Shape((2 * N, 7, 7, 32))
    assert infer("ConcatV2", image, image, SCALAR) == Shape([None] * 4)
    assert infer("Pack", SCALAR, SCALAR, attrs={"axis": 0}) == Shape((2,))
    assert infer("Split", np.array(3), image, outputs=2) == [Shape((N, 7, 7, 16))] * 2
    assert infer("SplitV", image, np.array([-1, 8]), np.array(3), outputs=2) == [
        Shape((N, 7, 7, 24)),
        Shape((N, 7, 7, 8)),
    ]
    with pytest.raises(InferenceError, match="cannot be concatenated"):
        infer("ConcatV2", image, Shape((N, 7)), np.array(0))


@tensorflow
@FEW
@given(st.data())
def test_partition_and_stitch(data: Any) -> None:
    value = data.draw(elements(shapes(1, 3)))
    depth = data.draw(st.integers(0, value.ndim))
    places = data.draw(arrays(np.int32, value.shape[:depth], 0, 2 + (data.draw(st.integers(0, 4)) == 0)))
    check_operator("DynamicPartition", [value, places], {"num_partitions": 3}, exact=True)
    order = np.array(data.draw(st.permutations(range(6))), np.int32)
    rest = data.draw(shapes(0, 2))
    held = [data.draw(elements((*size, *rest), (np.float32,))) for size in ((2, 2), (2,))]
    for op in ("DynamicStitch", "ParallelDynamicStitch"):
        check_operator(op, [order[:4].reshape(2, 2), order[4:], *held], exact=True)


@tensorflow
def test_stitch_edges() -> None:
    first, second = np.array([0, 1], np.int32), np.array([1, 2], np.int32)
    values = np.arange(4, dtype=np.float32).reshape(2, 2)
    check_operator("DynamicStitch", [first, second, values[0], values[1]], exact=True)
    check_operator("DynamicStitch", [np.zeros(0, np.int32), np.zeros((0, 2), np.float32)], exact=True)
    check_operator("DynamicStitch", [np.array([-1], np.int32), values[:1]], exact=True)
    check_operator("DynamicStitch", [np.array([3], np.int32), values[:1]], may_refuse=True)
    with pytest.raises(ValueError, match="no index"):
        evaluate("DynamicStitch", [np.array([0, 0, 3], np.int32), values[[0, 0, 0], 0]], {"N": 1})
