"""Legalisation of sums of products named by labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.backends.base import UnloweredError
from graphopt.ir.model import Model
from graphopt.testing.lowering import assert_lowers, text_model


def einsum(equation: str, *shapes: str, dtype: str = "float32") -> Model:
    """A model of one Einsum."""
    names = "xz"[: len(shapes)]
    inputs = ", ".join(f"%{name}: {dtype}[{shape}]" for name, shape in zip(names, shapes, strict=True))
    operands = ", ".join(f"%{name}" for name in names)
    return text_model(f'%y = tf.Einsum({operands}) {{equation = b"{equation}"}}', inputs)


FORMS = {
    # heads of attention
    "BTNH,BSNH->BNTS": (("2, 5, 4, 3", "2, 6, 4, 3"), ["TRANSPOSE", "TRANSPOSE", "BATCH_MATMUL"]),
    "BNTS,BSNH->BTNH": (("2, 4, 5, 6", "2, 6, 4, 3"), ["TRANSPOSE", "BATCH_MATMUL", "TRANSPOSE"]),
    "acbe,aecd->abcd": (("2, 4, 5, 6", "2, 6, 4, 3"), ["TRANSPOSE", "BATCH_MATMUL", "TRANSPOSE"]),
    # what needs no transpose
    "ij,jk->ik": (("3, 4", "4, 5"), ["BATCH_MATMUL"]),
    "bij,bkj->bik": (("2, 3, 4", "2, 5, 4"), ["BATCH_MATMUL"]),
    "...ij,...jk->...ik": (("2, 3, 4", "2, 4, 5"), ["BATCH_MATMUL"]),
    # no matrices
    "ij,ij->ij": (("3, 4", "3, 4"), ["MUL"]),
    "i,j->ij": (("3", "4"), ["RESHAPE", "MUL"]),
    "ij->ji": (("3, 4",), ["TRANSPOSE"]),
    "ij->i": (("3, 4",), ["SUM"]),
    "ii->i": (("4, 4",), ["RESHAPE", "STRIDED_SLICE"]),
}


@pytest.mark.parametrize("equation", FORMS)
def test_forms(equation: str) -> None:
    shapes, expected = FORMS[equation]
    assert_lowers(einsum(equation, *shapes), expected, reference="reference")


def test_weights_make_a_fully_connected_layer() -> None:
    model = text_model(
        "%w = tf.Const() {value = float32[3, 2, 2] [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]], [[1.0, 0.5], "
        '[2.0, 3.0]]]}\n%y = tf.Einsum(%x, %w) {equation = b"abc,cde->abde"}',
        "%x: float32[?, 4, 3]",
    )
    data = {"x": np.arange(36, dtype=np.float32).reshape(1, 3, 4, 3)}
    assert_lowers(model, ["FULLY_CONNECTED", "RESHAPE"], reference="reference", data=data)


def test_unknown_dimensions_are_looked_up() -> None:
    data = {"x": np.ones((1, 2, 5, 4, 3), np.float32), "z": np.ones((1, 2, 5, 6, 3), np.float32)}
    model = einsum("btnh,btmh->btnm", "?, ?, 4, 3", "?, ?, 6, 3")
    assert_lowers(model, ["BATCH_MATMUL"], reference="reference", data=data)
    joined = einsum("btnh,cdh->btncd", "?, ?, 4, 3", "?, 5, 3")
    data = {"x": np.ones((1, 2, 5, 4, 3), np.float32), "z": np.arange(90, dtype=np.float32).reshape(1, 6, 5, 3)}
    assert_lowers(joined, reference="reference", data=data)


def test_integers() -> None:
    assert_lowers(einsum("ij,jk->ik", "3, 4", "4, 5", dtype="int32"), reference="reference")


def test_a_label_twice_in_the_output_is_refused() -> None:
    with pytest.raises(UnloweredError, match="a label occurs twice in the output of 'i->ii'"):
        assert_lowers(einsum("i->ii", "3"), reference=None)


@st.composite
def equations(draw: st.DrawFn) -> tuple[str, list[list[int]]]:
    """An equation of two operands with shapes that fit, every label at most three times."""
    sizes = {label: draw(st.integers(1, 4)) for label in "abcdef"}
    left = draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=4, unique=draw(st.booleans())))
    right = draw(st.lists(st.sampled_from("cdef"), min_size=1, max_size=4, unique=True))
    there = sorted({*left, *right})
    output = draw(st.permutations(draw(st.lists(st.sampled_from(there), unique=True, max_size=5))))
    text = f"{''.join(left)},{''.join(right)}->{''.join(output)}"
    return text, [[sizes[label] for label in left], [sizes[label] for label in right]]


@settings(max_examples=25, deadline=None)
@given(equations())
def test_any_equation(drawn: tuple[str, list[list[int]]]) -> None:
    equation, shapes = drawn
    model = einsum(equation, *(", ".join(map(str, shape)) for shape in shapes))
    assert_lowers(model, reference="reference")
