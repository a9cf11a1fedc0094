"""Hostile files: clean refusal or success, within 2 s + 20 us a byte and 64 MiB + 8 bytes a byte.

Nodes of a few bytes take more than eight times that in memory; a graph of such nodes is bounded by its nodes and edges.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bombs import BOMBS, Bomb, call, chain, function, library, node, placeholder, splat

RUNNER = pathlib.Path(__file__).with_name("bomb_runner.py")
NODE_BYTES, EDGE_BYTES = 2048, 512  # what nodes and edges may take in memory, few as their bytes in the file may be
CASES = [pytest.param(bomb, id=name, marks=[pytest.mark.deep] if bomb.deep else []) for name, bomb in BOMBS.items()]

Run = Callable[[bytes], dict[str, Any]]


def everyday() -> bytes:
    """A graph that makes the passes import what they need."""
    squared = function("g", node("n", "Mul", inputs=["a", "a"], number=3), ret="n:z:0")
    product = splat("c", [2, 3]) + node("m", "Mul", inputs=["x", "c"])
    return placeholder() + product + call("y", "g", "m") + library(squared) + chain(3)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Loads and optimises a file in a child of one process that has everything imported."""
    folder = tmp_path_factory.mktemp("bombs")
    warm, file = folder / "warm.pb", folder / "bomb.pb"
    warm.write_bytes(everyday())
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, str(RUNNER), str(warm)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None

        def run_one(data: bytes) -> dict[str, Any]:
            assert process.stdin is not None
            assert process.stdout is not None
            file.write_bytes(data)
            process.stdin.write(f"{file}\n")
            process.stdin.flush()
            return dict(json.loads(process.stdout.readline()))

        yield run_one
        process.stdin.close()


@pytest.mark.parametrize("bomb", CASES)
def test_a_bomb_costs_no_more_than_its_size(bomb: Bomb, run: Run) -> None:
    data = bomb.make()
    report = run(data)
    if bomb.refused is None:
        assert report["outcome"] == "optimised", report
    else:
        assert (report["outcome"], report["status"]) == ("refused", 3), report
        assert bomb.refused in report["message"]
        assert len(report["message"]) < 1000
    assert report["seconds"] <= 2 + 20e-6 * len(data), report
    graph = NODE_BYTES * (report["nodes"] + bomb.grows) + EDGE_BYTES * report["edges"]
    assert report["bytes"] <= (64 << 20) + max(8 * len(data), graph), report


def test_the_runner_tells_what_dies_from_what_is_refused(run: Run) -> None:
    assert run(everyday())["outcome"] == "optimised"
    report = run(b"\x0a\x80")
    assert (report["outcome"], report["status"]) == ("refused", 3)
