"""unroll-loops."""

from __future__ import annotations

import numpy as np
import pytest
from control_helpers import check_on, refusals
from hypothesis import given

from graphopt import UsageError
from graphopt.ir.text import parse_model
from graphopt.passes import run_pass
from graphopt.testing import assert_equivalent, check_pass, models, random_model

NAME = "unroll-loops"
LOOP = """
function @cond(%i: int32[], %s: float32[2]) -> (%go) {
  %limit = tf.Const() {value = int32[] LIMIT}
  %go = tf.Less(%i, %limit)
}
function @body(%i: int32[], %s: float32[2]) -> (%next, %t) {
  %one = tf.Const() {value = int32[] 1}
  %next = tf.AddV2(%i, %one)
  %t = tf.Neg(%s)
}
graph @main(%x: float32[2]) -> (%y) {
  %start = tf.Const() {value = int32[] 0}
  %loop = tf.StatelessWhile(%start, %x) {cond = @cond, body = @body, T = [int32, float32]} : (int32[], float32[2])
  %y = tf.Abs(%loop:1)
}
"""


def test_two_iterations() -> None:
    after = LOOP.replace("LIMIT", "2").replace(
        "%loop = tf.StatelessWhile(%start, %x) {cond = @cond, body = @body, T = [int32, float32]} "
        ": (int32[], float32[2])",
        """%"loop/iteration_0/one" = tf.Const() {value = int32[] 1}
        %"loop/iteration_0/next" = tf.AddV2(%start, %"loop/iteration_0/one")
        %"loop/iteration_0/t" = tf.Neg(%x)
        %"loop/iteration_1/one" = tf.Const() {value = int32[] 1}
        %"loop/iteration_1/next" = tf.AddV2(%"loop/iteration_0/next", %"loop/iteration_1/one")
        %"loop/iteration_1/t" = tf.Neg(%"loop/iteration_0/t")
        %loop = tf.IdentityN(%"loop/iteration_1/next", %"loop/iteration_1/t")""",
    )
    check_pass(NAME, LOOP.replace("LIMIT", "2"), after)


def test_no_iteration() -> None:
    model, _ = check_on(parse_model(LOOP.replace("LIMIT", "0")), NAME)
    assert model.graph.node("loop").op == "tf.IdentityN"
    assert len(model.graph) == 4


@pytest.mark.parametrize(("options", "reason"), [("", "more than 64"), ("{max-nodes=40}", "more than 8"),
                                                 ("{max-iterations=3}", "more than 3")])  # fmt: skip
def test_too_long(options: str, reason: str) -> None:
    _, report = check_pass(NAME + options, LOOP.replace("LIMIT", "65"))
    assert reason in refusals(report)


def test_any_counter_will_do() -> None:
    text = LOOP.replace("tf.Less(%i, %limit)", "tf.Greater(%i, %limit)").replace("LIMIT", "3")
    text = text.replace("%start = tf.Const() {value = int32[] 0}", "%start = tf.Const() {value = int32[] 100}")
    text = text.replace("tf.AddV2(%i, %one)", "tf.FloorDiv(%i, %one)").replace("int32[] 1}", "int32[] 2}")
    model, _ = check_on(parse_model(text), NAME)
    assert model.graph.find("loop/iteration_4/t") is not None
    assert model.graph.find("loop/iteration_5/t") is None


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("tf.AddV2(%i, %one)", "tf.Cast(%sum) {SrcT = float32, DstT = int32} %axes = tf.Const() {value = int32[1] [0]}"
         " %sum = tf.Sum(%s, %axes)", "does not follow"),
        ("(%x: float32[2])", "(%x: float32[2], %start: int32[])", "does not follow"),
        ("%go =", "%a = tf.Assert(%b, %i) {T = [int32]} %b = tf.Less(%i, %limit) %go =", "has effects"),
    ],
)  # fmt: skip
def test_refusals(old: str, new: str, reason: str) -> None:
    text = LOOP.replace("LIMIT", "3").replace(old, new)
    if "%start: int32" in new:
        text = text.replace("  %start = tf.Const() {value = int32[] 0}\n", "")
    model = parse_model(text)
    report = run_pass(model, NAME)
    assert reason in refusals(report)
    assert model.graph.node("loop").op == "tf.StatelessWhile"


def test_negative_options() -> None:
    with pytest.raises(UsageError, match="must not be negative"):
        run_pass(parse_model(LOOP.replace("LIMIT", "3")), f"{NAME}{{max-nodes=-1}}")


def test_effects_keep_their_order() -> None:
    text = """
    function @cond(%i: int32[], %v: resource[]) -> (%go) {
      %limit = tf.Const() {value = int32[] 3}
      %go = tf.Less(%i, %limit)
    }
    function @body(%i: int32[], %v: resource[]) -> (%next, %v) control_outputs(set = %set) targets(%set) {
      %one = tf.Const() {value = int32[] 1}
      %next = tf.AddV2(%i, %one)
      %old = tf.ReadVariableOp(%v) {dtype = float32} : float32[2]
      %add = tf.Cast(%next) {SrcT = int32, DstT = float32}
      %new = tf.Mul(%old, %add)
      %set = tf.AssignVariableOp(%v, %new) {dtype = float32}
    }
    graph @main(%x: float32[2]) -> (%y) {
      %start = tf.Const() {value = int32[] 0}
      %w = tf.VarHandleOp() {dtype = float32, shape = [2], shared_name = b"w"}
      %first = tf.AssignVariableOp(%w, %x) {dtype = float32}
      %loop = tf.While(%start, %w) {cond = @cond, body = @body, T = [int32, resource]} after(%first)
        : (int32[], resource[])
      %y = tf.ReadVariableOp(%w) {dtype = float32} after(%loop) : float32[2]
    }"""
    source = parse_model(text)
    model = source.clone()
    assert run_pass(model, NAME).rules == {NAME: 1}
    assert_equivalent(source, model, {"x": np.array([1.0, 2.0], np.float32)}, runtime="reference")


LISTS = """
function @cond(%i: int32[], %l: variant[], %s: float32[2]) -> (%go) {
  %limit = tf.Const() {value = int32[] 3}
  %go = tf.Less(%i, %limit)
}
function @body(%i: int32[], %l: variant[], %s: float32[2]) -> (%next, %m, %t) {
  %one = tf.Const() {value = int32[] 1}
  %next = tf.AddV2(%i, %one)
  %t = tf.Tanh(%s)
  %m = tf.TensorListSetItem(%l, %i, %t) {element_dtype = float32}
}
graph @main(%x: float32[2]) -> (%y) {
  %start = tf.Const() {value = int32[] 0}
  %shape = tf.Const() {value = int32[1] [2]}
  %count = tf.Const() {value = int32[] 3}
  %list = tf.TensorListReserve(%shape, %count) {element_dtype = float32, shape_type = int32}
  %loop = tf.StatelessWhile(%start, %list, %x) {cond = @cond, body = @body, T = [int32, variant, float32]}
    : (int32[], variant[], float32[2])
  %y = tf.TensorListStack(%loop:1, %shape) {element_dtype = float32, num_elements = 3} : float32[3, 2]
}
"""


def test_tensor_lists() -> None:
    model, _ = check_on(parse_model(LISTS), NAME)
    assert sum(node.op == "tf.TensorListSetItem" for node in model.graph) == 3


def has_loop(model) -> bool:
    return any(node.op == "tf.StatelessWhile" for graph in model.graphs for node in graph)


@given(models())
def test_random_models(model) -> None:
    after, _ = check_on(model, NAME)
    assert not has_loop(after)


@pytest.mark.tensorflow
def test_in_tensorflow() -> None:
    check_on(parse_model(LISTS), NAME, runtime="tensorflow")
    found = [model for model in map(random_model, range(60)) if has_loop(model)][:3]
    assert len(found) == 3
    for model in found:
        check_on(model, NAME, runtime="tensorflow")


def test_a_v1_loop_has_to_be_raised_first() -> None:
    model = parse_model(V1_LOOP)
    report = run_pass(model, "unroll-loops")
    reason = "it is a v1 loop: run raise-control-flow first, which makes a While of it"
    assert [item["reason"] for item in report.refusals] == [reason]
    run_pass(model, "raise-control-flow")
    assert run_pass(model, "unroll-loops").refusals == []


V1_LOOP = """graph @main(%x: float32[2]) -> (%y) {
  %i0 = tf.Const() {value = int32[] 0}
  %enter_i = tf.Enter(%i0) {frame_name = b"f", is_constant = false, parallel_iterations = 10}
  %enter_x = tf.Enter(%x) {frame_name = b"f", is_constant = false, parallel_iterations = 10}
  %i = tf.Merge(%enter_i, %next_i) {N = 2}
  %v = tf.Merge(%enter_x, %next_x) {N = 2}
  %limit = tf.Const() {value = int32[] 3} after(%i)
  %less = tf.Less(%i, %limit)
  %go = tf.LoopCond(%less)
  %switch_i = tf.Switch(%i, %go)
  %switch_x = tf.Switch(%v, %go)
  %one = tf.Const() {value = int32[] 1} after(%switch_i)
  %plus = tf.AddV2(%switch_i:1, %one)
  %neg = tf.Neg(%switch_x:1)
  %next_i = tf.NextIteration(%plus)
  %next_x = tf.NextIteration(%neg)
  %y = tf.Exit(%switch_x)
}"""
