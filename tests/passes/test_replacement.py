"""Replacing what matched: intermediates, names, outputs, targets, control dependencies and frames stay sound."""

from __future__ import annotations

from typing import Any

import pytest
from engine_rules import AbsOfNeg, Doubled, DropRelu, graph, reasons, run

from graphopt.passes import Editor, Match, Rule

# Intermediates ------------------------------------------------------------------------------------------------


def test_the_replacement_takes_name_origins_device_and_place() -> None:
    body = '%n = tf.Neg(%x)\n%a = tf.Abs(%n) device("/cpu:0")\n%y = tf.Tanh(%a)'
    model, context, done = run(graph(body), AbsOfNeg())
    assert [node.name for node in model.graph] == ["x", "a", "y"]
    made = model.graph.node("a")
    assert (made.input(0).name, made.device, made.origins) == ("x", "/cpu:0", ("a", "n"))
    assert (done, context.log.rules, context.log.total) == (1, {"abs-of-neg": 1}, 1)


@pytest.mark.parametrize(
    ("body", "outputs", "reason"),
    [
        ("%n = tf.Neg(%x)\n%y = tf.Abs(%n)\n%z = tf.Tanh(%n)", "%y, %z", "'n' is also read by 'z'"),
        ("%n = tf.Neg(%x)\n%y = tf.Abs(%n)", "%y, %n", "'n' is an input or output of the graph"),
        ("%n = tf.Neg(%x)\n%y = tf.Abs(%n)\n%z = tf.Tanh(%x) after(%n)", "%y, %z", "'n' is also read by 'z'"),
    ],
)
def test_an_intermediate_that_something_else_reads_is_not_taken(body: str, outputs: str, reason: str) -> None:
    model, context, done = run(graph(body, outputs), AbsOfNeg())
    assert (done, reasons(context)) == (0, [reason])
    assert model.graph.node("y").input(0).name == "n"


def test_with_keeps_interior_the_intermediate_stays_for_the_others() -> None:
    class Keeping(AbsOfNeg):
        """The same, whoever reads the negation."""

        keeps_interior = True

    body = "%n = tf.Neg(%x)\n%y = tf.Abs(%n)\n%z = tf.Tanh(%n)"
    model, _, done = run(graph(body, "%y, %z"), Keeping())
    assert done == 1
    assert model.graph.node("z").input(0).name == "n"
    assert model.graph.node("y").input(0).name == "x"
    model, _, done = run(graph("%n = tf.Neg(%x)\n%y = tf.Abs(%n)", "%y, %n"), Keeping())
    assert [value.name for value in model.graph.outputs] == ["y", "n"]


def test_an_input_of_the_graph_is_not_replaced() -> None:
    text = """
    graph @main(%a) -> (%y) {
      %x = tf.Placeholder() {dtype = float32, shape = shape[2]}
      %n = tf.Neg(%x)
      %a = tf.Abs(%n)
      %y = tf.Tanh(%a)
    }"""
    _, context, done = run(text, AbsOfNeg(), sound=False)
    assert (done, reasons(context)) == (0, ["it is an input of the graph"])


# Outputs, names, targets --------------------------------------------------------------------------------------


def test_an_output_replaced_by_a_value_with_a_name_of_its_own_becomes_an_identity() -> None:
    model, _, _ = run(graph("%a = tf.Abs(%x)\n%y = tf.Relu(%a)"), DropRelu())
    assert model.graph.node("y").op == "tf.Identity"
    assert [value.name for value in model.graph.outputs] == ["y"]
    model, _, _ = run(graph("%a = tf.Abs(%x)\n%r = tf.Relu(%a)\n%y = tf.Tanh(%r)"), DropRelu())
    assert [node.name for node in model.graph] == ["x", "a", "y"]


class SecondPart(Rule):
    """Not a sound rule: takes the second row."""

    def pattern(self, tf: Any, x: Any) -> Any:
        return tf.Neg(x)

    def rewrite(self, match: Match, edit: Editor) -> Any:
        return edit.node("tf.Unpack", [match.x], {"num": 2, "axis": 0}).outputs[1]


def test_an_output_replaced_by_another_port_keeps_its_name() -> None:
    model, _, _ = run("graph @main(%x: float32[2, 3]) -> (%y) { %y = tf.Neg(%x) }", SecondPart(), sound=False)
    assert [value.name for value in model.graph.outputs] == ["y"]
    assert model.graph.node("y").input(0).index == 1


class Apart(Rule):
    """An identity of two values is those values."""

    def pattern(self, tf: Any, a: Any, b: Any) -> Any:
        return tf.IdentityN(a, b)

    def rewrite(self, match: Match, edit: Editor) -> Any:
        return [match.a, match.b]


def test_nodes_of_several_outputs() -> None:
    body = "%r = tf.Relu(%x)\n%q = tf.Abs(%x)\n%i = tf.IdentityN(%r, %q)\n%y = tf.Sub(%i, %i:1)"
    model, _, _ = run(graph(body), Apart())
    assert [value.name for value in model.graph.node("y").inputs if value] == ["r", "q"]
    model, _, _ = run(graph(body, "%i, %y"), Apart())
    assert [value.name for value in model.graph.outputs] == ["i", "y"]
    _, context, done = run(graph(body, "%i:1, %y"), Apart())
    assert (done, reasons(context)) == (0, ["its output 'i:1' is an output of the graph"])


class FirstOnly(Rule):
    """Replaces the first output and says nothing of the second."""

    def pattern(self, tf: Any, a: Any, b: Any) -> Any:
        return tf.IdentityN(a, b)

    def rewrite(self, match: Match, edit: Editor) -> Any:
        return match.a


def test_an_output_that_nothing_replaces_is_noticed() -> None:
    body = "%r = tf.Relu(%x)\n%i = tf.IdentityN(%r, %x)\n%y = tf.AddV2(%i, %i{})"
    _, context, done = run(graph(body.format(":1")), FirstOnly())
    assert (done, reasons(context)) == (0, ["nothing replaces its output 1, which is in use"])
    assert run(graph(body.format("")), FirstOnly())[2] == 1


def test_targets_keep_their_names() -> None:
    head = " targets(%a)"
    body = "%n = tf.Neg(%x)\n%a = tf.Abs(%n)\n%y = tf.Tanh(%x)"
    model, _, done = run(graph(body, head=head), AbsOfNeg())
    assert (done, [node.name for node in model.graph.targets]) == (1, ["a"])
    body = "%n = tf.Abs(%x)\n%a = tf.Relu(%n)\n%y = tf.Tanh(%x)"
    _, context, done = run(graph(body, head=head), DropRelu())
    assert (done, reasons(context)) == (0, ["it is a target of the graph"])


def test_control_outputs_of_functions_keep_their_names() -> None:
    text = """
    graph @main(%x: float32[2]) -> (%y) {
      %y = tf.PartitionedCall(%x) {Tin = [float32], Tout = [float32], f = @f}
    }
    function @f(a = %a: float32[2]) -> (r = %r) control_outputs(done = %d) {
      %n = tf.Neg(%a)
      %d = tf.Abs(%n)
      %r = tf.Tanh(%a)
    }
    """
    model, _, done = run(text, AbsOfNeg())
    function = model.functions["f"]
    assert done == 1
    assert [function.control_outputs["done"]] == list(function.targets)


# Control dependencies and frames ------------------------------------------------------------------------------


def test_waits_pass_to_the_replacement_in_both_directions() -> None:
    body = """
      %g = tf.NoOp()
      %h = tf.NoOp()
      %n = tf.Neg(%x) after(%g)
      %a = tf.Abs(%n) after(%h)
      %l = tf.NoOp() after(%a)
      %y = tf.Tanh(%a) after(%l)
    """
    model, _, done = run(graph(body), AbsOfNeg())
    assert done == 1
    assert {node.name for node in model.graph.node("a").control_inputs} == {"g", "h"}
    assert [node.name for node in model.graph.node("l").control_inputs] == ["a"]


def test_without_a_new_node_nobody_could_wait() -> None:
    body = "%g = tf.NoOp()\n%a = tf.Abs(%x)\n%r = tf.Relu(%a) after(%g)\n%y = tf.Tanh(%r)"
    _, context, done = run(graph(body), DropRelu())
    assert (done, reasons(context)) == (0, ["it waits for 'g'"])


V1 = """
graph @main(%x: float32[2, 3], %p: bool[]) -> (%y) {{
  %switch = tf.Switch(%x, %p)
  {body}
  %y = tf.Merge(%switch, %r) {{N = 2}}
}}
"""


def test_new_constants_stay_in_the_branch_of_what_they_replace() -> None:
    inside = "%t = tf.Tanh(%switch:1)\n%r = tf.AddV2(%t, %t)"
    model, _, done = run(V1.format(body=inside), Doubled())
    assert done == 1
    assert [node.name for node in model.graph.node("two").control_inputs] == ["t"]
    _, context, done = run(V1.format(body="%r = tf.AddV2(%switch:1, %switch:1)"), Doubled())
    assert (done, reasons(context)) == (0, ["a constant in its place would leave its v1 loop or branch"])


def test_an_anchor_of_a_branch_is_not_replaced_by_the_switch() -> None:
    class DropTanh(Rule):
        """Not a sound rule."""

        def pattern(self, tf: Any, x: Any) -> Any:
            return tf.Tanh(x)

        def rewrite(self, match: Match, edit: Editor) -> Any:
            return match.x

    body = "%t = tf.Tanh(%switch:1)\n%k = tf.Const() {{value = float32[] 2.0}} after(%t)\n%r = tf.Mul(%switch:1, %k)"
    _, context, done = run(V1.format(body=body.format()), DropTanh(), sound=False)
    assert (done, reasons(context)) == (0, ["it anchors control dependencies of a v1 branch"])
