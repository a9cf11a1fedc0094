"""Reductions, running totals, ordering, counting and segments against TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import COMPLEX, FLOATS, INTEGERS, SIGNED, check_operator, words

from graphopt.ir import ops
from graphopt.ir.graph import Graph
from graphopt.ir.ops.inference import InferenceContext
from graphopt.ir.types import DTYPES, Shape, tensor_type

pytestmark = pytest.mark.tensorflow
SOME = settings(max_examples=25)
NARROW = {"rtol": 3e-2, "atol": 0.05}  # TensorFlow rounds narrow floats after every step


def loose(array: Any, **otherwise: float) -> dict[str, float]:
    narrow = array.dtype.itemsize == 2 and array.dtype.kind not in "iu"
    return NARROW if narrow else otherwise


# Reductions ---------------------------------------------------------------------------------------------------

REDUCED: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(words("Sum Mean Prod"), (FLOATS, INTEGERS, COMPLEX)),
    "EuclideanNorm": (FLOATS, COMPLEX, np.int32, np.int64),
    **dict.fromkeys(words("Max Min"), (FLOATS, INTEGERS)),
    **dict.fromkeys(words("All Any"), (np.bool_,)),
}


@st.composite
def axes_of(draw: Any, rank: int) -> Any:
    """Axes as TensorFlow takes them: a scalar or a vector, counted from either end, possibly none."""
    places = draw(st.lists(st.integers(0, rank - 1), unique=True, max_size=rank)) if rank else []
    signed = [place - rank if draw(st.booleans()) else place for place in places]
    dtype = draw(st.sampled_from([np.int32, np.int64]))
    return np.array(signed[0] if len(signed) == 1 and draw(st.booleans()) else signed, dtype)


@pytest.mark.parametrize("name", REDUCED)
@SOME
@given(data=st.data())
def test_reductions(name: str, data: Any) -> None:
    dtype = np.dtype(data.draw(oracle.dtypes(*REDUCED[name])))
    shape = data.draw(oracle.shapes())
    bounds = (None, None) if name in ("Max", "Min", "All", "Any") else (0, 2) if dtype.kind == "u" else (-2, 2)
    x = data.draw(oracle.arrays(dtype, shape, *bounds, edges=None if bounds[0] is None else False))
    axes = data.draw(axes_of(len(shape)))
    check_operator(name, [x, axes], {"keep_dims": data.draw(st.booleans())}, **loose(x, rtol=1e-4, atol=1e-5))


@pytest.mark.parametrize("name", words("Sum Mean Prod EuclideanNorm Max Min"))
@SOME
@given(data=st.data())
def test_reductions_of_awkward_values(name: str, data: Any) -> None:
    x = data.draw(oracle.arrays(np.float32, (2, 3), -2, 2))
    place = data.draw(st.integers(0, 5))
    x.reshape(-1)[place] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    check_operator(name, [x, np.int32(data.draw(st.integers(-2, 1)))])


@pytest.mark.parametrize("name", words("Sum Mean"))
@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_overflow_and_truncate(name: str, dtype: Any) -> None:
    limits = np.iinfo(dtype)
    for values in ([limits.max, limits.max], [limits.min, limits.min], [7, 2], [limits.min, 1]):
        if name == "Mean" and np.dtype(dtype).itemsize == 8 and max(map(abs, values)) > 100:
            continue  # the sum itself overflows
        check_operator(name, [np.array(values, dtype), np.int32(0)])
    if np.dtype(dtype).kind == "i":
        check_operator(name, [np.array([-7, 2], dtype), np.int32(0)])


@pytest.mark.parametrize("name", REDUCED)
@pytest.mark.parametrize("axes", [[0, 0], [0, -2], [2], [-3], [[0, 1], [0, 1]]])
def test_axes_that_make_no_sense(name: str, axes: Any) -> None:
    x = np.ones((2, 3), bool if name in ("All", "Any") else np.float32)
    assert check_operator(name, [x, np.int32(axes)]) is None


@pytest.mark.parametrize("name", words("Sum Max Mean"))
def test_large_sums_keep_their_precision(name: str) -> None:
    x = np.random.RandomState(0).uniform(0, 1, (300, 400)).astype(np.float32)
    for axes in ([0], [1], [0, 1]):
        check_operator(name, [x, np.int32(axes)])


@SOME
@given(x=oracle.arrays(oracle.dtypes(FLOATS), oracle.shapes(), -2, 2))
def test_l2_loss(x: Any) -> None:
    check_operator("L2Loss", [x], **loose(x))


@pytest.mark.parametrize("name", ["ArgMax", "ArgMin"])
@settings(max_examples=50)
@given(data=st.data())
def test_positions(name: str, data: Any) -> None:
    dtype = data.draw(oracle.dtypes(FLOATS, INTEGERS, np.bool_))
    shape = data.draw(oracle.shapes(0, 3))
    x = data.draw(oracle.arrays(dtype, shape))
    axis = np.int32(data.draw(st.integers(-4, 3)))
    check_operator(name, [x, axis], {"output_type": DTYPES[data.draw(st.sampled_from(["int32", "int64"]))]})


@pytest.mark.parametrize("name", ["ArgMax", "ArgMin"])
def test_positions_among_ties_and_nan(name: str) -> None:
    nan, inf = np.nan, np.inf
    for row in (
        [1, 1, 0, 0],
        [nan, 1, 2],
        [3, nan, 2],
        [nan, nan],
        [nan, -inf],
        [inf, nan],
        [-inf, -inf],
        [nan, inf],
        [nan, -3.4028235e38],
        [-inf, -3.4028235e38],
        [nan, 3.4028235e38, inf],
    ):
        check_operator(name, [np.float32(row), np.int32(0)])
    assert check_operator(name, [np.float32([1, 2]), np.int32([0])]) is None
    assert check_operator(name, [np.float32(1), np.int32(0)]) is None


@pytest.mark.parametrize("name", ["Cumsum", "Cumprod", "CumulativeLogsumexp"])
@settings(max_examples=40)
@given(data=st.data())
def test_running_totals(name: str, data: Any) -> None:
    kinds = (np.float16, np.float32, np.float64) if name == "CumulativeLogsumexp" else (FLOATS, INTEGERS, COMPLEX)
    dtype = data.draw(oracle.dtypes(*kinds))
    shape = data.draw(oracle.shapes())
    x = data.draw(oracle.arrays(dtype, shape, 0 if dtype.kind == "u" else -2, 2))
    axis = np.int32(data.draw(st.integers(-4, 3)))
    attrs = {"exclusive": data.draw(st.booleans()), "reverse": data.draw(st.booleans())}
    check_operator(name, [x, axis], attrs, **loose(x, rtol=1e-4, atol=1e-5))


def test_running_totals_of_awkward_values() -> None:
    x = np.float32([1, np.inf, 2, np.nan, 1])
    for reverse in (False, True):
        for exclusive in (False, True):
            check_operator("Cumsum", [x, np.int32(0)], {"exclusive": exclusive, "reverse": reverse})
    check_operator("Cumsum", [np.int8([100, 100]), np.int32(0)])
    assert check_operator("Cumsum", [x, np.int32([0])]) is None


# Ordering -----------------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(data=st.data())
def test_top_k(data: Any) -> None:
    dtype = data.draw(oracle.dtypes(FLOATS, INTEGERS))
    x = np.nan_to_num(data.draw(oracle.arrays(dtype, oracle.shapes(0, 3, 6))))
    k = np.int32(data.draw(st.integers(-1, 6)))
    check_operator("TopKV2", [x, k], {"index_type": DTYPES[data.draw(st.sampled_from(["int32", "int64"]))]})


def test_top_k_among_ties() -> None:
    for row in ([1, 3, 3, 2], [1, 1, 1], [-0.0, 0.0, 0.0]):
        for k in range(len(row) + 2):
            check_operator("TopKV2", [np.float32(row), np.int32(k)])
    assert check_operator("TopKV2", [np.float32([1, 2]), np.int32([1])]) is None


@settings(max_examples=20)
@given(st.integers(2, 14), st.integers(1, 14), st.booleans(), st.integers(0, 999))
def test_order_of_unsorted_results(width: int, k: int, equal: bool, seed: int) -> None:
    random = np.random.RandomState(seed)
    x = (random.randint(0, 5, (2, width)) if equal else random.rand(2, width)).astype(np.float32)
    check_operator("TopKV2", [x, np.int32(min(k, width))], {"sorted": False}, exact=True)


def test_nan_among_the_largest_is_refused() -> None:
    x = np.float32([1, np.nan])
    check_operator("TopKV2", [x, np.int32(1)], may_refuse=True)
    evaluate = ops.find("tf.TopKV2").evaluate  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="NaN"):
        evaluate({"index_type": DTYPES["int32"]}, x, np.int32(1))  # type: ignore[misc]


def test_top_k_of_old() -> None:
    """`TopK` has its number as an attribute; TensorFlow no longer runs it on its own."""
    operator = ops.find("tf.TopK")
    assert operator is not None
    assert operator.evaluate is not None
    assert operator.shape is not None
    values, places = operator.evaluate({"k": 2, "sorted": True}, np.float32([[1, 3, 3], [5, 4, 0]]))
    assert values.tolist() == [[3, 3], [5, 4]]
    assert places.tolist() == [[1, 2], [0, 1]]
    assert places.dtype == np.int32
    graph = Graph()
    feed = graph.create_node("tf.Placeholder", types=[tensor_type("float32", [None, 3])]).output
    node = graph.create_node("tf.TopK", [feed], {"k": 2, "T": DTYPES["float32"]})
    assert operator.shape(InferenceContext(node)) == [Shape([None, 2])] * 2


@SOME
@given(data=st.data())
def test_nth_element(data: Any) -> None:
    dtype = data.draw(oracle.dtypes(FLOATS, INTEGERS))
    x = np.nan_to_num(data.draw(oracle.arrays(dtype, oracle.shapes(0, 3, 6))))
    n = np.int32(data.draw(st.integers(-1, 6)))
    check_operator("NthElement", [x, n], {"reverse": data.draw(st.booleans())})


# Counting -----------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(data=st.data())
def test_counts(data: Any) -> None:
    name = data.draw(st.sampled_from(["Bincount", "DenseBincount"]))
    dense = name == "DenseBincount"
    kind = data.draw(st.sampled_from([np.int32, np.int64])) if dense else np.int32
    values = data.draw(oracle.arrays(kind, oracle.shapes(0, 3), 0 if data.draw(st.booleans()) else -1, 6))
    weighted = data.draw(st.booleans())
    weight_kind = data.draw(oracle.dtypes(np.float32, np.float64, np.int32, np.int64))
    weights = data.draw(oracle.arrays(weight_kind, values.shape if weighted else (0,), -3, 3))
    attrs = {"binary_output": data.draw(st.booleans())} if dense else {}
    size = data.draw(st.integers(0, 5))
    check_operator(name, [values, np.array(size, kind), weights], attrs, refusal=True)


def test_counts_refused() -> None:
    ones = np.int32([1, 1])
    for name in ("Bincount", "DenseBincount"):
        assert check_operator(name, [np.int32([-1]), np.int32(3), np.float32([])]) is None
        assert check_operator(name, [ones, np.int32(-1), np.float32([])]) is None
        assert check_operator(name, [ones, np.int32([3]), np.float32([])]) is None
        assert check_operator(name, [ones, np.int32(3), np.float32([1, 2, 3])]) is None


@SOME
@given(data=st.data())
def test_histogram(data: Any) -> None:
    kind = data.draw(oracle.dtypes(np.float32, np.float64, np.int32, np.int64))
    values = data.draw(oracle.arrays(kind, oracle.shapes(0, 3, 5), -10, 10))
    limits = np.array([data.draw(st.integers(-9, 3)), data.draw(st.integers(2, 9))], kind)
    bins = np.int32(data.draw(st.integers(0, 7)))
    check_operator("HistogramFixedWidth", [values, limits, bins], {"dtype": DTYPES["int64"]})


def test_histogram_of_nan() -> None:
    assert check_operator("HistogramFixedWidth", [np.float32([np.nan]), np.float32([0, 1]), np.int32(2)]) is None


# Segments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", words("Sum Mean Prod Max Min"))
@SOME
@given(data=st.data())
def test_segments(name: str, data: Any) -> None:
    dtype = data.draw(oracle.dtypes(FLOATS, SIGNED))
    data_shape = data.draw(oracle.shapes(1, 3))
    x = data.draw(oracle.arrays(dtype, data_shape, -3, 3))
    ids = np.sort(data.draw(oracle.arrays(np.int32, (data_shape[0],), 0, 4)))
    check_operator(f"Segment{name}", [x, ids], **loose(x))


@pytest.mark.parametrize("name", words("Sum Mean Prod Max Min"))
def test_segments_refused(name: str) -> None:
    x = np.float32([1, 2])
    for ids in ([1, 0], [-1, 0], [0], [[0], [1]]):
        assert check_operator(f"Segment{name}", [x, np.int32(ids)]) is None
    assert check_operator(f"Segment{name}", [np.float32(1), np.int32(0)]) is None
    check_operator(f"Segment{name}", [np.float32([1, np.nan, 3]), np.int32([0, 0, 2])])


@pytest.mark.parametrize("name", words("Sum Prod Max Min"))
@SOME
@given(data=st.data())
def test_unsorted_segments(name: str, data: Any) -> None:
    dtype = data.draw(oracle.dtypes(FLOATS, SIGNED))
    shape = data.draw(oracle.shapes(0, 3))
    x = data.draw(oracle.arrays(dtype, shape, -3, 3))
    ids = data.draw(oracle.arrays(np.int32, shape[: data.draw(st.integers(0, len(shape)))], -1, 4))
    count = np.int32(data.draw(st.integers(3, 6)))
    check_operator(f"UnsortedSegment{name}", [x, ids, count], **loose(x))


@pytest.mark.parametrize("name", words("Sum Prod Max Min"))
def test_unsorted_segments_refused(name: str) -> None:
    x = np.float32([1, 2])
    for ids, count in (([0, 5], 3), ([0, 1, 1], 3), ([0, 0], [3]), ([0, 0], -1)):
        assert check_operator(f"UnsortedSegment{name}", [x, np.int32(ids), np.int32(count)]) is None


@pytest.mark.parametrize("kind", words("Sum Mean SqrtN"))
@SOME
@given(data=st.data())
def test_sparse_segments(kind: str, data: Any) -> None:
    dtype = data.draw(oracle.dtypes(FLOATS))
    shape = data.draw(oracle.shapes(1, 3, zeros=False))
    x = data.draw(oracle.arrays(dtype, shape, -3, 3))
    count = data.draw(st.integers(0, 5))
    indices = data.draw(oracle.arrays(np.int32, (count,), 0, shape[0] - 1))
    ids = np.sort(data.draw(oracle.arrays(np.int32, (count,), 0, 3)))
    check_operator(f"SparseSegment{kind}", [x, indices, ids], **loose(x))
    segments = np.int32(data.draw(st.integers(2, 6)))
    check_operator(f"SparseSegment{kind}WithNumSegments", [x, indices, ids, segments], **loose(x))


@pytest.mark.parametrize("kind", words("Sum Mean SqrtN"))
def test_sparse_segments_refused(kind: str) -> None:
    x = np.ones((3, 2), np.float32)
    for indices, ids in (([0, 3], [0, 0]), ([0, -1], [0, 0]), ([0], [0, 0]), ([0, 1], [1, 0]), ([0, 1], [-1, 0])):
        assert check_operator(f"SparseSegment{kind}", [x, np.int32(indices), np.int32(ids)]) is None


@pytest.mark.parametrize("kind", words("Sum Mean SqrtN"))
@SOME
@given(data=st.data())
def test_sparse_segment_gradients(kind: str, data: Any) -> None:
    rows, count = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5))  # for none TensorFlow returns stray memory
    gradient = data.draw(oracle.arrays(np.float32, (rows, 2), -3, 3))
    indices = data.draw(oracle.arrays(np.int32, (count,), 0, 3))
    ids = np.sort(data.draw(oracle.arrays(np.int32, (count,), 0, rows - 1)))
    check_operator(f"SparseSegment{kind}Grad", [gradient, indices, ids, np.int32(4)])
