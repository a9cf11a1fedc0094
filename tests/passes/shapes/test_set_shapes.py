"""set-shapes: dynamic dimensions get their numbers."""

from __future__ import annotations

import pytest

from graphopt.ir import UsageError
from graphopt.ir.text import parse_model
from graphopt.passes import run_pass
from graphopt.testing import assert_equivalent, check_pass

TEXT = """
graph @main(%x: float32[?, 3], %z: float32[?, ?]) -> (%y, %c) {
  %y = tf.Relu(%x)
  %c = tf.PartitionedCall(%z) {Tin = [float32], Tout = [float32], f = @f}
}
function @f(a = %a: float32[*]) -> (r = %r) { %r = tf.Neg(%a) }
signature "serving_default"(x = %x, z = %z) -> (y = %y, c = %c)
"""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ('{dimensions=["x_0=8"]}', ["[8, 3]", "[z_0, z_1]"]),
        ('{dimensions=["x_0=8","z_1=2"]}', ["[8, 3]", "[z_0, 2]"]),
        ('{shapes=["x:5,3"]}', ["[5, 3]", "[z_0, z_1]"]),
        ('{shapes=["x:0:5,-1","z:?,4"]}', ["[5, 3]", "[z_0, 4]"]),
        ("{unknown=1}", ["[1, 3]", "[1, 1]"]),
        ('{shapes=["z:7,-1"],dimensions=["x_0=2"],unknown=9}', ["[2, 3]", "[7, 9]"]),
    ],
)
def test_shapes_dimensions_and_what_is_left(options: str, expected: list[str]) -> None:
    source = parse_model(TEXT)
    model = source.clone()
    run_pass(model, f"set-shapes{options}")
    assert [str(value.shape) for value in model.graph.inputs] == expected
    assert [str(value.shape) for value in model.graph.outputs] == expected
    for value in model.graph.inputs:
        assert str(value.node.attrs["shape"]) == str(value.shape).replace("z_0", "?").replace("z_1", "?")
    assert run_pass(model, f"set-shapes{options}").rules == {}
    if "z_" not in "".join(expected):
        assert_equivalent(model, source, runtime="reference")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ('{shapes=["q:1,3"]}', "there is no input 'q'"),
        ("{shapes=[x]}", "there is no input"),
        ('{shapes=["x:1,4"]}', r"input 'x' has shape \[x_0, 3\], not \[1, 4\]"),
        ('{shapes=["x:1,b"]}', "'1,b' is no shape"),
        ('{dimensions=["x_1=4"]}', "there is no dimension 'x_1'; did you mean "),
        ('{dimensions=["x_0"]}', "'x_0' is not of the form name=number"),
        ('{dimensions=["x_0=-1"]}', "is not of the form name=number"),
    ],
)
def test_what_does_not_exist_or_contradicts_is_refused(options: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        run_pass(parse_model(TEXT), f"set-shapes{options}")


def test_without_options_nothing_changes() -> None:
    assert check_pass("set-shapes", TEXT)[1].rules == {}


def test_what_follows_from_the_inputs_is_inferred_anew_in_loops_too() -> None:
    text = """
    graph @main(%x: float32[?]) -> (%y) {
      %enter = tf.Enter(%x) {frame_name = "loop"}
      %merge = tf.Merge(%enter, %next) {N = 2}
      %limit = tf.Const() {value = float32[] 9.0} after(%merge)
      %axis = tf.Const() {value = int32[1] [0]} after(%merge)
      %most = tf.Max(%merge, %axis)
      %less = tf.Less(%most, %limit)
      %cond = tf.LoopCond(%less)
      %switch = tf.Switch(%merge, %cond)
      %exp = tf.Exp(%switch:1)
      %next = tf.NextIteration(%exp)
      %y = tf.Exit(%switch)
    }
    """
    model = parse_model(text)
    run_pass(model, "set-shapes{unknown=4}")
    assert str(model.graph.node("y").output.shape) == "[4]"
    assert str(model.graph.node("exp").output.shape) == "[4]"
