"""Runtimes side by side. Nothing here asserts how long anything takes."""

from __future__ import annotations

import importlib.util
import json
import pathlib

import pytest

import graphopt
from graphopt.benchmark import Timing, _notes, bench
from graphopt.cli.main import main
from graphopt.ir.errors import UsageError
from graphopt.testing.lowering import text_model

needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="needs JAX: pip install 'graphopt[xla]'"
)  # fmt: skip


@needs_jax
@pytest.mark.xdist_group("xla")
def test_each_runtime_is_timed_or_says_why_not(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.pb"
    graphopt.save(text_model("%y = tf.Tanh(%x)"), path)
    assert main(["bench", str(path), "--runtime", "litert,xla", "--runs", "3", "--warm-up", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == "graphopt/bench/v1"
    assert [timing["runtime"] for timing in report["timings"]] == ["litert", "xla"]
    assert all(timing["median_seconds"] > 0 and timing["runs"] == 3 for timing in report["timings"])
    assert report["timings"][1]["cost"]["argument_bytes"] == 24


@needs_jax
@pytest.mark.xdist_group("xla")
def test_a_runtime_that_cannot_run_the_model_is_reported() -> None:
    model = text_model("%i = tf.Unique(%x)\n%y = tf.Relu(%x)", "%x: float32[4]", "%i, %y")
    (timing,) = bench(model, ["xla"], runs=1, options={"fallback": False}).timings
    assert timing.median_seconds is None
    assert "tf.Unique" in timing.problem


def test_slower_is_said() -> None:
    timings = [Timing("tensorflow", median_seconds=0.001), Timing("xla", median_seconds=0.0015), Timing("litert")]
    assert _notes(timings) == ["XLA is slower than tensorflow here: 1.50 times its time"]


def test_what_makes_no_sense() -> None:
    model = text_model("%y = tf.Relu(%x)")
    with pytest.raises(UsageError, match="no runtime 'tpu'"):
        bench(model, ["tpu"])
    with pytest.raises(UsageError, match="must be positive"):
        bench(model, ["xla"], runs=0)
