"""remove-nodes: what only passes its input on, dropout at inference, assertions."""

from __future__ import annotations

import pytest

from graphopt.testing import check_pass

NAME = "remove-nodes"


def graph(body: str, outputs: str = "%y", inputs: str = "%x: float32[2]") -> str:
    return f"graph @main({inputs}) -> ({outputs}) {{\n{body}\n}}"


@pytest.mark.parametrize(
    "passing",
    [
        "Identity(%a)", "Snapshot(%a)", "StopGradient(%a)", "PreventGradient(%a)",
        'CheckNumerics(%a) {message = "bad"}',
    ],
)  # fmt: skip
def test_what_passes_its_input_on_is_spliced_out(passing: str) -> None:
    before = f"%a = tf.Relu(%x)\n%b = tf.{passing}\n%late = tf.NoOp() after(%b)\n%y = tf.Neg(%b) after(%late)"
    after = "%a = tf.Relu(%x)\n%late = tf.NoOp() after(%a)\n%y = tf.Neg(%a) after(%late)"
    _, report = check_pass(NAME, graph(before), graph(after))
    assert report.rules == {NAME: 1}


def test_chains_and_each_output_of_an_identity_of_several() -> None:
    before = """
      %a = tf.Relu(%x)
      %both = tf.IdentityN(%a, %x)
      %one = tf.Identity(%both)
      %two = tf.Identity(%both:1)
      %y = tf.Sub(%one, %two)
    """
    check_pass(NAME, graph(before), graph("%a = tf.Relu(%x)\n%y = tf.Sub(%a, %x)"))


def test_what_was_known_of_the_shape_is_kept() -> None:
    text = (
        "graph @main(%x: float32[?]) -> (%y) {\n%a = tf.Relu(%x)\n%b = tf.Identity(%a) : float32[7]\n%y = tf.Neg(%b)\n}"
    )
    after = "graph @main(%x: float32[?]) -> (%y) {\n%a = tf.Relu(%x)\n%y = tf.Neg(%a)\n}"
    model, _ = check_pass(NAME, text, after, runtime=None)
    assert model.graph.node("a").output.shape.static == (7,)


def test_only_the_operators_asked_for() -> None:
    before = "%a = tf.Identity(%x)\n%b = tf.Relu(%a)\n%c = tf.Snapshot(%b)\n%y = tf.Neg(%c)"
    after = "%a = tf.Identity(%x)\n%b = tf.Relu(%a)\n%y = tf.Neg(%b)"
    check_pass("remove-nodes{operators=[Snapshot]}", graph(before), graph(after))


def test_a_node_of_several_inputs_only_if_asked_for() -> None:
    body = "%a = tf.Relu(%x)\n%b = tf.Maximum(%a, %x)\n%y = tf.Neg(%b)"
    check_pass("remove-nodes{operators=[Maximum]}", graph(body))
    after = "%a = tf.Relu(%x)\n%y = tf.Neg(%a)"
    check_pass("remove-nodes{operators=[Maximum],max-inputs=2}", graph(body), graph(after))


REFUSED = {
    "it is an output of the graph": "%y = tf.Identity(%x)",
    "it waits for 'gate'": "%gate = tf.NoOp()\n%b = tf.Identity(%x) after(%gate)\n%y = tf.Merge(%b, %x) {N = 2}",
    "it waits for 'first'": (
        "%first = tf.NoOp()\n%gate = tf.NoOp()\n%b = tf.Identity(%x) after(%first, %gate)\n"
        "%c = tf.Neg(%b)\n%y = tf.Mul(%b, %c)"
    ),
    "it reads a reference at a given moment": (
        "%v = tf.VariableV2() {dtype = float32, shape = shape[2]}\n%b = tf.Identity(%v)\n%y = tf.Neg(%b)"
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_refusals(reason: str) -> None:
    _, report = check_pass(NAME, graph(REFUSED[reason]), runtime=None)
    assert [entry["reason"] for entry in report.refusals] == [reason]


@pytest.mark.parametrize(("waits", "readers"), [("%first", 2), ("%first, %gate", 1)])
def test_readers_wait_for_what_the_node_waited_for(waits: str, readers: int) -> None:
    head = "%first = tf.NoOp()\n%gate = tf.NoOp()\n"
    before = head + f"%b = tf.Identity(%x) after({waits})\n%c = tf.Neg(%b)\n%late = tf.NoOp() after(%c)\n"
    after = head + f"%c = tf.Neg(%x) after({waits})\n%late = tf.NoOp() after(%c)\n"
    y = "%y = tf.Mul({b}, %c) after(%late{more})"
    check_pass(
        NAME,
        graph(before + y.format(b="%b" if readers == 2 else "%x", more="")),
        graph(after + y.format(b="%x", more=", %first" if readers == 2 else "")),
    )


def test_placeholders_nobody_feeds_have_their_default_only_if_asked_for() -> None:
    body = """
      %default = tf.Const() {value = float32[2] splat 0.5}
      %rate = tf.PlaceholderWithDefault(%default) {shape = shape[?]}
      %y = tf.Mul(%x, %rate)
    """
    after = "%default = tf.Const() {value = float32[2] splat 0.5}\n%y = tf.Mul(%x, %default)"
    check_pass(NAME, graph(body))
    check_pass("remove-nodes{defaults=true}", graph(body), graph(after))
    fed = f"graph @main(%x, %rate) -> (%y) {{\n%x = tf.Placeholder() {{dtype = float32}}\n{body}\n}}"
    check_pass("remove-nodes{defaults=true}", fed, runtime=None)
    check_pass("remove-nodes{defaults=true}", fed.replace("%x, %rate) ->", ") ->"), runtime=None)


def test_a_waiting_output_of_a_function_stays() -> None:
    text = """
    graph @main(%x: float32[2]) -> (%y) {
      %y = tf.PartitionedCall(%x) {Tin = [float32], Tout = [float32], f = @f}
    }
    function @f(a = %a: float32[2]) -> (r = %r) {
      %effect = tf.NobodyKnowsThis(%a)
      %n = tf.Neg(%a)
      %r = tf.Identity(%n) after(%effect)
    }
    """
    check_pass(NAME, text, runtime=None)


def test_inputs_and_targets_of_the_graph_are_refused() -> None:
    text = """
    graph @main(%b) -> (%y) targets(%t) {
      %a = tf.Placeholder() {dtype = float32}
      %b = tf.Identity(%a)
      %t = tf.Identity(%b)
      %y = tf.Neg(%t)
    }"""
    _, report = check_pass(NAME, text, runtime=None)
    assert [(entry["nodes"], entry["reason"]) for entry in report.refusals] == [
        (["b"], "it is an input of the graph"),
        (["t"], "it is a target of the graph"),
    ]


def test_another_element_type_is_refused() -> None:
    body = "%b = tf.Cast(%x) {DstT = int32}\n%y = tf.Neg(%b)"
    _, report = check_pass("remove-nodes{operators=[Cast]}", graph(body), runtime=None)
    assert [entry["reason"] for entry in report.refusals] == ["its output is int32, its input float32"]


def test_outputs_of_functions_are_no_names_to_keep() -> None:
    text = """
    graph @main(%x: float32[2]) -> (%y) {{
      %y = tf.PartitionedCall(%x) {{Tin = [float32], Tout = [float32], f = @f}}
    }}
    function @f(a = %a: float32[2]) -> (r = %{result}) {{
      %m = tf.Neg(%a)
      {rest}
    }}
    """
    before = text.format(result="r", rest="%r = tf.Identity(%m)")
    model, _ = check_pass(NAME, before, text.format(result="m", rest=""))
    assert model.functions["f"].output_names == ["r"]


# v1 control flow ----------------------------------------------------------------------------------------------


def test_an_anchor_of_a_v1_branch_is_refused_and_other_identities_go() -> None:
    body = """
      %switch = tf.Switch(%x, %p)
      %anchor = tf.Identity(%switch:1)
      %one = tf.Const() {{value = float32[] 1.0}} after(%anchor)
      %sum = tf.AddV2(%switch:1, %one)
      {same}
      %y = tf.Merge(%switch, %{last}) {{N = 2}}
    """
    inputs = "%x: float32[2], %p: bool[]"
    before = graph(body.format(same="%same = tf.Identity(%sum)", last="same"), inputs=inputs)
    _, report = check_pass(NAME, before, graph(body.format(same="", last="sum"), inputs=inputs))
    assert [entry["reason"] for entry in report.refusals] == ["it anchors control dependencies of a v1 branch or loop"]


def test_identities_in_a_v1_loop() -> None:
    body = """
      %enter = tf.Enter(%x) {{frame_name = "loop"}}
      %merge = tf.Merge(%enter, %next) {{N = 2}}
      %limit = tf.Const() {{value = float32[] 9.0}} after(%merge)
      %less = tf.Less(%merge, %limit)
      %cond = tf.LoopCond(%less)
      %switch = tf.Switch(%merge, %cond)
      {body}
      %one = tf.Const() {{value = float32[] 1.0}} after(%limit)
      %add = tf.AddV2({read}, %one)
      %next = tf.NextIteration(%add)
      %y = tf.Exit(%switch)
    """
    inputs = "%x: float32[]"
    before = graph(body.format(body="%body = tf.Identity(%switch:1)", read="%body"), inputs=inputs)
    check_pass(NAME, before, graph(body.format(body="", read="%switch:1"), inputs=inputs))


# Dropout ------------------------------------------------------------------------------------------------------

DRAWN = """
  %shape = tf.Shape(%x)
  %drawn = tf.RandomUniform(%shape) {dtype = float32}
  %low = tf.Const() {value = float32[] 0.0}
  %random = tf.AddV2(%drawn, %low)
"""
FLOOR = f"""
  {DRAWN}
  %keep = tf.Const() {{value = float32[] 0.5}}
  %noise = tf.AddV2(%random, %keep)
  %floor = tf.Floor(%noise)
  %scaled = tf.RealDiv(%a, %keep)
  %dropped = tf.Mul(%scaled, %floor)
"""
CAST = f"""
  {DRAWN}
  %rate = tf.Const() {{value = float32[] 0.2}}
  %scale = tf.Const() {{value = float32[] 1.25}}
  %keeps = tf.GreaterEqual(%random, %rate)
  %mask = tf.Cast(%keeps) {{DstT = float32}}
  %scaled = tf.Mul(%a, %scale)
  %dropped = tf.Mul(%mask, %scaled)
"""
SELECT = f"""
  {DRAWN}
  %rate = tf.Const() {{value = float32[] 0.2}}
  %scale = tf.Const() {{value = float32[] 1.25}}
  %zero = tf.Const() {{value = float32[] 0.0}}
  %keeps = tf.GreaterEqual(%random, %rate)
  %scaled = tf.Mul(%a, %scale)
  %dropped = tf.SelectV2(%keeps, %scaled, %zero)
"""


@pytest.mark.parametrize("dropout", [FLOOR, CAST, SELECT], ids=["floor", "cast", "select"])
def test_dropout_is_removed_in_every_form(dropout: str) -> None:
    before = graph(f"%a = tf.Relu(%x)\n{dropout}\n%y = tf.Neg(%dropped)")
    check_pass(NAME, before, runtime=None)
    check_pass("remove-nodes{dropout}", before, graph("%a = tf.Relu(%x)\n%y = tf.Neg(%a)"), runtime=None)


def test_dropout_that_is_an_output_keeps_its_name() -> None:
    before = graph(f"%a = tf.Relu(%x)\n{SELECT}", "%dropped")
    after = graph("%a = tf.Relu(%x)\n%dropped = tf.Identity(%a)", "%dropped")
    check_pass("remove-nodes{dropout}", before, after, runtime=None)


@pytest.mark.parametrize("dropout", [CAST, SELECT], ids=["cast", "select"])
def test_a_scale_that_is_no_dropouts_is_refused(dropout: str) -> None:
    text = graph(f"%a = tf.Relu(%x)\n{dropout}\n%y = tf.Neg(%dropped)").replace("1.25", "1.5")
    _, report = check_pass("remove-nodes{dropout}", text, runtime=None)
    assert "the kept values are scaled by 1.5, not by 1 / (1 - 0.20000000298023224)" in [
        entry["reason"] for entry in report.refusals
    ]


def test_what_is_not_random_is_no_dropout() -> None:
    text = f"%a = tf.Relu(%x)\n{SELECT}\n%y = tf.Neg(%dropped)".replace(
        "%drawn = tf.RandomUniform(%shape) {dtype = float32}", "%drawn = tf.Fill(%shape, %low)"
    )
    check_pass("remove-nodes{dropout}", graph(text), runtime=None)


# Assertions ---------------------------------------------------------------------------------------------------

ASSERTED = """
  %zero = tf.Const() {value = float32[] 0.0}
  %axis = tf.Const() {value = int32[1] [0]}
  %most = tf.Max(%x, %axis)
  %fine = tf.GreaterEqual(%most, %zero)
  %gate = tf.NoOp()
  %check = tf.Assert(%fine, %x) {T = [float32]} after(%gate)
  %seen = tf.Print(%x, %most) {U = [float32]}
"""


def test_assertions_and_prints_go_if_asked_for() -> None:
    before = graph(f"{ASSERTED}\n%y = tf.Neg(%seen) after(%check)")
    check_pass(NAME, before)
    kept = "\n".join(line for line in ASSERTED.splitlines() if "%check" not in line and "%seen" not in line)
    _, report = check_pass("remove-nodes{assertions}", before, graph(f"{kept}\n%y = tf.Neg(%x) after(%gate)"))
    assert report.rules == {NAME: 2}


def test_an_assertion_that_is_a_target_stays() -> None:
    text = graph(ASSERTED.replace("%seen", "%y")).replace("(%y) {", "(%y) targets(%check) {")
    _, report = check_pass("remove-nodes{assertions}", text)
    assert ("it is a target of the graph", ["check"]) in [(e["reason"], e["nodes"]) for e in report.refusals]


def test_as_control_output_of_a_function_an_assertion_goes() -> None:
    text = """
    graph @main(%x: float32[2]) -> (%y) {{
      %y = tf.StatefulPartitionedCall(%x) {{Tin = [float32], Tout = [float32], f = @f}}
    }}
    function @f(a = %a: float32[2]) -> (r = %r) control_outputs({control}other = %gate) {{
      %fine = tf.Const() {{value = bool[] true}}
      %gate = tf.NoOp()
      {check}
      %r = tf.Neg(%a)
    }}
    """
    before = text.format(control="done = %check, ", check="%check = tf.Assert(%fine, %a) {T = [float32]}")
    check_pass("remove-nodes{assertions}", before, text.format(control="", check=""))
