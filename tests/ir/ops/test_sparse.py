"""Operators on sparse tensors against TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from material import elements, infer, integers
from oracle import arrays, check_operator, shapes

from graphopt.ir import ops
from graphopt.ir.dimensions import symbol
from graphopt.ir.ops import Trait
from graphopt.ir.ops.inference import InferenceError
from graphopt.ir.types import SCALAR, UNKNOWN_SHAPE, Shape

tensorflow = pytest.mark.tensorflow
FEW = settings(max_examples=20)
N = symbol("n")
TYPES = (np.float32, np.int64, np.int32)


@st.composite
def sparse(draw: Any, shape: Any, dtypes: Any = TYPES) -> list[Any]:
    """Indices in order, each once, values and shape of a sparse tensor."""
    places = draw(st.lists(st.tuples(*[st.integers(0, max(size - 1, 0)) for size in shape]), max_size=5, unique=True))
    if 0 in shape:
        places = []
    indices = np.array(sorted(places), np.int64).reshape(len(places), len(shape))
    return [indices, draw(elements((len(places),), dtypes)), np.array(shape, np.int64)]


# Dense and sparse ---------------------------------------------------------------------------------------------


@tensorflow
@FEW
@given(st.data())
def test_sparse_to_dense(data: Any) -> None:
    shape = data.draw(shapes(1, 3))
    indices, values, _ = data.draw(sparse(shape, (np.float32, np.int32, np.object_, np.bool_)))
    kind = np.object_ if values.dtype == object else values.dtype.type
    default = data.draw(elements((), (kind,)))
    dtype = data.draw(st.sampled_from([np.int32, np.int64]))
    checked = data.draw(st.booleans())
    if len(indices) > 1 and data.draw(st.booleans()):
        indices = indices[::-1]
    operands = [indices.astype(dtype), np.array(shape, dtype), values, default]
    check_operator("SparseToDense", operands, {"validate_indices": checked}, exact=True)
    if data.draw(st.booleans()):
        operands[2] = data.draw(elements((), (kind,)))
    operands[1] = operands[1] - 1  # some indices now lie outside
    check_operator("SparseToDense", operands, {"validate_indices": False}, exact=True)


@tensorflow
@pytest.mark.parametrize("indices", [np.array(1, np.int32), np.array([0, 2], np.int32)])
def test_sparse_to_dense_takes_scalars_and_vectors(indices: Any) -> None:
    shape = np.array([3], np.int32)
    check_operator("SparseToDense", [indices, shape, np.float32(5), np.float32(9)], exact=True)
    assert ops.traits_of("tf.SparseToDense") & Trait.DECOMPRESS


@tensorflow
@FEW
@given(st.data())
def test_with_dense_operands(data: Any) -> None:
    shape = data.draw(shapes(2, 2))
    indices, values, dense_shape = data.draw(sparse(shape, (np.float32, np.float64, np.int32)))
    dense = data.draw(arrays(values.dtype, shape))
    check_operator("SparseTensorDenseAdd", [indices, values, dense_shape, dense])
    row = dense[:1]
    for op in ("SparseDenseCwiseAdd", "SparseDenseCwiseMul"):
        check_operator(op, [indices, values, dense_shape, row if shape[0] else dense])
    attrs = {"adjoint_a": data.draw(st.booleans()), "adjoint_b": data.draw(st.booleans())}
    inner, columns = shape[0 if attrs["adjoint_a"] else 1], data.draw(st.integers(0, 3))
    right = data.draw(arrays(values.dtype, (columns, inner) if attrs["adjoint_b"] else (inner, columns), -3, 3))
    check_operator("SparseTensorDenseMatMul", [indices, np.clip(values, -9, 9), dense_shape, right], attrs)


# Rearranging --------------------------------------------------------------------------------------------------


@tensorflow
@FEW
@given(st.data())
def test_sparse_reshape(data: Any) -> None:
    shape = data.draw(shapes(1, 3))
    indices, _, dense_shape = data.draw(sparse(shape))
    wanted = data.draw(st.permutations([*shape, 1]))
    if data.draw(st.booleans()):
        wanted[0] = data.draw(st.sampled_from([-1, -1, 5]))
    check_operator("SparseReshape", [indices, dense_shape, np.array(wanted, np.int64)], refusal=0 in shape)


@tensorflow
@FEW
@given(st.data())
def test_sparse_reorder_and_slice(data: Any) -> None:
    shape = data.draw(shapes(1, 3, zeros=False))
    indices, values, dense_shape = data.draw(sparse(shape))
    start, size = (data.draw(integers(0, 3, (len(shape),), (np.int64,))) for _ in range(2))
    start = np.minimum(start, dense_shape)
    check_operator("SparseSlice", [indices, values, dense_shape, start, size], inferable=False)
    order = np.array(data.draw(st.permutations(range(len(values)))), np.intp)
    check_operator("SparseReorder", [indices[order], values[order], dense_shape])


@tensorflow
@FEW
@given(st.data())
def test_sparse_concat(data: Any) -> None:
    shape = list(data.draw(shapes(1, 3, zeros=False)))
    axis = data.draw(st.integers(0, len(shape) - 1))
    parts = []
    for _ in range(data.draw(st.integers(2, 3))):
        shape[axis] = data.draw(st.integers(1, 3))
        parts.append(data.draw(sparse(tuple(shape), (np.float32,))))
    operands = [part[place] for place in range(3) for part in parts]
    attrs = {"concat_dim": axis - data.draw(st.sampled_from([0, len(shape)])), "N": len(parts)}
    check_operator("SparseConcat", operands, attrs, exact=True)


@tensorflow
@FEW
@given(st.data())
def test_sparse_fill_empty_rows(data: Any) -> None:
    shape = data.draw(shapes(1, 2))
    indices, values, dense_shape = data.draw(sparse(shape, (np.float32, np.int64, np.object_)))
    default = data.draw(elements((), (np.object_ if values.dtype == object else values.dtype.type,)))
    if len(indices) and data.draw(st.integers(0, 9)) == 0:
        indices = indices + shape[0]  # outside
    check_operator("SparseFillEmptyRows", [indices, values, dense_shape, default], inferable=False, exact=True)
    order = np.array(data.draw(st.permutations(range(len(values)))), np.intp)
    check_operator("SparseFillEmptyRows", [indices[order], values[order], dense_shape, default], inferable=False)


# Shapes -------------------------------------------------------------------------------------------------------


def parts(count: Any, rank: Any) -> list[Shape]:
    return [Shape((count, rank)), Shape((count,)), Shape((rank,))]


def test_symbolic_sparse_tensors() -> None:
    triple = parts(N, 2)
    assert infer("SparseReshape", triple[0], triple[2], np.array([-1, 2, 3]), outputs=2) == [Shape((N, 3)), Shape((3,))]
    assert infer("SparseReorder", *triple, outputs=2) == triple[:2]
    assert infer("SparseFillEmptyRows", *triple[:2], np.array([5, 6]), SCALAR, outputs=4) == [
        Shape((None, 2)),
        Shape((None,)),
        Shape((5,)),
        Shape((N,)),
    ]
    attrs = {"adjoint_a": False, "adjoint_b": False}
    assert infer("SparseTensorDenseMatMul", *triple[:2], np.array([5, 6]), Shape((6, N)), attrs=attrs) == Shape((5, N))
    with pytest.raises(InferenceError):
        infer("SparseTensorDenseMatMul", *triple[:2], np.array([5, 6]), Shape((7, N)), attrs=attrs)
    twice = [Shape((N, 2)), Shape((N, 2)), Shape((N,)), Shape((N,)), Shape((2,)), Shape((2,))]
    assert infer("SparseConcat", *twice, attrs={"concat_dim": 0}, outputs=3) == parts(2 * N, 2)
    assert infer("SparseAdd", *triple, *parts(None, None), SCALAR, outputs=3) == parts(None, 2)
    assert infer("SparseSparseMaximum", *triple, *triple, outputs=2) == parts(None, 2)[:2]
    assert infer("SparseSplit", SCALAR, *triple, outputs=6) == [
        *[Shape((None, 2))] * 2,
        *[Shape((None,))] * 2,
        *[Shape((2,))] * 2,
    ]
    assert infer("SparseSoftmax", *triple) == Shape((N,))
    assert infer("SparseFillEmptyRowsGrad", Shape((N,)), Shape((None,)), outputs=2) == [Shape((N,)), SCALAR]


def test_shapes_of_sparse_reductions() -> None:
    operands = [*parts(N, 3)[:2], np.array([4, 5, 6]), np.array([-1, 0])]
    assert infer("SparseReduceSum", *operands, attrs={"keep_dims": False}) == Shape((5,))
    assert infer("SparseReduceMax", *operands, attrs={"keep_dims": True}) == Shape((1, 5, 1))
    assert infer("SparseReduceSum", *parts(N, 3), np.array([0]), attrs={"keep_dims": False}) == Shape((None, None))
    assert infer("SparseReduceSum", *parts(N, None), np.array([0])) == UNKNOWN_SHAPE
    assert infer("SparseReduceSumSparse", *operands, outputs=3) == parts(None, None)


def test_edit_distance_compares_sequences_of_the_last_dimension() -> None:
    known = infer("EditDistance", *parts(N, 3)[:2], np.array([2, 3, 9]), *parts(N, 3)[:2], np.array([2, 4, 7]))
    assert known == Shape((2, 4))
    assert infer("EditDistance", *parts(N, 3), *parts(None, None)) == Shape((None, None))
    with pytest.raises(InferenceError):
        infer("EditDistance", *parts(N, 3), *parts(N, 2))
    sizes = infer("SerializeSparse", *parts(N, 3)), infer("SerializeManySparse", *parts(N, 3))
    assert sizes == (Shape((3,)), Shape((None, 3)))
    assert infer("DeserializeSparse", Shape((3,)), outputs=3) == parts(None, None)
