"""infer-shapes: types of all values, in functions and loops, and nothing but types."""

from __future__ import annotations

import pytest

from graphopt.ir.text import parse_model
from graphopt.passes import run_pass
from graphopt.testing import Strictness, check_pass

NAME = "infer-shapes"
TYPES = Strictness(order=True, origins=True, shapes=True)
RESHAPE = """
graph @main(%x: float32[{batch}, 2, 2]) -> (%y) {{
  %shape = tf.Const() {{value = int32[2] [-1, 4]}} : int32[2]
  %y = tf.Reshape(%x, %shape) {{T = float32, Tshape = int32}} : float32[{result}]
}}
"""


@pytest.mark.parametrize(("batch", "before", "result"), [("3", "*", "3, 4"), ("n", "*", "n, 4"), ("3", "?, 4", "3, 4")])
def test_types_are_refined(batch: str, before: str, result: str) -> None:
    source, after = RESHAPE.format(batch=batch, result=before), RESHAPE.format(batch=batch, result=result)
    _, report = check_pass(NAME, source, after, strictness=TYPES)
    assert report.rules == {NAME: 1}


def test_unknown_dimensions_of_inputs_get_names() -> None:
    source = RESHAPE.format(batch="?", result="*")
    after = RESHAPE.replace("%x: float32[{batch}, 2, 2]", "%x").replace("{{", "{{\n  %x = {x}", 1)
    x = "tf.Placeholder() {dtype = float32, shape = shape[?, 2, 2]} : float32[x_0, 2, 2]"
    model, _ = check_pass(NAME, source, after.format(x=x, result="x_0, 4"), strictness=TYPES)
    assert str(model.graph.inputs[0].shape) == "[x_0, 2, 2]"


def test_bodies_get_what_their_calls_agree_on() -> None:
    text = """
    graph @main(%x: float32[2, 3], %z: float32[4, 3]) -> (%y, %w) {
      %y = tf.PartitionedCall(%x) {Tin = [float32], Tout = [float32], f = @f}
      %w = tf.PartitionedCall(%z) {Tin = [float32], Tout = [float32], f = @f}
    }
    function @f(a = %a: float32[*]) -> (r = %r) {
      %axis = tf.Const() {value = int32[1] [1]}
      %r = tf.Sum(%a, %axis)
    }
    """
    model = parse_model(text)
    run_pass(model, NAME)
    assert str(model.functions["f"].inputs[0].shape).endswith(", 3]")
    assert model.functions["f"].outputs[0].shape.rank == 1


def test_v1_loops_hold_for_every_iteration() -> None:
    text = """
    graph @main(%x: float32[1, 3]) -> (%y) {
      %enter = tf.Enter(%x) {frame_name = "loop"}
      %merge = tf.Merge(%enter, %next) {N = 2}
      %limit = tf.Const() {value = float32[] 9.0} after(%merge)
      %zero = tf.Const() {value = int32[2] [0, 0]} after(%merge)
      %axes = tf.Const() {value = int32[2] [0, 1]} after(%merge)
      %sum = tf.Sum(%merge, %axes)
      %less = tf.Less(%sum, %limit)
      %cond = tf.LoopCond(%less)
      %switch = tf.Switch(%merge, %cond)
      %axis = tf.Const() {value = int32[] 0} after(%zero)
      %next = tf.NextIteration(%grown)
      %grown = tf.ConcatV2(%switch:1, %switch:1, %axis)
      %y = tf.Exit(%switch)
    }
    """
    model = parse_model(text)
    run_pass(model, NAME)
    assert str(model.graph.node("y").output.shape) == "[?, 3]"
    assert run_pass(model, NAME).rules == {}


def test_contradictions_are_noted() -> None:
    text = RESHAPE.format(batch="3", result="5, 4")
    model = parse_model(text)
    report = run_pass(model, NAME)
    assert len(report.notes) == 1
    assert "'y'" in report.notes[0]
    assert "[5, 4]" in report.notes[0]
