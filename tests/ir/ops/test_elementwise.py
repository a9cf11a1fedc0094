"""Elementwise operators against TensorFlow: arithmetic, comparison, selection, casts, special functions."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import oracle
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracle import COMPLEX, FLOATS, INTEGERS, SIGNED, check_operator, words

from graphopt.ir import ops
from graphopt.ir.graph import Graph
from graphopt.ir.ops import Trait
from graphopt.ir.ops.inference import InferenceContext, InferenceError
from graphopt.ir.types import DTYPES, STRING, Shape, dtype_of, tensor_type

pytestmark = pytest.mark.tensorflow
FEW = settings(max_examples=12)
WIDE_FLOATS = (np.float32, np.float64)
NO_BFLOAT16 = (*WIDE_FLOATS, np.float16)

UNARY: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(words("Acos Acosh Asin Asinh Atan Atanh Cos Cosh Sin Sinh Tan Tanh"), (FLOATS,)),
    **dict.fromkeys(words("Exp Expm1 Log Log1p Sqrt Rsqrt"), (FLOATS,)),
    **dict.fromkeys(words("Ceil Floor IsNan IsInf IsFinite"), (FLOATS,)),
    **dict.fromkeys(words("Elu Selu LeakyRelu Softplus Softsign Sigmoid"), (FLOATS,)),
    **dict.fromkeys(words("Reciprocal Inv"), (FLOATS,)),
    **dict.fromkeys(words("Abs Sign"), (FLOATS, SIGNED)),
    **dict.fromkeys(words("Relu Relu6"), (FLOATS, INTEGERS)),
    **dict.fromkeys(words("Invert PopulationCount"), (INTEGERS,)),
    "Neg": (FLOATS, SIGNED, COMPLEX),
    "Square": (FLOATS, INTEGERS, COMPLEX),
    "Round": (FLOATS,),
    "Rint": (WIDE_FLOATS,),
    "Conj": (COMPLEX,),
    "LogicalNot": (np.bool_,),
    **dict.fromkeys(words("Erf Erfc"), (FLOATS,)),
    "Erfinv": (WIDE_FLOATS,),
    **dict.fromkeys(words("Lgamma Digamma"), (NO_BFLOAT16,)),
}
# Beyond rounding: TensorFlow's vectorised approximations, and narrow types that it rounds after every step.
LOOSE = words("Reciprocal Inv Rsqrt Elu Selu Expm1 Softplus Sinh Log1p Erfc Erf Asinh Acosh Atanh Tan") + words(
    "Xlogy Xlog1py Pow Atan2 SquaredDifference"
)


def tolerance(name: str, dtype: Any) -> dict[str, float]:
    narrow = np.dtype(dtype).itemsize <= 2 and np.dtype(dtype).kind not in "iu"
    return {"rtol": 3e-2, "atol": 4e-3} if narrow and name in LOOSE else {}


def comparable(name: str, x: Any) -> Any:
    """`x` without values on which TensorFlow is no oracle."""
    if name == "Erf" and x.dtype == np.float64:
        return np.clip(x, -1e300, 1e300)  # erf of the largest double is NaN there
    if name not in ("Digamma", "Lgamma"):
        return x
    near = np.abs(x - np.round(np.nan_to_num(x))) < 0.1  # near their poles they change too fast for a tolerance
    return np.where(near & (x < 0.5), x.dtype.type(0.7), x)


@pytest.mark.parametrize("name", UNARY)
@FEW
@given(data=st.data())
def test_unary(name: str, data: Any) -> None:
    dtype = data.draw(oracle.dtypes(*UNARY[name]))
    x = comparable(name, data.draw(oracle.arrays(dtype, oracle.shapes(max_rank=3))))
    check_operator(name, [x], **tolerance(name, dtype))


COMPLEX_UNARY = words("Exp Expm1 Log Log1p Sqrt Rsqrt Reciprocal Inv Sin Cos Tan Sinh Cosh Tanh Sigmoid Sign Square")


@pytest.mark.parametrize("name", COMPLEX_UNARY)
@FEW
@given(x=oracle.arrays(oracle.dtypes(COMPLEX), oracle.shapes(max_rank=2), -2, 2))
def test_unary_complex(name: str, x: Any) -> None:
    check_operator(name, [x], rtol=1e-4, atol=1e-5)


@given(x=oracle.arrays(oracle.dtypes(WIDE_FLOATS), oracle.shapes(), denormals=True))
@pytest.mark.parametrize("name", ["Neg", "Abs"])
@FEW
def test_signs_are_exact(name: str, x: Any) -> None:
    check_operator(name, [x], exact=True)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_rounding_of_integers_is_refused(dtype: Any) -> None:
    """TensorFlow's kernel returns zeros, its documentation and its Python function say otherwise."""
    evaluate = ops.find("tf.Round").evaluate  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="rounding integers"):
        evaluate({}, np.array([3], dtype))  # type: ignore[misc]


@FEW
@given(x=oracle.arrays(oracle.dtypes(FLOATS), oracle.shapes()), alpha=st.sampled_from([0.0, 0.25, 1.0, -0.5]))
def test_leaky_relu(x: Any, alpha: float) -> None:
    check_operator("LeakyRelu", [x], {"alpha": alpha})


BINARY: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(words("AddV2 Sub Mul Div"), (FLOATS, INTEGERS, COMPLEX)),
    "Add": (FLOATS, SIGNED, COMPLEX),
    "RealDiv": (FLOATS, COMPLEX),
    **dict.fromkeys(words("FloorDiv TruncateDiv FloorMod"), (FLOATS, INTEGERS)),
    **dict.fromkeys(words("Mod TruncateMod"), (WIDE_FLOATS, np.int32, np.int64)),
    **dict.fromkeys(words("Maximum Minimum Less LessEqual Greater GreaterEqual"), (FLOATS, INTEGERS)),
    **dict.fromkeys(words("Equal NotEqual"), (FLOATS, INTEGERS, COMPLEX, np.bool_)),
    "SquaredDifference": (FLOATS, np.int32, np.int64, COMPLEX),
    **dict.fromkeys(words("DivNoNan MulNoNan"), (FLOATS, COMPLEX)),
    **dict.fromkeys(words("Xdivy Xlogy Xlog1py Atan2 Pow"), (FLOATS,)),
    "NextAfter": (WIDE_FLOATS,),
    **dict.fromkeys(words("BitwiseAnd BitwiseOr BitwiseXor LeftShift RightShift"), (INTEGERS,)),
    **dict.fromkeys(words("LogicalAnd LogicalOr"), (np.bool_,)),
}
DIVISIONS = words("Div FloorDiv TruncateDiv FloorMod Mod TruncateMod")


@pytest.mark.parametrize("name", BINARY)
@FEW
@given(data=st.data())
def test_binary(name: str, data: Any) -> None:
    dtype = np.dtype(data.draw(oracle.dtypes(*BINARY[name])))
    left, right = data.draw(oracle.broadcastable())
    bounds = (-4, 4) if dtype.kind == "c" else (None, None)  # how infinities multiply is no standard's business
    x, y = data.draw(oracle.arrays(dtype, left, *bounds)), data.draw(oracle.arrays(dtype, right, *bounds))
    if dtype.kind in "iu" and name in DIVISIONS:
        y = np.where(y == 0, dtype.type(3), y)
        y = np.where(y == dtype.type(-1), dtype.type(5), y) if dtype.kind == "i" else y  # TensorFlow traps on overflow
    check_operator(name, [x, y], **tolerance(name, dtype))


@pytest.mark.parametrize("name", [*BINARY, "SelectV2"])
def test_shapes_that_do_not_broadcast(name: str) -> None:
    dtype = np.dtype(oracle.dtypes(*BINARY.get(name, (FLOATS,))).elements[0])  # type: ignore[attr-defined]
    x, y = np.ones((2, 3), dtype), np.ones((2, 2), dtype)
    assert check_operator(name, [np.ones((2, 3), bool), x, y] if name == "SelectV2" else [x, y]) is None


@pytest.mark.parametrize("name", DIVISIONS)
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_integer_division(name: str, dtype: Any) -> None:
    x = np.array([7, -7, 7, -7, 6, 0], dtype)
    y = np.array([2, 2, -2, -2, 3, 5], dtype)
    check_operator(name, [x, y])
    assert check_operator(name, [x, np.zeros((), dtype)]) is None
    evaluate = ops.find(f"tf.{name}").evaluate  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="overflows"):
        evaluate({}, np.array(np.iinfo(dtype).min, dtype), np.array(-1, dtype))  # type: ignore[misc]


@FEW
@given(
    x=oracle.arrays(oracle.dtypes(np.int32, np.int64, np.int8, np.int16), (3,)), y=oracle.arrays(np.int32, (3,), -1, 9)
)
def test_integer_powers(x: Any, y: Any) -> None:
    check_operator("Pow", [x, y.astype(x.dtype)])


def test_strings() -> None:
    check_operator("Add", [["a", ""], "b"])
    check_operator("Equal", [["a", "b"], "b"])
    check_operator("NotEqual", [["a", "b"], ["a", "c"]])
    check_operator("SelectV2", [[True, False], ["a", "b"], ["c", "d"]])
    check_operator("Select", [[True, False], ["a", "b"], ["c", "d"]])


def test_shifts_by_more_than_the_width() -> None:
    for dtype in (np.int8, np.int32, np.uint8, np.int64):
        x, y = np.array([1, 3, 7, 100, 2], dtype), np.array([1, 64, 31, 7, 100], dtype)
        check_operator("LeftShift", [x, y])
        check_operator("RightShift", [x, y])


@pytest.mark.parametrize("name", ["Equal", "NotEqual"])
def test_equality_of_incompatible_shapes(name: str) -> None:
    x, y = np.ones(2, np.float32), np.ones(3, np.float32)
    check_operator(name, [x, y], {"incompatible_shape_error": False})
    check_operator(name, [x, x], {"incompatible_shape_error": False})
    assert check_operator(name, [x, y]) is None


def test_approximately_equal() -> None:
    x = np.float32([1, np.nan, np.inf, 2, 0])
    y = np.float32([1.001, np.nan, np.inf, 2.1, -0.05])
    for tolerance in (1e-5, 0.01, 0.2):
        check_operator("ApproximateEqual", [x, y], {"tolerance": tolerance})
    assert check_operator("ApproximateEqual", [x, x[:1]]) is None


# Selection and clipping ---------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(data=st.data())
def test_select(data: Any) -> None:
    dtype = data.draw(oracle.dtypes(FLOATS, INTEGERS, np.bool_))
    shape = data.draw(oracle.shapes(max_rank=3))
    condition = data.draw(st.sampled_from([shape, (), shape[:1], (1,), shape[:2]]))
    chosen = data.draw(oracle.arrays(np.bool_, condition))
    x, y = data.draw(oracle.arrays(dtype, shape)), data.draw(oracle.arrays(dtype, shape))
    check_operator("Select", [chosen, x, y], exact=True)


@FEW
@given(data=st.data())
def test_select_broadcasting(data: Any) -> None:
    shapes = data.draw(oracle.broadcastable(3))
    dtype = data.draw(oracle.dtypes(FLOATS, INTEGERS))
    condition = data.draw(oracle.arrays(np.bool_, shapes[0]))
    x, y = (data.draw(oracle.arrays(dtype, shape)) for shape in shapes[1:])
    check_operator("SelectV2", [condition, x, y], exact=True)


@settings(max_examples=30)
@given(data=st.data())
def test_clip(data: Any) -> None:
    dtype = data.draw(oracle.dtypes(FLOATS, np.int32, np.int64))
    shape = data.draw(oracle.shapes(max_rank=3))
    bounds = [data.draw(st.sampled_from([shape, (), (1,), (2,)])) for _ in range(2)]
    x = data.draw(oracle.arrays(dtype, shape))
    low, high = (data.draw(oracle.arrays(dtype, bound, -4, 4)) for bound in bounds)
    check_operator("ClipByValue", [x, low, high])


@FEW
@given(data=st.data())
def test_sums_of_many(data: Any) -> None:
    dtype, shape = data.draw(oracle.dtypes(FLOATS, INTEGERS)), data.draw(oracle.shapes())
    count = data.draw(st.integers(1, 11))
    inputs = [data.draw(oracle.arrays(dtype, shape, -4 if np.dtype(dtype).kind != "u" else 0, 4)) for _ in range(count)]
    check_operator("AddN", inputs, rtol=5e-2, atol=0.15) if np.dtype(dtype).itemsize == 2 else check_operator(
        "AddN", inputs, rtol=1e-4, atol=1e-5
    )


def test_accumulate() -> None:
    """`AccumulateNV2` is an operator of graphs: TensorFlow itself rewrites it before it runs."""
    operator = ops.find("tf.AccumulateNV2")
    assert operator is not None
    assert operator.evaluate is not None
    assert operator.shape is not None
    x = np.float32([[1, 2]])
    np.testing.assert_array_equal(operator.evaluate({}, x, x, x), 3 * x)
    with pytest.raises(ValueError, match="shaped alike"):
        operator.evaluate({}, x, x[0])
    graph = Graph()
    feed = graph.create_node("tf.Placeholder", types=[tensor_type("float32", [None, 2])]).output
    attrs = {"N": 2, "T": DTYPES["float32"], "shape": Shape([5, 2])}
    node = graph.create_node("tf.AccumulateNV2", [feed, feed], attrs)
    assert operator.shape(InferenceContext(node)) == [Shape([5, 2])]
    node.attrs["shape"] = Shape([5, 3])
    with pytest.raises(InferenceError, match="contradict"):
        operator.shape(InferenceContext(node))


def test_sum_of_unlike_shapes() -> None:
    assert check_operator("AddN", [np.ones(2, np.float32), np.ones(1, np.float32)]) is None


# Types --------------------------------------------------------------------------------------------------------

CASTABLE = (*FLOATS, *INTEGERS, *COMPLEX, np.bool_)
FLOAT8 = (ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3fn)
INT4 = (ml_dtypes.int4, ml_dtypes.uint4)


@settings(max_examples=150)
@given(data=st.data())
def test_cast(data: Any) -> None:
    source, target = data.draw(oracle.dtypes(CASTABLE)), data.draw(oracle.dtypes(CASTABLE))
    x = data.draw(oracle.arrays(source, oracle.shapes(max_rank=2)))
    check_operator("Cast", [x], {"DstT": dtype_of(target)}, may_refuse=source.kind not in "iub", rtol=0, atol=0)


@settings(max_examples=40)
@given(data=st.data())
def test_cast_of_small_types(data: Any) -> None:
    pair = data.draw(st.sampled_from([(FLOAT8, (*FLOATS, *FLOAT8, *COMPLEX)), (INT4, (*INTEGERS, *INT4))]))
    source, target = data.draw(st.permutations([data.draw(oracle.dtypes(pair[0])), data.draw(oracle.dtypes(pair[1]))]))
    assume(source.kind != "c" or target.kind == "c")
    x = data.draw(oracle.arrays(source, oracle.shapes(max_rank=2)))
    check_operator("Cast", [x], {"DstT": dtype_of(target)}, rtol=0, atol=0)


@settings(max_examples=40)
@given(data=st.data())
def test_cast_toward_zero(data: Any) -> None:
    source, target = data.draw(oracle.dtypes(WIDE_FLOATS)), data.draw(oracle.dtypes(FLOATS))
    x = data.draw(oracle.arrays(source, oracle.shapes(max_rank=2), -4, 4))
    check_operator("Cast", [x], {"DstT": dtype_of(target), "Truncate": True}, rtol=0, atol=0)


@pytest.mark.parametrize("target", ["int8", "uint8", "int32", "int64", "uint64", "int4"])
@pytest.mark.parametrize("value", [1e30, -1e30, float("nan"), float("inf")])
def test_cast_out_of_range_is_refused(target: str, value: float) -> None:
    evaluate = ops.find("tf.Cast").evaluate  # type: ignore[union-attr]
    for source in FLOATS:
        with np.errstate(over="ignore"):
            x = np.array([value]).astype(source)
        with pytest.raises(ValueError, match="outside the range"):
            evaluate({"DstT": DTYPES[target], "Truncate": False}, x)  # type: ignore[misc]


@settings(max_examples=60)
@given(data=st.data())
def test_bitcast(data: Any) -> None:
    kinds = (*FLOATS, *INTEGERS, *COMPLEX)
    source, target = data.draw(oracle.dtypes(kinds)), data.draw(oracle.dtypes(kinds))
    shape = data.draw(oracle.shapes(max_rank=2))
    ratio = target.itemsize // source.itemsize
    if ratio > 1 and data.draw(st.booleans()):
        shape = (*shape, ratio)
    x = data.draw(oracle.arrays(source, shape))
    check_operator("Bitcast", [x], {"type": dtype_of(target)}, exact=True)


@FEW
@given(data=st.data())
def test_complex_parts(data: Any) -> None:
    kind, tout = data.draw(st.sampled_from([(np.complex64, "float32"), (np.complex128, "float64")]))
    x = data.draw(oracle.arrays(kind, oracle.shapes(max_rank=2)))
    for name in ("Real", "Imag", "Angle", "ComplexAbs"):
        check_operator(name, [x], {"Tout": DTYPES[tout]})


@FEW
@given(data=st.data())
def test_complex(data: Any) -> None:
    kind, tout = data.draw(st.sampled_from([(np.float32, "complex64"), (np.float64, "complex128")]))
    left, right = data.draw(oracle.broadcastable())
    x, y = data.draw(oracle.arrays(kind, left)), data.draw(oracle.arrays(kind, right))
    check_operator("Complex", [x, y], {"Tout": DTYPES[tout]})


# Special functions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Igamma", "Igammac"])
@settings(max_examples=30)
@given(data=st.data())
def test_incomplete_gamma(name: str, data: Any) -> None:
    left, right = data.draw(oracle.broadcastable())
    high = data.draw(st.sampled_from([2, 30, 200]))
    a, x = data.draw(oracle.arrays(np.float32, left, 0.01, high)), data.draw(oracle.arrays(np.float32, right, 0, high))
    check_operator(name, [a, x], rtol=2e-3, atol=2e-5)  # TensorFlow computes in single precision
    check_operator(name, [a.astype(np.float64), x.astype(np.float64)], rtol=1e-8, atol=1e-12)


def test_incomplete_gamma_at_its_edges() -> None:
    a = np.float32([1, 0, -1, 2, 1, np.nan, 3])
    x = np.float32([1, 1, 1, 0, np.inf, 1, -1])
    check_operator("Igamma", [a, x])
    check_operator("Igammac", [a, x])


@settings(max_examples=30)
@given(data=st.data())
def test_incomplete_beta(data: Any) -> None:
    shape = data.draw(oracle.shapes(max_rank=2))
    shapes = [data.draw(st.sampled_from([shape, ()])) for _ in range(3)]
    a, b = (data.draw(oracle.arrays(np.float64, s, 0.05, 20)) for s in shapes[:2])
    x = data.draw(oracle.arrays(np.float64, shapes[2], 0, 1))
    check_operator("Betainc", [a, b, x], rtol=1e-8, atol=1e-11)


@FEW
@given(data=st.data())
def test_zeta(data: Any) -> None:
    left, right = data.draw(oracle.broadcastable())
    x, q = data.draw(oracle.arrays(np.float64, left, 0.5, 12)), data.draw(oracle.arrays(np.float64, right, 0.1, 9))
    check_operator("Zeta", [x, q], rtol=1e-9)
    check_operator("Zeta", [x.astype(np.float32), q.astype(np.float32)], rtol=1e-4)


@FEW
@given(x=oracle.arrays(np.float64, (5,), 0.2, 20), order=st.integers(0, 6))
def test_polygamma(x: Any, order: int) -> None:
    check_operator("Polygamma", [np.float64(order), x], rtol=1e-8, atol=1e-9)
    check_operator("Polygamma", [np.float64([order, 1.5]), x[:2]], rtol=1e-8, atol=1e-9)


BESSEL = words("BesselI0 BesselI0e BesselI1 BesselI1e BesselJ0 BesselJ1 BesselK0 BesselK0e BesselK1 BesselK1e")


@pytest.mark.parametrize("name", BESSEL)
@settings(max_examples=5)
@given(x=oracle.arrays(np.float64, (6,), 1e-3, 60))
def test_bessel_functions(name: str, x: Any) -> None:
    x = x if "K" in name else np.concatenate([x, -x, np.zeros(1)])
    check_operator(name, [x], rtol=1e-7, atol=1e-9)
    check_operator(name, [x.astype(np.float32)], rtol=1e-4, atol=1e-5)


def test_bessel_functions_at_their_edges() -> None:
    x = np.array([0.0, -1.0, 2.0])
    check_operator("BesselK0", [x], rtol=1e-7)
    check_operator("BesselJ0", [x * 1e4], may_refuse=True)
    check_operator("BesselI0e", [x * 1e4], may_refuse=True)


@FEW
@given(x=oracle.arrays(np.float64, (8,), 1e-6, 1 - 1e-6))
def test_quantiles(x: Any) -> None:
    check_operator("Ndtri", [x], rtol=1e-7, atol=1e-9)
    check_operator("Ndtri", [np.array([0.0, 1.0, 0.5, 2.0])])


@pytest.mark.parametrize("name", words("Dawsn Expint FresnelCos Spence"))
def test_functions_with_shapes_alone(name: str) -> None:
    check_operator(name, [np.ones((2, 0, 3), np.float32)], evaluates=False)


# Traits -------------------------------------------------------------------------------------------------------


COMMUTATIVE = [n for n, o in ops.declared_operators().items() if o.has(Trait.COMMUTATIVE) and n.startswith("tf.")]


@pytest.mark.parametrize("name", COMMUTATIVE)
def test_commutative_operators_say_the_truth(name: str) -> None:
    operator = ops.declared_operators()[name]
    assert operator.evaluate is not None
    assert operator.interface is not None
    if name in ("tf.LogicalAnd", "tf.LogicalOr"):
        x, y = np.array([True, True, False, False]), np.array([True, False, True, False])
    elif "Bitwise" in name:
        x, y = np.int32([1, 2, 12, -4]), np.int32([3, 9, -1, 7])
    else:
        x, y = np.float32([1.5, -2, 0, 1e-3]), np.float32([-1, 0, 4, 1e3])
    attrs = operator.interface.defaults
    np.testing.assert_array_equal(operator.evaluate(attrs, x, y), operator.evaluate(attrs, y, x))


@pytest.mark.parametrize("trait", [Trait.IDEMPOTENT, Trait.INVOLUTION])
def test_applying_twice_says_the_truth(trait: Trait) -> None:
    floats = np.float32([-2.5, -0.5, 0, 0.3, 1, 7])
    special = {"tf.LogicalNot": np.array([True, False]), "tf.Invert": np.int32([1, -5])}
    found = [n for n, o in ops.declared_operators().items() if o.has(trait | Trait.ELEMENTWISE) and o.evaluate]
    assert found
    for name in found:
        operator = ops.declared_operators()[name]
        evaluate = operator.evaluate
        assert evaluate is not None
        assert operator.interface is not None
        attrs, x = operator.interface.defaults, special.get(name, floats)
        if len(operator.interface.inputs) != 1 or operator.interface.inputs[0].dtype is STRING:
            continue
        once = evaluate(attrs, x)
        twice = evaluate(attrs, once)
        np.testing.assert_array_equal(twice, once if trait is Trait.IDEMPOTENT else x, err_msg=name)
