"""channels-first: convolutions, pools and the like whose channels come last get them first."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.ir.infer import infer_model
from graphopt.ir.text import parse_model, print_model
from graphopt.ir.verifier import verify
from graphopt.passes import run_pass
from graphopt.passes.layout.channels_first import ChannelsFirst
from graphopt.passes.layout.channels_last import ChannelsLast
from graphopt.testing import assert_equivalent

WEIGHTS = "%w = tf.Const() {value = float32[3, 3, 2, 4] repeat [0.5, -0.25, 1.0, 0.125, -1.0, 0.75, 0.3]}"
BIAS = "%b = tf.Const() {value = float32[4] [0.5, -0.25, 1.0, 0.125]}"
CONV = '%c = tf.Conv2D(%x, %w) {strides = [1, 2, 1, 1], padding = b"SAME"}'
POOL = '%y = tf.MaxPool(%r) {ksize = [1, 2, 2, 1], strides = [1, 2, 2, 1], padding = b"SAME"}'


def text(*lines: str, x: str = "float32[2, 6, 5, 2]") -> str:
    return f"graph @main(%x: {x}) -> (%y) {{\n  " + "\n  ".join(lines) + "\n}\n"


def converted(body: str, transposes: int) -> Any:
    """The model with channels first, which computes the same, with so many transposes."""
    before = parse_model(body)
    infer_model(before)
    after = before.clone()
    run_pass(after, ChannelsFirst())
    verify(after)
    assert Counter(node.op for node in after.graph)["tf.Transpose"] == transposes
    # NumPy's reference computes in either order; TensorFlow's CPU kernels have no channels first.
    assert_equivalent(before, after, runtime="reference", exactness="reassociating")
    return after


def test_transposes_stay_at_both_ends() -> None:
    after = converted(text(WEIGHTS, BIAS, CONV, "%d = tf.BiasAdd(%c, %b)", "%r = tf.Relu(%d)", POOL), 2)
    formats = [node.attrs["data_format"] for node in after.graph if "data_format" in node.attrs]
    assert formats == [b"NCHW"] * 3
    assert after.graph.node("c/computed").attrs["strides"] == (1, 1, 2, 1)
    assert after.graph.node("y/computed").attrs["ksize"] == (1, 1, 2, 2)
    assert [value.name for value in after.graph.outputs] == ["y"]


def test_a_second_run_finds_nothing_and_channels_last_takes_it_back() -> None:
    after = converted(text(WEIGHTS, CONV, "%r = tf.Relu(%c)", POOL), 2)
    printed = print_model(after)
    assert not run_pass(after, ChannelsFirst()).rules
    assert print_model(after) == printed
    run_pass(after, ChannelsLast())
    run_pass(after, "simplify")  # the output's own pair
    assert Counter(node.op for node in after.graph)["tf.Transpose"] == 0


def test_a_mean_over_space_takes_the_transpose_in() -> None:
    axes = "%axes = tf.Const() {value = int32[2] [1, 2]}"
    converted(text(WEIGHTS, axes, CONV, "%y = tf.Mean(%c, %axes)"), 1)


def test_biases_of_sequences_are_left_alone() -> None:
    bias = "%b = tf.Const() {value = float32[2] [0.5, -0.25]}"
    converted(text(bias, "%y = tf.BiasAdd(%x, %b)", x="float32[2, 5, 2]"), 0)


def test_an_unknown_rank_is_refused() -> None:
    model = parse_model(
        text("%b = tf.Const() {value = float32[2] [0.5, -0.25]}", "%y = tf.BiasAdd(%x, %b)", x="float32[*]")
    )
    report = run_pass(model, ChannelsFirst())
    assert [entry["reason"] for entry in report.refusals] == ["how many dimensions it has is not known"]


@given(stride=st.integers(1, 2), padding=st.sampled_from(["SAME", "VALID"]), relu=st.booleans(), rows=st.integers(3, 7))
def test_layers_compute_the_same(stride: int, padding: str, relu: bool, rows: int) -> None:
    conv = f'%c = tf.Conv2D(%x, %w) {{strides = [1, {stride}, {stride}, 1], padding = b"{padding}"}}'
    function = "%r = tf.Relu(%c)" if relu else "%r = tf.AddV2(%c, %c)"
    converted(text(WEIGHTS, conv, function, POOL, x=f"float32[2, {rows}, 5, 2]"), 2)


@pytest.mark.parametrize("op", ["DepthToSpace", "SpaceToDepth"])
def test_blocks(op: str) -> None:
    converted(text(f"%y = tf.{op}(%x) {{block_size = 2}}", x="float32[1, 4, 4, 8]"), 2)
