"""Graphs: order, names, edits that are refused leave everything as it was, size and depth."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from graphopt.ir import Graph, GraphError, Node, Value, tensor_type
from graphopt.ir.text import parse_graph, print_graph
from graphopt.ir.traversal import reachable
from graphopt.ir.verifier import problems, verify

FLOAT = tensor_type("float32")


def small() -> Graph:
    return parse_graph("""
    graph @main(%x: float32[?]) -> (%c, %b) targets(%t) {
      %a = tf.Relu(%x)
      %b = tf.Tanh(%a)
      %c = tf.AddV2(%a, %b)
      %dead = tf.Exp(%b)
      %t = tf.NoOp() after(%a)
    }""")


def names(graph: Graph) -> list[str]:
    return [node.name for node in graph]


# Reading ------------------------------------------------------------------------------------------------------


def test_lookup() -> None:
    graph = parse_graph(
        "graph @g(%x: float32[4]) -> () { %s = tf.Split(%d, %x) {num_split = 2} %d = tf.Const() {value = int32[] 0} }"
    )
    assert graph.find("s") is graph.node("s")
    assert graph.find("none") is None
    assert graph.value("s") is graph.value("s:0")
    assert graph.value("s:1").index == 1
    assert len(graph) == 3
    assert graph.node("s") in graph
    assert "s" not in graph
    for name, message in (
        ("none", "no node 'none'"),
        ("s:2", "'s' (tf.Split) has no output 2"),
        ("s:x", "no node 's:x'"),
    ):
        with pytest.raises(GraphError, match=message.replace("(", r"\(").replace(")", r"\)")):
            graph.value(name)


def test_order_forwards_and_backwards() -> None:
    graph = small()
    assert names(graph) == ["x", "a", "b", "c", "dead", "t"]
    assert [node.name for node in reversed(graph)] == names(graph)[::-1]


# Iterating while editing --------------------------------------------------------------------------------------


def test_iteration_visits_what_is_inserted_after_and_not_what_is_inserted_before() -> None:
    graph = small()
    seen = []
    for node in graph:
        seen.append(node.name)
        if node.name == "b":
            graph.create_node("tf.NoOp", name="earlier", types=(), before=node)
            graph.create_node("tf.NoOp", name="later", types=(), before=graph.node("c"))
            graph.create_node("tf.NoOp", name="last", types=())
    assert seen == ["x", "a", "b", "later", "c", "dead", "t", "last"]


def test_iteration_survives_the_removal_of_the_current_node_and_of_its_neighbours() -> None:
    graph = Graph()
    for place in range(6):
        graph.create_node("tf.NoOp", name=f"n{place}", types=())
    seen = []
    for node in graph:
        seen.append(node.name)
        if node.name == "n1":
            for name in ("n1", "n2", "n0", "n4"):
                graph.remove(graph.node(name))
    assert seen == ["n0", "n1", "n3", "n5"]
    assert names(graph) == ["n3", "n5"]
    assert [node.name for node in reversed(graph)] == ["n5", "n3"]


def test_backward_iteration_survives_removal() -> None:
    graph = Graph()
    for place in range(4):
        graph.create_node("tf.NoOp", name=f"n{place}", types=())
    seen = []
    for node in reversed(graph):
        seen.append(node.name)
        graph.remove(node)
    assert seen == ["n3", "n2", "n1", "n0"]
    assert len(graph) == 0
    verify(graph)


# Edits --------------------------------------------------------------------------------------------------------


def test_names_are_made_unique_in_constant_time() -> None:
    graph = Graph()
    assert [graph.create_node("tf.NoOp", types=()).name for _ in range(3)] == ["NoOp", "NoOp_1", "NoOp_2"]
    assert graph.create_node("tf.NoOp", name="NoOp_1", types=()).name == "NoOp_1_1"
    graph.remove(graph.node("NoOp_1"))
    assert graph.unique_name("NoOp_1") == "NoOp_1"
    for _ in range(20_000):
        graph.create_node("tf.NoOp", types=())
    assert graph.unique_name("NoOp") == "NoOp_20003"


def test_moving_and_reordering() -> None:
    graph = small()
    graph.move(graph.node("dead"), graph.node("x"))
    graph.move(graph.node("a"), None)
    graph.move(graph.node("a"), graph.node("a"))
    assert names(graph) == ["dead", "x", "b", "c", "t", "a"]
    graph.sort()
    order = names(graph)
    assert order.index("x") < order.index("a") < order.index("b") < order.index("dead")
    verify(graph)


def test_sorting_leaves_a_sorted_list_alone() -> None:
    graph = small()
    before = names(graph)
    graph.sort()
    assert names(graph) == before


def test_replacing_a_value_moves_outputs_and_uses() -> None:
    graph = small()
    graph.replace_value(graph.value("b"), graph.value("a"))
    assert [value.name for value in graph.outputs] == ["c", "a"]
    assert graph.node("c").inputs == (graph.value("a"), graph.value("a"))
    assert not graph.value("b").is_output
    graph.remove_all([graph.node("b"), graph.node("dead")])
    verify(graph)


def test_an_output_may_be_listed_twice() -> None:
    graph = small()
    graph.outputs = [graph.value("b"), graph.value("b")]
    graph.outputs = [graph.value("b")]
    assert graph.value("b").is_output
    graph.outputs = ()
    assert not graph.value("b").is_output
    verify(graph)


def test_removing_a_cycle_at_once() -> None:
    graph = parse_graph("""
    graph @main(%x: int32[]) -> () {
      %merge = tf.Merge(%x, %next)
      %next = tf.NextIteration(%merge)
    }""")
    graph.remove_all(graph.node(name) for name in ("merge", "next"))
    assert names(graph) == ["x"]
    assert graph.value("x").use_count == 0
    verify(graph)


def test_renaming() -> None:
    graph = small()
    graph.rename(graph.node("a"), "z")
    graph.rename(graph.node("z"), "z")
    assert graph.find("a") is None
    assert graph.value("z").name == "z"
    assert names(graph)[1] == "z"
    verify(graph)


def _foreign() -> Node:
    return Graph().create_node("tf.Relu", name="foreign", types=(FLOAT,))


REFUSED: list[tuple[Callable[[Graph], object], str]] = [
    (lambda g: g.remove(g.node("a")), "still in use"),
    (lambda g: g.remove(g.node("x")), "still in use"),
    (lambda g: g.remove(g.node("c")), "still in use"),
    (lambda g: g.remove(g.node("t")), "still in use"),
    (lambda g: g.remove(_foreign()), "is not of graph"),
    (lambda g: g.remove_all([g.node("dead"), g.node("b")]), "is an input, an output or a target"),
    (lambda g: g.remove_all([g.node("dead"), g.node("t")]), "is an input, an output or a target"),
    (lambda g: g.remove_all([g.node("dead"), g.node("a")]), "still used by"),
    (lambda g: g.remove_all([g.node("dead"), _foreign()]), "is not of graph"),
    (lambda g: g.rename(g.node("a"), "b"), "already has a node 'b'"),
    (lambda g: g.rename(_foreign(), "q"), "is not of graph"),
    (lambda g: g.insert(g.node("a")), "already belongs to a graph"),
    (lambda g: g.insert(Node("tf.NoOp", "a")), "already has a node 'a'"),
    (lambda g: g.insert(Node("tf.NoOp", "new"), before=_foreign()), "is not of graph"),
    (lambda g: g.create_node("tf.Relu", [g.value("x")], before=_foreign()), "is not of graph"),
    (lambda g: g.move(_foreign(), None), "cannot move"),
    (lambda g: g.move(g.node("a"), _foreign()), "cannot move"),
    (lambda g: g.reorder([g.node("a")]), "must list each of its nodes once"),
    (lambda g: g.reorder([g.node("a")] * 6), "must list each of its nodes once"),
    (lambda g: g.reorder([*list(g)[:-1], _foreign()]), "is not of graph"),
    (lambda g: g.replace_value(g.value("b"), _foreign().output), "is not of graph"),
    (lambda g: setattr(g, "outputs", [g.value("a"), _foreign().output]), "is not of graph"),
    (lambda g: setattr(g, "inputs", [g.value("a"), _foreign().output]), "is not of graph"),
    (lambda g: setattr(g, "targets", [g.node("a"), _foreign()]), "is not of graph"),
    (lambda g: g.node("a").add_control_input(g.node("a")), "cannot wait for itself"),
    (lambda g: g.node("t").set_control_inputs([g.node("b"), g.node("t")]), "cannot wait for itself"),
    (lambda g: g.node("c").replace_input(2, g.value("a")), "has no input 2"),
    (lambda g: g.node("c").replace_input(-1, g.value("a")), "has no input -1"),
    (lambda g: g.node("c").input(5), "has no input 5"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "message"), REFUSED)
def test_a_refused_edit_changes_nothing(edit: Callable[[Graph], object], message: str) -> None:
    graph = small()
    before = print_graph(graph)
    uses = {value.name: value.uses for node in graph for value in node.outputs}
    with pytest.raises(GraphError, match=message):
        edit(graph)
    assert print_graph(graph) == before
    assert {value.name: value.uses for node in graph for value in node.outputs} == uses
    verify(graph)


# Cycles and order ---------------------------------------------------------------------------------------------


def test_a_cycle_is_named_and_sorting_changes_nothing() -> None:
    graph = parse_graph("""
    graph @main(%x: float32[]) -> () {
      %a = tf.AddV2(%x, %c) : float32[]
      %b = tf.Relu(%a) : float32[]
      %c = tf.Relu(%b) : float32[]
      %after = tf.Relu(%c) : float32[]
    }""")
    before = names(graph)
    with pytest.raises(GraphError, match="graph 'main' has a cycle: ") as caught:
        graph.sort()
    assert all(f"'{name}'" in str(caught.value) for name in "abc")
    assert "after" not in str(caught.value)
    assert names(graph) == before
    assert {node.name for node in graph.find_cycle()} == {"a", "b", "c"}


def test_a_cycle_of_control_inputs_is_a_cycle() -> None:
    graph = parse_graph("graph @g() -> () { %a = tf.NoOp() after(%b) %b = tf.NoOp() after(%a) }")
    assert len(graph.find_cycle()) == 2
    with pytest.raises(GraphError, match="has a cycle"):
        graph.topological_order()


def test_reachable_stops_where_it_is_told() -> None:
    graph = small()
    found = reachable([graph.node("c"), graph.node("t")])
    assert {node.name for node in found} == {"c", "t", "a", "b", "x"}
    found = reachable([graph.node("c")], stop=lambda node: node.name == "a")
    assert {node.name for node in found} == {"c", "b", "a"}


# Size and depth -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
def test_deep_chains(reverse: bool) -> None:
    graph = Graph()
    value = graph.create_node("tf.Placeholder", types=(FLOAT,)).output
    for place in range(10_000):
        value = graph.create_node("tf.Relu", [value], name=f"r{place}", types=(FLOAT,)).output
    if reverse:
        graph.reorder(list(reversed(list(graph))))
    assert len(graph.topological_order()) == 10_001
    assert graph.find_cycle() == []
    assert len(reachable([value.node])) == 10_001
    graph.sort()
    graph.remove_all(list(graph))
    assert len(graph) == 0


def test_a_wide_node_is_edited_in_place() -> None:
    graph = Graph()
    a, b = (graph.create_node("tf.Const", types=(FLOAT,)).output for _ in range(2))
    node = graph.create_node("tf.AddN", [a] * 100_000, types=(FLOAT,))
    held = node._inputs
    assert isinstance(held, list)
    assert a.replace_all_uses_with(b) == 100_000
    for place in range(0, 100_000, 10):
        node.replace_input(place, a)
    assert node._inputs is held  # never copied: an edit costs the same however many inputs there are
    assert (a.use_count, b.use_count) == (10_000, 90_000)
    assert node.input_count == 100_000
    assert problems(graph) == []


# Any sequence of edits ----------------------------------------------------------------------------------------


class Edits(RuleBasedStateMachine):
    """Random edits; after each the verifier finds nothing, and a refused one changed nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.graph = Graph()
        self.model: list[str] = []  # names in order: what the linked list must say

    @initialize()
    def begin(self) -> None:
        self.create("tf.Placeholder", 0, [], 1)

    def nodes(self) -> list[Node]:
        return list(self.graph)

    def values(self) -> list[Value]:
        return [value for node in self.graph for value in node.outputs]

    def at(self, place: int) -> Node:
        nodes = self.nodes()
        return nodes[place % len(nodes)]

    @rule(
        op=st.sampled_from(["tf.Unheard", "tf.Unseen"]),
        place=st.integers(0, 9),
        reads=st.lists(st.integers(0, 99), max_size=3),
        outputs=st.integers(0, 2),
    )
    def create(self, op: str, place: int, reads: list[int], outputs: int) -> None:
        values, nodes = self.values(), self.nodes()
        inputs = [values[read % len(values)] for read in reads] if values else []
        before = nodes[place] if place < len(nodes) else None
        node = self.graph.create_node(op, inputs, before=before, types=(FLOAT,) * outputs)
        self.model.insert(place if place < len(nodes) else len(nodes), node.name)

    @precondition(lambda self: len(self.graph))
    @rule(place=st.integers(0, 99), cascade=st.booleans())
    def remove(self, place: int, cascade: bool) -> None:
        doomed = [self.at(place)]
        if cascade:
            for node in doomed:
                doomed += [user for user in node.successors() if user not in doomed]
        before = print_graph(self.graph)
        removed = [node.name for node in doomed]
        try:
            self.graph.remove_all(doomed) if cascade else self.graph.remove(doomed[0])
        except GraphError:
            assert print_graph(self.graph) == before
        else:
            self.model = [name for name in self.model if name not in removed]

    @precondition(lambda self: len(self.graph))
    @rule(node=st.integers(0, 99), before=st.none() | st.integers(0, 99))
    def move(self, node: int, before: int | None) -> None:
        moved, target = self.at(node), None if before is None else self.at(before)
        self.graph.move(moved, target)
        if target is not moved:
            self.model.remove(moved.name)
            self.model.insert(len(self.model) if target is None else self.model.index(target.name), moved.name)

    @precondition(lambda self: self.values())
    @rule(old=st.integers(0, 99), new=st.integers(0, 99))
    def replace_value(self, old: int, new: int) -> None:
        values = self.values()
        self.graph.replace_value(values[old % len(values)], values[new % len(values)])

    @precondition(lambda self: self.values())
    @rule(node=st.integers(0, 99), index=st.integers(0, 2), new=st.integers(0, 99))
    def replace_input(self, node: int, index: int, new: int) -> None:
        user, values = self.at(node), self.values()
        if index < user.input_count:
            user.replace_input(index, values[new % len(values)])

    @precondition(lambda self: len(self.graph))
    @rule(node=st.integers(0, 99), waits=st.lists(st.integers(0, 99), max_size=3), add=st.booleans())
    def control(self, node: int, waits: list[int], add: bool) -> None:
        user = self.at(node)
        chosen = [self.at(wait) for wait in waits if self.at(wait) is not user]
        if add:
            for other in chosen:
                user.add_control_input(other)
        else:
            user.set_control_inputs(chosen)

    @precondition(lambda self: self.values())
    @rule(places=st.lists(st.integers(0, 99), max_size=3), what=st.sampled_from(["inputs", "outputs"]))
    def list_values(self, places: list[int], what: str) -> None:
        values = self.values()
        setattr(self.graph, what, [values[place % len(values)] for place in places])

    @precondition(lambda self: len(self.graph))
    @rule(places=st.lists(st.integers(0, 99), max_size=2))
    def list_targets(self, places: list[int]) -> None:
        self.graph.targets = [self.at(place) for place in places]

    @precondition(lambda self: len(self.graph))
    @rule(place=st.integers(0, 99), name=st.sampled_from(["p", "q", "Unseen", "Unseen_1"]))
    def rename(self, place: int, name: str) -> None:
        node = self.at(place)
        old = node.name
        try:
            self.graph.rename(node, name)
        except GraphError:
            assert node.name == old
        else:
            self.model[self.model.index(old)] = name

    @precondition(lambda self: not self.graph.find_cycle())
    @rule()
    def sort(self) -> None:
        self.graph.sort()
        self.model = names(self.graph)
        seen: set[Node] = set()
        for node in self.graph:
            assert all(producer in seen for producer in node.predecessors())
            seen.add(node)

    @invariant()
    def holds(self) -> None:
        assert [problem for problem in problems(self.graph) if "has a cycle" not in problem] == []
        assert names(self.graph) == self.model
        assert [node.name for node in reversed(self.graph)] == self.model[::-1]


TestEdits = Edits.TestCase
