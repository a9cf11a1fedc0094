"""A forked child's value, error, death and delay come back."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest
from forks import in_child

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def test_the_value_comes_back() -> None:
    outcome = in_child(lambda: {"numbers": [1, 2.5], "text": "x" * 200_000}, timeout=30)
    assert outcome.value == {"numbers": [1, 2.5], "text": "x" * 200_000}
    assert outcome.failure == ""
    assert outcome.peak_mib > 0


def test_nothing_is_a_value_too() -> None:
    assert in_child(lambda: None, timeout=30)[:2] == (None, "")


def test_an_error_comes_back_with_its_place() -> None:
    def fail() -> None:
        raise ValueError("no such thing")

    assert in_child(fail, timeout=30).failure.startswith("ValueError: no such thing [test_forks.py:")


def test_a_death_is_named() -> None:
    assert in_child(lambda: os.kill(os.getpid(), signal.SIGKILL), timeout=30).failure == "killed by SIGKILL"
    assert in_child(lambda: os._exit(5), timeout=30).failure == "exit status 5"


def test_a_child_that_hangs_is_killed() -> None:
    outcome = in_child(lambda: time.sleep(60), timeout=0.2)
    assert outcome.failure == "still running after 0 s"
    assert outcome.seconds < 30


def test_the_exit_of_a_library_is_a_failure() -> None:
    assert in_child(lambda: sys.exit(3), timeout=30).failure.startswith("SystemExit: 3")
