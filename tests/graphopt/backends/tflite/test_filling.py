"""Legalisation of what makes tensors of fewer elements."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.backends.base import UnloweredError
from graphopt.testing.lowering import assert_lowers, text_model


def vector(name: str, numbers: list[int], dtype: str = "int32") -> str:
    return f"%{name} = tf.Const() {{value = {dtype}[{len(numbers)}] {numbers}}}\n"


def test_fill_in_a_shape_that_is_computed() -> None:
    body = "%s = tf.Shape(%x) {out_type = int64}\n%v = tf.Const() {value = float32[] 2.5}\n%y = tf.Fill(%s, %v)"
    data = [{"x": np.zeros((2, 3), np.float32)}]
    model = text_model(body, "%x: float32[?, ?]")
    assert_lowers(model, ["SHAPE", "CAST", "FILL"], data=data, reference="reference")


@pytest.mark.parametrize(
    ("op", "dtype", "shape", "expected"),
    [
        ("OnesLike", "float32", "[?, 3]", ["ZEROS_LIKE", "ADD"]),
        ("ZerosLike", "float32", "[?, 3]", ["ZEROS_LIKE"]),
        ("OnesLike", "float32", "[2, 3]", []),
        ("OnesLike", "uint8", "[?, 3]", ["SHAPE", "FILL"]),
    ],
)
def test_in_the_shape_of_another(op: str, dtype: str, shape: str, expected: list[str]) -> None:
    model = text_model(f"%z = tf.{op}(%x)\n%y = tf.Maximum(%z, %x)", f"%x: {dtype}{shape}")
    assert_lowers(model, [*expected, "MAXIMUM"], reference="reference")


def test_empty_strings_in_the_shape_of_another() -> None:
    model = text_model("%y = tf.ZerosLike(%x)", "%x: string[?, 2]")
    assert_lowers(model, ["SHAPE", "FILL"], data=[{"x": np.array([[b"a", b""]], object)}], reference="reference")


@pytest.mark.parametrize("dtype", ["float32", "bool", "float64", "int64"])
def test_stretched_and_repeated(dtype: str) -> None:
    body = vector("s", [4, 2, 3], "int64") + "%y = tf.BroadcastTo(%x, %s)"
    assert_lowers(text_model(body, f"%x: {dtype}[2, 1]"), ["BROADCAST_TO"], reference="reference")
    body = vector("s", [1, 3], "int64") + "%y = tf.Tile(%x, %s)"
    assert_lowers(text_model(body, f"%x: {dtype}[?, 2]"), ["TILE"], reference="reference")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("[?, 3]", ["PAD"]),
        ("[2, 2, 2, 2, 3]", ["PAD"]),
        ("[2, 2, 2, 2, 2, 3]", ["RESHAPE", "PAD", "RESHAPE"]),
    ],
)
def test_padded(shape: str, expected: list[str]) -> None:
    rank = shape.count(",") + 1
    margins = [0] * 2 * (rank - 1) + [1, 2]
    body = f"%m = tf.Const() {{value = int64[{rank}, 2] {margins}}}\n%y = tf.Pad(%x, %m)"
    assert_lowers(text_model(body, f"%x: float32{shape}"), expected, reference="reference")
    body = f"%m = tf.Const() {{value = int32[{rank}, 2] {margins}}}\n%v = tf.Const() {{value = float32[] -1.0}}\n"
    expected = ["PADV2" if op == "PAD" else op for op in expected]
    model = text_model(body + "%y = tf.PadV2(%x, %m, %v)", f"%x: float32{shape}")
    assert_lowers(model, expected, reference="reference")


@given(st.data())
def test_padded_anywhere(data: st.DataObject) -> None:
    """Any rank up to seven, five axes at most with margins."""
    op = data.draw(st.sampled_from(("Pad", "PadV2", "MirrorPad")))
    shape = data.draw(st.lists(st.integers(2, 3), min_size=1, max_size=4 if op == "MirrorPad" else 7))
    padded = data.draw(st.lists(st.integers(0, len(shape) - 1), max_size=3, unique=True))
    margins = [[data.draw(st.integers(0, 1)) if axis in padded else 0 for _ in "lr"] for axis in range(len(shape))]
    numbers = [number for pair in margins for number in pair]
    body = f"%m = tf.Const() {{value = int32[{len(shape)}, 2] {numbers}}}\n%v = tf.Const() {{value = float32[] 2.5}}\n"
    ends = {"Pad": "(%x, %m)", "PadV2": "(%x, %m, %v)", "MirrorPad": '(%x, %m) {mode = b"SYMMETRIC"}'}
    assert_lowers(text_model(f"{body}%y = tf.{op}{ends[op]}", f"%x: float32{shape}"), None, reference="reference")


def test_more_padded_axes_than_there_may_be_are_refused() -> None:
    body = f"%m = tf.Const() {{value = int32[6, 2] {[1] * 12}}}\n%y = tf.Pad(%x, %m)"
    with pytest.raises(UnloweredError, match="pads 6 dimensions"):
        assert_lowers(text_model(body, "%x: float32[2, 2, 2, 2, 2, 2]"))


@pytest.mark.parametrize("mode", ["REFLECT", "SYMMETRIC"])
def test_mirrored(mode: str) -> None:
    body = f'%m = tf.Const() {{value = int32[2, 2] [0, 0, 1, 2]}}\n%y = tf.MirrorPad(%x, %m) {{mode = b"{mode}"}}'
    assert_lowers(text_model(body, "%x: float32[?, 4]"), ["MIRROR_PAD"], reference="reference")


def test_numbers_in_a_row() -> None:
    data = [{"n": np.int32(5)}]
    body = "%a = tf.Const() {value = int32[] 0}\n%d = tf.Const() {value = int32[] 2}\n%y = tf.Range(%a, %n, %d)"
    assert_lowers(text_model(body, "%n: int32[]"), ["RANGE"], data=data, reference="reference")
    body = "%n = tf.Const() {value = int32[] 5}\n%y = tf.LinSpace(%a, %b, %n)"
    model = text_model(body, "%a: float32[], %b: float32[]")
    assert_lowers(model, ["SUB", "MUL", "ADD"], reference="reference")


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "float16"])
@pytest.mark.parametrize("index", ["int32", "int64", "uint8"])
def test_one_hot(dtype: str, index: str) -> None:
    values = ("true", "false") if dtype == "bool" else (2, 1)
    body = "%d = tf.Const() {value = int32[] 3}\n"
    for name, value in zip(("on", "off"), values, strict=True):
        body += f"%{name} = tf.Const() {{value = {dtype}[] {value}}}\n"
    body += "%y = tf.OneHot(%x, %d, %on, %off) {axis = -1}"
    data = [{"x": np.array([0, 2, 5], index)}]
    assert_lowers(text_model(body, f"%x: {index}[?]"), None, data=data, reference="reference")


def test_the_shape_that_two_broadcast_to() -> None:
    data = [{"a": np.int32([2, 1]), "b": np.int32([3])}]
    model = text_model("%y = tf.BroadcastArgs(%a, %b)", "%a: int32[2], %b: int32[1]")
    assert_lowers(model, ["BROADCAST_ARGS"], data=data, reference="reference")
