"""Matching: operand orders, alternatives, optional and variadic parts, attributes, and how far an attempt came."""

from __future__ import annotations

from typing import Any

import pytest

from graphopt.ir import UsageError
from graphopt.ir.text import parse_graph
from graphopt.passes import ANY, Match, either, known, maybe, rest, where
from graphopt.passes.matcher import match_node, required_operators
from graphopt.passes.patterns import Wildcard, build_pattern

GRAPH = parse_graph("""
graph @main(%x: float32[2, 3], %z: float32[2, 3]) -> (%y, %parts:1, %cat) {
  %c = tf.Const() {value = float32[3] [1.0, 2.0, 3.0]}
  %k = tf.Const() {value = float32[] 2.0}
  %ki = tf.Identity(%k)
  %relu = tf.Relu(%x)
  %right = tf.Mul(%relu, %c)
  %left = tf.Mul(%c, %relu)
  %square = tf.Mul(%relu, %relu)
  %both = tf.Mul(%left, %right)
  %diff = tf.Sub(%c, %relu)
  %id = tf.Identity(%relu)
  %direct = tf.Neg(%relu)
  %through = tf.Neg(%id)
  %scaled = tf.Mul(%relu, %ki)
  %axis = tf.Const() {value = int32[] 1}
  %parts = tf.Split(%axis, %x) {num_split = 3}
  %second = tf.Neg(%parts:1)
  %cat = tf.ConcatV2(%x, %z, %relu, %axis)
  %one = tf.ConcatV2(%x, %axis)
  %soft = tf.LeakyRelu(%x) {alpha = 0.5}
  %plain = tf.LeakyRelu(%x)
  %keep = tf.Sum(%x, %axis) {keep_dims = true}
  %drop = tf.Sum(%x, %axis)
  %y = tf.AddN(%both, %square, %diff)
}
""")


def match(name: str, function: Any) -> Match | None:
    return match_node(build_pattern(function), GRAPH.node(name))


def found(name: str, function: Any) -> Match:
    result = match(name, function)
    assert result is not None
    return result


# Operand orders -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["right", "left"])
def test_commutative_operands_match_in_either_order(name: str) -> None:
    result = found(name, lambda tf, x, c: tf.Mul(tf.Relu(x), known(c)))
    assert (result.x.name, result.c.name) == ("x", "c")
    assert [node.name for node in result.nodes] == [name, "relu"]


def test_other_operands_match_in_their_order() -> None:
    assert match("diff", lambda tf, x, c: tf.Sub(tf.Relu(x), c)) is None
    assert match("diff", lambda tf, x, c: tf.Sub(c, tf.Relu(x))) is not None


def test_orders_are_tried_together_across_levels() -> None:
    result = found("both", lambda tf, x, c: tf.Mul(tf.Mul(tf.Relu(x), c), tf.Mul(tf.Relu(x), c)))
    assert [node.name for node in result.nodes] == ["both", "left", "relu", "right"]


def test_the_same_wildcard_is_the_same_value() -> None:
    assert match("square", lambda tf, x: tf.Mul(x, x)) is not None
    assert match("right", lambda tf, x: tf.Mul(x, x)) is None
    assert match("both", lambda tf, a, b: tf.Mul(tf.Mul(a, b), tf.Mul(b, a))) is not None


def test_a_name_of_a_node_is_the_same_node() -> None:
    twice = lambda tf, x: tf.Mul(tf.Relu(x, name="r"), tf.Relu(x, name="r"))  # noqa: E731
    assert found("square", twice).r.name == "relu"
    assert match("both", lambda tf, a, b: tf.Mul(tf.Mul(a, b, name="m"), tf.Mul(a, b, name="m"))) is None


# Alternatives, optional and variadic --------------------------------------------------------------------------


def test_alternatives_are_tried_in_order() -> None:
    pattern = lambda tf, x: tf.Neg(either(tf.Relu(x), tf.Identity(x), x))  # noqa: E731
    assert found("direct", pattern).x.name == "x"
    assert found("through", pattern).x.name == "relu"
    assert found("second", pattern).x.name == "parts:1"


def test_alternatives_are_given_up_when_what_follows_does_not_match() -> None:
    pattern = lambda tf, x, a: tf.Mul(either(tf.Mul(a, x), a), either(tf.Mul(x, a), tf.Relu(x)))  # noqa: E731
    result = found("both", pattern)
    assert {result.a.name, result.x.name} == {"c", "relu"}


def test_optional_nodes() -> None:
    pattern = lambda tf, x: tf.Neg(maybe(tf.Identity, tf.Relu(x)))  # noqa: E731
    assert [node.name for node in found("direct", pattern).nodes] == ["direct", "relu"]
    assert [node.name for node in found("through", pattern).nodes] == ["through", "id", "relu"]


def test_any_number_of_inputs() -> None:
    pattern = lambda tf, first, axis: tf.ConcatV2(first, rest("others"), axis)  # noqa: E731
    result = found("cat", pattern)
    assert [value.name for value in result.others] == ["z", "relu"]
    assert result.axis.name == "axis"
    assert found("one", pattern).others == ()
    assert match("one", lambda tf, a, b, axis: tf.ConcatV2(a, b, rest("others"), axis)) is None
    assert match("cat", lambda tf, a, axis: tf.ConcatV2(a, axis)) is None
    assert [value.name for value in found("cat", pattern).captures()] == ["z", "relu", "x", "axis"]


def test_outputs_of_a_node_are_told_apart() -> None:
    split = lambda index: lambda tf, axis, x: tf.Neg(tf.Split(axis, x, num_split=3).output(index))  # noqa: E731
    assert match("second", split(1)) is not None
    assert match("second", split(0)) is None
    assert match("parts", lambda tf, axis, x: tf.Split(axis, x, num_split=3)) is not None
    assert match("parts", lambda tf, axis, x: tf.Split(axis, x, num_split=3).output(3)) is None


# Known values and predicates ----------------------------------------------------------------------------------


def test_known_values_are_seen_through_identities() -> None:
    result = found("scaled", lambda tf, x, k: tf.Mul(x, known(k)))
    assert (result.scalar("k"), result.k.name) == (2.0, "ki")
    assert result.array("k").shape == ()
    assert result.tensor("k") is not None
    assert match("both", lambda tf, x, k: tf.Mul(x, known(k))) is None


def test_predicates_see_tensors_and_values() -> None:
    big = lambda tf, x, c: tf.Mul(x, known(c, lambda held: held.size > 1))  # noqa: E731
    assert match("right", big) is not None
    assert match("scaled", big) is None
    ranked = lambda tf, x: tf.Neg(where(x, lambda value: value.node.op == "tf.Relu"))  # noqa: E731
    assert match("direct", ranked) is not None
    assert match("through", ranked) is None


def test_what_was_not_captured_or_is_not_known() -> None:
    result = found("right", lambda tf, x, c: tf.Mul(x, known(c)))
    assert "x" in result
    assert "nothing" not in result
    with pytest.raises(AttributeError, match="the pattern captures nothing called 'nothing'"):
        _ = result.nothing
    with pytest.raises(UsageError, match="the pattern does not require 'x' to be known"):
        result.array("x")


def test_a_match_may_grow() -> None:
    result = found("direct", lambda tf, x: tf.Neg(x)).grown(
        [GRAPH.node("relu"), GRAPH.node("direct")], more=GRAPH.value("x")
    )
    assert [node.name for node in result.nodes] == ["direct", "relu"]
    assert [node.name for node in result.interior] == ["relu"]
    assert result.more.name == "x"
    assert result.graph is GRAPH


# Attributes ---------------------------------------------------------------------------------------------------


def test_attributes_must_have_their_defaults_unless_mentioned() -> None:
    assert match("plain", lambda tf, x: tf.LeakyRelu(x)) is not None
    assert match("soft", lambda tf, x: tf.LeakyRelu(x)) is None
    assert match("soft", lambda tf, x: tf.LeakyRelu(x, attributes=ANY)) is not None
    assert match("soft", lambda tf, x: tf.LeakyRelu(x, alpha=0.5)) is not None
    assert match("soft", lambda tf, x: tf.LeakyRelu(x, alpha=0.25)) is None
    assert match("soft", lambda tf, x: tf.LeakyRelu(x, alpha=lambda alpha: 0 < alpha < 1)) is not None
    assert match("soft", lambda tf, x: tf.LeakyRelu(x, slope=0.5)) is None
    result = found("plain", lambda tf, x: tf.LeakyRelu(x, name="node"))
    assert result.attrs("node")["alpha"] == pytest.approx(0.2)


@pytest.mark.parametrize(("expected", "matches"), [(True, True), (1, False), (1.0, False), (b"", False), (None, False)])
def test_true_is_neither_1_nor_1_point_0(expected: Any, matches: bool) -> None:
    pattern = lambda tf, x, axis: tf.Sum(x, axis, keep_dims=expected)  # noqa: E731
    assert (match("keep", pattern) is not None) == matches
    assert match("drop", pattern) is None


@pytest.mark.parametrize(
    ("expected", "matches"),
    [
        ([1, 2, 2, 1], True), ((1, 2, 2, 1), True), ([1, 2, 2], False), ([True, 2, 2, True], False),
        ([1.0, 2, 2, 1], False),
        (lambda strides: strides[1] == 2, True),
    ],
)  # fmt: skip
def test_lists_and_strings(expected: Any, matches: bool) -> None:
    graph = parse_graph("""
    graph @main(%x: float32[1, 4, 4, 1], %w: float32[1, 1, 1, 1]) -> (%y) {
      %y = tf.Conv2D(%x, %w) {strides = [1, 2, 2, 1], padding = b"SAME"}
    }""")
    for padding, fits in (("SAME", True), (b"SAME", True), ("VALID", False)):
        pattern = build_pattern(lambda tf, x, w: tf.Conv2D(x, w, strides=expected, padding=padding))  # noqa: B023
        assert (match_node(pattern, graph.node("y")) is not None) == (matches and fits)


# The quick test, and the trace --------------------------------------------------------------------------------


def test_operators_required_among_the_producers() -> None:
    def required(function: Any) -> Any:
        return required_operators(build_pattern(function))

    assert required(lambda tf, x: tf.Neg(x)) == ((),)
    assert required(lambda tf, x: tf.Neg(tf.any_of("Relu", "Relu6")(x))) == ((frozenset({"tf.Relu", "tf.Relu6"}),),)
    (alternative,) = required(lambda tf, x, c: tf.Mul(x, known(c)))
    assert "tf.Const" in alternative[0]
    assert "tf.Identity" in alternative[0]
    assert required(lambda tf, x: tf.Neg(either(tf.Relu(x), x))) == ((),)
    assert required(lambda tf, x: tf.Neg(either(tf.Relu(x), tf.Abs(x)))) == ((frozenset({"tf.Relu", "tf.Abs"}),),)


def test_the_trace_tells_how_far_each_attempt_came() -> None:
    heard: list[tuple[int, str]] = []
    pattern = build_pattern(lambda tf, x, c: tf.Mul(tf.Relu(tf.Abs(x)), known(c)))
    assert match_node(pattern, GRAPH.node("right"), lambda depth, reason: heard.append((depth, reason))) is None
    assert (2, "'x' is tf.Placeholder, not tf.Abs") in heard
    assert (1, "'c' is tf.Const, not tf.Relu") in heard


def test_anonymous_wildcards_capture_nothing() -> None:
    result = found("right", lambda tf: tf.Mul(Wildcard(), known(Wildcard())))
    assert list(result.captures()) == []
