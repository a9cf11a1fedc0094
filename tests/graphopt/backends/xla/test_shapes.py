"""Shapes, slices, indices, order, reductions; symbolic dimensions."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.backends.base import UnloweredError
from graphopt.backends.xla.backend import XlaBackend
from graphopt.runtimes.base import get_runtime
from graphopt.testing.lowering import assert_lowers, text_model

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX: pip install 'graphopt[xla]'"),
    pytest.mark.xdist_group("xla"),
]


def vector(name: str, *numbers: int) -> str:
    return f"%{name} = tf.Const() {{value = int32[{len(numbers)}] [{', '.join(map(str, numbers))}]}}\n"


def scalar(name: str, number: int) -> str:
    return f"%{name} = tf.Const() {{value = int32[] {number}}}\n"


def check(body: str, inputs: str, outputs: str = "%y", **options: object) -> None:
    model = text_model(body, inputs, outputs)
    assert_lowers(model, target="xla", reference="reference", random=1, fallback=False, **options)  # type: ignore[arg-type]


@settings(max_examples=10)
@given(st.data())
def test_any_strided_slice(data: st.DataObject) -> None:
    """Every mask, negative bounds and steps."""
    size = (5, 4)
    count = data.draw(st.integers(1, 2))
    begin = [data.draw(st.integers(-size[place], size[place] - 1)) for place in range(count)]
    end = [data.draw(st.integers(-size[place], size[place])) for place in range(count)]
    strides = [data.draw(st.sampled_from((1, 2, -1, -2))) for _ in range(count)]
    masks = {name: data.draw(st.integers(0, 2**count - 1)) for name in ("begin_mask", "end_mask")}
    shrink = data.draw(st.integers(0, 2**count - 1))
    strides = [1 if shrink >> place & 1 else step for place, step in enumerate(strides)]
    attributes = ", ".join(f"{name} = {value}" for name, value in (masks | {"shrink_axis_mask": shrink}).items())
    body = vector("b", *begin) + vector("e", *end) + vector("s", *strides)
    check(f"{body}%y = tf.StridedSlice(%x, %b, %e, %s) {{{attributes}}}", "%x: float32[5, 4]")


def test_slices_of_any_size() -> None:
    """Bounds beyond the ends, from the end, and steps, of a dimension that is known when the program runs."""
    body = (
        vector("b", 0, 1) + vector("e", 0, -2) + vector("s", 1, 2) + vector("f", 0, -3) + vector("g", 0, 5)
        + vector("one", 1, 1) + vector("last", 0, -1)
        + "%u = tf.StridedSlice(%x, %b, %e, %s) {begin_mask = 1, end_mask = 1}\n"
        "%v = tf.StridedSlice(%x, %f, %g, %one) {begin_mask = 1, end_mask = 1}\n"
        "%w = tf.StridedSlice(%x, %last, %g, %one) {begin_mask = 1, end_mask = 1, shrink_axis_mask = 2}\n"
        "%y = tf.Square(%u)\n%z = tf.AddV2(%y, %u)"
    )  # fmt: skip
    model = text_model(body, "%x: float32[?, ?]", "%v, %w, %z")
    lowered = XlaBackend().lower(model, fallback=False).model
    right, runtime = get_runtime("reference"), get_runtime("xla")
    for count in (1, 4, 12):
        feeds = {"x": np.random.default_rng(count).normal(size=(2, count)).astype(np.float32)}
        found = runtime.run(lowered, feeds)
        for name, array in right.run(model, feeds).items():
            np.testing.assert_allclose(found[name], array, rtol=1e-6)


def test_slices_at_computed_places() -> None:
    body = (
        vector("one", 1, 1) + vector("size", 2, 3) + vector("wide", 1, 5)
        + "%a = tf.Slice(%x, %p, %size)\n%e = tf.AddV2(%p, %one)\n"
        "%b = tf.StridedSlice(%x, %p, %e, %one) {shrink_axis_mask = 3}"
    )  # fmt: skip
    model = text_model(body, "%x: float32[4, 5], %p: int32[2]", "%a, %b")
    data = {"x": np.arange(20, dtype=np.float32).reshape(1, 4, 5), "p": np.array([[1, 2]], np.int32)}
    assert_lowers(model, target="xla", reference="reference", data=data, fallback=False)


def test_shapes_and_joins() -> None:
    body = (
        vector("two", 3, 2) + vector("perm", 1, 0) + scalar("axis", 1) + vector("times", 2, 1) + vector("ax", 0)
        + "%pads = tf.Const() {value = int32[2, 2] [[1, 0], [0, 2]]}\n"
        "%a = tf.Reshape(%x, %two)\n%b = tf.Transpose(%x, %perm)\n%c = tf.ConcatV2(%x, %x, %axis)\n"
        "%d = tf.Pack(%x, %x) {axis = 1}\n%e = tf.Tile(%x, %times)\n%f = tf.Pad(%x, %pads)\n"
        '%g = tf.ReverseV2(%x, %ax)\n%h = tf.ExpandDims(%x, %axis)\n%i = tf.Shape(%x)\n%j = tf.Size(%x)\n'
        '%mp = tf.Const() {value = int32[2, 2] [[1, 1], [2, 1]]}\n%k = tf.MirrorPad(%x, %mp) {mode = "REFLECT"}\n'
        "%l = tf.Unpack(%x) {num = 3, axis = 1}\n%o = tf.Split(%axis, %x) {num_split = 3}"
    )  # fmt: skip
    names = ", ".join(f"%{letter}" for letter in "abcdefghijklo") + ", %l:2, %o:1"
    check(body, "%x: float32[2, 3]", names)


def test_blocks_of_pixels() -> None:
    body = (
        vector("block", 2, 2) + "%zero = tf.Const() {value = int32[2, 2] [[0, 0], [0, 0]]}\n"
        "%y = tf.SpaceToDepth(%x) {block_size = 2}\n%z = tf.DepthToSpace(%y) {block_size = 2}\n"
        "%a = tf.SpaceToBatchND(%x, %block, %zero)\n%b = tf.BatchToSpaceND(%a, %block, %zero)"
    )
    check(body, "%x: float32[1, 4, 6, 3]", "%y, %z, %a, %b")


@pytest.mark.parametrize(
    ("body", "inputs"),
    [
        (scalar("a", 1) + "%y = tf.GatherV2(%x, %i, %a)", "%x: float32[3, 10, 2], %i: int32[2, 2]"),
        (scalar("a", 1) + "%y = tf.GatherV2(%x, %i, %a) {batch_dims = 1}", "%x: float32[2, 10, 3], %i: int32[2, 4]"),
        (scalar("a", 0) + "%y = tf.GatherV2(%x, %i, %a)", "%x: float32[10, 3], %i: int32[]"),
        ("%y = tf.GatherNd(%x, %i)", "%x: float32[10, 10, 3], %i: int32[4, 2]"),
        (scalar("d", 10) + "%on = tf.Const() {value = float32[] 2.0}\n%off = tf.Const() {value = float32[] -1.0}\n"
         "%y = tf.OneHot(%i, %d, %on, %off) {axis = 0}", "%i: int32[4]"),
        ("%y = tf.TensorScatterUpdate(%x, %i, %u)", "%x: float32[10, 3], %i: int32[1, 1], %u: float32[1, 3]"),
        ("%y = tf.TensorScatterAdd(%x, %i, %u)", "%x: float32[10, 3], %i: int32[4, 1], %u: float32[4, 3]"),
    ],
)  # fmt: skip
def test_indices(body: str, inputs: str) -> None:
    check(body, inputs)


def test_reductions() -> None:
    body = (
        vector("ax", 0, 2) + scalar("one", 1)
        + "\n".join(f"%{op} = tf.{op}(%x, %ax) {{keep_dims = true}}" for op in ("Sum", "Mean", "Max", "Min", "Prod"))
        + "\n%a = tf.ArgMax(%x, %one)\n%i = tf.ArgMin(%x, %one)\n%c = tf.Cumsum(%x, %one) {exclusive = true}\n"
        "%r = tf.Cumsum(%x, %one) {reverse = true}\n" + scalar("k", 2) + "%v = tf.TopKV2(%x, %k)"
    )  # fmt: skip
    check(body, "%x: float32[2, 4, 3]", "%Sum, %Mean, %Max, %Min, %Prod, %a, %i, %c, %r, %v, %v:1")


@pytest.mark.parametrize("size", [(8, 8), (3, 7)])
@pytest.mark.parametrize("attributes", ["half_pixel_centers = true", "align_corners = true", "align_corners = false"])
def test_images_in_another_size(size: tuple[int, int], attributes: str) -> None:
    body = vector("s", *size) + (
        f"%y = tf.ResizeBilinear(%x, %s) {{{attributes}}}\n%z = tf.ResizeNearestNeighbor(%x, %s) {{{attributes}}}"
    )
    check(body, "%x: float32[1, 4, 4, 2]", "%y, %z")


def test_a_batch_of_any_size() -> None:
    """One program for every number of rows: symbols go through reshapes, products and shapes as data."""
    body = (
        vector("perm", 0, 2, 1) + vector("last", -1, 12) + vector("ax", 1) + scalar("two", 2)
        + "%w = tf.Const() {value = float32[12, 2] splat 0.5}\n%t = tf.Transpose(%x, %perm)\n"
        "%f = tf.Reshape(%t, %last)\n%m = tf.MatMul(%f, %w)\n%s = tf.Softmax(%m)\n%h = tf.Shape(%x)\n"
        "%e = tf.Erf(%m)\n%v = tf.Mean(%x, %ax)"
    )  # fmt: skip
    model = text_model(body, "%x: float32[?, 3, 4]", "%s, %h, %e, %v")
    lowered = XlaBackend().lower(model, fallback=False).model
    right, runtime = get_runtime("reference"), get_runtime("xla")
    for count in (1, 5):
        feeds = {"x": np.random.default_rng(count).normal(size=(count, 3, 4)).astype(np.float32)}
        expected, found = right.run(model, feeds), runtime.run(lowered, feeds)
        for name, array in expected.items():
            np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6)


def test_shapes_that_follow_from_data_are_refused() -> None:
    model = text_model("%z = tf.Shape(%x)\n%y = tf.Reshape(%x, %s)", "%x: float32[2, 3], %s: int32[2]")
    with pytest.raises(UnloweredError, match="depends on data"):
        XlaBackend().lower(model, fallback=False)


def test_what_has_no_rule_is_named() -> None:
    model = text_model("%y = tf.Dawsn(%x)", "%x: float32[4]")
    (finding,) = XlaBackend().check(model)
    assert (finding.node, finding.operator) == ("y", "tf.Dawsn")
    assert "no rule" in finding.reason
    assert "fallback" in finding.remedy


def test_strings_are_refused() -> None:
    model = text_model("%y = tf.Identity(%x)", "%x: string[4]")
    findings = XlaBackend().check(model)
    assert any("string" in finding.reason for finding in findings)


def test_what_stablehlo_does_not_accept_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that builds nonsense is named with its node, and nothing is written."""
    from graphopt.backends.xla.emission import Emission
    from graphopt.backends.xla.operand import Operand
    from graphopt.backends.xla.table import RULES, all_rules

    def nonsense(op: Emission) -> Operand:
        x = op.input(0)
        return op.build.made(op.build.hlo.concatenate([x.value, op.input(1).value], 1), x.dtype, x.dims)

    all_rules()
    monkeypatch.setitem(RULES.functions, "tf.AddV2", nonsense)
    model = text_model("%y = tf.AddV2(%x, %z)", "%x: float32[2, 3], %z: float32[3, 3]", "%y")
    (finding,) = XlaBackend().check(model)
    assert finding.node == "y"
    assert "StableHLO does not accept it" in finding.reason
