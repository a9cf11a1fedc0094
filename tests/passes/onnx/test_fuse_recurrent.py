"""fuse-recurrent: loops over LSTM, GRU and plain cells, and what is no such loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.backends.base import find_backend
from graphopt.ir.infer import infer_model
from graphopt.ir.model import Model
from graphopt.ir.text import parse_model
from graphopt.passes import PassManager, run_pass
from graphopt.passes.onnx.fuse_recurrent import FuseRecurrent
from graphopt.runtimes.base import get_runtime

STEPS, BATCH, FEATURES, UNITS = 4, 2, 3, 5
AFTER = """
  %a = tf.MatMul(%x, %kernel)
  %in = tf.BiasAdd(%a, %bias)
  %b = tf.MatMul(%h, %again)
  %of = tf.BiasAdd(%b, %other)
  %i = tf.Split(%one, %in) {num_split = 3}
  %o = tf.Split(%one, %of) {num_split = 3}
  %z1 = tf.AddV2(%i, %o)
  %z = tf.Sigmoid(%z1)
  %r1 = tf.AddV2(%i:1, %o:1)
  %r = tf.Sigmoid(%r1)
  %reset = tf.Mul(%r, %o:2)
  %n1 = tf.AddV2(%i:2, %reset)
  %n = tf.Tanh(%n1)
"""
BEFORE = """
  %a = tf.MatMul(%x, %kernel)
  %in = tf.BiasAdd(%a, %bias)
  %i = tf.Split(%one, %in) {num_split = 3}
  %b = tf.MatMul(%h, %gates)
  %o = tf.Split(%one, %b) {num_split = 2}
  %z1 = tf.AddV2(%i, %o)
  %z = tf.Sigmoid(%z1)
  %r1 = tf.AddV2(%i:1, %o:1)
  %r = tf.Sigmoid(%r1)
  %reset = tf.Mul(%r, %h)
  %m = tf.MatMul(%reset, %square)
  %n1 = tf.AddV2(%i:2, %m)
  %n = tf.Tanh(%n1)
"""
GRU = """
  %kept = tf.Mul(%z, %h)
  %rest = tf.Sub(%unit, %z)
  %new = tf.Mul(%rest, %n)
  %h2 = tf.AddV2(%kept, %new)
"""
PLAIN = """
  %a = tf.MatMul(%x, %small)
  %b = tf.MatMul(%h, %square)
  %s = tf.AddV2(%a, %b)
  %h2 = tf.Tanh(%s)
"""


def weights() -> str:
    """Constants of the bodies."""
    rng = np.random.default_rng(1)
    shapes = {
        "kernel": (FEATURES, 3 * UNITS), "again": (UNITS, 3 * UNITS), "gates": (UNITS, 2 * UNITS),
        "square": (UNITS, UNITS), "small": (FEATURES, UNITS), "bias": (3 * UNITS,), "other": (3 * UNITS,),
    }  # fmt: skip
    lines = [
        f"%{name} = tf.Const() {{value = float32{list(shape)} {rng.normal(size=shape).round(2).tolist()}}}"
        for name, shape in shapes.items()
    ]
    return "\n".join([*lines, "%one = tf.Const() {value = int32[] 1}", "%unit = tf.Const() {value = float32[] 1.0}"])


def layer(cell: str, *, state: str = "splat 0.0", every: bool = True) -> Model:
    """A loop over a cell, which collects all outputs or the last one alone, and keeps the last one."""
    written = "tf.TensorScatterUpdate(%p, %index, %row)" if every else "tf.Identity(%row)"
    model = parse_model(
        f"""
graph @main(%xs: float32[{STEPS}, {BATCH}, {FEATURES}], %h0: float32[{BATCH}, {UNITS}]) -> (%ys, %last) {{
  %zero = tf.Const() {{value = int32[] 0}}
  %buffer = tf.Const() {{value = float32[{STEPS if every else 1}, {BATCH}, {UNITS}] splat 0.0}}
  %zeros = tf.Const() {{value = float32[{BATCH}, {UNITS}] splat 0.0}}
  %loop = tf.While(%zero, %buffer, {"%h0" if state == "given" else "%zeros"}, %xs) {{cond = @cond, body = @body,
    T = [int32, float32, float32, float32]}}
  %ys = tf.Neg(%loop:1)
  %last = tf.Neg(%loop:2)
}}
function @cond(%t: int32[], %p: float32[*], %h: float32[*], %xs: float32[*]) -> (%go) {{
  %limit = tf.Const() {{value = int32[] {STEPS}}}
  %go = tf.Less(%t, %limit)
}}
function @body(%t: int32[], %p: float32[*], %h: float32[*], %xs: float32[*]) -> (%j, %q, %h2, %xs) {{
  {weights()}
  %origin = tf.Const() {{value = int32[] 0}}
  %pair = tf.Const() {{value = int32[2] [1, 1]}}
  %x = tf.GatherV2(%xs, %t, %origin)
  {cell}
  %j = tf.AddV2(%t, %one)
  %index = tf.Reshape(%t, %pair)
  %row = tf.ExpandDims(%h2, %origin)
  %q = {written}
}}
"""
    )
    infer_model(model)
    graph = model.graph
    model.set_signature({v.name: v for v in graph.inputs}, {v.name: v for v in graph.outputs})
    return model


CELLS = {"GRU after": AFTER + GRU, "GRU before": BEFORE + GRU, "RNN": PLAIN}


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize(("state", "every"), [("splat 0.0", True), ("given", True), ("given", False)])
def test_layers(kind: str, state: str, every: bool) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is the oracle: pip install 'graphopt[tensorrt]'")
    model = layer(CELLS[kind], state=state, every=every)
    rng = np.random.default_rng(0)
    feeds = {
        "xs": rng.normal(size=(STEPS, BATCH, FEATURES)).astype(np.float32),
        "h0": rng.normal(size=(BATCH, UNITS)).astype(np.float32),
    }
    lowered = find_backend("onnx").lower(model).model
    (made,) = (node for node in lowered.graph if node.op_type in ("GRU", "RNN", "Loop"))
    assert made.op_type == kind.split()[0]
    assert made.attrs.get("linear_before_reset", 0) == int(kind == "GRU after")
    assert made.input_count == (6 if state == "given" else 4)
    before, after = get_runtime("reference").run(model, feeds), get_runtime("onnxruntime").run(lowered, feeds)
    for name, array in before.items():
        np.testing.assert_allclose(after[name], array, rtol=1e-5, atol=1e-5)


def fused(model: Model) -> Any:
    """What the pass reports."""
    PassManager("fold-constants,strip-unused", verify_each=False).run(model)
    return run_pass(model, FuseRecurrent())


def test_names_are_kept_and_nothing_is_left_to_do() -> None:
    model = layer(CELLS["GRU after"])
    assert fused(model).rules == {"fuse-recurrent": 1}
    assert fused(model).rewrites == 0
    assert [value.name for value in model.graph.outputs] == ["ys", "last"]


@pytest.mark.parametrize(
    ("kind", "old", "new", "reason"),
    [
        ("GRU after", "%n = tf.Tanh(%n1)", "%n = tf.Relu(%n1)", "its body is no recurrent cell"),
        ("RNN", "%h2 = tf.Tanh(%s)", "%h2 = tf.Sigmoid(%s)", "its body is no recurrent cell"),
        ("RNN", "%x = tf.GatherV2", "%x2 = tf.GatherV2", "its gates are no sums"),
    ],
)
def test_other_bodies_are_refused(kind: str, old: str, new: str, reason: str) -> None:
    cell = CELLS[kind]
    if old not in cell:
        cell = cell.replace("tf.MatMul(%x, %small)", "tf.MatMul(%h, %square)")
    report = fused(layer(cell.replace(old, new)))
    assert report.rewrites == 0
    assert reason in report.refusals[0]["reason"]
