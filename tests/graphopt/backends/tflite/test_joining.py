"""Legalisation of what joins and splits tensors, turns them round and moves blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.backends.base import UnloweredError
from graphopt.testing.lowering import assert_lowers, text_model


def scalar(name: str, value: int) -> str:
    return f"%{name} = tf.Const() {{value = int32[] {value}}}\n"


def vector(name: str, numbers: list[int]) -> str:
    return f"%{name} = tf.Const() {{value = int32[{len(numbers)}] {numbers}}}\n"


DTYPES = ("float32", "int64", "bool", "float16", "uint16", "float64")


@given(st.data())
def test_joined_and_split(data: st.DataObject) -> None:
    """Concatenation, packing, splitting and unpacking in all types, along any axis."""
    op = data.draw(st.sampled_from(("ConcatV2", "Pack", "Split", "SplitV", "Unpack")))
    dtype = data.draw(st.sampled_from(DTYPES[:5]))
    shape = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    axis = data.draw(st.integers(0, len(shape) - 1))
    count = data.draw(st.integers(1, 3))
    if op in ("ConcatV2", "Pack"):
        names = [f"%x{place}" for place in range(count)]
        inputs = ", ".join(f"{name}: {dtype}{shape}" for name in names)
        if op == "Pack":
            body = f"%y = tf.Pack({', '.join(names)}) {{N = {count}, axis = {axis}}}"
        else:
            body = scalar("a", axis - len(shape)) + f"%y = tf.ConcatV2({', '.join(names)}, %a) {{N = {count}}}"
        assert_lowers(text_model(body, inputs), None, reference="reference", rtol=None)
        return
    shape[axis] = count * (1 if op == "Unpack" else 2)
    bodies = {
        "Split": scalar("a", axis) + f"%y = tf.Split(%a, %x) {{num_split = {count}}}",
        "SplitV": scalar("a", axis) + vector("s", [2] * count) + f"%y = tf.SplitV(%x, %s, %a) {{num_split = {count}}}",
        "Unpack": f"%y = tf.Unpack(%x) {{num = {count}, axis = {axis}}}",
    }
    outputs = ", ".join(f"%y:{place}" if place else "%y" for place in range(count))
    assert_lowers(text_model(bodies[op], f"%x: {dtype}{shape}", outputs), None, reference="reference", rtol=None)


def test_empty_parts_are_left_out() -> None:
    body = scalar("a", 0) + "%y = tf.ConcatV2(%x, %e, %x, %a) {N = 3}"
    model = text_model(body, "%x: float32[2, 3], %e: float32[0, 3]")
    assert_lowers(model, ["CONCATENATION"], reference="reference")


def test_an_axis_that_is_computed_is_refused() -> None:
    with pytest.raises(UnloweredError, match="axis"):
        assert_lowers(text_model("%y = tf.ConcatV2(%x, %x, %a) {N = 2}", "%x: float32[2, 3], %a: int32[]"))


def test_an_axis_of_several_numbers_is_refused() -> None:
    body = vector("a", [0, 1]) + "%y = tf.Split(%a, %x) {num_split = 2}"
    with pytest.raises(UnloweredError, match="not one number"):
        assert_lowers(text_model(body, "%x: float32[2, 3]"))


def test_types_without_a_kernel_are_refused() -> None:
    body = scalar("a", 0) + "%y = tf.ConcatV2(%x, %x, %a) {N = 2}"
    with pytest.raises(UnloweredError, match="float64"):
        assert_lowers(text_model(body, "%x: float64[2]"))
    with pytest.raises(UnloweredError, match=r"tf\.Pack\): LiteRT does not join tensors of strings"):
        assert_lowers(text_model("%y = tf.Pack(%x, %x) {N = 2, axis = 0}", "%x: string[2]"))


@pytest.mark.parametrize(("axes", "count"), [([1], 1), ([0, 1], 1), ([0, -1], 2), ([], 0)])
def test_backwards(axes: list[int], count: int) -> None:
    model = text_model(vector("a", axes) + "%b = tf.Relu(%x)\n%y = tf.ReverseV2(%b, %a)", "%x: float32[?, 3, 4]")
    assert_lowers(model, ["RELU", *["REVERSE_V2"] * count], reference="reference")


def test_backwards_up_to_a_length() -> None:
    body = "%y = tf.ReverseSequence(%x, %n) {seq_dim = 1, batch_dim = 0}"
    model = text_model(body, "%x: float32[2, 4], %n: int64[2]")
    data = [{"x": np.arange(8, dtype=np.float32).reshape(2, 4), "n": np.int64([2, 3])}]
    assert_lowers(model, ["REVERSE_SEQUENCE"], data=data, reference="reference")


@pytest.mark.tensorflow
def test_rolled() -> None:
    body = vector("s", [1, -2]) + vector("a", [0, 1]) + "%y = tf.Roll(%x, %s, %a)"
    model = text_model(body, "%x: float32[3, 5]")
    assert_lowers(model, {"SLICE": 4, "CONCATENATION": 2})


@pytest.mark.parametrize("op", ["SpaceToDepth", "DepthToSpace"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.tensorflow
def test_blocks(op: str, layout: str) -> None:
    kernel = {"SpaceToDepth": "SPACE_TO_DEPTH", "DepthToSpace": "DEPTH_TO_SPACE"}[op]
    shape = "[?, 4, 6, 8]" if layout == "NHWC" else "[2, 8, 4, 6]"
    body = f'%y = tf.{op}(%x) {{block_size = 2, data_format = b"{layout}"}}'
    moved = ["TRANSPOSE", "TRANSPOSE"] if layout == "NCHW" else []
    reference = "reference" if layout == "NHWC" else None
    assert_lowers(text_model(body, f"%x: float32{shape}"), [kernel, *moved], reference=reference)


@pytest.mark.parametrize(
    ("shape", "block", "expected"),
    [
        ("[?, 4, 6, 3]", [2, 3], ["SPACE_TO_BATCH_ND"]),
        ("[?, 4, 3]", [2], ["SPACE_TO_BATCH_ND"]),
        ("[?, 4]", [2], ["RESHAPE", "SPACE_TO_BATCH_ND", "RESHAPE"]),
        ("[1, 4, 6, 3, 2]", [2, 2], ["RESHAPE", "SPACE_TO_BATCH_ND", "RESHAPE"]),
        ("[?, 4, 6, 6, 2]", [2, 3, 2], ["SPACE_TO_BATCH_ND"] * 2 + ["RESHAPE"] * 3),
    ],
)
def test_blocks_into_the_batch_and_back(shape: str, block: list[int], expected: list[str]) -> None:
    margins = f"%m = tf.Const() {{value = int32[{len(block)}, 2] {[0] * 2 * len(block)}}}\n"
    body = vector("b", block) + margins + "%y = tf.SpaceToBatchND(%x, %b, %m)"
    assert_lowers(text_model(body, f"%x: float32{shape}"), expected, reference="reference")
    body += "\n%r = tf.Relu(%y)\n%z = tf.BatchToSpaceND(%r, %b, %m)"
    assert_lowers(text_model(body, f"%x: float32{shape}", "%z"), None, reference="reference")


def test_parts_without_elements_are_constants() -> None:
    model = text_model("%y = tf.Unpack(%x) {num = 2, axis = 0}", "%x: float32[2, 0]", "%y, %y:1")
    assert_lowers(model, [], reference="reference")


def test_blocks_with_computed_margins() -> None:
    body = vector("b", [2]) + "%y = tf.SpaceToBatchND(%x, %b, %m)"
    data = [{"x": np.arange(12, dtype=np.float32).reshape(1, 4, 3), "m": np.int32([[1, 1]])}]
    model = text_model(body, "%x: float32[?, 4, 3], %m: int32[1, 2]")
    assert_lowers(model, ["SPACE_TO_BATCH_ND"], data=data, reference="reference")
