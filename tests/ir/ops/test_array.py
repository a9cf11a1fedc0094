"""Array operators against TensorFlow: sources, shapes, reshaping, filling, ranges, broadcasting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from material import ELEMENTS, INDICES, elements, infer, integers, vectors
from oracle import assert_same, broadcastable, check_operator, evaluate, shapes

from graphopt.ir import ops
from graphopt.ir.dimensions import floordiv, symbol
from graphopt.ir.model import Model
from graphopt.ir.ops import Trait
from graphopt.ir.ops.inference import InferenceError
from graphopt.ir.ops.tf_array import reshaped
from graphopt.ir.tensors import tensor
from graphopt.ir.types import DTYPES, INT64, SCALAR, UNKNOWN_SHAPE, Shape

tensorflow = pytest.mark.tensorflow
FEW = settings(max_examples=15)
VISIBLE = (np.float32, np.int64, np.object_)  # types enough for operators that any type takes alike


N = symbol("n")


# Sources ------------------------------------------------------------------------------------------------------


def test_placeholders_say_their_shape() -> None:
    assert infer("Placeholder", attrs={"shape": Shape((None, 3))}) == Shape((None, 3))
    assert infer("Placeholder", attrs={}) == UNKNOWN_SHAPE
    assert infer("PlaceholderV2", attrs={"shape": SCALAR}) == SCALAR
    assert infer("PlaceholderWithDefault", Shape((2, 3)), attrs={"shape": Shape((None, 3))}) == Shape((None, 3))
    with pytest.raises(InferenceError, match="does not fit"):
        infer("PlaceholderWithDefault", Shape((2, 4)), attrs={"shape": Shape((None, 3))})
    assert ops.traits_of("tf.Placeholder") & Trait.SOURCE


@pytest.mark.parametrize(("producer", "expected"), [(21, UNKNOWN_SHAPE), (22, SCALAR)])
def test_a_scalar_placeholder_of_an_old_producer_has_no_shape(producer: int, expected: Shape) -> None:
    model = Model()
    model.versions = (producer, 0, ())
    assert infer("Placeholder", attrs={"shape": SCALAR}, model=model) == expected


@FEW
@given(elements(shapes()))
def test_constants(value: Any) -> None:
    found = evaluate("Const", [], {"value": tensor(value), "dtype": tensor(value).dtype})[0]
    assert found.dtype == value.dtype
    assert_same(found, value, exact=True)
    assert infer("Const", attrs={"value": tensor(value)}) == Shape(value.shape)


@tensorflow
@pytest.mark.parametrize("op", ["ZerosLike", "OnesLike", "Copy", "DeepCopy", "GuaranteeConst"])
@settings(max_examples=8)
@given(data=st.data())
def test_copies_and_likes(op: str, data: Any) -> None:
    listed = ELEMENTS[:-1] if op == "OnesLike" else VISIBLE if op not in ("ZerosLike", "OnesLike") else ELEMENTS
    value = data.draw(elements(shapes(), listed))
    if op == "Copy":  # TensorFlow's kernel needs a debugger; the table's copy is the input itself.
        assert evaluate(op, [value], {"T": tensor(value).dtype})[0].shape == value.shape
        return
    check_operator(op, [value], exact=True)


# Shapes -------------------------------------------------------------------------------------------------------


@tensorflow
@FEW
@given(elements(shapes()), st.sampled_from(["int32", "int64"]))
def test_shapes_of_arrays(value: Any, out_type: str) -> None:
    for op in ("Shape", "Size"):
        check_operator(op, [value], {"out_type": DTYPES[out_type]})
    check_operator("Rank", [value])
    check_operator("ShapeN", [value, value[..., None]], {"out_type": DTYPES[out_type]})


def test_a_size_beyond_the_type_is_refused() -> None:
    huge = np.broadcast_to(np.int8(0), (1 << 31, 2))
    with pytest.raises(ValueError, match="does not fit int32"):
        ops.find("tf.Size").evaluate({"out_type": DTYPES["int32"]}, huge)  # type: ignore[union-attr, misc]


def test_the_shape_of_a_variable_is_a_vector() -> None:
    assert infer("VariableShape", SCALAR) == Shape((None,))


@tensorflow
@settings(max_examples=40)
@given(st.data())
def test_reshape(data: Any) -> None:
    value = data.draw(elements(shapes(), VISIBLE))
    sizes = data.draw(st.permutations(value.shape + data.draw(st.sampled_from([(), (1,), (1, 1)]))))
    if sizes and data.draw(st.booleans()):
        sizes[data.draw(st.integers(0, len(sizes) - 1))] = data.draw(st.sampled_from([-1, -1, -1, 3, -2]))
    check_operator("Reshape", [value, np.array(sizes, data.draw(st.sampled_from(INDICES)))], exact=True)


@pytest.mark.parametrize(
    ("source", "wanted", "expected"),
    [
        ((N, 7, 7, 64), (-1, 3136), (N, 3136)),
        ((N, 4, 6), (-1, 6), (4 * N, 6)),
        ((N, 12), (N, 3, -1), (N, 3, 4)),
        ((N, 12), (None, 3, 4), (N, 3, 4)),
        ((N, 12), (N, None), (N, None)),
        ((None, 7), (-1, 7), (None, 7)),
        ((2, 3), (-1,), (6,)),
        ((0, 3), (-1, 0), (3, 0)),
        ((0, N), (-1, 0), (None, 0)),
        ((0, 3), (N, -1), (N, None)),
        ((2 * N, 6), (-1, 5), (floordiv(12 * N, 5), 5)),
        ((N, symbol("m"), 8), (N, -1, 4), (N, 2 * symbol("m"), 4)),
        (None, (-1, 3), (None, 3)),
    ],
)
def test_reshape_keeps_symbolic_quotients(source: Any, wanted: Any, expected: Any) -> None:
    assert reshaped(Shape(source), wanted) == Shape(expected)


@pytest.mark.parametrize("wanted", [(-1, -1), (5,), (-1, 4), (-2, 3)])
def test_reshape_refuses_what_cannot_be(wanted: Any) -> None:
    with pytest.raises(InferenceError):
        reshaped(Shape((2, 3)), wanted)


def test_reshape_of_a_huge_declared_shape_allocates_nothing() -> None:
    assert infer("Reshape", Shape((1 << 40, 1 << 20)), np.array([-1])) == Shape((1 << 60,))


@tensorflow
@FEW
@given(st.data())
def test_squeeze_and_expand(data: Any) -> None:
    shape = data.draw(st.lists(st.sampled_from([1, 1, 2, 0]), max_size=4))
    value = data.draw(elements(tuple(shape)))
    axes = data.draw(st.lists(st.integers(-len(shape) - 1, len(shape)), max_size=2))
    check_operator("Squeeze", [value], {"squeeze_dims": tuple(axes)}, exact=True)
    axis = data.draw(st.integers(-len(shape) - 2, len(shape) + 1))
    check_operator("ExpandDims", [value, np.array(axis, data.draw(st.sampled_from(INDICES)))], exact=True)


def test_squeeze_of_an_unknown_dimension_leaves_the_rank_open() -> None:
    assert infer("Squeeze", Shape((N, 1))) == UNKNOWN_SHAPE
    assert infer("Squeeze", Shape((N, 1)), attrs={"squeeze_dims": (-1,)}) == Shape((N,))
    assert infer("ExpandDims", Shape((N, 3)), np.array(-1)) == Shape((N, 3, 1))


@tensorflow
@FEW
@given(elements(shapes(0, 3)), st.sampled_from([None, 0, 1, 2]))
def test_ensure_shape(value: Any, dim: Any) -> None:
    check_operator("EnsureShape", [value], {"shape": Shape([dim] * value.ndim)}, exact=True)


@tensorflow
@settings(max_examples=25)
@given(st.data())
def test_transposes(data: Any) -> None:
    value = data.draw(elements(shapes()))
    order = data.draw(st.permutations(range(value.ndim)))
    order = [axis - data.draw(st.sampled_from([0, 0, value.ndim])) for axis in order]
    # TensorFlow aborts the process on the conjugate transpose of a scalar, of an empty array and of strings.
    conjugable = value.size and value.ndim and value.dtype != object
    for op in ("Transpose", "ConjugateTranspose") if conjugable else ("Transpose",):
        check_operator(op, [value, np.array(order, data.draw(st.sampled_from(INDICES)))], exact=True)


@pytest.mark.parametrize("order", [[0, 0], [0], [0, 2], [0, -3]])
def test_transposes_refuse_what_is_no_permutation(order: list[int]) -> None:
    with pytest.raises(ValueError, match=r"permutation|out of range"):
        evaluate("Transpose", [np.zeros((2, 3)), np.array(order)], {})
    with pytest.raises(InferenceError):
        infer("Transpose", Shape((2, 3)), np.array(order))


@tensorflow
@FEW
@given(st.permutations(range(4)), st.booleans(), st.sampled_from(INDICES))
def test_invert_permutation(order: list[int], spoil: bool, dtype: Any) -> None:
    check_operator("InvertPermutation", [np.array(order[1:] if spoil else order, dtype)])


def test_out_types_are_the_attribute_s() -> None:
    assert evaluate("Size", [np.zeros((2, 3))], {"out_type": INT64})[0].dtype == np.int64


# Filling, ranges, tiles ---------------------------------------------------------------------------------------


@tensorflow
@FEW
@given(vectors(0, 3, 3), elements(()))
def test_fill(dims: Any, value: Any) -> None:
    check_operator("Fill", [dims, value], exact=True)


@tensorflow
@pytest.mark.parametrize("dims", [[2, -1], []])
def test_fill_edges(dims: list[int]) -> None:
    check_operator("Fill", [np.array(dims, np.int32), np.float32(1)], exact=True)


def test_filling_takes_no_memory() -> None:
    assert evaluate("Fill", [np.array([1 << 20, 1 << 20]), np.array(1.0)], {})[0].strides == (0, 0)
    assert infer("Empty", np.array([2, 3])) == Shape((2, 3))


@tensorflow
@settings(max_examples=40)
@given(st.data())
def test_range(data: Any) -> None:
    dtype = data.draw(st.sampled_from((np.int32, np.int64, np.float32, np.float64, np.float16)))
    draw = st.integers(-9, 9) if np.dtype(dtype).kind == "i" else st.floats(-9, 9, width=16).map(lambda x: round(x, 2))
    check_operator("Range", [np.array(data.draw(draw), dtype) for _ in range(3)])


@tensorflow
@FEW
@given(st.data())
def test_lin_space(data: Any) -> None:
    dtype = data.draw(st.sampled_from((np.float32, np.float64)))
    ends = [np.array(data.draw(st.floats(-99, 99, width=32)), dtype) for _ in range(2)]
    check_operator("LinSpace", [*ends, np.array(data.draw(st.integers(0, 9)), data.draw(st.sampled_from(INDICES)))])


@tensorflow
@FEW
@given(st.data())
def test_one_hot(data: Any) -> None:
    indices = data.draw(integers(-1, 4, shapes(0, 3), (np.int32, np.int64, np.uint8, np.int8)))
    on = data.draw(elements(()))
    off = data.draw(elements((), (np.object_ if on.dtype == object else on.dtype.type,)))
    axis = data.draw(st.integers(-2, indices.ndim + 1))
    depth = np.array(data.draw(st.integers(-1, 4)), np.int32)
    check_operator("OneHot", [indices, depth, on, off], {"axis": axis}, exact=True)


@tensorflow
@FEW
@given(st.data())
def test_tile(data: Any) -> None:
    value = data.draw(elements(shapes()))
    counts = data.draw(vectors(0, 3, value.ndim + (data.draw(st.integers(0, 9)) == 0)))
    check_operator("Tile", [value, counts], exact=True)


@tensorflow
@settings(max_examples=25)
@given(st.data())
def test_broadcasts(data: Any) -> None:
    left, right = data.draw(broadcastable())
    if data.draw(st.integers(0, 4)) == 0:
        right = data.draw(shapes())
    dtype = data.draw(st.sampled_from(INDICES))
    pair = [np.array(left, dtype), np.array(right, dtype)]
    check_operator("BroadcastArgs", pair)
    check_operator("BroadcastGradientArgs", pair)
    check_operator("BroadcastTo", [data.draw(elements(left)), pair[1]], exact=True)


def test_symbolic_filling() -> None:
    n = Shape((N,))
    assert infer("BroadcastTo", Shape((N, 1)), np.array([5, 1, 4])) == Shape((5, 1, 4))
    assert infer("Tile", Shape((N, 3)), np.array([2, 1])) == Shape((2 * N, 3))
    assert infer("OneHot", n, np.array(10), SCALAR, SCALAR, attrs={"axis": -1}) == Shape((N, 10))
