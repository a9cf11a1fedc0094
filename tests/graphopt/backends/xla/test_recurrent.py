"""Cells and layers that are one operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

RNG = np.random.default_rng(0)


def lstm_data(steps: int | None, batch: int = 2, depth: int = 3, units: int = 4) -> dict[str, Any]:
    shapes = {
        "x": (batch, depth) if steps is None else (steps, batch, depth), "c": (batch, units), "h": (batch, units),
        "w": (depth + units, 4 * units), "i": (units,), "f": (units,), "o": (units,), "b": (4 * units,),
    }  # fmt: skip
    return {name: RNG.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def inputs_of(data: dict[str, Any]) -> str:
    return ", ".join(f"%{name}: {array.dtype}{list(array.shape)}" for name, array in data.items())


@pytest.mark.parametrize("op", ["BlockLSTM", "BlockLSTMV2"])
def test_layers(agrees: Callable[..., Any], op: str) -> None:
    """With peepholes and clipped cells; the last steps are left out."""
    data = lstm_data(5)
    bias = "forget_bias = 0.5, " if op == "BlockLSTM" else ""
    body = (
        "%n = tf.Const() {value = int64[] 3}\n"
        f"%y = tf.{op}(%n, %x, %c, %h, %w, %i, %f, %o, %b) {{{bias}cell_clip = 0.8, use_peephole = true}}"
    )
    agrees(body, inputs_of(data), ", ".join(f"%y:{place}" if place else "%y" for place in range(7)), data)


def test_a_layer_is_one_loop(operations: Callable[..., dict[str, int]]) -> None:
    data = lstm_data(5)
    body = "%n = tf.Const() {value = int64[] 5}\n%y = tf.BlockLSTM(%n, %x, %c, %h, %w, %i, %f, %o, %b)"
    found = operations(body, inputs_of(data), "%y:6")
    assert (found["while"], found["dot_general"]) == (1, 1)


def test_cells(agrees: Callable[..., Any]) -> None:
    data = lstm_data(None)
    outputs = ", ".join(f"%y:{place}" if place else "%y" for place in range(7))
    agrees("%y = tf.LSTMBlockCell(%x, %c, %h, %w, %i, %f, %o, %b)", inputs_of(data), outputs, data)
    shapes = {"x": (2, 3), "h": (2, 4), "w": (7, 8), "v": (7, 4), "b": (8,), "c": (4,)}
    data = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    agrees("%y = tf.GRUBlockCell(%x, %h, %w, %v, %b, %c)", inputs_of(data), "%y, %y:3", data)


def test_a_layer_of_unknown_length_is_refused(refusal: Callable[..., Any]) -> None:
    inputs = inputs_of(lstm_data(5)).replace("float32[5, 2, 3]", "float32[?, 2, 3]")
    body = "%n = tf.Const() {value = int64[] 5}\n%y = tf.BlockLSTM(%n, %x, %c, %h, %w, %i, %f, %o, %b)"
    finding = refusal(body, inputs, "%y:6", batch=None)
    assert "steps" in finding.reason


def test_cudnn_layers_are_refused(refusal: Callable[..., Any]) -> None:
    body = '%y = tf.CudnnRNN(%x, %h, %c, %p) {rnn_mode = "lstm"}'
    finding = refusal(body, "%x: float32[5, 2, 3], %h: float32[1, 2, 4], %c: float32[1, 2, 4], %p: float32[144]")
    assert "cuDNN" in finding.reason
