"""raise-control-flow."""

from __future__ import annotations

import numpy as np
import pytest
from control_helpers import check_on, refusals
from hypothesis import given

from graphopt.ir.text import parse_model
from graphopt.passes import PassManager, run_pass
from graphopt.passes.frames import has_v1_control_flow
from graphopt.testing import assert_equivalent, check_pass, models, random_model

NAME = "raise-control-flow"
THERE = "infer-shapes,lower-control-flow,strip-unused"
V1 = ("tf.Switch", "tf.Merge", "tf.Enter", "tf.Exit", "tf.NextIteration", "tf.LoopCond")

COND = """
graph @main(%x: float32[2], %c: bool[]) -> (%y) {
  %data = tf.Switch(%x, %c)
  %then = tf.Neg(%data:1)
  %else = tf.Abs(%data)
  %merge = tf.Merge(%else, %then)
  %y = tf.Tanh(%merge)
}
"""
RAISED = """
function @merge_if_true(%x: float32[2]) -> (%then) { %then = tf.Neg(%x) }
function @merge_if_false(%x: float32[2]) -> (%else) { %else = tf.Abs(%x) }
graph @main(%x: float32[2], %c: bool[]) -> (%y) {
  %"merge/if" = tf.StatelessIf(%c, %x) {then_branch = @merge_if_true, else_branch = @merge_if_false,
    Tcond = bool, Tin = [float32], Tout = [float32], output_shapes = [SHAPE]}
  %merge = tf.Identity(%"merge/if")
  %y = tf.Tanh(%merge)
}
"""


def left(model) -> list[str]:
    return [node.op for graph in model.graphs for node in graph if node.op in V1]


def check_both(source, model, **feeds: object) -> None:
    for condition in (True, False):
        assert_equivalent(source, model, {**feeds, "c": np.array(condition)}, runtime="reference", allow_flat=True)


def test_conditional() -> None:
    source = parse_model(COND)
    model = source.clone()
    assert run_pass(model, NAME).rules == {NAME: 1}
    assert not left(model)
    node = model.graph.node("merge/if")
    assert node.op == "tf.StatelessIf"
    assert [v.name for v in node.inputs] == ["c", "x"]
    assert [n.op for n in model.functions["merge_if_true"]] == ["tf._Arg", "tf.Neg"]
    assert [n.op for n in model.functions["merge_if_false"]] == ["tf._Arg", "tf.Abs"]
    check_both(source, model, x=np.array([1.0, -2.0], np.float32))


def test_what_is_captured_and_which_branch_it_was() -> None:
    source = parse_model("""
    graph @main(%x: float32[2], %c: bool[]) -> (%y) {
      %pred = tf.Identity(%c)
      %pivot = tf.Switch(%c, %c)
      %on = tf.Identity(%pivot:1)
      %off = tf.Identity(%pivot)
      %data = tf.Switch(%x, %pred)
      %one = tf.Const() {value = float32[] 1.0} after(%on)
      %two = tf.Const() {value = float32[] 2.0} after(%off)
      %twice = tf.Add(%x, %x)
      %then = tf.Add(%data:1, %one)
      %else = tf.Mul(%data, %two)
      %other = tf.Mul(%twice, %two)
      %merge = tf.Merge(%else, %then)
      %m2 = tf.Merge(%other, %data:1)
      %index = tf.Cast(%merge:1) {SrcT = int32, DstT = float32}
      %sum = tf.Add(%merge, %index)
      %y = tf.Add(%sum, %m2)
    }""")
    model = source.clone()
    assert run_pass(model, NAME).rules == {NAME: 1}
    assert not left(model)
    check_both(source, model, x=np.array([1.0, -2.0], np.float32))


LOOP = """
graph @main(%x: float32[2], %w: float32[2]) -> (%y) {
  %zero = tf.Const() {value = int32[] 0}
  %i0 = tf.Enter(%zero) {frame_name = b"while/while_context"}
  %s0 = tf.Enter(%x) {frame_name = b"while/while_context"}
  %w0 = tf.Enter(%w) {frame_name = b"while/while_context", is_constant = true}
  %i = tf.Merge(%i0, %inext)
  %s = tf.Merge(%s0, %snext)
  %limit = tf.Const() {value = int32[] 3} after(%i)
  %less = tf.Less(%i, %limit)
  %go = tf.LoopCond(%less)
  %isw = tf.Switch(%i, %go)
  %ssw = tf.Switch(%s, %go)
  %one = tf.Const() {value = int32[] 1} after(%isw)
  %ii = tf.Identity(%isw:1)
  %iplus = tf.AddV2(%ii, %one)
  %scaled = tf.Mul(%ssw:1, %w0)
  %inext = tf.NextIteration(%iplus)
  %snext = tf.NextIteration(%scaled)
  %exit = tf.Exit(%ssw)
  %y = tf.Neg(%exit)
}
"""


def test_loop() -> None:
    source = parse_model(LOOP.replace("after(%isw)", "after(%ii)"))
    model, _ = check_on(source, NAME)
    assert not left(model)
    loop = model.graph.node("while")
    assert loop.op == "tf.StatelessWhile"
    assert [v.name for v in loop.inputs] == ["zero", "x", "w"]
    assert model.graph.node("exit").op == "tf.Identity"
    assert model.graph.node("exit").input(0) is loop.outputs[1]
    body = model.functions["while_body"]
    assert body.outputs[2] is body.inputs[2]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("-> (%y)", "-> (%y, %scaled)", "is an input, output or target"),
        ("%y = tf.Neg(%exit)", "%y = tf.Neg(%exit) %bad = tf.Abs(%ssw) %n = tf.Abs(%x)", "after the last iteration"),
        ("tf.Mul(%ssw:1, %w0)", "tf.Mul(%s0, %w0)", "is read by others"),
        ("tf.Mul(%ssw:1, %w0)", "tf.Mul(%ssw:1, %w)", "outside of it is read inside"),
        ("tf.Mul(%ssw:1, %w0)", "tf.Mystery(%ssw:1, %w0) : float32[2]", "in no table"),
        (
            "%scaled =",
            "%g = tf.LoopCond(%less) %t = tf.Switch(%s, %g) %k = tf.Identity(%t:1) %scaled =",
            "2 conditions",
        ),
        ("%w0 = tf.Enter(%w) {frame_name = b\"while/while_context\", is_constant = true}",
         "%w0 = tf.Enter(%w) {frame_name = b\"while/while_context\"}", "in the first iteration alone"),
    ],
)  # fmt: skip
def test_irregular_loops_are_refused(old: str, new: str, reason: str) -> None:
    model = parse_model(LOOP.replace("after(%isw)", "after(%ii)").replace(old, new))
    before = len(model.graph)
    report = run_pass(model, NAME)
    assert reason in refusals(report)
    assert len(model.graph) == before
    assert not model.functions


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("-> (%y)", "-> (%y, %then)", "is an input, output or target"),
        ("%y = tf.Tanh(%merge)", "%y = tf.Tanh(%merge) %z = tf.Abs(%then)", None),
        ("%y = tf.Tanh(%merge)", "%n = tf.Tanh(%merge) %y = tf.Add(%n, %then)", "does not"),
        ("tf.Merge(%else, %then)", "tf.Merge(%else, %then, %x)", "does not join"),
        ("%then = tf.Neg(%data:1)", "%then = tf.Neg(%x)", "does not join"),
        ("%data = tf.Switch(%x, %c)", "%data = tf._SwitchN(%x, %k) {num_outs = 2, T = float32} : (float32[2], "
         "float32[2]) %k = tf.Cast(%c) {SrcT = bool, DstT = int32}", "does not join"),
    ],
)  # fmt: skip
def test_irregular_conditionals(old: str, new: str, reason: str | None) -> None:
    model = parse_model(COND.replace(old, new))
    report = run_pass(model, NAME)
    if reason is None:
        assert not left(model)
    elif report.rewrites == 0:
        assert left(model)
        assert report.refusals
    else:
        raise AssertionError(f"raised, where {reason} was expected")


def test_effects_make_a_stateful_branch() -> None:
    text = """
    graph @main(%x: float32[2], %c: bool[]) -> (%y) {
      %data = tf.Switch(%x, %c)
      %then = tf.Neg(%data:1)
      %fine = tf.Const() {value = bool[] true} after(%then)
      %check = tf.Assert(%fine, %data:1) {T = [float32]}
      %checked = tf.Identity(%then) after(%check)
      %else = tf.Abs(%data)
      %merge = tf.Merge(%else, %checked)
      %y = tf.Tanh(%merge)
    }"""
    source = parse_model(text)
    model = source.clone()
    run_pass(model, NAME)
    assert model.graph.node("merge/if").op == "tf.If"
    assert len(model.functions["merge_if_true"].control_outputs) == 1
    check_both(source, model, x=np.array([1.0, -2.0], np.float32))


def test_two_conditionals_of_one_predicate_one_after_the_other() -> None:
    source = parse_model("""
    graph @main(%x: float32[2], %c: bool[]) -> (%y) {
      %data = tf.Switch(%x, %c)
      %then = tf.Neg(%data:1)
      %merge = tf.Merge(%data, %then)
      %again = tf.Switch(%merge, %c)
      %more = tf.Abs(%again)
      %last = tf.Merge(%more, %again:1)
      %y = tf.Tanh(%last)
    }""")
    model = source.clone()
    assert run_pass(model, NAME).rules == {NAME: 2}
    assert not left(model)
    check_both(source, model, x=np.array([1.0, -2.0], np.float32))


def test_results_of_conditionals_that_are_branches_of_others() -> None:
    source = parse_model("""
    graph @main(%x: float32[2], %c: bool[], %d: bool[], %e: bool[]) -> (%y) {
      %then0/Switch = tf.Switch(%x, %c)
      %then0 = tf.Neg(%then0/Switch:1)
      %d0 = tf.Switch(%d, %c)
      %x0 = tf.Switch(%x, %c)
      %then1/Switch = tf.Switch(%x0, %d0)
      %then1 = tf.Abs(%then1/Switch:1)
      %e0 = tf.Switch(%e, %c)
      %e1 = tf.Switch(%e0, %d0)
      %x1 = tf.Switch(%x0, %d0)
      %then2/Switch = tf.Switch(%x1, %e1)
      %then2 = tf.Tanh(%then2/Switch:1)
      %else2/Switch = tf.Switch(%x1, %e1)
      %else2 = tf.Sin(%else2/Switch)
      %merge2 = tf.Merge(%else2, %then2)
      %merge1 = tf.Merge(%merge2, %then1)
      %merge0 = tf.Merge(%merge1, %then0)
      %y = tf.Cos(%merge0)
    }""")
    model = source.clone()
    run_pass(model, "sort{canonical=true}")
    assert run_pass(model, NAME).rules == {NAME: 3}
    assert not left(model)
    for inner, innermost in ((True, True), (False, True), (False, False)):
        feeds = {"x": np.array([1.0, -2.0], np.float32), "d": np.array(inner), "e": np.array(innermost)}
        check_both(source, model, **feeds)


def test_a_branch_that_needs_a_result_of_the_other_merge_is_refused() -> None:
    model = parse_model("""
    graph @main(%x: float32[2], %c: bool[]) -> (%y) {
      %pivot = tf.Switch(%c, %c)
      %on = tf.Identity(%pivot:1)
      %data = tf.Switch(%x, %c)
      %then = tf.Neg(%data:1) after(%on)
      %merge = tf.Merge(%data, %then)
      %again = tf.Switch(%merge, %c)
      %more = tf.Abs(%again:1) after(%on)
      %last = tf.Merge(%again, %more)
      %y = tf.Tanh(%last)
    }""")
    report = run_pass(model, NAME)
    assert "comes from one of its results" in refusals(report)
    assert report.rewrites == 0


def test_nothing_to_do() -> None:
    check_pass(NAME, "graph @main(%x: float32[2]) -> (%y) { %y = tf.Neg(%x) }")


def test_deep_nesting() -> None:
    depth = 40
    lines = ["%v0 = tf.Identity(%x)"]
    for level in range(depth):
        lines.append(f"%s{level} = tf.Switch(%v{level}, %p{level})" if level else "%s0 = tf.Switch(%v0, %c)")
        lines.append(f"%v{level + 1} = tf.Neg(%s{level}:1)")
        lines.append(f"%q{level + 1} = tf.Max(%v{level + 1}, %axes{level + 1})")
        lines.append(f"%axes{level + 1} = tf.Const() {{value = int32[1] [0]}} after(%v{level + 1})")
        lines.append(f"%zero{level + 1} = tf.Const() {{value = float32[] 0.0}} after(%v{level + 1})")
        lines.append(f"%p{level + 1} = tf.Greater(%q{level + 1}, %zero{level + 1})")
    last = f"v{depth}"
    for level in reversed(range(depth)):
        lines.append(f"%m{level} = tf.Merge(%s{level}, %{last})")
        last = f"m{level}"
    text = "graph @main(%x: float32[2], %c: bool[]) -> (%y) {" + "\n".join([*lines, f"%y = tf.Tanh(%{last})"]) + "}"
    source = parse_model(text)
    model = source.clone()
    assert run_pass(model, NAME).rules == {NAME: depth}
    assert not left(model)
    check_both(source, model, x=np.array([1.0, -2.0], np.float32))


def test_the_graph_counts_as_functional_afterwards() -> None:
    model = parse_model(COND)
    assert has_v1_control_flow(model.graph)
    run_pass(model, NAME)
    assert not has_v1_control_flow(model.graph)


def test_work_is_linear(count_calls) -> None:
    def work(count: int) -> int:
        parts = [
            f"%s{k} = tf.Switch(%y{k}, %c) %t{k} = tf.Neg(%s{k}:1) %y{k + 1} = tf.Merge(%s{k}, %t{k})"
            for k in range(count)
        ]
        head = "graph @main(%x: float32[2], %c: bool[]) -> (%out) { %y0 = tf.Abs(%x) "
        model = parse_model(head + " ".join(parts) + f" %out = tf.Neg(%y{count}) }}")
        calls, report = count_calls(lambda: run_pass(model, NAME))
        assert report.rules == {NAME: count}
        return calls

    work(50)
    assert work(1500) < 6 * work(300)


@given(models())
def test_there_and_back(model) -> None:
    PassManager(THERE).run(model)
    after, _ = check_on(model, NAME)
    assert not left(after)


@pytest.mark.tensorflow
def test_in_tensorflow() -> None:
    done = 0
    for seed in range(60):
        model = random_model(seed)
        if any("While" in node.op or "If" in node.op for node in model.graph):
            PassManager(THERE).run(model)
            check_on(model, NAME, runtime="tensorflow")
            done += 1
        if done == 5:
            break
    assert done == 5
