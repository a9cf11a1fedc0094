"""Patterns: what the functions that describe them may say."""

from __future__ import annotations

from typing import Any

import pytest

from graphopt.ir import UsageError
from graphopt.passes import ANY, either, known, maybe, rest, where
from graphopt.passes.patterns import Either, Operation, Rest, Wildcard, build_pattern, root_operators


def build(function: Any) -> Operation:
    pattern = build_pattern(function)
    assert isinstance(pattern, Operation)
    return pattern


def test_parameters_are_dialects_and_wildcards() -> None:
    pattern = build(lambda tf, x, weights: tf.MatMul(x, known(weights), name="product"))
    assert pattern.ops == ("tf.MatMul",)
    assert pattern.name == "product"
    first, second = pattern.inputs
    assert isinstance(first, Wildcard)
    assert isinstance(second, Wildcard)
    assert (first.name, first.known, second.name, second.known) == ("x", False, "weights", True)
    assert build(lambda tfl, x: tfl.RELU(x)).ops == ("tfl.RELU",)


def test_commutative_operators_are_known_from_the_table() -> None:
    assert build(lambda tf, x, y: tf.Mul(x, y)).commutative
    assert build(lambda tf, x, y: tf.any_of("Add", "AddV2")(x, y)).commutative
    assert not build(lambda tf, x, y: tf.Sub(x, y)).commutative
    assert not build(lambda tf, x, y: tf.any_of("Mul", "Sub")(x, y)).commutative


def test_attributes_not_mentioned_are_strict() -> None:
    def pattern(tf: Any, x: Any, w: Any, **more: Any) -> Operation:
        made: Operation = tf.Conv2D(x, w, strides=[1, 1, 1, 1], padding="SAME", **more)
        return made

    strict = build(lambda tf, x, w: pattern(tf, x, w)).strict
    assert {"data_format", "dilations", "explicit_paddings"} <= strict
    assert not strict & {"T", "strides", "padding"}
    assert build(lambda tf, x, w: pattern(tf, x, w, attributes=ANY)).strict == frozenset()


def test_an_attribute_without_default_must_be_mentioned() -> None:
    with pytest.raises(
        UsageError, match=r"pattern of tf\.Conv2D: attribute 'strides' has no default; mention it or say"
    ):
        build(lambda tf, x, w: tf.Conv2D(x, w, padding="SAME"))


def test_roots() -> None:
    assert root_operators(build_pattern(lambda tf, x: tf.any_of("Add", "AddV2")(x, x))) == ("tf.Add", "tf.AddV2")
    assert root_operators(build_pattern(lambda tf, x: either(tf.Neg(x), tf.Abs(x)))) == ("tf.Neg", "tf.Abs")
    for bad in (lambda tf, x: x, lambda tf, x: either(tf.Neg(x), x)):
        with pytest.raises(UsageError, match="a pattern must be rooted at an operation, not at a wildcard"):
            root_operators(build_pattern(bad))


def test_predicates_add_up() -> None:
    pattern = known(where(Wildcard("w"), bool), bool)
    assert (pattern.known, pattern.predicate, pattern.tensor_predicate) == (True, bool, bool)
    pattern = where(known(Wildcard("w"), bool), bool)
    assert (pattern.known, pattern.predicate, pattern.tensor_predicate) == (True, bool, bool)


def test_optional_nodes_and_other_outputs() -> None:
    pattern = build_pattern(lambda tf, x: tf.Neg(maybe(tf.Identity, x)))
    assert isinstance(pattern, Operation)
    inner = pattern.inputs[0]
    assert isinstance(inner, Either)
    assert [type(item) for item in inner.alternatives] == [Operation, Wildcard]
    second = build(lambda tf, x: tf.Split(x, rest("parts"), attributes=ANY).output(1))
    assert second.index == 1
    assert isinstance(second.inputs[1], Rest)


def test_special_names_of_python_are_no_operators() -> None:
    with pytest.raises(AttributeError):
        build_pattern(lambda tf: tf.__wrapped__)
    assert repr(ANY) == "ANY"
