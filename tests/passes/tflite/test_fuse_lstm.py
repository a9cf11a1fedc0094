"""fuse-lstm: loops over LSTM cells as Keras and TensorFlow 1 write them, and what is no such loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.ir.infer import infer_model
from graphopt.ir.known import hold
from graphopt.ir.model import Model
from graphopt.ir.text import parse_model
from graphopt.passes import PassManager, run_pass
from graphopt.passes.tflite.fuse_lstm import OPERATOR, FuseLstm
from graphopt.testing.lowering import assert_lowers

BATCH, STEPS, FEATURES, UNITS = 2, 3, 2, 3
KERAS = """
  %a = tf.MatMul(%x, %kernel)
  %b = tf.MatMul(%h, %again)
  %sum = tf.AddV2(%a, %b)
  %z = tf.BiasAdd(%sum, %bias)
  %parts = tf.Split(%one, %z) {num_split = 4}
  %i_gate = tf.Sigmoid(%parts)
  %f_gate = tf.Sigmoid(%parts:1)
  %candidate = tf.Tanh(%parts:2)
  %o_gate = tf.Sigmoid(%parts:3)
"""
BASIC = """
  %joined = tf.ConcatV2(%x, %h, %one)
  %sum = tf.MatMul(%joined, %weights)
  %z = tf.BiasAdd(%sum, %bias)
  %parts = tf.Split(%one, %z) {num_split = 4}
  %forget = tf.Const() {value = float32[] 1.0}
  %shifted = tf.AddV2(%parts:2, %forget)
  %i_gate = tf.Sigmoid(%parts)
  %candidate = tf.Tanh(%parts:1)
  %f_gate = tf.Sigmoid(%shifted)
  %o_gate = tf.Sigmoid(%parts:3)
"""
CELL = """
  %kept = tf.Mul(%f_gate, %c)
  %new = tf.Mul(%i_gate, %candidate)
  %c2 = tf.AddV2(%kept, %new)
  %bent = tf.Tanh(%c2)
  %h2 = tf.Mul(%o_gate, %bent)
"""


def lstm(cell: str = KERAS, *, every: bool = True, outputs: str = "%ys, %last", rest: str = CELL) -> Model:
    """A loop over a cell with random weights."""
    place = "%i" if every else "%zero"
    model = parse_model(
        f"""
graph @main(%xs: float32[{STEPS}, {BATCH}, {FEATURES}]) -> ({outputs}) {{
  %zero = tf.Const() {{value = int32[] 0}}
  %steps = tf.Const() {{value = int32[] {STEPS}}}
  %state = tf.Const() {{value = float32[{BATCH}, {UNITS}] splat 0.0}}
  %buffer = tf.Const() {{value = float32[{STEPS if every else 1}, {BATCH}, {UNITS}] splat 0.0}}
  %loop = tf.While(%zero, %buffer, %state, %state, %xs) {{cond = @cond, body = @body,
    T = [int32, float32, float32, float32, float32]}}
  %ys = tf.Neg(%loop:1)
  %last = tf.Neg(%loop:2)
  %inner = tf.Neg(%loop:3)
}}
function @cond(%i: int32[], %o: float32[*], %h: float32[*], %c: float32[*], %xs: float32[*]) -> (%go) {{
  %limit = tf.Const() {{value = int32[] {STEPS}}}
  %go = tf.Less(%i, %limit)
}}
function @body(%i: int32[], %o: float32[*], %h: float32[*], %c: float32[*], %xs: float32[*])
    -> (%j, %p, %h2, %c2, %xs) {{
  %one = tf.Const() {{value = int32[] 1}}
  %zero = tf.Const() {{value = int32[] 0}}
  %square = tf.Const() {{value = int32[2] [1, 1]}}
  %x = tf.GatherV2(%xs, %i, %zero)
  {cell}
  {rest}
  %j = tf.AddV2(%i, %one)
  %index = tf.Reshape({place}, %square)
  %row = tf.ExpandDims(%h2, %zero)
  %p = tf.TensorScatterUpdate(%o, %index, %row)
}}
""".replace("  %one = tf.Const() {value = int32[] 1}", constants())
    )
    infer_model(model)
    graph = model.graph
    model.set_signature({v.name: v for v in graph.inputs}, {v.name: v for v in graph.outputs})
    return model


def constants() -> str:
    """The weights as text."""
    rng = np.random.default_rng(1)

    def constant(name: str, *shape: int) -> str:
        return f"  %{name} = tf.Const() {{value = float32{list(shape)} {rng.normal(size=shape).round(2).tolist()}}}"

    return "\n".join([
        "  %one = tf.Const() {value = int32[] 1}", constant("kernel", FEATURES, 4 * UNITS),
        constant("again", UNITS, 4 * UNITS), constant("weights", FEATURES + UNITS, 4 * UNITS),
        constant("bias", 4 * UNITS),
    ])  # fmt: skip


@pytest.mark.parametrize("cell", [KERAS, BASIC])
@pytest.mark.parametrize("every", [True, False])
def test_cells(cell: str, every: bool) -> None:
    model = lstm(cell, every=every)
    lowered = assert_lowers(model, reference="reference", fuse_lstm=True)
    found = [node.op for graph in lowered.model.graphs for node in graph]
    assert found.count(OPERATOR) == 1
    assert found.count("tfl.VARIABLE") == 2
    assert "tfl.WHILE" not in found


def test_a_loop_stays_one_unless_asked_for() -> None:
    lowered = assert_lowers(lstm(), reference="reference")
    assert "tfl.WHILE" in {node.op for node in lowered.model.graph}


def test_idempotent() -> None:
    model = lstm()
    PassManager("fold-constants,strip-unused", verify_each=False).run(model)
    assert run_pass(model, FuseLstm()).rules == {"fuse-lstm": 1}
    assert run_pass(model, FuseLstm()).rewrites == 0
    assert [value.name for value in model.graph.outputs] == ["ys", "last"]


def refusal(model: Model) -> str:
    """Why the loop stays."""
    PassManager("fold-constants,strip-unused", verify_each=False).run(model)
    report = run_pass(model, FuseLstm())
    assert report.rewrites == 0
    reason: str = report.refusals[0]["reason"]
    return reason


def test_a_cell_state_that_is_read_is_refused() -> None:
    assert refusal(lstm(outputs="%ys, %inner")) == "its cell state is read afterwards"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("%bent = tf.Tanh(%c2)", "%bent = tf.Relu(%c2)", "its body is no LSTM cell"),
        ("%kept = tf.Mul(%f_gate, %c)", "%kept = tf.Mul(%f_gate, %i_gate)", "its body is no LSTM cell"),
    ],
)
def test_other_cells_are_refused(old: str, new: str, reason: str) -> None:
    assert refusal(lstm(rest=CELL.replace(old, new))) == reason


def test_other_sums_are_refused() -> None:
    cell = KERAS.replace("%b = tf.MatMul(%h, %again)", "%t = tf.Tanh(%h)\n%b = tf.MatMul(%t, %again)")
    assert refusal(lstm(cell)) == "its gates are no sums of inputs and state, each times weights"
    cell = KERAS.replace("%z = tf.BiasAdd(%sum, %bias)", "%s2 = tf.BiasAdd(%sum, %bias)\n%z = tf.Relu(%s2)")
    assert refusal(lstm(cell)) == "it sums something else than products with weights"


def test_a_state_that_does_not_start_with_zeros_is_refused() -> None:
    model = lstm()
    graph = model.graph
    start = hold(graph, np.ones((BATCH, UNITS), np.float32), name="start", before=graph.node("loop"))
    graph.node("loop").replace_input(2, start)
    assert refusal(model) == "its state does not start with zeros"


@settings(max_examples=10, deadline=None)
@given(st.booleans(), st.booleans(), st.sampled_from(["%ys", "%last", "%ys, %last"]), st.integers(0, 100))
def test_any_loop(basic: bool, every: bool, outputs: str, seed: int) -> None:
    model = lstm(BASIC if basic else KERAS, every=every, outputs=outputs)
    data: dict[str, Any] = {
        "xs": np.random.default_rng(seed).normal(size=(2, STEPS, BATCH, FEATURES)).astype(np.float32) * 2
    }
    lowered = assert_lowers(model, reference="reference", data=data, fuse_lstm=True)
    assert OPERATOR in {node.op for node in lowered.model.graph}
