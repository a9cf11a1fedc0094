"""The grammar of --transforms, with the tool's own cases."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt import UsageError
from graphopt.transforms.grammar import Transform, parse_transforms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("foo", [("foo", {})]),
        ("foo bar", [("foo", {}), ("bar", {})]),
        ("foo() bar()", [("foo", {}), ("bar", {})]),
        ("foo()bar", [("foo", {}), ("bar", {})]),
        ("foo(bob_something=sue)", [("foo", {"bob_something": ["sue"]})]),
        ("bar(a=1, b=2, a=3)", [("bar", {"a": ["1", "3"], "b": ["2"]})]),
        ('bar(a="1", b="1,2,3", a=3)', [("bar", {"a": ["1", "3"], "b": ["1,2,3"]})]),
        ("\\\n", []),
        ("", []),
        (" \t\n ", []),
        ("foo \\\n  bar(a=1, \\\n b=2)\\\n", [("foo", {}), ("bar", {"a": ["1"], "b": ["2"]})]),
        ("foo(\n  a=1 ,\n  b = 2\n)".replace("b = 2", "b=2"), [("foo", {"a": ["1"], "b": ["2"]})]),
        (r'foo(a="say \"x\" \\")', [("foo", {"a": ['say "x" \\']})]),
        ("set_device(device=/job:w/device:GPU:0)", [("set_device", {"device": ["/job:w/device:GPU:0"]})]),
        ("remove_attribute(op_name=*, attribute_name=_class)", [
            ("remove_attribute", {"op_name": ["*"], "attribute_name": ["_class"]})
        ]),
    ],
)  # fmt: skip
def test_what_is_read(text: str, expected: list) -> None:
    assert parse_transforms(text) == [Transform(*item) for item in expected]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("foo, bar", "looking for a transform's name, but found ', bar'"),
        ("(a=1)", "looking for a transform's name, but found '(a=1)'"),
        ("foo(a=1", "the arguments of 'foo' are not closed"),
        ("foo(", "the arguments of 'foo' are not closed"),
        ("foo(=1)", "looking for an argument's name, but found '=1)'"),
        ("foo(a)", "looking for '=', but found ')'"),
        ("foo(a=)", "looking for a value, but found ')'"),
        ("foo(a=", "looking for a value, but found 'the end'"),
        ('foo(a="1', "the quotes before '1' are not closed"),
    ],
)
def test_what_is_not_read(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=re.escape(reason)):
        parse_transforms(text)


NAMES = st.from_regex(r"[A-Za-z0-9_]+", fullmatch=True)
VALUES = st.text(st.characters(codec="utf-8"), max_size=20)


@given(st.lists(st.tuples(NAMES, st.lists(st.tuples(NAMES, VALUES), max_size=4)), max_size=4))
def test_everything_quoted_comes_back(items: list) -> None:
    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    text = " ".join(f"{name}({', '.join(f'{key}={quoted(value)}' for key, value in pairs)})" for name, pairs in items)
    found = parse_transforms(text)
    assert [item.name for item in found] == [name for name, _ in items]
    for item, (_, pairs) in zip(found, items, strict=True):
        assert [value for values in item.arguments.values() for value in values] == [
            value for key in dict.fromkeys(key for key, _ in pairs) for other, value in pairs if other == key
        ]


@given(st.text(max_size=60))
def test_no_text_hangs_or_fails_otherwise(text: str) -> None:
    try:
        found = parse_transforms(text)
    except UsageError:
        return
    assert all(item.name for item in found)


GIVEN = Transform("foo", {"one": ["7"], "two": ["1", "2"], "word": ["x"], "yes": ["TRUE"], "no": ["0"]})


def test_typed_arguments() -> None:
    assert GIVEN.string("word") == "x"
    assert GIVEN.string("absent", "default") == "default"
    assert GIVEN.integer("one", 1) == 7
    assert GIVEN.integer("absent", 5) == 5
    assert (GIVEN.boolean("yes", False), GIVEN.boolean("no", True), GIVEN.boolean("absent", True)) == (
        True,
        False,
        True,
    )
    assert (GIVEN.strings("two"), GIVEN.strings("absent")) == (["1", "2"], [])


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        (lambda: GIVEN.string("absent"), "transform 'foo' needs an argument 'absent'"),
        (lambda: GIVEN.string("two"), "transform 'foo' takes one 'two', not 2"),
        (lambda: GIVEN.integer("word", 1), "argument 'word' must be a whole number, not 'x'"),
        (lambda: GIVEN.integer("two", 1), "takes one 'two'"),
        (lambda: GIVEN.boolean("word", True), "argument 'word' must be true or false, not 'x'"),
    ],
)
def test_typed_arguments_that_do_not_fit(read, reason: str) -> None:
    with pytest.raises(UsageError, match=re.escape(reason)):
        read()


@pytest.mark.parametrize(
    ("given", "expected"), [({}, False), ({"ignore_errors": ["true"]}, True), ({"ignore_errors": ["false"]}, False)]
)
def test_ignoring_errors(given: dict, expected: bool) -> None:
    assert Transform("foo", given).ignores_errors is expected


def test_ignoring_errors_in_between() -> None:
    with pytest.raises(UsageError, match="ignore_errors should be true or false, found 'foo'"):
        _ = Transform("foo", {"ignore_errors": ["foo"]}).ignores_errors
