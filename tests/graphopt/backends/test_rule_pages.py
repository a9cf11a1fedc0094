"""The pages of rules say what the rules say."""

from __future__ import annotations

import importlib.util
import inspect
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).parents[3]
TARGETS = [
    "tflite",
    "onnx",
    pytest.param(
        "xla",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("jaxlib") is None, reason="needs JAX: pip install 'graphopt[xla]'"
        ),
    ),
]


@pytest.mark.parametrize("target", TARGETS)
def test_page_is_up_to_date(target: str, tmp_path: pathlib.Path) -> None:
    """In a process of its own: the table without what other tests added."""
    command = [sys.executable, str(ROOT / "tools" / "generate_rule_docs.py"), "--check", target]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def functions(target: str) -> list[Callable[..., Any]]:
    if target == "xla":
        from graphopt.backends.xla.table import all_rules as emission_rules

        return list(emission_rules().functions.values())
    table = importlib.import_module(f"graphopt.backends.{target}.table")
    return [entry.function for entry in table.all_rules().entries]


@pytest.mark.parametrize("target", ["tflite", "onnx", "xla"])
def test_every_rule_says_what_it_does(target: str) -> None:
    assert [function.__name__ for function in functions(target) if not inspect.getdoc(function)] == []
