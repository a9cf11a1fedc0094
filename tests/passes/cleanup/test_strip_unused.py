"""strip-unused: what goes, what stays, and how the graph is cut at its inputs."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir import UsageError
from graphopt.ir.text import parse_model, print_model
from graphopt.ir.types import FLOAT32
from graphopt.ir.verifier import verify
from graphopt.passes import run_pass
from graphopt.passes.cleanup.strip_unused import parse_shape
from graphopt.runtimes.reference import ReferenceRuntime
from graphopt.testing import check_pass

DEAD = """
graph @main(%x: float32[2, 3], %unread: float32[]) -> (%y) targets(%log) {
  %y = tf.Neg(%x)
  %z = tf.Abs(%y)
  %zz = tf.Relu(%z)
  %log = tf.NoOp() after(%w)
  %w = tf.Const() {value = float32[] 1.0}
  %lonely = tf.Const() {value = float32[] 2.0}
}
signature "serving_default"(x = %x, unread = %unread) -> (y = %y)
"""


def test_what_nothing_needs_is_removed() -> None:
    after = "\n".join(line for line in DEAD.splitlines() if not line.startswith(("  %z", "  %lonely")))
    model, report = check_pass("strip-unused", DEAD, after)
    assert report.rules == {"strip-unused": 3}
    assert [value.name for value in model.graph.inputs] == ["x", "unread"]
    assert [node.name for node in model.graph.targets] == ["log"]


def test_the_graph_is_cut_at_its_inputs() -> None:
    before = """
    graph @main(%mid) -> (%y) {
      %a = tf.Placeholder() {dtype = float32, shape = shape[2]}
      %mid = tf.Relu(%a) device("/cpu:0") origins("far") : float32[2]
      %y = tf.Neg(%mid)
    }
    """
    after = "graph @main(%mid: float32[2]) -> (%y) {\n %y = tf.Neg(%mid)\n }"
    model = parse_model(before)
    report = run_pass(model, "strip-unused")
    node = model.graph.node("mid")
    assert (node.op, node.device, node.origins) == ("tf.Placeholder", "/cpu:0", ("far",))
    assert node.attrs["shape"].static == (2,)
    assert [n.name for n in model.graph] == ["mid", "y"]
    assert report.rules == {"make-placeholder": 1, "strip-unused": 1}
    assert check_pass("strip-unused", print_model(model))[1].rules == {}
    check_pass("strip-unused", after)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ('{type=int32}', "int32[2]"),
        ('{shape="1,299,-1"}', "float32[1, 299, ?]"),
        ('{type=float16,shape=""}', "float16[]"),
        ('{names=[x],types=[float64]}', "float64[2]"),
        ('{names=[x],shapes=["4,?"]}', "float32[4, ?]"),
        ('{names=[x],types=[int8],shapes=["5"],type=float16}', "int8[5]"),
    ],
)  # fmt: skip
def test_types_and_shapes_of_placeholders_can_be_set(options: str, expected: str) -> None:
    model = parse_model("graph @main(%x: float32[2]) -> (%y) { %y = tf.Identity(%x) }")
    run_pass(model, f"strip-unused{options}", verify_each=False)
    assert str(model.graph.inputs[0].type) == expected
    assert str(model.graph.node("x").attrs["shape"]) == expected[expected.index("[") :]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("{names=[nowhere]}", "'nowhere' is not among the inputs"),
        ("{names=[x],types=[float32,float32]}", "'types' must list one entry for each of 'names'"),
        ("{type=float99}", "'float99' is no element type"),
        ('{shape="1,a"}', "'1,a' is no shape"),
        ('{shape="1,-2"}', "a dimension is negative"),
    ],
)
def test_options_that_make_no_sense(options: str, reason: str) -> None:
    model = parse_model("graph @main(%x: float32[2]) -> (%y) { %y = tf.Relu(%x) }")
    with pytest.raises(UsageError, match=reason):
        run_pass(model, f"strip-unused{options}")


SPLIT = """
graph @main(%s%s) -> (%s) {
  %axis = tf.Const() {value = int32[] 0}
  %c = tf.Placeholder() {dtype = float32, shape = shape[2]}
  %s = tf.Split(%axis, %c) {num_split = 2}
  %y = tf.Neg(%s)
}
"""


@pytest.mark.parametrize(
    ("inputs", "outputs", "after"),
    [
        (":1", "%y, %s:1", "graph @main(%s_1) -> (%y, %s_1) { %axis %c %s_1 %s %y }"),
        ("", "%y, %s:1", "graph @main(%s) -> (%y, %s/rest:1) { %axis %c %s %s/rest %y }"),
        (", %s:1", "%y, %s:1", "graph @main(%s, %s_1) -> (%y, %s_1) { %s_1 %s %y }"),
    ],
)
def test_a_cut_at_a_node_of_several_outputs(inputs: str, outputs: str, after: str) -> None:
    text = SPLIT.replace("%s%s", f"%s{inputs}").replace("(%s) {", f"({outputs}) {{")
    model = parse_model(text)
    graph = model.graph
    model.set_signature(
        {str(place): value for place, value in enumerate(graph.inputs)}, {"a": graph.outputs[0], "b": graph.outputs[1]}
    )
    run_pass(model, "strip-unused")
    verify(model)
    heads = ", ".join(f"%{value.name}" for value in graph.inputs), ", ".join(f"%{v.name}" for v in graph.outputs)
    names = " ".join(f"%{node.name}" for node in graph)
    assert f"graph @main({heads[0]}) -> ({heads[1]}) {{ {names} }}" == after
    assert all(value.node.op == "tf.Placeholder" and value.dtype is FLOAT32 for value in graph.inputs)
    assert run_pass(model, "strip-unused").rules == {}
    runtime = ReferenceRuntime()
    fed = {str(place): np.full(1, place + 2, np.float32) for place in range(len(graph.inputs))}
    fed.update({} if graph.find("c") is None else {"c": np.array([5, 6], np.float32)})
    found = runtime.run(model, fed)
    whole = parse_model(SPLIT.replace("%s%s", "%c").replace("(%s) {", "(%y, %s:1) {"))
    plain = runtime.run(whole, {"c": np.array([5, 6], np.float32)})
    first, second = ("0" if inputs != ":1" else None), {":1": "0", "": None, ", %s:1": "1"}[inputs]
    assert found["a"] == (plain["y"] if first is None else -fed[first])
    assert found["b"] == (plain["s:1"] if second is None else fed[second])


def test_a_graph_without_outputs_stays_and_the_report_says_so() -> None:
    text = "graph @main() -> () {\n %a = tf.Const() {value = float32[] 1.0}\n }"
    _, report = check_pass("strip-unused", text)
    assert report.notes == ["graph 'main' has no outputs: nothing was stripped"]


def test_sources_among_the_inputs_stay_what_they_are() -> None:
    check_pass(
        "strip-unused",
        """graph @main(%d) -> (%y) {
          %c = tf.Const() {value = float32[2] [1.0, 2.0]}
          %d = tf.PlaceholderWithDefault(%c) {shape = shape[2]}
          %y = tf.Neg(%d)
        }""",
    )


def test_in_function_bodies_effects_and_arguments_stay() -> None:
    text = """
    graph @main(%x: float32[2], %h: resource[]) -> (%y) {
      %y = tf.StatefulPartitionedCall(%x, %h) {Tin = [float32, resource], Tout = [float32], f = @f}
    }
    function @f(a = %a: float32[2], h = %h: resource[]) -> (r = %r) {
      %r = tf.Neg(%a)
      %write = tf.AssignVariableOp(%h, %r) {dtype = float32}
      %dead = tf.Abs(%a)
    }
    """
    after = "\n".join(line for line in text.splitlines() if "%dead" not in line)
    check_pass("strip-unused", text, after, runtime=None)


def test_v1_loops_are_kept_whole_or_dropped_whole() -> None:
    loop = """
    graph @main(%x: float32[]) -> (%{out}) {{
      %zero = tf.Const() {{value = float32[] 0.0}}
      %enter = tf.Enter(%x) {{frame_name = "loop"}}
      %merge = tf.Merge(%enter, %next) {{N = 2}}
      %limit = tf.Const() {{value = float32[] 9.0}} after(%merge)
      %less = tf.Less(%merge, %limit)
      %cond = tf.LoopCond(%less)
      %switch = tf.Switch(%merge, %cond)
      %body = tf.Identity(%switch:1)
      %one = tf.Const() {{value = float32[] 1.0}} after(%body)
      %add = tf.AddV2(%body, %one)
      %next = tf.NextIteration(%add)
      %exit = tf.Exit(%switch)
      %y = tf.Neg(%x)
    }}
    """
    model, _ = check_pass(
        "strip-unused", loop.format(out="y"), "graph @main(%x: float32[]) -> (%y) { %y = tf.Neg(%x) }"
    )
    assert len(model.graph) == 2
    kept = loop.format(out="exit")
    after = "\n".join(line for line in kept.splitlines() if "%zero" not in line and "%y" not in line)
    check_pass("strip-unused", kept, after)


def test_shapes_as_text() -> None:
    assert str(parse_shape(" 1 , -1, ? ,3")) == "[1, ?, ?, 3]"
    assert str(parse_shape("")) == "[]"
