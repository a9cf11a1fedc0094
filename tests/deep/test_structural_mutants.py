"""Structural mutants of GraphDefs through every pass of `inference`: what loads is optimised, verified and written."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import pytest
from test_byte_mutants import ROOT, fuzz

FAULTS = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
import fuzz_supervisor
from fuzz_supervisor import Outcome, Supervisor
fuzz_supervisor.SECONDS = 0.2

def crash(): os.abort()
def hang(): time.process_time() and [None for _ in iter(int, 1)]
def allocate(): return Outcome("fine", str(len(bytearray(200 << 20))))
def fine(): return Outcome("fine")
def fault(): return Outcome("unclean", "a fault")

found = []
runs = {3: crash, 5: fault, 7: allocate, 9: hang}
report = lambda number, outcome: found.append((number, outcome.signature))
supervisor = Supervisor(lambda number: (10, runs.get(number, fine)), ("fine", "unclean"), report)
supervisor.run(0, 12)
print(found, supervisor.counts())
"""


@pytest.mark.parametrize(
    ("seed", "count"), [(0, 200), pytest.param(1, 100_000, marks=pytest.mark.deep)], ids=["brief", "deep"]
)
def test_structural_mutants_are_optimised_or_refused(seed: int, count: int, tmp_path: pathlib.Path) -> None:
    done = fuzz("structure", count, tmp_path, "--seed", str(seed))
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "'unclean': 0" in done.stdout.splitlines()[-1]
    counts = json.loads((tmp_path / "state.json").read_text())["counts"]
    assert sum(counts.values()) == count
    assert counts["optimised"] > count // 4  # mutants that nothing accepts prove nothing


def test_a_run_goes_on_where_the_last_one_ended(tmp_path: pathlib.Path) -> None:
    for upto in (20, 40):
        assert fuzz("structure", 20, tmp_path).returncode == 0
        assert json.loads((tmp_path / "state.json").read_text())["next"] == upto


def test_the_supervisor_catches_what_it_is_for() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, str(ROOT / "tools")], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    expected = [(3, "crash SIGABRT"), (5, "a fault"), (7, "memory"), (9, "hang")]
    assert done.stdout == f"{expected} {{'fine': 8, 'unclean': 4}}\n", done.stderr
