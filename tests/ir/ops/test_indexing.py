"""Indexing operators against TensorFlow: slices, gathers, scatters, searches, sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from material import ELEMENTS, INDICES, NUMBERS, elements, infer, integers, vectors
from oracle import arrays, check_operator, evaluate, shapes

from graphopt.ir.dimensions import SymbolicDim, maximum, minimum, symbol
from graphopt.ir.graph import Graph
from graphopt.ir.ops.inference import InferenceError
from graphopt.ir.ops.tf_indexing import variable_shape
from graphopt.ir.ops.tf_stridedslice import strided_shape
from graphopt.ir.types import DTYPES, SCALAR, UNKNOWN_SHAPE, Shape, tensor_type

tensorflow = pytest.mark.tensorflow
FEW = settings(max_examples=15)
N = symbol("n")
MASKS = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")


# Slices -------------------------------------------------------------------------------------------------------


@tensorflow
@settings(max_examples=25)
@given(st.data())
def test_slice(data: Any) -> None:
    value = data.draw(elements(shapes(0, 4)))
    dtype = (data.draw(st.sampled_from(INDICES)),)
    begin = data.draw(vectors(-1 if data.draw(st.integers(0, 9)) == 0 else 0, 2, value.ndim, dtype))
    size = data.draw(vectors(-1, 2, value.ndim, dtype))
    if data.draw(st.booleans()):  # Most slices are possible ones.
        begin = np.minimum(begin, value.shape).astype(dtype[0])
        size = np.minimum(size, np.array(value.shape, dtype[0]) - begin).astype(dtype[0])
    check_operator("Slice", [value, begin, size], exact=True)


@st.composite
def strided(draw: Any, rank: int) -> tuple[list[Any], dict[str, int]]:
    """Begin, end, strides and masks of a strided slice, most of them possible for `rank`."""
    count = draw(st.integers(0, rank + 2))
    dtype = draw(st.sampled_from(INDICES))
    steps = st.sampled_from([1, 1, 1, 2, 3, -1, -2] + [0] * (draw(st.integers(0, 19)) == 0))
    specification = [
        draw(vectors(-5, 5, count, (dtype,))),
        draw(vectors(-5, 5, count, (dtype,))),
        np.array(draw(st.lists(steps, min_size=count, max_size=count)), dtype),
    ]
    masks = dict.fromkeys(MASKS, 0)
    for place in range(count):
        kind = draw(
            st.sampled_from(["", "", "", "begin_mask", "end_mask", "both", "new_axis_mask", "shrink_axis_mask"])
        )
        for name in ("begin_mask", "end_mask") if kind == "both" else (kind,) if kind else ():
            masks[name] |= 1 << place
    if count and draw(st.integers(0, 2)) == 0:
        masks["ellipsis_mask"] |= 1 << draw(st.integers(0, count - 1))
    if draw(st.integers(0, 9)) == 0:
        masks[draw(st.sampled_from(MASKS))] = draw(st.integers(0, 7))
    return specification, masks


@tensorflow
@settings(max_examples=150)
@given(st.data())
def test_strided_slice(data: Any) -> None:
    value = data.draw(elements(shapes(0, 4)))
    specification, masks = data.draw(strided(value.ndim))
    found = check_operator("StridedSlice", [value, *specification], masks, exact=True)
    if found is None or value.dtype.kind == "O" or value.ndim == 0:
        return
    shape = np.array(value.shape, specification[0].dtype)
    check_operator("StridedSliceGrad", [shape, *specification, found[0]], masks, exact=True)


@tensorflow
@settings(max_examples=30)
@given(st.data())
def test_strided_update(data: Any) -> None:
    value = data.draw(elements(shapes(1, 3, zeros=False), (np.float32, np.int64)))
    specification, masks = data.draw(strided(value.ndim))
    try:
        part = evaluate("StridedSlice", [value, *specification], masks)[0]
    except ValueError:
        return
    if part.size:
        check_operator("TensorStridedSliceUpdate", [value, *specification, part + 1], masks, exact=True)


def masks_of(**given_masks: int) -> dict[str, int]:
    return dict.fromkeys(MASKS, 0) | given_masks


@pytest.mark.parametrize(
    ("dim", "begin", "end", "stride", "masks", "expected"),
    [
        (N, 0, 0, 1, {"end_mask": 1}, N),
        (N, 1, 0, 1, {"end_mask": 1}, maximum(N - 1, 0)),
        (N, 0, -1, 1, {}, maximum(N - 1, 0)),
        (N, 1, -1, 1, {}, maximum(maximum(N - 1, 0) - 1, 0)),
        (N, 0, 5, 1, {}, minimum(N, 5)),
        (N, 0, N, 1, {}, N),
        (N, 0, N - 1, 1, {}, None),
        (N, -3, 0, 1, {"end_mask": 1}, minimum(N, 3)),
        (2 * N, 0, 0, 2, {"begin_mask": 1, "end_mask": 1}, N),
        (N, 0, 0, -1, {"begin_mask": 1, "end_mask": 1}, N),
        (N, 5, 0, -1, {}, None),
        (N, None, 3, 1, {}, None),
        (N, 1, 3, None, {}, None),
        (7, 0, N, 1, {}, minimum(N, 7)),
        (7, None, 0, 1, {"end_mask": 1}, None),
        (None, 0, 0, 1, {"begin_mask": 1, "end_mask": 1}, None),
        (10, -3, 0, 1, {"end_mask": 1}, 3),
        (10, 8, 2, -3, {}, 2),
    ],
)
def test_strided_slices_of_symbolic_dimensions(
    dim: Any, begin: Any, end: Any, stride: Any, masks: dict[str, int], expected: Any
) -> None:
    found = strided_shape(masks_of(**masks), [dim], [begin], [end], [stride])
    assert found == Shape((expected,))
    if isinstance(expected, SymbolicDim):
        numbers = [part for part in (begin, end) if not isinstance(part, SymbolicDim)]
        for size in range(9):
            whole = dim.substitute({"n": size}) if isinstance(dim, SymbolicDim) else dim
            stop = end if end in numbers else size
            first = None if masks.get("begin_mask") else begin
            count = len(range(whole)[first : None if masks.get("end_mask") else stop : stride])
            assert expected.substitute({"n": size}) == count


def test_strided_slices_with_every_mask() -> None:
    image = Shape((N, 224, 224, 3))
    zeros, ones = np.zeros(3, np.int32), np.ones(3, np.int32)
    masks = masks_of(ellipsis_mask=1, new_axis_mask=2, shrink_axis_mask=4)
    assert infer("StridedSlice", image, zeros, zeros, ones, attrs=masks) == Shape((N, 224, 224, 1))
    assert infer(
        "StridedSlice", image, Shape((2,)), Shape((2,)), ones[:2], attrs=masks_of(shrink_axis_mask=1)
    ) == Shape((None, 224, 3))
    assert infer("StridedSlice", image, Shape((None,)), Shape((None,)), Shape((None,))) == UNKNOWN_SHAPE
    for refused in (masks_of(ellipsis_mask=3), masks_of(shrink_axis_mask=2)):
        with pytest.raises(InferenceError):
            infer("StridedSlice", Shape((1, 1)), ones, ones, ones, attrs=refused)


def test_symbolic_slices() -> None:
    assert infer("Slice", Shape((N, 8)), np.array([0, 2]), np.array([-1, -1])) == Shape((N, 6))
    assert infer("Slice", Shape((N, 8)), np.array([0, 2]), np.array([3, 4])) == Shape((3, 4))
    assert infer("Slice", UNKNOWN_SHAPE, Shape((2,)), Shape((2,))) == Shape((None, None))
    with pytest.raises(InferenceError, match="exceeds"):
        infer("Slice", Shape((N, 8)), np.array([0, 2]), np.array([-1, 7]))


# Gathers ------------------------------------------------------------------------------------------------------


@tensorflow
@settings(max_examples=25)
@given(st.data())
def test_gather(data: Any) -> None:
    params = data.draw(elements(shapes(1, 3)))
    high = params.shape[0] - 1 + (data.draw(st.integers(0, 5)) == 0)
    shape = data.draw(shapes(0, 2)) if high >= 0 else (0,)
    check_operator("Gather", [params, data.draw(integers(0, max(high, 0), shape))], exact=True)


@tensorflow
@settings(max_examples=60)
@given(st.data())
def test_gather_v2(data: Any) -> None:
    params = data.draw(elements(shapes(1, 4), (np.float32, np.int64, np.bool_, np.object_)))
    axis = data.draw(st.integers(0, params.ndim - 1))
    batch = data.draw(st.integers(0, axis))
    inner = data.draw(shapes(0, 2, 3)) if params.shape[axis] else (0,)
    high = params.shape[axis] - (data.draw(st.integers(0, 7)) > 0)
    indices = data.draw(integers(0, max(high, 0), (*params.shape[:batch], *inner)))
    attrs = {"batch_dims": batch - data.draw(st.sampled_from([0, indices.ndim]))}
    if indices.ndim == 0:
        attrs = {"batch_dims": 0}
    place = np.array(axis - data.draw(st.sampled_from([0, params.ndim])), data.draw(st.sampled_from(INDICES)))
    check_operator("GatherV2", [params, indices, place], attrs, exact=True)


@tensorflow
@pytest.mark.parametrize("index", [-1, 3])
@pytest.mark.parametrize("empty", [False, True])
def test_gather_refuses_indices_outside(index: int, empty: bool) -> None:
    params = np.zeros((3, 0 if empty else 2), np.float32)
    check_operator("GatherV2", [params, np.array([index], np.int32), np.array(0, np.int32)])


@tensorflow
@settings(max_examples=40)
@given(st.data())
def test_gather_nd(data: Any) -> None:
    params = data.draw(elements(shapes(1, 3)))
    depth = data.draw(st.integers(0, params.ndim))
    shape = (*data.draw(shapes(0, 2)), depth)
    indices = data.draw(integers(0, 1, shape))
    if params.size:
        indices = np.minimum(indices, np.array(params.shape[:depth]) - 1).astype(indices.dtype)
    check_operator("GatherNd", [params, indices], exact=True)


def test_gathers_of_variables_know_the_handle() -> None:
    graph = Graph()
    handle = graph.create_node(
        "tf.VarHandleOp", attrs={"shape": Shape((100, 16))}, types=(tensor_type("resource", ()),)
    )
    other = graph.create_node("tf._Arg", types=(tensor_type("resource", ()),))
    assert infer("ResourceGather", handle.output, Shape((N, 5)), attrs={"batch_dims": 0}) == Shape((N, 5, 16))
    assert infer("ResourceGatherNd", handle.output, Shape((N, 1))) == Shape((N, 16))
    assert infer("ResourceGather", other.output, Shape((N, 5)), attrs={"batch_dims": 0}) == UNKNOWN_SHAPE
    assert variable_shape is not None


def test_symbolic_gathers() -> None:
    table = Shape((1000, 64))
    assert infer("GatherV2", table, Shape((N, 7)), np.array(0)) == Shape((N, 7, 64))
    assert infer("GatherV2", Shape((N, 7, 64)), Shape((N, 3)), np.array(1), attrs={"batch_dims": 1}) == Shape(
        (N, 3, 64)
    )
    assert infer("GatherV2", table, Shape((N, 7)), SCALAR) == Shape((None, None, None))
    assert infer("GatherNd", Shape((N, 7, 64)), Shape((5, 2))) == Shape((5, 64))
    with pytest.raises(InferenceError, match="too deep"):
        infer("GatherNd", table, Shape((5, 3)))


# Scatters -----------------------------------------------------------------------------------------------------

SCATTERS = ("TensorScatterUpdate", "TensorScatterAdd", "TensorScatterSub", "TensorScatterMin", "TensorScatterMax")


@st.composite
def scattering(draw: Any, dtypes: Any) -> tuple[Any, Any, Any]:
    """An array, indices into it (now and then outside) and updates that fit them."""
    target = draw(elements(shapes(1, 3, zeros=draw(st.integers(0, 5)) == 0), dtypes))
    depth = draw(st.integers(0, target.ndim))
    rows = draw(shapes(1, 2, 3))
    indices = draw(integers(-1 if draw(st.integers(0, 9)) == 0 else 0, 3, (*rows, depth)))
    if draw(st.integers(0, 9)):
        bounds = np.maximum(np.array(target.shape[:depth], np.int64) - 1, 0)
        indices = np.minimum(indices, bounds).astype(indices.dtype)
    kind = np.object_ if target.dtype == object else target.dtype.type
    return target, indices, draw(elements((*rows, *target.shape[depth:]), (kind,)))


@tensorflow
@pytest.mark.parametrize("op", SCATTERS)
@settings(max_examples=20)
@given(data=st.data())
def test_tensor_scatters(op: str, data: Any) -> None:
    ordered = op in ("TensorScatterMin", "TensorScatterMax")
    numbers = (np.float32, np.float64, np.int32, np.int64)
    listed = ELEMENTS if op == "TensorScatterUpdate" else numbers if ordered else NUMBERS
    target, indices, updates = data.draw(scattering(listed))
    check_operator(op, [target, indices, updates], rtol=1e-2, may_refuse=not indices.shape[-1])


@tensorflow
@settings(max_examples=25)
@given(st.data())
def test_scatter_nd(data: Any) -> None:
    target, indices, updates = data.draw(scattering(ELEMENTS))
    shape = np.array(target.shape, indices.dtype)
    check_operator("ScatterNd", [indices, updates, shape], rtol=1e-2, may_refuse=not indices.shape[-1])


@tensorflow
@FEW
@given(st.data())
def test_scatter_nd_non_aliasing(data: Any) -> None:
    target, indices, updates = data.draw(scattering((np.float32, np.int32)))
    check_operator("ScatterNdNonAliasingAdd", [target, indices, updates], may_refuse=not indices.shape[-1])


@tensorflow
@FEW
@given(st.data())
def test_inplace(data: Any) -> None:
    target = data.draw(elements(shapes(1, 3, zeros=False), (np.float32, np.int32)))
    rows = data.draw(vectors(-3, 5, data.draw(st.integers(0, 3)), (np.int32,)))
    updates = data.draw(elements((rows.size, *target.shape[1:]), (target.dtype.type,)))
    for op in ("InplaceUpdate", "InplaceAdd", "InplaceSub"):
        check_operator(op, [target, rows, updates], compare=compared_with(target, rows))


def compared_with(target: Any, rows: Any) -> Any:
    """Rows named twice are written in no order that TensorFlow promises."""
    repeated = [row for row in range(len(target)) if (rows % len(target) == row).sum() > 1]

    def compare(index: int, ours: Any, theirs: Any) -> None:
        np.testing.assert_allclose(np.delete(ours, repeated, 0), np.delete(theirs, repeated, 0), rtol=1e-5)

    return compare


def test_scatters_refuse_a_vector_of_indices() -> None:
    with pytest.raises(ValueError, match="rank 2"):
        evaluate("TensorScatterUpdate", [np.zeros(1), np.array([0]), np.array([5.0])], {})


def test_scatters_check_shapes() -> None:
    with pytest.raises(InferenceError, match="must be equal"):
        infer("ScatterNd", Shape((2, 1)), Shape((2, 4)), np.array([8, 5]))


# Searches -----------------------------------------------------------------------------------------------------


@tensorflow
@FEW
@given(elements(shapes(0, 4), (np.float32, np.float64, np.int32, np.int64, np.uint8, np.int8, np.bool_, np.complex64)))
def test_where(value: Any) -> None:
    check_operator("Where", [value])


@tensorflow
@FEW
@given(st.data())
def test_bounds(data: Any) -> None:
    dtype = data.draw(st.sampled_from((np.float32, np.int32, np.int64)))
    batch = data.draw(st.integers(0, 2))
    rows = np.sort(data.draw(arrays(dtype, (batch, data.draw(st.integers(0, 5))), -5, 5)), axis=1)
    values = data.draw(arrays(dtype, (batch, data.draw(st.integers(0, 4))), -6, 6))
    if dtype is np.float32 and values.size:
        values[0, 0] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf, 0.0]))
    for op in ("LowerBound", "UpperBound"):
        check_operator(op, [rows, values], {"out_type": DTYPES[data.draw(st.sampled_from(["int32", "int64"]))]})


@tensorflow
@FEW
@given(st.data())
def test_bucketize(data: Any) -> None:
    value = data.draw(elements(shapes(0, 2), (np.float32, np.float64, np.int32, np.int64)))
    boundaries = sorted(data.draw(st.lists(st.integers(-40, 40).map(lambda x: x / 8), max_size=5)))
    check_operator("Bucketize", [value], {"boundaries": tuple(boundaries)})


# Sets ---------------------------------------------------------------------------------------------------------


@st.composite
def repetitive(draw: Any, shape: Any) -> Any:
    """An array in which values repeat, NaN and both zeros among them."""
    dtype = draw(st.sampled_from((np.float32, np.float64, np.int32, np.int64, np.int8, np.object_)))
    pool = [b"", b"a", b"b"] if dtype is np.object_ else [0, 1, 2]
    if dtype in (np.float32, np.float64):
        pool = [0.0, -0.0, 1.5, np.nan]
    values = np.empty(int(np.prod(shape)), dtype)
    values[:] = draw(st.lists(st.sampled_from(pool), min_size=values.size, max_size=values.size))
    return values.reshape(shape)


@tensorflow
@settings(max_examples=25)
@given(st.data())
def test_unique(data: Any) -> None:
    attrs = {"out_idx": DTYPES[data.draw(st.sampled_from(["int32", "int64"]))]}
    vector = data.draw(repetitive((data.draw(st.integers(0, 6)),)))
    check_operator("Unique", [vector], attrs, exact=True)
    check_operator("UniqueWithCounts", [vector], attrs, exact=True)
    value = data.draw(repetitive(data.draw(shapes(1, 3, 3, zeros=False))))
    axes = data.draw(vectors(-value.ndim, value.ndim - 1, data.draw(st.sampled_from([0, 1, 1, 2]))))
    for op in ("UniqueV2", "UniqueWithCountsV2"):
        check_operator(op, [value, axes], attrs, exact=True)


@tensorflow
@FEW
@given(st.data())
def test_list_diff(data: Any) -> None:
    left = data.draw(repetitive((5,)))
    right = left[np.array(data.draw(st.lists(st.integers(0, 4), max_size=3)), np.intp)]
    check_operator("ListDiff", [left, right], exact=True)


@tensorflow
@FEW
@given(st.data())
def test_set_operations(data: Any) -> None:
    groups = data.draw(shapes(1, 2, 3))
    dtype = data.draw(st.sampled_from((np.int32, np.int64, np.uint8)))
    left, right = (data.draw(arrays(dtype, (*groups, data.draw(st.integers(0, 4))), 0, 4)) for _ in range(2))
    for operation in (b"a-b", b"b-a", b"intersection", b"union"):
        check_operator("DenseToDenseSetOperation", [left, right], {"set_operation": operation})


def test_shapes_of_sets() -> None:
    assert infer("SetSize", Shape((None, 3)), Shape((None,)), np.array([4, 5, 6])) == Shape((4, 5))
    assert infer("DenseToSparseSetOperation", Shape((N, 3)), *[Shape(None)] * 3, outputs=3) == [
        Shape((None, 2)),
        Shape((None,)),
        Shape((2,)),
    ]
    assert infer("BoostedTreesBucketize", Shape((N,)), Shape((N,)), SCALAR, SCALAR, outputs=2) == [Shape((N,))] * 2


# UnravelIndex -------------------------------------------------------------------------------------------------


@tensorflow
def test_unravelled_places() -> None:
    dims = np.int32([3, 4, 2])
    check_operator("UnravelIndex", [np.int32([0, 7, 23]), dims])
    check_operator("UnravelIndex", [np.int64(11), dims.astype(np.int64)])
    assert check_operator("UnravelIndex", [np.int32([24]), dims]) is None
    assert check_operator("UnravelIndex", [np.int32([1]), np.int32([[3]])]) is None
