"""specialise-functions."""

from __future__ import annotations

import numpy as np
import pytest
from control_helpers import check_on
from hypothesis import given
from hypothesis import strategies as st

from graphopt.ir.known import hold
from graphopt.ir.text import parse_model
from graphopt.passes import run_pass
from graphopt.testing import assert_equivalent, check_pass, models, random_model

NAME = "specialise-functions"


def test_a_call() -> None:
    before = """
    function @f(%a: float32[2], %b: float32[], %unused: float32[2]) -> (%c, %d) {
      %c = tf.Mul(%a, %b)
      %d = tf.Neg(%a)
    }
    graph @main(%x: float32[2]) -> (%z) {
      %two = tf.Const() {value = float32[] 2.0}
      %y = tf.PartitionedCall(%x, %two, %x) {f = @f, Tin = [float32, float32, float32], Tout = [float32, float32]}
        : (float32[2], float32[2])
      %z = tf.Abs(%y)
    }"""
    after = """
    function @f(%a: float32[2]) -> (%c) {
      %"b/known" = tf.Const() {value = float32[] 2.0}
      %c = tf.Mul(%a, %"b/known")
    }
    graph @main(%x: float32[2]) -> (%z) {
      %y = tf.PartitionedCall(%x) {f = @f, Tin = [float32], Tout = [float32]}
      %z = tf.Abs(%y)
    }"""
    check_pass(NAME, before, after)


CALLS = """
function @f(%a: float32[2], %b: float32[]) -> (%c) { %c = tf.Mul(%a, %b) }
graph @main(%x: float32[2], %k: float32[]) -> (%z) {
  %two = tf.Const() {value = float32[] 2.0}
  %zwei = tf.Const() {value = float32[] 2.0}
  %three = tf.Const() {value = float32[] 3.0}
  %p = tf.PartitionedCall(%x, %two) {f = @f, Tin = [float32, float32], Tout = [float32]}
  %q = tf.PartitionedCall(%p, %zwei) {f = @f, Tin = [float32, float32], Tout = [float32]}
  %r = tf.PartitionedCall(%q, %three) {f = @f, Tin = [float32, float32], Tout = [float32]}
  %z = tf.PartitionedCall(%r, %k) {f = @f, Tin = [float32, float32], Tout = [float32]}
}
"""


def test_clones_where_calls_differ() -> None:
    model, _ = check_on(parse_model(CALLS), NAME)
    called = [model.graph.node(name).attrs["f"].name for name in "pqrz"]
    assert called == ["f_1", "f_1", "f_2", "f"]
    assert [len(model.functions[name].inputs) for name in called] == [1, 1, 1, 2]


def test_both_branches() -> None:
    before = """
    function @f(%a: float32[2], %b: float32[], %u: float32[2]) -> (%c) { %c = tf.Mul(%a, %b) }
    function @g(%a: float32[2], %b: float32[], %u: float32[2]) -> (%c) { %c = tf.Neg(%a) }
    graph @main(%x: float32[2], %p: bool[]) -> (%z) {
      %two = tf.Const() {value = float32[] 2.0}
      %y = tf.StatelessIf(%p, %x, %two, %x) {then_branch = @f, else_branch = @g, Tcond = bool,
        Tin = [float32, float32, float32], Tout = [float32]}
      %z = tf.Abs(%y)
    }"""
    source = parse_model(before)
    model = source.clone()
    run_pass(model, NAME)
    assert [v.name for v in model.graph.node("y").inputs] == ["p", "x"]
    assert model.graph.node("y").attrs["Tin"] == source.graph.node("y").attrs["Tin"][:1]
    assert [len(function.inputs) for function in model.functions.values()] == [1, 1]
    for condition in (True, False):
        feeds = {"x": np.array([1.0, -2.0], np.float32), "p": np.array(condition)}
        assert_equivalent(source, model, feeds, runtime="reference", allow_flat=True)


LOOP = """
function @cond(%i: int32[], %n: int32[], %s: float32[2], %w: float32[2], %d: float32[2]) -> (%go) {
  %go = tf.Less(%i, %n)
}
function @body(%i: int32[], %n: int32[], %s: float32[2], %w: float32[2], %d: float32[2]) -> (%j, %n, %t, %w, %e) {
  %one = tf.Const() {value = int32[] 1}
  %j = tf.AddV2(%i, %one)
  %t = tf.Mul(%s, %w)
  %e = tf.Neg(%d)
}
graph @main(%x: float32[2], %w: float32[2]) -> (%y) {
  %zero = tf.Const() {value = int32[] 0}
  %three = tf.Const() {value = int32[] 3}
  %loop = tf.StatelessWhile(%zero, %three, %x, %w, %x) {cond = @cond, body = @body,
    T = [int32, int32, float32, float32, float32]} : (int32[], int32[], float32[2], float32[2], float32[2])
  %y = tf.Add(%loop:2, %loop:3)
}
"""


def test_a_loop() -> None:
    model, _ = check_on(parse_model(LOOP), NAME)
    loop = model.graph.node("loop")
    assert [v.name for v in loop.inputs] == ["zero", "x", "w"]
    assert [t.name for t in loop.attrs["T"]] == ["int32", "float32", "float32"]
    assert model.graph.node("y").input(1).name == "w"
    assert len(model.functions["cond"].inputs) == len(model.functions["body"].outputs) == 3


def test_results_of_a_loop_that_are_outputs_stay() -> None:
    text = LOOP.replace("-> (%y)", "-> (%y, %loop:4)")
    model, _ = check_on(parse_model(text), NAME)
    assert len(model.graph.node("loop").outputs) == 5


def test_a_variable() -> None:
    before = """
    function @f(%v: resource[], %a: float32[2]) -> (%c) {
      %r = tf.ReadVariableOp(%v) {dtype = float32} : float32[2]
      %c = tf.Mul(%a, %r)
    }
    graph @main(%x: float32[2]) -> (%z) {
      %w = tf.VarHandleOp() {dtype = float32, shape = [2]}
      %set = tf.AssignVariableOp(%w, %x) {dtype = float32}
      %y = tf.StatefulPartitionedCall(%w, %x) {f = @f, Tin = [resource, float32], Tout = [float32]} after(%set)
      %z = tf.Abs(%y)
    }"""
    source = parse_model(before)
    model = source.clone()
    run_pass(model, NAME)
    handle = model.functions["f"].node("v/known")
    assert handle.attrs["shared_name"] == b"w"
    assert len(model.graph.node("y").inputs) == 1
    assert_equivalent(source, model, runtime="reference")
    untouched = source.clone()
    run_pass(untouched, f"{NAME}{{variables=false}}")
    assert len(untouched.graph.node("y").inputs) == 2


def test_calls_within_calls() -> None:
    before = """
    function @inner(%a: float32[2], %b: float32[], %u: float32[2]) -> (%c) { %c = tf.Mul(%a, %b) }
    function @outer(%a: float32[2], %b: float32[], %u: float32[2]) -> (%c) {
      %v = tf.Neg(%u)
      %c = tf.PartitionedCall(%a, %b, %v) {f = @inner, Tin = [float32, float32, float32], Tout = [float32]}
    }
    graph @main(%x: float32[2], %dead: float32[2]) -> (%z) {
      %two = tf.Const() {value = float32[] 2.0}
      %y = tf.PartitionedCall(%x, %two, %dead) {f = @outer, Tin = [float32, float32, float32], Tout = [float32]}
      %z = tf.Abs(%y)
    }"""
    after = """
    function @inner(%a: float32[2]) -> (%c) {
      %"b/known" = tf.Const() {value = float32[] 2.0}
      %c = tf.Mul(%a, %"b/known")
    }
    function @outer(%a: float32[2]) -> (%c) {
      %c = tf.PartitionedCall(%a) {f = @inner, Tin = [float32], Tout = [float32]}
    }
    graph @main(%x: float32[2], %dead: float32[2]) -> (%z) {
      %y = tf.PartitionedCall(%x) {f = @outer, Tin = [float32], Tout = [float32]}
      %z = tf.Abs(%y)
    }"""
    check_pass(NAME, before, after)


@pytest.mark.parametrize(
    "text",
    [
        """function @f(%a: float32[2]) -> (%a) { }
        graph @main(%x: float32[2]) -> (%y) { %y = tf.PartitionedCall(%x) {f = @f, Tin = [float32]} }""",
        """function @f(%a: float32[2]) -> (%c, %d) { %c = tf.Neg(%a) %d = tf.Abs(%a) }
        graph @main(%x: float32[2]) -> (%y:1) {
          %y = tf.PartitionedCall(%x) {f = @f, Tin = [float32]} : (float32[2], float32[2])
        }""",
    ],
)
def test_what_is_left_alone(text: str) -> None:
    check_pass(NAME, text)


def test_a_large_constant_with_other_readers_stays() -> None:
    text = """
    function @f(%a: float32[20000], %b: float32[20000]) -> (%c) { %c = tf.Mul(%a, %b) }
    graph @main(%x: float32[20000], %w: float32[20000]) -> (%z) {
      %y = tf.PartitionedCall(%x, %w) {f = @f, Tin = [float32, float32], Tout = [float32]}
      %z = tf.Add(%y, %w)
    }"""
    model = parse_model(text)
    graph = model.graph
    large = hold(graph, np.arange(20000, dtype=np.float32), name="large", before=graph.node("y"))
    graph.node("w").output.replace_all_uses_with(large)
    run_pass(model, NAME)
    assert len(graph.node("y").inputs) == 2
    graph.node("z").replace_input(1, graph.node("x").output)
    run_pass(model, NAME)
    assert len(graph.node("y").inputs) == 1


def fix_operands(model, picks: list[bool]) -> int:
    """Pass constants to some calls."""
    count = 0
    numbers = np.random.default_rng(0)
    for graph in model.graphs:
        for node in list(graph):
            first = {"tf.StatelessIf": 1, "tf.PartitionedCall": 0, "tf.StatefulPartitionedCall": 0}.get(node.op)
            for place in range(first if first is not None else len(node.inputs), len(node.inputs)):
                shape = node.input(place).shape.static
                if shape is not None and picks[count % len(picks)]:
                    data = numbers.standard_normal(shape).astype(np.float32)
                    node.replace_input(place, hold(graph, data, name="fixed", before=node))
                count += 1
    return count


@given(models(), st.lists(st.booleans(), min_size=1, max_size=5))
def test_random_models(model, picks: list[bool]) -> None:
    run_pass(model, "infer-shapes")
    fix_operands(model, picks)
    check_on(model, NAME)


@pytest.mark.tensorflow
def test_in_tensorflow() -> None:
    check_on(parse_model(LOOP), NAME, runtime="tensorflow")
    check_on(parse_model(CALLS), NAME, runtime="tensorflow")
    done = 0
    for seed in range(60):
        model = random_model(seed)
        run_pass(model, "infer-shapes")
        if fix_operands(model, [True, False]):
            done += check_on(model, NAME, runtime="tensorflow")[1] > 0
        if done == 5:
            break
    assert done == 5
