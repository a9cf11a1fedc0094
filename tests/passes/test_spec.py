"""Pipelines as text: what parses, what is said of what does not, and the round trip of every pass."""

from __future__ import annotations

import dataclasses
import enum
import types
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.ir import UsageError
from graphopt.passes import Pass, find_pass, format_pipeline, parse_pipeline, pass_names, preset
from graphopt.passes.fold.fold_constants import FoldConstants
from graphopt.passes.presets import PRESETS
from graphopt.passes.spec import format_pass, make_pass


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Values that an option of this type may have."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return st.one_of([st.none() if choice is type(None) else values_of(choice) for choice in arguments])
    if origin is tuple:
        return st.lists(values_of(arguments[0]), max_size=4).map(tuple)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return st.sampled_from(hint)
    plain: dict[Any, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.integers(),
        float: st.floats(allow_nan=False),
        str: st.one_of(
            st.text(), st.sampled_from(["true", "none", "", "-1", "1e5", "a,b", 'q"', "[x]", "{", "é\\n", " "])
        ),
    }
    return plain[hint]


@st.composite
def passes(draw: st.DrawFn) -> Pass:
    cls = find_pass(draw(st.sampled_from(pass_names())))
    hints = get_type_hints(cls)
    names = [option.name for option in cls.options()]
    chosen = draw(st.lists(st.sampled_from(names), unique=True)) if names else []
    try:
        return cls(**{name: draw(values_of(hints[name])) for name in chosen})
    except UsageError:  # a pass may refuse options that make no sense together
        return cls()


@given(st.lists(passes(), max_size=4))
def test_text_and_passes_round_trip(pipeline: list[Pass]) -> None:
    text = format_pipeline(pipeline)
    assert parse_pipeline(text) == tuple(pipeline)
    assert format_pipeline(parse_pipeline(text)) == text


@pytest.mark.parametrize("name", pass_names())
def test_every_option_of_every_pass_round_trips(name: str) -> None:
    cls = find_pass(name)
    assert cls.name == name
    assert dataclasses.is_dataclass(cls)
    assert cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert parse_pipeline(name) == (cls(),)
    assert str(cls()) == name
    hints = get_type_hints(cls)
    for option in cls.options():
        values_of(hints[option.name])  # of a type that text can say


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_what_they_say(name: str) -> None:
    assert format_pipeline(preset(name)) == PRESETS[name]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("sort", ("sort",)),
        (" sort , simplify ", ("sort", "simplify")),
        ("sort{}", ("sort",)),
        ("sort{canonical}", ("sort{canonical=true}",)),
        ("sort{canonical=false}", ("sort",)),
        ("fold-constants{max_bytes=8}", ("fold-constants{max-bytes=8}",)),
        ("fold-constants{exclude-operators=Add}", ("fold-constants{exclude-operators=[Add]}",)),
        (
            "fold-constants{exclude-operators=[Add,Mul,],grow,}",
            ("fold-constants{grow=true,exclude-operators=[Add,Mul]}",),
        ),
        ('strip-unused{shape="1,2"}', ('strip-unused{shape="1,2"}',)),
        ("strip-unused{type=none}", ("strip-unused",)),
        ('strip-unused{type="none"}', ('strip-unused{type="none"}',)),
        ("inline-functions{levels=2}", ("inline-functions{levels=2}",)),
    ],
)
def test_what_text_means(text: str, expected: tuple[str, ...]) -> None:
    assert tuple(format_pass(item) for item in parse_pipeline(text)) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("sort,", "a pass must follow the last ','"),
        (",sort", "expected a name, found ','"),
        ("sort simplify", "expected ',' before 'simplify'"),
        ("sort{", "expected a name, found the end"),
        ("sort{canonical", "expected ',' or '}' after option 'canonical'"),
        ("sort{canonical=", "a value must follow '='"),
        ("sort{canonical=}", "expected a value, found '}'"),
        ("sort{canonical,canonical=false}", "option 'canonical' is given twice"),
        ("sort{canonicl}", "pass 'sort' has no option 'canonicl'; did you mean 'canonical'"),
        ("simplify{zzz}", "pass 'simplify' has no option 'zzz'; it takes none"),
        ("sort{canonical=7}", "expected true or false, not '7'"),
        ("fold-constants{max-bytes=many}", "expected a whole number, not 'many'"),
        ("fold-constants{max-bytes=1.5}", "expected a whole number, not '1.5'"),
        ("fold-constants{max-bytes}", "expected int, not True"),
        ("fold-constants{exclude-nodes=[a", "a list must end with ']'"),
        ("fold-constants{exclude-nodes=[a b]}", "a list must end with ']'"),
        ("fold-constants{exclude-nodes=[[a]]}", "a list must end with ']'"),
        ('sort{"canonical"}', "expected a name, found '\"canonical\"'"),
        ('sort{canonical="', "cannot read from"),
        ("fold-constant", "there is no pass 'fold-constant'; did you mean 'fold-constants'"),
        ("inline-functions{levels=x}", "expected a whole number, not 'x'"),
    ],
)
def test_what_does_not_parse(text: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_pipeline(text)
    assert reason in str(caught.value)


@given(st.text(alphabet='ab-{}[],="\\ ', max_size=12))
def test_no_text_does_worse_than_a_usage_error(text: str) -> None:
    try:
        parse_pipeline(text)
    except UsageError:
        return
    assert not text.strip()


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1.5, "x", None, (1,)])
def test_numbers_that_are_none(value: Any) -> None:
    with pytest.raises(UsageError, match="option 'max_bytes'"):
        make_pass("fold-constants", {"max_bytes": value})
    assert make_pass("fold-constants", {"max_bytes": 8.0}) == FoldConstants(max_bytes=8)
