"""remove-control-dependencies."""

from __future__ import annotations

from graphopt.ir.text import parse_model
from graphopt.passes import run_pass
from graphopt.testing import check_pass


def test_everywhere() -> None:
    before = """
    function @f(%a: float32[2]) -> (%b) { %n = tf.NoOp() after(%a) %b = tf.Neg(%a) after(%n) }
    graph @main(%x: float32[2]) -> (%y) targets(%group) {
      %c = tf.PartitionedCall(%x) {f = @f}
      %group = tf.NoOp() after(%c, %x)
      %y = tf.Abs(%c) after(%group)
    }
    """
    after = before
    for wait in ("after(%a)", "after(%n)", "after(%c, %x)", "after(%group)"):
        after = after.replace(wait, "")
    _, report = check_pass("remove-control-dependencies", before, after)
    assert report.rules == {"remove-control-dependencies": 4}


def test_constants_stay_in_their_branch() -> None:
    model = parse_model("""
    graph @main(%x: float32[2], %p: bool[]) -> (%y) {
      %s = tf.Switch(%x, %p)
      %pivot = tf.Identity(%s:1)
      %one = tf.Const() {value = float32[] 1.0} after(%pivot)
      %sum = tf.AddV2(%pivot, %one) after(%one)
      %y = tf.Merge(%s, %sum)
    }
    """)
    report = run_pass(model, "remove-control-dependencies")
    assert [node.name for node in model.graph.node("one").control_inputs] == ["pivot"]
    assert model.graph.node("sum").control_inputs == ()
    assert report.refusals[0]["reason"] == "it would leave its v1 branch or loop"
