"""The driver of rules: rules with bugs, exactness, bounds, order, growth, and what a rule says of itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from engine_rules import AbsOfNeg, Doubled, DropRelu, graph, reasons, run

from graphopt.ir.graph import Graph
from graphopt.ir.text import parse_model, print_model
from graphopt.ir.types import INT32
from graphopt.ir.verifier import verify
from graphopt.passes import ANY, Editor, Exactness, Match, PassContext, PassError, Rule, apply_rules, known
from graphopt.passes.rewriter import explain

# Wrong rules --------------------------------------------------------------------------------------------------


def fails_with(rewrite: Callable[[Match, Editor], Any], message: str, error: type[Exception] = PassError) -> None:
    class Wrong(Rule):
        """A rule with a bug."""

        def pattern(self, tf: Any, x: Any) -> Any:
            return tf.Neg(x)

        def rewrite(self, match: Match, edit: Editor) -> Any:
            return rewrite(match, edit)

    model = parse_model("graph @main(%x: float32[2, 3]) -> (%y) {\n%n = tf.Neg(%x)\n%y = tf.Relu(%n)\n}")
    before = print_model(model)
    with pytest.raises(error, match=message):
        apply_rules(model.graph, [Wrong()], PassContext())
    assert print_model(model) == before
    verify(model)


def test_another_element_type_names_the_rule_and_changes_nothing() -> None:
    def cast(match: Match, edit: Editor) -> Any:
        return edit.value("tf.Cast", match.x, SrcT=match.x.dtype, DstT=INT32)

    fails_with(cast, r"rule 'wrong' would replace 'n' of type float32\[\*\] by a value of type int32\[2, 3\]")


def test_another_shape_names_the_rule_and_changes_nothing() -> None:
    model = parse_model(
        "graph @main(%x: float32[2, 3]) -> (%y) {\n%y = tf.AddV2(%x, %x) {T = float32} : float32[2, 3]\n}"
    )
    before = print_model(model)

    class Narrow(Doubled):
        """A rule with a bug."""

        def rewrite(self, match: Match, edit: Editor) -> Any:
            return edit.hold(np.zeros((2, 4), np.float32))

    with pytest.raises(PassError, match=r"rule 'narrow' would replace 'y' of type float32\[2, 3\]"):
        apply_rules(model.graph, [Narrow()], PassContext())
    assert print_model(model) == before


def test_too_many_values_or_a_strangers_change_nothing() -> None:
    other = parse_model("graph @main(%z: float32[2, 3]) -> () {}").graph.inputs[0]
    fails_with(lambda match, edit: [match.x, match.x], "rule 'wrong' gives 2 values for the 1 outputs of 'n'")
    fails_with(lambda match, edit: other, "rule 'wrong' would replace 'n' by 'z', which is no value of the graph")


def test_an_exception_in_a_rule_leaves_the_graph_as_it_was() -> None:
    def stumble(match: Match, edit: Editor) -> Any:
        edit.value("tf.Abs", match.x)
        edit.hold(np.ones(3, np.float32), "spare")
        raise ZeroDivisionError("halfway")

    fails_with(stumble, "halfway", ZeroDivisionError)


def test_rules_without_pattern_or_rewrite() -> None:
    with pytest.raises(TypeError, match="Rule has no pattern"):
        Rule().pattern()
    fails_with(lambda match, edit: Rule().rewrite(match, edit), "Rule has no rewrite", TypeError)


def test_what_fails_on_a_graph_that_contradicts_itself_is_refused() -> None:
    class Fragile(Rule):
        """Trusts the attribute."""

        def pattern(self, tf: Any, x: Any) -> Any:
            return tf.LeakyRelu(x, attributes=ANY)

        def check(self, match: Match) -> str | None:
            return "steep" if match.root.attrs["alpha"] > 1 else None

        def rewrite(self, match: Match, edit: Editor) -> Any:
            return None

    model = parse_model("graph @main(%x: float32[2]) -> (%y) {\n%y = tf.LeakyRelu(%x)\n}")
    model.graph.node("y").attrs["alpha"] = b"text"
    context = PassContext()
    assert apply_rules(model.graph, [Fragile()], context) == 0
    assert reasons(context)[0].startswith("what it matches contradicts itself: 'y' ")


class MinusToAdd(Rule):
    """`x - y` is `x + -y`."""

    def pattern(self, tf: Any, x: Any, y: Any) -> Any:
        return tf.Sub(x, y)

    def rewrite(self, match: Match, edit: Editor) -> Any:
        return edit.value("tf.AddV2", match.x, edit.value("tf.Neg", match.y))


class AddToMinus(Rule):
    """`x + -y` is `x - y`."""

    def pattern(self, tf: Any, x: Any, y: Any) -> Any:
        return tf.AddV2(x, tf.Neg(y))

    def rewrite(self, match: Match, edit: Editor) -> Any:
        return edit.value("tf.Sub", match.x, match.y)


def test_rules_that_undo_each_other_are_named() -> None:
    model = parse_model(graph("%t = tf.Tanh(%x)\n%y = tf.Sub(%x, %t)"))
    with pytest.raises(
        PassError, match=r"rewriting does not end: \d+ rewrites of \d nodes; busiest rules: \S+-to-\S+, \S+"
    ):
        apply_rules(model.graph, [MinusToAdd(), AddToMinus()], PassContext())
    assert run(graph("%t = tf.Tanh(%x)\n%y = tf.Sub(%x, %t)"), MinusToAdd())[2] == 1


# Weights, exactness, limits -----------------------------------------------------------------------------------


class DoubleWeights(Rule):
    """`(x @ w) * 2` is `x @ (w * 2)`."""

    exactness = Exactness.REASSOCIATING

    def pattern(self, tf: Any, x: Any, w: Any, two: Any) -> Any:
        return tf.Mul(tf.MatMul(x, known(w), attributes=ANY, name="product"), known(two, lambda held: held.size == 1))

    def rewrite(self, match: Match, edit: Editor) -> Any:
        scaled = edit.hold(match.array("w") * match.scalar("two"), match.w.node.name)
        return edit.value("tf.MatMul", match.x, scaled, like=match.product)


WEIGHTS = """
  %w = tf.Const() {value = float32[3, 2] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}
  %k = tf.Const() {value = float32[] 2.0}
  %product = tf.MatMul(%x, %w)
  %y = tf.Mul(%product, %k)
"""


def test_shared_weights_are_not_changed_for_their_other_readers() -> None:
    model, _, done = run(graph(WEIGHTS + "%z = tf.MatMul(%x, %w)", "%y, %z"), DoubleWeights())
    assert done == 1
    assert model.graph.node("w").attrs["value"].numpy().sum() == 21
    assert model.graph.node("z").input(1).name == "w"
    made = model.graph.node("y").input(1).node
    assert (made.name, made.attrs["value"].numpy().sum()) == ("w_1", 42)


def test_a_name_that_becomes_free_is_the_new_nodes() -> None:
    model, _, _ = run(graph(WEIGHTS), DoubleWeights())
    assert model.graph.node("y").input(1).name == "w"
    assert model.graph.node("w").origins == ("y", "product", "w", "k")


def test_the_class_of_exactness_is_the_users() -> None:
    _, context, done = run(graph(WEIGHTS), DoubleWeights(), exactness=Exactness.EXACT)
    assert (done, reasons(context)) == (0, ["it is reassociating, beyond what was allowed"])
    for allowed in (Exactness.REASSOCIATING, Exactness.APPROXIMATE):
        assert run(graph(WEIGHTS), DoubleWeights(), exactness=allowed)[2] == 1


def test_fast_math_is_the_users() -> None:
    class Lossy(DropRelu):
        """The same, as if it lost NaN."""

        fast_math = True

    text = graph("%a = tf.Abs(%x)\n%r = tf.Relu(%a)\n%y = tf.Tanh(%r)")
    _, context, done = run(text, Lossy())
    assert (done, reasons(context)) == (0, ["it may lose NaN and Inf, and fast math was not asked for"])
    assert run(text, Lossy(), fast_math=True)[2] == 1


def test_the_limit_stops_all_rewriting() -> None:
    body = (
        "\n".join(f"%n{i} = tf.Neg(%x)\n%a{i} = tf.Abs(%n{i})" for i in range(5))
        + "\n%y = tf.AddN(%a0, %a1, %a2, %a3, %a4)"
    )
    for limit in range(6):
        assert run(graph(body), AbsOfNeg(), limit=limit)[2] == limit
    assert run(graph(body), AbsOfNeg(), limit=None)[2] == 5


def test_what_a_rewrite_makes_is_looked_at_again() -> None:
    body = "%n0 = tf.Neg(%x)\n" + "\n".join(f"%n{i + 1} = tf.Neg(%n{i})" for i in range(20)) + "\n%y = tf.Abs(%n20)"
    model, _, done = run(graph(body), AbsOfNeg())
    assert done == 21
    assert [node.name for node in model.graph] == ["x", "y"]


def test_rules_come_in_order_and_a_refusal_lets_the_next_one_try() -> None:
    class Never(AbsOfNeg):
        """Refuses."""

        def check(self, match: Match) -> str | None:
            return "not today"

    class GivesUp(AbsOfNeg):
        """Builds something and thinks better of it."""

        def rewrite(self, match: Match, edit: Editor) -> Any:
            edit.value("tf.Exp", match.x)
            return None

    text = graph("%n = tf.Neg(%x)\n%a = tf.Abs(%n)\n%y = tf.Tanh(%a)")
    model, context, done = run(text, Never(), GivesUp(), AbsOfNeg())
    assert (done, context.log.rules) == (1, {"abs-of-neg": 1})
    assert list(context.log.refusals.items()) == [(("never", "not today"), ["a"])]
    assert [node.name for node in model.graph] == ["x", "a", "y"]


def test_random_numbers_that_become_useless_go_and_effects_stay() -> None:
    class Constant(Rule):
        """Not a sound rule: zero, whatever the operands."""

        def pattern(self, tf: Any, x: Any, y: Any) -> Any:
            return tf.Sub(x, y)

        def rewrite(self, match: Match, edit: Editor) -> Any:
            return match.x

    body = """
      %shape = tf.Const() {value = int32[2] [2, 3]}
      %drawn = tf.RandomUniform(%shape) {dtype = float32}
      %printed = tf.Print(%drawn, %x) {U = [float32]}
      %a = tf.Sub(%x, %drawn)
      %b = tf.Sub(%a, %printed)
      %y = tf.Tanh(%b)
    """
    model, _, done = run(graph(body), Constant(), sound=False)
    assert done == 2
    assert [node.name for node in model.graph] == ["x", "shape", "drawn", "printed", "y"]
    model, _, _ = run(
        graph(body.replace("%printed = tf.Print(%drawn, %x) {U = [float32]}", "%printed = tf.Neg(%drawn)")),
        Constant(),
        sound=False,
    )
    assert [node.name for node in model.graph] == ["x", "y"]


# Growing, explaining ------------------------------------------------------------------------------------------


class Chain(Rule):
    """Any number of negations in a row, taken two by two."""

    def pattern(self, tf: Any, x: Any) -> Any:
        return tf.Neg(x)

    def grow(self, match: Match) -> Match | str | None:
        node, chain = match.x.node, []
        while node.op == "tf.Neg":
            chain.append(node)
            node = node.input(0).node
        if not chain:
            return None
        if len(chain) % 2 == 0:
            return f"{len(chain) + 1} of them are one"
        return match.grown(chain, source=chain[-1].input(0))

    def rewrite(self, match: Match, edit: Editor) -> Any:
        return match.source


def test_a_rule_may_take_in_more_than_its_pattern_says() -> None:
    chain = lambda count: "\n".join(f"%n{i + 1} = tf.Neg(%n{i})" for i in range(count)).replace("%n0)", "%x)")  # noqa: E731
    model, _, done = run(graph(chain(4) + "\n%y = tf.Tanh(%n4)"), Chain())
    assert [node.name for node in model.graph] == ["x", "y"]
    assert done >= 1
    single, context, done = run(graph("%n1 = tf.Neg(%x)\n%y = tf.Tanh(%n1)"), Chain())
    assert (done, reasons(context)) == (0, [])
    assert len(single.graph) == 3


def test_a_rule_explains_itself() -> None:
    body = """
      %n = tf.Neg(%x)
      %a = tf.Abs(%n)
      %m = tf.Neg(%x)
      %b = tf.Abs(%m)
      %c = tf.Abs(%x)
      %y = tf.AddN(%a, %b, %c, %m)
    """
    nodes = parse_model(graph(body)).graph
    rule = AbsOfNeg()
    assert explain(rule, nodes.node("a")) == "applies"
    assert explain(rule, nodes.node("b")) == "refuses: 'm' is also read by 'y'"
    assert explain(rule, nodes.node("c")) == "does not match: 'x' is tf.Placeholder, not tf.Neg"
    assert explain(rule, nodes.node("y")) == "does not match: 'y' is tf.AddN, not tf.Abs"
    assert explain(Chain(), nodes.node("n")) == "does not match: what surrounds the pattern is not what the rule is for"
    assert len(nodes) == 7


def test_the_editor_builds_with_inferred_types_and_attributes() -> None:
    seen: dict[str, Any] = {}

    class Build(Rule):
        """Builds."""

        def pattern(self, tf: Any, x: Any) -> Any:
            return tf.Tanh(x)

        def rewrite(self, match: Match, edit: Editor) -> Any:
            axis = edit.hold(np.array([1], np.int32))
            total = edit.value("tf.Sum", match.x, axis, name="total", keep_dims=True)
            seen.update(
                type=str(total.type), attrs=total.node.attrs, origins=total.node.origins, device=axis.node.device
            )
            return edit.value("tf.Mul", match.x, total)

    text = graph('%y = tf.Tanh(%x) device("/cpu:1") origins("a", "b")')
    model, _, _ = run(text, Build(), sound=False)
    assert seen["type"] == "float32[2, 1]"
    assert seen["attrs"]["keep_dims"] is True
    assert (seen["origins"], seen["device"]) == (("a", "b"), "/cpu:1")
    assert str(model.graph.outputs[0].type) == "float32[2, 3]"


def test_work_is_linear_in_the_graph() -> None:
    counts: list[int] = []

    class Counting(AbsOfNeg):
        """Counts its matches."""

        def check(self, match: Match) -> str | None:
            counts.append(1)
            return None

    size = 500
    lines = ["%n0 = tf.Neg(%x)", "%a0 = tf.Abs(%n0)"]
    for place in range(1, size):
        lines += [f"%n{place} = tf.Neg(%a{place - 1})", f"%a{place} = tf.Abs(%n{place})"]
    done = run(graph("\n".join([*lines, f"%y = tf.Tanh(%a{size - 1})"])), Counting())[2]
    assert done == size
    assert len(counts) <= 3 * size


def test_a_graph_of_its_own_is_enough() -> None:
    assert apply_rules(Graph(), [AbsOfNeg()], PassContext()) == 0
