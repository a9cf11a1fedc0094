"""The table of transforms."""

from __future__ import annotations

import re

import pytest

from graphopt import UsageError
from graphopt.transforms.grammar import Transform
from graphopt.transforms.table import ABSENT, TRANSFORMS, adapter, known_arguments


def test_here_or_absent() -> None:
    assert not set(TRANSFORMS) & set(ABSENT)
    assert list(TRANSFORMS) == sorted(TRANSFORMS)
    assert list(ABSENT) == sorted(ABSENT)


@pytest.mark.parametrize("name", ABSENT)
def test_absent(name: str) -> None:
    expected = f"transform '{name}' of transform_graph is not part of this version of graphopt"
    with pytest.raises(UsageError, match=re.escape(expected)) as caught:
        adapter(Transform(name, {}))
    assert caught.value.exit_status == 2


def test_arguments() -> None:
    assert all(known_arguments(name)[0] == "ignore_errors" for name in TRANSFORMS)
    assert known_arguments("remove_nodes") == ("ignore_errors", "op", "max_inputs")


@pytest.mark.parametrize("name", ["remove_nodes", "rename_node", "rename_op", "rename_attribute", "remove_attribute"])
def test_arguments_that_are_needed(name: str, sketch) -> None:
    from graphopt.transforms.engine import transform

    with pytest.raises(UsageError, match=rf"transform '{name}' (needs an argument|expects at least one)"):
        transform(sketch.model, [], [], [Transform(name, {})])
