"""merge-loop-variables."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.ir.text import parse_model
from graphopt.passes import PassManager, run_pass
from graphopt.passes.control.merge_loop_variables import MergeLoopVariables
from graphopt.testing import assert_equivalent, check_pass

NAME = "merge-loop-variables"


def loop(second: str = "%k = tf.AddV2(%j, %one) {T = int32}", start: str = "%zero", condition: str = "%j") -> str:
    return f"""
graph @main(%n: int32[], %x: float32[2]) -> (%loop:2, %loop:1) {{
  %zero = tf.Const() {{value = int32[] 0}}
  %two = tf.Const() {{value = int32[] 2}}
  %loop = tf.StatelessWhile(%zero, {start}, %x, %n) {{cond = @cond, body = @body, T = [int32, int32, float32, int32]}}
    : (int32[], int32[], float32[2], int32[])
}}
function @cond(%i: int32[], %j: int32[], %s: float32[2], %n: int32[]) -> (%go) {{
  %go = tf.Less({condition}, %n) {{T = int32}} : bool[]
}}
function @body(%i: int32[], %j: int32[], %s: float32[2], %n: int32[]) -> (%m, %k, %t, %n) {{
  %one = tf.Const() {{value = int32[] 1}}
  %m = tf.AddV2(%i, %one) {{T = int32}}
  {second}
  %f = tf.Cast(%j) {{SrcT = int32, DstT = float32}}
  %t = tf.AddV2(%s, %f) {{T = float32}}
}}
"""


def feeds(count: int = 3) -> dict[str, np.ndarray]:
    return {"n": np.array(count, np.int32), "x": np.array([0.5, -1.0], np.float32)}


def test_two_counters_are_one() -> None:
    source = parse_model(loop())
    model = source.clone()
    assert run_pass(model, MergeLoopVariables()).rules == {NAME: 1}
    assert model.graph.outputs[1].index == 1  # an output keeps its name
    assert not model.functions["cond"].inputs[1].use_count
    assert not model.functions["body"].node("f").input(0).index
    assert model.functions["body"].node("f").input(0).node.name == "i"
    for count in (0, 1, 4):
        assert_equivalent(source, model, feeds(count), runtime="reference", allow_flat=True)
    PassManager("specialise-functions", verify_each=False).run(model)
    assert run_pass(model, MergeLoopVariables()).rewrites == 0


@pytest.mark.parametrize(
    "text",
    [
        loop(start="%two"),  # starts elsewhere
        loop("%k = tf.Sub(%j, %one) {T = int32}", condition="%i"),  # goes elsewhere
        loop("%k = tf.Mul(%m, %one) {T = int32}", condition="%i"),
    ],
)
def test_different_variables_stay(text: str) -> None:
    check_pass(MergeLoopVariables(), text, feeds=feeds())


def test_functions_that_others_run_too_stay() -> None:
    types = "[int32, int32, float32, int32]"
    call = f"%other = tf.PartitionedCall(%zero, %zero, %x, %n) {{f = @body, Tin = {types}, Tout = {types}}}"
    text = loop().replace("  %loop = ", f"  {call}\n  %loop = ")
    check_pass(MergeLoopVariables(), text, feeds=feeds())


def test_variables_that_depend_on_each_other_crosswise() -> None:
    text = loop("%k = tf.AddV2(%i, %one) {T = int32}").replace("%m = tf.AddV2(%i, %one)", "%m = tf.AddV2(%j, %one)")
    source = parse_model(text)
    model = source.clone()
    assert run_pass(model, MergeLoopVariables()).rules == {NAME: 1}
    assert_equivalent(source, model, feeds(4), runtime="reference", allow_flat=True)


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(["%zero", "%two"]),
    st.sampled_from(["AddV2(%j, %one)", "AddV2(%i, %one)", "AddV2(%one, %j)", "Sub(%j, %one)", "AddV2(%m, %one)"]),
    st.integers(0, 5),
)
def test_any_loop(start: str, second: str, count: int) -> None:
    source = parse_model(loop(f"%k = tf.{second} {{T = int32}}", start, "%i"))
    model = source.clone()
    run_pass(model, MergeLoopVariables())
    assert_equivalent(source, model, feeds(count), runtime="reference", allow_flat=True)
