"""Which functions are called with which handles turned into values, and the copies made for that."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from graphopt.ir.graph import Graph
from graphopt.ir.model import VARIABLES, Function, Model, callees, clone_graph, function_references, variable_name
from graphopt.ir.types import TensorType
from graphopt.ir.value import Node, Value
from graphopt.ir.variable_flow import LOOPS, GraphFlow, ModelFlow
from graphopt.passes.freeze.conversion import (
    convert_call,
    convert_node,
    drop_colocations,
    make_constant,
    renamed,
    settle_function,
)
from graphopt.passes.freeze.selection import Selection

Key = tuple["TensorType | None", ...]


class Contexts:
    """Every graph together with the types that replace its arguments; each such pair is converted once.

    A function called with no handle replaced stays itself; another gets a copy for each combination of types.
    """

    def __init__(self, flow: ModelFlow, selection: Selection):
        self.flow, self.selection, self.model = flow, selection, flow.model
        self.copies: dict[tuple[str, Key], str] = {}
        self._pending: deque[tuple[Graph, Key]] = deque()
        self._calls: dict[tuple[Graph, Key], dict[str, dict[str, str]]] = {}  # node -> function -> copy

    def run(self, doomed: dict[Node, None]) -> None:
        """Find all contexts without changing anything, make the copies, then convert every graph."""
        model, frozen = self.model, self.selection.frozen
        self._pending.append((model.graph, ()))
        for function in self.flow.order:
            if not any(token in frozen for token in self.flow.flows[function].offences):
                self._pending.append((function, (None,) * len(function.inputs)))
        contexts: dict[tuple[Graph, Key], None] = {}
        while self._pending:
            context = self._pending.popleft()
            if context not in contexts:
                contexts[context] = None
                self._calls[context] = self._look(*context, doomed)
        graphs: list[tuple[Graph, Graph, Key]] = []
        for original, key in contexts:
            if any(key):
                copy = clone_graph(original, self.copies[original.name, key])
                assert isinstance(copy, Function)
                model.add_function(copy)
                graphs.append((original, copy, key))
            else:
                graphs.append((original, original, key))
        for original, graph, key in sorted(graphs, key=lambda item: item[0] is item[1]):  # originals last
            self._convert(original, graph, key)
        self._take_names()

    def _look(self, graph: Graph, key: Key, doomed: dict[Node, None]) -> dict[str, dict[str, str]]:
        """The copies that each call of a graph needs."""
        flow = self.flow.flows[graph]
        found: dict[str, dict[str, str]] = {}
        users = dict.fromkeys(user for value in flow.tokens for user in value.users)
        for node in users:
            called = self.flow.called(node) if node not in doomed else None
            if called is None:
                continue
            inner = self._passed(flow, node, called[0].first, key)
            if any(inner):
                names = found[node.name] = {}
                for function in called[1]:
                    names[function.name] = self._copy_of(function, inner)
        return found

    def _passed(self, flow: GraphFlow, node: Node, first: int, key: Key) -> Key:
        called = self.flow.called(node)
        assert called is not None
        if node.op in LOOPS:
            groups = self.flow.operand_tokens(flow, node, called[0])
            return tuple(self.selection.type_of(tokens, key) for tokens in groups)
        inputs = node._inputs[first:]
        return tuple(self.selection.type_of(flow.tokens.get(v, ()) if v is not None else (), key) for v in inputs)

    def _copy_of(self, function: Function, key: Key) -> str:
        name = self.copies.get((function.name, key))
        if name is None:
            taken = dict.fromkeys(self.copies.values())
            name = base = f"{function.name}_frozen"
            count = 0
            while name in self.model.functions or name in taken:
                count += 1
                name = f"{base}_{count}"
            self.copies[function.name, key] = name
            self._pending.append((function, key))
        return name

    # Converting -----------------------------------------------------------------------------------------------

    def _convert(self, original: Graph, graph: Graph, key: Key) -> None:
        """Convert `graph`, which is `original` or a copy of it."""
        flow = self.flow.flows[original]
        values: dict[Value, TensorType] = {}
        for value, tokens in flow.tokens.items():
            wanted = self.selection.type_of(tokens, key)
            node = value.node if graph is original else graph.node(value.node.name)
            if wanted is not None and node.graph is graph:
                values[node.outputs[value.index]] = wanted
        nodes = self._constants(graph)
        if isinstance(graph, Function) and any(key):
            settle_function(graph, key)
        calls = self._calls[original, key]
        users = dict.fromkeys(user for value in values for user in value.users)
        called = dict.fromkeys(graph.node(name) for name in calls if graph.find(name) is not None)
        for value, wanted in values.items():
            value.type = wanted
        for node in dict.fromkeys((*users, *called)):
            if not convert_node(node, values) and self.flow.called(node) is not None:
                convert_call(node, values, calls.get(node.name, {}))
        drop_colocations(graph, nodes)

    def _constants(self, graph: Graph) -> list[str]:
        """Make constants of the variables' nodes of one graph; returns the names of the nodes."""
        firsts: dict[str, Value] = {}
        converted: list[str] = []
        frozen = self.selection.frozen
        for node in graph:
            name = variable_name(node) if node.op in VARIABLES else None
            if name is not None and name in frozen and not node.output.is_input:
                make_constant(node, frozen[name], firsts.get(name))
                firsts.setdefault(name, node.output)
                converted.append(node.name)
        return converted

    # Names ----------------------------------------------------------------------------------------------------

    def _take_names(self) -> None:
        """Where nothing calls a function any more but its copy, the copy takes its name and place."""
        superseded: dict[str, str] = {}
        for (name, _), copy in self.copies.items():
            superseded.setdefault(name, copy)
        reached = _reached(self.model, superseded)
        names = {copy: name for name, copy in superseded.items() if name not in reached}
        if not names:
            return
        gone = dict.fromkeys(names.values())
        order = [superseded[name] if name in gone else name for name in self.model.functions]
        functions = {name: self.model.functions[name] for name in dict.fromkeys(order)}
        self.model.functions.clear()
        self.model.functions.update(functions)
        rename_functions(self.model, names)


def rename_functions(model: Model, names: Mapping[str, str]) -> None:
    """Give functions of the library other names, which must be free, wherever they are referred to."""
    functions = list(model.functions.values())
    model.functions.clear()
    for function in functions:
        function.name = names.get(function.name, function.name)
        function.gradient = names.get(function.gradient or "", function.gradient)
        model.functions[function.name] = function
    for graph in model.graphs:
        _rename_references(graph, names)
        if isinstance(graph, Function):
            graph.attrs = {key: renamed(value, names) for key, value in graph.attrs.items()}


def _rename_references(graph: Graph, names: Mapping[str, str]) -> None:
    for node in graph:
        if node.op_type in names:
            node.op = f"tf.{names[node.op_type]}"
        for key, value in node.attrs.items():
            if any(reference.name in names for reference in function_references(value)):
                node.attrs[key] = renamed(value, names)


def _reached(model: Model, superseded: dict[str, str]) -> dict[str, None]:
    """Functions in use; those superseded by a copy count only where something still refers to them."""
    pending: list[Graph] = [model.graph, *(signature.graph for signature in model.signatures.values())]
    pending += [function for name, function in model.functions.items() if name not in superseded]
    reached: dict[str, None] = {}
    while pending:
        for name in _references(pending.pop()):
            if name not in reached and name in model.functions:
                reached[name] = None
                pending.append(model.functions[name])
    for signature in model.signatures.values():
        reached[signature.graph.name] = None
    return reached


def _references(graph: Graph) -> Sequence[str]:
    found: dict[str, Any] = dict.fromkeys(name for node in graph for name in callees(node))
    if isinstance(graph, Function):
        found.update((r.name, None) for value in graph.attrs.values() for r in function_references(value))
        if graph.gradient:
            found[graph.gradient] = None
    return list(found)
