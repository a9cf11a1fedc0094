"""What the Graph Transform Tool's own tests ask of its matching and rewriting, asked of the engine here."""

from __future__ import annotations

import pytest

from graphopt.ir.graph import Graph
from graphopt.ir.model import Model
from graphopt.ir.text import parse_model
from graphopt.ir.verifier import verify
from graphopt.passes import PassContext, Rule, apply_rules
from graphopt.passes.matcher import Match, match_node
from graphopt.passes.patterns import ANY, Dialect, Pattern, Wildcard, build_pattern

BASE = """
graph @main(%placeholder: float32[4]) -> (%output) {
  %a = tf.Const() {value = float32[4] [1.0, 2.0, 3.0, 4.0]}
  %b = tf.Const() {value = float32[4] [5.0, 6.0, 7.0, 8.0]}
  %add = tf.Add(%a, %b)
  %output = tf.Mul(%add, %placeholder)
}
"""


def matches(graph: Graph, function) -> list[Match]:
    pattern = build_pattern(function)
    found = (match_node(pattern, node) for node in graph.topological_order())
    return [match for match in found if match is not None]


def const(tf: Dialect) -> Pattern:
    return tf.Const(attributes=ANY)


@pytest.mark.parametrize(
    ("pattern", "roots"),
    [
        (const, ["a", "b"]),
        (lambda tf, x, y: tf.Add(x, y), ["add"]),
        (lambda tf: tf.Add(const(tf), const(tf)), ["add"]),
        (lambda tf, x: tf.NoSuch(x), []),
        (lambda tf: tf.Mul(tf.Add(const(tf), const(tf)), tf.Placeholder(attributes=ANY)), ["output"]),
        (lambda tf, x, y: tf.any_of("Add", "Mul")(x, y), ["add", "output"]),
    ],
)
def test_matches_in_execution_order(pattern, roots: list[str]) -> None:
    graph = parse_model(BASE).graph
    assert [match.root.name for match in matches(graph, pattern)] == roots


def test_inputs_of_a_match_come_in_order() -> None:
    graph = parse_model(BASE).graph
    (match,) = matches(graph, lambda tf: tf.Mul(tf.Add(const(tf), const(tf)), tf.Placeholder(attributes=ANY)))
    assert [node.name for node in match.nodes] == ["output", "add", "a", "b", "placeholder"]


def test_one_node_read_twice() -> None:
    graph = parse_model("graph @main() -> (%y) { %a = tf.Const() {value = float32[] 1.0} %y = tf.Add(%a, %a) }").graph
    (match,) = matches(graph, lambda tf: tf.Add(const(tf), const(tf)))
    assert [node.name for node in match.nodes] == ["y", "a"]


def test_a_diamond_lists_its_bottom_once() -> None:
    graph = parse_model("""
    graph @main(%x: float32[2]) -> (%first) {
      %fourth = tf.Neg(%x)
      %third = tf.Abs(%fourth)
      %second = tf.Exp(%fourth)
      %first = tf.Add(%second, %third)
    }
    """).graph

    def diamond(tf: Dialect, x: Wildcard) -> Pattern:
        bottom = tf.Neg(x, name="bottom")
        return tf.Add(tf.Exp(bottom), tf.Abs(bottom))

    (match,) = matches(graph, diamond)
    assert sorted(node.name for node in match.nodes) == ["first", "fourth", "second", "third"]


class Overlapping(Rule):
    """The sum of a product and anything becomes a subtraction, whose operands are free for other matches."""

    def pattern(self, tf: Dialect, x: Wildcard, y: Wildcard, z: Wildcard) -> Pattern:
        """Two nodes, so that matches in a chain overlap."""
        return tf.Mul(tf.Mul(x, y), z)

    def rewrite(self, match: Match, edit):
        """One node for two."""
        return edit.value("tf.Sub", match.x, edit.value("tf.Add", match.y, match.z, name="sum"))


def run(model: Model, rule: Rule) -> list[tuple[str, str, list[str]]]:
    apply_rules(model.graph, [rule], PassContext())
    verify(model)
    return [(node.name, node.op_type, [value.name for value in node.inputs if value]) for node in model.graph]


def test_matches_that_are_rewritten_do_not_overlap() -> None:
    model = parse_model("""
    graph @main(%x: float32[2], %y: float32[2]) -> (%c) {
      %a = tf.Mul(%x, %y)
      %b = tf.Mul(%a, %x)
      %c = tf.Mul(%b, %y)
    }
    """)
    found = run(model, Overlapping())
    assert [op for _, op, _ in found].count("Mul") == 1
    assert [name for name, _, _ in found][-1] == "c"


def test_a_node_read_from_outside_is_kept() -> None:
    text = """
    graph @main(%x: float32[2], %y: float32[2]) -> (%b, %z) {
      %a = tf.Mul(%x, %y)
      %b = tf.Mul(%a, %x)
      %z = tf.Neg(%a)
    }
    """
    model = parse_model(text)
    assert [op for _, op, _ in run(model, Overlapping())] == ["Placeholder", "Placeholder", "Mul", "Mul", "Neg"]


class Doubled(Rule):
    """Every negation gets an identity behind it that has its name."""

    def pattern(self, tf: Dialect, x: Wildcard) -> Pattern:
        """One node."""
        return tf.Neg(x, name="negation")

    def check(self, match: Match) -> str | None:
        """Once for each."""
        return "done" if match.negation.name.endswith("before_identity") else None

    def rewrite(self, match: Match, edit):
        """The node under another name, and an identity."""
        value = edit.value("tf.Neg", match.x, name=f"{match.root.name}_before_identity")
        return edit.value("tf.Identity", value)


def test_replacing_every_node_keeps_the_wiring() -> None:
    model = parse_model("""
    graph @main(%x: float32[2]) -> (%b) {
      %a = tf.Neg(%x)
      %b = tf.Neg(%a)
    }
    """)
    assert run(model, Doubled()) == [
        ("x", "Placeholder", []),
        ("a_before_identity", "Neg", ["x"]),
        ("a", "Identity", ["a_before_identity"]),
        ("b_before_identity", "Neg", ["a"]),
        ("b", "Identity", ["b_before_identity"]),
    ]
