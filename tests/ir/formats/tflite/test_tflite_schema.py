"""The schema's table says what LiteRT's own says, and the operator table knows each builtin operator."""

from __future__ import annotations

import importlib.util
import pathlib

import pytest

from graphopt.ir.formats.tflite import schema
from graphopt.ir.formats.tflite.options import options_of
from graphopt.ir.ops import Trait, find
from graphopt.ir.ops.tflite import BUILTIN

ROOT = pathlib.Path(__file__).parents[4]


def test_the_table_is_that_of_the_installed_package() -> None:
    path = ROOT / "tools" / "generate_tflite_schema.py"
    spec = importlib.util.spec_from_file_location("generate_tflite_schema", path)
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    held, wanted = tool.TARGET.read_text(encoding="utf-8").splitlines(), tool.schema_text().splitlines()
    differing = [line for line in wanted if line not in held]
    assert differing == []
    assert len(held) == len(wanted)


def test_every_builtin_operator_is_declared() -> None:
    assert set(BUILTIN) == set(schema.numbers("BuiltinOperator"))
    assert all(find(f"tfl.{name}") is not None for name in BUILTIN)
    assert find("tfl.CUSTOM").has(Trait.STATEFUL)
    assert not find("tfl.CONV_2D").has(Trait.STATEFUL)


def test_every_kind_of_options_is_that_of_some_operator() -> None:
    unused = {"ConcatEmbeddingsOptions", "EmbeddingLookupSparseOptions", "LSHProjectionOptions"}
    for place, union in enumerate(("BuiltinOptions", "BuiltinOptions2")):
        found = {options_of(name)[1] for name in BUILTIN if options_of(name)[0] == place}
        missing = {name for name, number in schema.numbers(union).items() if number not in found and number}
        assert missing - unused == set()


@pytest.mark.parametrize(
    ("operator", "options"),
    [("CONV_2D", "Conv2DOptions"), ("MAX_POOL_2D", "Pool2DOptions"), ("SUM", "ReducerOptions")],
)
def test_operators_have_their_options(operator: str, options: str) -> None:
    assert options_of(operator) == (0, schema.numbers("BuiltinOptions")[options])


def test_an_operator_without_options_has_none() -> None:
    assert options_of("LOGISTIC") == (0, 0)
