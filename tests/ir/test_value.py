"""Nodes and values: wiring that always knows both of its ends."""

from __future__ import annotations

import pytest

from graphopt.ir import Graph, GraphError, Node, tensor_type
from graphopt.ir.text import parse_graph
from graphopt.ir.value import WIDE, values_of
from graphopt.ir.verifier import verify

FLOAT = tensor_type("float32")


def small() -> Graph:
    return parse_graph("""
    graph @main(%x: float32[?]) -> (%c) {
      %a = tf.Relu(%x)
      %c = tf.AddV2(%a, %a) after(%n)
      %n = tf.NoOp() after(%a)
    }""")


def test_names_of_values() -> None:
    node = Node("tf.Split", "split")
    first, second = node.add_output(), node.add_output()
    assert (first.name, second.name) == ("split", "split:1")
    second.name = "mine"
    assert second.name == "mine"
    second.name = None
    assert second.name == "split:1"


def test_operator_and_dialect() -> None:
    node = Node("tfl.CONV_2D", "n")
    assert (node.dialect, node.op_type) == ("tfl", "CONV_2D")
    assert node.attr("absent") is None
    assert node.attr("absent", 3) == 3


def test_source_names_are_the_origins_or_the_nodes_own() -> None:
    node = Node("tf.Relu", "n")
    assert node.source_names == ("n",)
    node.origins = ("a", "b")
    assert node.source_names == ("a", "b")


def test_uses_are_in_the_order_they_were_made() -> None:
    graph = small()
    a, c = graph.node("a").output, graph.node("c")
    d = graph.create_node("tf.Relu", [a], types=(FLOAT,))
    assert a.uses == ((c, 0), (c, 1), (d, 0))
    assert a.users == (c, d)
    assert a.use_count == 3
    c.replace_input(0, graph.value("x"))
    c.replace_input(0, a)
    assert a.uses == ((c, 1), (d, 0), (c, 0))


def test_uses_are_a_snapshot() -> None:
    graph = small()
    a, x = graph.value("a"), graph.value("x")
    for node, index in a.uses:
        node.replace_input(index, x)
    assert a.uses == ()
    assert x.use_count == 3
    verify(graph)


def test_replacing_all_uses_leaves_outputs_alone() -> None:
    graph = small()
    graph.outputs = [graph.value("a")]
    assert graph.value("a").replace_all_uses_with(graph.value("x")) == 2
    assert graph.value("a").replace_all_uses_with(graph.value("x")) == 0
    assert graph.value("x").replace_all_uses_with(graph.value("x")) == 0
    assert graph.outputs == (graph.value("a"),)
    verify(graph)


def test_replacing_by_a_value_that_the_user_reads_already() -> None:
    graph = small()
    both = graph.create_node("tf.AddV2", [graph.value("x"), graph.value("a")], name="both", types=(FLOAT,))
    graph.value("a").replace_all_uses_with(graph.value("x"))
    assert both.inputs == (graph.value("x"),) * 2
    verify(graph)


def test_what_needs_a_node() -> None:
    graph = small()
    node = graph.create_node("tf.Relu", [graph.value("x")], types=(FLOAT,))
    assert not node.has_uses
    graph.targets = [node]
    assert node.has_uses
    graph.targets = []
    graph.outputs = [node.output]
    assert node.has_uses
    graph.outputs = []
    graph.inputs = [node.output]
    assert node.has_uses
    graph.inputs = []
    graph.node("n").add_control_input(node)
    assert node.has_uses
    graph.node("n").remove_control_input(node)
    assert not node.has_uses


@pytest.mark.parametrize("count", [0, 1, WIDE, WIDE + 1])
def test_inputs_are_a_tuple_however_many(count: int) -> None:
    graph = small()
    a, x = graph.value("a"), graph.value("x")
    node = graph.create_node("tf.AddN", [a] * count, name="sum", types=(FLOAT,))
    assert node.inputs == (a,) * count
    assert node.input_count == count
    if count:
        node.replace_input(count - 1, x)
        node.replace_input(count - 1, x)
        assert node.input(-1) is x
        node.replace_input(0, None)
        with pytest.raises(GraphError, match=r"node 'sum' \(tf.AddN\) has no input 0"):
            node.input(0)
    assert [v for v in node.inputs if v is a] == [a] * max(count - 2, 0)
    node.set_inputs([x])
    assert node.inputs == (x,)
    assert (node, count - 1) not in x.uses[:-1]
    verify(graph)


def test_setting_inputs_from_the_nodes_own() -> None:
    graph = small()
    node = graph.node("c")
    node.set_inputs(reversed([*node.inputs, graph.value("x")]))
    assert [value.name for value in node.inputs if value] == ["x", "a", "a"]


def test_a_failing_iterable_changes_nothing() -> None:
    graph = small()
    node = graph.node("c")

    def failing():  # type: ignore[no-untyped-def]
        yield graph.value("x")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        node.set_inputs(failing())
    assert node.inputs == (graph.value("a"),) * 2
    verify(graph)


def test_control_inputs_are_a_set_in_order() -> None:
    graph = small()
    a, c, n, x = (graph.node(name) for name in "acnx")
    c.add_control_input(a)
    c.add_control_input(n)
    assert c.control_inputs == (n, a)
    assert n.control_users == (c,)
    c.remove_control_input(x)
    c.set_control_inputs([x, n, x])
    assert c.control_inputs == (x, n)
    assert a.control_users == (n,)
    c.set_control_inputs(c.control_inputs)
    assert c.control_inputs == (x, n)
    verify(graph)


def test_neighbours() -> None:
    graph = small()
    a, c, n, x = (graph.node(name) for name in "acnx")
    assert list(c.predecessors()) == [a, a, n]
    assert list(a.successors()) == [c, n]
    assert list(n.successors()) == [c]
    assert list(x.predecessors()) == []
    assert list(values_of([a, n, c])) == [a.output, c.output]


def test_representations_are_safe_to_print() -> None:
    node = Node("tf.Relu", "a\x1b[2J")
    value = node.add_output(FLOAT)
    graph = Graph("g\n")
    for thing in (node, value, graph):
        assert repr(thing).isprintable()
