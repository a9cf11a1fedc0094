"""plain-tensor-arrays: arrays that go through branches, cases and calls, and those that grow."""

from __future__ import annotations

import numpy as np
import pytest
from control_helpers import RUNTIMES, arrays_left, refusals, without_arrays

from graphopt.ir.text import parse_model
from graphopt.ir.verifier import verify
from graphopt.passes import run_pass
from graphopt.testing import assert_equivalent, assert_same_structure, check_pass

NAME = "plain-tensor-arrays"
BRANCHES = """
function @then(%h: resource[2], %f: float32[], %x: float32[2]) -> (%h, %more, %z) {
  %zero = tf.Const() {value = int32[] 0}
  %one = tf.Const() {value = int32[] 1}
  %old = tf.TensorArrayReadV3(%h, %zero, %f) {dtype = float32} : float32[2]
  %z = tf.Add(%old, %x)
  %more = tf.TensorArrayWriteV3(%h, %one, %z, %f) {T = float32}
}
function @else(%h: resource[2], %f: float32[], %x: float32[2]) -> (%h, %same, %x) {
  %same = tf.Identity(%f)
}
graph @main(%c: bool[], %x: float32[2]) -> (%y, %w, %v) {
  %zero = tf.Const() {value = int32[] 0}
  %count = tf.Const() {value = int32[] 3}
  %all = tf.Const() {value = int32[3] [0, 1, 2]}
  %array = tf.TensorArrayV3(%count) {dtype = float32, element_shape = shape[2], clear_after_read = false}
  %first = tf.TensorArrayWriteV3(%array, %zero, %x, %array:1) {T = float32}
  %if = tf.If(%c, %array, %first, %x) {then_branch = @then, else_branch = @else, Tcond = bool,
    Tin = [resource, float32, float32], Tout = [resource, float32, float32],
    output_shapes = [shape[2], shape[], shape[2]]} : (resource[2], float32[], float32[2])
  %w = tf.Neg(%if:2)
  %y = tf.TensorArrayGatherV3(%if, %all, %if:1) {dtype = float32} : float32[3, 2]
  %v = tf.Neg(%y)
}
"""
BRANCHES_AFTER = """
function @then(%f: float32[3, 2], %x: float32[2]) -> (%more, %z) {
  %zero = tf.Const() {value = int32[] 0}
  %one = tf.Const() {value = int32[] 1}
  %"old/axis" = tf.Const() {value = int32[] 0}
  %old = tf.GatherV2(%f, %zero, %"old/axis") {batch_dims = 0}
  %z = tf.Add(%old, %x)
  %"more/index_shape" = tf.Const() {value = int32[2] [1, 1]}
  %"more/index" = tf.Reshape(%one, %"more/index_shape")
  %"more/axis" = tf.Const() {value = int32[] 0}
  %"more/row" = tf.ExpandDims(%z, %"more/axis")
  %more = tf.TensorScatterUpdate(%f, %"more/index", %"more/row")
}
function @else(%f: float32[3, 2], %x: float32[2]) -> (%same, %x) {
  %same = tf.Identity(%f)
}
graph @main(%c: bool[], %x: float32[2]) -> (%y, %w, %v) {
  %zero = tf.Const() {value = int32[] 0}
  %all = tf.Const() {value = int32[3] [0, 1, 2]}
  %array = tf.Const() {value = float32[3, 2] splat 0.0}
  %"first/index_shape" = tf.Const() {value = int32[2] [1, 1]}
  %"first/index" = tf.Reshape(%zero, %"first/index_shape")
  %"first/axis" = tf.Const() {value = int32[] 0}
  %"first/row" = tf.ExpandDims(%x, %"first/axis")
  %first = tf.TensorScatterUpdate(%array, %"first/index", %"first/row")
  %if = tf.If(%c, %first, %x) {then_branch = @then, else_branch = @else, Tcond = bool,
    Tin = [float32, float32], Tout = [float32, float32], output_shapes = [shape[3, 2], shape[2]]}
    : (float32[3, 2], float32[2])
  %w = tf.Neg(%if:1)
  %"y/axis" = tf.Const() {value = int32[] 0}
  %y = tf.GatherV2(%if, %all, %"y/axis") {batch_dims = 0}
  %v = tf.Neg(%y)
}
"""


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("taken", [True, False])
def test_arrays_go_through_branches(taken: bool, runtime: str) -> None:
    feeds = {"c": np.array(taken), "x": np.array([0.5, -1.0], np.float32)}
    check_pass(NAME, BRANCHES, BRANCHES_AFTER, feeds=feeds, runtime=runtime, allow_flat=True)


@pytest.mark.parametrize("taken", [0, 1, 2, 7])
def test_arrays_go_through_cases(taken: int) -> None:
    branches = "then_branch = @then, else_branch = @else, Tcond = bool"
    text = BRANCHES.replace("%c: bool[]", "%c: int32[]").replace(branches, "branches = [@then, @else, @more]")
    third = BRANCHES[: BRANCHES.index("function @else")].replace("@then", "@more").replace("int32[] 1}", "int32[] 2}")
    model = without_arrays(
        third + text.replace("tf.If", "tf.Case"), c=np.array(taken, np.int32), x=np.ones(2, np.float32)
    )
    assert [len(function.inputs) for function in model.functions.values()] == [2, 2, 2]


CALLED = """
function @next(%h: resource[2], %f: float32[], %i: int32[], %x: float32[2]) -> (%more) {
  %one = tf.Const() {value = int32[] 1}
  %last = tf.Sub(%i, %one) {T = int32}
  %old = tf.TensorArrayReadV3(%h, %last, %f) {dtype = float32} : float32[2]
  %new = tf.Add(%old, %x) {T = float32} : float32[2]
  %more = tf.TensorArrayWriteV3(%h, %i, %new, %f) {T = float32}
}
function @make(%n: int32[]) -> (%array, %empty) {
  %empty = tf.Identity(%array:1)
  %array = tf.TensorArrayV3(%count) {dtype = float32, clear_after_read = false}
  %count = tf.Const() {value = int32[] 3}
}
graph @main(%x: float32[2], %n: int32[]) -> (%y) {
  %zero = tf.Const() {value = int32[] 0}
  %one = tf.Const() {value = int32[] 1}
  %two = tf.Const() {value = int32[] 2}
  %all = tf.Const() {value = int32[3] [0, 1, 2]}
  %made = tf.StatefulPartitionedCall(%n) {f = @make, Tin = [int32], Tout = [resource, float32]}
    : (resource[2], float32[])
  %first = tf.TensorArrayWriteV3(%made, %zero, %x, %made:1) {T = float32}
  %second = tf.StatefulPartitionedCall(%made, %first, %one, %x) {f = @next, Tin = [resource, float32, int32, float32],
    Tout = [float32]} : float32[]
  %third = tf.StatefulPartitionedCall(%made, %second, %two, %x) {f = @next, Tin = [resource, float32, int32, float32],
    Tout = [float32]} : float32[]
  %y = tf.TensorArrayGatherV3(%made, %all, %third) {dtype = float32} : float32[3, 2]
}
"""


@pytest.mark.tensorflow
def test_tensorflow_runs_the_calls() -> None:
    """TensorFlow lets no function return an array, so the main graph makes it here."""
    head, main = CALLED.split("function @make")[0], CALLED[CALLED.index("graph @main") :]
    start, end = main.index("  %made = "), main.index("  %first = ")
    made = """  %count = tf.Const() {value = int32[] 3}
  %made = tf.TensorArrayV3(%count) {dtype = float32, clear_after_read = false}
"""
    without_arrays(head + main[:start] + made + main[end:], "tensorflow", x=np.array([0.5, -1.0], np.float32),
               n=np.array(3, np.int32))  # fmt: skip


def test_arrays_go_through_calls() -> None:
    model = without_arrays(CALLED, x=np.array([0.5, -1.0], np.float32), n=np.array(3, np.int32))
    assert [len(function.inputs) for function in model.functions.values()] == [3, 1, 3]
    assert model.graph.node("second").attrs["Tin"] == model.graph.node("third").attrs["Tin"]
    assert [str(value.type) for value in model.graph.node("made").outputs] == ["float32[3, 2]"]
    again = model.clone()
    assert run_pass(again, NAME).rewrites == 0
    assert_same_structure(model, again)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("-> (%h, %more, %z)", "-> (%h, %f, %z)", "is read before"),
        ("  %same = tf.Identity(%f)\n",
         "  %count = tf.Const() {value = int32[] 3}\n"
         "  %new = tf.TensorArrayV3(%count) {dtype = float32, element_shape = shape[2]}\n"
         "  %same = tf.Identity(%new:1)\n", "(TensorArrayV3) may yield it too"),
        ("%if, %all, %if:1)", "%if, %all, %first)", "is read before 'if' writes"),
        ("tf.If(%c, %array, %first, %x) {then_branch = @then, else_branch = @else, Tcond = bool,",
         "tf.If(%first, %array, %first, %x) {then_branch = @then, else_branch = @else, Tcond = float32,",
         "(If) reads it"),
        ("  %w =", "  %gone = tf.Neg(%first)\n  %w =", "'gone' (Neg) reads it"),
    ],
)  # fmt: skip
def test_refusals_in_branches(old: str, new: str, reason: str) -> None:
    assert BRANCHES.count(old) == 1
    model = parse_model(BRANCHES.replace(old, new))
    before = arrays_left(model)
    report = run_pass(model, NAME)
    verify(model)
    assert reason in refusals(report)
    assert report.rewrites == 0
    assert arrays_left(model) == before


GROWING = """
function @cond(%i: int32[], %h: resource[2], %f: float32[], %s: float32[2], %n: int32[]) -> (%go) {
  %go = tf.Less(%i, %n) {T = int32}
}
function @body(%i: int32[], %h: resource[2], %f: float32[], %s: float32[2], %n: int32[]) -> (%next, %h, %more, %t, %n) {
  %one = tf.Const() {value = int32[] 1}
  %next = tf.AddV2(%i, %one) {T = int32}
  %t = tf.Tanh(%s) {T = float32} : float32[2]
  %more = tf.TensorArrayWriteV3(%h, %i, %t, %f) {T = float32}
}
graph @main(%x: float32[2], %n: int32[]) -> (%y, %w, %z) {
  %zero = tf.Const() {value = int32[] 0}
  %one = tf.Const() {value = int32[] 1}
  %array = tf.TensorArrayV3(%zero) {dtype = float32, dynamic_size = true, clear_after_read = false}
  %loop = tf.While(%zero, %array, %array:1, %x, %n) {cond = @cond, body = @body,
    T = [int32, resource, float32, float32, int32]} : (int32[], resource[2], float32[], float32[2], int32[])
  %size = tf.TensorArraySizeV3(%array, %loop:2)
  %all = tf.Range(%zero, %size, %one)
  %rows = tf.TensorArrayGatherV3(%array, %all, %loop:2) {dtype = float32}
  %first = tf.TensorArrayReadV3(%array, %one, %loop:2) {dtype = float32}
  %y = tf.Neg(%rows)
  %w = tf.Neg(%first)
  %z = tf.Neg(%size)
}
"""


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_arrays_that_grow_in_a_loop(runtime: str) -> None:
    source = parse_model(GROWING)
    model = source.clone()
    assert "it may grow" in refusals(run_pass(model, NAME))
    assert run_pass(model, f"{NAME}{{dynamic=true}}").rewrites == 1
    verify(model)
    assert not arrays_left(model)
    for count in (2, 5):
        feeds = {"x": np.array([0.5, -1.0], np.float32), "n": np.array(count, np.int32)}
        assert_equivalent(source, model, feeds, runtime=runtime, allow_flat=True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("%next = tf.AddV2(%i, %one)", "%next = tf.AddV2(%i, %n)"),
        ("%next = tf.AddV2(%i, %one)", "%next = tf.Mul(%i, %one)"),
        ("tf.While(%zero,", "tf.While(%one,"),
        ("tf.TensorArrayV3(%zero)", "tf.TensorArrayV3(%one)"),
        ("(%h, %i, %t, %f)", "(%h, %n, %t, %f)"),
        ("  %size =", "  %last = tf.TensorArrayWriteV3(%array, %n, %x, %loop:2)\n  %size ="),
    ],
)
def test_arrays_that_may_grow_by_more_are_refused(old: str, new: str) -> None:
    assert GROWING.count(old) == 1
    model = parse_model(GROWING.replace(old, new))
    report = run_pass(model, f"{NAME}{{dynamic=true}}")
    assert report.rewrites == 0
    assert "it may grow" in refusals(report)
