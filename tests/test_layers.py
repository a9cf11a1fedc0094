"""The floors keep apart: who may import what, read from the source and seen in fresh interpreters."""

from __future__ import annotations

import ast
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

ROOT = pathlib.Path(__file__).parents[1].resolve()

# What each floor may import besides the standard library. A floor sees itself and the floors below it.
IR_MAY = ("graphopt.ir", "numpy", "ml_dtypes", "google.protobuf", "flatbuffers", "google_crc32c")
PASSES_MAY = ("graphopt.passes", "graphopt.ir", "numpy", "ml_dtypes", "google.protobuf", "flatbuffers", "msgspec")
FLOORS = {"ir": IR_MAY, "passes": PASSES_MAY}
# Exceptions by the file's path: the FlatBuffer schema, for the one format that is written in it.
FILES_MAY = {"ir/formats/tflite": ("ai_edge_litert.schema_py_generated",)}

# Wings beside each other: no module under one may import a module under another.
PASS_FAMILIES = ("cleanup", "fold", "freeze", "functions", "fuse", "layout", "quantize", "rename")
BACKENDS, RUNTIMES = ("tensorrt", "tflite", "xla"), ("litert", "onnxruntime", "reference", "tensorflow", "xla")
WINGS = {"passes": PASS_FAMILIES, "backends": BACKENDS, "runtimes": RUNTIMES}
# Rooms that only their own modules import: everything else is below them.
TOP_ROOMS = ("graphopt.cli", "graphopt.compat")

HEAVY = ("ai_edge_litert", "jax", "keras", "onnx", "onnxruntime", "tensorflow", "tensorrt")
LAZY = (*HEAVY, "rich")  # never imported at module level outside the adapters
ADAPTERS = ("graphopt/backends/", "graphopt/runtimes/")


class Import(NamedTuple):
    """One imported name, spelled out in full, and where it stands."""

    file: str
    line: int
    name: str
    deferred: bool  # inside a function, or for type checkers only

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.name}"


def imports_of(source: str, file: str) -> Iterator[Import]:
    def visit(node: ast.AST, deferred: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(file, node.lineno, alias.name, deferred) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (Import(file, node.lineno, f"{module}.{alias.name}", deferred) for alias in node.names)
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, deferred or inside or typing_only)

    yield from visit(ast.parse(source), False)


def imports_in(folder: str) -> list[Import]:
    return [
        found
        for path in sorted((ROOT / folder).rglob("*.py"))
        for found in imports_of(path.read_text(), path.relative_to(ROOT).as_posix())
    ]


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def may_import(found: Import, floor: str) -> bool:
    extra = tuple(name for start, names in FILES_MAY.items() if found.file.startswith(start) for name in names)
    return found.name.split(".")[0] in sys.stdlib_module_names or within(found.name, FLOORS[floor] + extra)


def module_of(file: str) -> str:
    """The import name of a file of the tree."""
    dotted = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return dotted if within(dotted, ("graphopt",)) else f"graphopt.{dotted}"


def wing_of(module: str, house: str, wings: tuple[str, ...]) -> str | None:
    rest = module.removeprefix(f"graphopt.{house}.")
    first = rest.split(".")[0]
    return first if rest != module and first in wings else None


@pytest.mark.parametrize("floor", FLOORS)
def test_floor_imports_only_what_it_may(floor: str) -> None:
    assert [str(found) for found in imports_in(floor) if not may_import(found, floor)] == []


def test_data_model_does_not_know_its_file_formats() -> None:
    below = [found for found in imports_in("ir") if not found.file.startswith("ir/formats/")]
    assert [str(found) for found in below if within(found.name, ("graphopt.ir.formats",))] == []


@pytest.mark.parametrize("house", WINGS)
def test_wings_do_not_see_each_other(house: str) -> None:
    folder = ROOT / house if house in FLOORS else ROOT / "graphopt" / house
    crossing = [
        found
        for found in imports_in(folder.relative_to(ROOT).as_posix())
        if (here := wing_of(module_of(found.file), house, WINGS[house]))
        and (there := wing_of(found.name, house, WINGS[house]))
        and here != there
    ]
    assert [str(found) for found in crossing] == []


@pytest.mark.parametrize("room", TOP_ROOMS)
def test_nothing_imports_the_top_rooms(room: str) -> None:
    outside = [found for found in imports_in("graphopt") if not within(module_of(found.file), (room,))]
    outside = [found for found in outside if found.file != "graphopt/__main__.py"]  # `python -m graphopt`
    assert [str(found) for found in outside if within(found.name, (room,))] == []


def test_heavy_packages_are_imported_where_they_are_needed() -> None:
    outside = [found for found in imports_in("graphopt") if not found.file.startswith(ADAPTERS)]
    assert [str(found) for found in outside if within(found.name, LAZY) and not found.deferred] == []


@pytest.mark.parametrize(
    ("source", "allowed"),
    [
        ("import json, numpy as np", True),
        ("from google.protobuf import message", True),
        ("from graphopt.ir.types import TensorType", True),
        ("from graphopt.passes import base", False),
        ("from graphopt import load", False),
        ("import graphopt", False),
        ("from . import types", False),
        ("def f():\n    import tensorflow", False),
        ("from ai_edge_litert import schema_py_generated", False),
    ],
)
def test_the_rule_of_the_ground_floor_refuses_what_it_should(source: str, allowed: bool) -> None:
    assert all(may_import(found, "ir") for found in imports_of(source, "ir/graph.py")) is allowed


def test_only_the_tflite_format_may_import_the_schema() -> None:
    (found,) = imports_of("from ai_edge_litert import schema_py_generated", "ir/formats/tflite/reader.py")
    assert may_import(found, "ir")


IMPORT_ALL = """
import importlib, pkgutil, sys

blocked = sys.argv[1].split(",")

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
for floor in ("graphopt.ir", "graphopt.passes"):
    package = importlib.import_module(floor)
    for module in pkgutil.walk_packages(package.__path__, floor + "."):
        importlib.import_module(module.name)
loaded = [name for name in sys.modules if name.startswith("ai_edge_litert.")]
assert set(loaded) <= {"ai_edge_litert.schema_py_generated"}, loaded
"""


def test_lower_floors_import_without_any_heavy_package(run_python: Callable) -> None:
    blocked = [name for name in LAZY if name != "ai_edge_litert"]
    done = run_python(IMPORT_ALL, ",".join(blocked))
    assert done.returncode == 0, done.stderr


MODULES_AFTER = "import sys\n{}\nprint(*sys.modules, file=sys.stderr)"
IMPORT = "import graphopt"
HELP = """
sys.argv = ["graphopt", "--help"]
from graphopt.cli.main import main
try:
    main()
except SystemExit as leave:
    assert not leave.code, leave.code
"""
SLOW_TO_IMPORT = (*LAZY, "google.protobuf", "msgspec")


@pytest.mark.parametrize(
    ("action", "unwanted"),
    [pytest.param(IMPORT, SLOW_TO_IMPORT, id="import"), pytest.param(HELP, (*SLOW_TO_IMPORT, "numpy"), id="help")],
)
def test_starting_up_imports_nothing_slow(run_python: Callable, action: str, unwanted: tuple[str, ...]) -> None:
    """Which modules are loaded is the start-up time that a test can check on any machine."""
    done = run_python(MODULES_AFTER.format(action))
    assert done.returncode == 0, done.stderr
    assert [name for name in done.stderr.split() if within(name, unwanted)] == []
