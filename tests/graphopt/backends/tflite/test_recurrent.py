"""Legalisation of cells of recurrent layers that are one operator, compared with TensorFlow's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.backends.base import UnloweredError
from graphopt.ir.known import hold
from graphopt.ir.model import Model
from graphopt.testing.lowering import assert_lowers, text_model

pytestmark = pytest.mark.tensorflow
UNITS, FEATURES = 3, 2


def with_weights(text: str, inputs: str, outputs: str, **shapes: tuple[int, ...]) -> Model:
    """A model whose inputs named in `shapes` are random weights."""
    model = text_model(text, inputs, outputs)
    rng = np.random.default_rng(len(text))
    graph = model.graph
    given_ = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    for name, array in given_.items():
        value = graph.value(name)
        graph.inputs = [other for other in graph.inputs if other is not value]
        graph.replace_value(value, hold(graph, array, name=f"{name}/held", before=next(iter(graph))))
        graph.remove(value.node)
    model.set_signature({v.name: v for v in graph.inputs}, {v.name: v for v in graph.outputs})
    return model


def lstm(op: str, attrs: str, batch: str = "2", steps: int | None = None, length: int = 0) -> Model:
    rows = f"{steps}, " if steps is not None else ""
    count = f"%length = tf.Const() {{value = int64[] {length}}}\n" if steps is not None else ""
    first = "%length, " if steps is not None else ""
    text = (
        f"{count}%y = tf.{op}({first}%x, %cs, %h, %w, %wci, %wcf, %wco, %b) {{T = float32, {attrs}}} : ("
        + ", ".join(["float32[*]"] * 7)
        + ")"
    )
    inputs = (
        f"%x: float32[{rows}{batch}, {FEATURES}], %cs: float32[{batch}, {UNITS}], %h: float32[{batch}, {UNITS}], "
        "%w: float32[5, 12], %wci: float32[3], %wcf: float32[3], %wco: float32[3], %b: float32[12]"
    )
    outputs = "%y:1, %y:6" if steps is not None else "%y, %y:1, %y:2, %y:3, %y:4, %y:5, %y:6"
    weights = {"w": (FEATURES + UNITS, 4 * UNITS), "wci": (UNITS,), "wcf": (UNITS,), "wco": (UNITS,), "b": (4 * UNITS,)}
    return with_weights(text, inputs, outputs, **weights)


@settings(max_examples=8, deadline=None)
@given(st.booleans(), st.sampled_from([-1.0, 0.5, 3.0]), st.sampled_from([0.0, 1.0]))
def test_lstm_cells(peephole: bool, clip: float, forget: float) -> None:
    attrs = f"use_peephole = {str(peephole).lower()}, cell_clip = {clip}, forget_bias = {forget}"
    assert_lowers(lstm("LSTMBlockCell", attrs))


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.booleans(), st.sampled_from(["BlockLSTM", "BlockLSTMV2"]))
def test_blocks(steps: int, length: int, peephole: bool, op: str) -> None:
    attrs = f"use_peephole = {str(peephole).lower()}, cell_clip = 0.7"
    assert_lowers(lstm(op, attrs, steps=steps, length=min(length, steps)))


def test_a_block_without_a_known_number_of_steps_is_refused() -> None:
    with pytest.raises(UnloweredError, match="steps"):
        assert_lowers(lstm("BlockLSTM", "cell_clip = 0.7", steps=300, length=3), reference=None)


def test_gru_cell() -> None:
    text = f"%y = tf.GRUBlockCell(%x, %h, %wru, %wc, %bru, %bc) {{T = float32}} : ({', '.join(['float32[*]'] * 4)})"
    inputs = (
        f"%x: float32[2, {FEATURES}], %h: float32[2, {UNITS}], %wru: float32[5, 6], %wc: float32[5, 3], "
        "%bru: float32[6], %bc: float32[3]"
    )
    weights = {"wru": (5, 6), "wc": (5, 3), "bru": (6,), "bc": (3,)}
    assert_lowers(with_weights(text, inputs, "%y, %y:1, %y:2, %y:3", **weights))
