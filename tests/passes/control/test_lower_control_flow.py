"""lower-control-flow."""

from __future__ import annotations

import numpy as np
import pytest
from control_helpers import check_on, refusals
from hypothesis import given

from graphopt.ir.text import parse_model
from graphopt.passes import run_pass
from graphopt.testing import assert_equivalent, check_pass, models, random_model

NAME = "lower-control-flow"
FUNCTIONAL = ("tf.If", "tf.StatelessIf", "tf.Case", "tf.StatelessCase", "tf.While", "tf.StatelessWhile")


def test_if() -> None:
    before = """
    function @f(%a: float32[2]) -> (%b) { %b = tf.Neg(%a) }
    function @g(%a: float32[2]) -> (%b) { %b = tf.Abs(%a) }
    graph @main(%x: float32[2], %c: bool[]) -> (%y) {
      %y = tf.StatelessIf(%c, %x) {then_branch = @f, else_branch = @g}
    }"""
    model = parse_model(before)
    report = run_pass(model, NAME)
    assert report.rules == {NAME: 1}
    graph = model.graph
    assert graph.node("y").op == "tf.Identity"
    assert graph.node("y").input(0).node.op == "tf.Merge"
    assert [v.node.op for v in graph.node("y").input(0).node.inputs] == ["tf.Neg", "tf.Abs"]
    assert graph.node("y/then/b").input(0).node.input(0).node.op == "tf.Switch"
    for condition in (True, False):
        feeds = {"x": np.array([1.0, -2.0], np.float32), "c": np.array(condition)}
        assert_equivalent(parse_model(before), model, feeds, runtime="reference", allow_flat=True)


@pytest.mark.parametrize("index", [-1, 0, 1, 2, 7])
def test_case(index: int) -> None:
    before = """
    function @f(%a: float32[2]) -> (%b) { %b = tf.Neg(%a) }
    function @g(%a: float32[2]) -> (%b) { %b = tf.Abs(%a) }
    function @h(%a: float32[2]) -> (%b) { %two = tf.Const() {value = float32[] 2.0} %b = tf.Mul(%a, %two) }
    graph @main(%x: float32[2], %c: int32[]) -> (%y) {
      %y = tf.StatelessCase(%c, %x) {branches = [@f, @g, @h]}
    }"""
    feeds = {"x": np.array([1.0, -2.0], np.float32), "c": np.array(index, np.int32)}
    source = parse_model(before)
    model = source.clone()
    run_pass(model, NAME)
    assert not [node for node in model.graph if node.op in FUNCTIONAL]
    assert_equivalent(source, model, feeds, runtime="reference", allow_flat=True)


EFFECTS = """
function @f(%a: float32[2]) -> (%b) control_outputs(done = %set) targets(%set) {
  %v = tf.VarHandleOp() {dtype = float32, shape = [2], shared_name = b"v"}
  %set = tf.AssignVariableOp(%v, %a) {dtype = float32}
  %b = tf.Neg(%a)
}
function @g(%a: float32[2]) -> (%b) { %b = tf.Abs(%a) }
graph @main(%x: float32[2], %c: bool[]) -> (%z) {
  %w = tf.VarHandleOp() {dtype = float32, shape = [2], shared_name = b"v"}
  %first = tf.AssignVariableOp(%w, %x) {dtype = float32}
  %two = tf.Const() {value = float32[] 2.0}
  %twice = tf.Mul(%x, %two)
  %y = tf.If(%c, %twice) {then_branch = @f, else_branch = @g} after(%first)
  %read = tf.ReadVariableOp(%w) {dtype = float32} after(%y)
  %z = tf.Add(%read, %y)
}
"""


@pytest.mark.parametrize("condition", [True, False])
def test_effects_keep_their_order(condition: bool) -> None:
    source = parse_model(EFFECTS)
    model = source.clone()
    run_pass(model, NAME)
    assert not [node for node in model.graph if node.op in FUNCTIONAL]
    feeds = {"x": np.array([1.0, -2.0], np.float32), "c": np.array(condition)}
    assert_equivalent(source, model, feeds, runtime="reference", allow_flat=True)


NESTED = """
function @cond(%i: int32[], %s: float32[2]) -> (%go) {
  %limit = tf.Const() {value = int32[] 3}
  %go = tf.Less(%i, %limit)
}
function @inner(%i: int32[], %s: float32[2]) -> (%next, %t) {
  %one = tf.Const() {value = int32[] 1}
  %next = tf.AddV2(%i, %one)
  %half = tf.Const() {value = float32[] 0.5}
  %t = tf.Mul(%s, %half)
}
function @even(%s: float32[2]) -> (%t) { %t = tf.Abs(%s) }
function @odd(%s: float32[2]) -> (%t) { %ten = tf.Const() {value = float32[] 10.0} %t = tf.Add(%s, %ten) }
function @body(%i: int32[], %s: float32[2]) -> (%next, %t) {
  %one = tf.Const() {value = int32[] 1}
  %next = tf.AddV2(%i, %one)
  %is = tf.Equal(%i, %one)
  %u = tf.StatelessIf(%is, %s)
    {then_branch = @odd, else_branch = @even, Tcond = bool, Tin = [float32], Tout = [float32]}
  %zero = tf.Const() {value = int32[] 0}
  %w = tf.StatelessWhile(%zero, %u) {cond = @cond, body = @inner, T = [int32, float32]} : (int32[], float32[2])
  %t = tf.Identity(%w:1)
}
graph @main(%x: float32[2]) -> (%y) {
  %start = tf.Const() {value = int32[] 0}
  %loop = tf.StatelessWhile(%start, %x) {cond = @cond, body = @body, T = [int32, float32]} : (int32[], float32[2])
  %y = tf.Neg(%loop:1)
}
"""


def test_nested() -> None:
    model, _ = check_on(parse_model(NESTED), f"infer-shapes,{NAME}")
    assert not [node for node in model.graph if node.op in FUNCTIONAL]
    assert len([node for node in model.graph if node.op == "tf.LoopCond"]) == 2


def test_a_condition_that_is_no_bool_is_refused() -> None:
    before = """
    function @f(%a: float32[2]) -> (%b) { %b = tf.Neg(%a) }
    graph @main(%x: float32[2], %c: int32[]) -> (%y) {
      %y = tf.StatelessIf(%c, %x) {then_branch = @f, else_branch = @f}
    }"""
    _, report = check_pass(NAME, before)
    assert "not a scalar of type bool" in refusals(report)


def test_an_unknown_shape_is_refused_or_assumed() -> None:
    before = """
    function @f(%a: float32[2]) -> (%b) { %b = tf.Neg(%a) }
    graph @main(%x: float32[2], %c: bool[*]) -> (%y) {
      %y = tf.StatelessIf(%c, %x) {then_branch = @f, else_branch = @f}
    }"""
    _, report = check_pass(NAME, before, runtime=None)
    assert "bool[*], not a scalar" in refusals(report)
    assert run_pass(parse_model(before), f"{NAME}{{assume-scalars}}").rewrites == 1


def test_other_element_types_are_refused() -> None:
    model = parse_model("""
    function @f(%a: float32[2]) -> (%b) { %b = tf.Neg(%a) }
    function @g(%a: int32[2]) -> (%b) { %b = tf.Neg(%a) }
    graph @main(%x: float32[2], %c: bool[]) -> (%y) {
      %y = tf.StatelessIf(%c, %x) {then_branch = @f, else_branch = @g}
    }""")
    assert "other element types" in refusals(run_pass(model, NAME))


def test_a_function_that_does_not_exist_is_refused() -> None:
    model = parse_model("""
    graph @main(%x: float32[2], %c: bool[]) -> (%y) {
      %y = tf.StatelessIf(%c, %x) {then_branch = @f, else_branch = @f, Tout = [float32]}
    }""")
    from graphopt.passes import PassContext, find_pass

    context = PassContext()
    find_pass(NAME)().run(model, context)
    assert next(iter(context.log.refusals))[1] == "the library does not have its functions"


@given(models())
def test_random_models(model) -> None:
    after, _ = check_on(model, f"infer-shapes,{NAME}")
    assert not [node for node in after.graph if node.op in FUNCTIONAL]


@pytest.mark.tensorflow
def test_in_tensorflow() -> None:
    done = 0
    for seed in range(60):
        model = random_model(seed)
        if any(node.op in FUNCTIONAL for node in model.graph):
            check_on(model, f"infer-shapes,{NAME}", runtime="tensorflow")
            done += 1
        if done == 5:
            break
    assert done == 5
    check_on(parse_model(NESTED), f"{NAME}{{assume-scalars}}", runtime="tensorflow")
