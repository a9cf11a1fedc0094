"""prune-control-dependencies: waits that order nothing go, those that order effects stay."""

from __future__ import annotations

import pytest

from graphopt.testing import check_pass

NAME = "prune-control-dependencies"


def graph(body: str, outputs: str = "%y", inputs: str = "%x: float32[2]") -> str:
    return f"graph @main({inputs}) -> ({outputs}) {{\n{body}\n}}"


def test_waits_for_what_has_no_effects_are_dropped() -> None:
    before = """
      %w = tf.Const() {value = float32[] 1.0}
      %done = tf.NoOp() after(%w)
      %y = tf.Relu(%x) after(%done, %w)
    """
    after = """
      %w = tf.Const() {value = float32[] 1.0}
      %done = tf.NoOp()
      %y = tf.Relu(%x)
    """
    _, report = check_pass(NAME, graph(before), graph(after))
    assert report.rules == {NAME: 3}


@pytest.mark.parametrize(
    "effect",
    [
        "%effect = tf.AssignVariableOp(%h, %x) {dtype = float32}",
        '%effect = tf.Print(%x) {U = [], message = "seen"}',
        "%effect = tf.Assert(%ok, %x) {T = [float32]}",
        "%effect = tf.NobodyKnowsThis(%x)",
        "%shape = tf.Const() {value = int32[1] [2]}\n%effect = tf.RandomUniform(%shape) {dtype = float32}",
    ],
)
def test_waits_for_effects_stay_also_through_others(effect: str) -> None:
    body = f"""
      {effect}
      %between = tf.NoOp() after(%effect)
      %y = tf.Relu(%x) after(%between)
    """
    check_pass(NAME, graph(body, inputs="%x: float32[2], %h: resource[], %ok: bool[]"), runtime=None)


def test_waits_for_what_reads_an_effect_stay() -> None:
    body = """
      %read = tf.ReadVariableOp(%h) {dtype = float32}
      %double = tf.AddV2(%read, %read)
      %pure = tf.Neg(%x)
      %y = tf.Relu(%x) after(%double{more})
    """
    inputs = "%x: float32[2], %h: resource[]"
    before, after = (
        graph(body.replace("{more}", ", %pure"), inputs=inputs),
        graph(body.replace("{more}", ""), inputs=inputs),
    )
    check_pass(NAME, before, after, runtime=None)


def test_graphs_with_v1_control_flow_are_refused() -> None:
    body = """
      %switch = tf.Switch(%x, %p)
      %inside = tf.Identity(%switch:1)
      %one = tf.Const() {value = float32[] 1.0} after(%inside)
      %sum = tf.AddV2(%inside, %one)
      %y = tf.Merge(%switch, %sum) {N = 2}
    """
    _, report = check_pass(NAME, graph(body, inputs="%x: float32[2], %p: bool[]"))
    assert [(entry["reason"], entry["nodes"]) for entry in report.refusals] == [
        ("the graph has v1 control flow", ["one"])
    ]


def test_inside_function_bodies() -> None:
    text = """
    graph @main(%x: float32[2]) -> (%y) {{
      %y = tf.PartitionedCall(%x) {{Tin = [float32], Tout = [float32], f = @f}}
    }}
    function @f(a = %a: float32[2]) -> (r = %r) control_outputs(done = %gate) {{
      %gate = tf.NoOp(){first}
      %r = tf.Neg(%a){second}
    }}
    """
    before = text.format(first=" after(%a)", second=" after(%gate)")
    model, _ = check_pass(NAME, before, text.format(first="", second=""))
    assert model.functions["f"].control_outputs["done"].name == "gate"
