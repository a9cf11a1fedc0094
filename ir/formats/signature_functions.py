"""Signatures as functions: what a SavedModel of the second version is loaded by.

A signature whose nodes stand in the main graph, because calls were inlined, becomes a function again, and a call of it
in the main graph. What objects of the model are, variables and tables above all, the function captures: they are its
last arguments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from graphopt.ir.attributes import FunctionRef
from graphopt.ir.errors import printable
from graphopt.ir.model import ARGUMENT, Function, Model, Signature, callees, function_references
from graphopt.ir.ops.interfaces import interface
from graphopt.ir.traversal import reachable
from graphopt.ir.types import Shape
from graphopt.ir.value import Node, Value

_EAGER = b"kEagerRuntime"  # what TensorFlow says of functions that no v1 graph made
Order = tuple[tuple[str, ...], tuple[str, ...]]  # names of inputs and outputs, as arguments and results have them


class Slice(NamedTuple):
    """What computes some outputs: `nodes` to copy, and `captured` nodes that become arguments."""

    nodes: dict[Node, None]
    captured: dict[Node, None]


class Outlined(NamedTuple):
    """A function made of a signature, the order of its arguments and results, and the nodes it captures."""

    function: Function
    order: Order
    captured: tuple[Node, ...]


def order_of(signature: Signature, order: Order | None) -> Order:
    """The order in which a function takes the signature's inputs: as it was, or that of the sorted names."""
    if order is not None and (sorted(order[0]), sorted(order[1])) == (
        sorted(signature.inputs),
        sorted(signature.outputs),
    ):
        return order
    return tuple(sorted(signature.inputs)), tuple(sorted(signature.outputs))


def outline(
    model: Model, signatures: Mapping[str, Order], is_captured: Callable[[Node], bool], shared: int
) -> dict[str, Outlined] | str:
    """Make a function of each of the `signatures` of the main graph, in place, and let the main graph call it.

    Nodes for which `is_captured` holds are captured, and so are constants of `shared` bytes and more that several
    functions need. Signatures that compute the same share a function. Returns why not instead, with nothing changed,
    where a function could not be made.
    """
    slices: dict[str, Slice] = {}
    for name in signatures:
        found = _slice(model.signatures[name], is_captured)
        reason = found if isinstance(found, str) else _unfit(found, model)
        if reason is not None:
            return f"signature '{printable(name)}': {reason}"
        assert isinstance(found, Slice)
        slices[name] = found
    large = _shared_constants(slices.values(), shared)
    if large:
        slices = {
            name: Slice(
                {node: None for node in found.nodes if node not in large},
                {**found.captured, **{node: None for node in found.nodes if node in large}},
            )
            for name, found in slices.items()
        }
    made: dict[tuple[Any, ...], Outlined] = {}
    result: dict[str, Outlined] = {}
    for name, order in signatures.items():
        signature = model.signatures[name]
        given, wanted = signature.input_values(), signature.output_values()
        key = (order, *(given[key] for key in order[0]), *(wanted[key] for key in order[1]))
        if key not in made:
            made[key] = _outlined(model, name, order, slices[name])
        result[name] = made[key]
    _call(model, result)
    dead = {node: None for found in slices.values() for node in found.nodes}
    _remove_dead(model, dead)
    return result


def _slice(signature: Signature, is_captured: Callable[[Node], bool]) -> Slice | str:
    given = dict.fromkeys(signature.input_values().values())
    fed = {value.node for value in given}
    found = Slice({}, {})
    pending = [value.node for value in signature.output_values().values() if value not in given]
    pending.reverse()
    while pending:
        node = pending.pop()
        if node in found.nodes or node in found.captured:
            continue
        if is_captured(node):
            found.captured[node] = None
            continue
        if node.op == "tf.Placeholder":
            return f"it needs '{printable(node.name)}', which it is not given"
        found.nodes[node] = None
        pending.extend(value.node for value in node._inputs if value is not None and value not in given)
        pending.extend(control for control in node.control_inputs if control not in fed)
    return found


def _unfit(found: Slice, model: Model) -> str | None:
    """Why nodes cannot stand in a function: no table says what their outputs are called."""
    for node in found.nodes:
        is_known = interface(node.op_type) is not None or node.op_type in model.functions
        if node.outputs and not is_known and not getattr(node.extras, "ports", None):
            return f"'{printable(node.name)}' is of the operator {node.op_type}, which is in no table"
        if any(value.dtype.code > 100 for value in node.outputs):
            return f"'{printable(node.name)}' yields a reference to a variable"
    return None


def _shared_constants(slices: Any, limit: int) -> dict[Node, None]:
    """Constants of `limit` bytes and more that stand in several slices."""
    seen: dict[Node, int] = {}
    distinct = {id(found.nodes): found for found in slices}
    for found in distinct.values():
        for node in found.nodes:
            held = node.attrs.get("value") if node.op == "tf.Const" else None
            if held is not None and held.stored_bytes >= limit and not node._control_inputs:
                seen[node] = seen.get(node, 0) + 1
    return {node: None for node, count in seen.items() if count > 1}


def _outlined(model: Model, name: str, order: Order, found: Slice) -> Outlined:
    signature = model.signatures[name]
    function = Function(model.unique_function_name(f"__inference_signature_{re.sub(r'[^A-Za-z0-9_]', '_', name)}"))
    given, wanted = signature.input_values(), signature.output_values()
    values: dict[Value, Value] = {}
    for key in order[0]:
        values.setdefault(given[key], _argument(function, key, given[key]))
    for node in found.captured:
        values[node.output] = _argument(function, node.name, node.output)
    copies: dict[Node, Node] = {}
    for node in model.graph:
        if node in found.nodes:
            copy = Node(node.op, function.unique_name(node.name), dict(node.attrs), node.device)
            copy.origins, copy.extras = node.origins, node.extras
            for value in node.outputs:
                copy.add_output(value.type)
            function.insert(copy)
            copies[node] = copy

    def inner(value: Value) -> Value:
        return values[value] if value in values else copies[value.node].outputs[value.index]

    for node, copy in copies.items():
        copy.set_inputs(None if value is None else inner(value) for value in node._inputs)
        for control in node.control_inputs:
            if control in copies:
                copy.add_control_input(copies[control])
    function.outputs = [inner(wanted[key]) for key in order[1]]
    function.output_names = _identifiers(order[1], function.input_names)
    function.attrs["_construction_context"] = _EAGER
    model.add_function(function)
    return Outlined(function, order, tuple(found.captured))


def _argument(function: Function, name: str, value: Value) -> Value:
    base = _identifier(name, "argument")
    attrs: dict[str, Any] = {"T": value.dtype, "index": len(function.inputs), "_user_specified_name": name.encode()}
    if value.shape.dims is not None:
        attrs["_output_shapes"] = (Shape(value.shape.dims),)
    node = function.create_node(ARGUMENT, attrs=attrs, name=function.unique_name(base), types=(value.type,))
    function.inputs = (*function.inputs, node.output)
    function.input_names.append(node.name)
    return node.output


def _identifier(name: str, otherwise: str) -> str:
    base = re.sub(r"[^a-z0-9_]", "_", name.lower()).strip("_")
    return base if base[:1].isalpha() else f"{otherwise}_{base}".strip("_")


def _identifiers(names: Sequence[str], taken: Sequence[str]) -> list[str]:
    found = dict.fromkeys(taken)
    result = []
    for name in names:
        base = unique = _identifier(name, "result")
        count = 0
        while unique in found:
            count += 1
            unique = f"{base}_{count}"
        found[unique] = None
        result.append(unique)
    return result


def _call(model: Model, made: Mapping[str, Outlined]) -> None:
    """Let the main graph call the functions, and the signatures end in the calls."""
    graph = model.graph
    calls: dict[Function, Node] = {}
    wanted = {name: signature.output_values() for name, signature in model.signatures.items()}
    for name, outlined in made.items():
        function, order = outlined.function, outlined.order
        if function not in calls:
            given = model.signatures[name].input_values()
            operands = [*(given[key] for key in order[0]), *(node.output for node in outlined.captured)]
            calls[function] = graph.create_node(
                "tf.StatefulPartitionedCall",
                operands,
                {
                    "Tin": tuple(value.dtype for value in operands),
                    "Tout": tuple(value.dtype for value in function.outputs),
                    "f": FunctionRef(function.name),
                    "config": b"",
                    "config_proto": b"",
                    "executor_type": b"",
                },
                name="StatefulPartitionedCall",
                types=[value.type for value in function.outputs],
            )
        wanted[name] = dict(zip(order[1], calls[function].outputs, strict=True))
    of_signatures = {value for signature in model.signatures.values() for value in signature.output_values().values()}
    others = [value for value in graph.outputs if value not in of_signatures]
    outputs = dict.fromkeys([*(value for values in wanted.values() for value in values.values()), *others])
    places = {value: place for place, value in enumerate(outputs)}
    graph.outputs = outputs
    for name, signature in model.signatures.items():
        signature.outputs = {key: places[wanted[name][key]] for key in signature.outputs}


def _remove_dead(model: Model, candidates: dict[Node, None]) -> None:
    """Remove those of `candidates` that nothing needs any more."""
    graph = model.graph
    roots = [node for node in graph if node not in candidates]
    roots += [value.node for value in (*graph.inputs, *graph.outputs)]
    alive = reachable([*roots, *graph.targets])
    graph.remove_all([node for node in candidates if node not in alive])


def reached_functions(model: Model) -> dict[str, None]:
    """Names of the functions that the main graph calls or mentions, directly or through others."""
    found: dict[str, None] = {}
    pending = list(dict.fromkeys(name for node in model.graph for name in callees(node)))
    while pending:
        name = pending.pop()
        function = model.functions.get(name)
        if function is None or name in found:
            continue
        found[name] = None
        pending += dict.fromkeys(called for node in function for called in callees(node))
        pending += [reference.name for value in function.attrs.values() for reference in function_references(value)]
        if function.gradient:
            pending.append(function.gradient)
    return found
