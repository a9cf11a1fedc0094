"""merge-duplicates: equal things are computed once, and nothing that is not equal is."""

from __future__ import annotations

import pytest

from graphopt.ir.text import parse_model
from graphopt.passes import run_pass
from graphopt.passes.cleanup.merge_duplicates import attribute_key, value_key
from graphopt.testing import check_pass

NAME = "merge-duplicates"
HEAD = """
  %w = tf.Const() {value = float32[2] [1.0, 2.0]}
"""


def graph(body: str, outputs: str = "%y", inputs: str = "%x: float32[2]") -> str:
    return f"graph @main({inputs}) -> ({outputs}) {{\n{body}\n}}"


def test_one_node_stands_for_all_that_are_equal() -> None:
    before = f"""{HEAD}
      %a = tf.AddV2(%x, %w)
      %b = tf.AddV2(%w, %x)
      %c = tf.AddV2(%x, %w)
      %m = tf.Mul(%a, %b)
      %y = tf.Mul(%m, %c)
    """
    after = f"{HEAD}%a = tf.AddV2(%x, %w)\n%m = tf.Mul(%a, %a)\n%y = tf.Mul(%m, %a)"
    model, report = check_pass(NAME, graph(before), graph(after))
    assert report.rules == {NAME: 2}
    assert model.graph.node("a").origins == ("a", "b", "c")


def test_what_depends_on_equal_things_is_equal_in_the_same_sweep() -> None:
    lines = ["%a0 = tf.Relu(%x)", "%b0 = tf.Relu(%x)"]
    for place in range(20):
        lines += [f"%a{place + 1} = tf.Sub(%a{place}, %x)", f"%b{place + 1} = tf.Sub(%b{place}, %x)"]
    after = [line for line in lines if line.startswith("%a")]
    _, report = check_pass(
        NAME,
        graph("\n".join([*lines, "%y = tf.Mul(%a20, %b20)"])),
        graph("\n".join([*after, "%y = tf.Mul(%a20, %a20)"])),
    )
    assert report.rules == {NAME: 21}


def test_colocation_does_not_keep_equal_nodes_apart() -> None:
    before = """
      %a = tf.Neg(%x) {_class = [b"loc:@x"]}
      %b = tf.Neg(%x) {_class = [b"loc:@a"]}
      %c = tf.Neg(%x)
      %m = tf.Mul(%a, %b)
      %y = tf.Mul(%m, %c)
    """
    after = '%a = tf.Neg(%x) {_class = [b"loc:@x"]}\n%m = tf.Mul(%a, %a)\n%y = tf.Mul(%m, %a)'
    check_pass(NAME, graph(before), graph(after))


def test_constants_are_equal_when_their_bytes_are() -> None:
    before = """
      %a = tf.Const() {value = float32[2] [1.0, 2.0]}
      %b = tf.Const() {value = float32[2] [1.0, 2.0]}
      %m = tf.Mul(%x, %a)
      %y = tf.AddV2(%m, %b)
    """
    after = "%a = tf.Const() {value = float32[2] [1.0, 2.0]}\n%m = tf.Mul(%x, %a)\n%y = tf.AddV2(%m, %a)"
    check_pass(NAME, graph(before), graph(after))
    check_pass("merge-duplicates{constants=false}", graph(before))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("float32[2] [0.0, 0.0]", "float32[2] [-0.0, 0.0]"),
        ("float32[2] [1.0, 0x7fc00001]", "float32[2] [1.0, 0x7fc00002]"),
        ("float32[2] [1.0, 2.0]", "float32[1, 2] [1.0, 2.0]"),
        ("float32[1] [1.0]", "float32[] 1.0"),
        ("float32[1000] splat 1.0", "float32[1001] splat 1.0"),
    ],
)
def test_constants_that_are_nearly_equal(one: str, other: str) -> None:
    body = f"%a = tf.Const() {{value = {one}}}\n%b = tf.Const() {{value = {other}}}\n"
    check_pass(NAME, graph(body + "%r = tf.Relu(%x)", "%a, %b, %r"), runtime=None)
    check_pass(NAME, graph(body + "%c = tf.Neg(%a)\n%d = tf.Neg(%b)", "%c, %d"), runtime=None)


def test_large_constants_are_told_apart_in_the_middle() -> None:
    values = ["1.0"] * 100
    texts = [f"float32[100] [{', '.join(values)}]"]
    values[50] = "2.0"
    texts += [f"float32[100] [{', '.join(values)}]"] * 2
    body = "\n".join(f"%c{place} = tf.Const() {{value = {text}}}" for place, text in enumerate(texts))
    sums = "%s0 = tf.AddV2(%x, %c0)\n%s1 = tf.AddV2(%s0, %c1)\n%y = tf.AddV2(%s1, %c2)"
    model = parse_model(graph(f"{body}\n{sums}", inputs="%x: float32[100]"))
    run_pass(model, NAME)
    assert [node.name for node in model.graph if node.op == "tf.Const"] == ["c0", "c1"]


DIFFERENT = {
    "attributes": '%a = tf.Elu(%x)\n%b = tf.LeakyRelu(%x) {alpha = 0.5}\n%c = tf.LeakyRelu(%x) {alpha = 0.25}',
    "devices": '%a = tf.Neg(%x)\n%b = tf.Neg(%x) device("/cpu:0")\n%c = tf.Neg(%x) device("/cpu:1")',
    "waits": "%g = tf.NoOp()\n%k = tf.NoOp()\n%a = tf.Neg(%x)\n%b = tf.Neg(%x) after(%g)\n%c = tf.Neg(%x) after(%k)",
    "operand order": f"{HEAD}%a = tf.Sub(%x, %w)\n%b = tf.Sub(%w, %x)\n%c = tf.Sub(%x, %x)",
    "random": (
        "%s = tf.Const() {value = int32[1] [2]}\n%a = tf.RandomUniform(%s) {dtype = float32, seed = 1}\n"
        "%b = tf.RandomUniform(%s) {dtype = float32, seed = 1}\n%c = tf.Neg(%x)"
    ),
    "state": (
        "%a = tf.ReadVariableOp(%h) {dtype = float32}\n%b = tf.ReadVariableOp(%h) {dtype = float32}\n%c = tf.Neg(%x)"
    ),
    "references": (
        "%v = tf.VariableV2() {dtype = float32, shape = shape[2]}\n%a = tf.Identity(%v)\n"
        "%b = tf.Identity(%v)\n%c = tf.Neg(%x)"
    ),
    "strangers": "%a = tf.NobodyKnowsThis(%x)\n%b = tf.NobodyKnowsThis(%x)\n%c = tf.Neg(%x)",
}  # fmt: skip


@pytest.mark.parametrize("kind", DIFFERENT)
def test_what_differs_is_not_merged(kind: str) -> None:
    inputs = "%x: float32[2], %h: resource[]"
    check_pass(NAME, graph(DIFFERENT[kind], "%a, %b, %c", inputs), runtime=None)
    inner = DIFFERENT[kind] + "\n" + "\n".join(f"%{name}2 = tf.Tanh(%{name})" for name in "abc")
    if kind != "strangers":
        check_pass(NAME, graph(inner, "%a2, %b2, %c2", inputs), runtime=None)


def test_waits_in_any_order_are_equal() -> None:
    head = "%g = tf.NoOp()\n%h = tf.NoOp()\n%a = tf.Neg(%x) after(%g, %h)\n"
    before = head + "%b = tf.Neg(%x) after(%h, %g)\n%y = tf.Mul(%a, %b)"
    check_pass(NAME, graph(before), graph(head + "%y = tf.Mul(%a, %a)"))


def test_an_output_keeps_its_name_and_its_readers_read_the_other() -> None:
    text = """
      %a = tf.Relu(%x)
      %y = tf.Relu(%x)
      %z = tf.Neg(%{read})
      %late = tf.NoOp() after(%{read})
      %m = tf.Mul(%a, %z) after(%late)
    """
    before, after = text.format(read="y"), text.format(read="a")
    _, report = check_pass(NAME, graph(before, "%y, %m"), graph(after, "%y, %m"))
    assert [entry["reason"] for entry in report.refusals] == [
        "it is an output or target of the graph and keeps its name"
    ]
    check_pass("merge-duplicates{outputs=false}", graph(before, "%y, %m"))


def test_inputs_are_never_merged() -> None:
    text = """
    graph @main(%a, %b) -> (%y) {
      %a = tf.Const() {value = float32[] 1.0}
      %b = tf.Const() {value = float32[] 1.0}
      %y = tf.Sub(%a, %b)
    }"""
    check_pass(NAME, text, runtime=None)


def test_nodes_of_several_outputs() -> None:
    head = "%axis = tf.Const() {value = int32[] 0}\n"
    before = (
        head
        + "%s = tf.Split(%axis, %x) {num_split = 2}\n%t = tf.Split(%axis, %x) {num_split = 2}\n%y = tf.Sub(%s:1, %t)"
    )
    after = head + "%s = tf.Split(%axis, %x) {num_split = 2}\n%y = tf.Sub(%s:1, %s)"
    check_pass(NAME, graph(before), graph(after))


def test_calls_of_one_function_are_one() -> None:
    text = """
    graph @main(%x: float32[2]) -> (%y) {{
      %a = tf.PartitionedCall(%x) {{Tin = [float32], Tout = [float32], f = @f}}
      {call}
      %y = tf.Mul(%a, %{second})
    }}
    function @f(a = %a: float32[2]) -> (r = %r) {{
      %m = tf.Abs(%a)
      {inner}
      %r = tf.Mul(%m, %{last})
    }}
    """
    call = "%b = tf.PartitionedCall(%x) {Tin = [float32], Tout = [float32], f = @f}"
    before = text.format(call=call, second="b", inner="%n = tf.Abs(%a)", last="n")
    check_pass(NAME, before, text.format(call="", second="a", inner="", last="m"))


def test_v1_control_flow_stays_and_what_is_equal_within_a_branch_is_one() -> None:
    body = """
      %switch = tf.Switch(%x, %p)
      %again = tf.Switch(%x, %p)
      %a = tf.Neg(%switch:1)
      {line}
      %sum = tf.Mul(%a, %{other})
      %y = tf.Merge(%again, %sum) {{N = 2}}
    """
    inputs = "%x: float32[2], %p: bool[]"
    before = graph(body.format(line="%b = tf.Neg(%switch:1)", other="b"), inputs=inputs)
    check_pass(NAME, before, graph(body.format(line="", other="a"), inputs=inputs))


def test_keys_tell_apart_what_python_takes_for_equal() -> None:
    values = [1, True, 1.0, b"1", (1,), (True,), 0, 0.0, -0.0, None, ()]
    keys = [value_key(value) for value in values]
    assert len(set(keys)) == len(values)
    assert value_key(float("nan")) == value_key(float("nan"))
    assert attribute_key({"a": 1, "_output_shapes": (1,)}) == attribute_key({"a": 1})
