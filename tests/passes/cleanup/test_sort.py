"""sort: producers before consumers, stably or in the one order that follows from the outputs."""

from __future__ import annotations

import pytest

from graphopt.ir import GraphError
from graphopt.ir.text import parse_model
from graphopt.passes import run_pass
from graphopt.testing import Strictness, check_pass

STRICT = Strictness(origins=False)


def graph(*lines: str, outputs: str = "%y") -> str:
    return f"graph @main() -> ({outputs}) {{\n" + "\n".join(lines) + "\n}"


X = "%x = tf.Placeholder() {dtype = float32, shape = shape[2]}"
A, B = "%a = tf.Abs(%x)", "%b = tf.Neg(%x)"
Y = "%y = tf.AddV2(%a, %b)"


def test_producers_come_before_consumers_and_the_rest_stays() -> None:
    _, report = check_pass("sort", graph(Y, B, A, X), graph(X, A, B, Y), strictness=STRICT, runtime=None)
    assert report.rules == {"sort": 1}


def test_a_sorted_graph_stays_as_it_is() -> None:
    assert check_pass("sort", graph(X, B, A, Y), strictness=STRICT, runtime=None)[1].rules == {}


@pytest.mark.parametrize("order", [(X, A, B, Y), (Y, B, A, X), (X, B, A, Y), (B, Y, X, A)])
def test_the_canonical_order_is_one(order: tuple[str, ...]) -> None:
    check_pass("sort{canonical}", graph(*order), graph(X, A, B, Y), strictness=STRICT, runtime=None)


def test_roots_are_taken_by_name_and_what_is_dead_comes_last() -> None:
    lines = ("%dead = tf.Relu(%x)", X, "%q = tf.Neg(%x)", "%p = tf.Abs(%x)")
    model, _ = check_pass(
        "sort{canonical}", graph(*lines, outputs="%q, %p"),
        graph(X, "%p = tf.Abs(%x)", "%q = tf.Neg(%x)", "%dead = tf.Relu(%x)", outputs="%q, %p"),
        strictness=STRICT, runtime=None,
    )  # fmt: skip
    assert [value.name for value in model.graph.outputs] == ["q", "p"]


def test_control_inputs_count() -> None:
    lines = ("%y = tf.NoOp() after(%b)", B, X)
    text = "graph @main() -> () targets(%y) {\n" + "\n".join(lines) + "\n}"
    model, _ = check_pass("sort", text, text, strictness=Strictness(order=False), runtime=None)
    assert [node.name for node in model.graph] == ["x", "b", "y"]


def test_the_back_edges_of_v1_loops_do_not_count() -> None:
    body = [
        '%enter = tf.Enter(%x) {frame_name = "loop"}',
        "%merge = tf.Merge(%enter, %next) {N = 2}",
        "%limit = tf.Const() {value = float32[] 9.0} after(%merge)",
        "%less = tf.Less(%merge, %limit)",
        "%cond = tf.LoopCond(%less)",
        "%switch = tf.Switch(%merge, %cond)",
        "%one = tf.Const() {value = float32[] 1.0} after(%switch)",
        "%add = tf.AddV2(%switch:1, %one)",
        "%next = tf.NextIteration(%add)",
        "%y = tf.Exit(%switch)",
    ]
    head = "graph @main(%x: float32[]) -> (%y) {\n"
    before, after = (head + "\n".join(lines) + "\n}" for lines in (reversed(body), body))
    for options in ("", "{canonical}"):
        model, _ = check_pass(f"sort{options}", before, after, strictness=Strictness(order=False, origins=False))
        seen: set[str] = set()
        for node in model.graph:
            assert node.op == "tf.Merge" or {p.name for p in node.predecessors()} <= seen
            seen.add(node.name)


def test_any_other_cycle_is_an_error_that_names_it() -> None:
    model = parse_model("graph @main() -> (%a) {\n %a = tf.Neg(%b)\n %b = tf.Abs(%a)\n }")
    with pytest.raises(GraphError, match=r"pass 'sort' failed: graph 'main' has a cycle: '\w' -> '\w'"):
        run_pass(model, "sort", verify_each=False)


def test_the_canonical_library_is_sorted_by_name() -> None:
    text = """
    graph @main(%x: float32[2]) -> (%y) {{
      %z = tf.PartitionedCall(%x) {{Tin = [float32], Tout = [float32], f = @zebra}}
      %y = tf.PartitionedCall(%z) {{Tin = [float32], Tout = [float32], f = @ant}}
    }}
    {}
    {}
    """
    zebra = "function @zebra(a = %a: float32[2]) -> (r = %r) { %r = tf.Neg(%a) }"
    ant = "function @ant(a = %a: float32[2]) -> (r = %r) { %r = tf.Abs(%a) }"
    check_pass("sort", text.format(zebra, ant), strictness=STRICT)
    _, report = check_pass("sort{canonical}", text.format(zebra, ant), text.format(ant, zebra), strictness=STRICT)
    assert report.rules == {"sort": 1}


def test_bodies_of_functions_are_sorted_too() -> None:
    text = """
    graph @main(%x: float32[2]) -> (%y) {{
      %y = tf.PartitionedCall(%x) {{Tin = [float32], Tout = [float32], f = @f}}
    }}
    function @f(a = %a: float32[2]) -> (r = %r) {{
      {}
    }}
    """
    lines = ["%m = tf.Neg(%a)", "%r = tf.Abs(%m)"]
    check_pass("sort", text.format("\n".join(reversed(lines))), text.format("\n".join(lines)), strictness=STRICT)
