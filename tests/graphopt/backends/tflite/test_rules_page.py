"""The page of rules says what the rules say."""

from __future__ import annotations

import inspect
import pathlib
import subprocess
import sys

from graphopt.backends.tflite.table import all_rules

ROOT = pathlib.Path(__file__).parents[4]


def test_page_is_up_to_date(tmp_path: pathlib.Path) -> None:
    """In a process of its own: the table without what other tests added."""
    command = [sys.executable, str(ROOT / "tools" / "generate_tflite_rules.py"), "--check"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_rule_says_what_it_does() -> None:
    assert [entry.name for entry in all_rules().entries if not inspect.getdoc(entry.function)] == []
