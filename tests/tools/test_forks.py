"""A forked child's value, error, death and delay come back."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
TOOLS = pathlib.Path(__file__).parents[2] / "tools"


def outcome(function: str, timeout: float = 30) -> tuple[Any, str, float, float]:
    """What `in_child` makes of a function, in a process of its own: forking one with threads may end in a deadlock."""
    source = (
        f"import json, os, signal, sys, time; sys.path.insert(0, {str(TOOLS)!r})\nfrom forks import in_child\n"
        f"def fail():\n    raise ValueError('no such thing')\n"
        f"print(json.dumps(in_child({function}, timeout={timeout})))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", source], capture_output=True, text=True, check=True)
    value, failure, seconds, peak = json.loads(done.stdout)
    return value, failure, seconds, peak


def test_the_value_comes_back() -> None:
    value, failure, _, peak = outcome("lambda: {'numbers': [1, 2.5], 'text': 'x' * 200_000}")
    assert value == {"numbers": [1, 2.5], "text": "x" * 200_000}
    assert failure == ""
    assert peak > 0


def test_nothing_is_a_value_too() -> None:
    assert outcome("lambda: None")[:2] == (None, "")


def test_an_error_comes_back_with_its_place() -> None:
    assert outcome("fail")[1].startswith("ValueError: no such thing [<string>:")


def test_a_death_is_named() -> None:
    assert outcome("lambda: os.kill(os.getpid(), signal.SIGKILL)")[1] == "killed by SIGKILL"
    assert outcome("lambda: os._exit(5)")[1] == "exit status 5"


def test_a_child_that_hangs_is_killed() -> None:
    _, failure, seconds, _ = outcome("lambda: time.sleep(60)", timeout=0.2)
    assert failure == "still running after 0 s"
    assert seconds < 30


def test_the_exit_of_a_library_is_a_failure() -> None:
    assert outcome("lambda: sys.exit(3)")[1].startswith("SystemExit: 3")
