"""Matrices against TensorFlow: products, einsum, diagonals, solutions, decompositions, Fourier transforms."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import COMPLEX, FLOATS, INTEGERS, check_operator, words

from graphopt.ir import ops
from graphopt.ir.types import DTYPES, dtype_of

pytestmark = pytest.mark.tensorflow
SOME = settings(max_examples=25)
REAL = (np.float32, np.float64)
MULTIPLIED = (FLOATS, np.int32, np.int64, COMPLEX)


def tolerance(dtype: Any) -> dict[str, float]:
    narrow = dtype.itemsize == 2 and dtype.kind not in "iu"
    return {"rtol": 2e-2, "atol": 2e-2} if narrow else {"rtol": 1e-4, "atol": 1e-5}


# Products -----------------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(data=st.data())
def test_matmul(data: Any) -> None:
    dtype = data.draw(oracle.dtypes(*MULTIPLIED))
    rows, inner, columns = (data.draw(st.integers(0, 4)) for _ in range(3))
    attrs = {"transpose_a": data.draw(st.booleans()), "transpose_b": data.draw(st.booleans())}
    x = data.draw(oracle.arrays(dtype, (inner, rows) if attrs["transpose_a"] else (rows, inner), -4, 4))
    y = data.draw(oracle.arrays(dtype, (columns, inner) if attrs["transpose_b"] else (inner, columns), -4, 4))
    check_operator("MatMul", [x, y], attrs, **tolerance(dtype))


@settings(max_examples=60)
@given(data=st.data())
def test_batch_matmul(data: Any) -> None:
    name = data.draw(st.sampled_from(["BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"]))
    dtype = data.draw(oracle.dtypes(*MULTIPLIED))
    rows, inner, columns = (data.draw(st.integers(0, 3)) for _ in range(3))
    left, right = data.draw(oracle.broadcastable(max_rank=2))
    if name == "BatchMatMul":
        right = left
    attrs: dict[str, Any] = {"adj_x": data.draw(st.booleans()), "adj_y": data.draw(st.booleans())}
    if name == "BatchMatMulV3":
        attrs["Tout"] = dtype_of(dtype)
    x = data.draw(oracle.arrays(dtype, (*left, inner, rows) if attrs["adj_x"] else (*left, rows, inner), -4, 4))
    y = data.draw(oracle.arrays(dtype, (*right, columns, inner) if attrs["adj_y"] else (*right, inner, columns), -4, 4))
    check_operator(name, [x, y], attrs, **tolerance(dtype))


def test_products_refused() -> None:
    x = np.ones((2, 3), np.float32)
    for left, right in ((x, x), (x, np.ones((1, 2), np.float32)), (x[0], x), (x[None], x[None])):
        assert check_operator("MatMul", [left, right]) is None
    for left, right in ((x, x), (x[0], x), (np.ones((2, 2, 3), np.float32), np.ones((3, 3, 2), np.float32))):
        assert check_operator("BatchMatMulV2", [left, right]) is None
    ones = np.ones((1, 2, 2), np.float32)
    assert check_operator("BatchMatMul", [ones, np.ones((3, 2, 2), np.float32)]) is None


def test_bytes_multiplied_into_words() -> None:
    x, y = np.full((2, 3), 100, np.int8), np.full((3, 2), -100, np.int8)
    check_operator("BatchMatMulV3", [x, y], {"Tout": DTYPES["int32"]})


def test_sparse_matmul() -> None:
    x, y = np.float32([[1, 0], [0, 2]]), np.float32([[0, 3], [4, 0]])
    check_operator("SparseMatMul", [x, y])
    check_operator("SparseMatMul", [x, y], {"transpose_a": True, "transpose_b": True})


@SOME
@given(data=st.data())
def test_cross(data: Any) -> None:
    dtype = data.draw(oracle.dtypes(FLOATS, INTEGERS))
    shape = (*data.draw(oracle.shapes(max_rank=2)), data.draw(st.sampled_from([3, 3, 3, 2])))
    x, y = (data.draw(oracle.arrays(dtype, shape, 0, 5)) for _ in range(2))
    check_operator("Cross", [x, y], **tolerance(dtype))


EQUATIONS: list[tuple[str, list[tuple[int, ...]]]] = [
    ("ab,bc->ac", [(2, 3), (3, 4)]),
    ("ab,bc->ca", [(2, 3), (3, 4)]),
    ("...ab,...bc->...ac", [(5, 2, 3), (3, 4)]),
    ("...ab,...bc->...ac", [(5, 1, 2, 3), (4, 3, 4)]),
    ("abc,acd->abd", [(2, 3, 4), (2, 4, 5)]),
    ("abcd,aecd->acbe", [(2, 3, 4, 5), (2, 6, 4, 5)]),
    ("aab->ab", [(2, 2, 3)]),
    ("aab,bc->ac", [(2, 2, 3), (3, 4)]),
    ("ab->", [(2, 3)]),
    ("a,b->ab", [(2,), (3,)]),
    ("a,a->", [(3,), (3,)]),
    ("ab,ab->ab", [(2, 3), (2, 3)]),
    ("ab,cd->ad", [(2, 3), (4, 5)]),
    ("...a->a...", [(2, 3, 4)]),
    ("ii->i", [(3, 3)]),
    ("a->aa", [(3,)]),
    ("a,b->abba", [(2,), (3,)]),
    ("Ab,b->A", [(2, 3), (3,)]),
    ("ab->ba", [(0, 3)]),
    ("ab,bc->ac", [(2, 0), (0, 3)]),
    ("...,...->...", [(2, 1, 3), (4, 1)]),
    ("a...b->b...", [(2, 5, 3)]),
    (",->", [(), ()]),
    ("...a->...", [(2, 3)]),
    ("a...,a...->...", [(2, 3), (2, 1)]),
]


@pytest.mark.parametrize(("equation", "shapes"), EQUATIONS)
def test_einsum(equation: str, shapes: list[tuple[int, ...]]) -> None:
    random = np.random.RandomState(0)
    for dtype in (np.float32, np.int32, np.complex64, np.float16):
        inputs = [random.randint(-4, 5, shape).astype(dtype) for shape in shapes]
        check_operator("Einsum", inputs, {"equation": equation.encode()}, **tolerance(np.dtype(dtype)))


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ab,bc", [(2, 3), (3, 4)]),
        ("ab,ab->ab", [(2, 3), (1, 3)]),
        ("a b , b -> a", [(2, 3), (3,)]),
        ("ab,bc,cd->ad", [(2, 3), (3, 4), (4, 5)]),
        ("a...->a", [(2, 3)]),
        ("ab->a", [(2,)]),
        ("aa->a", [(2, 3)]),
        ("a->b->a", [(2,)]),
    ],
)
def test_einsum_refused(equation: str, shapes: list[tuple[int, ...]]) -> None:
    inputs = [np.ones(shape, np.float32) for shape in shapes]
    assert check_operator("Einsum", inputs, {"equation": equation.encode()}) is None


@pytest.mark.parametrize("equation", [b"ab->ac", b"a......->a"])
def test_einsum_that_means_nothing(equation: bytes) -> None:
    """TensorFlow takes these and computes something."""
    evaluate = ops.find("tf.Einsum").evaluate  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="label"):
        evaluate({"equation": equation}, np.ones((2, 3), np.float32))  # type: ignore[misc]


# Diagonals ----------------------------------------------------------------------------------------------------

ALIGNMENTS = [b"RIGHT_LEFT", b"LEFT_RIGHT", b"LEFT_LEFT", b"RIGHT_RIGHT"]


def draw_band(data: Any) -> Any:
    low = data.draw(st.integers(-3, 3))
    high = low + data.draw(st.integers(0, 3)) if data.draw(st.booleans()) else low
    return np.int32(low if low == high and data.draw(st.booleans()) else [low, high])


@settings(max_examples=60)
@given(data=st.data())
def test_diagonal_part(data: Any) -> None:
    dtype = data.draw(oracle.dtypes(FLOATS, INTEGERS))
    x = data.draw(oracle.arrays(dtype, oracle.shapes(1, 4, zeros=False)))
    check_operator("MatrixDiagPart", [x], exact=True)
    padding = np.array(7, dtype)
    band = draw_band(data)
    check_operator("MatrixDiagPartV2", [x, band, padding], exact=True)
    check_operator(
        "MatrixDiagPartV3", [x, band, padding], {"align": data.draw(st.sampled_from(ALIGNMENTS))}, exact=True
    )


@settings(max_examples=80)
@given(data=st.data())
def test_diagonal_matrix(data: Any) -> None:
    dtype = data.draw(oracle.dtypes(FLOATS, INTEGERS))
    x = data.draw(oracle.arrays(dtype, oracle.shapes(0, 3, zeros=False)))
    check_operator("MatrixDiag", [x], exact=True)
    band = draw_band(data)
    sides = [np.int32(data.draw(st.sampled_from([-1, -1, 2, 3, 4, 5]))) for _ in range(2)]
    inputs = [x, band, *sides, np.array(7, dtype)]
    check_operator("MatrixDiagV2", inputs, exact=True)
    check_operator("MatrixDiagV3", inputs, {"align": data.draw(st.sampled_from(ALIGNMENTS))}, exact=True)


@settings(max_examples=80)
@given(data=st.data())
def test_set_diagonal(data: Any) -> None:
    shape = data.draw(oracle.shapes(2, 3, zeros=False))
    x = data.draw(oracle.arrays(np.float32, shape))
    band = draw_band(data)
    low, high = int(np.min(band)), int(np.max(band))
    longest = max(min(shape[-2] + min(high, 0), shape[-1] - max(low, 0)), 0)
    packed = (longest,) if low == high else (high - low + 1, longest)
    packed = data.draw(st.sampled_from([packed, packed, packed, (2,), (2, 2)]))
    diagonal = data.draw(oracle.arrays(np.float32, (*shape[:-2], *packed)))
    check_operator("MatrixSetDiagV2", [x, diagonal, band], exact=True)
    align = {"align": data.draw(st.sampled_from(ALIGNMENTS))}
    check_operator("MatrixSetDiagV3", [x, diagonal, band], align, exact=True)
    check_operator("MatrixSetDiag", [x, diagonal], exact=True)


@SOME
@given(data=st.data())
def test_band_part(data: Any) -> None:
    x = data.draw(oracle.arrays(oracle.dtypes(FLOATS, INTEGERS), oracle.shapes(1, 4)))
    lower, upper = (np.int32(data.draw(st.integers(-2, 4))) for _ in range(2))
    check_operator("MatrixBandPart", [x, lower, upper])


@SOME
@given(x=oracle.arrays(oracle.dtypes(REAL, np.int32, np.int64), oracle.shapes(0, 2)))
def test_diagonal_tensors(x: Any) -> None:
    check_operator("Diag", [x], exact=True)
    if x.ndim:
        check_operator("DiagPart", [np.multiply.outer(x, np.ones_like(x))], exact=True)
    check_operator("DiagPart", [x], refusal=x.size == 0)


# Solutions ----------------------------------------------------------------------------------------------------


@st.composite
def well_conditioned(draw: Any, dtype: Any) -> Any:
    batch, size = draw(oracle.shapes(max_rank=1)), draw(st.integers(0, 4))
    noise = draw(oracle.arrays(dtype, (*batch, size, size), -1, 1))
    return (noise + 4 * np.eye(size)).astype(dtype)


@SOME
@given(data=st.data())
def test_square_matrices(data: Any) -> None:
    dtype = data.draw(oracle.dtypes(REAL, COMPLEX))
    x = data.draw(well_conditioned(dtype))
    positive = np.matmul(x, np.conj(np.swapaxes(x, -1, -2)))
    check_operator("Cholesky", [positive], rtol=1e-3, atol=1e-4)
    check_operator("MatrixInverse", [x], {"adjoint": data.draw(st.booleans())}, rtol=1e-3, atol=1e-4)
    check_operator("MatrixDeterminant", [x], rtol=1e-3, atol=1e-3)
    check_operator("LogMatrixDeterminant", [x], rtol=1e-3, atol=1e-4)


@SOME
@given(data=st.data())
def test_systems(data: Any) -> None:
    dtype = data.draw(oracle.dtypes(REAL, COMPLEX))
    x = data.draw(well_conditioned(dtype))
    columns = data.draw(st.integers(0, 3))
    right = data.draw(oracle.arrays(dtype, (*x.shape[:-1], columns), -2, 2))
    adjoint = data.draw(st.booleans())
    check_operator("MatrixSolve", [x, right], {"adjoint": adjoint}, rtol=1e-3, atol=1e-4)
    attrs = {"adjoint": adjoint, "lower": data.draw(st.booleans())}
    check_operator("MatrixTriangularSolve", [x, right], attrs, rtol=1e-3, atol=1e-4)
    if x.ndim > 2 and x.size:
        check_operator("MatrixTriangularSolve", [x, right[0]], attrs, rtol=1e-3, atol=1e-4)


def test_matrices_refused() -> None:
    flat = np.ones((2, 3), np.float32)
    for name in ("Cholesky", "MatrixInverse", "MatrixDeterminant", "LogMatrixDeterminant"):
        assert check_operator(name, [flat]) is None
        assert check_operator(name, [flat[0]]) is None
    singular = np.float32([[1, 2], [2, 4]])
    assert check_operator("MatrixInverse", [singular]) is None
    assert check_operator("MatrixSolve", [singular, singular]) is None
    for right in (flat[0], np.ones((3, 1), np.float32)):
        assert check_operator("MatrixSolve", [np.eye(2, dtype=np.float32), right]) is None
        assert check_operator("MatrixTriangularSolve", [np.eye(2, dtype=np.float32), right]) is None
    indefinite = np.float32([[1, 2], [2, 1]])
    check_operator("Cholesky", [indefinite], may_refuse=True)
    with pytest.raises(np.linalg.LinAlgError):
        ops.find("tf.Cholesky").evaluate({}, indefinite)  # type: ignore[union-attr, misc]


NEAR = {"rtol": 1e-4, "atol": 1e-5}


def first_alone(place: int, ours: Any, theirs: Any) -> None:
    """TensorFlow leaves outputs that are not asked for as they are in memory."""
    if not place:
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@settings(max_examples=20)
@given(data=st.data())
def test_decompositions(data: Any) -> None:
    """Of matrices of any form, signs of vectors too."""
    rows, columns = (data.draw(st.integers(1, 6)) for _ in range(2))
    batch = data.draw(st.sampled_from([(), (3,), (2, 1)]))
    random = np.random.RandomState(data.draw(st.integers(0, 2**16)))
    x = random.uniform(-1, 1, (*batch, rows, columns)).astype(data.draw(st.sampled_from(REAL)))
    full = {"full_matrices": data.draw(st.booleans())}
    check_operator("Qr", [x], full, **NEAR)
    for vectors in (False, True):
        compare = None if vectors else first_alone
        check_operator("Svd", [x], {**full, "compute_uv": vectors}, inferable=vectors, compare=compare, **NEAR)
    right = random.uniform(-1, 1, (*batch, rows, 2)).astype(x.dtype)
    check_operator("MatrixSolveLs", [x, right, np.float64(0.3)], {"fast": True}, rtol=1e-3, atol=1e-3)
    check_operator("MatrixSolveLs", [x, right, np.float64(0.3)], {"fast": False}, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 4, 4)])
def test_functions_and_factors_of_square_matrices(shape: tuple[int, ...]) -> None:
    x = (np.random.RandomState(0).uniform(-1, 1, shape) + 3 * np.eye(shape[-1])).astype(np.float32)
    for name in words("Lu MatrixSquareRoot"):
        check_operator(name, [x], **NEAR)
    check_operator("Lu", [x[..., ::-1, :]], {"output_idx_type": DTYPES["int64"]}, **NEAR)
    check_operator("MatrixLogarithm", [x.astype(np.complex64)], evaluates=False)
    check_operator("SelfAdjointEigV2", [x], {"compute_v": False}, inferable=False, compare=first_alone)
    check_operator("SelfAdjointEigV2", [x], may_refuse=True)


def test_decompositions_refused() -> None:
    wide = np.random.RandomState(0).uniform(-1, 1, (3, 20)).astype(np.float32)
    check_operator("Svd", [wide], may_refuse=True)
    check_operator("Svd", [wide.astype(np.complex64)], may_refuse=True)
    flat = np.zeros((2, 2), np.float32)
    check_operator("Lu", [flat], may_refuse=True)
    for name in ("Lu", "MatrixSquareRoot", "SelfAdjointEigV2"):
        assert check_operator(name, [wide]) is None


# Fourier transforms -------------------------------------------------------------------------------------------

TRANSFORMS = [("", 1), ("2D", 2), ("3D", 3)]


@pytest.mark.parametrize(("suffix", "rank"), TRANSFORMS)
@settings(max_examples=12)
@given(data=st.data())
def test_fourier(suffix: str, rank: int, data: Any) -> None:
    x = data.draw(oracle.arrays(oracle.dtypes(COMPLEX), oracle.shapes(rank, rank + 1), -2, 2))
    for name in ("FFT", "IFFT"):
        check_operator(name + suffix, [x], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("suffix", "rank"), TRANSFORMS)
@settings(max_examples=12)
@given(data=st.data())
def test_real_fourier(suffix: str, rank: int, data: Any) -> None:
    wide, real, both = data.draw(st.sampled_from([(np.complex64, np.float32, ("float32", "complex64")),
                                                  (np.complex128, np.float64, ("float64", "complex128"))]))  # fmt: skip
    attrs = {"Treal": DTYPES[both[0]], "Tcomplex": DTYPES[both[1]]}
    shape = data.draw(oracle.shapes(rank, rank + 1, 6, zeros=False))
    lengths = np.array([data.draw(st.integers(1, size + (size > 3))) for size in shape[-rank:]], np.int32)
    x = data.draw(oracle.arrays(real, shape, -2, 2))
    check_operator(f"RFFT{suffix}", [x, lengths], attrs, rtol=1e-4, atol=1e-4)
    half = np.fft.rfftn(x, axes=range(-rank, 0)).astype(wide)  # real where a transform of real values is
    check_operator(f"IRFFT{suffix}", [half, np.int32(shape[-rank:])], attrs, rtol=1e-4, atol=1e-4)


def test_fourier_refused() -> None:
    evaluate = ops.find("tf.RFFT").evaluate  # type: ignore[union-attr]
    attrs = {"Tcomplex": DTYPES["complex64"]}
    for x, length in ((np.ones(4, np.float32), [0]), (np.ones(4, np.float32), [2, 2]), (np.float32(1), [1])):
        with pytest.raises(ValueError, match=r"transform"):
            evaluate(attrs, x, np.int32(length))  # type: ignore[misc]
