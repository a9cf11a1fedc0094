"""Profiles: how they are written, and which fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.backends.base import UnloweredError, find_backend
from graphopt.backends.tensorrt.profiles import Profile, make_profiles, parse_profile
from graphopt.ir.errors import UsageError
from graphopt.ir.model import Model


def test_an_ellipsis_stands_for_the_rest_of_the_first_shape() -> None:
    expected = "x", Profile((1, 3, 8, 8), (4, 3, 8, 8), (32, 3, 8, 8))
    assert parse_profile("x=1x3x8x8,4x…,32x...") == expected


def test_one_shape_is_all_three() -> None:
    assert parse_profile("a/b:0=2x3") == ("a/b:0", Profile((2, 3), (2, 3), (2, 3)))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=4))
def test_text_comes_back(sizes: list[tuple[int, int, int]]) -> None:
    profile = Profile(*zip(*(sorted(size) for size in sizes), strict=True))
    assert make_profiles(f"x={profile.text}") == {"x": profile}
    assert make_profiles({"x": profile}) == {"x": profile}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1x3", "does not read"),
        ("=1x3", "does not read"),
        ("x=1x3,2x3", "not one or three"),
        ("x=1x,2x3,3x3", "no shape"),
        ("x=4x3,2x3,8x3", "does not grow"),
        ("x=1x3,2x3x4,4x3", "differ in rank"),
        ("x=99999999999,99999999999,99999999999", "does not grow"),
    ],
)
def test_what_is_no_profile_is_said(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        make_profiles((text,))


def test_a_dynamic_input_needs_one(dynamic: Model) -> None:
    backend = find_backend("tensorrt")
    (finding,) = backend.check(dynamic)
    assert finding.node == "x"
    assert "no profile" in finding.reason
    assert "--profile x=1x8x8x2,4x8x8x2,8x8x8x2" in finding.remedy
    with pytest.raises(UnloweredError, match="no profile"):
        backend.lower(dynamic)
    assert backend.check(dynamic, profiles="x=1x8x8x2,4x...,8x...") == []


@pytest.mark.parametrize(
    ("text", "reason"), [("y=1x8x8x2", "no input 'y'"), ("x=1x8x8x3", "does not fit"), ("x=1x8x8", "does not fit")]
)
def test_profiles_of_other_inputs_and_shapes_are_refused(dynamic: Model, text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        find_backend("tensorrt").lower(dynamic, profiles=text)
