"""The invariants of the IR, checked in memory and linear in nodes.

`verify(model)` raises `VerificationError`; `problems(model)` lists what is wrong. What a format leaves open (an old
graph without type attributes, an operator nobody knows) is not a problem; what contradicts itself is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress

from graphopt.ir.attributes import FunctionRef
from graphopt.ir.errors import VerificationError, printable
from graphopt.ir.graph import Graph
from graphopt.ir.model import Function, Model, callees, function_references
from graphopt.ir.operator_rules import Operator, OperatorRules, agree
from graphopt.ir.ops.interfaces import interface
from graphopt.ir.traversal import BACK_EDGE_SOURCES
from graphopt.ir.value import Node, Value

LIMIT = 20  # problems after which looking on tells nobody more


def verify(subject: Model | Graph, *, contracts: bool = True) -> None:
    """Raise `VerificationError`, naming the first problems and their nodes, unless every invariant holds.

    Without `contracts`, what nodes ask of one another is not checked: element types, attributes, arguments of calls.
    Files that contradict themselves there exist, and TensorFlow reads them.
    """
    found = problems(subject, LIMIT, contracts=contracts)
    if found:
        more = " (there may be more)" if len(found) >= LIMIT else ""
        raise VerificationError(f"the graph breaks {len(found)} of its invariants{more}: " + "; ".join(found))


def problems(subject: Model | Graph, limit: int = LIMIT, *, contracts: bool = True) -> list[str]:
    """What is wrong with a model, or with one graph of it: at most `limit` sentences, empty if nothing is."""
    model = subject if isinstance(subject, Model) else subject.model
    checker = _Checker(model, limit, contracts)
    with suppress(_EnoughError):
        for graph in [subject] if isinstance(subject, Graph) else list(subject.graphs):
            checker.check_graph(graph)
        if isinstance(subject, Model):
            checker.check_model(subject)
    return checker.found


class _EnoughError(Exception):
    """As many problems as were asked for have been found."""


class _Checker:
    """One verification: what was found, and what was learnt of operators on the way."""

    __slots__ = ("_calls", "_contracts", "_functions", "_graph", "_limit", "_rules", "found")

    def __init__(self, model: Model | None, limit: int, contracts: bool):
        self._contracts = contracts
        self.found: list[str] = []
        self._limit = limit
        self._functions: Mapping[str, Function] = model.functions if model is not None else {}
        self._rules = OperatorRules(self._functions, self._report)
        self._calls: dict[str, dict[str, None]] = {}  # caller -> callees
        self._graph = Graph()

    def _report(self, node: Node | None, problem: str) -> None:
        name = printable(self._graph.name)
        where = f"graph '{name}'" if node is None else f"node '{printable(node._name)}' ({printable(node.op)})"
        if node is not None and isinstance(self._graph, Function):
            where += f" in function '{name}'"
        self.found.append(f"{where} {problem}")
        if len(self.found) >= self._limit:
            raise _EnoughError

    # A graph --------------------------------------------------------------------------------------------------

    def check_graph(self, graph: Graph) -> None:
        self._graph = graph
        nodes = self._listed(graph)
        self._check_interface(graph)
        seen: set[Node] = set()
        rules = self._rules
        in_order, reads, uses, waits, waiters, listed = True, 0, 0, 0, 0, 0
        for node in nodes:
            inputs = node._inputs
            if inputs:
                reads += len(inputs)
                for index, value in enumerate(inputs):
                    if value is None:
                        reads -= 1
                        continue
                    producer = value.node
                    if producer not in seen:
                        in_order = in_order and producer.op in BACK_EDGE_SOURCES
                    if producer.graph is not graph or value._uses is None or (node, index) not in value._uses:
                        self._report_edge(node, index, value)
            for index, value in enumerate(node.outputs):
                if value._uses:
                    uses += len(value._uses)
                if value.index != index or value.node is not node:
                    self._report(node, f"has an output {index} that takes itself for another")
                if value._inputs or value._outputs:
                    listed += value._inputs + value._outputs
            if node._control_inputs:
                waits += len(node._control_inputs)
                in_order = self._check_controls(node, seen) and in_order
            if node._control_users:
                waiters += len(node._control_users)
            seen.add(node)
            if not self._contracts:
                self._note_calls(node)
                continue
            caller = rules.check(node)
            if caller is not None:
                self._check_calls(node, caller)
        if reads != uses:
            self._report_stray_uses(nodes)
        if waits != waiters:
            self._report_stray_waits(nodes)
        if listed != len(graph._inputs) + len(graph._outputs):
            self._report(None, "has values that take themselves for its inputs or outputs, and are not listed")
        if not in_order:
            self._check_cycle(graph)

    def _listed(self, graph: Graph) -> list[Node]:
        """The nodes of the list, as far as its links can be trusted."""
        names = graph._names
        nodes: list[Node] = []
        previous: Node | None = None
        node = graph._first
        while node is not None and len(nodes) <= len(names):
            if node._prev is not previous or node.graph is not graph:
                self._report(node, "is not linked as a node of its graph is")
                break
            if names.get(node._name) is not node:
                self._report(node, "has a name that the graph knows for another node or not at all")
            nodes.append(node)
            previous, node = node, node._next
        else:
            if graph._last is not previous or len(nodes) != len(names):
                self._report(None, f"lists {len(nodes)} nodes and knows {len(names)} names")
        return nodes

    def _check_interface(self, graph: Graph) -> None:
        for what, values in (("input", graph._inputs), ("output", graph._outputs)):
            for value in values:
                if value.node.graph is not graph or not _is_own(value):
                    self._report(None, f"has an {what} '{printable(value.name)}' that is none of its values")
        for what, values in (("input", graph._inputs), ("output", graph._outputs)):
            times: dict[Value, int] = {}
            for value in values:
                times[value] = times.get(value, 0) + 1
            for value, number in times.items():
                count = value._inputs if what == "input" else value._outputs
                if count != number:
                    self._report(value.node, f"counts {count} listings as graph {what} instead of {number}")
        for node in graph._targets:
            if node.graph is not graph:
                self._report(None, f"has a target '{printable(node._name)}' that is none of its nodes")
        if isinstance(graph, Function):
            self._check_function(graph)

    def _check_function(self, function: Function) -> None:
        for what, names, values in (
            ("input", function.input_names, function._inputs),
            ("output", function.output_names, function._outputs),
        ):
            if len(names) != len(values):
                self._report(None, f"has {len(values)} {what}s and {len(names)} names for them")
            if len(set(names)) != len(names):
                self._report(None, f"gives two {what}s the same name")
        for name, node in function.control_outputs.items():
            if node not in function._targets:
                self._report(None, f"has a control output '{printable(name)}' that is no target")
        if function.gradient is not None and not self._resolves(function.gradient):
            self._report(None, f"has a gradient function '{printable(function.gradient)}' that is not in the library")

    def _check_controls(self, node: Node, seen: set[Node]) -> bool:
        """Whether all that `node` waits for comes before it in the list."""
        in_order = True
        for control in node._control_inputs or ():
            if control not in seen:
                in_order = False
            if control.graph is not self._graph:
                self._report(node, f"waits for '{printable(control._name)}', which is no node of the graph")
            elif not control._control_users or node not in control._control_users:
                self._report(node, f"waits for '{printable(control._name)}', which does not know it")
        return in_order

    def _check_cycle(self, graph: Graph) -> None:
        if self.found:
            return  # a broken graph must not be walked
        cycle = graph.find_cycle()
        if cycle:
            path = " -> ".join(f"'{printable(node._name)}'" for node in cycle[:8])
            self._report(None, f"has a cycle: {path}{' -> …' if len(cycle) > 8 else ''}")

    # What the fast checks found broken ------------------------------------------------------------------------

    def _report_edge(self, node: Node, index: int, value: Value) -> None:
        if value.node.graph is not self._graph or not _is_own(value):
            self._report(node, f"reads '{printable(value.name)}' at {index}, which is no value of the graph")
        else:
            self._report(node, f"reads '{printable(value.name)}' at {index}, which does not know of the use")

    def _report_stray_uses(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            for value in node.outputs:
                for user, index in value.uses:
                    inputs = user._inputs
                    if user.graph is not self._graph or index >= len(inputs) or inputs[index] is not value:
                        self._report(node, f"believes that '{printable(user._name)}' reads '{printable(value.name)}'")

    def _report_stray_waits(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            for user in node.control_users:
                if user.graph is not self._graph or not user._control_inputs or node not in user._control_inputs:
                    self._report(node, f"believes that '{printable(user._name)}' waits for it")

    # Functions ------------------------------------------------------------------------------------------------

    def _resolves(self, name: str) -> bool:
        return name in self._functions or interface(name) is not None

    def _note_calls(self, node: Node) -> dict[str, None]:
        """What `node` calls, remembered for the search for functions that call themselves."""
        called = dict.fromkeys(callees(node))
        if called:
            self._calls.setdefault(self._graph.name if isinstance(self._graph, Function) else "", {}).update(called)
        return called

    def _check_calls(self, node: Node, operator: Operator) -> None:
        if self._graph.model is None:
            return
        for name in self._note_calls(node):
            if not self._resolves(name):
                self._report(node, f"refers to function '{printable(name)}', which is not in the library")
        if operator.calls is None:
            return
        attrs, first = operator.calls
        for attr in attrs:
            for reference in function_references(node.attrs.get(attr)):
                self._check_call(node, reference, first)

    def _check_call(self, node: Node, reference: FunctionRef, first: int) -> None:
        function = self._functions.get(reference.name)
        passed = node.inputs[first:]
        if function is None:
            return
        name = printable(function.name)
        if len(function.inputs) != len(passed):
            self._report(node, f"passes {len(passed)} values to '{name}', which takes {len(function.inputs)}")
            return
        for index, (wanted, given) in enumerate(zip(function.inputs, passed, strict=True)):
            if given is not None and not agree(wanted.dtype, given.dtype):
                self._report(node, f"passes {given.dtype} to '{name}' at {index}, which takes {wanted.dtype}")

    def check_model(self, model: Model) -> None:
        """The function library and the signatures, once every graph is checked."""
        self._graph = model.graph
        for graph in model.graphs:
            if graph.model is not model:
                self._report(None, f"is listed in a model, and '{printable(graph.name)}' does not know it")
        for name, function in model.functions.items():
            if function.name != name:
                self._report(None, f"knows function '{printable(function.name)}' by the name '{printable(name)}'")
        self._check_recursion(model)
        for name, signature in model.signatures.items():
            if all(signature.graph is not graph for graph in model.graphs):
                self._report(None, f"has a signature '{printable(name)}' of no graph of the model")
            for what, places, count in (
                ("input", signature.inputs, len(signature.graph.inputs)),
                ("output", signature.outputs, len(signature.graph.outputs)),
            ):
                for key, place in places.items():
                    if type(place) is not int or not 0 <= place < count:
                        self._report(None, f"has no {what} {place} for '{printable(key)}' of '{printable(name)}'")

    def _check_recursion(self, model: Model) -> None:
        """Report functions that call one another in a circle: peel off those that call nobody left."""
        callers: dict[str, list[str]] = {}
        open_calls = dict.fromkeys(model.functions, 0)
        for caller in model.functions:
            for callee in self._calls.get(caller, {}):
                if callee in open_calls:
                    callers.setdefault(callee, []).append(caller)
                    open_calls[caller] += 1
        ready = [name for name, count in open_calls.items() if count == 0]
        while ready:
            name = ready.pop()
            del open_calls[name]
            for caller in callers.get(name, ()):
                open_calls[caller] -= 1
                if open_calls[caller] == 0:
                    ready.append(caller)
        if open_calls:
            names = ", ".join(f"'{printable(name)}'" for name in list(open_calls)[:8])
            self._report(None, f"has functions that call themselves, directly or through others: {names}")


def _is_own(value: Value) -> bool:
    """`value` is an output of its node."""
    outputs = value.node.outputs
    return 0 <= value.index < len(outputs) and outputs[value.index] is value
