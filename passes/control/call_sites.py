"""Calls of library functions that may be given functions of their own, and how their interfaces are changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from graphopt.ir.attributes import FunctionRef
from graphopt.ir.model import Function, Model, callees, clone_graph, function_references
from graphopt.ir.value import Node, Value
from graphopt.passes.control.lower_control_flow import BRANCHING, LOOPS
from graphopt.passes.removal import is_removable, remove_dead

CALLS = frozenset({"tf.PartitionedCall", "tf.StatefulPartitionedCall"})
# Attributes of nodes and functions that list something of each argument or result.
_LISTS = ("_input_shapes", "_output_shapes", "_num_original_outputs")


class Site:
    """One call: its node, its functions, and where the operands that are passed on begin."""

    __slots__ = ("first", "functions", "is_loop", "node", "slots")

    def __init__(self, node: Node, functions: list[Function], slots: list[tuple[str, int]]):
        self.node, self.functions, self.slots = node, functions, slots
        self.first = 1 if node.op in BRANCHING else 0
        self.is_loop = node.op in LOOPS

    @property
    def operands(self) -> list[Value]:
        """The values passed to the functions."""
        return [value for value in self.node.inputs[self.first :] if value is not None]

    def set_function(self, place: int, function: Function) -> None:
        """Run `function` instead of the one at `place`."""
        name, index = self.slots[place]
        attrs = self.node.attrs
        if index < 0:
            attrs[name] = FunctionRef(function.name, attrs[name].attrs)
        else:
            held = attrs[name]
            attrs[name] = (*held[:index], FunctionRef(function.name, held[index].attrs), *held[index + 1 :])
        self.functions[place] = function

    def remove_operands(self, places: Iterable[int]) -> None:
        """Pass the operands at `places` no longer; the functions are to follow. Of a loop, results go with them."""
        gone = dict.fromkeys(places)
        node, first = self.node, self.first
        producers = [value.node for place in gone if (value := node.inputs[first + place]) is not None]
        node.set_inputs(v for place, v in enumerate(node.inputs) if place - first not in gone)
        names = ("T",) if self.is_loop else ("Tin",)
        _drop(node.attrs, names, gone)
        node.attrs.pop("_read_only_resource_inputs", None)
        if self.is_loop:
            self.remove_results(gone)
        if node.graph is not None:
            remove_dead(node.graph, producers)

    def remove_results(self, places: Iterable[int]) -> None:
        """Yield the results at `places`, which nothing reads, no longer."""
        gone = dict.fromkeys(places)
        node = self.node
        _drop(node.attrs, ("output_shapes",) if self.is_loop else ("Tout", "output_shapes"), gone)
        node.outputs[:] = [value for place, value in enumerate(node.outputs) if place not in gone]
        for index, value in enumerate(node.outputs):
            value.index = index
        for name in _LISTS:
            node.attrs.pop(name, None)


def site_of(node: Node, model: Model) -> Site | None:
    """`node` as a call whose functions are known, fit it and are not generic; None for any other node."""
    if node.op in CALLS:
        names: Sequence[str] = ("f",)
    elif node.op in LOOPS:
        names = ("cond", "body")
    elif node.op in BRANCHING:
        names = BRANCHING[node.op]
    else:
        return None
    functions, slots = [], []
    passed = len(node.inputs) - (1 if node.op in BRANCHING else 0)
    for name in names:
        held = node.attrs.get(name)
        listed = held if isinstance(held, tuple) and not isinstance(held, FunctionRef) else (held,)
        for index, reference in enumerate(listed):
            function = model.functions.get(reference.name) if isinstance(reference, FunctionRef) else None
            if function is None or reference.attrs or not _is_plain(function) or len(function.inputs) != passed:
                return None
            results = 1 if name == "cond" else len(node.outputs)
            if len(function.outputs) != results:
                return None
            functions.append(function)
            slots.append((name, index if listed is held else -1))
    if any(value is None for value in node.inputs) or any(value.is_input for value in node.outputs):
        return None
    return Site(node, functions, slots) if functions else None


def _is_plain(function: Function) -> bool:
    """Every argument and result is one tensor, and no attribute is left to the call."""
    if len(dict.fromkeys(function.output_names)) != len(function.output_names):
        return False
    for value in function.inputs:
        extras = value.node.extras
        if len(value.node.outputs) != 1 or getattr(extras, "is_list", False) or getattr(extras, "type_attr", ""):
            return False
    return True


def _drop(attrs: dict[str, Any], names: Iterable[str], gone: dict[int, None]) -> None:
    for name in names:
        held = attrs.get(name)
        if isinstance(held, tuple) and held:
            attrs[name] = tuple(item for place, item in enumerate(held) if place not in gone)


def reference_counts(model: Model) -> dict[str, int]:
    """How often each function is referred to: by nodes, gradients, attributes and signatures."""
    counts: dict[str, int] = {}
    for graph in model.graphs:
        names = [name for node in graph if _may_refer(node, model) for name in callees(node)]
        if isinstance(graph, Function):
            names += [graph.gradient] if graph.gradient else []
            names += [ref.name for value in graph.attrs.values() for ref in function_references(value)]
        for name in names:
            counts[name] = counts.get(name, 0) + 1
    for signature in model.signatures.values():
        if isinstance(signature.graph, Function):
            counts[signature.graph.name] = counts.get(signature.graph.name, 0) + 1
    return counts


def _may_refer(node: Node, model: Model) -> bool:
    return node.op_type in model.functions or any(isinstance(v, tuple) for v in node.attrs.values())


def clone_function(function: Function, model: Model) -> Function:
    """A copy of `function` in the library under a name of its own, without its gradient."""
    copy = clone_graph(function, model.unique_function_name(function.name))
    assert isinstance(copy, Function)
    copy.gradient = None
    model.add_function(copy)
    return copy


def remove_arguments(function: Function, places: Iterable[int]) -> None:
    """Take away arguments that nothing in the body needs."""
    gone = dict.fromkeys(places)
    doomed = [function.inputs[place].node for place in gone]
    function.inputs = [value for place, value in enumerate(function.inputs) if place not in gone]
    function.input_names = [name for place, name in enumerate(function.input_names) if place not in gone]
    for node in doomed:
        for user in node.control_users:
            user.remove_control_input(node)
    function.remove_all(doomed)
    for index, value in enumerate(function.inputs):
        value.node.attrs["index"] = index
    function.attrs.pop("_input_shapes", None)


def remove_results(function: Function, places: Iterable[int]) -> None:
    """Take away results, and what was computed for them alone."""
    gone = dict.fromkeys(places)
    producers = [function.outputs[place].node for place in gone]
    function.outputs = [value for place, value in enumerate(function.outputs) if place not in gone]
    function.output_names = [name for place, name in enumerate(function.output_names) if place not in gone]
    remove_dead(function, producers)


def strip_body(function: Function) -> bool:
    """Remove what no result, effect or control output needs; whether there was any."""
    unused = [node for node in reversed(function) if not node.has_uses and is_removable(node)]
    before = len(function)
    remove_dead(function, unused)
    return len(function) < before


def argument_passed(function: Function, place: int) -> int | None:
    """Which argument result `place` of a function is; None where it is computed."""
    value = function.outputs[place]
    while value.node.op == "tf.Identity" and not value.node.control_inputs and not value.is_input:
        value = value.node.input(0)
    if not value.is_input:
        return None
    index = value.node.attrs.get("index")
    if isinstance(index, int) and 0 <= index < len(function.inputs) and function.inputs[index] is value:
        return index
    return next((number for number, other in enumerate(function.inputs) if other is value), None)


def is_passed_through(body: Function, place: int) -> bool:
    """Result `place` of a loop's body is its argument `place`."""
    value = body.outputs[place]
    while value.node.op == "tf.Identity" and not value.node.control_inputs and not value.is_input:
        value = value.node.input(0)
    return value is body.inputs[place]
