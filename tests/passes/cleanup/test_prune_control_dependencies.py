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
    inputs = "%x: float32[2], %h: resource[], %ok: bool[]"
    after = graph(body.replace("%x) after(%between)", "%x) after(%effect)"), inputs=inputs)
    check_pass(NAME, graph(body, inputs=inputs), after, runtime=None)


def test_who_waits_for_nothing_waits_for_what_it_waits_for() -> None:
    body = """
      %e1 = tf.NobodyKnowsThis(%x)
      %e2 = tf.NobodyKnowsThis(%e1)
      %one = tf.NoOp() after(%e1)
      %both = tf.NoOp() after({both})
      %a = tf.Relu(%x) after({a})
      %b = tf.Neg(%a) after({b})
      %many = tf.NoOp() after(%a, %e1, %e2)
      %c = tf.Abs(%b) after(%many)
      %d = tf.Sign(%c) after(%many)
      %y = tf.AddV2(%c, %d) after(%many)
    """
    before = graph(body.format(both="%one, %e2", a="%both", b="%one"))
    after = graph(body.format(both="%e2, %e1", a="%e2, %e1", b="%e1"))
    check_pass(NAME, before, after, runtime=None)


def test_in_v1_branches_only_what_is_said_twice_is_dropped() -> None:
    body = """
      %switch = tf.Switch(%x, %p)
      %pivot = tf.Identity(%switch:1)
      %gate = tf.NoOp() after({gate})
      %effect = tf.NobodyKnowsThis(%switch:1)
      %one = tf.Const() {{value = float32[] 1.0}} after({one})
      %inside = tf.Identity(%switch:1) after({inside})
      %sum = tf.AddV2(%inside, %one) after({sum})
      %y = tf.Merge(%switch, %sum) {{N = 2}} after({merge})
    """
    before = body.format(
        gate="%pivot, %switch", one="%gate", inside="%switch, %effect", sum="%gate, %effect", merge="%sum, %pivot"
    )
    after = body.format(gate="%pivot", one="%pivot", inside="%effect", sum="%effect", merge="%sum, %pivot")
    inputs = "%x: float32[2], %p: bool[]"
    check_pass(NAME, graph(before, inputs=inputs), graph(after, inputs=inputs), runtime=None)


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


def test_what_ties_a_node_to_its_v1_branch_stays() -> None:
    body = """
      %out = tf.Neg(%x)
      %switch = tf.Switch(%x, %p)
      %inside = tf.Identity(%switch:1)
      %one = tf.Const() {{value = float32[] 1.0}} after(%inside{more})
      %sum = tf.AddV2(%inside, %one)
      %y = tf.Merge(%switch, %sum) {{N = 2}}{waits}
    """
    before, after = body.format(more=", %out", waits=" after(%out)"), body.format(more="", waits="")
    inputs = "%x: float32[2], %p: bool[]"
    check_pass(NAME, graph(before, inputs=inputs), graph(after, inputs=inputs))


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
