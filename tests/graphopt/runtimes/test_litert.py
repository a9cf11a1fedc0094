"""The LiteRT runtime: outputs, intermediates, signatures, sizes; and `.tflite` through the public functions."""

from __future__ import annotations

import numpy as np
import pytest

import graphopt
from graphopt.ir import UsageError
from graphopt.ir.formats.tflite import read_tflite, tflite_bytes
from graphopt.ir.text import parse_model
from graphopt.runtimes.base import RunError, get_runtime

TEXT = """
graph @main(%x) -> (%y) {
  %x = tfl.INPUT() : float32[?, 4]
  %w = tfl.CONSTANT() {value = float32[2, 4] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]} : float32[2, 4]
  %h = tfl.FULLY_CONNECTED(%x, %w, none) {fused_activation_function = "RELU"} : float32[?, 2]
  %y = tfl.NEG(%h) : float32[?, 2]
}
function @f(%a) -> (%b) {
  %a = tfl.INPUT() : float32[2]
  %b = tfl.NEG(%a) : float32[2]
}
signature "main"(x = %x) -> (y = %y)
signature "other" of @f(a = %a) -> (b = %b)
"""


@pytest.fixture
def model():
    return read_tflite(tflite_bytes(parse_model(TEXT)))


@pytest.fixture(scope="module")
def runtime():
    return get_runtime("litert")


def test_outputs_whatever_the_size_of_the_batch(model, runtime) -> None:
    for size in (1, 3):
        found = runtime.run(model, {"x": np.ones((size, 4), np.float32)}, signature="main")
        assert {name: array.tolist() for name, array in found.items()} == {"y": [[-10.0, -26.0]] * size}


def test_intermediates(model, runtime) -> None:
    feeds = {"x": np.ones((1, 4), np.float32)}
    found = runtime.run_all(model, feeds, signature="main")
    assert list(found) == ["x:0", "w:0", "h:0", "y:0"]
    assert found["h:0"].tolist() == [[10.0, 26.0]]
    assert runtime.run(model, feeds, ["h"], signature="main")["h"].tolist() == [[10.0, 26.0]]


def test_signatures_of_other_subgraphs(model, runtime) -> None:
    found = runtime.run(model, {"a": np.float32([1, 2])}, signature="other")
    assert found["b"].tolist() == [-1.0, -2.0]


def test_a_changed_model_is_run_as_changed(model, runtime) -> None:
    feeds = {"x": np.ones((1, 4), np.float32)}
    runtime.run(model, feeds, signature="main")
    model.graph.node("y").op = "tfl.ABS"
    assert runtime.run(model, feeds, signature="main")["y"].tolist() == [[10.0, 26.0]]


def test_what_cannot_be_fed_is_said(model, runtime) -> None:
    with pytest.raises(UsageError, match="'x' is not fed"):
        runtime.run(model, {}, signature="main")
    with pytest.raises(UsageError, match="'h' is no input"):
        runtime.run(model, {"x": np.ones((1, 4), np.float32), "h": np.ones((1, 2), np.float32)}, signature="main")


def test_what_litert_refuses_is_said(runtime) -> None:
    body = '%x = tfl.INPUT() : float32[2] %y = tfl.CUSTOM(%x) {custom_code = "No"} : float32[2]'
    model = parse_model(f'graph @main(%x) -> (%y) {{ {body} }} signature "f"(x = %x) -> (y = %y)')
    with pytest.raises(RunError, match="LiteRT"):
        runtime.run(model, {"x": np.ones(2, np.float32)})


@pytest.mark.corpus("tflite/tiny/pretrainedResnet.tflite")
def test_tflite_through_the_command_line(corpus_file, tmp_path, run_cli) -> None:
    target = tmp_path / "out.tflite"
    assert run_cli("optimize", corpus_file, "-o", target).status == 0
    assert "CONV_2D" in run_cli("inspect", target).out
    assert "tfl.CONV_2D" in run_cli("print", target).out
    assert run_cli("diff", corpus_file, target).status == 0
    done = run_cli("verify", corpus_file, target, "--per-layer")
    assert done.status == 0
    assert "litert" in done.out
    assert graphopt.load(target.read_bytes()).format == "tflite"
