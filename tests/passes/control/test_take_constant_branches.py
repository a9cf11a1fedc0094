"""take-constant-branches."""

from __future__ import annotations

import pytest
from control_helpers import check_on, fix_conditions, refusals
from hypothesis import given
from hypothesis import strategies as st

from graphopt.ir.text import parse_model
from graphopt.passes import run_pass
from graphopt.testing import check_pass, models, random_model

NAME = "take-constant-branches"
BRANCHES = """
function @f(%a: float32[2]) -> (%b) { %b = tf.Neg(%a) }
function @g(%a: float32[2]) -> (%b) { %b = tf.Abs(%a) }
"""
CALL = 'config = b"", config_proto = b"", executor_type = b""'


@pytest.mark.parametrize(
    ("condition", "branch"),
    [
        ("bool[] true", "f"),
        ("bool[] false", "g"),
        ("int32[] 3", "f"),
        ("float32[] 0.0", "g"),
        ("bool[1] [false]", "f"),
        ("int32[0] []", "g"),
        ('string[] b""', "g"),
    ],
)
def test_if(condition: str, branch: str) -> None:
    before = f"""{BRANCHES}
    graph @main(%x: float32[2]) -> (%y) {{
      %c = tf.Const() {{value = {condition}}}
      %y = tf.StatelessIf(%c, %x) {{then_branch = @f, else_branch = @g}}
    }}"""
    after = f"""{BRANCHES}
    graph @main(%x: float32[2]) -> (%y) {{
      %y = tf.PartitionedCall(%x) {{f = @{branch}, {CALL}}}
    }}"""
    check_pass(NAME, before, after)


@pytest.mark.parametrize(("index", "branch"), [(0, "f"), (1, "g"), (2, "g"), (-1, "g")])
def test_case(index: int, branch: str) -> None:
    before = f"""{BRANCHES}
    graph @main(%x: float32[2]) -> (%y) {{
      %c = tf.Const() {{value = int32[] {index}}}
      %y = tf.Case(%c, %x) {{branches = [@f, @g]}}
    }}"""
    after = f"""{BRANCHES}
    graph @main(%x: float32[2]) -> (%y) {{
      %y = tf.StatefulPartitionedCall(%x) {{f = @{branch}, {CALL}}}
    }}"""
    check_pass(NAME, before, after)


def test_a_condition_whose_shape_decides() -> None:
    model = parse_model(
        f"""{BRANCHES}
    graph @main(%x: float32[2]) -> (%y) {{
      %c = tf.Greater(%x, %x) : bool[2]
      %y = tf.If(%c, %x) {{then_branch = @f, else_branch = @g}}
    }}"""
    )
    run_pass(model, NAME)
    assert model.graph.node("y").op == "tf.StatefulPartitionedCall"
    assert model.graph.node("y").attrs["f"].name == "f"
    assert model.graph.find("c") is None


def test_an_open_condition_stays() -> None:
    check_pass(
        NAME,
        f"""{BRANCHES}
    graph @main(%x: float32[2], %c: bool[]) -> (%y) {{
      %y = tf.StatelessIf(%c, %x) {{then_branch = @f, else_branch = @g}}
    }}""",
    )


LOOP = """
function @cond(%i: int32[], %s: float32[2]) -> (%go) {
  %limit = tf.Const() {value = int32[] 3}
  %go = tf.Less(%i, %limit)
}
function @body(%i: int32[], %s: float32[2]) -> (%next, %t) {
  %one = tf.Const() {value = int32[] 1}
  %next = tf.AddV2(%i, %one)
  %t = tf.Neg(%s)
}
graph @main(%x: float32[2]) -> (%y) {
  %start = tf.Const() {value = int32[] START}
  %y = tf.StatelessWhile(%start, %x) {cond = @cond, body = @body} : (int32[], float32[2])
  OUTPUT
}
"""


def test_a_loop_that_never_turns() -> None:
    before = LOOP.replace("START", "3").replace("(%y) {", "(%z) {").replace("OUTPUT", "%z = tf.Abs(%y:1)")
    after = before.replace(
        "%y = tf.StatelessWhile(%start, %x) {cond = @cond, body = @body} : (int32[], float32[2])",
        "%y = tf.IdentityN(%start, %x)",
    )
    check_pass(NAME, before, after)


def test_a_loop_that_turns() -> None:
    check_pass(NAME, LOOP.replace("START", "2").replace("(%y) {", "(%z) {").replace("OUTPUT", "%z = tf.Abs(%y:1)"))


def test_half_a_condition_decides() -> None:
    model = parse_model(
        LOOP.replace("START", "3")
        .replace("OUTPUT", "")
        .replace(
            "%go = tf.Less(%i, %limit)",
            "%less = tf.Less(%i, %limit) %zero = tf.Const() {value = float32[] 0.0} "
            "%axes = tf.Const() {value = int32[1] [0]} %sum = tf.Sum(%s, %axes) "
            "%small = tf.Less(%sum, %zero) %go = tf.LogicalAnd(%small, %less)",
        )
    )
    run_pass(model, NAME)
    assert model.graph.node("y").op == "tf.IdentityN"


def test_a_condition_with_effects_is_refused() -> None:
    text = LOOP.replace("START", "3").replace("OUTPUT", "")
    text = text.replace("%go =", "%check = tf.Assert(%low, %i) %low = tf.Less(%i, %limit) %go =")
    model = parse_model(text)
    report = run_pass(model, NAME)
    assert model.graph.node("y").op == "tf.StatelessWhile"
    assert "has effects" in refusals(report)


# v1 ------------------------------------------------------------------------------------------------------------

COND = """
graph @main(%x: float32[2]) -> (%out) {
  %pred = tf.Const() {value = bool[] PRED}
  %pivot = tf.Switch(%pred, %pred)
  %on = tf.Identity(%pivot:1)
  %off = tf.Identity(%pivot)
  %data = tf.Switch(%x, %pred)
  %one = tf.Const() {value = float32[] 1.0} after(%on)
  %two = tf.Const() {value = float32[] 2.0} after(%off)
  %then = tf.Add(%data:1, %one)
  %else = tf.Mul(%data, %two)
  %merge = tf.Merge(%else, %then)
  MORE
  %out = tf.Neg(%merge)
}
"""


def test_v1_conditional_taken() -> None:
    after = """
    graph @main(%x: float32[2]) -> (%out) {
      %pred = tf.Const() {value = bool[] true}
      %pivot = tf.Identity(%pred)
      %on = tf.Identity(%pivot)
      %data = tf.Identity(%x)
      %one = tf.Const() {value = float32[] 1.0} after(%on)
      %then = tf.Add(%data, %one)
      %merge = tf.Identity(%then)
      %out = tf.Neg(%merge)
    }
    """
    check_pass(NAME, COND.replace("PRED", "true").replace("MORE", ""), after)


@pytest.mark.parametrize("predicate", ["true", "false"])
def test_value_index(predicate: str) -> None:
    text = COND.replace("PRED", predicate).replace("MORE", "%index = tf.Cast(%merge:1) {SrcT = int32, DstT = float32}")
    text = text.replace("%out = tf.Neg(%merge)", "%out = tf.Add(%merge, %index)")
    model = parse_model(text)
    before = model.clone()
    run_pass(model, NAME)
    assert not [node for node in model.graph if node.op in ("tf.Merge", "tf.Switch")]
    from graphopt.testing import assert_equivalent

    assert_equivalent(before, model, runtime="reference")


def test_v1_effects_of_the_other_branch_go() -> None:
    text = COND.replace("PRED", "true").replace("MORE", "%no = tf.Const() {value = bool[] false} after(%off) "
                                                "%bad = tf.Assert(%no, %two) %done = tf.NoOp() after(%on)")  # fmt: skip
    model = parse_model(text)
    run_pass(model, NAME)
    assert model.graph.find("bad") is None
    assert model.graph.find("done") is not None


def test_a_dead_output_is_refused() -> None:
    model = parse_model(COND.replace("PRED", "true").replace("MORE", "").replace("-> (%out)", "-> (%out, %else)"))
    report = run_pass(model, NAME)
    assert "lies in the branch not taken" in refusals(report)
    assert model.graph.node("data").op == "tf.Switch"


def test_an_output_of_the_switch_is_refused() -> None:
    model = parse_model(COND.replace("PRED", "true").replace("MORE", "").replace("-> (%out)", "-> (%out, %data:1)"))
    report = run_pass(model, NAME)
    assert "is an output of the graph" in refusals(report)
    assert model.graph.node("data").op == "tf.Switch"
    assert model.graph.node("pivot").op == "tf.Identity"


LOOP_IN_BRANCH = """
graph @main(%x: float32[2]) -> (%out) {
  %pred = tf.Const() {value = bool[] PRED}
  %data = tf.Switch(%x, %pred)
  %enter = tf.Enter(%data:1) {frame_name = "loop"}
  %again = tf.Merge(%enter, %next)
  %limit = tf.Const() {value = float32[] 100.0} after(%again)
  %axes = tf.Const() {value = int32[1] [0]} after(%again)
  %sum = tf.Sum(%again, %axes)
  %less = tf.Less(%sum, %limit)
  %go = tf.LoopCond(%less)
  %turn = tf.Switch(%again, %go)
  %kept = tf.Identity(%turn:1)
  %ten = tf.Const() {value = float32[] 10.0} after(%kept)
  %more = tf.Add(%kept, %ten)
  %next = tf.NextIteration(%more)
  %exit = tf.Exit(%turn)
  %other = tf.Neg(%data)
  %merge = tf.Merge(%other, %exit)
  %out = tf.Abs(%merge)
}
"""


@pytest.mark.parametrize("predicate", ["true", "false"])
def test_a_loop_in_a_branch(predicate: str) -> None:
    from graphopt.testing import assert_equivalent

    before = parse_model(LOOP_IN_BRANCH.replace("PRED", predicate))
    model = before.clone()
    run_pass(model, NAME)
    assert (model.graph.find("exit") is not None) == (predicate == "true")
    assert model.graph.node("merge").op == "tf.Identity"
    assert_equivalent(before, model, runtime="reference")


def test_part_of_a_loop_is_refused() -> None:
    text = """
    graph @main(%x: float32[], %n: float32[]) -> (%exit) {
      %pred = tf.Const() {value = bool[] false}
      %data = tf.Switch(%x, %pred)
      %enter = tf.Enter(%n) {frame_name = "loop"}
      %step = tf.Enter(%data:1) {frame_name = "loop", is_constant = true}
      %again = tf.Merge(%enter, %next)
      %less = tf.Less(%again, %again)
      %go = tf.LoopCond(%less)
      %turn = tf.Switch(%again, %go)
      %more = tf.Add(%turn:1, %step)
      %next = tf.NextIteration(%more)
      %exit = tf.Exit(%turn)
    }
    """
    model = parse_model(text)
    report = run_pass(model, NAME)
    assert "of which only a part would never run" in refusals(report)
    assert model.graph.node("data").op == "tf.Switch"


@given(models(), st.lists(st.booleans(), min_size=1, max_size=4))
def test_random_models(model, choices: list[bool]) -> None:
    count = fix_conditions(model, choices)
    _, rewrites = check_on(model, NAME)
    assert rewrites == count


@pytest.mark.tensorflow
def test_random_models_in_tensorflow() -> None:
    done = 0
    for seed in range(40):
        model = random_model(seed)
        if fix_conditions(model, [True, False]):
            check_on(model, NAME, runtime="tensorflow")
            done += 1
        if done == 5:
            break
    assert done == 5


def test_work_is_linear(count_calls) -> None:
    def work(count: int) -> int:
        body = "".join(f"%s{k} = tf.Switch(%x, %p) %y{k} = tf.Neg(%s{k}:1)\n" for k in range(count))
        text = (
            f"graph @main(%x: float32[]) -> (%o) {{ %p = tf.Const() {{value = bool[] true}} {body} %o = tf.Abs(%x) }}"
        )
        model = parse_model(text)
        return count_calls(lambda: run_pass(model, NAME))[0]

    work(100)
    assert work(4000) < 6 * work(800)
