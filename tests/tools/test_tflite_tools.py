"""What the measuring tools for TFLite decide: closeness, verdicts, bounds, telling lines."""

from __future__ import annotations

from typing import Any

import measure_tflite
import numpy as np
import pytest
import run_tflite_corpus
import tflite_files
import tflite_peer
import tflite_zoo
import tflite_zoo_applications

HELD: dict[str, Any] = {
    "model": "m",
    "limit": 230.0,
    "ours": {"seconds": 0.5, "cpu": 0.4, "peak_mib": 120.0, "bytes": 1000, "litert": 2e-6},
    "peer": {"seconds": 9.0, "cpu": 8.0, "peak_mib": 700.0, "bytes": 1000, "litert": 3e-6},
    "latency": {"ours_ms": 1.0, "peer_ms": 1.0, "ratio": 1.02},
}


@pytest.mark.parametrize(
    ("actual", "expected", "error"),
    [
        (np.float32([1, 2.5]), np.float32([1, 2]), 0.25),
        (np.float32([np.inf, 1]), np.float32([np.inf, 1]), 0.0),
        (np.float32([np.inf, 1]), np.float32([-np.inf, 1]), "infinite in other places"),
        (np.float32([np.nan, 1]), np.float32([1, 1]), "NaN in other places"),
        (np.float32([[1]]), np.float32([1]), "shape (1, 1), expected (1,)"),
        (np.int32([1, 2]), np.int32([1, 3]), "1 of 2 values differ"),
        (np.int64([1]), np.int32([1]), "int64, expected int32"),
        (np.array([b"a", b"bc"], object), np.array([b"a", b"bc"]), 0.0),
        (np.array([b"a", b"b"], object), np.array([b"a", b"bc"]), "1 of 2 values differ"),
        (np.complex64([1j]), np.complex64([2j]), 0.5),
        (np.empty((0, 3), np.float32), np.empty((0, 3), np.float32), 0.0),
    ],
)
def test_error_over_scale(actual: Any, expected: Any, error: float | str) -> None:
    assert tflite_files.error_of(actual, expected) == error


def test_words_are_worse_than_numbers() -> None:
    assert tflite_files.worst([1e-7, "missing", 0.5]) == "missing"
    assert tflite_files.worst([1e-7, 0.5]) == 0.5
    assert tflite_files.worst([]) == 0.0


def test_outputs_go_by_name_and_else_by_order() -> None:
    assert tflite_files._matched({"b:0": 1, "a": 2}, ["a", "b"]) == {"a": 2, "b": 1}
    assert tflite_files._matched({"y": 1, "z": 2}, ["a", "b"]) == {"a": 1, "b": 2}


def test_a_model_that_holds_everything() -> None:
    assert measure_tflite.failures(HELD) == []
    assert measure_tflite.shown(HELD | {"failed": []}).split()[3] == "18.0x"


@pytest.mark.parametrize(
    ("side", "facts", "reason"),
    [
        ("ours", {"litert": 2e-4}, "error 0.0002"),
        ("ours", {"litert": "output 'y': missing"}, "error output 'y': missing"),
        ("ours", {"seconds": 1.6}, "5.6x faster, not 6x"),
        ("ours", {"bytes": 1001}, "1 bytes larger"),
        ("ours", {"peak_mib": 231.0}, "memory 231 MiB, limit 230"),
        ("latency", {"ratio": 1.04}, "latency 1.040 of tf.lite's"),
    ],
)
def test_each_bound(side: str, facts: dict[str, Any], reason: str) -> None:
    assert measure_tflite.failures(HELD | {side: HELD[side] | facts}) == [reason]


def test_a_refusal_of_ours_fails_and_one_of_theirs_does_not() -> None:
    assert measure_tflite.failures(HELD | {"ours": {"error": "exit status 4"}}) == ["graphopt: exit status 4"]
    assert measure_tflite.failures(HELD | {"peer": {"error": "TF Select ops: Erf", "seconds": 3.0}}) == []


def test_as_far_as_litert_itself() -> None:
    assert measure_tflite.is_close(4e-4, 3e-4)
    assert not measure_tflite.is_close(4e-4, 1e-6)
    assert not measure_tflite.is_close(2e-3, 2e-3)
    assert not measure_tflite.is_close(4e-4, None)


@pytest.mark.parametrize(
    ("peer", "ours", "verdict"),
    [
        ({"litert": 1e-7}, {"litert": 1e-6}, "agrees"),
        ({"litert": 9e-4}, {"litert": 8e-4}, "as tf.lite's"),
        ({"litert": "RuntimeError: node 3"}, {"litert": "RuntimeError: node 5"}, "as tf.lite's"),
        ({"litert": 1e-7}, {"litert": 8e-4}, "FAILS"),
        ({"litert": 1e-7}, {"error": "[4] no"}, "FAILS"),
        ({"error": "no"}, {"error": "[4] no"}, "refused by both"),
        ({"error": "no"}, {"litert": 1e-7}, "more"),
        ({"error": "no"}, {"litert": "shape"}, "FAILS"),
        ({"error": "no"}, {"litert": None}, "more"),
        ({"litert": None}, {"litert": None}, "not compared"),
    ],
)
def test_verdicts_on_the_corpus(peer: dict[str, Any], ours: dict[str, Any], verdict: str) -> None:
    assert run_tflite_corpus.judge(peer, ours)[0] == verdict


def test_the_telling_line() -> None:
    message = (
        "Could not translate MLIR to FlatBuffer.x.py:5:1: error: 'tf.Erf' op is neither a custom op nor a flex op\n"
        "<unknown>:0: error: failed while converting: 'main': \nSome ops need flex\nTF Select ops: Erf, Foo\n"
        "Custom ops: Bar\nDetails:\n\ttf.Erf(tensor<2xf32>)"
    )
    assert tflite_peer.telling_line(message) == "TF Select ops: Erf, Foo; Custom ops: Bar"
    assert tflite_peer.telling_line("trace\nx: error: loc(\"a\"): 'tf.A' op is wrong") == "x: error: 'tf.A' op is wrong"
    assert tflite_peer.telling_line("") == "no message"
    assert tflite_peer.condensed(message).splitlines()[-1] == "\ttf.Erf(tensor<2xf32>)"


def test_spread() -> None:
    assert tflite_zoo.spread_of([np.float32([1, 5]), np.float32([1, 5])]) == 0.0
    assert tflite_zoo.spread_of([np.float32([0, 0]), np.float32([2, 2])]) == 1.0
    assert tflite_zoo.spread_of([np.zeros(2), np.zeros(3)]) == 1.0
    assert tflite_zoo.spread_of([np.array([b"a"]), np.array([b"b"])]) == 1.0


@pytest.mark.tensorflow
def test_the_zoo_names_every_application() -> None:
    names = tflite_zoo_applications.names()
    assert {"MobileNetV3Small", "ConvNeXtXLarge", "NASNetMobile", "VGG19"} <= set(names)
    known = tflite_zoo.registry()
    assert {name.lower() for name in names} <= set(known)
    assert {group for group, _ in known.values()} == set(tflite_zoo.GROUPS)
