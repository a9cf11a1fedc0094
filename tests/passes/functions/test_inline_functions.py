"""inline-functions: bodies in place of calls, with names, effects and order kept."""

from __future__ import annotations

import pytest

from graphopt.ir.text import parse_model
from graphopt.ir.verifier import verify
from graphopt.passes import run_pass
from graphopt.passes.functions import inline_functions
from graphopt.testing import assert_contract_kept, assert_equivalent, check_pass

NAME = "inline-functions"
F = "function @f(a = %a: float32[2]) -> (r = %r) {\n  %m = tf.Neg(%a)\n  %r = tf.Relu(%m)\n}"
CALL = "tf.PartitionedCall(%x) {Tin = [float32], Tout = [float32], f = @f}"


def model(body: str, *functions: str, outputs: str = "%y", inputs: str = "%x: float32[2]") -> str:
    return "\n".join([f"graph @main({inputs}) -> ({outputs}) {{\n{body}\n}}", *functions])


def test_a_body_takes_the_place_of_the_call() -> None:
    before = model(f"%c = {CALL}\n%y = tf.Abs(%c)", F)
    after = model("%c/m = tf.Neg(%x)\n%c/r = tf.Relu(%c/m)\n%y = tf.Abs(%c/r)", F)
    result, report = check_pass(NAME, before, after)
    assert report.rules == {NAME: 1}
    assert result.graph.node("c/m").origins == ("c/m",)


@pytest.mark.parametrize("op", ["PartitionedCall", "StatefulPartitionedCall"])
def test_an_output_keeps_its_name(op: str) -> None:
    before = model(f"%y = {CALL}".replace("PartitionedCall", op), F)
    after = model("%y/m = tf.Neg(%x)\n%y/r = tf.Relu(%y/m)\n%y = tf.Identity(%y/r)", F)
    result, _ = check_pass(NAME, before, after)
    assert result.graph.node("y").source_names == ("y",)


def test_several_results_some_of_them_arguments() -> None:
    g = "function @g(a = %a: float32[2], b = %b: float32[2]) -> (p = %p, q = %b) { %p = tf.Sub(%a, %b) }"
    head = "%z = tf.Tanh(%x)\n"
    call = "tf.PartitionedCall(%x, %z) {Tin = [float32, float32], Tout = [float32, float32], f = @g}"
    check_pass(
        NAME,
        model(f"{head}%c = {call}\n%y = tf.Mul(%c, %c:1)", g),
        model(f"{head}%c/p = tf.Sub(%x, %z)\n%y = tf.Mul(%c/p, %z)", g),
    )
    named = model(f"{head}%y = {call}", g, outputs="%y:1, %y")
    after = model(f"{head}%y/p = tf.Sub(%x, %z)\n%y = tf.IdentityN(%y/p, %z)", g, outputs="%y:1, %y")
    check_pass(NAME, named, after)


def test_calls_within_bodies_by_level() -> None:
    g = f"function @g(a = %a: float32[2]) -> (r = %c) {{\n  %c = {CALL.replace('%x', '%a')}\n}}"
    before = model(f"%c = {CALL.replace('@f', '@g')}\n%y = tf.Abs(%c)", g, F)
    after_g = "function @g(a = %a: float32[2]) -> (r = %c/r) {\n  %c/m = tf.Neg(%a)\n  %c/r = tf.Relu(%c/m)\n}"
    whole = "%c/c/m = tf.Neg(%x)\n%c/c/r = tf.Relu(%c/c/m)\n%y = tf.Abs(%c/c/r)"
    _, report = check_pass(NAME, before, model(whole, after_g, F))
    assert report.rules == {NAME: 2}
    once = model("%c/c = tf.PartitionedCall(%x) {Tin = [float32], Tout = [float32], f = @f}\n%y = tf.Abs(%c/c)", g, F)
    one = parse_model(before)
    run_pass(one, "inline-functions{levels=1}")
    assert [node.name for node in one.graph] == [node.name for node in parse_model(once).graph]
    run_pass(one, "inline-functions{levels=1}")
    assert [node.name for node in one.graph] == ["x", "c/c/m", "c/c/r", "y"]


def test_a_function_may_be_the_operator_itself() -> None:
    before = model("%c = tf.f(%x) : float32[2]\n%y = tf.Abs(%c)", F)
    check_pass(NAME, before, model("%c/m = tf.Neg(%x)\n%c/r = tf.Relu(%c/m)\n%y = tf.Abs(%c/r)", F), runtime=None)


def test_a_gradient_that_the_library_names_is_a_call_of_it() -> None:
    f = F.replace("-> (r = %r) {", "-> (r = %r) gradient(@g) {")
    g = "function @g(a = %a: float32[2], d = %d: float32[2]) -> (p = %p) { %p = tf.Mul(%a, %d) }"
    head = "%z = tf.Tanh(%x)\n%c = tf.SymbolicGradient(%x, %z) {Tin = [float32, float32], Tout = [float32], f = @f}\n"
    after = "%z = tf.Tanh(%x)\n%c/p = tf.Mul(%x, %z)\n%y = tf.Abs(%c/p)"
    check_pass(NAME, model(f"{head}%y = tf.Abs(%c)", f, g), model(after, f, g), runtime=None)
    unnamed = parse_model(model(f"{head}%y = tf.Abs(%c)", F))
    assert run_pass(unnamed, NAME).rules == {}


def test_generic_bodies_take_their_attributes_from_the_call() -> None:
    g = "function @g(a = %a: unknown[*]) -> (r = %r) {\n%a = tf._Arg() {T = $T, index = 0}\n%r = tf.Neg(%a) {T = $T}\n}"
    source = parse_model(model(f"%c = {CALL.replace('@f', '@g{T = float32}')}\n%y = tf.Abs(%c)", g))
    result = source.clone()
    run_pass(result, NAME)
    verify(result)
    node = result.graph.node("c/r")
    assert node.attrs["T"].name == "float32"
    assert str(node.output.type) == "float32[*]"
    named = parse_model(model(f"%y = {CALL.replace('@f', '@g{T = float32}')}", g))
    run_pass(named, NAME)
    assert named.graph.node("y").attrs["T"].name == "float32"
    assert_equivalent(parse_model(model("%c = tf.Neg(%x)\n%y = tf.Abs(%c)")), result, runtime="reference")


REFUSED = {
    "function 'f' is marked _noinline": F.replace("-> (r = %r)", "-> (r = %r) attrs {_noinline = true}"),
    "function 'f' is marked _XlaMustCompile": F.replace("-> (r = %r)", "-> (r = %r) attrs {_XlaMustCompile = true}"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_functions_that_ask_to_be_kept_apart(reason: str) -> None:
    before = model(f"%c = {CALL}\n%y = tf.Abs(%c)", REFUSED[reason])
    _, report = check_pass(NAME, before)
    assert [entry["reason"] for entry in report.refusals] == [reason]
    after = model("%c/m = tf.Neg(%x)\n%c/r = tf.Relu(%c/m)\n%y = tf.Abs(%c/r)", REFUSED[reason])
    check_pass("inline-functions{always}", before, after)


def test_calls_that_do_not_fit() -> None:
    cases = {
        "it passes 2 arguments and expects 1 results; function 'f' has 1 and 1": (
            "tf.PartitionedCall(%x, %x) {Tin = [float32, float32], Tout = [float32], f = @f}"
        ),
        "argument 'a' is float32, it passes int32": "tf.PartitionedCall(%i) {Tin = [int32], Tout = [float32], f = @f}",
        "the library has no such function": CALL.replace("@f", "@nowhere"),
    }
    for reason, call in cases.items():
        source = parse_model(model(f"%c = {call}\n%y = tf.Abs(%c)", F, inputs="%x: float32[2], %i: int32[2]"))
        report = run_pass(source, NAME, verify_each=False)
        assert [entry["reason"] for entry in report.refusals] == [reason]
        assert source.graph.find("c") is not None


def test_growth_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inline_functions, "GROWTH_NODES", 0)
    monkeypatch.setattr(inline_functions, "GROWTH_FACTOR", 1)
    body = (
        "\n".join(f"%c{place} = {CALL}" for place in range(30))
        + "\n%y = tf.AddN("
        + ", ".join(f"%c{p}" for p in range(30))
        + ")"
    )
    source = parse_model(model(body, F))
    report = run_pass(source, NAME)
    assert report.rules == {NAME: 11}
    assert [(e["reason"], e["count"]) for e in report.refusals] == [
        ("its 3 nodes would let the model grow too much", 19)
    ]


# Effects and order --------------------------------------------------------------------------------------------

WRITES = """
function @w(h = %h: resource[], a = %a: float32[2]) -> (r = %r) control_outputs(done = %write) {
  %write = tf.AssignVariableOp(%h, %a) {dtype = float32}
  %r = tf.Neg(%a)
}
"""
WRITE_CALL = "tf.StatefulPartitionedCall(%h, %x) {Tin = [resource, float32], Tout = [float32], f = @w}"


def waits(text: str, name: str) -> dict[str, None]:
    """All that a node depends on after inlining, by name."""
    source = parse_model(text)
    result = source.clone()
    run_pass(result, NAME)
    verify(result)
    assert_contract_kept(source, result)
    seen: dict[str, None] = {}
    pending = [result.graph.node(name)]
    while pending:
        for producer in pending.pop().predecessors():
            if producer.name not in seen:
                seen[producer.name] = None
                pending.append(producer)
    return seen


INPUTS = "%x: float32[2], %h: resource[]"


def test_effects_come_before_what_depends_on_the_call() -> None:
    by_wait = f"%c = {WRITE_CALL}\n%y = tf.ReadVariableOp(%h) {{dtype = float32}} after(%c)"
    by_value = f"%c = {WRITE_CALL}\n%y = tf.Abs(%c)"
    for body in (by_wait, by_value):
        assert "c/write" in waits(model(body, WRITES, inputs=INPUTS), "y")


@pytest.mark.parametrize("reader", ["tf.ReadVariableOp(%h) {dtype = float32} after(%c)", "tf.Abs(%c)"])
def test_what_the_call_waited_for_comes_before_what_depends_on_the_call(reader: str) -> None:
    body = f"%first = tf.AssignVariableOp(%h, %x) {{dtype = float32}}\n%c = {CALL} after(%first)\n%y = {reader}"
    assert "first" in waits(model(body, F, inputs=INPUTS), "y")


def test_effects_within_wait_for_what_the_call_waited_for() -> None:
    body = f"%first = tf.NoOp()\n%c = {WRITE_CALL} after(%first)\n%y = tf.Abs(%c)"
    assert "first" in waits(model(body, WRITES, inputs=INPUTS), "c/write")


def test_a_call_that_is_a_target_keeps_its_name() -> None:
    text = model(f"%c = {WRITE_CALL}\n%y = tf.Abs(%x)", WRITES, inputs=INPUTS).replace(
        "(%y) {", "(%y) targets(%c) {", 1
    )
    assert "c/write" in waits(text, "c")
    both = model(f"%y = {WRITE_CALL}", WRITES, inputs=INPUTS).replace("(%y) {", "(%y) targets(%y) {", 1)
    assert "y/write" in waits(both, "y")


def test_as_control_output_of_a_function_a_call_passes_its_place_on() -> None:
    outer = """
    function @outer(h = %h: resource[], x = %x: float32[2]) -> (r = %r) control_outputs(done = %c) {
      %c = tf.StatefulPartitionedCall(%h, %x) {Tin = [resource, float32], Tout = [float32], f = @w}
      %r = tf.Abs(%x)
    }
    """
    source = parse_model(model(f"%y = {WRITE_CALL.replace('@w', '@outer')}", outer, WRITES, inputs=INPUTS))
    run_pass(source, NAME)
    verify(source)
    function = source.functions["outer"]
    gate = function.control_outputs["done"]
    assert [node.name for node in gate.control_inputs] == ["c/write"]
    assert list(function.targets) == [gate]


# v1 control flow ----------------------------------------------------------------------------------------------

CONSTANT = (
    "function @k(a = %a: float32[2]) -> (r = %r) {\n  %k = tf.Const() {value = float32[] 2.0}\n  %r = tf.Mul(%a, %k)\n}"
)


def test_constants_of_a_body_stay_in_the_branch_of_the_call() -> None:
    body = """
      %switch = tf.Switch(%x, %p)
      %inside = tf.Tanh(%switch:1)
      %c = tf.PartitionedCall(%inside) {Tin = [float32], Tout = [float32], f = @k}
      %y = tf.Merge(%switch, %c) {N = 2}
    """
    source = parse_model(model(body, CONSTANT, inputs="%x: float32[2], %p: bool[]"))
    result = source.clone()
    assert run_pass(result, NAME).rules == {NAME: 1}
    verify(result)
    gate = result.graph.node("c/k").control_inputs[0]
    assert [node.name for node in gate.control_inputs] == ["inside"]
    assert_equivalent(source, result, runtime="reference")


def test_a_call_whose_output_is_an_input_is_refused() -> None:
    text = model(f"%x = tf.Placeholder()\n%c = {CALL}\n%y = tf.Abs(%c)", F, inputs="%c: float32[2]")
    result = parse_model(text)
    report = run_pass(result, NAME)
    reason = "its output 'c' is an input of the graph: strip-unused cuts the graph there"
    assert [entry["reason"] for entry in report.refusals] == [reason]
    assert result.graph.node("c").op == "tf.PartitionedCall"


def test_a_call_that_reads_a_v1_branch_directly_is_refused() -> None:
    call = CALL.replace("%x", "%switch:1").replace("@f", "@k")
    body = f"%switch = tf.Switch(%x, %p)\n%c = {call}\n%y = tf.Merge(%switch, %c) {{N = 2}}"
    _, report = check_pass(NAME, model(body, CONSTANT, inputs="%x: float32[2], %p: bool[]"))
    assert [entry["reason"] for entry in report.refusals] == ["the constants of the body would leave its v1 branch"]


def test_three_thousand_calls_deep() -> None:
    functions = ["function @f0(a = %a: float32[]) -> (r = %r) { %r = tf.Neg(%a) }"]
    for place in range(1, 3000):
        call = f"tf.PartitionedCall(%a) {{Tin = [float32], Tout = [float32], f = @f{place - 1}}}"
        functions.append(f"function @f{place}(a = %a: float32[]) -> (r = %r) {{ %r = {call} }}")
    source = parse_model(model(f"%y = {CALL.replace('@f', '@f2999')}", *functions, inputs="%x: float32[]"))
    assert run_pass(source, NAME).rules == {NAME: 3000}
    assert [node.op_type for node in source.graph] == ["Placeholder", "Neg", "Identity"]
