"""The catalog: every pass by its name, documented and tested; passes from outside."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pytest

from graphopt.ir import UsageError
from graphopt.passes import Pass, PassContext, catalog, find_pass, parse_pipeline, pass_names, register_pass, run_pass
from graphopt.passes.base import kebab_case
from graphopt.testing import random_model

ROOT = pathlib.Path(__file__).parents[2]
BUILT_IN = tuple(catalog._CATALOG)


@pytest.fixture(autouse=True)
def own_catalog(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(catalog, "_REGISTERED", {})
    yield
    catalog._plugins.cache_clear()


# One pass, one place ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_pass_has_a_module_a_test_and_a_page_of_its_name(name: str) -> None:
    cls = find_pass(name)
    module = name.replace("-", "_")
    assert cls.__module__.rpartition(".")[2] == module
    assert kebab_case(cls.__name__) == name == cls.name
    family = cls.__module__.split(".")[2]
    assert (ROOT / "passes" / family / f"{module}.py").is_file()
    assert (ROOT / "tests" / "passes" / family / f"test_{module}.py").is_file()
    assert (ROOT / "docs" / "passes" / f"{name}.md").is_file()


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_pass_says_what_it_does_what_it_makes_and_when_it_refuses(name: str) -> None:
    text = find_pass(name).__doc__ or ""
    first = text.strip().split("\n\n")[0]
    assert first.endswith(".")
    assert not re.search(r"\.\s+[A-Z]", first), "one sentence"
    assert text.index("*Given*") < text.index("*Result*")
    assert re.search(r"\b[Rr]efuses\b", text)
    listings = re.findall(r"^ {8}\S", text, re.MULTILINE)
    assert len(listings) >= 2


@pytest.mark.parametrize("name", BUILT_IN)
def test_orders_and_stages_name_what_there_is(name: str) -> None:
    cls = find_pass(name)
    assert set(cls.after) <= set(BUILT_IN)
    for option in cls.options():
        assert option.name in (cls.__doc__ or "").replace("-", "_") or len(option.name) < 3, option.name


# Passes from outside ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CountNodes(Pass):
    """Counts nodes."""

    most: int = 10

    def run_graph(self, graph: Any, context: PassContext) -> None:
        context.log.note(f"{min(len(graph), self.most)} nodes")


def test_a_registered_pass_is_found_by_its_name() -> None:
    assert register_pass(CountNodes) is CountNodes
    assert register_pass(CountNodes) is CountNodes
    assert find_pass("count-nodes") is CountNodes
    assert "count-nodes" in pass_names()
    assert parse_pipeline("count-nodes{most=3}") == (CountNodes(3),)
    assert run_pass(random_model(1, functions=False), "count-nodes{most=3}").notes == ["3 nodes"]


def test_names_are_taken_once() -> None:
    @dataclass(frozen=True)
    class Simplify(Pass):
        """Another."""

    with pytest.raises(UsageError, match="there is already a pass 'simplify'"):
        register_pass(Simplify)
    register_pass(CountNodes)
    other = dataclass(frozen=True)(type("CountNodes", (Pass,), {"__doc__": "Another.", "__annotations__": {}}))
    with pytest.raises(UsageError, match="there is already a pass 'count-nodes'"):
        register_pass(other)


def test_a_pass_that_does_nothing_says_so() -> None:
    @dataclass(frozen=True)
    class Idle(Pass):
        """Nothing."""

    with pytest.raises(Exception, match="pass 'idle' failed: TypeError: Idle defines neither run nor run_graph"):
        run_pass(random_model(1), Idle())


class Entry:
    """An entry point."""

    def __init__(self, name: str, loaded: Any):
        self.name, self.value, self._loaded = name, f"plugin:{name}", loaded

    def load(self) -> Any:
        return self._loaded


def offer(monkeypatch: pytest.MonkeyPatch, passes: Mapping[str, Any]) -> None:
    catalog._plugins.cache_clear()
    entries = [Entry(name, loaded) for name, loaded in passes.items()]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: entries if group == "graphopt.passes" else [])


def test_plugins_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, {"count-nodes": CountNodes})
    assert find_pass("count-nodes") is CountNodes
    assert "count-nodes" in pass_names()


@pytest.mark.parametrize(
    ("name", "loaded", "reason"),
    [
        ("odd", print, "plugin 'odd' of group 'graphopt.passes' is not a pass"),
        ("simplify", CountNodes, "plugin 'plugin:simplify' takes the name of the built-in pass 'simplify'"),
        ("tally", CountNodes, "plugin 'plugin:tally' offers the pass 'count-nodes' under the name 'tally'"),
    ],
)
def test_plugins_that_are_none(name: str, loaded: Any, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, {name: loaded})
    with pytest.raises(UsageError, match=reason):
        pass_names()


def test_a_plugin_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, {"broken": CountNodes})
    monkeypatch.setattr(Entry, "load", lambda self: __import__("a_package_that_nobody_has"))
    with pytest.raises(UsageError, match=r"plugin 'plugin:broken' cannot be loaded: No module named 'a_package"):
        pass_names()


def test_built_in_passes_are_found_without_looking_at_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, {"broken": print})
    assert find_pass("simplify").name == "simplify"


def test_an_unknown_pass_is_close_to_one_or_listed() -> None:
    with pytest.raises(UsageError, match="there is no pass 'simplfy'; did you mean 'simplify'"):
        find_pass("simplfy")
    with pytest.raises(UsageError, match="there is no pass 'zzzzzz'; `graphopt passes` lists them"):
        find_pass("zzzzzz")


def test_modules_are_imported_when_asked_for() -> None:
    for place in catalog._CATALOG.values():
        module, _, name = place.partition(":")
        assert issubclass(getattr(import_module(module), name), Pass)
