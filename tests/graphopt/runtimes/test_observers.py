"""Observers: every float a model computes is seen, in loops and branches too, with the values it really has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.ir.errors import UsageError
from graphopt.ir.formats.tflite import read_tflite, tflite_bytes
from graphopt.ir.model import Model
from graphopt.ir.text import parse_model
from graphopt.passes.quantize.statistics import key_of
from graphopt.runtimes.base import RunError, get_runtime
from graphopt.runtimes.litert import LiteRTRuntime
from graphopt.runtimes.litert_observer import LiteRTObserver
from graphopt.runtimes.observation import ReferenceObserver, RuntimeObserver

# y = -s after three steps of: s doubled at first, then tripled.
LOOP = """
graph @main(%x) -> (%y) {
  %x = tfl.INPUT() : float32[2]
  %zero = tfl.CONSTANT() {value = int32[] 0} : int32[]
  %loop = tfl.WHILE(%zero, %x) {cond_subgraph_index = @cond, body_subgraph_index = @body} : (int32[], float32[2])
  %y = tfl.NEG(%loop:1) : float32[2]
}
function @cond(%i, %s) -> (%go) {
  %i = tfl.INPUT() : int32[]
  %s = tfl.INPUT() : float32[2]
  %limit = tfl.CONSTANT() {value = int32[] 3} : int32[]
  %go = tfl.LESS(%i, %limit) : bool[]
}
function @body(%i, %s) -> (%next, %sum) {
  %i = tfl.INPUT() : int32[]
  %s = tfl.INPUT() : float32[2]
  %one = tfl.CONSTANT() {value = int32[] 1} : int32[]
  %next = tfl.ADD(%i, %one) : int32[]
  %first = tfl.LESS(%i, %one) : bool[]
  %sum = tfl.IF(%first, %s) {then_subgraph_index = @double, else_subgraph_index = @triple} : float32[2]
}
function @double(%a) -> (%b) {
  %a = tfl.INPUT() : float32[2]
  %two = tfl.CONSTANT() {value = float32[] 2.0} : float32[]
  %b = tfl.MUL(%a, %two) : float32[2]
}
function @triple(%a) -> (%b) {
  %a = tfl.INPUT() : float32[2]
  %three = tfl.CONSTANT() {value = float32[] 3.0} : float32[]
  %b = tfl.MUL(%a, %three) : float32[2]
}
signature "main"(x = %x) -> (y = %y)
"""
STATEFUL = """
graph @main(%x) -> (%y) {
  %x = tfl.INPUT() : float32[1, 2]
  %w = tfl.CONSTANT() {value = float32[2, 2] [1.0, 0.0, 0.0, 1.0]} : float32[2, 2]
  %b = tfl.CONSTANT() {value = float32[2] [0.0, 0.0]} : float32[2]
  %h = tfl.VARIABLE() : float32[1, 2]
  %y = tfl.RNN(%x, %w, %w, %b, %h) {fused_activation_function = "NONE"} : float32[1, 2]
}
signature "main"(x = %x) -> (y = %y)
"""
NETWORK = """
graph @main(%x) -> (%y, %n) {
  %x = tfl.INPUT() : float32[?, 4]
  %w = tfl.CONSTANT() {value = float32[2, 4] [1.0, 2.0, 3.0, 4.0, -5.0, 6.0, 7.0, 8.0]} : float32[2, 4]
  %h = tfl.FULLY_CONNECTED(%x, %w, none) {fused_activation_function = "RELU"} : float32[?, 2]
  %y = tfl.SOFTMAX(%h) {beta = 1.0} : float32[?, 2]
  %n = tfl.CAST(%h) {in_data_type = "FLOAT32", out_data_type = "INT32"} : int32[?, 2]
}
function @f(%a) -> (%b) {
  %a = tfl.INPUT() : float32[2]
  %b = tfl.NEG(%a) : float32[2]
}
signature "main"(x = %x) -> (y = %y)
signature "other" of @f(a = %a) -> (b = %b)
"""


def tflite(text: str) -> Model:
    return read_tflite(tflite_bytes(parse_model(text)))


def seen(observer: Any, feeds: dict[str, np.ndarray]) -> dict[str, list[list[float]]]:
    """What is seen of each tensor, time by time."""
    found: dict[str, list[list[float]]] = {}
    observer.run(feeds, lambda value, array: found.setdefault(str(key_of(value)), []).append(array.tolist()))
    return found


def test_loops_and_branches_are_seen_into_step_by_step() -> None:
    found = seen(LiteRTObserver(tflite(LOOP)), {"x": np.float32([1, -1])})
    assert found == {
        "x:0": [[1, -1]],
        "loop:1": [[18, -18]],
        "y:0": [[-18, 18]],
        "cond/s:0": [[1, -1], [2, -2], [6, -6], [18, -18]],
        "body/s:0": [[1, -1], [2, -2], [6, -6]],
        "body/sum:0": [[2, -2], [6, -6], [18, -18]],
        "double/a:0": [[1, -1]],
        "double/b:0": [[2, -2]],
        "triple/a:0": [[2, -2], [6, -6]],
        "triple/b:0": [[6, -6], [18, -18]],
    }


def test_variables_keep_their_values_until_they_are_reset() -> None:
    observer = LiteRTObserver(tflite(STATEFUL))
    one = {"x": np.float32([[1, 2]])}
    assert seen(observer, one)["y:0"] == [[[1, 2]]]
    assert seen(observer, one)["h:0"] == [[[2, 4]]]
    observer.reset()
    assert seen(observer, one)["y:0"] == [[[1, 2]]]


@pytest.mark.parametrize("batch", [1, 3])
def test_intermediates_are_those_of_the_plain_kernels(batch: int) -> None:
    model = tflite(NETWORK)
    feeds = {"x": np.random.default_rng(0).normal(size=(batch, 4)).astype(np.float32)}
    expected = LiteRTRuntime().run_all(model, feeds, "main")
    found = seen(LiteRTObserver(model, "main"), feeds)
    assert list(found) == ["x:0", "h:0", "y:0"]
    for name, times in found.items():
        np.testing.assert_allclose(times[0], expected[name], rtol=1e-5)


def test_sizes_may_change_from_run_to_run_and_outputs_are_returned() -> None:
    observer = LiteRTObserver(tflite(NETWORK), "main")
    for batch in (2, 5, 2):
        found = observer.run({"x": np.ones((batch, 4), np.float32)}, lambda value, array: None, ["y"])
        assert found["y"].shape == (batch, 2)


def test_signatures_of_other_subgraphs_are_observed() -> None:
    found = seen(LiteRTObserver(tflite(NETWORK), "other"), {"a": np.float32([1, 2])})
    assert found == {"f/a:0": [[1, 2]], "f/b:0": [[-1, -2]]}


def test_large_models_are_mapped_from_a_file(monkeypatch) -> None:
    monkeypatch.setattr("graphopt.runtimes.litert_observer.LARGE", 1)
    observer = LiteRTObserver(tflite(LOOP))
    assert seen(observer, {"x": np.float32([1, -1])})["y:0"] == [[-18, 18]]


def test_inputs_that_are_not_fed_are_named() -> None:
    with pytest.raises(UsageError, match="'x' is not fed"):
        seen(LiteRTObserver(tflite(NETWORK), "main"), {})


def test_what_litert_cannot_run_is_an_error() -> None:
    text = NETWORK.replace("tfl.SOFTMAX(%h) {beta = 1.0}", 'tfl.CUSTOM(%h) {custom_code = b"Nobody"}')
    with pytest.raises(RunError, match="LiteRT failed"):
        seen(LiteRTObserver(tflite(text), "main"), {"x": np.ones((1, 4), np.float32)})


def test_bodies_that_use_variables_are_left_out_with_a_note() -> None:
    text = LOOP.replace(
        "  %b = tfl.MUL(%a, %two) : float32[2]\n",
        '  %b = tfl.MUL(%a, %two) : float32[2]\n  %v = tfl.VAR_HANDLE() {shared_name = "v"} : resource[]\n'
        "  %u = tfl.ASSIGN_VARIABLE(%v, %b) : ()\n",
    )
    observer = LiteRTObserver(tflite(text))
    found = seen(observer, {"x": np.float32([1, -1])})
    assert "double/b:0" not in found
    assert "triple/b:0" in found
    assert observer.notes == ["function 'double' uses variables of the model and is not seen into"]


# TensorFlow's operators ---------------------------------------------------------------------------------------

BRANCHES = """
graph @main(%x: float32[2]) -> (%y) {
  %x = tf.Placeholder() {dtype = float32, shape = shape[2]} : float32[2]
  %two = tf.Const() {dtype = float32, value = float32[] 2.0} : float32[]
  %twice = tf.Mul(%x, %two) {T = float32} : float32[2]
  %y = tf.PartitionedCall(%twice) {Tin = [float32], Tout = [float32], f = @inner} : float32[2]
}
function @inner(a = %a: float32[2]) -> (b = %b) {
  %a = tf._Arg() {T = float32, index = 0} : float32[2]
  %b = tf.Neg(%a) {T = float32} : float32[2]
}
signature "serving_default"(x = %x) -> (y = %y)
"""


def test_the_reference_runtime_sees_into_functions() -> None:
    observer = ReferenceObserver(parse_model(BRANCHES))
    found = seen(observer, {"x": np.float32([1, 3])})
    assert found["twice:0"] == [[2, 6]]
    assert found["inner/b:0"] == [[-2, -6]]
    assert "two:0" not in found
    assert observer.run({"x": np.float32([1, 3])}, lambda value, array: None, ["y"])["y"].tolist() == [-2, -6]
    observer.reset()
    assert seen(observer, {"x": np.float32([1, 3])}) == found


@pytest.mark.parametrize("name", ["reference", pytest.param("tensorflow", marks=pytest.mark.tensorflow)])
def test_any_runtime_can_observe_the_main_graph(name: str) -> None:
    observer = RuntimeObserver(get_runtime(name), parse_model(BRANCHES))
    found = seen(observer, {"x": np.float32([1, 3])})
    assert found == {"x:0": [[1, 3]], "twice:0": [[2, 6]], "y:0": [[-2, -6]]}
    assert "functions" in observer.notes[0]
    assert observer.run({"x": np.float32([1, 3])}, lambda value, array: None, ["y"])["y"].tolist() == [-2, -6]
    observer.reset()
    assert seen(observer, {"x": np.float32([1, 3])}) == found
