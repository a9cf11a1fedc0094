"""hoist-loop-invariants."""

from __future__ import annotations

import pytest
from control_helpers import check_on, refusals
from hypothesis import given

from graphopt.ir.text import parse_model
from graphopt.passes import run_pass
from graphopt.testing import check_pass, models, random_model

NAME = "hoist-loop-invariants"
LOOP = """
function @cond(%i: int32[], %s: float32[2,2], %w: float32[2,2]) -> (%go) {
  %limit = tf.Const() {value = int32[] 3}
  %go = tf.Less(%i, %limit)
}
function @body(%i: int32[], %s: float32[2,2], %w: float32[2,2]) -> (%j, %t, %w) {
  %one = tf.Const() {value = int32[] 1}
  %j = tf.AddV2(%i, %one)
  %half = tf.Const() {value = float32[] 0.5}
  %scaled = tf.Mul(%w, %half)
  %v = INVARIANT
  %t = tf.MatMul(%s, %v)
}
graph @main(%x: float32[2,2], %w: float32[2,2]START) -> (%y) {
  ZERO
  %loop = tf.StatelessWhile(%zero, %x, %w) {cond = @cond, body = @body, T = [int32, float32, float32]}
    : (int32[], float32[2,2], float32[2,2])
  %y = tf.Neg(%loop:1)
}
"""
KNOWN = LOOP.replace("START", "").replace("ZERO", "%zero = tf.Const() {value = int32[] 0}")
OPEN = LOOP.replace("START", ", %zero: int32[]").replace("ZERO", "")


def test_what_does_not_change_leaves() -> None:
    after = """
    function @cond(%i: int32[], %s: float32[2,2], %w: float32[2,2], %v_invariant: float32[2,2]) -> (%go) {
      %limit = tf.Const() {value = int32[] 3}
      %go = tf.Less(%i, %limit)
    }
    function @body(%i: int32[], %s: float32[2,2], %w: float32[2,2], %v_invariant: float32[2,2])
        -> (%j, %t, %w, v_invariant_1 = %v_invariant) {
      %one = tf.Const() {value = int32[] 1}
      %j = tf.AddV2(%i, %one)
      %t = tf.MatMul(%s, %v_invariant)
    }
    graph @main(%x: float32[2,2], %w: float32[2,2]) -> (%y) {
      %zero = tf.Const() {value = int32[] 0}
      %"loop/half" = tf.Const() {value = float32[] 0.5}
      %"loop/scaled" = tf.Mul(%w, %"loop/half")
      %"loop/v" = tf.MatMul(%"loop/scaled", %w)
      %loop = tf.StatelessWhile(%zero, %x, %w, %"loop/v") {cond = @cond, body = @body,
        T = [int32, float32, float32, float32]} : (int32[], float32[2,2], float32[2,2], float32[2,2])
      %y = tf.Neg(%loop:1)
    }"""
    after = after.replace("v_invariant_1 =", "v_invariant =")
    check_pass(NAME, KNOWN.replace("INVARIANT", "tf.MatMul(%scaled, %w)"), after)


@pytest.mark.parametrize(("operator", "leaves"), [("tf.Tanh(%scaled)", True), ("tf.MatMul(%scaled, %w)", False),
                                                  ("tf.CheckNumerics(%scaled)", False)])  # fmt: skip
def test_a_loop_that_might_not_turn(operator: str, leaves: bool) -> None:
    model = parse_model(OPEN.replace("INVARIANT", operator))
    run_pass(model, "infer-shapes")
    report = run_pass(model, NAME)
    assert (model.graph.find("loop/v") is not None) == leaves
    assert model.graph.find("loop/scaled") is not None
    assert ("might not turn" in refusals(report)) == (operator.startswith("tf.MatMul"))


@pytest.mark.parametrize(
    "operator",
    ["tf.Tanh(%s)", "tf.RandomUniform(%k) {T = int32, dtype = float32} %k = tf.Const() {value = int32[2] [2, 2]}"],
)
def test_what_changes_stays(operator: str) -> None:
    text = KNOWN.replace("  %scaled = tf.Mul(%w, %half)\n", "")
    op, _, rest = operator.partition(" %k =")
    text = text.replace("INVARIANT", op) if not rest else text.replace("%v = INVARIANT", f"%k ={rest} %v = {op}")
    check_pass(NAME, text, runtime=None)


def test_a_body_that_others_run_is_cloned() -> None:
    text = KNOWN.replace("INVARIANT", "tf.Tanh(%scaled)").replace(
        "%y = tf.Neg(%loop:1)",
        "%again = tf.StatelessWhile(%zero, %x, %x) {cond = @cond, body = @body, T = [int32, float32, float32]}"
        " : (int32[], float32[2,2], float32[2,2]) %y = tf.Add(%loop:1, %again:1)",
    )
    model, _ = check_on(parse_model(text), NAME)
    assert model.graph.find("loop/v") is not None
    assert model.graph.find("again/v") is not None


NESTED = """
function @cond(%i: int32[], %s: float32[2], %w: float32[2]) -> (%go) {
  %limit = tf.Const() {value = int32[] 3}
  %go = tf.Less(%i, %limit)
}
function @inner(%i: int32[], %s: float32[2], %w: float32[2]) -> (%j, %t, %w) {
  %one = tf.Const() {value = int32[] 1}
  %j = tf.AddV2(%i, %one)
  %v = tf.Tanh(%w)
  %t = tf.Mul(%s, %v)
}
function @body(%i: int32[], %s: float32[2], %w: float32[2]) -> (%j, %t, %w) {
  %zero = tf.Const() {value = int32[] 0}
  %one = tf.Const() {value = int32[] 1}
  %j = tf.AddV2(%i, %one)
  %loop = tf.StatelessWhile(%zero, %s, %w) {cond = @cond, body = @inner, T = [int32, float32, float32]}
    : (int32[], float32[2], float32[2])
  %t = tf.Tanh(%loop:1)
}
graph @main(%x: float32[2], %w: float32[2]) -> (%y) {
  %zero = tf.Const() {value = int32[] 0}
  %loop = tf.StatelessWhile(%zero, %x, %w) {cond = @cond, body = @body, T = [int32, float32, float32]}
    : (int32[], float32[2], float32[2])
  %y = tf.Neg(%loop:1)
}
"""


def test_out_of_two_loops() -> None:
    model, _ = check_on(parse_model(NESTED), NAME)
    assert sum(node.op == "tf.Tanh" for node in model.graph) == 1
    tanhs = [node for function in model.functions.values() for node in function if node.op == "tf.Tanh"]
    assert [node.name for node in tanhs] == ["t"]


@given(models())
def test_random_models(model) -> None:
    run_pass(model, "infer-shapes")
    check_on(model, NAME)


@pytest.mark.tensorflow
def test_in_tensorflow() -> None:
    check_on(parse_model(NESTED), NAME, runtime="tensorflow")
    check_on(parse_model(KNOWN.replace("INVARIANT", "tf.MatMul(%scaled, %w)")), NAME, runtime="tensorflow")
    check_on(random_model(3), NAME, runtime="tensorflow")


def test_a_v1_loop_has_to_be_raised_first() -> None:
    model = parse_model(V1_LOOP)
    report = run_pass(model, "hoist-loop-invariants")
    reason = "it is a v1 loop: run raise-control-flow first, which makes a While of it"
    assert [item["reason"] for item in report.refusals] == [reason]
    run_pass(model, "raise-control-flow")
    assert run_pass(model, "hoist-loop-invariants").refusals == []


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


INNER = KNOWN.replace("INVARIANT", "tf.MatMul(%scaled, %w)").replace(
    "graph @main(%x: float32[2,2], %w: float32[2,2]) -> (%y)",
    "function @inner(%x: float32[2,2], %w: float32[2,2]) -> (%y)",
)
OTHER = "function @other(%x: float32[2,2], %w: float32[2,2]) -> (%x) {\n}\n"
TYPES = "Tin = [float32, float32], Tout = [float32]} : float32[2,2]"
CALLS = [
    f"%call = tf.StatelessIf(%c, %x, %w) {{then_branch = @inner, else_branch = @other, Tcond = bool, {TYPES}",
    f"%call = tf.StatelessCase(%c, %x, %w) {{branches = [@other, @inner], {TYPES}",
    f"%call = tf.PartitionedCall(%x, %w) {{f = @inner, {TYPES}",
]


@pytest.mark.parametrize("name", [NAME, "unroll-loops"])
@pytest.mark.parametrize("call", CALLS)
def test_loops_in_functions_that_are_called(call: str, name: str) -> None:
    kind = "int32" if "Case" in call else "bool"
    main = f"graph @main(%c: {kind}[], %x: float32[2,2], %w: float32[2,2]) -> (%z) {{\n{call}\n%z = tf.Neg(%call)\n}}"
    model, rewrites = check_on(parse_model(INNER + OTHER + main), name)
    assert rewrites == 1
    assert len(model.functions["inner"]) > 4
    loops = [node for node in model.functions["inner"] if node.op == "tf.StatelessWhile"]
    assert len(loops) == (name == NAME)


PURE = """
function @pure(%x: float32[2,2], %w: float32[2,2]) -> (%p) {
  %p = tf.MatMul(%x, %w)
}
"""


@pytest.mark.parametrize("runtime", ["reference", pytest.param("tensorflow", marks=pytest.mark.tensorflow)])
def test_calls_that_do_no_more_than_compute_leave(runtime: str) -> None:
    call = f"tf.PartitionedCall(%scaled, %w) {{f = @pure, {TYPES}"
    model, rewrites = check_on(parse_model(PURE + KNOWN.replace("INVARIANT", call)), NAME, runtime=runtime)
    assert rewrites == 1
    assert [node.name for node in model.graph if node.op == "tf.PartitionedCall"] == ["loop/v"]
    assert not [node for node in model.functions["body"] if node.op == "tf.PartitionedCall"]


def test_calls_stay_where_the_loop_might_not_turn() -> None:
    call = f"tf.PartitionedCall(%scaled, %w) {{f = @pure, {TYPES}"
    model = parse_model(PURE + OPEN.replace("INVARIANT", call))
    report = run_pass(model, NAME)
    assert "might not turn" in refusals(report)
    assert model.functions["body"].node("v").op == "tf.PartitionedCall"


def test_calls_of_what_is_random_stay() -> None:
    drawn = """%n = tf.Const() {value = int32[2] [2, 2]}
  %r = tf.RandomUniform(%n) {dtype = float32} : float32[2,2]
  %p = tf.MatMul(%r, %w)"""
    random = PURE.replace("%p = tf.MatMul(%x, %w)", drawn)
    through = f"tf.PartitionedCall(%x, %w) {{f = @pure, {TYPES}"
    outer = PURE.replace("@pure", "@outer").replace("tf.MatMul(%x, %w)", through)
    call = f"tf.PartitionedCall(%scaled, %w) {{f = @outer, {TYPES}"
    model = parse_model(random + outer + KNOWN.replace("INVARIANT", call))
    run_pass(model, NAME)
    assert model.functions["body"].node("v").op == "tf.PartitionedCall"
